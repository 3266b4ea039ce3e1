//! The engine and the hardened container against a real Docker.
//!
//! Set `WARREN_TEST_DOCKER=unix:///path/to/docker.sock` to a Docker of the test's own that holds
//! `debian:bookworm-slim`; without it every test here is skipped, aloud. Each test has a cluster,
//! a node, a workspace and folders of its own and removes what it made. With
//! `WARREN_TEST_TOOLS_IMAGE` naming an image that has git, tmux, python3 and node, those are tried
//! under the filter too.
#![expect(clippy::print_stderr, reason = "a test that is skipped says so")]

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::StreamExt as _;
use tempfile::TempDir;
use uuid::Uuid;
use warren_common::{
    Bytes, ClusterId, Generation, NodeId, WorkspaceId,
    spec::{
        Failover, Labels, PlacementRules, Resources, Run, SessionSpec, WorkspaceOrder,
        WorkspaceSpec,
    },
};
use warren_node_agent::{
    container::{ContainerPlan, Ground, NetworkPlan, plan, plan_network},
    engine::{
        ContainerSeen, ContainerState, Engine as _, EngineError, EngineEventKind, LogQuery,
        docker::DockerEngine,
    },
    hooks, host,
    volume::{Volume, VolumeStore as _, plain::PlainStore},
};

#[path = "docker/drift.rs"]
mod drift;

const IMAGE: &str = "debian:bookworm-slim";
const RANGE: &str = "10.219.0.0/20";
/// Every wait of a test.
const DEADLINE: Duration = Duration::from_secs(60);

/// One workspace on the Docker under test.
struct Stage {
    docker: DockerEngine,
    address: String,
    /// Holds everything on disk; removed at the end.
    _folder: TempDir,
    volume: Volume,
    order: WorkspaceOrder,
    ground: Ground,
}

impl Stage {
    /// Sets up a workspace whose PID 1 is the shell script `inside`; none without a Docker.
    async fn new(inside: &str) -> Option<Self> {
        let Ok(address) = env::var("WARREN_TEST_DOCKER") else {
            eprintln!("SKIPPED: WARREN_TEST_DOCKER is not set");
            return None;
        };
        let (cluster, node) = (ClusterId::new(Uuid::new_v4()), NodeId::new(Uuid::new_v4()));
        let docker = DockerEngine::new(address.clone(), cluster, node);
        let folder = tempfile::tempdir().expect("folder");
        let order = order(WorkspaceId::new(Uuid::new_v4()));
        let store = PlainStore::new(folder.path().join("homes"));
        let volume = store.ensure(order.workspace, Bytes::gib(1)).await.expect("a home");
        let script = folder.path().join("inside");
        fs::write(&script, format!("#!/bin/bash\n{inside}\n")).expect("script");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("executable");
        let hooks = folder.path().join("hooks");
        hooks::install(&hooks).expect("hook files");
        let run = folder.path().join("run");
        fs::create_dir(&run).expect("folder");
        let secrets = folder.path().join("secrets");
        fs::create_dir(&secrets).expect("folder");
        let info = docker.info().await.expect("Docker answers");
        let ground = Ground {
            resolver: None,
            cluster,
            node,
            cgroup_parent: host::cgroup_parent(&format!("test-{}", node.short()), false),
            inside: script,
            hooks,
            run,
            secrets,
            home: volume.home.clone(),
            tmp: volume.tmp.clone(),
            abilities: host::abilities(&info),
            runtime: None,
        };
        Some(Self { docker, address, _folder: folder, volume, order, ground })
    }

    fn plan(&self) -> ContainerPlan {
        plan(&self.order, &self.ground)
    }

    fn network(&self) -> NetworkPlan {
        plan_network(&self.order, &self.ground, RANGE)
    }

    async fn create(&self) -> Result<String, EngineError> {
        self.docker.ensure_network(&self.network()).await.expect("a network");
        self.docker.create(&self.plan()).await
    }

    async fn start(&self) -> String {
        let id = self.create().await.expect("created as planned");
        self.docker.start(&id).await.expect("started");
        id
    }

    async fn seen(&self) -> ContainerSeen {
        let mut all = self.docker.list().await.expect("a list");
        assert_eq!(all.len(), 1, "{all:?}");
        let named = self.docker.workspaces().await.expect("a list");
        assert_eq!(named, [all[0].workspace].into());
        all.remove(0)
    }

