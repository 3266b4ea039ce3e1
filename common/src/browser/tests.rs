//! What follows from what is seen: recorded sequences, and what no sequence may break.

use proptest::prelude::*;

use super::*;
use crate::{Bytes, Limits, Timestamp};

fn at(seconds: u64) -> Timestamp {
    Timestamp(1_800_000_000_000 + seconds * 1000)
}

fn found() -> Fold {
    let id = BrowserId { pid: 4711, start: 83_921 };
    let launcher = Launcher::Script;
    Fold::new(BrowserStatus { id, launcher, started: at(0), ..BrowserStatus::default() })
}

fn target(id: &str, url: &str, title: &str) -> Target {
    Target { id: id.to_owned(), url: url.to_owned(), title: title.to_owned() }
}

fn page(id: &str) -> String {
    id.to_owned()
}

/// One that shows a shop, as it was recorded of Chromium 156.
fn shop() -> Fold {
    let mut fold = found();
    fold.take(Seen::Connected("156.0.8078.108".to_owned()), at(1));
    let blank = target("A", "about:blank", "about:blank");
    fold.take(Seen::Pages(vec![blank]), at(1));
    fold.take(Seen::Page(target("A", "https://shop.example/cart", "about:blank")), at(2));
    fold.take(Seen::Navigated(page("A")), at(2));
    fold.take(Seen::Pages(vec![target("A", "https://shop.example/cart", "Cart")]), at(3));
    fold.take(Seen::Loaded(page("A"), true), at(3));
    fold
}

#[test]
fn a_browser_starts_shows_pages_and_is_closed() {
    let fold = found();
    assert_eq!(fold.status().state, BrowserState::Starting);
    let mut fold = shop();
    let status = fold.status().clone();
    assert_eq!((status.state, status.since), (BrowserState::Running, at(1)));
    assert_eq!(status.version, "156.0.8078.108");
    let shown = &status.pages[0];
    assert_eq!((shown.url.as_str(), shown.title.as_str()), ("https://shop.example/cart", "Cart"));
    assert_eq!((shown.navigated, shown.loading), (Some(at(2)), false));
    // the title that comes with an event is of when the address was
    fold.take(Seen::Page(target("A", "https://shop.example/cart", "old")), at(4));
    assert_eq!(fold.status().pages[0].title, "Cart");
    fold.take(Seen::PageGone(page("A")), at(5));
    fold.take(Seen::Ended(Ended { lock_left: Some(false), ..Ended::default() }), at(5));
    assert_eq!(fold.status().state, BrowserState::Closed);
    assert!(!fold.is_over(at(6)) && fold.is_over(at(5 + 30)));
    fold.take(Seen::Connected("7".to_owned()), at(9));
    assert_eq!(fold.status().state, BrowserState::Closed, "the dead tell nothing");
}

