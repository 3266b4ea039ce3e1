//! Transcripts under `tests/golden/`: what people and scripts read, word for word.
//!
//! `WARREN_GOLDEN=1 cargo test -p warren-cli --test cli golden` writes them anew; a difference is
//! reviewed like a change of the API.

use std::{env, fmt::Write as _, fs, path::PathBuf};

use tonic::Code;
use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::{admin::v1 as pb, node::v1 as node},
};

use crate::support::{
    Bench, Run,
    data::{NOW, failed_steps, steps, waiting, web},
    fake::Follow,
};

/// Commands and what they printed; lines of stderr begin with `2> `.
#[derive(Default)]
struct Transcript(String);

impl Transcript {
    fn add(&mut self, bench: &Bench, arguments: &[&str]) {
        let run = bench.warren(arguments);
        let text = &mut self.0;
        writeln!(text, "$ warren {}", arguments.join(" ")).expect("a String takes everything");
        text.push_str(&told(bench, &run));
        writeln!(text, "[{}]\n", run.code).expect("a String takes everything");
    }

    fn check(self, name: &str) {
        let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let path = folder.join(name).with_extension("txt");
        assert!(self.0.len() <= 64 * 1024, "{name} is too long");
        if env::var_os("WARREN_GOLDEN").is_some() {
            fs::write(&path, &self.0).expect("written");
            return;
        }
        let golden = fs::read_to_string(&path).unwrap_or_default();
        assert!(golden == self.0, "{} differs; now it is:\n{}", path.display(), self.0);
    }
}

/// Takes out what differs from run to run: ports, ids, and how long a call took.
fn told(bench: &Bench, run: &Run) -> String {
    let mut text: String = run.stdout.split_inclusive('\n').map(timeless).collect();
    for line in run.stderr.lines() {
        let line = match (line.contains("placed on"), line.len().checked_sub(8)) {
            (true, Some(end)) if line.ends_with(" s") => format!("{}   0.0 s", &line[..end]),
            _ => line.to_owned(),
        };
        writeln!(text, "2> {line}").expect("a String takes everything");
    }
    let cluster = bench.fake.state().cluster.cluster_id.clone();
    text.replace(&cluster, "CLUSTER-ID").replace(&bench.address.to_string(), "127.0.0.1:PORT")
}

/// Takes out what a doctor says of this machine's clock and of how long the certificate is good.
fn timeless(line: &str) -> String {
    let cut = |begin: &str, end: &str, word: &str| {
        let from = line.find(begin)? + begin.len();
        let upto = from + line[from..].find(end)?;
        Some(format!("{}{word}{}", &line[..from], &line[upto..]))
    };
    let cut = cut("at most ", " s from the coordinators'", "0.0")
        .or_else(|| cut("CONTEXT_CERTIFICATE       good for ", " (until", "DAYS"));
    cut.unwrap_or_else(|| line.to_owned())
}

fn seen(workspace: pb::Workspace) -> Follow {
    Follow::Seen(Box::new(workspace))
}

#[test]
fn lists() {
    let bench = Bench::new();
    bench.fake.state().page = 1;
    let mut transcript = Transcript::default();
    for noun in ["client", "node", "workspace", "session", "user"] {
        transcript.add(&bench, &[noun, "list"]);
        transcript.add(&bench, &[noun, "list", "-o", "name"]);
    }
    transcript.add(&bench, &["context", "list"]);
    let empty = Bench::new();
    empty.fake.state().workspaces.clear();
    transcript.add(&empty, &["workspace", "list"]);
    transcript.add(&empty, &["workspace", "list", "-o", "json"]);
    transcript.check("lists");
}

