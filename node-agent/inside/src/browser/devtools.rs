//! One conversation with the DevTools of a browser.
//!
//! Nothing is asked that changes how a page or its driver behaves: targets are discovered, pages are
//! attached to beside whoever drives them, `Runtime` is enabled to hear of errors. `Page` is enabled
//! only where a driver does so too: without one, dialogs would be kept from whoever sits before them.

use std::{collections::BTreeMap, io, time::Duration};

use tokio::time::{Instant, timeout};
use warren_common::{
    Limits, Timestamp,
    browser::{Seen, Target},
};

use super::{
    message::{
        Console, Evaluated, Head, ID_BYTES, OfTarget, Opening, Processes, SessionId, TargetId,
        Targets, Thrown, Version, answer, event,
    },
    now,
};
use crate::websocket::{Held, Socket};

/// Between two looks whether a page has loaded, and for how long they are so near.
const LOADING: Duration = Duration::from_millis(300);
const LOADS: Duration = Duration::from_secs(15);
/// How often a page is attached to that lets go of it again.
const ATTACHES: u8 = 3;
/// Lines of a page within [`FLOOD_TIME`] from which it is listened to no more.
const FLOOD: u32 = 500;
const FLOOD_TIME: Duration = Duration::from_secs(1);
/// For how long at least.
const MUTED: Duration = Duration::from_secs(30);

/// A conversation.
#[derive(Debug)]
pub(super) struct DevTools {
    socket: Socket,
    /// Of the last call.
    id: u64,
    calls: BTreeMap<u64, Call>,
    pages: BTreeMap<String, Page>,
    /// Something drives the browser.
    driven: bool,
    looked: Instant,
}

#[derive(Debug)]
struct Call {
    what: What,
    began: Instant,
    at: Timestamp,
    /// That there was no answer in time was told.
    late: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Targets,
    Attach(String),
    Probe(String),
    Other,
}

#[derive(Debug)]
struct Page {
    /// The session that it is attached with.
    session: Option<String>,
    attaches: u8,
    url: String,
    loading: bool,
    navigated: Instant,
    probe: Instant,
    window: Instant,
    lines: u32,
    muted: Option<Instant>,
}

