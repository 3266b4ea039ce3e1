//! `BrowserService`: what the browsers in workspaces show.

use tonic::{Request, Response, Status};
use warren_common::{
    SessionName,
    browser::{BrowserState, BrowserStatus, UrgencyKey},
};
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
    place::{self, Place, named},
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
        let workspaces = workspaces.filter(|one| wanted.place.may_hold(one));
        let browsers = workspaces.flat_map(|one| view.browsers(one));
        let browsers = browsers.filter(|browser| wanted.holds(browser));
        let keyed = place::keyed(browsers, |one| wanted.key(one));
        let paged = page.cut(keyed, |browser| browser);
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
    place: Place,
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
        let order = BrowserOrder::try_from(request.order)
            .map_err(|_| errors::invalid("order", "this coordinator knows no such order"))?;
        let session = |text: &str| text.parse().map_err(|why| errors::invalid("session", why));
        Ok(Self {
            place: Place::read(moment, (&request.workspace, &request.client, &request.node))?,
            session: named(&request.session, session)?,
            states: states(&request.states)?,
            order,
        })
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
    place::states(numbers, |number| {
        let state = inside::BrowserState::try_from(number).ok()?;
        BrowserState::try_from(state).ok()
    })
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
        let keyed = place::keyed(held, |one| wanted.key(one));
        let name = |one: &pb::Browser| {
            format!("{}{}", one.workspace, status(one).unwrap_or_default().id.pid)
        };
        keyed.map(|(_, one)| name(one)).collect()
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
