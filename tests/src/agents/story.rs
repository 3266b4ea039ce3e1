//! What is done with an agent, and what must be said of it then.

use super::cast::Agent;

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
    /// It tells of a turn that failed.
    Failures,
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
}

use Step::{Allow, Expect, Keys, Quit, Say};

impl Story {
    /// Returns whether an agent can play it.
    pub(super) fn is_for(&self, agent: &Agent) -> bool {
        match self.needs {
            Needs::Nothing => true,
            Needs::Asking => agent.asks,
            Needs::Failures => agent.name == "claude",
        }
    }
}

/// All of them, in the order they are played.
pub(super) static STORIES: [Story; 7] = [
    Story {
        name: "turn",
        needs: Needs::Nothing,
        steps: &[Say("look [[hang 4]] [[bash ls]]"), Expect("working"), Expect("idle")],
    },
    Story {
        name: "permission",
        needs: Needs::Nothing,
        steps: &[
            Say("make [[risky touch one && sleep 4]]"),
            Expect("waiting permission"),
            Allow,
            Expect("working"),
            Expect("idle"),
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
        name: "writing, Esc",
        needs: Needs::Nothing,
        steps: &[Say("write [[slow 60]]"), Expect("working"), Keys(&["Escape"]), Expect("idle")],
    },
    Story {
        name: "refused",
        needs: Needs::Failures,
        steps: &[Say("fail [[err 400]]"), Expect("error")],
    },
    Story { name: "quit", needs: Needs::Nothing, steps: &[Quit, Expect("exited")] },
];