#[test]
fn what_agents_do() {
    let bench = Bench::new();
    crate::agents::install(&bench);
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["session", "list"]);
    transcript.add(&bench, &["session", "list", "--sort", "name", "-o", "name"]);
    transcript.add(&bench, &["workspace", "list"]);
    transcript.add(&bench, &["workspace", "show", "acme/web"]);
    bench.fake.state().sessions = vec![waiting("web", 5)];
    transcript.add(&bench, &["session", "list", "-o", "json"]);
    transcript.add(&bench, &["session", "explain", "acme/web/main"]);
    transcript.add(&bench, &["session", "explain", "acme/web/main", "-o", "yaml"]);
    transcript.add(&bench, &["session", "wait", "acme/web/main"]);
    transcript.check("agents");
}

#[test]
fn what_browsers_show() {
    let bench = Bench::new();
    crate::browsers::install(&bench);
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["browser", "list"]);
    transcript.add(&bench, &["browser", "list", "-o", "name"]);
    transcript.add(&bench, &["browser", "show", "acme/web/4711"]);
    transcript.add(&bench, &["browser", "show", "acme/dead", "-o", "json"]);
    transcript.add(&bench, &["browser", "show", "acme/web"]);
    transcript.add(&bench, &["browser", "show", "acme/web/9"]);
    transcript.add(&bench, &["browser", "show", "a/b/c/d"]);
    transcript.check("browsers");
}

#[test]
fn what_uses_the_cluster_up() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["top", "--once"]);
    transcript.add(&bench, &["node", "top", "--once", "--sort", "name"]);
    transcript.add(&bench, &["workspace", "top", "--once", "--sort", "cpu"]);
    transcript.add(&bench, &["workspace", "top", "acme/web", "--once", "-o", "json"]);
    transcript.add(&bench, &["top", "--once", "-o", "name"]);
    transcript.add(&bench, &["workspace", "show", "zenith/api"]);
    transcript.check("top");
}

#[test]
fn pages_of_one_object() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["cluster", "status"]);
    transcript.add(&bench, &["client", "show", "acme"]);
    transcript.add(&bench, &["node", "show", "n1"]);
    transcript.add(&bench, &["workspace", "show", "acme/web"]);
    transcript.add(&bench, &["workspace", "show", "acme/old"]);
    transcript.add(&bench, &["workspace", "explain", "acme/web"]);
    transcript.add(&bench, &["user", "show", "ann"]);
    transcript.add(&bench, &["user", "show", "nobody"]);
    transcript.add(&bench, &["context", "show"]);
    transcript.add(&bench, &["version"]);
    transcript.check("show");
}

#[test]
fn json_and_yaml() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["cluster", "status", "-o", "json"]);
    transcript.add(&bench, &["node", "list", "-o", "json"]);
    transcript.add(&bench, &["workspace", "show", "acme/web", "-o", "json"]);
    transcript.add(&bench, &["session", "list", "-o", "json"]);
    transcript.add(&bench, &["user", "list", "-o", "json"]);
    transcript.add(&bench, &["workspace", "explain", "acme/web", "-o", "yaml"]);
    transcript.add(&bench, &["client", "list", "-o", "yaml"]);
    transcript.check("formats");
}

#[test]
fn starts() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    let assigned = web(pb::Phase::Assigned, node::RunState::Absent, Vec::new());
    bench.fake.state().workspaces[0] = assigned;
    let part = web(pb::Phase::Preparing, node::RunState::Preparing, steps()[..1].to_vec());
    let running = web(pb::Phase::Active, node::RunState::Running, steps());
    bench.fake.state().follow.extend([seen(part), seen(running.clone())]);
    let create = ["workspace", "create", "acme/web", "--memory", "4G"];
    transcript.add(&bench, &create);
    bench.fake.state().follow.push_back(seen(running));
    transcript.add(&bench, &[&create[..], &["--quiet"]].concat());
    transcript.add(&bench, &[&create[..], &["--wait=placed"]].concat());
    transcript.add(&bench, &[&create[..], &["--wait=none"]].concat());
    let failed = web(pb::Phase::Active, node::RunState::Running, failed_steps());
    bench.fake.state().follow.push_back(seen(failed));
    transcript.add(&bench, &create);
    let error = ApiError::new(
        Code::ResourceExhausted,
        reason::NO_NODE_FITS,
        "no node can hold workspace acme/web",
    )
    .why(
        "it asks for 64 GiB; of 3 nodes 2 lack memory (largest free 11.2 GiB on n2), \
         1 is cordoned (n3)",
    )
    .next("warren workspace explain acme/web, or lower --memory");
    bench.fake.fail(Method::WorkspaceCreateWorkspace, error);
    transcript.add(&bench, &["workspace", "create", "acme/web", "--memory", "64G", "--no-queue"]);
    transcript.check("starts");
}

