//! Browsers of any kind.

use proptest::{collection::vec, option, prelude::*};
use warren_common::{
    Bytes, Timestamp,
    browser::{
        BrowserEnd, BrowserId, BrowserState, BrowserStatus, Dialog, Engine, Launcher, Page,
        Source as BrowserSource, fit,
    },
};

use super::name;

/// Browsers in the order that they are told in, none of them with a secret in its texts.
pub(super) fn browsers() -> impl Strategy<Value = Vec<BrowserStatus>> {
    vec(browser(), 0..4).prop_map(fit)
}

prop_compose! {
    fn browser()(
        (pid, start, since, started) in any::<(u32, u64, u64, u64)>(),
        session in option::of(name()), pages in vec(page(), 0..4),
        (headless, unknown, oom) in any::<(bool, bool, bool)>(),
        (code, signal) in any::<(Option<i32>, Option<i32>)>(),
        (evidence, memory, processes, more_pages) in any::<(u64, u64, u32, u32)>(),
        (state, engine, launcher, source) in (0..5_usize, 0..3_usize, 0..5_usize, 0..3_usize),
        texts in ("[ -9a-z]{0,9}", "[ -9]{0,9}", "[ -9]{0,9}"),
    ) -> BrowserStatus {
        let states = [
            BrowserState::Starting, BrowserState::Running, BrowserState::Hung,
            BrowserState::Crashed, BrowserState::Closed,
        ];
        let launchers = [
            Launcher::Unknown, Launcher::Mcp, Launcher::Test, Launcher::Script, Launcher::Manual,
        ];
        let sources = [BrowserSource::Process, BrowserSource::DevTools, BrowserSource::Window];
        let end = BrowserEnd { code, signal, oom, lost: oom && unknown };
        BrowserStatus {
            id: BrowserId { pid, start }, session, launcher: launchers[launcher],
            engine: [Engine::Chromium, Engine::Firefox, Engine::WebKit][engine],
            version: texts.0, headless, display: texts.1, state: states[state], unknown,
            since: Timestamp(since), started: Timestamp(started),
            end: if states[state].has_ended() { end } else { BrowserEnd::default() },
            source: sources[source],
            blind: texts.2, evidence: Timestamp(evidence), pages, more_pages,
            memory: Bytes(memory), processes, renderers: processes / 2,
        }
    }
}

prop_compose! {
    fn page()(
        id in "[0-9A-F]{8}", n in any::<u16>(), title in "[ -9]{0,9}", dialog in any::<bool>(),
        (loading, crashed) in any::<(bool, bool)>(), errors in any::<u32>(),
        (navigated, hung) in (option::of(1_u64..), option::of(1_u64..)),
    ) -> Page {
        let shown = Dialog { kind: "alert".to_owned(), text: "4 + 5".to_owned() };
        Page {
            id, url: format!("https://h.example/{n}"), loading, crashed, errors,
            last_error: title.clone(), title, navigated: navigated.map(Timestamp),
            dialog: dialog.then_some(shown), hung: hung.map(Timestamp),
        }
    }
}
