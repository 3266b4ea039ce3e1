//! What tmux says about its sessions.
//!
//! Everything here comes from the workspace and may be forged by what runs in it: lines that do not
//! fit are left out, names that are not session names too (nobody could address them), and there
//! are bounds on all of it.

use std::collections::BTreeMap;

use warren_common::{Limits, SessionName, status::clean};

/// Sessions looked at, at most; a status message holds fewer.
const SESSIONS_SEEN: usize = 256;
/// Bytes of a session's command in a status message.
pub(crate) const COMMAND_SHOWN_BYTES: usize = 512;

/// One line per pane: numbers first, the session's name last. Letters before fields that may be
/// empty.
pub(super) const PANES: &str = "P #{pid} #{pane_id} #{session_created} #{window_activity} #{pane_dead} \
     s#{pane_dead_status} g#{pane_dead_signal} #{pane_pid} #{session_name}";
/// One line per pane with the program that runs in it.
pub(super) const COMMANDS: &str = "C #{pane_id} #{pane_current_command}";
/// One line per viewer; control clients are none.
pub(super) const CLIENTS: &str = "V #{client_control_mode} #{client_session}";

/// One session as tmux sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its name.
    pub(crate) name: String,
    /// The program in its first pane.
    pub(crate) command: String,
    /// None while a program runs in it, else the exit code of the first one that ended.
    pub(crate) exit: Option<i32>,
    /// When it was made, seconds since the epoch.
    pub(crate) created: u64,
    /// When it last wrote something, seconds since the epoch.
    pub(crate) active: u64,
    /// Terminals that show it.
    pub(crate) viewers: u32,
    /// Process ids of what its panes run.
    pub(crate) panes: Vec<u32>,
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

struct Pane<'a> {
    server: i32,
    dead: bool,
    id: &'a str,
    created: u64,
    active: u64,
    exit: Option<i32>,
    process: u32,
    session: &'a str,
}

/// Parses the answers to [`PANES`], [`COMMANDS`] and [`CLIENTS`].
pub(super) fn parse(text: &str) -> Listing {
    let (mut server, mut unreaped) = (None, None);
    let mut sessions: BTreeMap<&str, (Seen, &str)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(pane) = line.strip_prefix("P ").and_then(pane) {
            add(&mut sessions, &pane);
            server = Some(pane.server);
            if pane.dead && pane.exit.is_none() {
                unreaped = Some(pane.server);
            }
        }
    }
    for line in text.lines() {
        if let Some((id, command)) = line.strip_prefix("C ").and_then(|rest| rest.split_once(' ')) {
            let owner = sessions.values_mut().find(|(_, first)| *first == id);
            if let Some((seen, _)) = owner {
                seen.command = clean(command, COMMAND_SHOWN_BYTES).replace(['\n', '\t'], " ");
            }
        }
        let viewed = line.strip_prefix("V 0 ").and_then(|name| sessions.get_mut(name));
        if let Some((seen, _)) = viewed {
            seen.viewers += 1;
        }
    }
    let sessions = sessions.into_values().map(|(seen, _)| seen).collect();
    Listing { sessions, server, unreaped }
}

fn add<'a>(sessions: &mut BTreeMap<&'a str, (Seen, &'a str)>, pane: &Pane<'a>) {
    if let Some((seen, _)) = sessions.get_mut(pane.session) {
        seen.active = seen.active.max(pane.active);
        if seen.panes.len() < Limits::PANES {
            seen.panes.push(pane.process);
        }
        if pane.exit.is_none() {
            seen.exit = None;
        }
        return;
    }
    if sessions.len() == SESSIONS_SEEN || pane.session.parse::<SessionName>().is_err() {
        return;
    }
    let seen = Seen {
        name: pane.session.to_owned(),
        command: String::new(),
        exit: pane.exit,
        created: pane.created,
        active: pane.active,
        viewers: 0,
        panes: vec![pane.process],
    };
    sessions.insert(pane.session, (seen, pane.id));
}

fn pane(line: &str) -> Option<Pane<'_>> {
    let mut fields = line.splitn(9, ' ');
    let server = fields.next()?.parse().ok()?;
    let id = fields.next()?;
    let created = fields.next()?.parse().ok()?;
    let active = fields.next()?.parse().ok()?;
    let dead = fields.next()? == "1";
    let status = fields.next()?.strip_prefix('s')?.parse::<i32>().ok();
    let signal = fields.next()?.strip_prefix('g')?.parse::<i32>().ok();
    // A pane is dead for a moment before its program's end is known.
    let code = status.or(signal.map(|number| 128 + number));
    let exit = code.filter(|_| dead);
    let process = fields.next()?.parse().ok()?;
    Some(Pane { server, dead, id, created, active, exit, process, session: fields.next()? })
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
                    C %0 claude\n\
                    C %4 vim\n\
                    V 0 main\n\
                    V 0 main\n\
                    V 1 main\n";
        let Listing { sessions: seen, server, unreaped } = parse(text);
        assert_eq!((server, unreaped), (Some(42), Some(42)));
        assert_eq!(seen.last().map(|two| two.panes.as_slice()), Some(&[54, 55][..]));
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
                ("tests", Some(3), 201, 0, ""),
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
