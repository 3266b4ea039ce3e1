//! Which container counts of a workspace that has several.

use std::cmp::Reverse;

use crate::engine::{ContainerSeen, ContainerState};

/// Returns the container of a workspace that counts: of those that run the oldest, since two must
/// never run and the newer is the one ordered; where none runs, the newest. One that the engine is
/// removing is gone already.
pub(super) fn chosen(all: Vec<ContainerSeen>) -> Option<ContainerSeen> {
    let age = |seen: &ContainerSeen| (seen.generation, seen.run_serial);
    let key = |seen: &ContainerSeen| match seen.state {
        ContainerState::Running { .. } => (true, Some(Reverse(age(seen))), None),
        ContainerState::Created | ContainerState::Exited { .. } | ContainerState::Removing => {
            (false, None, Some(age(seen)))
        }
    };
    all.into_iter().filter(|seen| seen.state != ContainerState::Removing).max_by_key(key)
}

#[cfg(test)]
mod tests {
    use warren_common::{Generation, Timestamp};

    use super::*;

    fn container(run_serial: u64, state: ContainerState) -> ContainerSeen {
        ContainerSeen {
            id: format!("{run_serial}"),
            name: String::new(),
            workspace: "0199a0b2-7f00-7000-8000-000000000001".parse().expect("an id"),
            generation: Generation::new(1, 1),
            run_serial,
            state,
            started: Timestamp::default(),
            finished: Timestamp::default(),
            caps: Default::default(),
        }
    }

    #[test]
    fn of_two_that_run_the_older_is_seen_so_that_it_is_stopped() {
        let run = |all: Vec<ContainerSeen>| chosen(all).map(|seen| seen.run_serial);
        let running = ContainerState::Running { pid: 1 };
        let exited = ContainerState::Exited { exit_code: 0, oom: false };
        assert_eq!(run(vec![container(1, running), container(2, running)]), Some(1));
        assert_eq!(run(vec![container(2, running), container(1, exited)]), Some(2));
        assert_eq!(run(vec![container(1, running), container(2, exited)]), Some(1));
        assert_eq!(run(vec![container(1, exited), container(2, exited)]), Some(2));
        assert_eq!(
            run(vec![container(3, ContainerState::Removing), container(2, exited)]),
            Some(2)
        );
        assert_eq!(run(Vec::new()), None);
    }
}
