//! What is made of looks and hooks.

use warren_common::agent::{AgentState, FailureKind};

use super::*;
use crate::agent::message::tests::message;

const NOW: Timestamp = Timestamp(2_000_000);
const DEAD: Life = Life { pid: 1, start: u64::MAX };

fn own() -> Life {
    Life::of(std::process::id()).expect("it runs")
}

fn found(kind: &str, life: Life) -> Found {
    Found { kind: AgentKind::named(kind), life, prompt: false, front: Vec::new(), ticks: 0 }
}

fn entry(kind: &str, process: Option<Life>) -> Entry {
    let mut entry = Entry::new(AgentKind::named(kind), "%1", NOW);
    entry.process = process;
    entry
}

#[test]
fn an_agent_keeps_its_pane_while_its_process_lives() {
    let other = Life { start: 7, ..DEAD };
    for (kind, process, seen, life, meets) in [
        ("shell", own(), "shell", own(), Meets::Same),
        ("shell", own(), "claude", own(), Meets::Other),
        ("shell", own(), "vim", other, Meets::Other),
        ("vim", DEAD, "vim", other, Meets::Again),
        ("claude", own(), "claude", own(), Meets::Same),
        ("claude", own(), "shell", other, Meets::Same),
        ("claude", own(), "codex", other, Meets::Same),
        ("claude", DEAD, "claude", other, Meets::Again),
        ("claude", DEAD, "codex", other, Meets::Other),
        ("claude", DEAD, "shell", other, Meets::Lost),
    ] {
        let entry = entry(kind, Some(process));
        assert_eq!(entry.meets(&found(seen, life)), meets, "{kind} meets {seen}");
    }
    let mut gone = entry("claude", Some(DEAD));
    gone.lost(other, NOW);
    assert_eq!(gone.meets(&found("shell", other)), Meets::Same, "it ended, and that stands");
    assert_eq!(gone.meets(&found("vim", own())), Meets::Other);
    assert_eq!(gone.meets(&found("claude", own())), Meets::Again);
    gone.came_up(own(), NOW);
    assert_eq!(gone.state(), StateName::Starting, "the last end is not the new one's");
}

#[test]
fn one_that_is_expected_makes_way_for_whatever_comes() {
    let mut entry = Entry::expected(AgentKind::Claude, "%1", NOW);
    assert_eq!(entry.state(), StateName::Starting);
    assert_eq!(entry.meets(&found("vim", own())), Meets::Other);
    assert_eq!(entry.meets(&found("codex", own())), Meets::Other);
    assert_eq!(entry.meets(&found("claude", own())), Meets::Again);
    assert!(entry.hook(message("SessionStart"), NOW));
    assert!(!entry.is_expected(), "it was heard");
}

#[test]
fn what_it_has_used_is_told_now_and_then_and_its_model_soon() {
    let mut entry = entry("claude", Some(own()));
    let told = |input_tokens, model: &str| Message {
        meter: Meter { input_tokens, model: model.to_owned(), ..Meter::default() },
        process: Some(own()),
        ..message("")
    };
    let shown = |entry: &Entry| entry.shown().meter.clone().map(Meter::from).unwrap_or_default();
    entry.take_changed();
    let heard = entry.heard;
    assert!(entry.hook(told(Some(1), "m"), NOW));
    assert!(entry.take_changed() && shown(&entry).input_tokens == Some(1));
    assert_eq!((entry.heard, entry.state()), (heard, StateName::Starting), "nothing happened");
    assert!(entry.hook(told(Some(2), ""), NOW));
    assert!(!entry.take_changed() && shown(&entry).input_tokens == Some(1), "too soon");
    entry.tick(NOW.plus(METER));
    assert!(entry.take_changed() && shown(&entry).input_tokens == Some(2));
    assert_eq!(shown(&entry).model, "m");
    entry.hook(told(None, "n"), NOW.plus(METER));
    assert!(!entry.take_changed(), "and not back and forth without end");
    entry.tick(NOW.plus(METER + MODEL));
    assert!(entry.take_changed() && shown(&entry).model == "n");
    entry.came_up(own(), NOW.plus(2 * METER));
    entry.tick(NOW.plus(3 * METER));
    assert_eq!(shown(&entry), Meter::default(), "it is another one");
}

