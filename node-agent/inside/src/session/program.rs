//! Command lines: what starts an agent, anew or with the conversation it had.

use std::{fs, path::Path, path::PathBuf};

use warren_common::spec::AgentProgram;
use warren_proto::{convert::agent_program, pb::inside::v1::Session};

use super::{book::Book, words};

/// What a shell reads as more than words.
const SHELL: &str = "|&;<>()$`\\\"'*?[]#~{}\n";
/// Folders looked through for one conversation, at most.
const FOLDERS: usize = 4096;

/// What runs in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Program {
    /// The agent; none for a command line.
    pub(crate) agent: Option<AgentProgram>,
    /// It acts without asking.
    bypass: bool,
    /// What follows the agent's name, or the whole command line.
    words: String,
}

/// The conversation that an agent is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Conversation {
    /// Its own, of which nothing is known yet.
    Own,
    /// A new one of this id.
    New(String),
    /// The one of this id.
    Resumed(String),
}

impl Program {
    /// Returns what a session runs. A command line that is nothing but an agent's is one.
    pub(crate) fn of(session: &Session) -> Self {
        if let Ok(Some(agent)) = agent_program(&session.agent) {
            let (bypass, words) = (!session.asks, session.arguments.clone());
            return Self { agent: Some(agent), bypass, words };
        }
        let command = session.command.trim();
        let (first, rest) = command.split_once(' ').unwrap_or((command, ""));
        let known = agent_program(first).ok().flatten();
        match known.filter(|_| !command.contains(|c| SHELL.contains(c))) {
            Some(agent) => {
                Self { agent: Some(agent), bypass: false, words: rest.trim().to_owned() }
            }
            None => Self { agent: None, bypass: false, words: session.command.clone() },
        }
    }

    /// Returns the command line as people read it.
    pub(crate) fn shown(&self) -> String {
        match self.agent {
            Some(agent) if self.words.is_empty() => agent.to_string(),
            Some(agent) => format!("{agent} {}", self.words),
            None => self.words.clone(),
        }
    }

    /// Whether its arguments say which conversation it has.
    fn chooses(&self) -> bool {
        self.agent.is_some_and(|agent| words::choose(agent, &self.words))
    }

    fn line(&self, conversation: &Conversation) -> String {
        let Some(agent) = self.agent else { return self.words.clone() };
        let mut words = vec![agent.as_str()];
        match (agent, conversation) {
            (AgentProgram::Claude, Conversation::New(id)) => words.extend(["--session-id", id]),
            (AgentProgram::Codex, Conversation::Resumed(id)) => words.extend(["resume", id]),
            (AgentProgram::Claude | AgentProgram::Gemini, Conversation::Resumed(id)) => {
                words.extend(["--resume", id]);
            }
            (_, Conversation::Own | Conversation::New(_)) => {}
        }
        if self.bypass {
            words.push(agent.bypass());
        }
        if !self.words.is_empty() {
            words.push(&self.words);
        }
        words.join(" ")
    }
}

/// What a session is started with, each time anew.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) program: Program,
    /// The session and its life, for the book.
    pub(crate) name: String,
    pub(crate) life: u64,
    pub(crate) run: u64,
    /// The run that its conversation began with.
    pub(crate) conversation: u64,
    pub(crate) home: PathBuf,
    pub(crate) book: Book,
}

impl Launch {
    /// Returns the command line of a start now, and whether it goes on with a conversation.
    pub(crate) fn line(&self) -> (String, bool) {
        let conversation = self.next();
        (self.program.line(&conversation), matches!(conversation, Conversation::Resumed(_)))
    }

    fn next(&self) -> Conversation {
        let Some(agent) = self.program.agent.filter(|_| !self.program.chooses()) else {
            return Conversation::Own;
        };
        let page = (self.name.as_str(), self.life);
        let known = self.book.conversation(page.0, page.1, self.conversation);
        match (known, agent) {
            (Some(id), _) if is_kept(agent, &self.home, &id) => Conversation::Resumed(id),
            // nothing was ever said in it
            (Some(id), AgentProgram::Claude) => Conversation::New(id),
            (None, AgentProgram::Claude) => match mint() {
                Some(id) => {
                    self.book.begin(page, self.run, &id);
                    Conversation::New(id)
                }
                None => Conversation::Own,
            },
            (Some(_) | None, AgentProgram::Codex | AgentProgram::Gemini) => {
                self.book.begin(page, self.run, "");
                Conversation::Own
            }
        }
    }
}

/// Returns whether the agent has a conversation of this id on the disk.
fn is_kept(agent: AgentProgram, home: &Path, id: &str) -> bool {
    match agent {
        AgentProgram::Claude => {
            let file = format!("{id}.jsonl");
            folders(&home.join(".claude/projects")).any(|folder| folder.join(&file).is_file())
        }
        AgentProgram::Codex => {
            // year, month, day
            let years = folders(&home.join(".codex/sessions"));
            let mut days = years.flat_map(|year| folders(&year)).flat_map(|month| folders(&month));
            let end = format!("-{id}.jsonl");
            days.any(|day| has_file(&day, |name| name.ends_with(&end)))
        }
        AgentProgram::Gemini => {
            // the name holds the beginning of the id
            let part = format!("-{}.json", id.get(..8).unwrap_or(id));
            let mut projects = folders(&home.join(".gemini/tmp"));
            projects.any(|one| has_file(&one.join("chats"), |name| name.contains(&part)))
        }
    }
}

fn folders(path: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(path).into_iter().flatten().take(FOLDERS);
    entries.filter_map(|entry| Some(entry.ok()?.path()))
}

