//! One coordinator as a process, with its folder and the ports it took.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::{
    Daemon, Host, Output, Program, Stage,
    cluster::{START, at},
    program::binary,
    wait_until,
};

/// One coordinator.
#[derive(Debug)]
pub struct Coordinator {
    host: Option<Arc<Host>>,
    folder: PathBuf,
    process: Option<Daemon>,
}

impl Coordinator {
    /// Makes its folder and configuration.
    ///
    /// # Errors
    /// Fails where they cannot be written.
    pub fn new(stage: &Stage, name: &str, host: Option<Arc<Host>>) -> Result<Self> {
        let folder = stage.folder(name)?;
        let address = host.as_ref().map_or("127.0.0.1", |host| host.address());
        let config = format!(
            "[listen]\napi = \"{address}:0\"\nraft = \"{address}:0\"\nmetrics = \"127.0.0.1:0\"\n\
             [paths]\nstate = \"{}\"\nsocket = \"{}\"\n",
            folder.join("state").display(),
            folder.join("c.sock").display(),
        );
        fs::write(folder.join("coordinator.toml"), config)?;
        Ok(Self { host, folder, process: None })
    }

    /// Starts its process, on the ports it had where it ran before.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start(&mut self) -> Result<()> {
        self.start_in(&[])
    }

    /// As [`Coordinator::start`], in an environment of its own.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start_in(&mut self, environment: &[(&str, String)]) -> Result<()> {
        self.keep_ports()?;
        let program = environment
            .iter()
            .fold(self.program()?, |program, (name, value)| program.env(name, value));
        self.process = Some(Daemon::start("coordinator", &self.folder, program)?);
        Ok(())
    }

    /// Names its program with its configuration.
    ///
    /// # Errors
    /// Fails where it was not built.
    pub fn program(&self) -> Result<Program> {
        let program = at(self.host.as_ref(), binary("warren-coordinator")?);
        Ok(program.args(["--config".as_ref(), self.folder.join("coordinator.toml").as_os_str()]))
    }

    /// Runs `warren-coordinator join` on its machine, expecting success.
    ///
    /// # Errors
    /// Fails with what it wrote where its exit code is not 0.
    pub fn join(&self, token: &str) -> Result<Output> {
        self.keep_ports()?;
        self.program()?.args(["join", token]).run()?.success()
    }

    /// Writes the ports taken by the first start into the configuration: others remember them.
    ///
    /// # Errors
    /// Fails where they cannot be read or written.
    pub fn keep_ports(&self) -> Result<()> {
        let Ok(text) = fs::read_to_string(self.folder.join("state/addresses.json")) else {
            return Ok(());
        };
        let taken: Value = serde_json::from_str(&text)?;
        let path = self.folder.join("coordinator.toml");
        let mut config = fs::read_to_string(&path)?;
        for name in ["api", "raft"] {
            let address = taken[name].as_str().with_context(|| format!("no {name} in {text}"))?;
            let lines = config.lines().map(|line| match line.starts_with(&format!("{name} = ")) {
                true => format!("{name} = \"{address}\"\n"),
                false => format!("{line}\n"),
            });
            config = lines.collect();
        }
        Ok(fs::write(path, config)?)
    }

    /// Waits until its local socket is there.
    ///
    /// # Errors
    /// Fails where it ends or the socket does not come.
    pub fn wait_socket(&mut self) -> Result<()> {
        wait_until("the bootstrap socket answers", START, || {
            let answered = std::os::unix::net::UnixStream::connect(self.socket());
            // one that has ended says why in its log
            self.process()?.check()?;
            Ok(answered.map(drop)?)
        })
    }

    /// Adds lines to its configuration, for its next start.
    ///
    /// # Errors
    /// Fails where they cannot be written.
    pub fn configure(&self, lines: &str) -> Result<()> {
        let path = self.folder.join("coordinator.toml");
        let config = fs::read_to_string(&path)?;
        Ok(fs::write(path, config + lines)?)
    }

    /// Loses its machine: its process is killed, its state and the person's contexts are moved to
    /// `lost/`. The next start finds nothing, on other ports.
    ///
    /// # Errors
    /// Fails where there is nothing to lose.
    pub fn lose(&mut self) -> Result<PathBuf> {
        self.kill()?;
        let lost = self.folder.join("lost");
        fs::create_dir_all(&lost)?;
        for name in ["state", "config"] {
            fs::rename(self.folder.join(name), lost.join(name))?;
        }
        self.forget_ports()?;
        Ok(lost)
    }

    /// Empties its state folder while it is killed, as if it had never been started.
    ///
    /// # Errors
    /// Fails while it runs or where the folder cannot be removed.
    pub fn wipe(&mut self) -> Result<()> {
        anyhow::ensure!(self.process.is_none(), "the coordinator runs");
        fs::remove_dir_all(self.folder.join("state"))?;
        self.forget_ports()
    }

    fn forget_ports(&self) -> Result<()> {
        self.listen(0, 0)
    }

    /// Says on which ports it listens from its next start on; 0 takes a free one.
    ///
    /// # Errors
    /// Fails where the configuration cannot be written.
    pub fn listen(&self, api: u16, raft: u16) -> Result<()> {
        let path = self.folder.join("coordinator.toml");
        let address = self.host.as_ref().map_or("127.0.0.1", |host| host.address());
        let config = fs::read_to_string(&path)?;
        let ports = [("api", api), ("raft", raft)];
        let lines = config.lines().map(|line| {
            let named = ports.iter().find(|(name, _)| line.starts_with(&format!("{name} = ")));
            named.map_or_else(
                || format!("{line}\n"),
                |(name, port)| format!("{name} = \"{address}:{port}\"\n"),
            )
        });
        let config: String = lines.collect();
        Ok(fs::write(path, config)?)
    }

    /// Returns its local socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.join("c.sock")
    }

    /// Returns its process.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn process(&mut self) -> Result<&mut Daemon> {
        self.process.as_mut().context("the coordinator is stopped")
    }

    /// Returns its process id; none while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Daemon::pid)
    }

    /// Kills it with SIGKILL.
    ///
    /// # Errors
    /// Fails while it is stopped.
    pub fn kill(&mut self) -> Result<()> {
        self.process.take().context("the coordinator is stopped")?.kill()
    }

    /// Stops it with SIGTERM and waits.
    ///
    /// # Errors
    /// Fails where it does not end in time.
    pub fn stop(&mut self) -> Result<()> {
        self.process.take().context("the coordinator is stopped")?.terminate(START)
    }

    /// Returns its folder: `state/` and the log.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// Returns its API address.
    ///
    /// # Errors
    /// Fails before it has started once.
    pub fn api_address(&self) -> Result<String> {
        let text = fs::read_to_string(self.folder.join("state/addresses.json"))?;
        let taken: Value = serde_json::from_str(&text)?;
        Ok(taken["api"].as_str().context("no api address")?.to_owned())
    }
}
