//! Agents that crash: started again after a pause that grows, a bounded number of times in a row.

use std::time::Duration;

use tokio::time::Instant;
use warren_common::{Limits, status::clean};

use crate::clock;

/// Ends that somebody asked for (hang-up, Ctrl-C, SIGTERM), or that come again at once (a program
/// that is not there or may not run).
const NO_CRASH: [i32; 6] = [0, 126, 127, 129, 130, 143];
/// What is told of an agent's last words.
const WORDS_BYTES: usize = 120;

/// How often an agent crashed lately, and what follows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Crashes {
    row: u32,
    /// When it was last started; none before.
    started: Option<Instant>,
    stands: Stands,
    /// Why it ended last.
    why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stands {
    #[default]
    Runs,
    /// It is started again then, after this pause.
    Due(Instant, Duration),
    /// It stays as it ended.
    Enough,
}

/// What follows from a look at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing that is new.
    Nothing,
    /// It crashed: its last words are wanted.
    Crashed(i32),
    /// It is time to start it.
    Start,
    /// Somebody started it, or it ran long enough.
    Well,
}

impl Crashes {
    /// Notes that it was started.
    pub(super) fn started(&mut self, now: Instant) {
        (self.started, self.stands) = (Some(now), Stands::Runs);
    }

    /// Whether it waits to be started.
    pub(super) const fn is_due(&self) -> bool {
        matches!(self.stands, Stands::Due(..))
    }

    /// Takes what was seen: no exit code while it runs.
    pub(super) fn look(&mut self, exit: Option<i32>, now: Instant) -> Turn {
        let crash = exit.filter(|code| !NO_CRASH.contains(code));
        match (self.stands, crash) {
            (Stands::Due(..) | Stands::Enough, None) if exit.is_none() => {
                self.started(now);
                Turn::Well
            }
            (Stands::Runs, Some(code)) => Turn::Crashed(code),
            (Stands::Due(at, _), Some(_)) if now >= at => Turn::Start,
            (Stands::Runs, None) if self.row > 0 && exit.is_none() && self.is_steady(now) => {
                self.row = 0;
                Turn::Well
            }
            (Stands::Runs | Stands::Due(..) | Stands::Enough, _) => Turn::Nothing,
        }
    }

    /// Notes that it crashed, and decides what follows.
    pub(super) fn crashed(&mut self, (code, words): (i32, &str), now: Instant) {
        if self.is_steady(now) {
            self.row = 0;
        }
        self.row += 1;
        let how = match code {
            signal @ 129.. => format!("by signal {}", signal - 128),
            code => format!("with exit code {code}"),
        };
        let said = |line: &&str| !line.is_empty() && !line.starts_with("-- ended");
        let last = words.lines().rev().map(str::trim).find(said);
        self.why = match last {
            Some(line) => format!("{how}: {}", clean(line, WORDS_BYTES)),
            None => how,
        };
        let pause = Limits::AGENT_RESTART_FIRST * 2_u32.saturating_pow(self.row - 1);
        let pause = pause.min(Limits::AGENT_RESTART_MOST);
        self.stands = match self.row > Limits::AGENT_RESTARTS {
            true => Stands::Enough,
            false => Stands::Due(now + pause, pause),
        };
    }

    /// Says how often it crashed, why, and what follows; nothing where all is well.
    pub(super) fn problem(&self) -> String {
        let (row, why) = (self.row, &self.why);
        let times = if row == 1 {
            "it crashed".to_owned()
        } else {
            format!("it crashed {row} times in a row, last")
        };
        match self.stands {
            Stands::Runs if row == 0 => String::new(),
            Stands::Runs => format!("{times} {why}; it was started again"),
            Stands::Due(_, pause) => {
                format!("{times} {why}; it is started again after {}", clock::span(pause))
            }
            Stands::Enough => {
                format!("{times} {why}; it stays so: see its screen, then run the session again")
            }
        }
    }

    fn is_steady(&self, now: Instant) -> bool {
        self.started.is_some_and(|at| now - at >= Limits::AGENT_RESTART_STEADY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_pause_doubles_and_after_some_times_it_stays_as_it_ended() {
        let mut now = Instant::now();
        let mut crashes = Crashes::default();
        crashes.started(now);
        let mut pauses = Vec::new();
        while !matches!(crashes.stands, Stands::Enough) {
            now += SECOND;
            assert_eq!(crashes.look(Some(3), now), Turn::Crashed(3));
            crashes.crashed((3, "starting\n  no such model\n\n-- ended: exit 3\n"), now);
            let Stands::Due(at, pause) = crashes.stands else { break };
            pauses.push(pause.as_secs());
            assert_eq!(crashes.look(Some(3), at - SECOND / 2), Turn::Nothing);
            assert_eq!(crashes.look(Some(3), at), Turn::Start);
            now = at;
            crashes.started(now);
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.len(), Limits::AGENT_RESTARTS as usize);
        assert_eq!(pauses.last(), Some(&Limits::AGENT_RESTART_MOST.as_secs()), "it is reached");
        let problem = crashes.problem();
        assert!(problem.starts_with("it crashed 9 times in a row, last with exit code 3: no such"));
        assert!(problem.contains("run the session again"), "{problem}");
        assert_eq!(crashes.look(Some(3), now + SECOND * 9999), Turn::Nothing);
    }

    #[test]
    fn one_that_ran_long_did_not_crash_in_a_row_and_an_end_that_was_asked_for_is_none() {
        let now = Instant::now();
        let mut crashes = Crashes::default();
        crashes.started(now);
        for asked in NO_CRASH {
            assert_eq!(crashes.look(Some(asked), now), Turn::Nothing, "{asked}");
        }
        crashes.crashed((137, ""), now);
        assert!(
            crashes.problem().contains("it crashed by signal 9; it is started again after 1 s")
        );
        crashes.started(now);
        assert_eq!(crashes.look(None, now + SECOND), Turn::Nothing);
        assert!(crashes.problem().ends_with("it was started again"));
        assert_eq!(crashes.look(None, now + Limits::AGENT_RESTART_STEADY), Turn::Well);
        assert_eq!(crashes.problem(), "");
        crashes.crashed((1, "x"), now + SECOND);
        assert_eq!(crashes.look(None, now + SECOND), Turn::Well, "a person started it");
    }
}