impl DevTools {
    /// Begins a conversation, and returns what it begins with.
    ///
    /// # Errors
    /// Nobody answers there, or another browser than the one whose process this is.
    pub(super) async fn begin(
        place: (u16, &str),
        pid: u32,
        driven: bool,
        held: &Held,
    ) -> io::Result<(Self, Vec<Seen>)> {
        let socket = Socket::connect(place, Limits::DEVTOOLS_BYTES, held).await?;
        let (calls, pages) = (BTreeMap::new(), BTreeMap::new());
        let mut devtools = Self { socket, id: 0, calls, pages, driven, looked: Instant::now() };
        let version = devtools.ask("Browser.getVersion").await?;
        let version = answer::<Version>(&version).map(|version| version.product);
        let processes = devtools.ask("SystemInfo.getProcessInfo").await?;
        let process = answer::<Processes>(&processes).and_then(|all| all.browser());
        if process.is_some_and(|process| process != pid) {
            return Err(io::Error::other("its port is another browser's"));
        }
        let version = version.unwrap_or_default();
        let version = version.rsplit('/').next().unwrap_or_default().to_owned();
        devtools
            .call(("Target.setDiscoverTargets", r#"{"discover":true}"#), None, What::Other)
            .await?;
        devtools.look().await?;
        Ok((devtools, vec![Seen::Connected(version)]))
    }

    /// Calls what takes nothing, and waits for the answer; nothing else was asked yet.
    async fn ask(&mut self, method: &str) -> io::Result<Vec<u8>> {
        let id = self.call((method, "{}"), None, What::Other).await?;
        let answered = async {
            while let Some(bytes) = self.socket.next().await? {
                if Head::read(&bytes).and_then(|head| head.id) == Some(id) {
                    return Ok(bytes);
                }
            }
            Err(io::ErrorKind::UnexpectedEof.into())
        };
        let answered = timeout(Limits::BROWSER_HUNG, answered).await;
        self.calls.remove(&id);
        answered.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Returns the next message; none at the end. Cancel safe.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        self.socket.next().await
    }

    /// Takes a message in, and returns what it says.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn take(&mut self, bytes: &[u8]) -> io::Result<Vec<Seen>> {
        if bytes.is_empty() {
            // too long to be taken: perhaps the list of pages
            self.calls.retain(|_, call| call.what != What::Targets);
            return Ok(vec![Seen::Answered(None)]);
        }
        let Some(head) = Head::read(bytes) else { return Ok(Vec::new()) };
        match (head.id, head.method.as_deref()) {
            (Some(id), _) => match self.calls.remove(&id) {
                Some(call) => self.answered(call, &head, bytes).await,
                None => Ok(Vec::new()),
            },
            (None, Some(method)) => match &head.session_id {
                None => self.told(method, bytes).await,
                Some(session) => self.told_by(session, method, bytes).await,
            },
            (None, None) => Ok(Vec::new()),
        }
    }

    async fn answered(&mut self, call: Call, head: &Head, bytes: &[u8]) -> io::Result<Vec<Seen>> {
        match call.what {
            What::Other => Ok(Vec::new()),
            What::Targets => {
                let Some(targets) = answer::<Targets>(bytes) else { return Ok(Vec::new()) };
                let targets = targets.pages();
                self.pages.retain(|id, _| targets.iter().any(|one| one.id == *id));
                for target in targets.iter().take(Limits::PAGES) {
                    self.meet(target).await?;
                }
                Ok(vec![Seen::Answered(None), Seen::Pages(targets)])
            }
            What::Attach(page) => {
                let session = answer::<SessionId>(bytes).map(|one| one.session_id);
                let session = session.filter(|id| id.len() <= ID_BYTES);
                let Some(known) = self.pages.get_mut(&page) else { return Ok(Vec::new()) };
                known.session.clone_from(&session);
                if let Some(session) = session {
                    let session = Some(session.as_str());
                    self.call(("Runtime.enable", "{}"), session, What::Other).await?;
                    if self.driven {
                        self.call(("Page.enable", "{}"), session, What::Other).await?;
                    }
                }
                Ok(Vec::new())
            }
            What::Probe(page) => {
                let Some(known) = self.pages.get_mut(&page) else { return Ok(Vec::new()) };
                let soon = known.navigated.elapsed() < LOADS;
                let loaded = head.fault().is_none()
                    && answer::<Evaluated>(bytes).is_some_and(|state| state.loaded());
                known.loading = !loaded;
                let pause = if known.loading && soon { LOADING } else { Limits::PAGE_PROBE };
                known.probe = Instant::now() + pause;
                Ok(vec![Seen::Answered(Some(page.clone())), Seen::Loaded(page, loaded)])
            }
        }
    }

    async fn told(&mut self, method: &str, bytes: &[u8]) -> io::Result<Vec<Seen>> {
        match method {
            "Target.targetCreated" | "Target.targetInfoChanged" => {
                let target = event::<OfTarget>(bytes).and_then(|one| one.target_info.page());
                let Some(target) = target else { return Ok(Vec::new()) };
                self.meet(&target).await?;
                Ok(vec![Seen::Page(target)])
            }
            "Target.targetDestroyed" => {
                let Some(gone) = event::<TargetId>(bytes) else { return Ok(Vec::new()) };
                self.pages.remove(&gone.target_id);
                let of_it = |what: &What| match what {
                    What::Attach(id) | What::Probe(id) => *id == gone.target_id,
                    _ => false,
                };
                self.calls.retain(|_, call| !of_it(&call.what));
                Ok(vec![Seen::PageGone(gone.target_id)])
            }
            "Target.targetCrashed" => {
                let crashed = event::<TargetId>(bytes);
                Ok(crashed.map(|one| Seen::PageCrashed(one.target_id)).into_iter().collect())
            }
            "Target.detachedFromTarget" => {
                let left = event::<SessionId>(bytes).map(|one| one.session_id);
                for page in self.pages.values_mut().filter(|page| page.session == left) {
                    page.session = None;
                }
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    async fn told_by(
        &mut self,
        session: &str,
        method: &str,
        bytes: &[u8],
    ) -> io::Result<Vec<Seen>> {
        let has = |(_, page): &(&String, &Page)| page.session.as_deref() == Some(session);
        let Some(page) = self.pages.iter().find(has).map(|(id, _)| id.clone()) else {
            return Ok(Vec::new());
        };
        let seen = match method {
            "Runtime.executionContextsCleared" => {
                self.navigates(&page).await?;
                Some(Seen::Navigated(page))
            }
            "Runtime.consoleAPICalled" => {
                self.heed(&page).await?;
                let error = event::<Console>(bytes).and_then(|line| line.error());
                error.map(|text| Seen::Error(page, text))
            }
            "Runtime.exceptionThrown" => {
                self.heed(&page).await?;
                event::<Thrown>(bytes).map(|thrown| Seen::Error(page, thrown.text()))
            }
            "Page.javascriptDialogOpening" => {
                event::<Opening>(bytes).map(|one| Seen::Dialog(page, Some(one.into())))
            }
            "Page.javascriptDialogClosed" => Some(Seen::Dialog(page, None)),
            "Inspector.targetCrashed" => Some(Seen::PageCrashed(page)),
            _ => None,
        };
        Ok(seen.into_iter().collect())
    }

    /// Attaches to a page that is not yet, and notes where it is.
    async fn meet(&mut self, target: &Target) -> io::Result<()> {
        if !self.pages.contains_key(&target.id) && self.pages.len() >= Limits::PAGES {
            return Ok(());
        }
        let now = Instant::now();
        let page = self.pages.entry(target.id.clone()).or_insert_with(|| Page {
            session: None,
            attaches: 0,
            url: target.url.clone(),
            loading: true,
            navigated: now,
            probe: now,
            window: now,
            lines: 0,
            muted: None,
        });
        let moved = page.url != target.url;
        if moved {
            page.url.clone_from(&target.url);
        }
        let attached = page.session.is_some() || page.attaches >= ATTACHES;
        let what = What::Attach(target.id.clone());
        if !attached && !self.calls.values().any(|call| call.what == what) {
            page.attaches += 1;
            let parameters = format!(r#"{{"targetId":{},"flatten":true}}"#, quoted(&target.id));
            self.call(("Target.attachToTarget", &parameters), None, what).await?;
        }
        if moved { self.navigates(&target.id).await } else { Ok(()) }
    }

    /// Another document begins in a page.
    async fn navigates(&mut self, page: &str) -> io::Result<()> {
        let Some(page) = self.pages.get_mut(page) else { return Ok(()) };
        let now = Instant::now();
        (page.loading, page.navigated, page.probe, page.attaches) = (true, now, now, 0);
        if page.muted.is_some_and(|since| since.elapsed() >= MUTED) {
            page.muted = None;
            if let Some(session) = page.session.clone() {
                self.call(("Runtime.enable", "{}"), Some(&session), What::Other).await?;
            }
        }
        Ok(())
    }

    /// Counts a line of a page; one that floods is listened to no more until it navigates.
    async fn heed(&mut self, page: &str) -> io::Result<()> {
        let Some(page) = self.pages.get_mut(page) else { return Ok(()) };
        if page.window.elapsed() >= FLOOD_TIME {
            (page.window, page.lines) = (Instant::now(), 0);
        }
        page.lines += 1;
        if page.lines < FLOOD || page.muted.is_some() {
            return Ok(());
        }
        page.muted = Some(Instant::now());
        match page.session.clone() {
            Some(session) => {
                self.call(("Runtime.disable", "{}"), Some(&session), What::Other).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// Asks what is due, and returns who has not answered in time.
    ///
    /// # Errors
    /// The connection broke.
    pub(super) async fn tick(&mut self) -> io::Result<Vec<Seen>> {
        let mut silent = Vec::new();
        for call in self.calls.values_mut() {
            if call.late || call.began.elapsed() < Limits::BROWSER_HUNG {
                continue;
            }
            call.late = true;
            match &call.what {
                What::Targets => silent.push(Seen::Silent(None, call.at)),
                What::Probe(page) => silent.push(Seen::Silent(Some(page.clone()), call.at)),
                What::Attach(_) | What::Other => {}
            }
        }
        let asked = |what: &What| self.calls.values().any(|call| call.what == *what);
        if asked(&What::Targets) {
            // who does not say which pages there are says nothing of them either
            return Ok(silent);
        }
        let due = |(id, page): (&String, &Page)| {
            let session = page.session.clone().filter(|_| page.probe <= Instant::now())?;
            (!asked(&What::Probe(id.clone()))).then(|| (id.clone(), session))
        };
        let due: Vec<(String, String)> = self.pages.iter().filter_map(due).collect();
        for (page, session) in due {
            let parameters = r#"{"expression":"document.readyState","returnByValue":true}"#;
            self.call(("Runtime.evaluate", parameters), Some(&session), What::Probe(page)).await?;
        }
        if self.looked.elapsed() >= Limits::BROWSER_LOOK {
            self.look().await?;
        }
        // an answer that did not come is waited for no more
        self.calls.retain(|_, call| {
            call.what != What::Other || call.began.elapsed() < 5 * Limits::BROWSER_HUNG
        });
        Ok(silent)
    }

    async fn look(&mut self) -> io::Result<()> {
        self.looked = Instant::now();
        self.call(("Target.getTargets", "{}"), None, What::Targets).await.map(drop)
    }

    async fn call(
        &mut self,
        (method, parameters): (&str, &str),
        session: Option<&str>,
        what: What,
    ) -> io::Result<u64> {
        if self.calls.len() >= CALLS {
            return Err(io::Error::other(format!("{CALLS} calls were not answered")));
        }
        self.id += 1;
        let text = call(self.id, method, parameters, session);
        let call = Call { what, began: Instant::now(), at: now(), late: false };
        self.calls.insert(self.id, call);
        self.socket.send(&text).await?;
        Ok(self.id)
    }
}

/// Calls that wait for their answers: a few for each page.
const CALLS: usize = Limits::PAGES * 8;

/// Returns the text of a call.
pub(super) fn call(id: u64, method: &str, parameters: &str, session: Option<&str>) -> String {
    let session = session.map(|session| format!(r#","sessionId":{}"#, quoted(session)));
    let session = session.unwrap_or_default();
    format!(r#"{{"id":{id},"method":"{method}","params":{parameters}{session}}}"#)
}

/// Returns a text as JSON writes it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
