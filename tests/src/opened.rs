//! `workspace open`, as a person's machine runs it.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
};

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::Lab;

/// `workspace open`, ended when it is dropped.
#[derive(Debug)]
pub struct Opened {
    child: Child,
    /// Where it is open, with the token of a page.
    pub url: String,
}

impl Opened {
    /// Opens something of a workspace, such as `["playwright", "--control", "1"]`.
    ///
    /// # Errors
    /// Fails with what the command says where it does not open.
    pub fn new(lab: &Lab, workspace: &str, target: &[&str]) -> Result<Self> {
        let arguments = [&["workspace", "open", workspace, "-o", "json"], target].concat();
        let mut command = lab.cluster.cli()?.args(arguments).into_command();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("piped")?).read_line(&mut line)?;
        let opened: Value = serde_json::from_str(&line).context("it is open")?;
        let url = opened["url"].as_str().context("a URL")?.to_owned();
        Ok(Self { child, url })
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // one that has ended is what is wanted
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
