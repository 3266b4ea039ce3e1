//! The distribution's own programs, `nft` and `ip`: run with a deadline, bounded, in our language.

use std::{io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::Command,
    time::timeout,
};
use warren_common::{Limits, status};

/// Where they lie on any distribution; a daemon's own path may lack the `sbin`s.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Why a program did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ToolError {
    /// It is not installed.
    #[error("{program} is not installed")]
    Missing {
        /// Which.
        program: &'static str,
    },
    /// It cannot be run or spoken to.
    #[error("cannot run {program}: {why}")]
    Broken {
        /// Which.
        program: &'static str,
        /// What the system said.
        why: String,
    },
    /// It took too long.
    #[error("{program} did not end within {} s", after.as_secs())]
    Timeout {
        /// Which.
        program: &'static str,
        /// How long it had.
        after: Duration,
    },
    /// It said no.
    #[error("{program} refused: {said}")]
    Refused {
        /// Which.
        program: &'static str,
        /// The first line of what it said.
        said: String,
    },
}

/// Runs a program with this input and returns what it wrote. Dropping the future ends it.
///
/// # Errors
/// It is missing, fails, writes without end, or takes longer than [`Limits::TOOL_TIMEOUT`].
pub async fn run(
    program: &'static str,
    arguments: &[&str],
    input: &str,
) -> Result<Vec<u8>, ToolError> {
    let broken = |error: &io::Error| ToolError::Broken { program, why: error.to_string() };
    let mut command = Command::new(program);
    command
        .args(arguments)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => ToolError::Missing { program },
        _ => broken(&error),
    })?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        let feed = async {
            if let Some(mut stdin) = stdin {
                // one that ends early says why on stderr
                let _ = stdin.write_all(input.as_bytes()).await;
            }
        };
        let most = u64::try_from(Limits::TOOL_BYTES).unwrap_or(u64::MAX);
        let (out, said) = (gather(stdout, most), gather(stderr, 64 * 1024));
        let ((), out, said) = tokio::join!(feed, out, said);
        let (out, said) =
            (out.map_err(|error| broken(&error))?, said.map_err(|error| broken(&error))?);
        let ended = child.wait().await.map_err(|error| broken(&error))?;
        Ok::<_, ToolError>((ended.success(), out, said))
    };
    let after = Limits::TOOL_TIMEOUT;
    let (well, out, said) =
        timeout(after, work).await.map_err(|_| ToolError::Timeout { program, after })??;
    if well {
        return Ok(out);
    }
    let said = String::from_utf8_lossy(&said);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason was given");
    Err(ToolError::Refused { program, said: status::reason(first) })
}

/// Returns what is written, up to `most` bytes; reads on to the end, so that nobody waits for it.
async fn gather(from: Option<impl AsyncRead + Unpin>, most: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    if let Some(mut from) = from {
        (&mut from).take(most).read_to_end(&mut kept).await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_written_comes_back_and_a_refusal_says_why() {
        let echoed = run("cat", &[], "a\nb").await.expect("cat");
        assert_eq!(echoed, b"a\nb");
        let refused = run("ls", &["/no/such/folder"], "").await.expect_err("refused");
        assert!(refused.to_string().contains("/no/such/folder"), "{refused}");
        let long = run("sh", &["-c", "yes no | head -n 200000 >&2; exit 1"], "").await;
        assert_eq!(long.expect_err("refused").to_string(), "sh refused: no");
        let missing = run("warren-no-such-program", &[], "").await.expect_err("missing");
        assert_eq!(missing.to_string(), "warren-no-such-program is not installed");
    }
}