    async fn exited(&self) -> (i32, bool) {
        let begin = Instant::now();
        loop {
            if let ContainerState::Exited { exit_code, oom } = self.seen().await.state {
                return (exit_code, oom);
            }
            assert!(begin.elapsed() < DEADLINE, "the container does not end");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits for a file that the container writes in its home.
    async fn file(&self, name: &str) -> String {
        let (path, begin) = (self.volume.home.join(name), Instant::now());
        loop {
            match fs::read_to_string(&path) {
                Ok(text) if text.ends_with('\n') => return text,
                Ok(_) | Err(_) => assert!(begin.elapsed() < DEADLINE, "no {name}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn cli(&self, args: &[&str]) -> String {
        let output = Command::new("docker").args(["-H", &self.address]).args(args).output();
        let output = output.expect("the docker command");
        assert!(output.status.success(), "{args:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    async fn clean(self) {
        for container in self.docker.list().await.expect("a list") {
            self.docker.remove(&container.id).await.expect("removed");
        }
        self.docker.remove_network(&self.plan().network).await.expect("removed");
        assert_eq!(self.docker.list().await.expect("a list"), []);
        for controller in fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            let parent = self.ground.cgroup_parent.trim_start_matches('/');
            // only there where this Docker made one
            let _ = fs::remove_dir(controller.path().join(parent));
        }
    }
}

fn order(workspace: WorkspaceId) -> WorkspaceOrder {
    WorkspaceOrder {
        workspace,
        client: "0199a0b2-7f00-7000-8000-000000000002".parse().expect("an id"),
        address: "acme/web".parse().expect("an address"),
        generation: Generation::new(1, 4),
        run: Run::Running,
        run_serial: 1,
        permit: None,
        request: None,
        sessions: Vec::new(),
        sessions_told: true,
        spec: WorkspaceSpec {
            template: "base".to_owned(),
            image: IMAGE.to_owned(),
            repo: None,
            branch: None,
            setup: None,
            git_identity: None,
            sessions: vec![SessionSpec { name: "main".parse().expect("a name"), command: None }],
            resources: Resources::with_memory(Bytes::mib(256)),
            placement: PlacementRules::default(),
            failover: Failover::Auto,
            labels: Labels::new(),
        },
    }
}

#[tokio::test]
async fn the_container_is_as_hard_as_planned() {
    let script = r#"
        say() { echo "$1=$2" >>/home/agent/new; }
        say id "$(id -u):$(id -g)"
        while read -r key value; do
          case $key in CapEff:|CapBnd:|NoNewPrivs:|Seccomp:) say "${key%:}" "$value";; esac
        done </proc/self/status
        touch /x 2>/dev/null && say root writable || say root read-only
        touch /warren/run/x 2>/dev/null && say run writable || say run read-only
        touch /tmp/x && say tmp writable
        touch /run/x && say slash-run writable
        say run-owner "$(stat -c %u:%g:%a /run)"
        say core "$(ulimit -c)"; say files "$(ulimit -n)"
        say host "$(cat /proc/sys/kernel/hostname)"
        say shm "$(df -k --output=size /dev/shm | tail -1 | tr -d ' ')"
        say pid $$
        say ipv6 "$(cat /proc/sys/net/ipv6/conf/all/disable_ipv6 2>/dev/null || echo 1)"
        say home "$HOME"; say serial "$WARREN_RUN_SERIAL"; say workspace "$WARREN_WORKSPACE"
        ls /var/run/docker.sock >/dev/null 2>&1 && say docker reachable || say docker absent
        say oom "$(cat /proc/self/oom_score_adj)"
        say pwd "$PWD"
        for file in claude-code/managed-settings.json codex/requirements.toml gemini-cli/settings.json
        do
          grep -q '/warren/inside hook' "/etc/$file" && say "hooks-$file" there
          { rm -f "/etc/$file" || mv "/etc/${file%/*}" /tmp || echo x >"/etc/$file"; } 2>/dev/null &&
            say "hooks-$file" lost
        done
        mv /home/agent/new /home/agent/facts"#;
    let Some(stage) = Stage::new(script).await else { return };
    stage.start().await;
    let facts = stage.file("facts").await;
    let files = format!("files={}", stage.plan().open_files);
    assert!(facts.lines().any(|line| line == files), "{files} is not in:\n{facts}");
    for wanted in [
        "id=1000:1000",
        "CapEff=0000000000000000",
        "CapBnd=0000000000000000",
        "NoNewPrivs=1",
        "Seccomp=2",
        "root=read-only",
        "run=read-only",
        "tmp=writable",
        "slash-run=writable",
        "run-owner=1000:1000:755",
        "core=0",
        "host=web",
        "shm=131072",
        "pid=1",
        "ipv6=1",
        "home=/home/agent",
        "serial=1",
        "workspace=acme/web",
        "docker=absent",
        "oom=500",
        "pwd=/home/agent",
        "hooks-claude-code/managed-settings.json=there",
        "hooks-codex/requirements.toml=there",
        "hooks-gemini-cli/settings.json=there",
    ] {
        assert!(facts.lines().any(|line| line == wanted), "{wanted} is not in:\n{facts}");
    }
    assert!(!facts.contains("=lost"), "{facts}");
    assert_eq!(stage.exited().await, (0, false));
    stage.clean().await;
}

#[tokio::test]
#[cfg(target_arch = "x86_64")]
async fn the_filter_refuses_what_it_should_and_nothing_else() {
    // numbers of x86_64; each probe prints the error, or `ok`
    let script = r#"
        probe() { perl -e '$! = 0; my ($n, @a) = map { $_ + 0 } @ARGV; my $r = syscall($n, @a);
          print $r < 0 ? $!+0 : "ok", "\n"' "${@:2}" | sed "s/^/$1=/" >>/home/agent/new; }
        probe io_uring_setup 425 1 0; probe userfaultfd 323 0; probe bpf 321 0 0 0
        probe keyctl 250 0 0 0; probe perf_event_open 298 0 0 0 0 0; probe memfd_secret 447 0
        probe clone3 435 0 0; probe unshare_user 272 268435456; probe unshare_files 272 1024
        probe setns 308 0 0; probe mount 165 0 0 0 0 0; probe chroot 161 0
        probe vsock 41 40 1 0; probe alg 41 38 5 0; probe packet 41 17 3 0
        probe netfilter 41 16 3 12; probe route 41 16 3 0; probe inet 41 2 1 0; probe unix 41 1 1 0
        probe personality_aslr 135 262144; probe personality 135 4294967295
        mv /home/agent/new /home/agent/facts"#;
    let Some(stage) = Stage::new(script).await else { return };
    stage.start().await;
    let facts = stage.file("facts").await;
    let refused = "io_uring_setup userfaultfd bpf keyctl perf_event_open memfd_secret \
                   unshare_user setns mount chroot vsock alg packet netfilter personality_aslr";
    for call in refused.split_whitespace() {
        assert!(facts.contains(&format!("{call}=1\n")), "{call} is not EPERM:\n{facts}");
    }
    assert!(facts.contains("clone3=38\n"), "clone3 is not ENOSYS:\n{facts}");
    for call in ["unshare_files", "route", "inet", "unix", "personality"] {
        assert!(facts.contains(&format!("{call}=ok\n")), "{call} is refused:\n{facts}");
    }
    stage.clean().await;
}

#[tokio::test]
async fn the_tools_of_an_agent_run_under_the_filter() {
    let Ok(image) = env::var("WARREN_TEST_TOOLS_IMAGE") else {
        eprintln!("SKIPPED: WARREN_TEST_TOOLS_IMAGE (git, tmux, python3, node) is not set");
        return;
    };
    let script = r#"
        say() { if "${@:2}" >/home/agent/out 2>&1; then echo "$1=ok"; else
          echo "$1=$?: $(tail -c 200 /home/agent/out | tr '\n' ' ')"; fi >>/home/agent/new; }
        export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
        say git sh -c 'git init -q r && cd r && echo x >x && git add x && git commit -qm x &&
          git gc -q && cd .. && git clone -q r s && test -f s/x'
        say tmux sh -c 'tmux -f /dev/null new-session -d -s main "echo from-tmux; sleep 30" &&
          for i in 1 2 3 4 5 6 7 8 9 10; do tmux capture-pane -pt main | grep -q from-tmux &&
          exit 0; sleep 0.2; done; exit 1'
        say python python3 -c '
import asyncio, subprocess, threading, multiprocessing
t = threading.Thread(target=lambda: None); t.start(); t.join()
assert subprocess.check_output(["echo", "x"]) == b"x\n"
p = multiprocessing.Process(target=print); p.start(); p.join(); assert p.exitcode == 0
asyncio.run(asyncio.sleep(0))'
        say node node -e '
const { Worker } = require("worker_threads"); const fs = require("fs");
fs.promises.readFile("/etc/passwd").then(() => {
  const server = require("http").createServer((q, r) => r.end("x")).listen(0, () =>
    require("http").get({ port: server.address().port }, (r) => r.on("data", () => {
      new Worker("process.exit(0)", { eval: true }).on("exit", () => process.exit(0)); })));
});'
        say exec-in-home sh -c 'cp /bin/true ~/t && ~/t'
        say exec-in-tmp sh -c 'cp /bin/true /tmp/t && /tmp/t'
        mv /home/agent/new /home/agent/facts"#;
    let Some(mut stage) = Stage::new(script).await else { return };
    stage.order.spec.image = image;
    stage.order.spec.resources.memory = Bytes::mib(512);
    stage.start().await;
    let facts = stage.file("facts").await;
    assert!(
        facts.lines().count() >= 6 && facts.lines().all(|line| line.ends_with("=ok")),
        "{facts}"
    );
    stage.clean().await;
}

#[tokio::test]
async fn a_hog_is_killed_at_its_cap_and_the_events_tell() {
    // the child dies, PID 1 lives on to tell, then eats too much itself
    let script = r#"
        perl -e '$x .= "x" x 1048576 while 1'; echo "child=$?" >/home/agent/child
        until [ -e /home/agent/go ]; do sleep 0.05; done
        exec perl -e '$x .= "x" x 1048576 while 1'"#;
    let Some(mut stage) = Stage::new(script).await else { return };
    stage.order.spec.resources.memory = Bytes::mib(96);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let id = stage.create().await.expect("created");
    let mut events = stage.docker.events();
    // the stream listens before the start: its first poll opens it
    let listening = Arc::clone(&heard);
    let watch = async {
        while let Some(Ok(event)) = events.next().await {
            listening.lock().expect("not poisoned").push(event.kind);
        }
    };
    let story = async {
        tokio::task::yield_now().await;
        stage.docker.start(&id).await.expect("started");
        assert_eq!(stage.file("child").await, "child=137\n");
        let seen = stage.seen().await;
        let usage = stage.docker.usage(&seen).await.expect("usage");
        assert!(usage.oom_kills >= 1, "{usage:?}");
        assert!(usage.memory > Bytes(0) && usage.memory <= Bytes::mib(96), "{usage:?}");
        assert!(usage.pids >= 1 && usage.cpu_ms > 0, "{usage:?}");
        fs::write(stage.volume.home.join("go"), "").expect("write");
        assert_eq!(stage.exited().await, (137, true));
        let begin = Instant::now();
        loop {
            let kinds = heard.lock().expect("not poisoned").clone();
            let died = EngineEventKind::Died { exit_code: 137 };
            if kinds.contains(&EngineEventKind::OutOfMemory) && kinds.contains(&died) {
                return;
            }
            assert!(begin.elapsed() < DEADLINE, "{kinds:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! { () = watch => panic!("the events ended"), () = story => {} }
    drop(events);
    stage.clean().await;
}

#[tokio::test]
async fn every_call_can_be_made_twice() {
    let script = r#"trap 'echo bye; exit 3' TERM; echo hello; echo oops >&2
        while :; do sleep 0.05; done"#;
    let Some(stage) = Stage::new(script).await else { return };
    let docker = &stage.docker;
    let id = stage.create().await.expect("created");
    assert_eq!(stage.create().await.expect("the same"), id, "an equal one is kept");
    docker.start(&id).await.expect("started");
    docker.start(&id).await.expect("runs already");
    let conflict = docker.create(&stage.plan()).await.expect_err("it runs");
    assert_eq!(conflict.code(), "ENGINE_CONFLICT");
    let seen = stage.seen().await;
    assert!(matches!(seen.state, ContainerState::Running { pid } if pid > 1), "{seen:?}");
    assert_eq!((seen.run_serial, seen.generation), (1, Generation::new(1, 4)));
    assert!(seen.started.0 > 1_600_000_000_000);
    docker.stop(&id, Duration::from_secs(20)).await.expect("stopped");
    docker.stop(&id, Duration::from_secs(20)).await.expect("stopped already");
    assert_eq!(stage.exited().await, (3, false));

    let mut log = docker.logs(&id, LogQuery { follow: true, tail: None });
    let (mut out, mut err) = (String::new(), String::new());
    while let Some(chunk) = log.next().await {
        let chunk = chunk.expect("a chunk");
        let text = String::from_utf8_lossy(&chunk.bytes).into_owned();
        if chunk.stderr { err += &text } else { out += &text }
    }
    drop(log);
    assert_eq!((out.as_str(), err.as_str()), ("hello\nbye\n", "oops\n"));
    let mut tail = docker.logs(&id, LogQuery { follow: false, tail: Some(1) });
    assert_eq!(tail.next().await.expect("a line").expect("read").bytes, "bye\n");
    drop(tail);

    let again = docker.create(&stage.plan()).await.expect("made again");
    assert_ne!(again, id, "one that ended is replaced");
    docker.remove(&again).await.expect("removed");
    docker.remove(&again).await.expect("gone already");
    docker.stop(&again, Duration::from_secs(1)).await.expect("gone already");
    assert_eq!(docker.start(&again).await.expect_err("gone").code(), "ENGINE_NOT_FOUND");
    stage.clean().await;
}

#[tokio::test]
async fn networks_never_overlap_and_let_go_of_strangers() {
    let Some(stage) = Stage::new("sleep 60").await else { return };
    let Some(other) = Stage::new("sleep 60").await else { return };
    let docker = &stage.docker;
    let (one, two) = (stage.network(), other.network());
    let (first, second) =
        tokio::join!(docker.ensure_network(&one), other.docker.ensure_network(&two));
    let (first, second) = (first.expect("made"), second.expect("made"));
    assert_ne!(first.subnet, second.subnet);
    assert_eq!(docker.ensure_network(&one).await.expect("there already"), first);
    let conflict = docker.remove_network(&two.name).await.expect_err("another node's");
    assert_eq!(conflict.code(), "ENGINE_CONFLICT");

    let name = format!("stranger-{}", stage.order.workspace.short());
    let args = ["run", "-d", "--name", &name, "--network", &one.name, IMAGE, "sleep", "60"];
    let stranger = stage.cli(&args);
    docker.remove_network(&one.name).await.expect("removed under it");
    docker.remove_network(&one.name).await.expect("gone already");
    stage.cli(&["rm", "-f", &stranger]);
    other.clean().await;
    stage.clean().await;
}

#[tokio::test]
async fn an_image_that_brings_a_volume_is_refused() {
    let Some(mut stage) = Stage::new("sleep 60").await else { return };
    let image = format!("warren-test-volume:{}", stage.order.workspace.short());
    let container = stage.cli(&["create", IMAGE, "true"]);
    stage.cli(&["commit", "-c", "VOLUME /data", &container, &image]);
    stage.cli(&["rm", &container]);
    stage.order.spec.image.clone_from(&image);
    let error = stage.create().await.expect_err("a volume nobody planned");
    assert_eq!((error.code(), error.retry()), ("CONTAINER_DRIFTED", false));
    assert!(error.to_string().contains("/data"), "{error}");
    assert_eq!(stage.docker.list().await.expect("a list"), [], "it was removed again");
    stage.cli(&["rmi", &image]);
    stage.clean().await;
}

#[tokio::test]
async fn an_image_that_is_nowhere_says_what_to_do() {
    let Some(stage) = Stage::new("sleep 60").await else { return };
    let said = Arc::new(Mutex::new(Vec::new()));
    let hear = Arc::clone(&said);
    let progress = Arc::new(move |line| hear.lock().expect("not poisoned").push(line));
    stage.docker.ensure_image(IMAGE, progress.clone()).await.expect("it is here");
    assert!(said.lock().expect("not poisoned").is_empty(), "what is here is not pulled");
    let image = "localhost:1/warren/nowhere:1";
    let error = stage.docker.ensure_image(image, progress).await.expect_err("nowhere");
    assert_eq!((error.code(), error.retry()), ("IMAGE_MISSING", false));
    assert!(error.to_string().starts_with(&format!("image {image} is not on this node")));
    assert!(error.next().expect("what to do").contains("docker load"));
    assert!(!said.lock().expect("not poisoned").is_empty());
    stage.clean().await;
}

#[tokio::test]
async fn a_docker_that_is_not_there_is_a_clear_error() {
    let folder = tempfile::tempdir().expect("folder");
    let address = format!("unix://{}", folder.path().join("no.sock").display());
    let nobody =
        |path: &str| DockerEngine::new(path, ClusterId::new(Uuid::nil()), NodeId::new(Uuid::nil()));
    let error = nobody(&address).info().await.expect_err("nobody there");
    assert_eq!((error.code(), error.retry()), ("ENGINE_UNREACHABLE", true));
    // a socket on which nobody listens any more
    let dead = folder.path().join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&dead).expect("bind"));
    let error = nobody(&format!("unix://{}", dead.display())).info().await.expect_err("dead");
    assert_eq!(error.code(), "ENGINE_UNREACHABLE");
    assert!(Path::new(&dead).exists());
}
