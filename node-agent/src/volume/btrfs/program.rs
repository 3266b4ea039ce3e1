//! Runs the distribution's own programs, each with a deadline.
//!
//! They are named by their whole path, found in the folders where a distribution puts them: the
//! agent's own environment is not asked. A program that hangs in the kernel cannot be killed; it is
//! left behind then, and the caller told.

use std::{
    ffi::OsStr,
    io::Read,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::VolumeError;

/// Where programs are.
const FOLDERS: [&str; 6] =
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
/// Most programs.
pub(super) const SOON: Duration = Duration::from_secs(30);
/// Programs that go through a whole filesystem's metadata.
pub(super) const LONG: Duration = Duration::from_secs(300);
/// Bytes of output that are read; a pool has hundreds of quota groups, each in a line.
const OUTPUT: u64 = 4 << 20;
/// Between two looks whether a program has ended: from, to.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// Returns the whole path of a program; none where it is not installed.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    FOLDERS.iter().map(|folder| PathBuf::from(folder).join(program)).find(|path| path.exists())
}

/// Runs a program to its end and returns what it wrote.
///
/// # Errors
/// It is not installed, did not end in time, or failed.
pub(super) fn run(
    program: &'static str,
    arguments: &[&dyn AsRef<OsStr>],
    within: Duration,
) -> Result<String, VolumeError> {
    let arguments: Vec<&OsStr> = arguments.iter().map(|one| (*one).as_ref()).collect();
    let line = || {
        let words: Vec<_> = arguments.iter().map(|one| one.to_string_lossy()).collect();
        format!("{program} {}", words.join(" "))
    };
    let path = find(program).ok_or_else(|| VolumeError::Pool {
        what: format!("the program {program} is not installed"),
        next: "install the packages btrfs-progs and mount (util-linux)".to_owned(),
    })?;
    let failed = |said: String| VolumeError::Program { program: line(), said };
    let child = Command::new(path)
        .args(&arguments)
        .env_clear()
        .env("LC_ALL", "C")
        .env("PATH", FOLDERS.join(":"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = child.map_err(|error| failed(error.to_string()))?;
    let (out, err) = (read(child.stdout.take()), read(child.stderr.take()));
    let status = wait(&mut child, within).map_err(|error| failed(error.to_string()))?;
    let Some(status) = status else {
        // one that waits in the kernel dies when it comes back
        let _ = child.kill();
        thread::spawn(move || child.wait());
        return Err(VolumeError::Timeout { program: line(), after: within });
    };
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (out, err) = (text(out), text(err));
    if status.success() {
        return Ok(out);
    }
    let said = err.lines().chain(out.lines()).map(str::trim).filter(|line| !line.is_empty());
    let said: Vec<&str> = said.take(4).collect();
    let said = if said.is_empty() { status.to_string() } else { said.join(", ") };
    Err(failed(said.chars().take(400).collect()))
}

fn read(from: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut from) = from {
            // what is past the bound is drained, so that nobody waits for room in the pipe
            let _ = from.by_ref().take(OUTPUT).read_to_end(&mut bytes);
            let _ = std::io::copy(&mut from, &mut std::io::sink());
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Waits for the end; none where it did not come in time.
fn wait(child: &mut Child, within: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let (until, mut pause) = (Instant::now() + within, POLL.0);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= until {
            return Ok(None);
        }
        thread::sleep(pause);
        pause = (pause * 2).min(POLL.1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_wrote_is_returned_and_what_it_complained_of_is_the_error() {
        assert_eq!(run("echo", &[&"a b"], SOON).expect("it runs"), "a b\n");
        let error = run("ls", &[&"/no/such/path"], SOON).expect_err("it fails").to_string();
        assert!(error.contains("ls /no/such/path failed") && error.contains("No such"), "{error}");
    }

    #[test]
    fn one_that_is_missing_or_hangs_is_told() {
        let error = run("no-such-program", &[], SOON).expect_err("missing");
        assert_eq!(error.code(), "POOL_UNUSABLE");
        assert!(error.to_string().contains("not installed; install"), "{error}");
        let begun = Instant::now();
        let error = run("sleep", &[&"60"], Duration::from_millis(50)).expect_err("too long");
        assert!(matches!(error, VolumeError::Timeout { .. }), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
}
