//! Folding what agents tell through their hooks.

use super::{Fold, Verdict, Why, told};
use crate::{
    Limits,
    agent::{
        failure::{Failure, FailureKind},
        meaning::{Meaning, meaning},
        observation::{Ask, Hook, Observation},
        state::{AgentKind, Phase, Source, StateName, Tool, Wait, WaitKind, summary, text},
    },
};

impl Fold {
    pub(super) fn hook(&mut self, kind: &AgentKind, seen: &Observation, hook: &Hook) -> Verdict {
        if hook.helper {
            return Verdict::Ignored(Why::Helper);
        }
        let Some(meaning) = meaning(kind, hook) else {
            return Verdict::Ignored(Why::Meaningless);
        };
        // Codex's turns run in a daemon, which outlives the program in the pane
        let revives = meaning == Meaning::SessionStarted || *kind == AgentKind::Codex;
        if self.stage == StateName::Exited && !revives {
            return Verdict::Ignored(Why::Exited);
        }
        self.moved(seen.at);
        if meaning == Meaning::Aside {
            return Verdict::Noted;
        }
        self.spoke(seen.at);
        match meaning {
            Meaning::Aside => Verdict::Noted,
            Meaning::SessionStarted => self.session_started(kind, seen),
            Meaning::SessionEnded => self.session_ended(seen),
            Meaning::PromptSubmitted => self.prompt_submitted(seen),
            Meaning::ToolStarted => self.tool_started(seen, hook),
            Meaning::ToolEnded => self.tool_ended(seen, hook),
            Meaning::PermissionAsked => self.permission_asked(seen, hook),
            Meaning::ElicitationReminder => self.elicitation_reminder(seen, hook),
            Meaning::PermissionReminder => self.permission_reminder(seen, hook),
            Meaning::IdleReminder if self.stage == StateName::Working => self.at_prompt(seen),
            Meaning::IdleReminder => Verdict::Noted,
            Meaning::TurnEnded => self.turn_ended(seen, hook),
            Meaning::TurnFailed => self.fail(seen, failure(FailureKind::parse(&hook.about), hook)),
            Meaning::Interrupted => match self.stage {
                StateName::Working | StateName::Waiting | StateName::Background => self.rest(seen),
                _ => Verdict::Noted,
            },
            Meaning::CompactionStarted => {
                self.compacted_from.get_or_insert(self.stage);
                self.work(seen, Some(Phase::Compacting))
            }
            Meaning::CompactionEnded => self.compaction_ended(seen),
            Meaning::SubagentStarted => self.subagent_started(seen, &hook.subagent),
            Meaning::SubagentStopped => self.subagent_stopped(seen, &hook.subagent),
            Meaning::Told(state) => self.told(seen, state, hook),
        }
    }

    fn session_started(&mut self, kind: &AgentKind, seen: &Observation) -> Verdict {
        // Codex tells of its session at the first prompt, when the turn may run already
        if *kind == AgentKind::Codex && self.stage != StateName::Starting {
            return Verdict::Noted;
        }
        self.gone = None;
        self.oom = false;
        self.worked = false;
        self.rest(seen)
    }

    fn session_ended(&mut self, seen: &Observation) -> Verdict {
        self.gone.get_or_insert_default().oom |= self.oom;
        self.rest(seen)
    }

    fn prompt_submitted(&mut self, seen: &Observation) -> Verdict {
        // a prompt that queues up changes nothing of the turn that runs
        if self.stage == StateName::Working {
            return self.confirm(seen);
        }
        self.clear_turn();
        self.tasks.clear();
        self.wakeups.clear();
        self.work(seen, Some(Phase::Thinking))
    }

