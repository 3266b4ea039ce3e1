//! One browser, from its start to its end.

use std::{io, time::Duration};

use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use warren_common::{
    Limits,
    browser::{BrowserEnd, BrowserId, Seen},
};

use super::{
    Browsers, devtools::DevTools, end, end::Death, find::Browser, now, weigh::weigh,
    window::Windows,
};

/// Between two turns.
const TURN: Duration = Duration::from_millis(100);
/// Attempts to reach DevTools follow each turn for this long, and then each pause.
const EAGER: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_secs(5);
/// A conversation that ends sooner is begun anew after twice the pause.
const STEADY: Duration = Duration::from_secs(10);
/// For what was said before the end.
const LAST: Duration = Duration::from_millis(100);
/// Between two weighings.
const WEIGH: Duration = Duration::from_secs(15);
/// The first, once it has come up.
const WEIGH_FIRST: Duration = Duration::from_secs(1);
/// Messages taken in one turn: a browser that says more than this waits.
const MESSAGES: u32 = 200;

/// Watches a browser until its process is gone.
pub(super) async fn run(browsers: Browsers, browser: Browser) {
    let id = browser.status.id;
    let death = Death::of(browser.life);
    let mut watch = Watch::new(&browsers, &browser);
    let told = tokio::select! {
        told = death.wait() => told,
        never = watch.talk() => match never {},
    };
    watch.hear_out().await;
    drop(watch);
    browsers.reached(id, None);
    let mut ended = end::settle(&browser, told, &browsers.reaper).await;
    let killed = ended.end.signal.is_none_or(|signal| signal == 9) && ended.end.code.is_none();
    ended.end = BrowserEnd { oom: killed && browsers.ran_out(), ..ended.end };
    browsers.saw(id, vec![Seen::Ended(ended)]);
}

/// What is done for a browser while it runs.
struct Watch<'a> {
    browsers: &'a Browsers,
    browser: &'a Browser,
    id: BrowserId,
    devtools: Option<DevTools>,
    found: Instant,
    /// When the conversation began, and what is waited for where it ends.
    begun: Instant,
    pause: Duration,
    /// There was one, and it has ended.
    lost: bool,
    /// When its DevTools are tried again.
    again: Instant,
    /// Why its DevTools are not seen, as it was told.
    told: Option<String>,
    /// What is seen of it meanwhile.
    windows: Windows,
    weigh: Instant,
}

impl<'a> Watch<'a> {
    fn new(browsers: &'a Browsers, browser: &'a Browser) -> Self {
        let now = Instant::now();
        Self {
            browsers,
            browser,
            id: browser.status.id,
            devtools: None,
            found: now,
            begun: now,
            pause: Limits::BROWSER_LOOK / 2,
            lost: false,
            again: now,
            told: None,
            windows: Windows::new(browser.life.pid, &browser.status.display),
            weigh: now + WEIGH_FIRST,
        }
    }

    async fn talk(&mut self) -> std::convert::Infallible {
        let mut turns = interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut left = MESSAGES;
        loop {
            let message = tokio::select! {
                _ = turns.tick() => None,
                message = next(&mut self.devtools), if left > 0 => Some(message),
            };
            let done = match message {
                None => {
                    left = MESSAGES;
                    self.turn().await
                }
                Some(Ok(Some(bytes))) => {
                    left -= 1;
                    self.take(&bytes).await
                }
                Some(Ok(None)) => Err(io::ErrorKind::UnexpectedEof.into()),
                Some(Err(error)) => Err(error),
            };
            if done.is_err() {
                self.lose();
            }
        }
    }

    /// Takes what it said before its end: that its pages went first, perhaps.
    async fn hear_out(&mut self) {
        if self.devtools.is_none() {
            return;
        }
        let rest = async {
            while let Ok(Some(bytes)) = next(&mut self.devtools).await {
                if self.take(&bytes).await.is_err() {
                    return;
                }
            }
        };
        // whoever else has its end of the connection may keep it open
        let _ = timeout(LAST, rest).await;
    }

    async fn take(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(devtools) = &mut self.devtools else { return Ok(()) };
        let seen = devtools.take(bytes).await?;
        if !seen.is_empty() {
            self.browsers.saw(self.id, seen);
        }
        Ok(())
    }

    async fn turn(&mut self) -> io::Result<()> {
        if self.weigh <= Instant::now() {
            let weight = weigh(self.browser.life.pid).await;
            self.browsers.saw(self.id, vec![Seen::Weighs(weight)]);
            self.weigh = Instant::now() + WEIGH;
        }
        let Some(devtools) = &mut self.devtools else {
            self.reach().await;
            let blind = self.devtools.is_none() && self.told.is_some();
            if blind && let Some(seen) = self.windows.look(&self.browsers.glance).await {
                self.browsers.saw(self.id, vec![Seen::Windows(seen)]);
            }
            return Ok(());
        };
        let seen = devtools.tick().await?;
        if !seen.is_empty() {
            self.browsers.saw(self.id, seen);
        }
        Ok(())
    }

    /// Tries to reach its DevTools.
    async fn reach(&mut self) {
        if let Some(why) = self.browser.is_blind() {
            return self.blind(why);
        }
        if self.again > Instant::now() {
            return;
        }
        let mut why = "its DevTools did not open".to_owned();
        let settled = self.lost || self.found.elapsed() >= EAGER;
        for (port, path) in self.browser.devtools() {
            let (asked, pid, driven) = (now(), self.browser.life.pid, self.browser.driven);
            let begun = DevTools::begin((port, &path), pid, driven, &self.browsers.held).await;
            match begun {
                Ok((devtools, seen)) => {
                    (self.devtools, self.told, self.lost) = (Some(devtools), None, false);
                    self.begun = Instant::now();
                    self.windows.forget();
                    self.browsers.reached(self.id, Some((port, path)));
                    return self.browsers.saw(self.id, seen);
                }
                // it listens and says nothing, which is no more than its start at first
                Err(error) if settled && error.kind() == io::ErrorKind::TimedOut => {
                    (self.again, self.told) = (Instant::now() + Limits::BROWSER_LOOK, None);
                    return self.browsers.saw(self.id, vec![Seen::Silent(None, asked)]);
                }
                Err(error) => why = format!("its DevTools cannot be reached: {error}"),
            }
        }
        if settled {
            self.again = Instant::now() + if self.lost { self.pause } else { PAUSE };
            self.blind(&why);
        }
    }

    fn blind(&mut self, why: &str) {
        if self.told.as_deref() != Some(why) {
            self.told = Some(why.to_owned());
            self.windows.forget();
            self.browsers.saw(self.id, vec![Seen::Blind(why.to_owned())]);
        }
    }

    /// The conversation ended: it is begun again where the browser has not ended too, and what it
    /// showed last stands until that is known.
    fn lose(&mut self) {
        (self.devtools, self.lost) = (None, true);
        self.browsers.reached(self.id, None);
        let steady = self.begun.elapsed() >= STEADY;
        self.pause = if steady { Limits::BROWSER_LOOK } else { (2 * self.pause).min(PAUSE) };
        self.again = Instant::now() + self.pause;
    }
}

async fn next(devtools: &mut Option<DevTools>) -> io::Result<Option<Vec<u8>>> {
    match devtools {
        Some(devtools) => devtools.next().await,
        None => std::future::pending().await,
    }
}