#[test]
fn changes_and_tokens() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["client", "create", "new", "--label", "a=b"]);
    transcript.add(&bench, &["client", "label", "new", "team=web", "a-"]);
    transcript.add(&bench, &["client", "label", "new", "team-"]);
    transcript.add(&bench, &["client", "label", "new", "team"]);
    transcript.add(&bench, &["client", "label", "new", "team=web", "team-"]);
    transcript.add(&bench, &["client", "label", "gone", "team=web"]);
    transcript.add(&bench, &["client", "allow", "new", "10.1.2.0/24:5432", "192.168.7.3:53/udp"]);
    transcript.add(&bench, &["client", "allowed", "new"]);
    transcript.add(&bench, &["client", "allowed", "new", "-o", "json"]);
    transcript.add(&bench, &["client", "allowed", "new", "--reviewed"]);
    transcript.add(&bench, &["client", "disallow", "new", "10.1.2.0/24:5432"]);
    transcript.add(&bench, &["client", "allow", "new", "10.1.2.3/24:5432"]);
    transcript.add(&bench, &["client", "allow", "new", "169.254.169.254:80"]);
    transcript.add(&bench, &["client", "allow", "gone", "10.1.2.3:22"]);
    transcript.add(&bench, &["client", "delete", "new"]);
    transcript.add(&bench, &["node", "token", "--name", "n3"]);
    transcript.add(&bench, &["node", "token", "-o", "name", "-q"]);
    transcript.add(&bench, &["user", "invite", "vera", "--role", "viewer"]);
    transcript.add(&bench, &["user", "revoke", "vera"]);
    transcript.add(&bench, &["user", "revoke", "--serial", "41AB"]);
    transcript.add(&bench, &["cluster", "token"]);
    transcript.add(&bench, &["cluster", "replace", "3", "-o", "name"]);
    transcript.add(&bench, &["cluster", "remove", "3"]);
    transcript.add(&bench, &["cluster", "transfer"]);
    transcript.add(&bench, &["workspace", "stop", "acme/web", "--no-wait"]);
    bench.fake.state().follow.push_back(Follow::Gone);
    transcript.add(&bench, &["workspace", "resize", "acme/web", "--disk", "8G", "--no-wait"]);
    transcript.add(&bench, &["workspace", "resize", "acme/web", "--memory", "4G", "-o", "name"]);
    transcript.add(&bench, &["workspace", "resize", "acme/web"]);
    transcript.add(&bench, &["workspace", "delete", "acme/web", "--yes"]);
    transcript.check("changes");
}

#[test]
fn stale() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    bench.fake.state().alone = true;
    transcript.add(&bench, &["client", "list", "--timeout", "1s"]);
    transcript.add(&bench, &["client", "list", "--stale"]);
    transcript.add(&bench, &["client", "show", "acme", "--min-revision", "40", "-o", "json"]);
    transcript.add(&bench, &["client", "list", "--stale", "-o", "yaml"]);
    bench.fake.state().ages.extend([Some(150_000), None]);
    transcript.add(&bench, &["workspace", "list", "--stale", "-o", "name"]);
    transcript.add(&bench, &["session", "list", "acme/web", "--stale"]);
    transcript.add(&bench, &["client", "list", "--stale", "--watch"]);
    transcript.check("stale");
}

