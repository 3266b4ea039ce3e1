//! `warren cluster init`.
//!
//! Everything before the coordinator's answer can be repeated: the key of a request under way is
//! kept, and the coordinator answers a repeated request of the same cluster with a fresh
//! certificate. A context that works is left alone.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tonic::transport::Channel;
use warren_common::{Limits, PersonName};
use warren_daemon::identity::{Key, Trouble, connect_local};
use warren_proto::pb::admin::v1::{self as pb, bootstrap_service_client::BootstrapServiceClient};

use crate::{
    api::{self, Api},
    app::App,
    context::{self, Context, Store},
    error::{Error, Kind, Outcome},
    view,
};

/// Arguments of `cluster init`.
#[derive(Debug, Args)]
pub(crate) struct Init {
    /// The cluster's name, and the context's unless --context names another.
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: String,
    /// The coordinator's local socket.
    #[arg(long, value_name = "PATH", default_value = "/run/warren/coordinator.sock")]
    socket: PathBuf,
    /// The administrator's name [default: this user's].
    #[arg(long, value_name = "NAME")]
    admin: Option<PersonName>,
    /// host:port at which nodes and people reach the API [default: the coordinator's own].
    #[arg(long, value_name = "HOST:PORT", value_parser = address)]
    address: Option<String>,
}

#[derive(Debug, Serialize)]
struct View {
    cluster: String,
    cluster_id: String,
    context: String,
    person: String,
    coordinators: Vec<String>,
    /// `created`, `renewed` or `unchanged`.
    result: &'static str,
}

/// How long a fresh context is given to work.
const FIRST_CALL: Duration = Duration::from_secs(15);

pub(super) fn name(text: &str) -> Result<String, String> {
    let checked = text.parse::<warren_common::ClientName>();
    checked
        .map(|name| name.to_string())
        .map_err(|error| error.to_string().replace("client", "cluster"))
}

pub(super) fn address(text: &str) -> Result<String, String> {
    let port = text.rsplit_once(':').filter(|(host, _)| !host.is_empty());
    match port.map(|(_, port)| port.parse::<u16>()) {
        Some(Ok(1..)) if !text.contains(char::is_whitespace) => Ok(text.to_owned()),
        _ => Err(format!("{text:?} is not of the form host:port")),
    }
}

pub(crate) async fn run(app: &App, init: &Init) -> Outcome {
    let store = Store::locate()?;
    let context_name = match app.named_context() {
        Some(context) => name(context).map_err(Error::usage)?,
        None => init.name.clone(),
    };
    let known = store.load()?.contexts.remove(&context_name);
    if let Some(known) = known.filter(|known| made_here(known, init))
        && works(app, &store, (&context_name, &known)).await.is_ok()
    {
        return finish(app, (context_name, known), "unchanged");
    }
    let person = match &init.admin {
        Some(person) => person.clone(),
        None => user(),
    };
    let folder = store.folder(&context_name)?;
    let key = folder.pending_key().map_err(|error| context::local(&error))?;
    let answer = call(app, init, (&person, &key)).await?;
    let context = Context {
        cluster: answer.cluster_name,
        cluster_id: answer.cluster_id,
        coordinators: answer.coordinators,
        person: person.to_string(),
        socket: Some(init.socket.clone()),
        invitation: None,
    };
    let fresh = (&key, answer.certificate_pem.as_str(), answer.trust_pem.as_str());
    keep(app, &store, (&context_name, &context), fresh).await?;
    finish(app, (context_name, context), if answer.created { "created" } else { "renewed" })
}

/// A context is trusted to be this machine's cluster where it was made over the same socket.
fn made_here(known: &Context, init: &Init) -> bool {
    let same_admin = init.admin.as_ref().is_none_or(|admin| admin.as_str() == known.person);
    let same_address = init.address.as_ref().is_none_or(|a| known.coordinators.contains(a));
    known.cluster == init.name
        && known.socket.as_ref() == Some(&init.socket)
        && same_admin
        && same_address
}

/// Stores a fresh certificate (key, chain, trust) as the current context, and calls the cluster
/// with it.
pub(super) async fn keep(
    app: &App,
    store: &Store,
    (name, context): (&str, &Context),
    (key, certificate_pem, trust_pem): (&Key, &str, &str),
) -> Result<(), Error> {
    same_cluster(store, name, context)?;
    let installed = store.folder(name)?.install(key, certificate_pem, trust_pem);
    installed.map_err(|error| context::local(&error))?;
    store.adopt(name, context)?;
    works(app, store, (name, context)).await.map_err(|error| {
        error.or_next("the certificate is stored; run the same command again once it answers")
    })
}

