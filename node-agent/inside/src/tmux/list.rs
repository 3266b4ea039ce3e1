//! What tmux says about its sessions.
//!
//! Everything here comes from the workspace and may be forged by what runs in it: lines that do not
//! fit are left out, names that are not session names too (nobody could address them), and there
//! are bounds on all of it.

use std::collections::BTreeMap;

use warren_common::{SessionName, status::clean};

/// Sessions in one status message, at most.
pub(crate) const SESSIONS_SHOWN: usize = 64;
/// Bytes of a session's command in a status message.
pub(crate) const COMMAND_SHOWN_BYTES: usize = 512;

/// One line per pane: numbers first, the session's name last. Letters before fields that may be
/// empty.
pub(super) const PANES: &str = "P #{pane_id} #{session_created} #{window_activity} #{pane_dead} \
     s#{pane_dead_status} g#{pane_dead_signal} #{session_name}";
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
}

struct Pane<'a> {
    id: &'a str,
    created: u64,
    active: u64,
    exit: Option<i32>,
    session: &'a str,
}

/// Parses the answers to [`PANES`], [`COMMANDS`] and [`CLIENTS`]; the result is ordered by name.
pub(super) fn parse(text: &str) -> Vec<Seen> {
    let mut sessions: BTreeMap<&str, (Seen, &str)> = BTreeMap::new();
    for line in text.lines() {
        if let Some(pane) = line.strip_prefix("P ").and_then(pane) {
            add(&mut sessions, &pane);
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
    sessions.into_values().map(|(seen, _)| seen).collect()
}

fn add<'a>(sessions: &mut BTreeMap<&'a str, (Seen, &'a str)>, pane: &Pane<'a>) {
    if let Some((seen, _)) = sessions.get_mut(pane.session) {
        seen.active = seen.active.max(pane.active);
        if pane.exit.is_none() {
            seen.exit = None;
        }
        return;
    }
    if sessions.len() == SESSIONS_SHOWN || pane.session.parse::<SessionName>().is_err() {
        return;
    }
    let seen = Seen {
        name: pane.session.to_owned(),
        command: String::new(),
        exit: pane.exit,
        created: pane.created,
        active: pane.active,
        viewers: 0,
    };
    sessions.insert(pane.session, (seen, pane.id));
}

fn pane(line: &str) -> Option<Pane<'_>> {
    let mut fields = line.splitn(7, ' ');
    let id = fields.next()?;
    let created = fields.next()?.parse().ok()?;
    let active = fields.next()?.parse().ok()?;
    let dead = fields.next()? == "1";
    let status = fields.next()?.strip_prefix('s')?.parse::<i32>().ok();
    let signal = fields.next()?.strip_prefix('g')?.parse::<i32>().ok();
    let code = status.or(signal.map(|number| 128 + number)).unwrap_or(255);
    Some(Pane { id, created, active, exit: dead.then_some(code), session: fields.next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_come_from_their_panes() {
        let text = "P %0 100 105 0 s g main\n\
                    P %1 200 201 1 s3 g tests\n\
                    P %2 300 301 1 s g9 killed\n\
                    P %3 300 400 1 s0 g two\n\
                    P %4 300 300 0 s g two\n\
                    P %5 1 1 0 s g Odd name\n\
                    P nonsense\n\
                    C %0 claude\n\
                    C %4 vim\n\
                    V 0 main\n\
                    V 0 main\n\
                    V 1 main\n";
        let seen = parse(text);
        let short: Vec<_> = seen
            .iter()
            .map(|s| (s.name.as_str(), s.exit, s.active, s.viewers, s.command.as_str()))
            .collect();
        assert_eq!(
            short,
            [
                ("killed", Some(137), 301, 0, ""),
                ("main", None, 105, 2, "claude"),
                ("tests", Some(3), 201, 0, ""),
                ("two", None, 400, 0, ""),
            ]
        );
    }

    #[test]
    fn a_flood_of_sessions_is_cut() {
        let text: String = (0..500).map(|n| format!("P %{n} 1 1 0 s g s{n}\n")).collect();
        assert_eq!(parse(&text).len(), SESSIONS_SHOWN);
    }
}