#[test]
fn hooks_of_an_agent_within_the_agent_are_not_its_own() {
    let mut entry = entry("claude", Some(own()));
    let from = |process| Message { process, ..message("UserPromptSubmit") };
    assert!(entry.hook(from(Some(own())), NOW));
    assert!(!entry.hook(from(Some(DEAD)), NOW));
    assert!(entry.hook(from(None), NOW), "nothing speaks against it");
    let mut first_has_ended = Entry::new(AgentKind::Claude, "%1", NOW);
    assert!(first_has_ended.hook(from(Some(DEAD)), NOW));
    assert!(first_has_ended.hook(from(Some(own())), NOW));
    assert_eq!(first_has_ended.process(), Some(own()));
}

#[test]
fn a_hook_of_the_future_is_heard_now() {
    let mut entry = entry("claude", None);
    let mut sent = message("UserPromptSubmit");
    sent.at = Timestamp(NOW.0 * 1000);
    assert!(entry.hook(sent, NOW));
    assert_eq!(entry.heard, NOW);
}

#[test]
fn what_the_arbiter_holds_is_bounded() {
    let mut entry = entry("claude", None);
    for number in 0..1000 {
        let mut sent = message("Stop");
        sent.at = Timestamp(NOW.0 + number);
        sent.hook.tasks = vec!["t".repeat(160); 16];
        sent.hook.text = "x".repeat(400);
        assert!(entry.hook(sent.bounded(), Timestamp(NOW.0 + number)));
    }
    let held: usize = entry.sizes.iter().sum();
    assert!(held <= TEXT_BYTES + Limits::AGENT_OBSERVATIONS * 4 * SHORT_BYTES, "{held}");
    assert_eq!(entry.state(), StateName::Background, "the state is as true as before");
}

#[test]
fn movement_alone_is_told_now_and_then() {
    let mut entry = entry("claude", None);
    assert!(entry.hook(message("UserPromptSubmit"), NOW));
    assert!(entry.take_changed());
    let mut told = 0;
    for step in 1..=40_u64 {
        let now = Timestamp(NOW.0 + step * 500);
        entry.look(&Pane { active: now.0 / 1000, ..Pane::default() }, None, now);
        entry.viewed(0, now);
        told += u32::from(entry.take_changed());
    }
    assert!((5..=10).contains(&told), "{told} in twenty seconds");
    let last = entry.shown().last_activity_unix_ms;
    assert!(last >= NOW.0 + 17_000, "{last}");
}

#[test]
fn the_first_title_of_codex_is_somebody_elses() {
    let mut entry = entry("codex", None);
    let mut look = |title: &str, after: u64| {
        let now = Timestamp(NOW.0 + after);
        entry.look(&Pane { title: title.to_owned(), ..Pane::default() }, None, now);
        entry.state()
    };
    assert_eq!(look("host", 1000), StateName::Starting);
    assert_eq!(look("⠹ wt", 2000), StateName::Working);
    assert_eq!(look("wt", 3000), StateName::Idle);
}

#[test]
fn the_screen_of_codex_is_read_until_it_shows_its_prompt() {
    let mut entry = entry("codex", None);
    entry.came_up(own(), NOW);
    let after = |ms| Timestamp(NOW.0 + ms);
    entry.look(&Pane { active: 2000, ..Pane::default() }, None, after(200));
    assert!(entry.wishes_screen(after(300)), "before it is late");
    entry.screen(include_str!("../screens/codex-loading.txt"), after(300));
    assert_eq!(entry.state(), StateName::Starting);
    assert!(!entry.wishes_screen(after(1000)), "too soon");
    assert!(entry.wishes_screen(after(2400)), "more may have come in the second of the last look");
    entry.screen(include_str!("../screens/codex-trust.txt"), after(2400));
    assert!(!entry.wishes_screen(after(9000)), "nothing was written since");
    entry.viewed(0, after(NOW.0));
    assert_eq!(entry.state(), StateName::Waiting, "a dialog of its first start");
    entry.look(&Pane { active: 4003, ..Pane::default() }, None, after(2_003_500));
    assert!(entry.wishes_screen(after(2_003_600)));
    entry.screen(include_str!("../screens/codex-prompt.txt"), after(2_003_600));
    assert_eq!(entry.state(), StateName::Idle);
    assert!(!entry.wishes_screen(after(2_009_000)), "its hooks tell what comes");
}

