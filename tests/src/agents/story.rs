//! What is done with an agent, and what must be said of it then.

use super::cast::{Agent, Kind};

/// One story; each begins and ends at the prompt, the last one aside.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) name: &'static str,
    /// Which ability of an agent it needs.
    needs: Needs,
    pub(super) steps: &'static [Step],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Its model can ask the person.
    Asking,
    /// It tells of a turn that failed, and why.
    Failures,
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
    /// The state, and what is waited for.
    Expect(&'static str),
    /// The same, once something is over that takes its time.
    Until(&'static str),
}

use Step::{Allow, Expect, Keys, Quit, Say, Until};

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
            Needs::Asking => agent.asks,
            Needs::Failures | Needs::Background => claude && agent.hooks,
        }
    }
}

/// All of them, in the order they are played.
pub(super) static STORIES: [Story; 16] = [
    Story { name: "first start", needs: Needs::FirstStart, steps: &[Expect("waiting setup")] },
    Story {
        name: "turn",
        needs: Needs::Nothing,
        steps: &[Say("look [[hang 4]] [[bash ls]]"), Expect("working"), Until("idle")],
    },
    Story {
        name: "permission",
        needs: Needs::Nothing,
        steps: &[
            Say("make [[risky touch one && sleep 4]]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Until("idle"),
        ],
    },
    Story {
        name: "permission, Esc",
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
        needs: Needs::Failures,
        steps: &[
            Say("fill [[risky python3 -c 'all = [b\"x\" * (1 << 30) for _ in range(64)]']]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Until("idle"),
        ],
    },
    Story {
        name: "background",
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
        needs: Needs::Failures,
        steps: &[Say("fail [[err 401]]"), Expect("error auth")],
    },
    Story {
        name: "429",
        needs: Needs::Failures,
        steps: &[Say("fail [[err 429]]"), Expect("error rate_limit")],
    },
    Story {
        name: "529",
        needs: Needs::Failures,
        steps: &[Say("fail [[err 529]]"), Expect("error overloaded")],
    },
    Story {
        name: "refused",
        needs: Needs::Failures,
        steps: &[Say("fail [[err 400]]"), Expect("error other")],
    },
    Story { name: "quit", needs: Needs::Nothing, steps: &[Quit, Expect("exited")] },
];