    fn tool_started(&mut self, seen: &Observation, hook: &Hook) -> Verdict {
        if self.aside(hook) {
            return Verdict::Noted;
        }
        let tool = tool(seen, hook);
        if self.open.contains(&tool) {
            // sent and spooled: the same hook twice
            return self.confirm(seen);
        }
        if self.open.len() == Limits::AGENT_TOOLS {
            self.open.remove(0);
        }
        self.open.push(tool.clone());
        self.asked = None;
        match &hook.ask {
            Some(ask) => {
                self.asked = Some(tool);
                self.ask(seen, wait(ask, seen))
            }
            None => self.work(seen, Some(Phase::Tool)),
        }
    }

    fn tool_ended(&mut self, seen: &Observation, hook: &Hook) -> Verdict {
        let ended = self.ended(hook).map(|at| self.open.remove(at));
        let answered = self.asked.as_ref().is_some_and(|asked| match &ended {
            Some(ended) => asked == ended,
            None => asked.name == hook.tool,
        });
        if self.stage == StateName::Waiting && self.asked.is_some() && !answered {
            return Verdict::Noted;
        }
        if answered {
            self.asked = None;
        }
        match self.stage {
            // after the turn it was a tool of something in the background
            StateName::Background | StateName::Idle | StateName::Error => Verdict::Noted,
            _ => {
                let phase = self.phase_now();
                self.work(seen, Some(phase))
            }
        }
    }

    fn permission_asked(&mut self, seen: &Observation, hook: &Hook) -> Verdict {
        let asks = self.wait.as_ref().is_some_and(|wait| wait.kind != WaitKind::Permission);
        // Gemini names no tool with its notifications
        let same = match &self.asked {
            Some(asked) => asked.name == hook.tool || hook.tool.is_empty() && hook.ask.is_some(),
            None => hook.tool.is_empty(),
        };
        if self.stage == StateName::Waiting && asks && same {
            return self.confirm(seen);
        }
        let named = |tool: &&Tool| hook.tool.is_empty() || tool.name == hook.tool;
        let exactly = |open: &&Tool| is(open, hook);
        let open = self.open.iter().rfind(exactly).or_else(|| self.open.iter().rfind(named));
        let unheard = (!hook.tool.is_empty()).then(|| tool(seen, hook));
        self.asked = open.cloned().or(unheard);
        if let Some(ask) = &hook.ask {
            return self.ask(seen, wait(ask, seen));
        }
        let question = match open {
            Some(tool) => told(tool),
            None if hook.tool.is_empty() => hook.text.clone(),
            None => text(&format!("{}: {}", hook.tool, hook.text)),
        };
        self.permission(seen, question)
    }

    /// The reminder comes seconds after the prompt, answered or not: it tells something new only
    /// where nobody told of the prompt.
    fn permission_reminder(&mut self, seen: &Observation, hook: &Hook) -> Verdict {
        match self.stage {
            StateName::Waiting => self.confirm(seen),
            StateName::Working if self.asked.is_none() && self.long_in_tool(seen) => {
                self.permission(seen, hook.text.clone())
            }
            _ => Verdict::Noted,
        }
    }

    /// It knows what is asked, and by whom; that something is, it knows too late.
    fn elicitation_reminder(&mut self, seen: &Observation, hook: &Hook) -> Verdict {
        // leave for the tool was asked for and given before; its server asks now
        let unasked = self.asked.is_none() || self.source == Source::Registry;
        match &mut self.wait {
            Some(wait) if self.stage == StateName::Waiting && unasked => {
                wait.kind = WaitKind::Elicitation;
                hook.text.clone_into(&mut wait.text);
                self.enter(StateName::Waiting, seen)
            }
            _ => Verdict::Noted,
        }
    }

    /// Returns whether the newest tool is open for so long that a reminder can be about it.
    fn long_in_tool(&self, seen: &Observation) -> bool {
        let newest = self.open.last();
        newest.is_some_and(|tool| seen.at.since(tool.since) >= Limits::AGENT_REMINDER)
    }

    fn permission(&mut self, seen: &Observation, text: String) -> Verdict {
        let kind = WaitKind::Permission;
        self.ask(seen, Wait { kind, text, options: Vec::new(), since: seen.at })
    }

