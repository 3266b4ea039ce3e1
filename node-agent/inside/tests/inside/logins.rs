//! Tools that are logged in with the workspace's secrets, and servers that its agents may call.
//!
//! The tools are scripts that tell what they were given; what they are told apart by is where it
//! stood.

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tempfile::TempDir;
use warren_common::spec::{Extras, Login, McpServer, Tool};
use warren_proto::pb::inside::v1::{Setup, Status, Step, StepState};

use crate::workspace::{Workspace, session, wait_until};

const CANARY: &str = "canary-4c1d";

fn step<'a>(status: &'a Status, name: &str) -> &'a Step {
    let found = status.steps.iter().find(|step| step.name == name);
    found.unwrap_or_else(|| panic!("no step {name} in {status:#?}"))
}

/// A tool that writes its arguments, some variables and what files it was pointed at.
fn stand_in(folder: &Path, name: &str) {
    let script = "#!/bin/bash\n\
        out=\"$HOME/said-${0##*/}\"\n\
        { echo \"args: $*\"; tr '\\0' ' ' < /proc/$$/cmdline; echo\n\
        env | grep -E '^(NETLIFY|SUPABASE|NEON|NPM_CONFIG_GLOBAL|AZURE|TOKEN)'\n\
        [ -n \"$NPM_CONFIG_GLOBALCONFIG\" ] && cat \"$NPM_CONFIG_GLOBALCONFIG\"\n\
        [ \"$1\" = --global-config ] && cat \"$2/auth.json\"\n\
        [ \"$1\" = login ] && for word; do case $word in @-) cat;; esac; done\n\
        [ ! -t 0 ] && [ \"$1 $2\" = 'auth login' ] && cat\n\
        true; } >> \"$out\" 2>&1\n";
    let path = folder.join(name);
    fs::write(&path, script).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
}

