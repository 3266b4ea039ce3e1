//! Which processes are browsers, who started them, and how their DevTools are reached.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use warren_common::{
    Limits, Timestamp,
    browser::{BrowserId, BrowserStatus, Engine, Launcher},
};

use crate::{
    agent::tree::{self, Life, stat},
    files,
};

/// Bytes of a command line and of an environment that are looked at: Playwright's are long.
const WORDS_BYTES: u64 = 64 * 1024;
/// The file with the port, at most.
const PORT_BYTES: usize = 4096;
/// Looks at a new process: the first may be before it became what it was started for.
const LOOKS: u8 = 8;
/// Rounds between two looks at an old one.
const AGAIN: u32 = 20;
/// Processes above a browser that are looked at, at most.
const ANCESTORS: usize = 24;

/// Where Chromium and Chrome keep their settings, in the folder of settings.
const DEFAULTS: [&str; 2] = ["chromium", "google-chrome"];
/// Profiles looked through, at most: headless ones leave theirs behind.
const PROFILES: usize = 64;

const CHROMIUM: [&str; 8] = [
    "chromium",
    "chromium-browser",
    "chrome",
    "google-chrome",
    "google-chrome-stable",
    "headless_shell",
    "chrome-headless-shell",
    "msedge",
];

/// A process that is a browser.
#[derive(Debug, Clone)]
pub(super) struct Browser {
    pub(super) life: Life,
    pub(super) status: BrowserStatus,
    /// Where its profile is; none where it did not say.
    profile: Option<PathBuf>,
    /// Where it has its profile otherwise: the folder of settings.
    settings: PathBuf,
    /// It was told to open its DevTools on this port; 0 for any.
    port: Option<u16>,
    /// Something drives it, through a pipe.
    pub(super) driven: bool,
    /// What started it, what started that, and so on.
    pub(super) above: Vec<u32>,
    /// The first of them.
    pub(super) parent: Option<Life>,
}

/// Processes that were looked at, and how often.
#[derive(Debug, Default)]
pub(super) struct Finder {
    known: BTreeMap<u32, u8>,
    round: u32,
}

impl Finder {
    /// Returns browsers of this workspace that are not among `watched`, at most `room`: the others are
    /// found once there is some.
    pub(super) fn look(
        &mut self,
        watched: &[BrowserId],
        room: usize,
        now: Timestamp,
    ) -> Vec<Browser> {
        if room == 0 {
            return Vec::new();
        }
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.filter_map(|one| one.ok()?.file_name().into_string().ok()?.parse().ok());
        let mut there: Vec<u32> = pids.take(Limits::PROCESSES_LOOKED).collect();
        there.sort_unstable();
        self.round = self.round.wrapping_add(1);
        let again = self.round.is_multiple_of(AGAIN);
        self.known.retain(|pid, _| there.binary_search(pid).is_ok());
        let mut found = Vec::new();
        for pid in there {
            if found.len() == room {
                break;
            }
            let looks = self.known.entry(pid).or_default();
            if *looks >= LOOKS && !again {
                continue;
            }
            *looks = looks.saturating_add(1);
            if kind(&tree::argv(pid)).is_none() {
                continue;
            }
            // a browser's child has the command line of the browser until it becomes what it was
            // started for: what it is now counts once it has
            let Some(stat) = stat(pid).filter(|stat| !stat.is_copy) else { continue };
            let (life, Some(kind)) = (stat.life, kind(&tree::argv(pid))) else { continue };
            if watched.contains(&BrowserId { pid: life.pid, start: life.start }) {
                continue;
            }
            let above = above(pid);
            if is_ours(&above) {
                found.push(Browser::read(life, kind, &above, now));
            }
        }
        found
    }
}