#[test]
fn audit_records() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["audit", "list"]);
    transcript.add(&bench, &["audit", "list", "--limit", "2", "-q"]);
    transcript.add(&bench, &["audit", "list", "--actor", "vera", "-o", "json"]);
    transcript.add(&bench, &["audit", "list", "--action", "client", "-o", "name"]);
    transcript.add(&bench, &["audit", "list", "--action", "nothing"]);
    transcript.add(&bench, &["audit", "list", "--since", "yesterday"]);
    transcript.add(&bench, &["audit", "verify"]);
    transcript.add(&bench, &["audit", "verify", "-o", "yaml"]);
    bench.fake.state().verdicts[1].whole = false;
    bench.fake.state().verdicts[1].records = 3;
    bench.fake.state().verdicts[1].broken = Some(pb::AuditBreak {
        sequence: 4,
        segment: "audit-00000000000000000001.jsonl".to_owned(),
        line: 5,
        reason: "audit record 4 was changed after it was sealed".to_owned(),
    });
    transcript.add(&bench, &["audit", "verify"]);
    transcript.add(&bench, &["audit", "verify", "--state", "/tmp"]);
    transcript.check("audit");
}

#[test]
fn a_doctors_findings() {
    let bench = Bench::new();
    // the only one there is, as its own address says
    let only = {
        let mut state = bench.fake.state();
        state.cluster.replicas.truncate(1);
        state.cluster.replicas[0].api_address = bench.address.to_string();
        state.cluster.clone()
    };
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["doctor"]);
    transcript.add(&bench, &["doctor", "-o", "name"]);
    {
        let mut state = bench.fake.state();
        state.nodes.truncate(1);
        state.nodes[0].facts.as_mut().expect("there").findings.clear();
        state.workspaces.truncate(1);
        state.records.push(pb::AuditRecord {
            sequence: 8,
            at_unix_ms: NOW - 7_200_000,
            actor_name: "ann".to_owned(),
            action: "cluster.backup".to_owned(),
            ..Default::default()
        });
        state.cluster = only;
    }
    transcript.add(&bench, &["doctor"]);
    transcript.add(&bench, &["--context", "nope", "doctor"]);
    transcript.check("doctor");
}

#[test]
fn secrets() {
    let bench = Bench::new();
    let file = bench.folder.path().join("token");
    std::fs::write(&file, "hunter2").expect("written");
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&file, private).expect("private");
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["secret", "list"]);
    for arguments in [&["acme", "git-token"][..], &["acme", "git-token"], &["--shared", "tool"]] {
        // the file's name differs from run to run
        let place = format!("@{}", file.display());
        let run = bench.warren(&[&["secret", "set"], arguments, &[&place]].concat());
        assert_eq!(run.code, 0, "{run:?}");
    }
    transcript.add(&bench, &["secret", "list"]);
    transcript.add(&bench, &["secret", "list", "acme", "-o", "json"]);
    transcript.add(&bench, &["secret", "list", "--shared", "-o", "name"]);
    transcript.add(&bench, &["secret", "list", "acme", "--shared"]);
    transcript.add(&bench, &["secret", "set", "acme", "git-token"]);
    transcript.add(&bench, &["secret", "set", "acme", "git-token", "value"]);
    transcript.add(&bench, &["secret", "set", "acme"]);
    transcript.add(&bench, &["secret", "delete", "acme", "git-token"]);
    transcript.add(&bench, &["secret", "delete", "acme", "git-token"]);
    transcript.add(&bench, &["secret", "delete", "--shared", "tool"]);
    transcript.check("secrets");
}

#[test]
fn usage() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["workspace", "crate", "acme/web"]);
    transcript.add(&bench, &["workspace", "create"]);
    transcript.add(&bench, &["workspace", "create", "acme/Web"]);
    transcript.add(&bench, &["workspace", "list", "-o", "xml"]);
    transcript.add(&bench, &["--timeout", "soon", "workspace", "list"]);
    transcript.add(&bench, &["workspace", "exec", "acme/web"]);
    transcript.add(&bench, &["user", "invite", "vera", "--role", "root"]);
    transcript.add(&bench, &["user", "revoke"]);
    transcript.add(&bench, &["context", "join", "wrn1_ABC"]);
    transcript.add(&bench, &["workspace", "show", "nope"]);
    transcript.add(&bench, &["--context", "nope", "workspace", "list"]);
    transcript.check("usage");
}

