//! What browsers show, as people and scripts read it: lists, pages, pictures, watches.

use warren_proto::{
    ApiError, Method,
    error::reason,
    pb::{admin::v1 as pb, inside::v1 as inside},
};

use crate::{
    support::{Bench, data::NOW, streams::PNG, watch::Piece},
    watch::{Watching, objects, shapes},
};

/// A browser that shows a shop and has been so for some seconds.
fn browser(workspace: &str, id: &str, seconds: u64) -> pb::Browser {
    let page = inside::BrowserPage {
        id: "44EFCE9E9D95B7ED3D6603E673F26319".to_owned(),
        url: "https://shop.example/cart?n=1".to_owned(),
        title: "Your cart".to_owned(),
        navigated_unix_ms: NOW - 4000,
        ..Default::default()
    };
    let observed = inside::BrowserStatus {
        id: id.to_owned(),
        session: "main".to_owned(),
        launcher: inside::BrowserLauncher::Mcp.into(),
        engine: inside::BrowserEngine::Chromium.into(),
        version: "156.0.8078.108".to_owned(),
        display: ":99".to_owned(),
        state: inside::BrowserState::Running.into(),
        since_unix_ms: NOW - seconds * 1000,
        started_unix_ms: NOW - 600_000,
        source: inside::BrowserSource::Devtools.into(),
        evidence_unix_ms: NOW - 500,
        pages: vec![page],
        memory_bytes: 262_144_000,
        processes: 9,
        renderers: 2,
        ..Default::default()
    };
    pb::Browser {
        client: "acme".to_owned(),
        workspace: workspace.to_owned(),
        node: "n1".to_owned(),
        observed: Some(observed),
        observed_unix_ms: NOW - 1000,
        observed_live: true,
    }
}

fn of(browser: &mut pb::Browser) -> &mut inside::BrowserStatus {
    browser.observed.get_or_insert_default()
}

fn crashed(workspace: &str, seconds: u64) -> pb::Browser {
    let mut crashed = browser(workspace, "7-700", seconds);
    of(&mut crashed).state = inside::BrowserState::Crashed.into();
    of(&mut crashed).end =
        Some(inside::BrowserEnd { signal: Some(9), oom: true, ..Default::default() });
    (of(&mut crashed).memory_bytes, of(&mut crashed).processes) = (0, 0);
    crashed
}

fn hung(workspace: &str, seconds: u64) -> pb::Browser {
    let mut hung = browser(workspace, "8-800", seconds);
    of(&mut hung).state = inside::BrowserState::Hung.into();
    hung
}

/// One of everything, none of it in order.
fn zoo() -> Vec<pb::Browser> {
    let mut dialog = browser("ask", "5-500", 60);
    let shown =
        inside::BrowserDialog { kind: "confirm".to_owned(), text: "Leave\x1b[2J?".to_owned() };
    of(&mut dialog).pages[0].dialog = Some(shown);
    let mut blind = browser("blind", "6-600", 60);
    of(&mut blind).pages.clear();
    of(&mut blind).source = inside::BrowserSource::Process.into();
    of(&mut blind).blind = "it was started without a DevTools port".to_owned();
    let mut lost = browser("lost", "4-400", 20);
    (of(&mut lost).unknown, lost.observed_live) = (true, false);
    let mut errors = browser("web", "4711-83921", 60);
    of(&mut errors).pages[0].errors = 3;
    of(&mut errors).pages[0].last_error = "TypeError: x is undefined".to_owned();
    of(&mut errors).more_pages = 2;
    let mut closed = browser("web", "3-300", 5);
    of(&mut closed).state = inside::BrowserState::Closed.into();
    let mut other = browser("web", "4712-84000", 5);
    (of(&mut other).headless, of(&mut other).display) = (true, String::new());
    vec![blind, closed, errors, other, dialog, lost, hung("slow", 30), crashed("dead", 9)]
}

pub(crate) fn install(bench: &Bench) {
    bench.fake.state().browsers = zoo();
}

fn told(browsers: Vec<pb::Browser>, complete: bool) -> Piece {
    let (begins, served_unix_ms) = (complete, NOW + 1000);
    Piece::Browsers(pb::Browsers {
        browsers,
        begins,
        complete,
        served_unix_ms,
        ..Default::default()
    })
}

