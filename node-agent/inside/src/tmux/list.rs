//! What tmux says about its sessions.
//!
//! Everything here comes from the workspace and may be forged by what runs in it: lines that do not
//! fit are left out, names that are not session names too (nobody could address them), and there
//! are bounds on all of it.

use std::collections::BTreeMap;

use warren_common::{Limits, SessionName, spec::AgentProgram, status::clean};

/// Sessions looked at, at most; a status message holds fewer.
const SESSIONS_SEEN: usize = 256;
/// Bytes of a session's command in a status message.
pub(crate) const COMMAND_SHOWN_BYTES: usize = 512;
/// Bytes kept of a pane's title, and of its id.
const TITLE_BYTES: usize = Limits::AGENT_SUMMARY_BYTES;
const ID_BYTES: usize = 16;

/// One line per pane: numbers first, the session's name last. Letters before fields that may be
/// empty. A name that is cut is longer than any session name.
pub(super) const PANES: &str = "P #{pid} #{pane_id} #{session_created} #{window_activity} #{pane_dead} \
     s#{pane_dead_status} g#{pane_dead_signal} #{pane_pid} #{=80:session_name}";
/// One line per pane with the program that runs in it and the pane's title, which may both be of any
/// length.
pub(super) const TEXTS: &str = "C #{pane_id} #{=64:pane_current_command}\t#{=160:pane_title}";
/// One line per viewer; control clients are none.
pub(super) const CLIENTS: &str = "V #{client_control_mode} #{=80:client_session}";

/// One session as tmux sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its name.
    pub(crate) name: String,
    /// The program in its first pane.
    pub(crate) command: String,
    /// The agent that it was asked for with, and nothing else.
    pub(crate) agent: Option<AgentProgram>,
    /// None while a program runs in it, else the exit code of the first one that ended.
    pub(crate) exit: Option<i32>,
    /// When it was made, seconds since the epoch.
    pub(crate) created: u64,
    /// When it last wrote something, seconds since the epoch.
    pub(crate) active: u64,
    /// Terminals that show it.
    pub(crate) viewers: u32,
    /// Its panes, at most [`Limits::PANES`].
    pub(crate) panes: Vec<Pane>,
}

/// One pane as tmux sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pane {
    /// tmux's id: `%` and a number.
    pub(crate) id: String,
    /// Process id of what it runs.
    pub(crate) process: u32,
    /// When its window last wrote something, seconds since the epoch.
    pub(crate) active: u64,
    /// Its program has ended.
    pub(crate) dead: bool,
    /// The exit code, once it is known and no signal ended it.
    pub(crate) code: Option<i32>,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
    /// Its title.
    pub(crate) title: String,
}

/// Everything one look shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    /// The sessions, by name.
    pub(super) sessions: Vec<Seen>,
    /// The server's process id where it has a pane.
    pub(super) server: Option<i32>,
    /// The same where it has a pane whose program ended in an unknown way.
    pub(super) unreaped: Option<i32>,
}

struct Line<'a> {
    server: i32,
    created: u64,
    exit: Option<i32>,
    session: &'a str,
    pane: Pane,
}

/// Parses the answers to [`PANES`], [`TEXTS`] and [`CLIENTS`].
pub(super) fn parse(text: &str) -> Listing {
    let (mut server, mut unreaped) = (None, None);
    let mut sessions: BTreeMap<&str, Seen> = BTreeMap::new();
    for line in text.lines().filter_map(|line| pane(line.strip_prefix("P ")?)) {
        server = Some(line.server);
        if line.pane.dead && line.exit.is_none() {
            unreaped = Some(line.server);
        }
        add(&mut sessions, line);
    }
    for line in text.lines() {
        if let Some((id, texts)) = line.strip_prefix("C ").and_then(|rest| rest.split_once(' ')) {
            texts_of(&mut sessions, id, texts);
        }
        let viewed = line.strip_prefix("V 0 ").and_then(|name| sessions.get_mut(name));
        viewed.into_iter().for_each(|seen| seen.viewers += 1);
    }
    Listing { sessions: sessions.into_values().collect(), server, unreaped }
}

fn texts_of(sessions: &mut BTreeMap<&str, Seen>, id: &str, texts: &str) {
    let (command, title) = texts.split_once('\t').unwrap_or((texts, ""));
    for seen in sessions.values_mut() {
        let Some(at) = seen.panes.iter().position(|pane| pane.id == id) else { continue };
        seen.panes[at].title = shown(title, TITLE_BYTES);
        if at == 0 {
            seen.command = shown(command, COMMAND_SHOWN_BYTES);
        }
        return;
    }
}

