//! Secrets that are looked for everywhere: A31 of the threat catalogue, and A's workspace against
//! B's vault.
//!
//! A canary is a value that nothing else can hold. Its bytes, and what base64 and hex make of them,
//! are searched in every file that the daemons wrote, in the arguments and environments of every
//! process, in what the engine tells, and in a backup, which is opened for it. The scanner is blind
//! where it does not find the same canary in a file and in an environment that the test itself
//! plants, or the name of the secret in the newest checkpoint, in Raft's log and in the backup's
//! state. No command gathers a bundle for support: what one could be gathered from is searched here.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use warren_daemon::{Secret, backup};
use warren_tests::{Lab, Program, wait_until};

const ACME: &str = "canary-a7f3e1c9d4-acme";
const BETA: &str = "canary-b2d8c6f0a5-beta";
const SHARED: &str = "canary-c9e4b7a1f3-shared";
/// What the state knows of a secret, and a search for it must find.
const NAME: &str = "git-token";
const PASSPHRASE: &str = "correct horse battery staple";

/// A canary as it may be written: as it is, in base64 at each of the three offsets, in hex.
fn shapes(canary: &str) -> Result<Vec<Vec<u8>>> {
    let mut shapes = vec![canary.as_bytes().to_vec()];
    for before in ["", "x", "xx"] {
        let text = format!("{before}{canary}");
        let coded = Program::new("base64").args(["-w0"]).input(text).run()?.success()?.stdout;
        // what is around it changes the first and the last letters
        shapes.push(coded.as_bytes()[4..coded.len() - 4].to_vec());
    }
    let hex: String = canary.bytes().map(|byte| format!("{byte:02x}")).collect();
    shapes.push(hex.into_bytes());
    Ok(shapes)
}

/// What is searched for.
struct Scanner(Vec<Vec<u8>>);

impl Scanner {
    fn new() -> Result<Self> {
        let all = [ACME, BETA, SHARED].into_iter().map(shapes);
        Ok(Self(all.collect::<Result<Vec<_>>>()?.concat()))
    }

    /// Looks for the name of a secret, which is none.
    fn of_its_name() -> Self {
        Self(vec![NAME.as_bytes().to_vec()])
    }

    fn finds(&self, bytes: &[u8]) -> bool {
        // every shape begins with one of few bytes: a plain search is quick enough
        self.0.iter().any(|shape| {
            let first = shape[0];
            let mut rest = bytes;
            while let Some(at) = rest.iter().position(|byte| *byte == first) {
                rest = &rest[at..];
                if rest.starts_with(shape) {
                    return true;
                }
                rest = &rest[1..];
            }
            false
        })
    }

    /// Returns the files below a folder that hold one, those on another filesystem aside. A stage
    /// holds the engine's images, too: grep reads those quicker than this program would.
    fn files(&self, folder: &Path) -> Result<Vec<PathBuf>> {
        let mut find = Program::new("find").args([folder]).args(["-xdev", "-type", "f"]);
        find = find.args(["-exec", "grep", "-laF"]);
        for shape in &self.0 {
            find = find.args(["-e", std::str::from_utf8(shape)?]);
        }
        // what goes away meanwhile is not there any more
        let found = find.args(["{}", "+"]).within(Duration::from_secs(120)).run()?.stdout;
        Ok(found.lines().map(PathBuf::from).collect())
    }

    /// Returns the processes whose arguments or environment hold one.
    fn processes(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc")?.flatten() {
            for name in ["cmdline", "environ"] {
                let path = entry.path().join(name);
                if fs::read(&path).is_ok_and(|bytes| self.finds(&bytes)) {
                    found.push(path.display().to_string());
                }
            }
        }
        Ok(found)
    }
}

fn set(lab: &Lab, words: &[&str], value: &str) -> Result<()> {
    let arguments = [&["secret", "set"], words, &["@-"]].concat();
    lab.cluster.cli()?.args(arguments).input(value).run()?.success().map(drop)
}

#[test]
fn no_canary_leaves_its_vault_and_none_of_b_reaches_a() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.cluster.configure("[raft]\ncheckpoint_entries = 100\n")?;
    lab.cluster.kill_coordinator()?;
    lab.cluster.start_coordinator()?;
    lab.cluster.wait_ready("n1")?;
    let scanner = Scanner::new()?;
    set(&lab, &["acme", "git-token"], ACME)?;
    set(&lab, &["beta", "git-token"], BETA)?;
    set(&lab, &["--shared", "tool"], SHARED)?;
    lab.create("acme/a", &["--repo", &lab.repository("hello")])?;
    lab.create("beta/b", &[])?;
    // rotated, so that an old value is somewhere too, and used, so that a log might say it
    set(&lab, &["beta", "git-token"], BETA)?;
    ensure!(lab.shell("acme/a", "cat /run/secrets/git-token")? == ACME, "the canary is there");
    ensure!(lab.shell("beta/b", "cat /run/secrets/git-token")? == BETA);
    lab.shell("acme/a", "cd ~/hello && git fetch -q")?;
    uses_it_in_tools(&lab)?;
    waits_for_a_checkpoint(&lab)?;

    scans_everything(&lab, &scanner)?;
    a_gets_nothing_of_b(&lab)?;
    Ok(())
}

