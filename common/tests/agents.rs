//! Sequences of what sources say of an agent, each with the states it must lead to.
//!
//! `agents/README.md` has the format. One test holds every sequence to its word, one counts how
//! often each state was taken for another.

use std::{collections::BTreeMap, fs, path::Path};

use warren_common::{
    Timestamp,
    agent::{
        AgentKind, AgentState, AgentStatus, AppServer, Arbiter, Ask, Confidence, Hook, Observation,
        Process, Registry, RegistryStatus, Report, Screen, Source, StateName, Tmux, WaitKind,
    },
};

/// When every sequence begins.
const BEGIN: u64 = 1_000_000_000;

/// One line of a sequence.
enum Line {
    Observe(Observation),
    Tick(Timestamp),
    Silence(Timestamp),
    Look(Timestamp),
    Expect(Expectation),
}

/// What the status must be, and what the agent really did.
struct Expectation {
    found: StateName,
    /// Another than `found` where the sources cannot tell.
    really: StateName,
    words: Vec<String>,
}

struct Sequence {
    name: String,
    kind: AgentKind,
    hooks: bool,
    lines: Vec<(usize, Line)>,
}

/// What one `expect` came to.
struct Outcome {
    place: String,
    hooks: bool,
    /// What the status must be.
    wanted: StateName,
    /// What the agent did, which is what errors are counted by.
    really: StateName,
    found: StateName,
    wrong: Vec<String>,
}

fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' if quoted => word.push(escaped(characters.next())),
            '"' => quoted = !quoted,
            '#' if !quoted => break,
            ' ' if !quoted => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            other => word.push(other),
        }
    }
    assert!(!quoted, "an open quote: {line}");
    words.extend((!word.is_empty()).then_some(word));
    words.iter().map(|word| repeated(word)).collect()
}

fn escaped(character: Option<char>) -> char {
    match character {
        Some('e') => '\x1b',
        Some('a') => '\x07',
        Some('0') => '\0',
        Some('n') => '\n',
        Some('r') => '\r',
        Some('t') => '\t',
        other => panic!("not escaped: {other:?}"),
    }
}

/// Reads `{N}C`, which stands for the character `C` N times.
fn repeated(word: &str) -> String {
    let Some((before, rest)) = word.split_once('{') else { return word.to_owned() };
    let (count, rest) = rest.split_once('}').expect("a closing brace");
    let (mut rest, count) = (rest.chars(), count.parse().expect("a count"));
    let many: String = std::iter::repeat_n(rest.next().expect("a character"), count).collect();
    format!("{before}{many}{}", rest.as_str())
}

fn state_name(word: &str) -> StateName {
    let found = StateName::ALL.into_iter().find(|name| name.as_str() == word);
    found.unwrap_or_else(|| panic!("none of the eight states: {word}"))
}

fn at(word: &str) -> Timestamp {
    Timestamp(BEGIN + word.parse::<u64>().unwrap_or_else(|_| panic!("not a time: {word}")))
}

fn parts(value: &str) -> Vec<String> {
    value.split('|').map(str::to_owned).collect()
}

fn wait_kind(word: &str) -> WaitKind {
    match word {
        "permission" => WaitKind::Permission,
        "question" => WaitKind::Question,
        "plan" => WaitKind::Plan,
        "elicitation" => WaitKind::Elicitation,
        "setup" => WaitKind::Setup,
        other => panic!("no kind of wait: {other}"),
    }
}

fn hook(event: &str, rest: &[&str]) -> Report {
    let mut hook = Hook { event: event.to_owned(), ..Hook::default() };
    let (mut kind, mut text, mut options) = (None, String::new(), Vec::new());
    for word in rest {
        let (key, value) = word.split_once('=').unwrap_or((word, ""));
        let owned = value.to_owned();
        match key {
            "about" => hook.about = owned,
            "tool" => hook.tool = owned,
            "text" => hook.text = owned,
            "subagent" => hook.subagent = owned,
            "tasks" => hook.tasks = parts(value),
            "wakeups" => hook.wakeups = parts(value),
            "retry_at" => hook.retry_at = Some(at(value)),
            "helper" => hook.helper = true,
            "ask" => kind = Some(wait_kind(value)),
            "question" => text = owned,
            "options" => options = parts(value),
            other => panic!("a hook has no {other}"),
        }
    }
    hook.ask = kind.map(|kind| Ask { kind, text, options });
    Report::Hook(Box::new(hook))
}

