//! What came of the stories: a line for each step, and in the end the time of each story and what was
//! taken for what.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use anyhow::{Result, ensure};
use serde_json::Value;

use super::cast::Agent;

/// What came of the steps.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// Said as it was.
    pub right: usize,
    /// Said otherwise.
    pub wrong: usize,
}

/// What came of all of it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    /// Of agents whose hooks are heard.
    pub hooks: Count,
    /// Of those whose hooks are cut off: what is seen from outside.
    pub bare: Count,
    /// Said of those and not marked as it must be.
    pub mislabelled: usize,
}

impl Tally {
    /// Holds where something was said and all of it was right; without hooks, where nearly all was,
    /// and all of it marked as what it is.
    ///
    /// # Errors
    /// Fails otherwise.
    pub fn hold(self) -> Result<()> {
        let Self { hooks, bare, mislabelled } = self;
        ensure!(hooks.wrong == 0, "{} of what was said was wrong", hooks.wrong);
        ensure!(hooks.right + bare.right > 0, "nothing was said at all");
        ensure!(bare.wrong <= bare.right / 9, "without hooks {} were wrong", bare.wrong);
        ensure!(mislabelled == 0, "without hooks {mislabelled} were not marked as what they are");
        Ok(())
    }
}

/// What a step expected and what was seen.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) wanted: String,
    /// What was so in the end.
    pub(super) state: String,
    /// The same with who said it.
    pub(super) shown: String,
    pub(super) right: bool,
    /// It is marked as what it is.
    pub(super) labelled: bool,
    /// It is read from what is seen from outside.
    pub(super) derived: bool,
    pub(super) took: Duration,
    /// Why that was said, where it is wrong.
    pub(super) evidence: String,
}

/// All that came so far.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    tally: Tally,
    /// How often each was taken for what, and how often that was derived; with hooks and without.
    taken: BTreeMap<(bool, String, String), (usize, usize)>,
    /// Each agent's stories in their order.
    stories: Vec<(&'static str, &'static str, Duration, Count)>,
}

impl Inner {
    fn count(&mut self, agent: &Agent, story: &'static str, right: bool) {
        let tally = if agent.hooks { &mut self.tally.hooks } else { &mut self.tally.bare };
        let count = &mut Self::story(&mut self.stories, agent.name, story).3;
        for count in [tally, count] {
            *(if right { &mut count.right } else { &mut count.wrong }) += 1;
        }
    }

    fn story<'a>(
        stories: &'a mut Vec<(&'static str, &'static str, Duration, Count)>,
        agent: &'static str,
        story: &'static str,
    ) -> &'a mut (&'static str, &'static str, Duration, Count) {
        let place = stories.iter().position(|one| (one.0, one.1) == (agent, story));
        let place = place.unwrap_or_else(|| {
            stories.push((agent, story, Duration::ZERO, Count::default()));
            stories.len() - 1
        });
        &mut stories[place]
    }
}

impl Table {
    /// Takes in a step, and prints it.
    pub(super) fn add(&self, agent: &Agent, story: &'static str, seen: &Seen) {
        let mut inner = self.inner();
        inner.count(agent, story, seen.right);
        inner.tally.mislabelled += usize::from(!seen.labelled);
        let key = (agent.hooks, seen.wanted.clone(), seen.state.clone());
        let (all, derived) = inner.taken.entry(key).or_default();
        *all += 1;
        *derived += usize::from(seen.derived);
        let mark = if seen.right { "" } else { "WRONG: " };
        println!(
            "{:<13}{story:<18}{:<23}{:<40}{:>6} ms",
            agent.name,
            seen.wanted,
            format!("{mark}{}", seen.shown),
            seen.took.as_millis()
        );
        if !seen.right {
            println!("{}", seen.evidence);
        }
    }

    /// Takes in how long a story took.
    pub(super) fn took(&self, agent: &Agent, story: &'static str, span: Duration) {
        Inner::story(&mut self.inner().stories, agent.name, story).2 = span;
    }

    /// Takes in that an agent's stories could not go on, which is wrong.
    pub(super) fn broke_off(&self, agent: &Agent, story: &'static str, error: &anyhow::Error) {
        self.inner().count(agent, story, false);
        println!("{:<13}{story:<18}breaks off: {error:#}", agent.name);
    }

    pub(super) fn tally(&self) -> Tally {
        self.inner().tally
    }

