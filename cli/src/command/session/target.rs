//! Which session a person means: `client/workspace/session`, `client/workspace`, or less.

use warren_common::{SessionAddress, WorkspaceName};

use crate::{
    api::Api,
    command::refused,
    error::{Error, Kind},
    view::session::Session,
};

/// The session that is shown where a workspace has several.
const MAIN: &str = "main";

/// A workspace and the name of one of its sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) workspace: String,
    pub(super) session: String,
}

impl Target {
    pub(super) fn of(session: &Session) -> Self {
        let workspace = format!("{}/{}", session.client, session.workspace);
        Self { workspace, session: session.seen.name.clone() }
    }

    /// Returns `client/workspace/session`.
    pub(super) fn address(&self) -> String {
        format!("{}/{}", self.workspace, self.session)
    }
}

/// Finds the session that `text` names.
///
/// # Errors
/// Usage where it names none, not found, or a conflict where it fits several.
pub(super) async fn find(api: &mut Api, text: &str) -> Result<Target, Error> {
    let parts: Vec<&str> = text.split('/').collect();
    match parts[..] {
        [_, _, _] => {
            let address: SessionAddress = text.parse().map_err(refused)?;
            let workspace = address.workspace.to_string();
            Ok(Target { workspace, session: address.session.to_string() })
        }
        [first, second] => match super::sessions_of(api, text).await {
            Ok(listed) => choose(text, &listed.items),
            // perhaps a workspace's bare name and a session
            Err(error) if error.kind == Kind::NotFound => {
                let Ok(listed) = super::sessions_of(api, first).await else {
                    return Err(error);
                };
                listed.items.iter().find(|s| s.seen.name == second).map(Target::of).ok_or(error)
            }
            Err(error) => Err(error),
        },
        [name] => match super::sessions_of(api, name).await {
            Ok(listed) => choose(name, &listed.items),
            Err(error) if error.kind == Kind::NotFound => by_session(api, name, error).await,
            Err(error) => Err(error),
        },
        _ => Err(Error::usage(format!("{text:?} is not of the form client/workspace/session"))
            .next("warren session list")),
    }
}

/// Chooses among the sessions of one workspace: the only one, else `main`.
fn choose(workspace: &str, sessions: &[Session]) -> Result<Target, Error> {
    match sessions {
        [] => Ok(Target { workspace: workspace.to_owned(), session: MAIN.to_owned() }),
        [only] => Ok(Target::of(only)),
        several => match several.iter().find(|session| session.seen.name == MAIN) {
            Some(main) => Ok(Target::of(main)),
            None => Err(ambiguous(workspace, several)),
        },
    }
}

/// Looks for the one session of this name in all workspaces.
async fn by_session(api: &mut Api, name: &str, missing: Error) -> Result<Target, Error> {
    if name.parse::<WorkspaceName>().is_err() {
        return Err(missing);
    }
    let mut sessions = super::sessions_of(api, "").await?.items;
    sessions.retain(|session| session.seen.name == name);
    match &sessions[..] {
        [] => Err(missing.or_next("warren session list")),
        [only] => Ok(Target::of(only)),
        several => Err(ambiguous(name, several)),
    }
}

fn ambiguous(text: &str, sessions: &[Session]) -> Error {
    let names: Vec<&str> = sessions.iter().take(8).map(|s| s.address.as_str()).collect();
    Error::new(Kind::Conflict, "AMBIGUOUS_NAME", format!("{text} fits several sessions"))
        .why(names.join(", "))
        .next("name one of them in full")
}

#[cfg(test)]
mod tests {
    use warren_proto::pb::{admin::v1 as pb, node::v1 as node};

    use super::*;

    fn sessions(names: &[&str]) -> Vec<Session> {
        let session = |name: &&str| {
            Session::from(pb::Session {
                client: "acme".to_owned(),
                workspace: "web".to_owned(),
                observed: Some(node::SessionObserved {
                    name: (*name).to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            })
        };
        names.iter().map(session).collect()
    }

    #[test]
    fn the_only_session_or_main() {
        let chosen = |names: &[&str]| choose("acme/web", &sessions(names)).map(|t| t.session);
        assert_eq!(chosen(&[]).as_deref(), Ok("main"));
        assert_eq!(chosen(&["tests"]).as_deref(), Ok("tests"));
        assert_eq!(chosen(&["a", "main", "z"]).as_deref(), Ok("main"));
        let error = chosen(&["a", "b"]).expect_err("several");
        assert_eq!(error.kind, Kind::Conflict);
        assert_eq!(error.why.as_deref(), Some("acme/web/a, acme/web/b"));
    }
}
