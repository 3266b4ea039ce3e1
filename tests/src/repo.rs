//! A small HTTP server of git repositories, good and bad, for workspaces to clone from.
//!
//! `/<name>.git/…` serves a bare repository's files (git's dumb protocol); `/private.git/…` asks
//! for a password and takes none; a repository with a file `<name>.authorization` is given to whoever
//! shows that header; `/hang.git/…` takes the request and never answers; anything else is not found.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    path::{Component, Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{Daemon, Host, Program, Stage, program::binary, wait_until};

/// The port it listens on, in a host of its own.
pub const PORT: u16 = 80;

/// Starts the server as a process in a host's network, with one repository `hello.git` of two commits.
///
/// # Errors
/// Fails where git or the server does.
pub fn start(stage: &Stage, host: &Host) -> Result<Daemon> {
    let folder = stage.folder("repos")?;
    make_repository(&folder, "hello")?;
    let address = format!("{}:{PORT}", host.address());
    let program = host.program(binary("warren-test-repo-server")?);
    let program = program.args([folder.as_os_str(), address.as_ref()]);
    let mut daemon = Daemon::start("repo-server", stage.root(), program)?;
    wait_until("the repository server listens", Duration::from_secs(10), || {
        daemon.check()?;
        anyhow::ensure!(daemon.log().contains("listening"), "it does not say so yet");
        Ok(())
    })?;
    Ok(daemon)
}

/// Makes `<folder>/<name>.git` that is given to this user with this password alone.
///
/// # Errors
/// Fails where git does.
pub fn make_locked(folder: &Path, name: &str, (user, password): (&str, &str)) -> Result<()> {
    make_repository(folder, name)?;
    let encoded = Program::new("base64").args(["-w0"]).input(format!("{user}:{password}"));
    let encoded = encoded.run()?.success()?.stdout;
    Ok(fs::write(folder.join(format!("{name}.authorization")), format!("Basic {encoded}"))?)
}

/// Returns the repositories for which the server was shown a password, in their order.
///
/// # Errors
/// Fails where what was noted cannot be read.
pub fn shown(folder: &Path) -> Result<Vec<String>> {
    let path = folder.join(SHOWN);
    let text = if path.exists() { fs::read_to_string(path)? } else { String::new() };
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.dedup();
    Ok(names)
}

/// Where the server notes for what it was shown a password.
const SHOWN: &str = "shown";

/// Makes `<folder>/<name>.git` with a readme and a script.
///
/// # Errors
/// Fails where git does.
pub fn make_repository(folder: &Path, name: &str) -> Result<()> {
    let work = folder.join(format!("{name}-work"));
    fs::create_dir_all(&work)?;
    let work = work.to_string_lossy().into_owned();
    let git = |arguments: &[&str]| -> Result<()> {
        let identity = ["-c", "user.name=Test", "-c", "user.email=test@warren.invalid"];
        let program = Program::new("git").args(["-C", &work]).args(identity).args(arguments);
        program.run()?.success().map(drop)
    };
    git(&["init", "-q", "-b", "main"])?;
    fs::write(Path::new(&work).join("README.md"), "hello from the repository\n")?;
    git(&["add", "."])?;
    git(&["commit", "-qm", "first"])?;
    fs::write(Path::new(&work).join("count.sh"), COUNTER)?;
    git(&["add", "."])?;
    git(&["commit", "-qm", "second"])?;
    let bare = folder.join(format!("{name}.git")).to_string_lossy().into_owned();
    Program::new("git").args(["clone", "-q", "--bare", &work, &bare]).run()?.success()?;
    Program::new("git").args(["-C", &bare, "update-server-info"]).run()?.success()?;
    Ok(())
}

/// A program whose progress proves that it was never stopped.
const COUNTER: &str = "#!/bin/bash\nn=0\nwhile true; do n=$((n+1)); echo \"$n\" > \"$HOME/count\"; \
                       echo \"tick $n\"; read -rt 0.1 <> <(:) || :; done\n";

/// Serves `folder` on `address` for ever.
///
/// # Errors
/// Fails where the address cannot be bound.
pub fn serve(folder: &Path, address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).with_context(|| format!("cannot bind {address}"))?;
    eprintln!("listening on {address}");
    for stream in listener.incoming() {
        let folder = folder.to_owned();
        thread::spawn(move || {
            if let Err(error) =
                stream.map_err(Into::into).and_then(|stream| answer(&folder, stream))
            {
                eprintln!("{error:#}");
            }
        });
    }
    Ok(())
}

fn answer(folder: &Path, mut stream: TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut header = String::new();
    let mut authorization = String::new();
    while reader.read_line(&mut header)? > 2 {
        if let Some((name, value)) = header.split_once(':')
            && name.eq_ignore_ascii_case("authorization")
        {
            value.trim().clone_into(&mut authorization);
        }
        header.clear();
    }
    let target = request.split(' ').nth(1).unwrap_or("/");
    let path = target.split('?').next().unwrap_or("/").trim_start_matches('/').to_owned();
    eprintln!("{}", request.trim());
    if path.starts_with("hang.git") {
        // the client's own deadline must end this; the socket is kept open until it goes away
        let mut rest = String::new();
        stream.set_read_timeout(None)?;
        while reader.read_line(&mut rest)? > 0 {}
        return Ok(());
    }
    let repository = path.split(".git").next().unwrap_or_default();
    if !authorization.is_empty() {
        let mut notes =
            fs::OpenOptions::new().create(true).append(true).open(folder.join(SHOWN))?;
        writeln!(notes, "{repository}")?;
    }
    let wanted = fs::read_to_string(folder.join(format!("{repository}.authorization")));
    let locked = wanted.is_ok_and(|wanted| wanted != authorization);
    if path.starts_with("private.git") || locked {
        let head = "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=\"repo\"\r\n";
        return Ok(write!(stream, "{head}Content-Length: 0\r\nConnection: close\r\n\r\n")?);
    }
    let plain = Path::new(&path).components().all(|part| matches!(part, Component::Normal(_)));
    match fs::read(folder.join(PathBuf::from(&path))) {
        Ok(body) if plain => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
            )?;
            stream.write_all(&body)?;
        }
        _ => write!(
            stream,
            "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )?,
    }
    Ok(())
}