    /// Returns the tables of stories and of what was taken for what.
    pub(super) fn shown(&self) -> String {
        let inner = self.inner();
        let mut text = format!("\n{:<13}{:<18}{:>7}{:>8}\n", "agent", "story", "right", "s");
        let mut stories: Vec<_> = inner.stories.iter().collect();
        stories.sort_by_key(|one| one.0);
        for (agent, story, span, Count { right, wrong }) in stories {
            let of = format!("{right}/{}", right + wrong);
            // writing to a text cannot fail
            let _ = writeln!(text, "{agent:<13}{story:<18}{of:>7}{:>8.1}", span.as_secs_f64());
        }
        for (hooks, title) in [(true, "with hooks"), (false, "without hooks")] {
            let all = || inner.taken.iter().filter(move |((with, ..), _)| *with == hooks);
            if all().next().is_none() {
                continue;
            }
            let Count { right, wrong } = if hooks { inner.tally.hooks } else { inner.tally.bare };
            let _ = writeln!(text, "\n{title}: {right} right, {wrong} wrong");
            let _ = writeln!(text, "{:<23}{:<25}{:>5}{:>9}", "was", "was said", "times", "derived");
            for ((_, wanted, state), (times, derived)) in all() {
                let _ = writeln!(text, "{wanted:<23}{state:<25}{times:>5}{derived:>9}");
            }
        }
        text.push('\n');
        text
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the state that an agent is said to be in, with what it waits for or why it failed:
/// `waiting question`, `error auth`.
pub(super) fn state(agent: &Value) -> String {
    let state = agent["state"].as_str().unwrap_or("nothing");
    let of = match state {
        "waiting" => &agent["wait"]["kind"],
        "error" => &agent["error"]["kind"],
        _ => &Value::Null,
    };
    of.as_str().map_or_else(|| state.to_owned(), |kind| format!("{state} {kind}"))
}

/// Returns whether what is said of an agent whose hooks are not heard is marked as what it is: read
/// from outside, derived. Claude Code's own registry is exact, and so is the end of a process.
pub(super) fn is_labelled(agent: &Agent, said: &Value) -> bool {
    let exact = said["source"] == "registry" || said["state"] == "exited";
    let fits = said["source"] != "hook" && (said["confidence"] == "derived") != exact;
    // of whom nothing is said, nothing is marked
    agent.hooks || said.is_null() || fits
}

/// Returns the state, who said so, and that it is derived where it is.
pub(super) fn shown(agent: &Value) -> String {
    let source = agent["source"].as_str().unwrap_or_default();
    let derived = if agent["confidence"] == "derived" { ", derived" } else { "" };
    let by = if source.is_empty() { String::new() } else { format!(" ({source}{derived})") };
    format!("{}{by}", state(agent))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::{super::cast::CAST, *};

    #[test]
    fn a_state_is_seen_with_what_is_waited_for_and_who_said_so() {
        let idle = json!({"state": "idle", "wait": null, "source": "hook"});
        assert_eq!(shown(&idle), "idle (hook)");
        let guess = json!({"state": "error", "error": {"kind": "auth"}, "source": "title",
            "confidence": "derived"});
        assert_eq!(shown(&guess), "error auth (title, derived)");
        let waiting = json!({"state": "waiting", "wait": {"kind": "permission"}});
        assert_eq!(state(&waiting), "waiting permission");
        assert_eq!(shown(&Value::Null), "nothing");
    }

    #[test]
    fn a_run_that_says_nothing_is_no_success() {
        let count = |right, wrong| Count { right, wrong };
        let hold = |hooks, bare| Tally { hooks, bare, mislabelled: 0 }.hold();
        assert!(hold(count(3, 0), count(0, 0)).is_ok() && hold(count(3, 0), count(9, 1)).is_ok());
        assert!(hold(count(0, 0), count(0, 0)).is_err() && hold(count(3, 1), count(9, 0)).is_err());
        assert!(hold(count(3, 0), count(9, 2)).is_err());
        assert!(Tally { hooks: count(3, 0), mislabelled: 1, ..Tally::default() }.hold().is_err());
    }

    #[test]
    fn without_hooks_all_but_a_registry_and_an_end_is_derived() {
        let said = |state: &str, source: &str, confidence: &str| json!({"state": state, "source": source, "confidence": confidence});
        let (hooked, bare) = (&CAST[0], &CAST[4]);
        assert!(is_labelled(hooked, &said("idle", "hook", "exact")));
        for (state, source, confidence) in [
            ("idle", "title", "derived"),
            ("working", "registry", "exact"),
            ("exited", "tmux", "exact"),
            ("starting", "process", "derived"),
        ] {
            assert!(is_labelled(bare, &said(state, source, confidence)), "{state} {source}");
            let other = if confidence == "exact" { "derived" } else { "exact" };
            assert!(!is_labelled(bare, &said(state, source, other)), "{state} {source}");
        }
        assert!(!is_labelled(bare, &said("idle", "hook", "exact")));
        assert!(!is_labelled(bare, &said("idle", "hook", "derived")));
    }

    #[test]
    fn what_was_taken_for_what_is_told_and_what_broke_off_is_wrong() {
        let table = Table::default();
        let seen = |state: &str| Seen {
            wanted: "idle".to_owned(),
            state: state.to_owned(),
            shown: state.to_owned(),
            right: state == "idle",
            labelled: true,
            derived: true,
            took: Duration::ZERO,
            evidence: String::new(),
        };
        for state in ["idle", "working", "idle"] {
            table.add(&CAST[4], "turn", &seen(state));
        }
        table.took(&CAST[4], "turn", Duration::from_millis(2500));
        table.broke_off(&CAST[0], "permission", &anyhow::anyhow!("no screen"));
        let text = table.shown().split_whitespace().collect::<Vec<_>>().join(" ");
        for part in [
            "bare-claude turn 2/3 2.5",
            "without hooks: 2 right, 1 wrong",
            "idle idle 2 2 idle working 1 1",
        ] {
            assert!(text.contains(part), "no {part:?} in {text}");
        }
        assert_eq!(table.tally().hooks, Count { right: 0, wrong: 1 });
    }
}
