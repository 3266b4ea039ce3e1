//! Which browser a person means: `client/workspace/ID`, or less.

use warren_common::Timestamp;
use warren_proto::error::reason;

use super::browsers_of;
use crate::{
    api::Api,
    error::{Error, Kind},
    view::browser::Browser,
};

/// Finds the browser that `text` names, and returns it with the coordinator's time.
///
/// # Errors
/// Usage where it names none, not found, or a conflict where it fits several.
pub(super) async fn find(api: &mut Api, text: &str) -> Result<(Browser, Timestamp), Error> {
    let (workspace, id) = match text.split('/').collect::<Vec<_>>()[..] {
        [client, workspace, id] => (format!("{client}/{workspace}"), id),
        [_] | [_, _] => (text.to_owned(), ""),
        _ => {
            let message = format!("{text:?} is not of the form client/workspace/ID");
            return Err(Error::usage(message).next("warren browser list"));
        }
    };
    let listed = browsers_of(api, &workspace).await?;
    choose(&workspace, id, listed.items).map(|browser| (browser, listed.now))
}

/// Chooses by id, or its process id alone; without one the only browser that runs, or that there is.
fn choose(workspace: &str, id: &str, browsers: Vec<Browser>) -> Result<Browser, Error> {
    let named = |one: &Browser| {
        let pid = one.seen.id.split_once('-').map(|(pid, _)| pid);
        id.is_empty() || one.seen.id == id || pid == Some(id)
    };
    let mut fitting: Vec<Browser> = browsers.into_iter().filter(named).collect();
    let runs = |one: &Browser| !one.state().has_ended();
    if fitting.len() > 1 && fitting.iter().any(runs) {
        fitting.retain(runs);
    }
    match (fitting.pop(), fitting.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => {
            let what = if id.is_empty() { String::new() } else { format!(" {id}") };
            let message = format!("no browser{what} in {workspace}");
            let error = Error::new(Kind::NotFound, reason::NOT_FOUND, message);
            Err(error.next(format!("warren browser list {workspace}")))
        }
        (Some(last), _) => {
            fitting.push(last);
            let names: Vec<&str> = fitting.iter().take(8).map(|one| one.address.as_str()).collect();
            let message = format!("{workspace} has several browsers");
            Err(Error::new(Kind::Conflict, "AMBIGUOUS_NAME", message)
                .why(names.join(", "))
                .next("name one of them in full"))
        }
    }
}