#[test]
fn nodes() {
    let bench = Bench::new();
    let mut transcript = Transcript::default();
    transcript.add(&bench, &["node", "token", "--name", "n3"]);
    bench.fake.state().installer = Some(pb::Installer {
        address: "10.0.0.1:7400".to_owned(),
        path: "/warren.install.v1.Install/script".to_owned(),
        public_key_pin: "q1pn/+A=".to_owned(),
    });
    transcript.add(&bench, &["node", "token", "--name", "n3"]);
    transcript.add(&bench, &["node", "cordon", "n1"]);
    transcript.add(&bench, &["node", "uncordon", "n1"]);
    transcript.add(&bench, &["node", "label", "n1", "warren.client=acme", "zone=a"]);
    transcript.add(&bench, &["node", "label", "n1", "zone-"]);
    transcript.add(&bench, &["node", "label", "n1", "zone=b", "zone"]);
    transcript.add(&bench, &["node", "remove", "n1"]);
    transcript.add(&bench, &["node", "cordon", "nope"]);
    {
        let mut state = bench.fake.state();
        let n1 = &mut state.nodes[0];
        n1.findings.push(node::Finding {
            code: "IDENTITY_CONFLICT".to_owned(),
            level: node::FindingLevel::Warning.into(),
            message: "another agent shows its identity (host vps-9)".to_owned(),
            fix: "stop it".to_owned(),
        });
        n1.lease_confirmed_unix_ms = NOW - 700;
        n1.overcommitted = true;
        let facts = n1.facts.get_or_insert_default();
        facts.labels.insert("warren.tier.gvisor".to_owned(), "runsc 1".to_owned());
        let web = &mut state.workspaces[0];
        web.lease_confirmed_unix_ms = NOW - 200_000;
        web.lease_expires_unix_ms = NOW - 80_000;
    }
    transcript.add(&bench, &["node", "list"]);
    transcript.add(&bench, &["node", "show", "n1"]);
    transcript.add(&bench, &["workspace", "show", "acme/web"]);
    transcript.add(&bench, &["node", "rejoin", "n1"]);
    let lost = ["--lost", "acme/web", "--lost", "acme/old"];
    transcript.add(&bench, &[&["node", "remove", "n1", "--yes"][..], &lost].concat());
    transcript.check("nodes");
}

#[test]
fn every_command_has_an_example() {
    let bench = Bench::new();
    for command in [
        "cluster init",
        "cluster status",
        "cluster token",
        "cluster replace",
        "cluster remove",
        "cluster transfer",
        "cluster events",
        "node token",
        "node list",
        "node show",
        "node cordon",
        "node uncordon",
        "node label",
        "node remove",
        "node rejoin",
        "client create",
        "client list",
        "client show",
        "client delete",
        "workspace create",
        "workspace list",
        "workspace show",
        "workspace explain",
        "workspace start",
        "workspace stop",
        "workspace restart",
        "workspace delete",
        "workspace exec",
        "workspace logs",
        "session list",
        "session attach",
        "session send",
        "session read",
        "template push",
        "template list",
        "template show",
        "template diff",
        "template activate",
        "template rollback",
        "template delete",
        "session explain",
        "session wait",
        "browser list",
        "browser show",
        "browser shot",
        "browser watch",
        "audit list",
        "audit verify",
        "user invite",
        "user list",
        "user show",
        "user revoke",
        "context join",
        "context list",
        "context use",
        "context show",
        "doctor",
        "version",
    ] {
        let arguments: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let run = bench.warren(&arguments);
        assert_eq!(run.code, 0, "{command}");
        let example = run.stdout.split("Example").nth(1).unwrap_or_default();
        assert!(example.contains(&format!("warren {command}")), "{command}: {}", run.stdout);
    }
}
