//! A Docker engine of a host's own: own data, own socket, own bridge, own firewall (its host's).

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};

use crate::{Daemon, Host, Output, Program, Stage, stage::unmount_below, wait_until};

/// One running `dockerd`.
#[derive(Debug)]
pub struct Engine {
    daemon: Daemon,
    folder: PathBuf,
    socket: PathBuf,
    cgroup: String,
    walls: Walls,
    more: Vec<String>,
}

/// What an engine offers beside plain containers.
#[derive(Debug, Clone, Default)]
pub struct Walls {
    /// Remap users to this range of 65,536, as the machine's own files would have it.
    pub remap: Option<u32>,
    /// A program to be registered as gVisor's runtime.
    pub runsc: Option<PathBuf>,
}

impl Engine {
    /// Starts an engine in a host's network and waits until it answers.
    ///
    /// # Errors
    /// Fails with the engine's log where it does not answer within 60 s.
    pub fn start(stage: &Stage, host: &Host) -> Result<Self> {
        Self::launch(stage, host, (Walls::default(), &[]))
    }

    /// Starts an engine that offers more than plain containers, with further arguments.
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn launch(stage: &Stage, host: &Host, (walls, more): (Walls, &[String])) -> Result<Self> {
        let folder = stage.folder(&format!("docker-{}", host.name()))?;
        let cgroup = format!("/{}-{}", stage.prefix(), host.name());
        let socket = folder.join("docker.sock");
        // the host's own configuration is not ours to read
        std::fs::write(folder.join("daemon.json"), "{}")?;
        own_range(&folder, walls.remap)?;
        if walls.remap.is_some() {
            share(stage.root())?;
        }
        let program = program(host, (&folder, &cgroup), &walls).args(more);
        let daemon = Daemon::start("dockerd", &folder, program)?;
        let more = more.to_vec();
        let mut engine = Self { daemon, folder, socket, cgroup, walls, more };
        engine.wait()?;
        Ok(engine)
    }

    /// Returns the process of `dockerd`.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// Returns the path of its socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Returns the cgroup below which its containers stand by default.
    pub fn cgroup(&self) -> &str {
        &self.cgroup
    }

    /// Kills `dockerd` alone, with SIGKILL: containers live on.
    ///
    /// # Errors
    /// Fails where it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.daemon.kill()?;
        // its containerd goes with it; until it is reaped, whoever comes next takes it for its own
        let file = self.folder.join("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(&file).unwrap_or_default();
        wait_until("containerd ends with dockerd", Duration::from_secs(20), || {
            let name = std::fs::read_to_string(format!("/proc/{}/comm", pid.trim()));
            anyhow::ensure!(
                name.is_ok_and(|name| name != "containerd\n")
                    || pid.is_empty()
                    || !Path::new(&format!("/proc/{}", pid.trim())).exists(),
                "it is there"
            );
            Ok(())
        })?;
        std::fs::remove_file(&file).ok();
        Ok(())
    }

    /// Starts it again after [`Engine::kill`].
    ///
    /// # Errors
    /// As [`Engine::start`].
    pub fn restart(&mut self, host: &Host) -> Result<()> {
        std::fs::remove_file(self.folder.join("docker.pid")).ok();
        // its containerd ended with it; one that nobody has reaped yet passes for a living one
        let file = self.folder.join("exec/containerd/containerd.pid");
        let pid = std::fs::read_to_string(&file).unwrap_or_default();
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
        if stat.is_empty() || stat.contains(") Z ") {
            std::fs::remove_file(&file).ok();
        }
        let program = program(host, (&self.folder, &self.cgroup), &self.walls).args(&self.more);
        self.daemon = Daemon::start("dockerd", &self.folder, program)?;
        self.wait()
    }

    /// Starts it again with users remapped to another range, or not at all: it has another data
    /// folder then, and what it ran lives on.
    ///
    /// # Errors
    /// As [`Engine::kill`] and [`Engine::start`].
    pub fn remap(&mut self, host: &Host, first: Option<u32>) -> Result<()> {
        self.kill()?;
        self.walls.remap = first;
        own_range(&self.folder, first)?;
        self.restart(host)
    }

    /// Runs the docker client against it.
    ///
    /// # Errors
    /// Fails where the client fails.
    pub fn docker(&self, arguments: &[&str]) -> Result<Output> {
        self.try_docker(arguments)?.success()
    }

    /// Runs the docker client against it, whatever its exit code.
    ///
    /// # Errors
    /// Fails where the client cannot be run.
    pub fn try_docker(&self, arguments: &[&str]) -> Result<Output> {
        Program::new("docker").env("DOCKER_HOST", self.url()).args(arguments).run()
    }