#[test]
fn ends_are_told_apart() {
    let end = |code, signal, oom| BrowserEnd { code, signal, oom, lost: false };
    let ended = |end, driver_ended, lock_left| Ended { end, driver_ended, lock_left };
    let none = BrowserEnd::default();
    let shown = |fold: Fold, ended: Ended| {
        let mut fold = fold;
        fold.take(Seen::Ended(ended), at(9));
        (fold.status().state, fold.status().end.signal)
    };
    use BrowserState::{Closed, Crashed};
    // with its pages open
    for (how, state, signal) in [
        (ended(none, false, Some(true)), Crashed, None),
        (ended(none, false, None), Crashed, None),
        (ended(none, false, Some(false)), Crashed, None),
        (ended(none, true, Some(true)), Closed, None),
        (ended(end(None, Some(9), false), false, Some(true)), Crashed, Some(9)),
        (ended(end(None, Some(9), false), true, Some(true)), Closed, Some(9)),
        (ended(end(None, Some(11), false), false, None), Crashed, Some(11)),
        (ended(end(None, Some(15), false), false, Some(true)), Closed, Some(15)),
        (ended(end(Some(0), None, false), false, None), Closed, None),
        (ended(end(Some(1), None, false), false, None), Crashed, None),
        (ended(end(None, None, true), true, None), Crashed, Some(9)),
    ] {
        assert_eq!(shown(shop(), how), (state, signal), "{how:?}");
    }
    // of nobody who would clear its profile away
    let mut manual = shop().status().clone();
    manual.launcher = Launcher::Manual;
    let manual = || {
        let mut fold = Fold::new(manual.clone());
        fold.take(Seen::Pages(vec![target("A", "https://h/", "")]), at(3));
        fold
    };
    assert_eq!(shown(manual(), ended(none, false, Some(false))).0, Closed);
    assert_eq!(shown(manual(), ended(none, false, Some(true))).0, Crashed);
    // whose pages nobody saw
    let blind = || {
        let mut fold = found();
        fold.take(Seen::Blind("it was started without a DevTools port".to_owned()), at(1));
        assert_eq!(fold.status().state, BrowserState::Running);
        fold
    };
    assert_eq!(shown(blind(), ended(none, false, Some(false))).0, Closed);
    assert_eq!(shown(blind(), ended(none, false, Some(true))).0, Crashed);
    assert_eq!(shown(blind(), ended(none, false, None)).0, Crashed);
}

#[test]
fn of_one_whose_pages_are_not_seen_the_windows_tell_titles_and_nothing_more() {
    let window = |title: &str| Seen::Windows(vec![target("0x40", "", title)]);
    let mut fold = found();
    fold.take(window("early - Chromium"), at(1));
    assert!(fold.status().pages.is_empty(), "its DevTools may still come");
    fold.take(Seen::Blind("it was started without a DevTools port".to_owned()), at(2));
    fold.take(window("Cart - step 1 - Chromium"), at(3));
    let status = fold.status();
    let shown = &status.pages[0];
    assert_eq!((status.source, status.evidence), (Source::Window, at(3)));
    assert_eq!((shown.url.as_str(), shown.title.as_str()), ("", "Cart - step 1"));
    assert!(!status.blind.is_empty() && !shown.loading && shown.navigated.is_none());
    for (shown, told) in [
        ("Cart \u{2014} Mozilla Firefox", "Cart"),
        ("Google Chrome", "Google Chrome"),
        ("https://u:p@h/?token=x - Google Chrome", "https://u:***@h/?token=***"),
        ("a\u{1b}[31m\nb", "a[31m b"),
    ] {
        fold.take(window(shown), at(4));
        assert_eq!(fold.status().pages[0].title, told, "{shown}");
    }
    let many = (0..40).map(|n| target(&n.to_string(), "", "x")).collect();
    fold.take(Seen::Windows(many), at(5));
    let (told, more) = (fold.status().pages.len(), fold.status().more_pages);
    assert_eq!((told, more), (Limits::PAGES, 40 - u32::try_from(Limits::PAGES).expect("few")));
    fold.take(Seen::Windows(Vec::new()), at(6));
    let status = fold.status();
    assert_eq!((status.source, status.pages.len()), (Source::Process, 0));
    assert_eq!((status.evidence, status.more_pages), (at(5), 0));
    fold.take(Seen::Windows(vec![target("a", "", "x"); 64]), at(6));
    assert_eq!((fold.status().pages.len(), fold.status().more_pages), (1, 0));
    // what DevTools tell is more
    fold.take(window("Cart"), at(7));
    fold.take(Seen::Connected("156".to_owned()), at(8));
    assert!(fold.status().pages.is_empty());
    fold.take(Seen::Pages(vec![target("A", "https://h/", "Cart")]), at(8));
    fold.take(window("other"), at(9));
    let status = fold.status();
    assert_eq!((status.source, status.pages[0].title.as_str()), (Source::DevTools, "Cart"));
}

