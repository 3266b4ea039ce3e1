//! Join tokens: how a machine becomes a node.

use std::sync::Arc;

use imbl::OrdMap;
use serde::{Deserialize, Serialize};
use warren_common::{Limits, NodeEpoch, NodeId, NodeName, Timestamp, TokenId};

use crate::{
    answer::{Outcome, Refusal, RefusalCode},
    apply::{Change, Context},
    command::{Availability, IssueToken, JoinNode},
    event::EventKind,
    state::{ClusterState, Node, node::validate_facts, node_end},
};

/// A single-use right to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinToken {
    /// Its id.
    pub id: TokenId,
    /// SHA-256 of the secret.
    pub secret_hash: [u8; 32],
    /// The name the node must take.
    pub node_name: Option<NodeName>,
    /// After this it is refused.
    pub expires: Timestamp,
    /// Set once it is spent: which key took which node.
    pub spent: Option<([u8; 32], NodeId)>,
}

pub(crate) fn issue(
    state: &mut ClusterState,
    context: &Context,
    command: &IssueToken,
) -> Result<Change, Refusal> {
    let IssueToken { token: id, secret_hash, node_name, expires } = command;
    if state.tokens.contains_key(id) {
        let message = format!("the id of token {id} is in use");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    check_expiry("a join token", *expires, context.at)?;
    if let Some(name) = node_name
        && state.node_names.contains_key(name)
    {
        return Err(Refusal::new(RefusalCode::NameTaken, format!("node {name} already exists")));
    }
    let kept = |token: &JoinToken| is_kept(token.expires, context.at);
    let mut live = with_room(&state.tokens, kept, (Limits::TOKENS, "join tokens"))?;
    let token = JoinToken {
        id: *id,
        secret_hash: *secret_hash,
        node_name: node_name.clone(),
        expires: *expires,
        spent: None,
    };
    live.insert(*id, token);
    state.tokens = live;
    let name = node_name.as_ref().map_or_else(|| "any".to_owned(), ToString::to_string);
    Ok(Change::new("token.issue", Outcome::Token(*id))
        .object(&"join token", id)
        .detail(format!("node name {name}"))
        .event(EventKind::TokenIssued(*id)))
}

/// Refuses a token that is good for longer than tokens are, or not any more.
pub(crate) fn check_expiry(what: &str, expires: Timestamp, at: Timestamp) -> Result<(), Refusal> {
    // the edge may read its clock once for the command and once for the token
    let latest = at.plus(Limits::TOKEN_AGE + Limits::CALL_TIMEOUT);
    if expires > at && expires <= latest {
        return Ok(());
    }
    let minutes = Limits::TOKEN_AGE.as_secs() / 60;
    let message = format!("{what} expires within {minutes} minutes of now");
    Err(Refusal::new(RefusalCode::InvalidSpec, message))
}

/// Whether a token is still remembered: for as long again as it was good, so that a retry finds
/// what it was spent for.
pub(crate) fn is_kept(expires: Timestamp, at: Timestamp) -> bool {
    expires.plus(Limits::TOKEN_AGE) > at
}

/// Returns the tokens that are kept, where there is room for one more of them.
pub(crate) fn with_room<T: Clone>(
    tokens: &OrdMap<TokenId, T>,
    kept: impl Fn(&T) -> bool,
    (limit, what): (usize, &str),
) -> Result<OrdMap<TokenId, T>, Refusal> {
    let live = tokens.iter().filter(|(_, token)| kept(token));
    let live: OrdMap<_, _> = live.map(|(id, token)| (*id, token.clone())).collect();
    if live.len() < limit {
        return Ok(live);
    }
    let message = format!("{limit} {what} are outstanding, the limit");
    Err(Refusal::new(RefusalCode::LimitReached, message))
}

pub(crate) fn join(
    state: &mut ClusterState,
    context: &Context,
    command: &JoinNode,
) -> Result<Change, Refusal> {
    let token = match state.tokens.get(&command.token) {
        Some(token) if token.secret_hash == command.secret_hash => token.clone(),
        Some(_) | None => {
            let message = "the join token is not known here";
            return Err(Refusal::new(RefusalCode::TokenInvalid, message));
        }
    };
    match token.spent {
        Some((key, node)) if key == command.key_hash => {
            return Ok(Change::none(Outcome::Node(node)));
        }
        Some((_, node)) => {
            let name = state.node_label(node);
            let message = format!("the join token was used before, for node {name}");
            return Err(Refusal::new(RefusalCode::TokenUsed, message));
        }
        None => {}
    }
    if context.at > token.expires {
        let message = "the join token has expired; mint a new one with `warren node token`";
        return Err(Refusal::new(RefusalCode::TokenExpired, message));
    }
    free_to_join(state, &token, command)?;
    validate_facts(&command.facts)?;
    node_end::free_name(state, &command.name);
    let JoinNode { node: id, name, facts, key_hash, .. } = command;
    let node = Node {
        id: *id,
        name: name.clone(),
        availability: Availability::Active,
        epoch: NodeEpoch(0),
        facts: facts.clone(),
        overcommitted: false,
        joined: context.at,
        registered: None,
        revision: context.revision,
    };
    state.nodes.insert(*id, Arc::new(node));
    state.node_names.insert(name.clone(), *id);
    state.tokens.insert(token.id, JoinToken { spent: Some((*key_hash, *id)), ..token });
    Ok(Change::new("node.join", Outcome::Node(*id))
        .object(name, id)
        .detail(format!("host {}, join token {}", facts.hostname, command.token))
        .event(EventKind::NodeJoined(*id, name.clone())))
}

fn free_to_join(
    state: &ClusterState,
    token: &JoinToken,
    command: &JoinNode,
) -> Result<(), Refusal> {
    let name = &command.name;
    if let Some(bound) = token.node_name.as_ref().filter(|bound| *bound != name) {
        let message = format!("the join token is for node {bound}, not {name}");
        return Err(Refusal::new(RefusalCode::TokenInvalid, message));
    }
    if node_end::is_taken(state, name) {
        return Err(Refusal::new(RefusalCode::NameTaken, format!("node {name} already exists")));
    }
    if state.nodes.contains_key(&command.node) {
        let message = format!("the id of node {name} is in use");
        return Err(Refusal::new(RefusalCode::WrongState, message));
    }
    if state.nodes.len() >= Limits::NODES {
        let message = format!("the cluster has {} nodes, the limit", Limits::NODES);
        return Err(Refusal::new(RefusalCode::LimitReached, message));
    }
    Ok(())
}