/// A context made over another socket is another cluster's unless the ids agree.
fn same_cluster(store: &Store, name: &str, new: &Context) -> Result<(), Error> {
    let old = store.load()?.contexts.remove(name);
    match old.filter(|old| old.cluster_id != new.cluster_id && old.socket != new.socket) {
        None => Ok(()),
        Some(old) => Err(Error::new(
            Kind::Conflict,
            "CONTEXT_TAKEN",
            format!("context {name} is of another cluster"),
        )
        .why(format!("it knows {} at {}", old.cluster_id, old.coordinators.join(", ")))
        .next("give --context another name; the cluster is made, the same command goes on")),
    }
}

async fn works(app: &App, store: &Store, (name, context): (&str, &Context)) -> Result<(), Error> {
    let identity = store.identity(name, context)?;
    let timeout = Some(app.timeout().unwrap_or(FIRST_CALL));
    let mut api = Api::new(context.clone(), &identity, timeout, app.output.clone())?;
    let answer = api
        .read(async |channel| {
            api::cluster(channel).get_cluster(pb::GetClusterRequest::default()).await
        })
        .await?;
    if answer.cluster_id == context.cluster_id {
        Ok(())
    } else {
        Err(Error::new(Kind::Conflict, "OTHER_CLUSTER", "another cluster answers there"))
    }
}

async fn call(
    app: &App,
    init: &Init,
    (person, key): (&PersonName, &Key),
) -> Result<pb::InitResponse, Error> {
    let request = pb::InitRequest {
        cluster_name: init.name.clone(),
        admin_name: person.to_string(),
        csr_pem: key.request().map_err(|error| context::local(&error))?,
        api_address: init.address.clone().unwrap_or_default(),
    };
    let limit = app.timeout().unwrap_or(Limits::CALL_TIMEOUT);
    let calling = async {
        let channel =
            connect_local(&init.socket).await.map_err(|trouble| nobody(&init.socket, &trouble))?;
        let mut bootstrap = BootstrapServiceClient::<Channel>::new(channel);
        let answer = bootstrap.init(request).await.map_err(|status| {
            let context = Context::unanswered(&init.name, person.as_str());
            api::from_status(&status, &context, warren_common::Timestamp(u64::MAX))
        })?;
        Ok(answer.into_inner())
    };
    match tokio::time::timeout(limit, calling).await {
        Ok(answer) => answer,
        Err(_) => {
            let trouble = Trouble::Unreachable("it did not answer in time".to_owned());
            Err(nobody(&init.socket, &trouble))
        }
    }
}

pub(super) fn nobody(socket: &Path, trouble: &Trouble) -> Error {
    let denied = trouble.to_string().contains("ermission denied");
    let error = Error::new(
        if denied { Kind::NotPermitted } else { Kind::Unreachable },
        if denied { "NOT_PERMITTED" } else { "UNREACHABLE" },
        format!("the coordinator's socket {} does not answer", socket.display()),
    )
    .why(trouble.to_string());
    error.next(match denied {
        true => "run it as root, on the coordinator's machine",
        false => "start warren-coordinator on this machine, or give --socket",
    })
}

/// Returns this user's name where it is fit for a certificate, else `admin`.
pub(super) fn user() -> PersonName {
    let user = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| env::var(name).ok());
    user.and_then(|user| user.to_ascii_lowercase().parse().ok())
        .unwrap_or_else(|| "admin".parse().expect("the constant is a name"))
}

fn finish(app: &App, (name, context): (String, Context), result: &'static str) -> Outcome {
    let view = View {
        cluster: context.cluster,
        cluster_id: context.cluster_id,
        context: name,
        person: context.person,
        coordinators: context.coordinators,
        result,
    };
    app.output.object(&view, &view.cluster, || {
        let fields = view::fields(&[
            ("id", view.cluster_id.clone()),
            ("coordinators", view.coordinators.join(", ")),
            ("context", format!("{} (you are {})", view.context, view.person)),
        ]);
        let indented: String = fields.lines().map(|line| format!("  {line}\n")).collect();
        format!(
            "cluster {}: {result}\n{indented}Next:\n  warren node token\n  warren client create acme\n",
            view.cluster
        )
    })?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_host_and_port() {
        for good in ["h:7400", "10.0.0.1:1", "[::1]:7400"] {
            assert!(address(good).is_ok(), "{good}");
        }
        for odd in ["h", ":7400", "h:", "h:0", "h:99999", "a b:1"] {
            assert!(address(odd).is_err(), "{odd}");
        }
        assert!(name("Demo").expect_err("capitals").contains("cluster name"));
    }
}