#[test]
fn one_that_ended_with_its_workspace_is_shown_with_its_pages_for_a_while() {
    let mut known = shop().status().clone();
    (known.state, known.unknown, known.memory) = (BrowserState::Hung, true, Bytes(7));
    let mut fold = Fold::lost(known.clone(), at(50));
    let status = fold.status().clone();
    assert_eq!((status.state, status.since), (BrowserState::Closed, at(50)));
    assert!(status.end.lost && !status.unknown && status.memory == Bytes(0), "{status:?}");
    let shown = |status: &BrowserStatus| -> Vec<(String, String)> {
        status.pages.iter().map(|page| (page.url.clone(), page.title.clone())).collect()
    };
    assert!(!status.pages.is_empty() && shown(&status) == shown(&known), "{status:?}");
    assert!(!Urgency::of(&status).needs_person());
    assert!(!fold.is_over(at(50 + 599)) && fold.is_over(at(50 + 600)));
    fold.take(Seen::Connected("7".to_owned()), at(51));
    assert_eq!(*fold.status(), status);
}

#[test]
fn a_browser_that_does_not_answer_is_hung_until_it_does() {
    let mut fold = shop();
    fold.take(Seen::Silent(None, at(4)), at(6));
    assert_eq!((fold.status().state, fold.status().since), (BrowserState::Hung, at(4)));
    fold.take(Seen::Silent(None, at(7)), at(9));
    assert_eq!(fold.status().since, at(4));
    fold.take(Seen::Answered(None), at(10));
    assert_eq!((fold.status().state, fold.status().since), (BrowserState::Running, at(10)));
}

#[test]
fn a_page_hangs_shows_a_dialog_or_crashes() {
    let mut fold = shop();
    let urgency = |fold: &Fold| Urgency::of(fold.status());
    fold.take(Seen::Silent(Some(page("A")), at(4)), at(6));
    assert_eq!(fold.status().pages[0].hung, Some(at(4)));
    assert_eq!((urgency(&fold), fold.status().state), (Urgency::Hung, BrowserState::Running));
    fold.take(Seen::Answered(Some(page("A"))), at(7));
    assert_eq!(urgency(&fold), Urgency::Running);
    let dialog = Dialog { kind: "confirm".to_owned(), text: "sure?".to_owned() };
    fold.take(Seen::Dialog(page("A"), Some(dialog)), at(8));
    fold.take(Seen::Silent(Some(page("A")), at(8)), at(10));
    assert_eq!(urgency(&fold), Urgency::Dialog, "what waits behind a dialog does not hang");
    fold.take(Seen::Dialog(page("A"), None), at(11));
    fold.take(Seen::Error(page("A"), "token=abc bad".to_owned()), at(12));
    assert_eq!(fold.status().pages[0].last_error, "token=*** bad");
    fold.take(Seen::PageCrashed(page("A")), at(13));
    assert_eq!(urgency(&fold), Urgency::PageCrashed);
    fold.take(Seen::Navigated(page("A")), at(14));
    let shown = &fold.status().pages[0];
    assert_eq!((shown.crashed, shown.errors, shown.loading), (false, 0, true));
    fold.take(Seen::Navigated(page("B")), at(15));
    assert_eq!(fold.status().pages.len(), 1, "a page that nobody listed is none");
}

#[test]
fn pages_without_number_or_end_are_cut() {
    let mut fold = found();
    let long = "x\u{1b}[2J\n".repeat(200_000);
    let many = |n: usize| target(&format!("T{n}"), &format!("https://h/{n}{long}"), &long);
    fold.take(Seen::Connected(long.clone()), at(1));
    fold.take(Seen::Pages((0..300).map(many).collect()), at(1));
    let status = fold.status().clone();
    assert_eq!((status.pages.len(), status.more_pages), (Limits::PAGES, 268));
    assert!(status.pages.iter().all(|page| page.url.len() <= Limits::PAGE_URL_BYTES));
    assert!(status.pages.iter().all(|page| page.title.len() <= Limits::PAGE_TEXT_BYTES));
    let clean = |page: &Page| !page.title.contains(['\u{1b}', '\n']);
    assert!(status.pages.iter().all(clean) && status.version.len() <= Limits::AGENT_NAME_BYTES);
    let told = fit(vec![status; 100]);
    assert_eq!(told.len(), Limits::BROWSERS);
    let all: usize = told.iter().map(|one| one.pages.len() + one.more_pages as usize).sum();
    assert_eq!(all, 300 * Limits::BROWSERS, "none is lost without a word");
    let bytes: usize = told.iter().flat_map(|one| &one.pages).map(|page| page.url.len()).sum();
    assert!(bytes <= Limits::BROWSERS_BYTES, "{bytes}");
}

