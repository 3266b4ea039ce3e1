//! Which containers there are.

use bollard::{models::ContainerSummary, query_parameters::ListContainersOptionsBuilder};
use warren_common::{Limits, WorkspaceId};

use super::{DockerEngine, WORKSPACE, seen};
use crate::engine::{ContainerSeen, EngineError};

impl DockerEngine {
    /// Lists the containers of one workspace, or of all, as far as Docker says without asking them.
    pub(super) async fn summaries(
        &self,
        of: Option<WorkspaceId>,
    ) -> Result<Vec<ContainerSummary>, EngineError> {
        let api = self.api().await?;
        let mut filter = self.filter();
        let label = of.map(|workspace| format!("{WORKSPACE}={workspace}"));
        filter.entry("label").or_default().extend(label);
        let options = ListContainersOptionsBuilder::default().all(true).filters(&filter).build();
        let list = api.list_containers(Some(options));
        self.call("list containers", Limits::CALL_TIMEOUT, list).await
    }

    /// Lists the containers of one workspace, or of all. Docker answers for a container only when
    /// it has finished what it does with it, so nobody asks about more than they must.
    pub(super) async fn find(
        &self,
        of: Option<WorkspaceId>,
    ) -> Result<Vec<ContainerSeen>, EngineError> {
        let list = self.summaries(of).await?;
        let mut found = Vec::with_capacity(list.len());
        for id in list.into_iter().filter_map(|summary| summary.id) {
            match self.inspect(&id).await {
                Ok(container) => found.extend(seen(&container)),
                Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        found.sort_by_key(|one| (one.workspace, one.run_serial));
        Ok(found)
    }
}
