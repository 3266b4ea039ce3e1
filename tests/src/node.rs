//! One node agent as a process, with its folder.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};

use crate::{
    Daemon, Host, Output, Program, Stage,
    cluster::{START, at},
    program::binary,
    wait_until,
};

/// One node agent.
#[derive(Debug)]
pub struct Node {
    name: String,
    host: Option<Arc<Host>>,
    folder: PathBuf,
    /// The file that it sees as `/etc/machine-id`; this machine's own without one.
    machine: Option<PathBuf>,
    /// The process; none while it is stopped.
    pub agent: Option<Daemon>,
}

impl Node {
    /// Names a node that has joined and whose agent is not started.
    pub(crate) fn new(name: &str, host: Option<Arc<Host>>, folder: PathBuf) -> Self {
        Self { name: name.to_owned(), host, folder, machine: None, agent: None }
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its folder, with `state/` and the log.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Starts the agent's process, from the binary as it is now.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_binary(binary("warren-node-agent")?)
    }

    /// Starts the agent's process in an environment of its own.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start_in(&mut self, environment: &[(&str, String)]) -> Result<()> {
        let mut program = self.program(binary("warren-node-agent")?);
        for (name, value) in environment {
            program = program.env(name, value);
        }
        self.agent = Some(Daemon::start("node-agent", &self.folder, program)?);
        Ok(())
    }

    /// Copies its state folder as it is now, for an agent in another host that is not started yet.
    ///
    /// # Errors
    /// Fails where it cannot be copied.
    pub fn copy(&self, stage: &Stage, name: &str, host: Option<Arc<Host>>) -> Result<Self> {
        let folder = stage.folder(name)?;
        let state = self.folder.join("state");
        // files come and go in the state of an agent that runs
        wait_until("its state is copied", START, || {
            let copying = Program::new("cp").args(["-a"]).args([&state, &folder]);
            copying.run()?.success().map(drop)
        })?;
        let config = fs::read_to_string(self.folder.join("node-agent.toml"))?;
        let [ours, theirs] =
            [&self.folder, &folder].map(|one| one.join("state").display().to_string());
        let config = config.replace(&ours, &theirs);
        let run = stage.folder(&format!("run-{name}"))?;
        let runtime = format!("runtime_dir = \"{}\"\n", run.display());
        let lines = config.lines().filter(|line| !line.starts_with("runtime_dir"));
        let config = runtime + &lines.collect::<Vec<_>>().join("\n");
        fs::write(folder.join("node-agent.toml"), config)?;
        Ok(Self { name: self.name.clone(), host, folder, machine: None, agent: None })
    }

    /// Lets it see another `/etc/machine-id`, as another machine has, from its next start on.
    ///
    /// # Errors
    /// Fails where the file cannot be written.
    pub fn move_to_machine(&mut self, id: &str) -> Result<()> {
        let file = self.folder.join("machine-id");
        fs::write(&file, format!("{id}\n"))?;
        self.machine = Some(file);
        Ok(())
    }

    fn program(&self, binary: PathBuf) -> Program {
        let config = self.folder.join("node-agent.toml");
        let program = match &self.machine {
            None => at(self.host.as_ref(), binary),
            Some(file) => {
                let script = "mount --bind \"$0\" /etc/machine-id && exec \"$@\"";
                let shell = at(self.host.as_ref(), PathBuf::from("unshare"));
                let shell = shell.args(["-m", "--propagation", "slave", "sh", "-c", script]);
                shell.args([file, &binary])
            }
        };
        program.args(["run".as_ref(), "--config".as_ref(), config.as_os_str()])
    }

    /// Starts the agent's process from another build.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start_binary(&mut self, binary: PathBuf) -> Result<()> {
        let program = self.program(binary);
        self.agent = Some(Daemon::start("node-agent", &self.folder, program)?);
        Ok(())
    }

    /// Runs another command of the agent with its configuration, expecting success.
    ///
    /// # Errors
    /// Fails with what it wrote where its exit code is not 0.
    pub fn command(&self, arguments: &[&str]) -> Result<Output> {
        self.try_command(arguments)?.success()
    }

    /// Runs another command of the agent with its configuration, whatever its exit code.
    ///
    /// # Errors
    /// Fails where it cannot be run.
    pub fn try_command(&self, arguments: &[&str]) -> Result<Output> {
        let config = self.folder.join("node-agent.toml");
        let program = at(self.host.as_ref(), binary("warren-node-agent")?);
        program.args(arguments).args(["--config".as_ref(), config.as_os_str()]).run()
    }

    /// Returns what the running agent has counted, by the name and labels of a series as a scrape
    /// shows them; 0 before the first.
    ///
    /// # Errors
    /// Fails where it cannot be scraped.
    pub fn counted(&self, series: &str) -> Result<u64> {
        let addresses = fs::read_to_string(self.folder.join("state/addresses.json"))?;
        let addresses: serde_json::Value = serde_json::from_str(&addresses)?;
        let url = format!("http://{}/metrics", addresses["metrics"].as_str().context("metrics")?);
        let scrape = at(self.host.as_ref(), PathBuf::from("curl"));
        let text = scrape.args(["-fsS", "--max-time", "5", &url]).run()?.success()?.stdout;
        let count = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        Ok(count.map(str::parse).transpose()?.unwrap_or(0))
    }

    /// Kills the agent's process with SIGKILL.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn kill(&mut self) -> Result<()> {
        self.agent.take().context("the agent is stopped")?.kill()
    }
}