#[test]
fn of_those_that_ended_the_last_crashed_are_told_beside_all_that_run() {
    let one = |pid: u32, state, since: u64| BrowserStatus {
        id: BrowserId { pid, start: 1 },
        state,
        since: at(since),
        ..found().status().clone()
    };
    let mut all: Vec<_> = (0..40).map(|pid| one(pid, BrowserState::Running, 1)).collect();
    // the kernel gives out numbers anew: the order of ids says nothing
    all.extend((0..5).map(|n| one(900 - n, BrowserState::Crashed, 10 + u64::from(n))));
    all.extend((0..9).map(|n| one(200 + n, BrowserState::Closed, 50 + u64::from(n))));
    let told = fit(all.clone());
    let ended = |told: &[BrowserStatus]| -> Vec<u32> {
        let ended = told.iter().filter(|one| one.state.has_ended());
        ended.map(|one| one.id.pid).collect()
    };
    let mut shown = ended(&told);
    shown.sort_unstable();
    assert_eq!(told.len(), Limits::BROWSERS + Limits::BROWSERS_ENDED);
    assert_eq!(shown, [206, 207, 208, 896, 897, 898, 899, 900]);
    all.extend((0..4).map(|n| one(100 + n, BrowserState::Crashed, 90 + u64::from(n))));
    let mut shown = ended(&fit(all));
    shown.sort_unstable();
    assert_eq!(shown, [100, 101, 102, 103, 896, 897, 898, 899], "the first to crash goes");
    let same = vec![one(7, BrowserState::Closed, 1); 1000];
    assert_eq!(fit(same).len(), Limits::BROWSERS_ENDED, "also where all have one id");
}

#[test]
fn nobody_knows_of_a_browser_that_is_not_heard_and_the_dead_stay_so() {
    let running = shop().status().clone();
    let (heard, late) = (at(20), at(20).plus(Limits::AGENT_UNHEARD));
    assert!(!running.clone().unheard(heard, at(21)).unknown);
    let lost = running.clone().unheard(heard, late);
    assert!(lost.unknown && lost.since == late);
    assert_eq!((lost.pages.len(), Urgency::of(&lost)), (1, Urgency::Unknown));
    let mut fold = shop();
    fold.take(Seen::Ended(Ended::default()), at(9));
    assert!(!fold.status().clone().unheard(heard, late).unknown);
}

#[test]
fn ids_are_two_numbers() {
    let id = BrowserId { pid: 4711, start: 83_921 };
    assert_eq!("4711-83921".parse(), Ok(id));
    assert_eq!(id.to_string(), "4711-83921");
    for odd in ["", "4711", "-1-2", "+1-2", "1-", "a-b", "1-2-3", "4294967296-1"] {
        assert!(odd.parse::<BrowserId>().is_err(), "{odd:?}");
    }
}

