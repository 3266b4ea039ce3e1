//! Browsers of a fake container: what a test says they do.
//!
//! `warren-fake-browser ID STATE [URL [TITLE]]` as a program of exec, with a process id: `7 running
//! https://shop.example/ "The shop"`, `7 hung`, `7 dialog "Leave?"`, `7 error "it broke"`, `7 crashed 11`,
//! `7 gone`. A picture of one is its address.

use std::collections::BTreeMap;

use warren_common::browser::{
    BrowserEnd, BrowserId, BrowserStatus, Dialog, Ended, Fold, Launcher, Seen, Target, Weight,
};
use warren_proto::pb::inside::v1 as pb;

use super::now;

/// The one page that each of them has.
const PAGE: &str = "A1B2";
/// When all of them began.
const START: u64 = 100;

/// The browsers of one container.
#[derive(Debug, Default)]
pub(super) struct Browsers(BTreeMap<u32, Fold>);

impl Browsers {
    /// Has a browser do what the words say; returns whether they say anything.
    pub(super) fn play(&mut self, words: &[&str]) -> bool {
        let [pid, state, rest @ ..] = words else { return false };
        let Ok(pid) = pid.parse() else { return false };
        let at = now();
        let word = rest.first().copied().unwrap_or_default();
        let fold = self.0.entry(pid).or_insert_with(|| {
            let mut fold = Fold::new(BrowserStatus {
                id: BrowserId { pid, start: START },
                session: "main".parse().ok(),
                launcher: Launcher::Mcp,
                display: ":99".to_owned(),
                started: at,
                ..BrowserStatus::default()
            });
            let memory = warren_common::Bytes::mib(250);
            fold.take(Seen::Weighs(Weight { memory, processes: 9, renderers: 2 }), at);
            fold
        });
        let page = PAGE.to_owned();
        let seen = match *state {
            "starting" => return true,
            "running" => {
                let title = rest.get(1..).unwrap_or_default().join(" ");
                fold.take(Seen::Connected("156.0.1".to_owned()), at);
                fold.take(Seen::Answered(None), at);
                fold.take(Seen::Dialog(page.clone(), None), at);
                let target = Target { id: page.clone(), url: word.to_owned(), title };
                fold.take(Seen::Pages(vec![target]), at);
                Seen::Loaded(page, true)
            }
            "hung" => Seen::Silent(None, at),
            "dialog" => {
                let (kind, text) = ("confirm".to_owned(), word.to_owned());
                Seen::Dialog(page, Some(Dialog { kind, text }))
            }
            "error" => Seen::Error(page, word.to_owned()),
            "crashed" => {
                let end = BrowserEnd { signal: word.parse().ok(), ..BrowserEnd::default() };
                Seen::Ended(Ended { end, ..Ended::default() })
            }
            "gone" => return self.0.remove(&pid).is_some(),
            _ => return false,
        };
        fold.take(seen, at);
        true
    }

    /// Returns what all of them do.
    pub(super) fn statuses(&self) -> Vec<pb::BrowserStatus> {
        self.0.values().map(|fold| fold.status().clone().into()).collect()
    }

    /// Returns a picture of a browser's page.
    pub(super) fn picture(&self, id: &str) -> Option<Vec<u8>> {
        let id: BrowserId = id.parse().ok()?;
        let status = self.0.get(&id.pid).map(Fold::status).filter(|status| status.id == id)?;
        Some(status.pages.first()?.url.clone().into_bytes())
    }
}
