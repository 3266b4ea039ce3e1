//! Windows on the display: what is known of a browser whose DevTools are not there.

use std::{fs, process::Command};

use rustix::process::{Pid, Signal, kill_process};
use warren_proto::pb::inside::v1::{BrowserSource, BrowserState, BrowserStatus, Status};

use crate::{
    views::with_display,
    workspace::{Workspace, sessions},
};

/// Looks like a browser without a port: one window is its own, the other says nothing of who it is.
const BROWSER: &str = r#"
xev -name "Cart - step 1 - Chromium" >/dev/null &
xev -name "Somebody else's" >/dev/null &
until xprop -name "Cart - step 1 - Chromium" -f _NET_WM_PID 32c -set _NET_WM_PID $$; do
  sleep 0.1
done
wait
"#;

fn signal(workspace: &Workspace, words: &str, signal: Signal) {
    let pids = workspace.processes(words);
    assert!(!pids.is_empty(), "no {words}");
    for pid in pids {
        kill_process(Pid::from_raw(pid).expect("a pid"), signal).expect("it runs");
    }
}

fn shown(status: &Status) -> Option<BrowserStatus> {
    status.browsers.first().cloned()
}

/// Whether it is told of by these titles of its windows.
fn is_called(status: &Status, titles: &[&str]) -> bool {
    shown(status).is_some_and(|one| {
        let told: Vec<&str> = one.pages.iter().map(|page| page.title.as_str()).collect();
        let source = if titles.is_empty() { BrowserSource::Process } else { BrowserSource::Window };
        one.source() == source && told == titles
    })
}

#[tokio::test]
async fn a_browser_without_devtools_is_known_by_the_titles_of_its_windows() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["home", "run"] {
        fs::create_dir(folder.path().join(name)).expect("a folder");
    }
    fs::write(folder.path().join("home/browser"), BROWSER).expect("a script");
    let display = with_display();
    let name = format!(":{}", display[0].1);
    let start = "exec -a /opt/chromium/chromium bash ~/browser";
    let (workspace, mut agent) =
        Workspace::start_in_with(folder, sessions(&[("main", start)]), &display);
    let status = agent.until("its window", |status| is_called(status, &["Cart - step 1"])).await;
    let browser = shown(&status).expect("it runs");
    assert_eq!((browser.state(), &browser.display), (BrowserState::Running, &name));
    assert_eq!(browser.blind, "it was started without a DevTools port");
    assert!(browser.pages[0].url.is_empty() && !browser.pages[0].id.is_empty());

    let set = |property: &str, format: &str, value: &str| {
        let mut xprop = Command::new("xprop");
        xprop.env("DISPLAY", &name).args(["-name", "Cart - step 1 - Chromium"]);
        let set = xprop.args(["-f", property, format, "-set", property, value]).status();
        assert!(set.expect("xprop").success(), "{value}");
    };
    set("_NET_WM_NAME", "8u", "Bezahlt \u{2713}\u{1b}[2J - Chromium");
    let paid = |status: &Status| is_called(status, &["Bezahlt \u{2713}[2J"]);
    agent.until("its new title", paid).await;

    // a display that does not answer shows nothing, and holds up nobody
    signal(&workspace, "Xvfb", Signal::STOP);
    agent.until("no title", |status| is_called(status, &[])).await;
    signal(&workspace, "Xvfb", Signal::CONT);
    agent.until("its title again", paid).await;
    signal(&workspace, "Cart - step 1", Signal::KILL);
    agent.until("no window", |status| is_called(status, &[])).await;
}