    /// Returns its address as `DOCKER_HOST` takes it.
    pub fn url(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// Loads the workspace image that `deploy/test prepare` built.
    ///
    /// # Errors
    /// Fails where it was not built or is no image.
    pub fn load_image(&self) -> Result<()> {
        let image = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e/workspace-image.tar");
        anyhow::ensure!(image.exists(), "there is no workspace image: run ./deploy/test prepare");
        self.docker(&["load", "-q", "-i", &image.to_string_lossy()]).map(drop)
    }

    /// Loads the workspace image, as [`Engine::load_image`].
    ///
    /// # Errors
    /// As [`Engine::load_image`].
    pub fn with_image(self) -> Result<Self> {
        self.load_image()?;
        Ok(self)
    }

    /// Returns the ids of a workspace's containers, those that ended too.
    ///
    /// # Errors
    /// Fails where the engine does not answer.
    pub fn of_workspace(&self, id: &str) -> Result<Vec<String>> {
        let filter = format!("label=warren.workspace={id}");
        let listed = self.docker(&["ps", "-aq", "--no-trunc", "--filter", &filter])?.stdout;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    fn wait(&mut self) -> Result<()> {
        let url = self.url();
        let daemon = &mut self.daemon;
        wait_until("dockerd answers", Duration::from_secs(60), || {
            daemon.check()?;
            let ask = Program::new("docker").env("DOCKER_HOST", &url).args(["version"]);
            ask.run()?.success().map(drop)
        })
    }

    /// Ends what outlived a dead engine: containerd and the shims name its folder; what a shim
    /// started goes with its cgroup.
    fn kill_orphans(&self) {
        let folder = self.folder.to_string_lossy().into_owned();
        for pid in crate::daemon::processes_naming(&folder) {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        }
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            kill_cgroup(&controller.path().join(self.cgroup.trim_start_matches('/')));
        }
    }

    /// Ends containers first, then the engine, then what they leave in memory.
    fn clean(&mut self) -> Result<()> {
        let running = self.docker(&["ps", "-aq"])?.stdout;
        let running: Vec<&str> = running.split_whitespace().collect();
        if !running.is_empty() {
            let mut arguments = vec!["rm", "-f", "-v"];
            arguments.extend(&running);
            self.docker(&arguments)?;
        }
        self.daemon.terminate(Duration::from_secs(30))
    }
}

/// Writes the range that the machine's own files would name.
fn own_range(folder: &Path, first: Option<u32>) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    for file in ["subuid", "subgid"] {
        std::fs::write(folder.join(file), format!("daemon:{first}:65536\n"))?;
    }
    Ok(())
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Err(error) = self.clean() {
            eprintln!("{error:#}");
            self.kill_orphans();
        }
        unmount_below(&self.folder);
        for controller in std::fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            remove_cgroup(&controller.path().join(self.cgroup.trim_start_matches('/')));
        }
        remove_cgroup(&Path::new("/sys/fs/cgroup").join(self.cgroup.trim_start_matches('/')));
        // an agent that was killed leaves what it had locked of them
        let ours = format!("cgroup%{}%", self.cgroup.trim_start_matches('/'));
        for lock in std::fs::read_dir("/run/warren-locks").into_iter().flatten().flatten() {
            if lock.file_name().to_string_lossy().starts_with(&ours) {
                std::fs::remove_file(lock.path()).ok();
            }
        }
    }
}

fn program(host: &Host, (folder, cgroup): (&Path, &str), walls: &Walls) -> Program {
    let flag = |name: &str, file: &str| format!("--{name}={}", folder.join(file).display());
    let mut flags = vec![
        flag("data-root", "data"),
        flag("exec-root", "exec"),
        flag("pidfile", "docker.pid"),
        format!("--host=unix://{}", folder.join("docker.sock").display()),
        format!("--cgroup-parent={cgroup}"),
        "--bip=10.98.0.1/24".to_owned(),
        "--live-restore".to_owned(),
        flag("config-file", "daemon.json"),
    ];
    if let Some(runsc) = &walls.runsc {
        flags.push(format!("--add-runtime=runsc={}", runsc.display()));
    }
    if walls.remap.is_none() {
        return host.program("dockerd").args(flags);
    }
    flags.push("--userns-remap=daemon".to_owned());
    // the machine's own ranges are left alone: it sees ours in their place, and no later mount less
    let script = "for f in subuid subgid; do touch /etc/$f; mount --bind \"$0/$f\" /etc/$f; done; \
                  exec dockerd \"$@\"";
    let shell = host.program("unshare").args(["-m", "--propagation", "slave", "sh", "-c", script]);
    shell.args([folder]).args(flags)
}

/// Has what is mounted below a folder later on seen by those who have mounts of their own, as a machine's
/// root is shared where it was started by an init. The stage unmounts it.
fn share(folder: &Path) -> Result<()> {
    for how in [&["--bind"][..], &["--make-shared"]] {
        let places: &[&Path] = if how == ["--bind"] { &[folder, folder] } else { &[folder] };
        Program::new("mount").args(how).args(places).run()?.success()?;
    }
    Ok(())
}

/// Kills every process below a cgroup.
fn kill_cgroup(folder: &Path) {
    for child in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            kill_cgroup(&child.path());
        }
    }
    let listed = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    for pid in listed.lines().filter_map(|pid| rustix::process::Pid::from_raw(pid.parse().ok()?)) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

/// Removes a cgroup with its children, the deepest first; a cgroup is a folder that only `rmdir` removes.
fn remove_cgroup(folder: &Path) {
    for child in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if child.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&child.path());
        }
    }
    std::fs::remove_dir(folder).ok();
}

/// Returns the engine's answer about one container as JSON.
///
/// # Errors
/// Fails where there is no such container.
pub fn inspect(engine: &Engine, container: &str) -> Result<serde_json::Value> {
    let answer = engine.docker(&["inspect", container])?.json()?;
    match answer.get(0) {
        Some(container) => Ok(container.clone()),
        None => bail!("docker inspect {container} answered nothing"),
    }
}
