//! What Claude Code's registry of sessions does to the state.

use super::{Fold, Verdict, Why};
use crate::agent::{
    observation::{Observation, Registry, RegistryStatus},
    state::{StateName, WaitKind},
};

impl Fold {
    pub(super) fn registry(&mut self, seen: &Observation, registry: &Registry) -> Verdict {
        if !registry.live {
            return Verdict::Ignored(Why::NotLive);
        }
        self.spoke(seen.at);
        let prompted = self.prompts;
        let waits = registry.status == RegistryStatus::Waiting;
        self.prompts = waits && registry.waiting_for == "permission prompt";
        match registry.status {
            RegistryStatus::Busy => self.busy(seen),
            RegistryStatus::Idle => self.at_prompt(seen),
            RegistryStatus::Waiting if self.prompts => {
                self.blocked(seen, WaitKind::Permission, &registry.waiting_for)
            }
            RegistryStatus::Waiting => {
                let asks = registry.waiting_for == "input needed";
                if asks && prompted && self.waits_for_leave() {
                    // leave was given, and what it was given for asks: the record changed twice
                    // between two looks, so nobody saw it work
                    let phase = self.phase_now();
                    self.work(seen, Some(phase));
                }
                self.blocked(seen, WaitKind::Question, &registry.waiting_for)
            }
            RegistryStatus::Shell => match self.stage {
                StateName::Background | StateName::Error => self.confirm(seen),
                _ => {
                    self.clear_turn();
                    self.enter(StateName::Background, seen)
                }
            },
        }
    }

    fn waits_for_leave(&self) -> bool {
        let permission = self.wait.as_ref().is_some_and(|wait| wait.kind == WaitKind::Permission);
        self.stage == StateName::Waiting && permission
    }
}
