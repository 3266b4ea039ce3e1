//! `BrowserService`: what the browsers in workspaces show.

use tonic::{Request, Response, Status};
use warren_common::{
    ClientId, NodeId, SessionName, WorkspaceId,
    browser::{BrowserState, BrowserStatus, UrgencyKey},
};
use warren_model::state::Workspace;
use warren_proto::{
    error::ApiError,
    pb::{
        admin::v1::{self as pb, BrowserOrder, browser_service_server::BrowserService},
        inside::v1 as inside,
    },
};

use super::{
    Api, Moment, errors,
    page::{Page, key},
    resolve,
    workspace::by_address,
};

#[tonic::async_trait]
impl BrowserService for Api {
    async fn list_browsers(
        &self,
        request: Request<pb::ListBrowsersRequest>,
    ) -> Result<Response<pb::ListBrowsersResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(request.page_size, &request.page_token)?;
        let moment = self.read_for(request.read).await?;
        let view = moment.view();
        let wanted = Wanted::read(&moment, &request)?;
        let workspaces = by_address(&moment).map(|(_, one)| one);
        let workspaces = workspaces.filter(|one| wanted.may_hold(one));
        let browsers = workspaces.flat_map(|one| view.browsers(one));
        let browsers = browsers.filter(|browser| wanted.holds(browser));
        let mut keyed: Vec<_> = browsers.map(|one| (wanted.key(&one), one)).collect();
        keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
        let paged = page.cut(keyed.into_iter(), |browser| browser);
        Ok(Response::new(pb::ListBrowsersResponse {
            freshness: Some(moment.freshness()),
            browsers: paged.items,
            next_page_token: paged.next,
        }))
    }
}

/// What a list of browsers is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Wanted {
    workspace: Option<WorkspaceId>,
    client: Option<ClientId>,
    node: Option<NodeId>,
    session: Option<SessionName>,
    /// Empty for all.
    states: Vec<BrowserState>,
    order: BrowserOrder,
}

impl Wanted {
    /// Reads a request.
    ///
    /// # Errors
    /// It names what there is not.
    fn read(moment: &Moment, request: &pb::ListBrowsersRequest) -> Result<Self, ApiError> {
        let state = &moment.state;
        let order = BrowserOrder::try_from(request.order)
            .map_err(|_| errors::invalid("order", "this coordinator knows no such order"))?;
        let session = |text: &str| text.parse().map_err(|why| errors::invalid("session", why));
        Ok(Self {
            workspace: named(&request.workspace, |text| Ok(resolve::workspace(state, text)?.id))?,
            client: named(&request.client, |text| Ok(resolve::client(state, text)?.id))?,
            node: named(&request.node, |text| Ok(resolve::node(state, text)?.id))?,
            session: named(&request.session, session)?,
            states: states(&request.states)?,
            order,
        })
    }

    /// Whether browsers of a workspace can be among them.
    fn may_hold(&self, workspace: &Workspace) -> bool {
        let on = workspace.assignment.as_ref().map(|assignment| assignment.node);
        self.workspace.is_none_or(|only| only == workspace.id)
            && self.client.is_none_or(|client| client == workspace.client)
            && self.node.is_none_or(|node| on == Some(node))
    }

    /// Whether a browser is among them.
    fn holds(&self, browser: &pb::Browser) -> bool {
        let Some(status) = status(browser) else { return false };
        (self.states.is_empty() || self.states.contains(&status.state))
            && self.session.as_ref().is_none_or(|name| status.session.as_ref() == Some(name))
    }

    /// Returns the key by which a browser stands in the list.
    fn key(&self, browser: &pb::Browser) -> String {
        let status = status(browser).unwrap_or_default();
        // a number sorts as a text of one width
        let id = format!("{:010}-{:020}", status.id.pid, status.id.start);
        let address = key(&[&browser.client, &browser.workspace, &id]);
        match self.order {
            BrowserOrder::Unspecified => address,
            BrowserOrder::Attention => {
                let UrgencyKey { urgency, .. } = UrgencyKey::of(&status);
                key(&[&format!("{:02x}", u8::MAX - urgency as u8), &address])
            }
        }
    }
}

fn status(browser: &pb::Browser) -> Option<BrowserStatus> {
    BrowserStatus::try_from(browser.observed.clone()?).ok()
}

fn states(numbers: &[i32]) -> Result<Vec<BrowserState>, ApiError> {
    let read = |(index, number): (usize, &i32)| {
        let state = inside::BrowserState::try_from(*number).ok();
        let state = state.and_then(|state| BrowserState::try_from(state).ok());
        let field = format!("states[{index}]");
        state.ok_or_else(|| errors::invalid(&field, format!("there is no state {number}")))
    };
    numbers.iter().enumerate().map(read).collect()
}

fn named<T>(
    text: &str,
    find: impl FnOnce(&str) -> Result<T, ApiError>,
) -> Result<Option<T>, ApiError> {
    if text.is_empty() { Ok(None) } else { find(text).map(Some) }
}

#[cfg(test)]
mod tests {
    use warren_common::{
        Timestamp,
        browser::{BrowserId, Dialog, Page},
    };

    use super::*;

    fn browser(workspace: &str, pid: u32, change: impl FnOnce(&mut BrowserStatus)) -> pb::Browser {
        let mut status = BrowserStatus {
            id: BrowserId { pid, start: 7 },
            state: BrowserState::Running,
            pages: vec![Page::default()],
            ..BrowserStatus::default()
        };
        change(&mut status);
        pb::Browser {
            client: "acme".to_owned(),
            workspace: workspace.to_owned(),
            observed: Some(status.into()),
            ..Default::default()
        }
    }

    fn all() -> Vec<pb::Browser> {
        let session = "main".parse().ok();
        vec![
            browser("a", 10, |_| {}),
            browser("a", 9, |one| one.session = session),
            browser("b", 1, |one| one.state = BrowserState::Closed),
            browser("c", 1, |one| one.pages[0].dialog = Some(Dialog::default())),
            browser("d", 1, |one| one.pages[0].hung = Some(Timestamp(5))),
            browser("e", 1, |one| one.pages[0].crashed = true),
            browser("f", 1, |one| one.state = BrowserState::Crashed),
        ]
    }

    fn shown(wanted: &Wanted) -> Vec<String> {
        let all = all();
        let held = all.iter().filter(|one| wanted.holds(one));
        let mut keyed: Vec<_> = held.map(|one| (wanted.key(one), one)).collect();
        keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
        let name = |one: &pb::Browser| {
            format!("{}{}", one.workspace, status(one).unwrap_or_default().id.pid)
        };
        keyed.into_iter().map(|(_, one)| name(one)).collect()
    }

    #[test]
    fn who_crashed_comes_first_and_filters_leave_who_is_asked_for() {
        let order = BrowserOrder::Attention;
        let attention = Wanted { order, ..Wanted::default() };
        assert_eq!(shown(&attention), ["f1", "e1", "d1", "c1", "a9", "a10", "b1"]);
        assert_eq!(shown(&Wanted::default()), ["a9", "a10", "b1", "c1", "d1", "e1", "f1"]);
        let session = "main".parse().ok();
        assert_eq!(shown(&Wanted { session, ..Wanted::default() }), ["a9"]);
        let states = vec![BrowserState::Crashed, BrowserState::Closed];
        assert_eq!(shown(&Wanted { states, ..Wanted::default() }), ["b1", "f1"]);
        assert!(super::states(&[0]).is_err() && super::states(&[99]).is_err());
    }
}