    fn turn_ended(&mut self, seen: &Observation, hook: &Hook) -> Verdict {
        if hook.tasks.is_empty() && hook.wakeups.is_empty() {
            return self.rest(seen);
        }
        self.clear_turn();
        self.tasks.clone_from(&hook.tasks);
        self.wakeups.clone_from(&hook.wakeups);
        self.enter(StateName::Background, seen)
    }

    fn compaction_ended(&mut self, seen: &Observation) -> Verdict {
        let from = self.compacted_from.take();
        if self.stage != StateName::Working {
            return Verdict::Noted;
        }
        if from == Some(StateName::Working) {
            let phase = self.phase_now();
            return self.work(seen, Some(phase));
        }
        if self.tasks.is_empty() && self.wakeups.is_empty() {
            return self.rest(seen);
        }
        self.clear_turn();
        self.enter(StateName::Background, seen)
    }

    fn subagent_started(&mut self, seen: &Observation, id: &str) -> Verdict {
        if id.is_empty() || self.subagents.len() == Limits::AGENT_SUBAGENTS {
            return Verdict::Ignored(Why::Unpaired);
        }
        self.subagents.insert(id.to_owned());
        if self.stage != StateName::Working {
            return Verdict::Noted;
        }
        self.work(seen, Some(Phase::Subagent))
    }

    /// A compaction ends a subagent too, one that never began.
    fn subagent_stopped(&mut self, seen: &Observation, id: &str) -> Verdict {
        if !self.subagents.remove(id) {
            return Verdict::Ignored(Why::Unpaired);
        }
        if self.stage != StateName::Working || self.phase != Some(Phase::Subagent) {
            return Verdict::Noted;
        }
        let phase = self.phase_now();
        self.work(seen, Some(phase))
    }

    fn told(&mut self, seen: &Observation, state: StateName, hook: &Hook) -> Verdict {
        self.program.told = true;
        match state {
            StateName::Working => self.work(seen, None),
            StateName::Waiting => {
                let ask = Wait {
                    kind: WaitKind::Question,
                    text: hook.text.clone(),
                    options: Vec::new(),
                    since: seen.at,
                };
                self.ask(seen, ask)
            }
            StateName::Error => self.fail(seen, failure(FailureKind::Other, hook)),
            _ => self.rest(seen),
        }
    }

    /// Returns which open tool a hook tells the end of. A failure tells its error and not what the
    /// tool was given: of several with one name it is then one that nobody was asked for.
    fn ended(&self, hook: &Hook) -> Option<usize> {
        let find = |wanted: &dyn Fn(&Tool) -> bool| self.open.iter().rposition(wanted);
        find(&|tool| is(tool, hook))
            .or_else(|| find(&|tool| tool.name == hook.tool && self.asked.as_ref() != Some(tool)))
            .or_else(|| find(&|tool| tool.name == hook.tool))
    }

    /// A subagent goes on while the agent itself waits or rests.
    fn aside(&self, hook: &Hook) -> bool {
        let still = matches!(self.stage, StateName::Waiting | StateName::Background);
        still && !hook.subagent.is_empty()
    }
}

fn tool(seen: &Observation, hook: &Hook) -> Tool {
    Tool { name: hook.tool.clone(), summary: summary(&hook.text), since: seen.at }
}

/// Returns whether a hook names this tool with what it was given.
fn is(tool: &Tool, hook: &Hook) -> bool {
    tool.name == hook.tool && tool.summary == summary(&hook.text)
}

fn wait(ask: &Ask, seen: &Observation) -> Wait {
    Wait { kind: ask.kind, text: ask.text.clone(), options: ask.options.clone(), since: seen.at }
}

fn failure(kind: FailureKind, hook: &Hook) -> Failure {
    Failure { kind, text: hook.text.clone(), retry_at: hook.retry_at }
}