#[test]
fn nothing_a_page_says_of_itself_turns_what_stands_beside_it() {
    let mut fold = found();
    let title = "a\u{202e}gpj.exe\u{2066}\u{2069}\u{1b}[2J\u{7}\u{9b}31m\u{2028}b\nc".to_owned();
    let url = "http://h/\u{202e}x\u{1b}]0;y\u{7}".to_owned();
    fold.take(Seen::Pages(vec![Target { id: "A".to_owned(), url, title }]), at(1));
    let page = &fold.status().pages[0];
    assert_eq!(page.title, "agpj.exe[2J31mb c");
    assert_eq!(page.url, "http://h/x]0;y");
    let long = "\u{202e}".repeat(1 << 20) + "never read";
    fold.take(Seen::Error("A".to_owned(), long), at(2));
    assert_eq!(
        (fold.status().pages[0].errors, fold.status().pages[0].last_error.as_str()),
        (1, "")
    );
    let words = "\u{5e9}\u{5dc}\u{5d5}\u{5dd} ".repeat(9999);
    fold.take(Seen::Error("A".to_owned(), words), at(3));
    let told = &fold.status().pages[0].last_error;
    assert!(
        told.starts_with("\u{5e9}\u{5dc}\u{5d5}\u{5dd}") && told.len() <= Limits::PAGE_TEXT_BYTES
    );
}

fn seen() -> impl Strategy<Value = Seen> {
    let name = || prop_oneof![Just("A"), Just("B"), Just("C")].prop_map(str::to_owned);
    let target = (name(), "[a-z:/?=&@]{0,12}", ".{0,12}").prop_map(|(id, url, title)| Target {
        id,
        url,
        title,
    });
    let target = || target.clone();
    let end = any::<(Option<i32>, Option<i32>, bool)>();
    let end = end.prop_map(|(code, signal, oom)| BrowserEnd { code, signal, oom, lost: false });
    prop_oneof![
        5 => Just(Seen::Connected("156".to_owned())),
        2 => ".{0,9}".prop_map(Seen::Blind),
        3 => proptest::collection::vec(target(), 0..4).prop_map(Seen::Windows),
        5 => proptest::collection::vec(target(), 0..4).prop_map(Seen::Pages),
        5 => target().prop_map(Seen::Page),
        3 => name().prop_map(Seen::PageGone),
        3 => name().prop_map(Seen::PageCrashed),
        3 => name().prop_map(Seen::Navigated),
        3 => (name(), any::<bool>()).prop_map(|(page, loaded)| Seen::Loaded(page, loaded)),
        3 => (name(), ".{0,9}").prop_map(|(page, text)| Seen::Error(page, text)),
        3 => (name(), any::<bool>())
            .prop_map(|(page, shown)| Seen::Dialog(page, shown.then(Dialog::default))),
        3 => proptest::option::of(name()).prop_map(Seen::Answered),
        3 => (proptest::option::of(name()), 0..60_u64)
            .prop_map(|(page, since)| Seen::Silent(page, at(since))),
        2 => any::<(u64, u32, u32)>().prop_map(|(memory, processes, renderers)| {
            Seen::Weighs(Weight { memory: Bytes(memory), processes, renderers })
        }),
        1 => (end, any::<bool>(), proptest::option::of(any::<bool>())).prop_map(
            |(end, driver_ended, lock_left)| Seen::Ended(Ended { end, driver_ended, lock_left })
        ),
    ]
}

proptest! {
    #[test]
    fn whatever_is_seen_the_status_holds(all in proptest::collection::vec(seen(), 0..60)) {
        let mut fold = found();
        let mut ended = None;
        for (second, one) in (1..).zip(all) {
            fold.take(one, at(second));
            let status = fold.status();
            let mut ids: Vec<&str> = status.pages.iter().map(|page| page.id.as_str()).collect();
            ids.sort_unstable();
            ids.dedup();
            prop_assert_eq!(ids.len(), status.pages.len());
            for page in &status.pages {
                prop_assert!(page.hung.is_none() || page.dialog.is_none(), "{:?}", page);
                prop_assert!(page.hung.is_none() || !page.crashed, "{:?}", page);
            }
            prop_assert_eq!(status.state.has_ended(), ended.is_some() || status.state.has_ended());
            if let Some(before) = &ended {
                prop_assert_eq!(before, status);
            }
            if status.state.has_ended() {
                ended = Some(status.clone());
            }
            prop_assert_eq!(status.clone().bounded(), status.clone());
        }
    }
}