fn number<T: std::str::FromStr>(rest: &[&str], key: &str) -> Option<T> {
    rest.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('=')?.parse().ok())
}

fn report(source: &str, rest: &[&str]) -> Report {
    match (source, rest) {
        ("hook", [event, rest @ ..]) => hook(event, rest),
        ("registry", [status, rest @ ..]) => {
            let status = match *status {
                "busy" => RegistryStatus::Busy,
                "idle" => RegistryStatus::Idle,
                "waiting" => RegistryStatus::Waiting,
                "shell" => RegistryStatus::Shell,
                other => panic!("no status of the registry: {other}"),
            };
            let waiting_for = number(rest, "for").unwrap_or_default();
            Report::Registry(Registry { status, waiting_for, live: !rest.contains(&"dead") })
        }
        ("app-server", ["error", rest @ ..]) => {
            let [about, text] = ["about", "text"].map(|key| number(rest, key).unwrap_or_default());
            Report::AppServer(AppServer::SystemError { about, text })
        }
        ("app-server", [status]) => Report::AppServer(match *status {
            "idle" => AppServer::Idle,
            "active" => AppServer::Active,
            "approval" => AppServer::WaitingOnApproval,
            "input" => AppServer::WaitingOnUserInput,
            "not-loaded" => AppServer::NotLoaded,
            "ephemeral" => AppServer::Ephemeral,
            other => panic!("no status of a thread: {other}"),
        }),
        ("title", [text]) => Report::Title((*text).to_owned()),
        ("screen", ["prompt"]) => Report::Screen(Screen::Prompt),
        ("screen", ["failed", line]) => Report::Screen(Screen::Failed((*line).to_owned())),
        ("screen", ["lines", text]) => Report::Screen(Screen::Lines((*text).to_owned())),
        ("screen", ["retrying", text]) => Report::Screen(Screen::Retrying((*text).to_owned())),
        ("screen", ["asks", kind, text]) => {
            let ask = Ask { kind: wait_kind(kind), text: (*text).into(), options: Vec::new() };
            Report::Screen(Screen::Asks(ask))
        }
        ("process", ["up", pid, start]) => Report::Process(Process::Up {
            pid: pid.parse().expect("a process id"),
            start: start.parse().expect("a start"),
        }),
        ("process", ["cpu", share]) => {
            Report::Process(Process::Cpu { per_mille: share.parse().expect("a share") })
        }
        ("process", ["reads", reads]) => {
            Report::Process(Process::ReadsInput { reads: *reads == "yes" })
        }
        ("process", ["oom"]) => Report::Process(Process::OutOfMemory),
        ("tmux", ["output"]) => Report::Tmux(Tmux::Output),
        ("tmux", ["dead", rest @ ..]) => {
            let (code, signal) = (number(rest, "code"), number(rest, "signal"));
            Report::Tmux(Tmux::Dead { code, signal })
        }
        ("tmux", ["gone"]) => Report::Tmux(Tmux::Gone),
        other => panic!("no such line: {other:?}"),
    }
}

fn line(words: &[&str]) -> Line {
    match words {
        ["expect", state, rest @ ..] => {
            let found = state_name(state);
            let really = rest.iter().find_map(|word| word.strip_prefix("really="));
            let words = rest.iter().filter(|word| !word.starts_with("really="));
            Line::Expect(Expectation {
                found,
                really: really.map_or(found, state_name),
                words: words.map(|word| (*word).to_owned()).collect(),
            })
        }
        [time, "tick"] => Line::Tick(at(time)),
        [time, "silence"] => Line::Silence(at(time)),
        [time, "look"] => Line::Look(at(time)),
        [time, source, rest @ ..] => {
            Line::Observe(Observation { at: at(time), report: report(source, rest) })
        }
        other => panic!("no such line: {other:?}"),
    }
}

