//! What a person does today without an orchestrator: a container of the same image with the same
//! limits, and a script in it that clones, answers the agent's first questions, and starts tmux.

use std::time::Duration;

use anyhow::{Context as _, Result};
use warren_common::Timestamp;
use warren_daemon::clock;

use super::home::{IMAGE, PROMPT, Step, TOKEN, environment, since};
use crate::{Lab, Program};

/// From `docker run` to the prompt, on a busy machine.
const SOON: Duration = Duration::from_secs(180);

/// Makes one container and returns its steps, the prompt last.
///
/// # Errors
/// Fails where a step of the script does.
pub(super) fn round(lab: &Lab, number: usize, url: &str) -> Result<Vec<Step>> {
    let name = format!("by-hand-{number}");
    let began = clock::now();
    let limits = ["--memory", "4g", "--memory-swap", "4g", "--pids-limit", "512"];
    let run = [&["run", "-i", "--rm", "--name", &name, "--network", "bench"][..], &limits].concat();
    let run = Program::new("docker").env("DOCKER_HOST", lab.engine.url()).args(run);
    // the script comes through standard input: its token stands in no command line
    let shell = run.args(["--entrypoint", "/bin/bash", IMAGE, "-s"]).input(script(lab, url)?);
    let said = shell.within(SOON).run()?.success()?.stdout;
    let step = |line: &str| -> Result<Step> {
        let (at, name) = line.split_once(' ').with_context(|| format!("{line:?} is no step"))?;
        let ends = since(began, Timestamp(at.parse()?));
        Ok(Step { name: name.to_owned(), ends, took: None })
    };
    said.lines().map(step).collect()
}

fn script(lab: &Lab, url: &str) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("a URL")?;
    let host = rest.split('/').next().context("a host")?;
    let environment = environment(lab);
    Ok(format!(
        r#"set -euo pipefail
did() {{ echo "$(date +%s%3N) $1"; }}
did "container runs"
umask 077
printf '%s://x-access-token:%s@%s\n' {scheme} {TOKEN} {host} > ~/.git-credentials
git config --global credential.helper store
git clone -q {url} ~/web
did "clone"
printf '{{"hasCompletedOnboarding":true,"projects":{{"%s":{{"hasTrustDialogAccepted":true}}}}}}' ~/web > ~/.claude.json
export TMUX_TMPDIR=/tmp
tmux new-session -d -s main -x 200 -y 50 -c ~/web "{environment} claude"
did "session"
n=0
until tmux capture-pane -p -t main | grep -q '{PROMPT}'; do
  n=$((n+1)); if [ $n -gt 3000 ]; then tmux capture-pane -p -t main >&2; exit 1; fi
  sleep 0.05
done
did "prompt on the screen"
"#
    ))
}
