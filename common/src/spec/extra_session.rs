//! What sessions of a spec are beyond a command line, as lines in front of its setup script.

use super::{AgentProgram, InvalidExtras, Permissions, SessionProgram, extras::at_most};
use crate::{Limits, SessionName};

type Sessions = Vec<(SessionName, SessionProgram)>;

/// Checks names, bounds (PID 1 is told all of it in one message), and that no two work on one branch.
pub(super) fn validate(sessions: &Sessions) -> Result<(), InvalidExtras> {
    at_most("sessions", sessions.len(), Limits::SESSIONS)?;
    for (at, (name, program)) in sessions.iter().enumerate() {
        let refused = |why: String| Err(InvalidExtras::Session { name: name.clone(), why });
        let earlier = &sessions[..at];
        if earlier.iter().any(|(other, _)| other == name) {
            return refused("is defined twice".to_owned());
        }
        let branch = program.branch.as_ref();
        let same = |(_, other): &&(_, SessionProgram)| other.branch.as_ref() == branch;
        if let (Some(branch), Some((other, _))) = (branch, earlier.iter().find(same)) {
            return refused(format!("works on branch {branch}, as session {other} does"));
        }
        if let Err(why) = program.validate() {
            return refused(why.to_string());
        }
    }
    let bytes = sessions.iter().map(|(_, program)| program.bytes()).sum();
    at_most("bytes of sessions", bytes, Limits::SESSIONS_BESIDE_BYTES)
}

/// Writes each with `line`, which takes a key and a value.
pub(super) fn write(sessions: &Sessions, line: &mut impl FnMut(&str, &str)) {
    for (name, program) in sessions {
        let SessionProgram { agent, permissions, command, branch, prompt } = program;
        line("session", name.as_str());
        if let Some(agent) = agent {
            line("agent", agent.as_str());
            line("permissions", permissions.as_str());
        }
        if !command.is_empty() {
            line("words", command);
        }
        if let Some(branch) = branch {
            line("branch", branch);
        }
        // the first says that there is one
        if !prompt.is_empty() {
            prompt.split('\n').for_each(|text| line("prompt", text));
        }
    }
}

/// Reads one line; what is not known is of a later version and left out.
pub(super) fn take(sessions: &mut Sessions, key: &str, value: &str) -> Option<()> {
    if key == "session" {
        sessions.push((value.parse().ok()?, SessionProgram::default()));
        return Some(());
    }
    let (_, program) = sessions.last_mut()?;
    match key {
        "agent" => {
            program.agent = AgentProgram::ALL.into_iter().find(|agent| agent.as_str() == value);
        }
        "permissions" => program.permissions = value.parse().unwrap_or(Permissions::Ask),
        "words" => value.clone_into(&mut program.command),
        "branch" => program.branch = Some(value.to_owned()),
        "prompt" => {
            if !program.prompt.is_empty() {
                program.prompt.push('\n');
            }
            program.prompt.push_str(value);
        }
        _ => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Extras;

    fn of(name: &str, program: SessionProgram) -> Extras {
        let session = (name.parse().expect("a name"), program);
        Extras { sessions: vec![session], ..Extras::default() }
    }

    fn program() -> SessionProgram {
        SessionProgram {
            agent: Some(AgentProgram::Codex),
            permissions: Permissions::Ask,
            command: "--model 'a b'".to_owned(),
            branch: Some("fix/one".to_owned()),
            prompt: "look\n\n#warren:prompt closely\n\tat it".to_owned(),
        }
    }

    #[test]
    fn what_a_session_is_stands_before_the_script_and_is_read_again() {
        let command = SessionProgram { agent: None, prompt: String::new(), ..program() };
        let command = SessionProgram { permissions: Permissions::Bypass, ..command };
        for program in [program(), command, SessionProgram::default()] {
            let extras = of("main", program);
            let text = extras.before(Some("make\n".to_owned())).expect("a text");
            assert_eq!(Extras::split(&text), (extras, "make\n"));
        }
        // as an earlier version reads what it does not know
        let later = "#warren:extras 1\n#warren:session main\n#warren:mood good\nmake\n";
        assert_eq!(Extras::split(later), (of("main", SessionProgram::default()), "make\n"));
    }

    #[test]
    fn two_on_one_branch_and_what_no_session_may_be_are_refused() {
        let mut two = of("main", program());
        two.sessions.push(("second".parse().expect("a name"), program()));
        let why = two.validate().expect_err("one branch").to_string();
        assert_eq!(why, "session second: works on branch fix/one, as session main does");
        two.sessions[1].1.branch = None;
        assert_eq!(two.validate(), Ok(()));
        two.sessions[1].0 = two.sessions[0].0.clone();
        assert!(two.validate().is_err(), "twice");
        let long = SessionProgram { prompt: "x".repeat(Limits::PROMPT_BYTES), ..program() };
        let mut three = of("a", SessionProgram { branch: None, ..long });
        for name in ["b", "c"] {
            let program = three.sessions[0].1.clone();
            three.sessions.push((name.parse().expect("a name"), program));
        }
        assert!(three.validate().is_err(), "too much for one message");
        let no_agent = SessionProgram { agent: None, ..program() };
        assert!(of("main", no_agent).validate().is_err(), "a prompt for nobody");
    }
}