#[test]
fn a_list_asks_for_what_was_asked_for_and_tells_who_crashed_first() {
    let bench = Bench::new();
    install(&bench);
    bench.fake.state().page = 3;
    let run = bench.warren(&["browser", "list", "-o", "name"]);
    let names: Vec<&str> = run.stdout.lines().collect();
    let order = [
        "acme/dead/7-700",
        "acme/slow/8-800",
        "acme/ask/5-500",
        "acme/lost/4-400",
        "acme/blind/6-600",
        "acme/web/4711-83921",
        "acme/web/4712-84000",
        "acme/web/3-300",
    ];
    assert_eq!(names, order, "{run:?}");
    let filters = ["--state", "crashed,hung", "--client", "acme", "--node", "n1"];
    let run = bench.warren(&[&["browser", "list", "--session", "main"][..], &filters].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let asked = bench.fake.state().browsed.last().cloned().expect("it asked");
    let states = [inside::BrowserState::Crashed, inside::BrowserState::Hung].map(i32::from);
    assert_eq!((asked.states, asked.session.as_str()), (states.to_vec(), "main"));
    assert_eq!((asked.client.as_str(), asked.node.as_str()), ("acme", "n1"));
    assert_eq!(bench.warren(&["browser", "list", "--state", "bored"]).code, 2);
    assert_eq!(bench.warren(&["browser", "list", "acme/web", "--all"]).code, 2);
}

#[test]
fn a_picture_goes_into_a_file_or_to_stdout() {
    let bench = Bench::new();
    install(&bench);
    let file = std::env::temp_dir().join(format!("warren-shot-{}.png", std::process::id()));
    let path = file.to_str().expect("a path");
    let run = bench.warren(&["browser", "shot", "acme/slow", path, "-o", "json"]);
    assert_eq!(run.code, 0, "{run:?}");
    let taken: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&taken["format"], &taken["bytes"]), (&"png".into(), &PNG.len().into()));
    assert_eq!(std::fs::read(&file).expect("written"), PNG);
    std::fs::remove_file(&file).expect("it was there");
    let run = bench.warren(&["browser", "shot", "acme/slow", "-"]);
    assert_eq!(run.code, 0, "{run:?}");
    let target = bench.fake.state().opened.last().cloned().expect("it was asked");
    assert_eq!(target.workspace, "acme/slow");
    let run = bench.warren(&["browser", "shot", "acme/slow", path, "--page", "hidden"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.stderr.contains("no picture within 5 s") && !file.exists(), "{run:?}");
}

#[test]
fn a_watch_tells_what_changes_as_it_is_told() {
    let bench = Bench::new();
    let web = || browser("web", "1-100", 60);
    bench.fake.state().browsers = vec![web(), browser("gone", "2-200", 60)];
    bench.fake.state().watch.extend([
        Piece::UpTo(42),
        told(vec![web(), browser("gone", "2-200", 60)], true),
        told(vec![crashed("web", 0)], false),
        told(vec![web(), crashed("web", 0)], true),
    ]);
    let watching = Watching::run(&bench, &["browser", "list", "--watch", "-o", "json"]);
    watching.shows("\"event\":\"gone\"");
    let objects = objects(&watching.interrupt());
    let shown = [
        "list 42 -",
        "listed 42 acme/gone/2-200",
        "listed 42 acme/web/1-100",
        "seen null acme/web/7-700",
        "gone null acme/gone/2-200",
    ];
    assert_eq!(shapes(&objects), shown);
    assert_eq!(objects[3]["object"]["status"], "crashed: oom");
    let asked = bench.fake.state().watched.clone();
    assert!(asked.iter().all(|one| one.browsers && one.no_events && !one.sessions), "{asked:?}");
}

#[test]
fn one_browser_is_watched_alone() {
    let bench = Bench::new();
    bench.fake.state().browsers = vec![browser("web", "1-100", 60), hung("web", 60)];
    let mut moved = browser("web", "1-100", 60);
    of(&mut moved).pages[0].title = "Paid".to_owned();
    bench.fake.state().watch.extend([
        told(vec![browser("web", "1-100", 60), hung("web", 60)], true),
        told(vec![crashed("web", 0), moved], false),
    ]);
    let watching = Watching::run(&bench, &["browser", "watch", "acme/web/1"]);
    watching.shows("Paid");
    let text = watching.interrupt();
    assert!(!text.contains("8-800") && !text.contains("7-700"), "{text}");
}

#[test]
fn a_crash_is_an_event_once_whoever_tells_it() {
    let bench = Bench::new();
    bench.fake.state().watch.extend([
        Piece::UpTo(42),
        told(vec![hung("slow", 60)], true),
        told(vec![crashed("web", 5)], false),
        told(vec![crashed("web", 5), hung("slow", 60), hung("late", 1)], true),
    ]);
    let watching = Watching::run(&bench, &["cluster", "events", "--watch", "-o", "json"]);
    watching.shows("acme/late");
    let objects = objects(&watching.interrupt());
    let told = |one: &serde_json::Value| {
        format!("{} {}", one["event"].as_str().unwrap_or(""), one["address"].as_str().unwrap_or(""))
    };
    let told: Vec<String> = objects.iter().map(told).collect();
    assert_eq!(told, ["browser.crashed acme/web/7-700", "browser.hung acme/late/8-800"]);
    assert_eq!(objects[0]["detail"], "crashed: oom https://shop.example/cart?n=1");
}

#[test]
fn who_may_not_see_browsers_is_told() {
    let bench = Bench::new();
    let refusal = ApiError::new(
        tonic::Code::PermissionDenied,
        reason::NOT_PERMITTED,
        "auditor may not call BrowserService/ListBrowsers",
    );
    bench.fake.fail(Method::BrowserListBrowsers, refusal);
    assert_eq!(bench.warren(&["browser", "list"]).code, 7);
}
