//! Makes a report fit into one message.

use std::cmp::Reverse;

use prost::Message as _;
use warren_common::Limits;
use warren_proto::pb::node::v1::{StatusRequest, StepState};

/// Room for what tonic puts around a message.
const MARGIN: usize = 64 * 1024;

/// Returns the report within [`Limits::MESSAGE_BYTES`]: the output of startup steps that ended well
/// goes first, then all output. Should workspaces have filled every other text that is theirs, the
/// largest lose steps, sessions and browsers: one of them must not silence the node.
pub(super) fn fit(mut report: StatusRequest) -> StatusRequest {
    let limit = Limits::MESSAGE_BYTES - MARGIN;
    for harder in [false, true] {
        if report.encoded_len() <= limit {
            break;
        }
        for step in report.workspaces.iter_mut().flat_map(|workspace| &mut workspace.steps) {
            let state = step.state();
            if harder || matches!(state, StepState::Done | StepState::Skipped) {
                step.output.clear();
            }
        }
    }
    let mut over = report.encoded_len().saturating_sub(limit);
    if over > 0 {
        let mut largest: Vec<_> = report.workspaces.iter_mut().collect();
        largest.sort_by_cached_key(|one| Reverse(one.encoded_len()));
        for one in largest {
            let before = one.encoded_len();
            one.steps.clear();
            one.sessions.clear();
            one.browsers.clear();
            // the prefix of a message is shorter for a shorter one, never longer
            over = over.saturating_sub(before - one.encoded_len());
            if over == 0 {
                break;
            }
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use warren_proto::pb::node::v1::{SessionObserved, StartupStep, WorkspaceObserved};

    use super::*;

    fn report(workspaces: usize) -> StatusRequest {
        let step = |state: StepState| StartupStep {
            state: state.into(),
            output: "x".repeat(Limits::STEP_OUTPUT_BYTES),
            ..StartupStep::default()
        };
        let steps = vec![step(StepState::Done), step(StepState::Failed)];
        let workspace = WorkspaceObserved { steps, ..WorkspaceObserved::default() };
        StatusRequest { workspaces: vec![workspace; workspaces], ..StatusRequest::default() }
    }

    #[test]
    fn workspaces_that_say_too_much_are_cut_and_the_rest_is_told() {
        let session = SessionObserved {
            command: "x".repeat(Limits::SESSION_COMMAND_BYTES),
            ..SessionObserved::default()
        };
        let mut loud = report(300);
        for one in loud.workspaces.iter_mut().take(60) {
            one.sessions = vec![session.clone(); Limits::SESSIONS];
        }
        let told = fit(loud);
        assert!(told.encoded_len() <= Limits::MESSAGE_BYTES);
        assert_eq!(told.workspaces.len(), 300);
        assert!(told.workspaces.iter().skip(60).all(|one| one.steps.len() == 2));
        assert!(told.workspaces.iter().any(|one| one.sessions.len() == Limits::SESSIONS));
    }

    #[test]
    fn output_goes_before_facts_do() {
        let outputs = |report: &StatusRequest| {
            let steps = report.workspaces.iter().flat_map(|one| &one.steps);
            steps.filter(|step| !step.output.is_empty()).count()
        };
        assert_eq!(outputs(&fit(report(10))), 20, "all of it fits");
        assert_eq!(outputs(&fit(report(300))), 300, "failed steps keep theirs");
        let most = fit(report(2000));
        assert_eq!(outputs(&most), 0);
        assert_eq!(most.workspaces.len(), 2000);
        assert!(most.encoded_len() <= Limits::MESSAGE_BYTES);
    }
}