fn sequence(name: String, text: &str) -> Sequence {
    let mut sequence = Sequence { name, kind: AgentKind::Shell, hooks: true, lines: Vec::new() };
    for (number, text) in text.lines().enumerate() {
        let words = words(text);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            [] => {}
            ["agent", "claude"] => sequence.kind = AgentKind::Claude,
            ["agent", "codex"] => sequence.kind = AgentKind::Codex,
            ["agent", "gemini"] => sequence.kind = AgentKind::Gemini,
            ["agent", other] => sequence.kind = AgentKind::Other(other.to_owned()),
            ["hooks", "no"] => sequence.hooks = false,
            _ => sequence.lines.push((number + 1, line(&words))),
        }
    }
    sequence
}

fn corpus() -> Vec<Sequence> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agents");
    let mut all = Vec::new();
    for entry in fs::read_dir(folder).expect("the folder of sequences") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|ending| ending == "txt") {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            all.push(sequence(name, &fs::read_to_string(path).expect("a text")));
        }
    }
    all.sort_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Returns everything that an `expect` may name.
fn told(status: &AgentStatus) -> Vec<String> {
    let mut told = vec![
        format!("since={}", status.since.0 - BEGIN),
        format!("source={}", status.source.as_str()),
        format!("subagents={}", status.subagents),
    ];
    if let Source::Hook(event) = &status.source {
        told.push(format!("event={event}"));
    }
    let exact = status.confidence == Confidence::Exact;
    told.push(if exact { "exact" } else { "derived" }.to_owned());
    let flags = [("unseen", status.flags.unseen), ("stalled", status.flags.stalled)];
    told.extend(flags.iter().filter(|(_, set)| *set).map(|(word, _)| (*word).to_owned()));
    match &status.state {
        AgentState::Starting | AgentState::Idle => {}
        AgentState::Working { phase, tool } => {
            told.extend(phase.map(|phase| format!("phase={}", phase.as_str())));
            told.extend(tool.as_ref().map(|tool| format!("tool={}", tool.name)));
        }
        AgentState::Waiting(wait) => {
            told.push(format!("wait={}", wait.kind.as_str()));
            told.push(format!("text={}", wait.text));
            told.push(format!("options={}", wait.options.join("|")));
        }
        AgentState::Background { tasks } => told.push(format!("tasks={}", tasks.join("|"))),
        AgentState::Error(failure) => {
            told.push(format!("error={}", failure.kind.as_str()));
            told.push(format!("text={}", failure.text));
            told.extend(failure.retry_at.map(|at| format!("retry_at={}", at.0 - BEGIN)));
        }
        AgentState::Exited(exit) => {
            told.extend(exit.code.map(|code| format!("code={code}")));
            told.extend(exit.signal.map(|signal| format!("signal={signal}")));
            told.extend(exit.oom.then(|| "oom".to_owned()));
        }
        AgentState::Unknown { last } => told.push(format!("last={}", last.name().as_str())),
    }
    told
}

fn play(sequence: Sequence) -> Vec<Outcome> {
    let mut arbiter = Arbiter::new(sequence.kind, Timestamp(BEGIN));
    let mut outcomes = Vec::new();
    for (number, line) in sequence.lines {
        match line {
            Line::Observe(observation) => arbiter.observe(observation),
            Line::Tick(at) => arbiter.heartbeat(at),
            Line::Silence(at) => arbiter.tick(at),
            Line::Look(at) => arbiter.seen_by_person(at),
            Line::Expect(Expectation { found: wanted, really, words }) => {
                let status = arbiter.status();
                let told = told(&status);
                let holds = |word: &String| match word.strip_prefix('!') {
                    Some(not) => !told.iter().any(|told| told == not),
                    None => told.contains(word),
                };
                let mut wrong: Vec<String> =
                    words.iter().filter(|word| !holds(word)).cloned().collect();
                if !wrong.is_empty() {
                    wrong.push(format!("of {told:?}"));
                }
                outcomes.push(Outcome {
                    place: format!("{}:{number}", sequence.name),
                    hooks: sequence.hooks,
                    wanted,
                    really,
                    found: status.state.name(),
                    wrong,
                });
            }
        }
    }
    outcomes
}

/// How many were taken for a state, and how many of those were not in it.
struct Taken {
    told: usize,
    falsely: usize,
}