fn has_file(folder: &Path, fits: impl Fn(&str) -> bool) -> bool {
    folders(folder).any(|path| path.file_name().is_some_and(|name| fits(&name.to_string_lossy())))
}

/// Returns a new random id from the kernel.
fn mint() -> Option<String> {
    let id = fs::read_to_string("/proc/sys/kernel/random/uuid").ok()?;
    Some(id.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn session(agent: &str, arguments: &str, command: &str) -> Session {
        Session {
            agent: agent.to_owned(),
            arguments: arguments.to_owned(),
            command: command.to_owned(),
            ..Session::default()
        }
    }

    #[test]
    fn a_command_line_that_is_nothing_but_an_agents_is_one() {
        let agent = |command| Program::of(&session("", "", command)).agent;
        assert_eq!(agent("claude"), Some(AgentProgram::Claude));
        assert_eq!(agent("codex --model x"), Some(AgentProgram::Codex));
        for other in
            ["", "claude; ls", "claude $X", "~/bin/claude", "npm run claude", "FOO=1 claude"]
        {
            assert_eq!(agent(other), None, "{other}");
        }
        assert_eq!(Program::of(&session("", "", "claude; ls")).shown(), "claude; ls");
    }

    #[test]
    fn each_agent_has_its_own_words_for_a_conversation() {
        let line = |agent: &str, conversation: &Conversation| {
            Program::of(&session(agent, "--model m", "")).line(conversation)
        };
        let (new, old) = (Conversation::New("i".into()), Conversation::Resumed("i".into()));
        let claude = "--dangerously-skip-permissions --model m";
        assert_eq!(line("claude", &new), format!("claude --session-id i {claude}"));
        assert_eq!(line("claude", &old), format!("claude --resume i {claude}"));
        let codex = "--dangerously-bypass-approvals-and-sandbox --model m";
        assert_eq!(line("codex", &Conversation::Own), format!("codex {codex}"));
        assert_eq!(line("codex", &old), format!("codex resume i {codex}"));
        assert_eq!(line("gemini", &old), "gemini --resume i --yolo --model m");
    }

    #[test]
    fn a_conversation_is_resumed_where_it_is_on_the_disk() {
        let home = tempfile::tempdir().expect("a folder");
        let config = Config::in_folder(home.path());
        let launch = Launch {
            program: Program::of(&session("claude", "", "")),
            name: "web".to_owned(),
            life: 3,
            run: 3,
            conversation: 3,
            home: home.path().to_owned(),
            book: Book::open(&config),
        };
        let (first, resumed) = launch.line();
        assert!(first.starts_with("claude --session-id ") && !resumed, "{first}");
        assert_eq!(launch.line(), (first.clone(), false), "nothing was said in it");
        let id = first.split(' ').nth(2).expect("an id");
        let folder = home.path().join(".claude/projects/-home-agent-web");
        fs::create_dir_all(&folder).expect("a folder");
        fs::write(folder.join(format!("{id}.jsonl")), "{}").expect("a file");
        let again = launch.line();
        assert!(again.0.starts_with(&format!("claude --resume {id} ")) && again.1, "{again:?}");
        let fresh = Launch { run: 9, conversation: 9, ..launch.clone() };
        let (line, resumed) = fresh.line();
        assert!(line.starts_with("claude --session-id ") && !line.contains(id) && !resumed);
        let own = Launch { program: Program::of(&session("claude", "--continue", "")), ..launch };
        assert!(!own.line().0.contains("--session-id"), "whoever wrote it chose");
    }

    #[test]
    fn a_command_of_an_agent_is_started_again_as_it_was_written() {
        let home = tempfile::tempdir().expect("a folder");
        let config = Config::in_folder(home.path());
        let id = "0199a0b2-7f00-7000-8000-000000000001";
        let day = home.path().join(".codex/sessions/2026/11/26");
        fs::create_dir_all(&day).expect("a folder");
        fs::write(day.join(format!("rollout-2026-{id}.jsonl")), "").expect("a file");
        let book = Book::open(&config);
        book.begin(("web", 3), 3, id);
        let line = |command: &str| {
            let launch = Launch {
                program: Program::of(&session("", "", command)),
                name: "web".to_owned(),
                life: 3,
                run: 3,
                conversation: 3,
                home: home.path().to_owned(),
                book: book.clone(),
            };
            launch.line()
        };
        for command in ["codex review", "codex -m x exec ls", "codex apply task_1"] {
            assert_eq!(line(command), (command.to_owned(), false));
        }
        assert_eq!(line("codex -m x"), (format!("codex resume {id} -m x"), true));
    }

    #[test]
    fn conversations_of_codex_and_gemini_are_found_by_their_names() {
        let home = tempfile::tempdir().expect("a folder");
        let id = "0199a0b2-7f00-7000-8000-000000000001";
        let day = home.path().join(".codex/sessions/2026/11/26");
        let chats = home.path().join(".gemini/tmp/abc/chats");
        for folder in [&day, &chats] {
            fs::create_dir_all(folder).expect("a folder");
        }
        for agent in [AgentProgram::Codex, AgentProgram::Gemini] {
            assert!(!is_kept(agent, home.path(), id), "{agent}");
        }
        let rollout = format!("rollout-2026-11-26T10-00-00-{id}.jsonl");
        fs::write(day.join(rollout), "").expect("a file");
        fs::write(chats.join("session-2026-11-26T10-00-0199a0b2.json"), "").expect("a file");
        for agent in [AgentProgram::Codex, AgentProgram::Gemini] {
            assert!(is_kept(agent, home.path(), id), "{agent}");
        }
    }
}