fn shown(text: &str, limit: usize) -> String {
    clean(text, limit).replace(['\n', '\t'], " ")
}

fn add<'a>(sessions: &mut BTreeMap<&'a str, Seen>, line: Line<'a>) {
    let Line { session, created, exit, pane, .. } = line;
    if let Some(seen) = sessions.get_mut(session) {
        seen.active = seen.active.max(pane.active);
        if seen.panes.len() < Limits::PANES {
            seen.panes.push(pane);
        }
        if exit.is_none() {
            seen.exit = None;
        }
        return;
    }
    if sessions.len() == SESSIONS_SEEN || session.parse::<SessionName>().is_err() {
        return;
    }
    let seen = Seen {
        name: session.to_owned(),
        command: String::new(),
        agent: None,
        exit,
        created,
        active: pane.active,
        viewers: 0,
        panes: vec![pane],
    };
    sessions.insert(session, seen);
}

fn pane(line: &str) -> Option<Line<'_>> {
    let mut fields = line.splitn(9, ' ');
    let server = fields.next()?.parse().ok()?;
    let id = shown(fields.next()?, ID_BYTES);
    let created = fields.next()?.parse().ok()?;
    let active = fields.next()?.parse().ok()?;
    let dead = fields.next()? == "1";
    let code = fields.next()?.strip_prefix('s')?.parse::<i32>().ok().filter(|_| dead);
    let signal = fields.next()?.strip_prefix('g')?.parse::<i32>().ok().filter(|_| dead);
    // A pane is dead for a moment before its program's end is known.
    let exit = code.or(signal.map(|number| number.saturating_add(128)));
    let process = fields.next()?.parse().ok()?;
    let pane = Pane { id, process, active, dead, code, signal, title: String::new() };
    Some(Line { server, created, exit, session: fields.next()?, pane })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_from_their_panes() {
        let text = "P 42 %0 100 105 0 s g 51 main\n\
                    P 42 %1 200 201 1 s3 g 52 tests\n\
                    P 42 %2 300 301 1 s g9 53 killed\n\
                    P 42 %3 300 400 1 s0 g 54 two\n\
                    P 42 %4 300 300 0 s g 55 two\n\
                    P 42 %5 1 1 0 s g 56 Odd name\n\
                    P 42 %6 1 1 1 s g 57 ending\n\
                    P nonsense\n\
                    C %1 cat\t✳ two words \x1b[0m\n\
                    C %0 claude\n\
                    C %4 vim\n\
                    V 0 main\n\
                    V 0 main\n\
                    V 1 main\n";
        let Listing { sessions: seen, server, unreaped } = parse(text);
        assert_eq!((server, unreaped), (Some(42), Some(42)));
        let panes: Vec<_> = seen
            .iter()
            .flat_map(|seen| &seen.panes)
            .map(|pane| (pane.id.as_str(), pane.process, pane.active))
            .collect();
        assert_eq!(
            panes,
            [
                ("%6", 57, 1),
                ("%2", 53, 301),
                ("%0", 51, 105),
                ("%1", 52, 201),
                ("%3", 54, 400),
                ("%4", 55, 300)
            ]
        );
        let pane = |at: usize| &seen[at].panes[0];
        assert_eq!((pane(1).code, pane(1).signal, pane(1).dead), (None, Some(9), true));
        assert_eq!((pane(3).code, pane(3).title.as_str()), (Some(3), "✳ two words [0m"));
        let short: Vec<_> = seen
            .iter()
            .map(|s| (s.name.as_str(), s.exit, s.active, s.viewers, s.command.as_str()))
            .collect();
        assert_eq!(
            short,
            [
                ("ending", None, 1, 0, ""),
                ("killed", Some(137), 301, 0, ""),
                ("main", None, 105, 2, "claude"),
                ("tests", Some(3), 201, 0, "cat"),
                ("two", None, 400, 0, ""),
            ]
        );
    }

    #[test]
    fn a_flood_of_sessions_is_cut() {
        let text: String = (0..900).map(|n| format!("P 42 %{n} 1 1 0 s g 9 s{n}\n")).collect();
        assert_eq!(parse(&text).unreaped, None);
        assert_eq!(parse(&text).sessions.len(), SESSIONS_SEEN);
    }
}