impl Browser {
    fn read(life: Life, engine: Engine, above: &[u32], now: Timestamp) -> Self {
        let argv = tree::words(life.pid, "cmdline", WORDS_BYTES);
        let environment = tree::words(life.pid, "environ", WORDS_BYTES);
        let variable = |name: &str| {
            let value = |word: &&String| word.split_once('=').is_some_and(|(key, _)| key == name);
            environment.iter().find(value).and_then(|word| Some(word.split_once('=')?.1.to_owned()))
        };
        let flag = |name: &str| {
            argv.iter().rev().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        };
        let has = |names: &[&str]| argv.iter().any(|word| names.contains(&word.as_str()));
        let shell = base(argv.first().map_or("", String::as_str)).contains("headless");
        let headless = shell || has(&["--headless", "-headless"]) || flag("--headless").is_some();
        let driven = has(&["--remote-debugging-pipe", "-juggler-pipe", "--inspector-pipe"]);
        let display = flag("--display").map(str::to_owned).or_else(|| variable("DISPLAY"));
        let session = variable("WARREN_SESSION").and_then(|name| name.parse().ok());
        let folder = tree::folder(life.pid).unwrap_or_default();
        let settings = variable("XDG_CONFIG_HOME").filter(|path| path.starts_with('/'));
        let home = || Path::new(&variable("HOME").unwrap_or_default()).join(".config");
        let settings = settings.map_or_else(home, PathBuf::from);
        let profile = flag("--user-data-dir").filter(|path| !path.is_empty());
        let profile = profile.map(|path| Path::new(&folder).join(path));
        Self {
            life,
            status: BrowserStatus {
                id: BrowserId { pid: life.pid, start: life.start },
                session,
                launcher: launcher(driven, above),
                engine,
                headless,
                display: display.filter(|_| !headless).unwrap_or_default(),
                started: life.begun(now),
                ..BrowserStatus::default()
            },
            profile,
            settings,
            port: flag("--remote-debugging-port").and_then(|port| port.parse().ok()),
            driven,
            above: above.to_vec(),
            parent: above.first().copied().and_then(Life::of),
        }
    }

    /// Returns port and path of its DevTools, once they are there; several where it did not say
    /// which profile is its own.
    pub(super) fn devtools(&self) -> Vec<(u16, String)> {
        self.profiles().iter().filter_map(|profile| devtools(profile)).collect()
    }

    fn profiles(&self) -> Vec<PathBuf> {
        if let Some(profile) = &self.profile {
            return vec![profile.clone()];
        }
        if !self.status.headless {
            return DEFAULTS.iter().map(|name| self.settings.join(name)).collect();
        }
        let folders = DEFAULTS
            .iter()
            .filter_map(|name| fs::read_dir(self.settings.join(format!("{name}-headless"))).ok());
        let folders = folders.flatten().filter_map(|one| Some(one.ok()?.path()));
        folders.take(PROFILES).collect()
    }

    /// Returns where it may have left a lock; nowhere where its profile is one of its own making.
    pub(super) fn locked(&self) -> Vec<PathBuf> {
        if self.status.engine != Engine::Chromium || self.profile.is_none() && self.status.headless
        {
            return Vec::new();
        }
        self.profiles()
    }

    /// Returns why its DevTools will not be there; none where they may come.
    pub(super) fn is_blind(&self) -> Option<&'static str> {
        match (self.status.engine, self.port) {
            (Engine::Firefox | Engine::WebKit, _) => Some("only Chromium tells of its pages"),
            (Engine::Chromium, None) => Some("it was started without a DevTools port"),
            (Engine::Chromium, Some(_)) => None,
        }
    }

    /// Returns whether it left its lock on the profile; none where it has no profile of its own any
    /// more.
    pub(super) fn has_left_lock(&self) -> Option<bool> {
        let profile = self.profile.as_ref().filter(|profile| profile.is_dir())?;
        Some(profile.join("SingletonLock").symlink_metadata().is_ok())
    }
}

/// Reads port and path from a profile.
fn devtools(profile: &Path) -> Option<(u16, String)> {
    let file = profile.join("DevToolsActivePort");
    let text = String::from_utf8(files::read(&file, PORT_BYTES)?).ok()?;
    let (port, path) = text.split_once('\n')?;
    let path = path.trim();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '-' | '_');
    let fits = path.starts_with('/') && path.chars().all(plain);
    let port = port.trim().parse().ok().filter(|port| *port > 0)?;
    fits.then(|| (port, path.to_owned()))
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

/// Returns what a command line is the main process of; none where it is no browser's.
fn kind(argv: &[String]) -> Option<Engine> {
    let name = base(argv.first()?);
    let has = |start: &str| argv.iter().any(|word| word.starts_with(start));
    match name {
        // helpers write their whole command line into the first word
        _ if name.contains(' ') => None,
        _ if CHROMIUM.contains(&name) => (!has("--type=")).then_some(Engine::Chromium),
        "firefox" | "firefox-bin" | "firefox-esr" => {
            (!has("-contentproc")).then_some(Engine::Firefox)
        }
        "MiniBrowser" => Some(Engine::WebKit),
        _ => None,
    }
}

