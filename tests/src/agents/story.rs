//! What is done with an agent, and what must be said of it then.

use super::cast::{Agent, Kind};

/// One story; each begins and ends at the prompt, the last one aside.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    pub(super) act: Act,
    /// Which ability of an agent it needs.
    needs: Needs,
    /// Whether it is played where only the core is.
    pub(super) core: bool,
    pub(super) steps: &'static [Step],
}

/// The parts of a run, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Each plays its own.
    First,
    /// The container was killed, and came back.
    Back,
    /// Each ends.
    Last,
    /// Each runs again, and is stopped.
    Stopped,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// It is up for seconds before it says anything: Claude Code may be quicker than a look.
    Time,
    /// Its model can ask the person.
    Asking,
    /// It tells of a turn that failed, and why.
    Failures,
    /// It makes plans, and shows what a tool's server asks.
    Plans,
    /// Only its screen says that a turn failed, and why.
    Screen,
    /// The same, and it does not try for minutes where its API has had enough.
    Limit,
    /// Its daemon says what its threads do.
    Daemon,
    /// It told the id of its conversation, and has a session that was asked for.
    Conversation,
    /// It goes on while a shell of its own runs.
    Background,
    /// Nobody prepared its home.
    FirstStart,
}

/// One thing to do or to expect.
#[derive(Debug)]
pub(super) enum Step {
    /// Send a prompt.
    Say(&'static str),
    /// Allow what is asked for.
    Allow,
    /// Press keys, by tmux's names.
    Keys(&'static [&'static str]),
    /// Send what ends the agent.
    Quit,
    /// Its model was asked to say this.
    Heard(&'static str),
    /// Its model was asked to say the one, and told that the other was said before.
    Recalls(&'static str, &'static str),
    /// This source told something of it.
    Told(&'static str),
    /// Its model, and what its conversation takes.
    Metered,
    /// It was started with the conversation it had.
    Resumed,
    /// The kernel killed this program of its session for memory.
    Killed(&'static str),
    /// The state, and what is waited for.
    Expect(&'static str),
    /// The same, once something is over that takes its time.
    Until(&'static str),
    /// It was so, at any time before.
    Was(&'static str),
    /// Start it again, and wait until it takes a prompt.
    Restart,
    /// Stop its session: no process of it is left.
    Stop,
}

use Step::{
    Allow, Expect, Heard, Keys, Killed, Metered, Quit, Recalls, Restart, Resumed, Say, Stop, Told,
    Until, Was,
};

/// What each agent is given with its session.
pub(super) const PROMPT: &str = "begin [[hang 8]] [[say fig]]";

/// Takes away what was typed: a prompt that nothing was answered to stands there again after Esc.
const CLEAR: &[&str] = &["C-u"];

impl Story {
    /// Returns whether an agent can play it; of those without hooks only what they are enough for.
    pub(super) fn is_for(&self, agent: &Agent) -> bool {
        let (first, claude) = (agent.kind == Kind::Newcomer, agent.kind == Kind::Claude);
        match self.needs {
            Needs::FirstStart => first,
            _ if first => false,
            Needs::Nothing => true,
            Needs::Time => !claude,
            Needs::Asking => agent.asks,
            Needs::Failures | Needs::Background | Needs::Plans => claude && agent.hooks,
            Needs::Screen => !claude,
            Needs::Limit => agent.kind == Kind::Codex,
            Needs::Daemon => agent.kind == Kind::Codex && agent.hooks,
            Needs::Conversation => agent.hooks,
        }
    }
}

/// All of them, in the order they are played.
pub(super) static STORIES: [Story; 29] = [
    Story {
        name: "first start",
        act: Act::First,
        core: false,
        needs: Needs::FirstStart,
        steps: &[Was("starting"), Expect("waiting setup")],
    },
    Story {
        name: "start",
        act: Act::First,
        core: true,
        needs: Needs::Time,
        steps: &[Was("starting")],
    },
    Story {
        name: "first prompt",
        act: Act::First,
        core: true,
        needs: Needs::Conversation,
        steps: &[Heard("fig"), Until("idle"), Metered],
    },
    Story {
        name: "turn",
        act: Act::First,
        core: false,
        needs: Needs::Nothing,
        steps: &[Say("look [[hang 4]] [[bash ls]]"), Expect("working"), Until("idle")],
    },
    Story {
        name: "permission",
        act: Act::First,
        core: true,
        needs: Needs::Nothing,
        steps: &[
            Say("make [[risky touch one && sleep 10]]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Until("idle"),
        ],
    },
    Story {
        name: "permission, Esc",
        act: Act::First,
        core: false,
        needs: Needs::Nothing,
        steps: &[
            Say("make [[risky touch two && sleep 1]]"),
            Expect("waiting permission"),
            Keys(&["Escape"]),
            Expect("idle"),
        ],
    },
    Story {
        name: "question",
        act: Act::First,
        core: false,
        needs: Needs::Asking,
        steps: &[
            Say("choose [[ask Red|Blue]]"),
            Expect("waiting question"),
            Keys(&["Enter"]),
            Expect("idle"),
        ],
    },
    Story {
        name: "question, Esc",
        act: Act::First,
        core: false,
        needs: Needs::Asking,
        steps: &[
            Say("choose [[ask Green|Grey]]"),
            Expect("waiting question"),
            Keys(&["Escape"]),
            Expect("idle"),
        ],
    },
    Story {
        name: "thinking, Esc",
        act: Act::First,
        core: true,
        needs: Needs::Nothing,
        steps: &[
            Say("think [[hang 60]]"),
            Expect("working"),
            Keys(&["Escape"]),
            Expect("idle"),
            Keys(CLEAR),
        ],
    },
    Story {
        name: "writing, Esc",
        act: Act::First,
        core: false,
        needs: Needs::Nothing,
        steps: &[
            Say("write [[slow 60]]"),
            Expect("working"),
            Keys(&["Escape"]),
            Expect("idle"),
            Keys(CLEAR),
        ],
    },
    Story {
        name: "tool, Esc",
        act: Act::First,
        core: false,
        needs: Needs::Nothing,
        steps: &[
            Say("make [[risky touch three && sleep 60]]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Keys(&["Escape"]),
            Expect("idle"),
        ],
    },
    // a shell that takes all the memory there is dies; the agent is told and goes on
    Story {
        name: "out of memory",
        act: Act::First,
        core: false,
        needs: Needs::Failures,
        steps: &[
            Say("fill [[risky python3 -c 'all = [b\"x\" * (1 << 30) for _ in range(64)]']]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Until("idle"),
            Killed("python3"),
        ],
    },
    Story {
        name: "background",
        act: Act::First,
        core: false,
        needs: Needs::Background,
        steps: &[
            Say("start [[background sleep 8]] [[hang 1]] [[say started]]"),
            Expect("background"),
            // what ran wakes it, without a person
            Until("idle"),
        ],
    },
    Story {
        name: "401",
        act: Act::First,
        core: true,
        needs: Needs::Failures,
        steps: &[Say("fail [[err 401]]"), Expect("error auth")],
    },
    Story {
        name: "429",
        act: Act::First,
        core: false,
        needs: Needs::Failures,
        steps: &[Say("fail [[err 429]]"), Expect("error rate_limit")],
    },
    Story {
        name: "529",
        act: Act::First,
        core: false,
        needs: Needs::Failures,
        steps: &[Say("fail [[err 529]]"), Expect("error overloaded")],
    },
    Story {
        name: "402",
        act: Act::First,
        core: false,
        needs: Needs::Failures,
        steps: &[Say("fail [[err 402]]"), Expect("error billing")],
    },
    // a tool's server asks in the middle of its work
    Story {
        name: "elicitation",
        act: Act::First,
        core: false,
        needs: Needs::Plans,
        steps: &[
            Say("ask [[tool mcp__asker__ask {}]]"),
            Expect("waiting permission"),
            Allow,
            Expect("waiting elicitation"),
            Keys(&["Escape"]),
            Until("idle"),
        ],
    },
    Story {
        name: "refused",
        act: Act::First,
        core: false,
        needs: Needs::Failures,
        steps: &[Say("fail [[err 400]]"), Expect("error other")],
    },
    Story {
        name: "limit, no word",
        act: Act::First,
        core: false,
        needs: Needs::Limit,
        steps: &[Say("fail [[hang 8]] [[err 429]]"), Expect("working"), Until("error rate_limit")],
    },
    Story {
        name: "401, screen",
        act: Act::First,
        core: false,
        needs: Needs::Limit,
        steps: &[Say("fail [[hang 8]] [[err 401]]"), Expect("working"), Until("error auth")],
    },
    Story {
        name: "529, screen",
        act: Act::First,
        core: false,
        needs: Needs::Limit,
        steps: &[Say("fail [[hang 8]] [[err 529]]"), Expect("working"), Until("error overloaded")],
    },
    Story {
        name: "refused, screen",
        act: Act::First,
        core: true,
        needs: Needs::Screen,
        steps: &[
            Say("fail [[hang 8]] [[err 400]]"),
            Expect("working"),
            Until("error invalid_request"),
        ],
    },
    Story {
        name: "daemon",
        act: Act::First,
        core: true,
        needs: Needs::Daemon,
        steps: &[
            Say("go on [[hang 8]] [[say mint]]"),
            Expect("working"),
            Until("idle"),
            Told("app-server"),
        ],
    },
    Story {
        name: "before the kill",
        act: Act::First,
        core: true,
        needs: Needs::Conversation,
        steps: &[Say("remember [[hang 8]] [[say plum]]"), Expect("working"), Until("idle")],
    },
    Story {
        name: "conversation",
        act: Act::Back,
        core: true,
        needs: Needs::Conversation,
        steps: &[
            Resumed,
            Say("and now [[hang 8]] [[say pear]]"),
            Expect("working"),
            Until("idle"),
            Recalls("pear", "remember [[hang 8]] [[say plum]]"),
        ],
    },
    // its mode stays: the last of all
    Story {
        name: "plan",
        act: Act::Last,
        core: false,
        needs: Needs::Plans,
        steps: &[
            Keys(&["BTab", "BTab"]),
            Say("plan [[tool ExitPlanMode {\"plan\":\"1. go\"}]]"),
            Expect("waiting plan"),
            Keys(&["Escape"]),
            Expect("idle"),
        ],
    },
    Story {
        name: "quit",
        act: Act::Last,
        core: true,
        needs: Needs::Nothing,
        steps: &[Quit, Expect("exited")],
    },
    Story {
        name: "stop",
        act: Act::Stopped,
        core: true,
        needs: Needs::Conversation,
        steps: &[
            Restart,
            Say("make [[risky touch four && sleep 4321]]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Stop,
        ],
    },
];