/// A workspace whose tools and servers are given the canary; a server and a tool that last hold none.
fn uses_it_in_tools(lab: &Lab) -> Result<()> {
    let folder = lab.stage.folder("tools")?;
    fs::write(
        folder.join("template.toml"),
        "[workspace]\nsetup = \"mkdir -p ~/.local/bin; cd ~/.local/bin; \
         printf 'cat $2/auth.json | wc -c; exec sleep 1000' > vercel; \
         printf 'wc -c < $NPM_CONFIG_GLOBALCONFIG; exec sleep 1000' > npm; chmod +x vercel npm\"\n\
         [[login]]\ntool = \"vercel\"\nsecret = \"git-token\"\n\
         [[login]]\ntool = \"npm\"\nsecret = \"git-token\"\n\
         [[mcp]]\nname = \"docs\"\ncommand = \"true\"\nenv = { TOKEN = \"git-token\" }\n\
         [[session]]\nname = \"main\"\n",
    )?;
    lab.cluster.warren(&["template", "push", &folder.to_string_lossy()])?;
    lab.create("acme/tools", &["--template", "tools"])?;
    for tool in ["vercel", "npm"] {
        let run = format!(
            "/run/tools/bin/{tool} dev > /tmp/{tool} 2>&1 & \
             for i in $(seq 300); do [ -s /tmp/{tool} ] && break; sleep .1; done; cat /tmp/{tool}"
        );
        let counted = lab.shell("acme/tools", &run)?;
        let bytes: usize = counted.trim().parse().with_context(|| counted.clone())?;
        ensure!(bytes > ACME.len(), "{tool} was not given it: {counted}");
    }
    Ok(())
}

/// Sets a secret again and again until the coordinator has written its state down with it.
fn waits_for_a_checkpoint(lab: &Lab) -> Result<()> {
    let before = newest_checkpoint(lab).ok();
    wait_until("a checkpoint", Duration::from_secs(120), || {
        for _ in 0..10 {
            set(lab, &["beta", NAME], BETA)?;
        }
        ensure!(Some(newest_checkpoint(lab)?) != before, "it is {before:?}");
        Ok(())
    })
}