impl Taken {
    fn of(outcomes: &[&Outcome], state: StateName) -> Self {
        let told: Vec<_> = outcomes.iter().filter(|one| one.found == state).collect();
        let falsely = told.iter().filter(|one| one.really != state).count();
        Self { told: told.len(), falsely }
    }

    /// Returns whether at most one in a hundred was not so.
    fn is_rarely_false(&self) -> bool {
        self.falsely * 100 <= self.told
    }

    /// Returns the share that was not so, of a thousand.
    fn per_mille(&self) -> usize {
        self.falsely * 1_000 / self.told.max(1)
    }
}

#[expect(clippy::print_stdout, reason = "the table is what the test is run for")]
fn print(title: &str, outcomes: &[&Outcome]) {
    let mut table: BTreeMap<(StateName, StateName), usize> = BTreeMap::new();
    for one in outcomes {
        *table.entry((one.really, one.found)).or_default() += 1;
    }
    println!("{title}: {} expectations; rows are so, columns are told", outcomes.len());
    let head: String = StateName::ALL.iter().map(|name| format!("{:>11}", name.as_str())).collect();
    println!("{:>11}{head}", "");
    for wanted in StateName::ALL {
        let count = |found| table.get(&(wanted, found)).copied().unwrap_or(0);
        let row: String =
            StateName::ALL.iter().map(|&name| format!("{:>11}", count(name))).collect();
        println!("{:>11}{row}", wanted.as_str());
    }
    for state in [StateName::Idle, StateName::Waiting] {
        let taken = Taken::of(outcomes, state);
        let (whole, tenths) = (taken.per_mille() / 10, taken.per_mille() % 10);
        let name = state.as_str();
        println!("false {name}: {} of {} told, {whole}.{tenths} %", taken.falsely, taken.told);
    }
}

#[test]
fn every_sequence_leads_where_it_says() {
    let corpus = corpus();
    assert!(corpus.len() >= 200, "{} sequences", corpus.len());
    let mut wrong = Vec::new();
    for sequence in corpus {
        let name = sequence.name.clone();
        let outcomes = play(sequence);
        assert!(!outcomes.is_empty(), "{name} expects nothing");
        for Outcome { place, wanted, found, wrong: words, .. } in outcomes {
            if found != wanted || !words.is_empty() {
                wrong.push(format!("{place}: {found:?}, not {wanted:?}; {words:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The label and the lines agree: a sequence is one without hooks where none of its agent comes.
#[test]
fn sequences_without_hooks_have_none() {
    for sequence in corpus() {
        let of_agent = |line: &Line| match line {
            Line::Observe(Observation { report: Report::Hook(hook), .. }) => !hook.helper,
            _ => false,
        };
        let comes = sequence.lines.iter().any(|(_, line)| of_agent(line));
        assert_eq!(sequence.hooks, comes, "{}", sequence.name);
    }
}

#[test]
fn false_idle_and_false_waiting_stay_rare_with_hooks() {
    let outcomes: Vec<Outcome> = corpus().into_iter().flat_map(play).collect();
    let (with, without): (Vec<&Outcome>, Vec<&Outcome>) = outcomes.iter().partition(|o| o.hooks);
    print("with hooks", &with);
    print("without hooks", &without);
    for state in [StateName::Idle, StateName::Waiting] {
        let taken = Taken::of(&with, state);
        assert!(taken.told >= 100, "{} told {}", taken.told, state.as_str());
        assert!(taken.is_rarely_false(), "more than 1 % falsely {}", state.as_str());
        let taken = Taken::of(&without, state);
        assert!(taken.told >= 30, "{} told {} without hooks", taken.told, state.as_str());
    }
}

#[test]
fn the_count_finds_what_is_false() {
    let text = "agent claude\n10 hook SessionStart\nexpect idle really=working\nexpect idle\n";
    let outcomes = play(sequence("false.txt".to_owned(), text));
    let outcomes: Vec<&Outcome> = outcomes.iter().collect();
    assert!(outcomes.iter().all(|one| one.wrong.is_empty() && one.found == one.wanted));
    let idle = Taken::of(&outcomes, StateName::Idle);
    assert_eq!((idle.told, idle.falsely, idle.per_mille()), (2, 1, 500));
    assert!(!idle.is_rarely_false());
    assert!(Taken::of(&outcomes, StateName::Waiting).is_rarely_false());
}