/// Returns what started a process, and what started that, up to the first of the workspace.
fn above(pid: u32) -> Vec<u32> {
    let mut above = Vec::new();
    let mut at = pid;
    while let Some(parent) = stat(at).map(|stat| stat.parent).filter(|parent| *parent > 0) {
        if above.len() == ANCESTORS || above.contains(&parent) {
            break;
        }
        above.push(parent);
        at = parent;
    }
    above
}

fn is_ours(above: &[u32]) -> bool {
    let own = std::process::id();
    own == 1 || above.contains(&own)
}

/// Says who started a browser, by the programs above it.
fn launcher(driven: bool, above: &[u32]) -> Launcher {
    let lines = above.iter().take_while(|pid| **pid != std::process::id());
    for line in lines.map(|pid| tree::argv(*pid)) {
        let has = |part: &str| line.iter().any(|word| word.contains(part));
        if has("playwright-mcp") || has("@playwright/mcp") || has("mcp-server-playwright") {
            return Launcher::Mcp;
        }
        let playwright = has("playwright") && line.iter().any(|word| word == "test");
        if playwright || has("@playwright/test") || has("playwright/lib/worker") {
            return Launcher::Test;
        }
    }
    if driven { Launcher::Script } else { Launcher::Manual }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader},
        os::unix::process::CommandExt as _,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn only_main_processes_are_browsers() {
        let kind = |line: &str| kind(&line.split('|').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(kind("/usr/lib/chromium/chromium|--headless"), Some(Engine::Chromium));
        assert_eq!(kind("/opt/pw/chrome-linux/headless_shell|--x"), Some(Engine::Chromium));
        assert_eq!(kind("/usr/lib/chromium/chromium|--type=renderer|--x"), None);
        assert_eq!(kind("/usr/lib/chromium/chromium --type=zygote"), None);
        assert_eq!(kind("/bin/sh|/usr/bin/chromium|--headless"), None);
        assert_eq!(kind("chrome_crashpad_handler|--monitor-self"), None);
        assert_eq!(kind("/opt/firefox/firefox|-juggler-pipe"), Some(Engine::Firefox));
        assert_eq!(kind("/opt/firefox/firefox|-contentproc|-x"), None);
        assert_eq!(kind("vim|chromium"), None);
        assert_eq!(kind(""), None);
    }

    #[test]
    fn what_a_browser_forks_is_no_browser_before_it_is_its_own_program() {
        // each part of a pipe is a copy of the shell that becomes no other program
        let mut browser = Command::new("bash")
            .arg0("/opt/chromium/chromium")
            .args(["-c", "(echo >&2; read x; exit) | (echo >&2; read y; exit)"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let mut lines = BufReader::new(browser.stderr.take().expect("a pipe")).lines();
        let both = (lines.next(), lines.next());
        assert!(matches!(both, (Some(Ok(_)), Some(Ok(_)))), "{both:?}");
        let family = tree::below(browser.id());
        let pids: Vec<u32> = family.iter().map(|stat| stat.life.pid).collect();
        let browsers = pids.iter().filter(|pid| kind(&tree::argv(**pid)).is_some()).count();
        assert_eq!((pids.len(), browsers), (3, 3), "{family:?}");
        let found = Finder::default().look(&[], 32, Timestamp(0));
        let found: Vec<u32> = found.iter().map(|one| one.life.pid).collect();
        let ours: Vec<u32> = pids.into_iter().filter(|pid| found.contains(pid)).collect();
        assert_eq!(ours, [browser.id()]);
        drop(browser.stdin.take());
        browser.wait().expect("it ended");
    }

    #[test]
    fn a_port_is_believed_as_far_as_it_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let browser = |port| Browser {
            life: Life::of(std::process::id()).expect("it runs"),
            status: BrowserStatus::default(),
            profile: Some(folder.path().to_owned()),
            settings: PathBuf::new(),
            port,
            driven: false,
            above: Vec::new(),
            parent: None,
        };
        let write = |text: &str| {
            fs::write(folder.path().join("DevToolsActivePort"), text).expect("a file");
            browser(Some(0)).devtools()
        };
        assert_eq!(browser(Some(0)).devtools(), []);
        let path = "/devtools/browser/5a-1".to_owned();
        assert_eq!(write("4711\n/devtools/browser/5a-1"), [(4711, path)]);
        for odd in ["", "4711", "0\n/x", "70000\n/x", "1\nx", "1\n/x HTTP/1.1\r\nA: b", "\n\n"] {
            assert_eq!(write(odd), [], "{odd:?}");
        }
        assert!(browser(None).is_blind().is_some() && browser(Some(0)).is_blind().is_none());
        assert_eq!(browser(None).has_left_lock(), Some(false));
    }
}
