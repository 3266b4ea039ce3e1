//! What a watch tells, as it comes.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use serde_json::Value;
use warren_common::Timestamp;
use warren_daemon::clock;

use crate::{Cluster, Program, wait_until};

/// `warren … --watch -o json`, read as it comes; killed when dropped.
#[derive(Debug)]
pub struct Watching {
    child: Child,
    /// Each with the moment at which it was read.
    lines: Arc<Mutex<Vec<(Timestamp, Value)>>>,
}

impl Watching {
    /// Starts the command line of a cluster.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn start(cluster: &Cluster, arguments: &[&str]) -> Result<Self> {
        Self::of(cluster.cli()?.args(arguments))
    }

    /// Starts a command line that watches.
    ///
    /// # Errors
    /// Fails where it cannot be started.
    pub fn of(program: Program) -> Result<Self> {
        let mut command = program.into_command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        let stdout = BufReader::new(child.stdout.take().context("piped")?);
        let lines = Arc::new(Mutex::new(Vec::new()));
        let read = Arc::clone(&lines);
        thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let line = serde_json::from_str(&line).unwrap_or(Value::String(line));
                let mut lines = read.lock().unwrap_or_else(PoisonError::into_inner);
                lines.push((clock::now(), line));
            }
        });
        Ok(Self { child, lines })
    }

    /// What was told of one kind: the objects' addresses, in order.
    pub fn told(&self, event: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of = lines.iter().filter(|(_, line)| line["event"] == event);
        of.map(|(_, line)| line["address"].as_str().unwrap_or("-").to_owned()).collect()
    }

    /// What was told of one kind about an address, in order: the words for people.
    pub fn details(&self, event: &str, address: &str) -> Vec<String> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of =
            lines.iter().filter(|(_, line)| line["event"] == event && line["address"] == address);
        of.map(|(_, line)| line["detail"].as_str().unwrap_or("-").to_owned()).collect()
    }

    /// The newest object that was told of an address, and when; null where there was none.
    pub fn newest(&self, address: &str) -> (Timestamp, Value) {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of = lines.iter().rfind(|(_, line)| line["address"] == address);
        of.map(|(at, line)| (*at, line["object"].clone())).unwrap_or_default()
    }

    /// Where the events stand that were told.
    pub fn places(&self) -> Vec<(u64, u64)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let events = lines.iter().filter(|(_, line)| line["index"].is_u64());
        events
            .filter_map(|(_, line)| Some((line["revision"].as_u64()?, line["index"].as_u64()?)))
            .collect()
    }

    /// Waits until something was told of an object.
    ///
    /// # Errors
    /// Fails with what was told where it was not within a minute.
    pub fn until(&self, event: &str, address: &str) -> Result<()> {
        wait_until(&format!("{event} {address}"), Duration::from_secs(60), || {
            let told = self.told(event);
            anyhow::ensure!(told.iter().any(|one| one == address), "told so far: {told:?}");
            Ok(())
        })
    }

    /// Every object that was told so far, with the moment at which it was read.
    pub fn objects(&self) -> Vec<(Timestamp, String, Value)> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let of = lines.iter().filter(|(_, line)| line["object"].is_object());
        let address = |line: &Value| line["address"].as_str().unwrap_or_default().to_owned();
        of.map(|(at, line)| (*at, address(line), line["object"].clone())).collect()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
