//! Makes a report fit into one message.

use prost::Message as _;
use warren_common::Limits;
use warren_proto::pb::node::v1::{StatusRequest, StepState};

/// Room for what tonic puts around a message.
const MARGIN: usize = 64 * 1024;

/// Returns the report within [`Limits::MESSAGE_BYTES`]: the output of startup steps that ended well
/// goes first, then all output. What remains is small for every workspace a node can hold.
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
    report
}

#[cfg(test)]
mod tests {
    use warren_proto::pb::node::v1::{StartupStep, WorkspaceObserved};

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