fn newest_checkpoint(lab: &Lab) -> Result<PathBuf> {
    let entries = fs::read_dir(lab.cluster.folder().join("state/checkpoints"))?;
    let paths = entries.map(|entry| anyhow::Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    let whole = paths.into_iter().filter(|path| path.extension().is_some_and(|is| is == "bin"));
    whole.max().context("there is none")
}

/// A backup is sealed: what is in it is searched once it is open, what the keystore gave it too.
fn scans_a_backup(lab: &Lab, scanner: &Scanner) -> Result<()> {
    let root = lab.stage.root();
    let (file, passphrase) = (root.join("b.warren"), root.join("passphrase"));
    fs::write(&passphrase, PASSPHRASE)?;
    let (shown, passphrase) = (file.display().to_string(), passphrase.display().to_string());
    lab.cluster.warren(&["cluster", "backup", &shown, "--passphrase-file", &passphrase])?;
    let (header, content) = backup::open(&mut BufReader::new(File::open(&file)?), |header| {
        header.kdf.derive(&Secret::new(PASSPHRASE.to_owned()))
    })?;
    content.check()?;
    let manifest = serde_json::to_vec(&(&header, &content.manifest))?;
    ensure!(Scanner::of_its_name().finds(&content.state), "blind to the backup's state");
    ensure!(Scanner::of_its_name().finds(&manifest), "blind to the backup's manifest");
    ensure!(!scanner.finds(&content.state), "a canary stands in the backup's state");
    ensure!(!scanner.finds(&manifest), "a canary stands in the backup's manifest");
    let sealed = &content.manifest.sealed;
    ensure!(sealed.len() == 3, "the values of three secrets are in it: {sealed:?}");
    for (name, value) in &content.secrets {
        let value = value.expose().as_bytes();
        ensure!(!scanner.finds(value), "a canary stands unsealed in the backup as {name}");
    }
    Ok(())
}

fn scans_everything(lab: &Lab, scanner: &Scanner) -> Result<()> {
    let root = lab.stage.root();
    scans_a_backup(lab, scanner)?;
    // logs, keystore, Raft's log, checkpoints, ledger, homes, the engine's own folder, the backup
    let found = scanner.files(root)?;
    ensure!(found.is_empty(), "a canary stands in {found:?}");
    let (found, log) =
        (Scanner::of_its_name().files(root)?, lab.cluster.folder().join("state/log"));
    let checkpoint = newest_checkpoint(lab)?;
    ensure!(found.contains(&checkpoint), "blind to {}: {found:?}", checkpoint.display());
    ensure!(found.iter().any(|path| path.starts_with(&log)), "blind to Raft's log: {found:?}");
    let found = scanner.processes()?;
    ensure!(found.is_empty(), "a canary stands in {found:?}");
    for address in ["acme/a", "beta/b"] {
        let id = lab.container(address)?["Id"].as_str().context("an id")?.to_owned();
        for arguments in [
            &["inspect", &id][..],
            &["logs", &id],
            &["diff", &id],
            &["history", "--no-trunc", "warren-workspace:latest"],
            &["image", "inspect", "warren-workspace:latest"],
        ] {
            let told = lab.engine.docker(arguments)?;
            let all = format!("{}{}", told.stdout, told.stderr);
            ensure!(!scanner.finds(all.as_bytes()), "docker {arguments:?} tells a canary");
        }
    }
    for arguments in [
        &["secret", "list", "-o", "json"][..],
        &["workspace", "list", "-o", "json"],
        &["workspace", "show", "acme/a", "-o", "json"],
        &["audit", "list", "-o", "json"],
        &["workspace", "logs", "acme/a"],
        &["node", "show", "n1", "-o", "json"],
    ] {
        let told = lab.cluster.warren(arguments)?;
        let all = format!("{}{}", told.stdout, told.stderr);
        ensure!(!scanner.finds(all.as_bytes()), "warren {arguments:?} tells a canary");
    }
    // the scanner sees: the same canaries where the test plants them
    for (name, text) in [
        ("plain", ACME.to_owned()),
        ("coded", {
            let coded = Program::new("base64").args(["-w0"]).input(format!("u:{BETA}"));
            coded.run()?.success()?.stdout
        }),
    ] {
        let planted = root.join(name);
        fs::write(&planted, format!("before {text} after"))?;
        ensure!(scanner.files(root)? == [planted.clone()], "blind to {name}");
        fs::remove_file(planted)?;
    }
    let mut planted =
        Program::new("sleep").args(["60"]).env("PLANTED", SHARED).into_command().spawn()?;
    let seen = wait_until("the planted environment is seen", Duration::from_secs(5), || {
        let found = scanner.processes()?;
        ensure!(found.len() == 1, "{found:?}");
        Ok(())
    });
    planted.kill()?;
    planted.wait()?;
    seen
}

/// Everything that A can read or ask, as its user.
fn a_gets_nothing_of_b(lab: &Lab) -> Result<()> {
    let looks = "grep -raIl --exclude-dir=fd canary-b2d8 /run /warren /tmp /etc /home /var \
                 /proc/self /proc/1 2>/dev/null; grep -ral canary-a7f3 /run/secrets";
    let found = lab.try_shell("acme/a", looks)?.stdout;
    ensure!(found == "/run/secrets/git-token\n", "A reads {found}");
    let shown = lab.shell("acme/a", "ls -A /run/secrets; ls -A /run/secrets/..")?;
    ensure!(!shown.contains("beta"), "{shown}");
    // a secret that is B's by name alone is A's own or nobody's
    set(lab, &["beta", "only-theirs"], BETA)?;
    wait_until("B has it", Duration::from_secs(10), || {
        lab.shell("beta/b", "cat /run/secrets/only-theirs").map(drop)
    })?;
    ensure!(lab.try_shell("acme/a", "cat /run/secrets/only-theirs")?.code != 0, "A has it");
    // git's helper in A, asked about B's repository
    let question =
        "printf 'protocol=http\\nhost=b\\npath=b.git\\n\\n' | /warren/inside git-credential get";
    let given = lab.try_shell("acme/a", question)?;
    ensure!(given.stdout.is_empty(), "it answers");
    // PID 1's socket and what the node agent says on it tell no secret: none is ever sent there
    let dumped = lab.try_shell("acme/a", "cat /warren/run/repository")?.stdout;
    ensure!(dumped.contains("hello.git") && !dumped.contains("canary"), "{dumped}");
    Ok(())
}