struct Stage {
    folder: TempDir,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["bin", "secrets", "tools", "w"] {
            fs::create_dir(folder.path().join(name)).expect("made");
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn secret(&self, name: &str, value: &str) {
        fs::write(self.path("secrets").join(name), value).expect("written");
    }

    fn variables(&self) -> Vec<(&'static str, String)> {
        let shown = |name: &str| self.path(name).display().to_string();
        let path = std::env::var("PATH").expect("a PATH");
        vec![
            ("PATH", format!("{}:{path}", shown("bin"))),
            ("WARREN_SECRETS_DIR", shown("secrets")),
            ("WARREN_TOOLS_DIR", shown("tools")),
            ("GH_CONFIG_DIR", shown("tools/gh")),
        ]
    }
}

fn login(tool: Tool, secret: &str, host: Option<&str>) -> Login {
    Login { tool, secret: secret.parse().expect("a name"), host: host.map(str::to_owned) }
}

fn setup(extras: &Extras, script: &str) -> Setup {
    Setup {
        setup_script: extras.before(Some(script.to_owned())).unwrap_or_default(),
        sessions: vec![session("main", "sleep 1000")],
        ..Setup::default()
    }
}

#[tokio::test]
async fn tools_are_given_their_secrets_when_they_run_and_nothing_that_lasts_holds_one() {
    let stage = Stage::new();
    let tools = ["gh", "vercel", "netlify", "supabase", "neonctl", "npm", "pnpm", "az"];
    tools.iter().for_each(|tool| stand_in(&stage.path("bin"), tool));
    for tool in ["deploy", "netlify-token", "supabase-token", "neon-token", "github-token"] {
        stage.secret(tool, &format!("{CANARY}-{tool}\n"));
    }
    stage.secret("registry", &format!("{CANARY}-registry"));
    let principal = format!(r#"{{"appId": "app", "tenant": "t", "password": "{CANARY}-az"}}"#);
    stage.secret("azure-principal", &principal);
    let extras = Extras {
        logins: vec![
            login(Tool::Vercel, "deploy", None),
            login(Tool::Npm, "registry", Some("npm.example/team/")),
        ],
        ..Extras::default()
    };
    // a tool runs as anybody's does: by its name
    let bin = stage.path("bin").display().to_string();
    let script = "export PATH=$WARREN_TOOLS_DIR/bin:BIN:$PATH\n\
        for tool in vercel netlify supabase neonctl npm pnpm az az; do $tool one two; done\n\
        env > ~/environment\n";
    let script = script.replace("BIN", &bin);
    let (workspace, mut agent) = Workspace::start_with(setup(&extras, &script), &stage.variables());
    let status = agent.until_started().await;
    assert_eq!(step(&status, "setup").state(), StepState::Done, "{status:#?}");
    let done = step(&status, "tools");
    assert_eq!(done.state(), StepState::Done, "{status:#?}");
    for tool in ["vercel", "npm", "az", "gh", "neon", "netlify", "supabase"] {
        assert!(done.title.contains(tool), "{}", done.title);
    }
    each_was_given_its_own(&workspace, &stage.path("tools"));
    // nothing that lasts: PID 1, tmux, the session's shell, the script
    nothing_holds_it(&workspace);
    let environment = fs::read_to_string(workspace.home().join("environment")).expect("written");
    assert!(!environment.contains(CANARY) && !workspace.log().contains(CANARY));
    assert!(!format!("{status:?}").contains(CANARY));
    the_home_holds_none(&workspace);
    // another value counts from the next run on
    stage.secret("deploy", "another");
    let mut vercel = std::process::Command::new(stage.path("tools/bin/vercel"));
    vercel.envs(stage.variables()).env("HOME", workspace.home()).arg("again");
    assert!(vercel.status().expect("it runs").success());
    let said = fs::read_to_string(workspace.home().join("said-vercel")).expect("it ran");
    assert!(said.contains(r#"{"token":"another"}"#));
}

fn each_was_given_its_own(workspace: &Workspace, tools: &Path) {
    let said = |tool: &str| {
        fs::read_to_string(workspace.home().join(format!("said-{tool}"))).expect("it ran")
    };
    assert!(said("gh").contains(&format!("{CANARY}-github-token")), "on standard input");
    let vercel = format!("args: --global-config {}/vercel one two", tools.display());
    assert!(said("vercel").contains(&vercel), "{}", said("vercel"));
    assert!(said("vercel").contains(&format!(r#"{{"token":"{CANARY}-deploy"}}"#)));
    for (tool, variable) in [
        ("netlify", "NETLIFY_AUTH_TOKEN"),
        ("supabase", "SUPABASE_ACCESS_TOKEN"),
        ("neonctl", "NEON_API_KEY"),
    ] {
        let secret = format!("{}-token", tool.trim_end_matches("ctl"));
        assert!(said(tool).contains(&format!("{variable}={CANARY}-{secret}\n")), "{}", said(tool));
        assert!(said(tool).contains("args: one two\n"), "{}", said(tool));
    }
    for tool in ["npm", "pnpm"] {
        let line = format!("//npm.example/team/:_authToken={CANARY}-registry\n");
        assert!(said(tool).contains(&line), "{}", said(tool));
        assert!(!said(tool).contains(&format!("TOKEN={CANARY}")), "not in its environment");
    }
    let az = said("az");
    assert_eq!(az.matches("args: login --service-principal").count(), 1, "once: {az}");
    assert_eq!(az.matches("args: one two").count(), 2, "{az}");
    assert!(az.contains(&format!("{CANARY}-az")) && !holds(tools, "-az"));
    for tool in ["gh", "vercel", "netlify", "supabase", "neonctl", "npm", "pnpm", "az"] {
        let args = said(tool);
        let mut lines =
            args.lines().filter(|line| line.starts_with("args: ") || line.contains("bin/bash"));
        assert!(lines.all(|line| !line.contains(CANARY)), "{args}");
    }
}

fn the_home_holds_none(workspace: &Workspace) {
    // what stands in the home is what the stand-ins wrote themselves
    for entry in walk(&workspace.home()) {
        let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read(&entry).unwrap_or_default();
        let found = String::from_utf8_lossy(&text).contains(CANARY);
        assert!(!found || name.starts_with("said-"), "{}", entry.display());
    }
}

fn nothing_holds_it(workspace: &Workspace) {
    let mut looked = 0;
    for pid in workspace.processes("").into_iter().chain([workspace.pid()]) {
        for file in ["cmdline", "environ"] {
            let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            looked += usize::from(!bytes.is_empty());
            assert!(!String::from_utf8_lossy(&bytes).contains(CANARY), "{pid} {file}");
        }
    }
    assert!(looked >= 4, "PID 1 and the session were looked at");
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").flatten();
    let below = entries.flat_map(|entry| match entry.file_type().expect("a type").is_dir() {
        true => walk(&entry.path()),
        false => vec![entry.path()],
    });
    below.collect()
}

#[test]
fn a_server_that_reads_a_file_is_told_where_it_is_and_none_has_the_value() {
    let stage = Stage::new();
    stage.secret("docs-token", &format!("{CANARY}-docs\n"));
    let run = |words: &[&str]| {
        let mut inside = std::process::Command::new(env!("CARGO_BIN_EXE_warren-inside"));
        let done = inside.envs(stage.variables()).arg("with-secrets").args(words).output();
        let done = done.expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (done.status.success(), text(&done.stdout), text(&done.stderr))
    };
    let server = ["--", "sh", "-c", "env; cat \"$DOCS_TOKEN_FILE\""];
    let (_, said, _) = run(&[&["DOCS_TOKEN_FILE=docs-token"][..], &server].concat());
    let path = stage.path("secrets/docs-token");
    assert!(said.contains(&format!("DOCS_TOKEN_FILE={}\n", path.display())), "{said}");
    assert_eq!(said.matches(CANARY).count(), 1, "in the file alone: {said}");
    assert!(said.ends_with(&format!("{CANARY}-docs\n")));
    let (_, said, _) = run(&["TOKEN=docs-token", "--", "env"]);
    assert!(said.contains(&format!("TOKEN={CANARY}-docs\n")), "{said}");
    for (word, why) in [("A_FILE=gone", "gone"), ("A_FILE=../docs-token", "../docs-token")] {
        let (began, said, error) = run(&[word, "--", "env"]);
        assert!(!began && said.is_empty() && error.contains(why), "{said}{error}");
    }
}

/// Whether any file of a folder holds a canary with this end.
fn holds(folder: &Path, end: &str) -> bool {
    let canary = format!("{CANARY}{end}");
    let text = |path| fs::read(path).unwrap_or_default();
    walk(folder).into_iter().any(|path| String::from_utf8_lossy(&text(path)).contains(&canary))
}

/// An `az` whose login tells what it was given, and goes on once `go` says so.
const AZ: &str = "#!/bin/bash\n\
    [ \"$1\" = login ] || exit 0\n\
    for word; do [ \"$word\" = @- ] && cat > ~/given-$$.new; done\n\
    mv ~/given-$$.new ~/given-$$ || exit 2\n\
    for ((look = 0; look < 600; look++)); do [ -e ~/go ] && exit 0; sleep .05; done; exit 1\n";

#[tokio::test]
async fn no_file_holds_the_password_that_azures_is_given_whatever_ends_the_call() {
    let stage = Stage::new();
    stand_in(&stage.path("bin"), "az");
    fs::write(stage.path("bin/az"), AZ).expect("written");
    let principal = format!(r#"{{"appId": "app", "tenant": "t", "password": "{CANARY}-az"}}"#);
    stage.secret("azure-principal", &principal);
    // as an earlier version left it
    let left = stage.path("tools/az/calls/7-7");
    fs::create_dir_all(left.parent().expect("a folder")).expect("made");
    fs::write(&left, format!("{CANARY}-az")).expect("written");
    let wanted = setup(&Extras::default(), "true\n");
    let (workspace, mut agent) = Workspace::start_with(wanted, &stage.variables());
    agent.until_started().await;
    assert!(!left.exists());
    let az = || {
        let mut az = std::process::Command::new(stage.path("tools/bin/az"));
        az.envs(stage.variables()).env("HOME", workspace.home()).arg("one").process_group(0);
        az.spawn().expect("it runs")
    };
    let given = || {
        let names = fs::read_dir(workspace.home()).expect("listed").flatten();
        let is_given = |path: &std::path::PathBuf| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("given-") && !name.ends_with(".new")
        };
        names.map(|one| one.path()).filter(is_given).collect::<Vec<_>>()
    };
    let (mut one, mut other) = (az(), az());
    wait_until("both to be at it", || given().len() == 2).await;
    for path in given() {
        assert_eq!(fs::read_to_string(path).expect("it is whole"), format!("{CANARY}-az"));
    }
    assert!(!holds(&stage.path("tools"), "-az"), "while it is at it");
    let group = Pid::from_raw(other.id().try_into().expect("a pid")).expect("a pid");
    kill_process_group(group, Signal::KILL).expect("it runs");
    other.wait().expect("it ended");
    fs::write(workspace.home().join("go"), "").expect("a file");
    assert!(one.wait().expect("it ended").success());
    assert!(!holds(&stage.path("tools"), "-az"));
    // logged in by the first
    assert!(az().wait().expect("it ended").success());
    assert_eq!(given().len(), 2);
}

#[tokio::test]
async fn a_secret_that_is_missing_is_named_with_what_to_do_and_the_tool_still_runs() {
    let stage = Stage::new();
    ["vercel", "gh"].iter().for_each(|tool| stand_in(&stage.path("bin"), tool));
    let extras = Extras {
        logins: vec![
            login(Tool::Vercel, "deploy", None),
            login(Tool::Neon, "neon-token", None),
            login(Tool::Gh, "gh-token", None),
        ],
        ..Extras::default()
    };
    let bin = stage.path("bin").display().to_string();
    let script = format!("PATH={bin}:$PATH $WARREN_TOOLS_DIR/bin/vercel now\n");
    let (workspace, mut agent) = Workspace::start_with(setup(&extras, &script), &stage.variables());
    let status = agent.until_started().await;
    let tools = step(&status, "tools");
    assert_eq!(tools.state(), StepState::Failed, "{status:#?}");
    for said in
        ["vercel: there is no secret deploy here", "warren secret set CLIENT deploy", "gh: "]
    {
        assert!(tools.message.contains(said), "{}", tools.message);
    }
    assert!(!workspace.home().join("said-gh").exists(), "there is nothing to log it in with");
    let output = &step(&status, "setup").output;
    assert!(output.contains("vercel is not logged in: there is no secret deploy here"), "{output}");
    let said = fs::read_to_string(workspace.home().join("said-vercel")).expect("it ran");
    assert!(said.contains("args: now\n"), "{said}");
    // once it is there it counts
    stage.secret("deploy", "token");
    let mut vercel = std::process::Command::new(stage.path("tools/bin/vercel"));
    vercel.envs(stage.variables()).env("HOME", workspace.home()).arg("later");
    assert!(vercel.status().expect("it runs").success());
    let said = fs::read_to_string(workspace.home().join("said-vercel")).expect("it ran");
    assert!(said.contains(r#"{"token":"token"}"#), "{said}");
}

#[tokio::test]
async fn agents_are_told_of_servers_and_a_server_has_its_secret_when_it_runs() {
    let stage = Stage::new();
    stand_in(&stage.path("bin"), "docs-server");
    stage.secret("docs-token", &format!("{CANARY}-docs"));
    let server = McpServer {
        name: "docs".to_owned(),
        command: "docs-server".to_owned(),
        args: vec!["--fast".to_owned()],
        env: [("TOKEN".to_owned(), "docs-token".parse().expect("a name"))].into(),
    };
    let extras = Extras { servers: vec![server], ..Extras::default() };
    let (workspace, mut agent) = Workspace::start_with(setup(&extras, ""), &stage.variables());
    let status = agent.until_started().await;
    assert_eq!(step(&status, "mcp").state(), StepState::Done, "{status:#?}");
    assert_eq!(step(&status, "mcp").title, "MCP servers docs");
    assert!(status.steps.iter().all(|step| step.name != "setup"), "there is no script");
    let read = |file: &str| fs::read_to_string(workspace.home().join(file)).expect("written");
    let claude: serde_json::Value = serde_json::from_str(&read(".claude.json")).expect("JSON");
    assert_eq!(claude["hasCompletedOnboarding"], true, "what else is there stays");
    let gemini: serde_json::Value =
        serde_json::from_str(&read(".gemini/settings.json")).expect("JSON");
    assert_eq!(gemini["mcpServers"]["docs"]["command"], claude["mcpServers"]["docs"]["command"]);
    let codex = read(".codex/config.toml");
    assert!(
        codex.contains("[mcp_servers.docs]\n") && codex.contains("TOKEN=docs-token"),
        "{codex}"
    );
    // as an agent starts it
    let started = &claude["mcpServers"]["docs"];
    let words = started["args"].as_array().expect("arguments").iter();
    let mut run = std::process::Command::new(started["command"].as_str().expect("a command"));
    run.args(words.map(|word| word.as_str().expect("text")));
    run.envs(stage.variables()).env("HOME", workspace.home());
    assert!(run.status().expect("it runs").success());
    let said = read("said-docs-server");
    assert!(said.contains("args: --fast\n"), "{said}");
    assert!(said.contains(&format!("TOKEN={CANARY}-docs\n")), "{said}");
    nothing_holds_it(&workspace);
    wait_until("the session", || !workspace.processes("sleep").is_empty()).await;
    assert!(!format!("{claude}{gemini}{codex}{}", workspace.log()).contains(CANARY));
}
