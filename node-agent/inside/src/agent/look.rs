//! A look at the sessions: which pane of each holds its agent, and what that does.

use std::{fs, time::Duration};

use warren_common::{Limits, Timestamp, agent::AgentKind};

use super::{
    detect::{self, Found},
    entry::{Entry, Meets},
    roster::Roster,
    tree,
};
use crate::tmux::{Pane, Seen};

/// How long after the kernel killed something for memory an end counts as that.
const OOM: Duration = Duration::from_secs(10);

/// What the kernel counts of kills for memory: version 2 of control groups, and version 1.
const COUNTERS: [&str; 2] =
    ["/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"];

/// Kills for memory in this workspace.
#[derive(Debug, Default)]
pub(crate) struct Kills {
    count: Option<u64>,
    last: Option<Timestamp>,
}

impl Kills {
    /// Looks whether there were more.
    pub(crate) fn look(&mut self, now: Timestamp) {
        let text = COUNTERS.iter().find_map(|path| fs::read_to_string(path).ok());
        let Some(count) = text.as_deref().and_then(kills) else { return };
        if self.count.is_some_and(|before| count > before) {
            self.last = Some(now);
        }
        self.count = Some(count);
    }

    /// Returns whether there was one a moment ago.
    pub(crate) fn recent(&self, now: Timestamp) -> bool {
        self.last.is_some_and(|at| now.since(at) < OOM)
    }
}

fn kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

impl Roster {
    /// Takes in what a look at the sessions shows.
    pub(super) fn look(&mut self, sessions: &[Seen], now: Timestamp) {
        let before = std::mem::replace(&mut self.sessions, sessions.to_vec());
        self.entries.retain(|name, _| made(&before, name) == made(sessions, name));
        for seen in sessions {
            self.look_at(seen, now);
        }
        self.hear_early(now);
        for entry in self.entries.values_mut() {
            entry.take_changed();
        }
    }

    /// Reads the records of every agent that keeps one.
    pub(super) fn look_at_records(&mut self, now: Timestamp) {
        for entry in self.entries.values_mut() {
            entry.records(&self.records, now);
            entry.tick(now);
        }
    }

    fn look_at(&mut self, seen: &Seen, now: Timestamp) {
        let (pane, found) = self.follow(seen, now);
        let Some(entry) = self.entries.get_mut(&seen.name) else { return };
        match pane {
            Some(pane) if pane.dead => {
                if !entry.has_ended() {
                    self.kills.look(now);
                }
                entry.died(pane, self.kills.recent(now), now);
            }
            Some(pane) => entry.look(pane, found.as_ref(), now),
            None => {}
        }
        entry.records(&self.records, now);
        entry.viewed(seen.viewers, now);
    }

    /// Finds the session's agent, or another one in its place.
    pub(super) fn follow<'a>(
        &mut self,
        seen: &'a Seen,
        now: Timestamp,
    ) -> (Option<&'a Pane>, Option<Found>) {
        let entry = self.entries.get(&seen.name);
        let own = entry.and_then(|entry| seen.panes.iter().find(|pane| pane.id == entry.pane));
        if let (Some(entry), Some(pane)) = (entry, own)
            && entry.kind().tells()
            && entry.process().is_some()
            && entry.is_alive()
            && !pane.dead
        {
            return (Some(pane), None);
        }
        if let (Some(entry), Some(pane), 1) = (entry, own, seen.panes.len())
            && entry.rests(pane, now)
        {
            return (Some(pane), None);
        }
        let mut best: Option<(&Pane, Option<Found>)> = None;
        for pane in &seen.panes {
            let found = if pane.dead { None } else { detect::in_pane(pane.process) };
            let worth = |pane: &Pane, found: &Option<Found>| {
                let tells = found.as_ref().is_some_and(|found| found.kind.tells());
                (tells, own.is_some_and(|own| own.id == pane.id), found.is_some())
            };
            if best.as_ref().is_none_or(|(p, f)| worth(pane, &found) > worth(p, f)) {
                best = Some((pane, found));
            }
        }
        let Some((pane, found)) = best else { return (None, None) };
        let known = entry.is_some();
        // a login shell may take its time before the agent is there
        if let (Some(found), Some(agent)) = (&found, seen.agent)
            && entry.is_none_or(|entry| entry.has_ended() || entry.may_come(now))
            && !found.kind.tells()
            && detect::is_on_its_way(pane.process)
            && !found.front.iter().any(|pid| tree::reads_terminal(*pid))
        {
            if !entry.is_some_and(Entry::is_expected) {
                let kind = AgentKind::named(agent.as_str());
                self.insert(&seen.name, Entry::expected(kind, &pane.id, now));
            }
            return (Some(pane), None);
        }
        match &found {
            Some(found) => self.met(&seen.name, (pane, found), now),
            None if !known => {
                let kind = detect::kind(std::slice::from_ref(&seen.command));
                let made = Timestamp(seen.created.saturating_mul(1000)).min(now);
                self.insert(&seen.name, Entry::new(kind, &pane.id, made));
            }
            None => {}
        }
        (Some(pane), found)
    }

    fn met(&mut self, session: &str, (pane, found): (&Pane, &Found), now: Timestamp) {
        let Some(entry) = self.entries.get_mut(session) else {
            return self.insert(session, Entry::found(found, &pane.id, now));
        };
        match entry.meets(found) {
            Meets::Same if entry.pane.is_empty() => entry.pane.clone_from(&pane.id),
            Meets::Same => entry.noticed(found, now),
            Meets::Lost => entry.lost(found.life, now),
            Meets::Again => {
                entry.pane.clone_from(&pane.id);
                entry.came_up(found.life, now);
            }
            Meets::Other => self.insert(session, Entry::found(found, &pane.id, now)),
        }
    }

    pub(super) fn insert(&mut self, session: &str, entry: Entry) {
        let known = self.entries.contains_key(session);
        if known || self.entries.len() < Limits::SESSIONS {
            self.entries.insert(session.to_owned(), entry);
        }
    }

    /// Returns the session whose agent of this kind is in this folder: one that never told of a
    /// thread before one that did.
    pub(super) fn in_folder(&self, kind: &AgentKind, folder: &str) -> Option<String> {
        let of_kind = self.entries.iter().filter(|(_, entry)| entry.kind() == kind);
        let there = of_kind.filter(|(_, entry)| {
            let process = entry.process().filter(|_| !folder.is_empty());
            process.and_then(|process| super::tree::folder(process.pid)).as_deref() == Some(folder)
        });
        there.min_by_key(|(_, entry)| !entry.thread.is_empty()).map(|(name, _)| name.clone())
    }
}

/// When the session of this name was made; none where there is none.
fn made(sessions: &[Seen], name: &str) -> Option<u64> {
    sessions.iter().find(|seen| seen.name == name).map(|seen| seen.created)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_for_memory_are_counted_in_both_versions() {
        assert_eq!(kills("low 0\noom 3\noom_kill 2\noom_group_kill 0\n"), Some(2));
        assert_eq!(kills("oom_kill_disable 0\nunder_oom 0\noom_kill 7\n"), Some(7));
        assert_eq!(kills("under_oom 0\n"), None);
    }
}