#[test]
fn a_screen_that_comes_too_soon_after_a_failure_is_looked_at_again() {
    let mut entry = entry("codex", None);
    entry.came_up(own(), NOW);
    let after = |ms| Timestamp(NOW.0 + ms);
    entry.in_daemon(AppServer::Active, after(1000), after(1000));
    // the last that is written is in the second before
    entry.look(&Pane { active: 2008, ..Pane::default() }, None, after(8900));
    let failed = AppServer::SystemError { about: String::new(), text: String::new() };
    entry.in_daemon(failed, after(9000), after(9000));
    assert!(entry.wishes_screen(after(9400)), "its daemon did not say why");
    entry.screen(include_str!("../screens/codex-failed.txt"), after(9460));
    let kind = |entry: &Entry| match entry.arbiter().status().state {
        AgentState::Error(why) => why.kind,
        other => panic!("{other:?}"),
    };
    assert_eq!(kind(&entry), FailureKind::Other, "it may be what was there before");
    assert!(!entry.wishes_screen(after(9700)), "a look takes its time");
    assert!(entry.wishes_screen(after(9950)), "nothing more may be written");
    entry.screen(include_str!("../screens/codex-failed.txt"), after(9960));
    assert_eq!(kind(&entry), FailureKind::Overloaded);
    assert!(!entry.wishes_screen(after(60_000)), "it is known");

    // and where its daemon is heard late: what the screen showed first does not count any more
    entry.in_daemon(AppServer::Active, after(70_000), after(70_000));
    entry.look(&Pane { active: 2078, ..Pane::default() }, None, after(78_900));
    let failed = AppServer::SystemError { about: String::new(), text: String::new() };
    entry.looked = Some(after(79_200));
    entry.screen(include_str!("../screens/codex-failed.txt"), after(79_210));
    entry.in_daemon(failed, after(79_000), after(79_400));
    assert_eq!(kind(&entry), FailureKind::Other);
    assert!(entry.wishes_screen(after(79_900)), "it is looked at again");
    entry.screen(include_str!("../screens/codex-failed.txt"), after(79_910));
    assert_eq!(kind(&entry), FailureKind::Overloaded);
}

#[test]
fn a_kill_for_memory_is_told_with_the_end() {
    let mut entry = entry("claude", None);
    let pane = |code, signal| Pane { dead: true, code, signal, ..Pane::default() };
    entry.died(&pane(None, None), true, NOW);
    assert_eq!(entry.state(), StateName::Starting, "how it ended is not known yet");
    entry.died(&pane(None, Some(9)), true, NOW);
    let AgentState::Exited(exit) = entry.arbiter().status().state else {
        panic!("it ended");
    };
    assert!(exit.oom && exit.signal == Some(9));
}

#[test]
fn a_shell_at_its_prompt_is_looked_at_again_once_its_terminal_moves() {
    let mut entry = entry("shell", Some(own()));
    let prompt = Found { prompt: true, ..found("shell", own()) };
    let pane = |active| Pane { active, ..Pane::default() };
    let after = |ms| Timestamp(NOW.0 + ms);
    entry.look(&pane(2000), Some(&prompt), after(1900));
    assert!(!entry.rests(&pane(2000), after(1950)), "more may come in this second");
    entry.look(&pane(2000), Some(&prompt), after(2000));
    assert!(entry.rests(&pane(2000), after(9000)));
    entry.wake();
    assert!(!entry.rests(&pane(2000), after(9000)), "something in it told of itself");
    entry.look(&pane(2000), Some(&prompt), after(9000));
    assert!(!entry.rests(&pane(2009), after(9500)), "somebody types");
    assert!(!entry.rests(&pane(2000), after(40_000)), "and now and then for its own sake");
    entry.look(&pane(2000), Some(&found("vim", own())), after(41_000));
    assert!(!entry.rests(&pane(2000), after(41_100)));
}

#[test]
fn what_somebody_watches_is_seen_and_looked_at_often() {
    let mut entry = entry("claude", None);
    let hook = |entry: &mut Entry, event: &str, ms: u64| {
        let sent = Message { at: Timestamp(NOW.0 + ms), ..message(event) };
        assert!(entry.hook(sent, Timestamp(NOW.0 + ms)));
    };
    assert!(!entry.is_busy());
    hook(&mut entry, "UserPromptSubmit", 0);
    assert!(entry.is_busy(), "it works");
    hook(&mut entry, "Stop", 10);
    assert!(entry.shown().unseen && !entry.is_busy());
    entry.viewed(1, Timestamp(NOW.0 + 20));
    assert!(!entry.shown().unseen && entry.is_busy());
    hook(&mut entry, "UserPromptSubmit", 30);
    hook(&mut entry, "Stop", 40);
    assert!(!entry.shown().unseen, "somebody looks on");
    entry.viewed(0, Timestamp(NOW.0 + 50));
    hook(&mut entry, "UserPromptSubmit", 60);
    hook(&mut entry, "Stop", 70);
    assert!(entry.shown().unseen);
}
