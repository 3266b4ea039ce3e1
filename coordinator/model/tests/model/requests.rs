//! A request takes effect once: repeats, reuse, age and bounds.

use uuid::Uuid;
use warren_common::{Bytes, Limits, RequestId, Timestamp};
use warren_model::{
    Command, Envelope, Principal, RefusalCode,
    command::{Forget, IssueToken, RunRequest},
};

use crate::make::{
    START, World, client, coordinator, create_client, create_workspace, node, person, request,
    set_run, spec, token, workspace,
};

fn envelope(world: &World, minted: Timestamp, n: u64, command: Command) -> Envelope {
    let request = request(minted, n);
    Envelope { request, principal: person(), at: world.now, if_revision: None, command }
}

#[test]
fn a_repeat_is_answered_and_changes_nothing() {
    let mut world = World::new();
    let first = envelope(&world, START, 500, create_client(2, "beta"));
    let answer = world.apply(&first);
    let made = answer.result.clone().expect("made");
    assert!(answer.audit.is_some() && !made.repeated);
    let before = world.state.clone();
    // a retry through another coordinator: minted anew there, later
    let again = Envelope { at: Timestamp(START.0 + 5), ..first.clone() };
    let mut again = world.apply(&again);
    assert!(again.result.as_mut().is_ok_and(|one| std::mem::take(&mut one.repeated)));
    assert_eq!(again.result, answer.result);
    assert!(again.audit.is_none() && again.events.is_empty());
    let minted_anew = Envelope { command: create_client(3, "beta"), ..first };
    let other = world.apply(&minted_anew).result.expect("the same request");
    assert!(other.repeated && other.outcome == made.outcome, "the first id stands");
    assert_eq!(world.state, before);
    assert!(!world.state.clients.contains_key(&client(3)));
}

#[test]
fn a_refusal_is_remembered_too() {
    let mut world = World::new();
    let taken = envelope(&world, START, 500, create_client(2, "acme"));
    let first = world.apply(&taken).result.expect_err("taken");
    assert_eq!((first.code, first.to_string().as_str()), {
        (RefusalCode::NameTaken, "client acme already exists")
    });
    let acme = client(1);
    world.must(Command::DeleteClient(warren_model::command::DeleteClient { client: acme }));
    assert_eq!(world.apply(&taken).result, Err(first), "though it would be allowed now");
}

#[test]
fn an_id_used_for_another_command_is_refused() {
    let mut world = World::new();
    let first = envelope(&world, START, 500, create_client(2, "beta"));
    assert!(world.apply(&first).result.is_ok());
    for other in [
        Envelope { command: create_client(2, "gamma"), ..first.clone() },
        Envelope { if_revision: Some(warren_common::Revision(3)), ..first.clone() },
    ] {
        let refusal = world.apply(&other).result.expect_err("reused");
        assert_eq!(refusal.code, RefusalCode::RequestReused);
    }
    let other = Envelope { principal: Principal::Person("bob".to_owned()), ..first };
    let refusal = world.apply(&other).result.expect_err("his own request, and the name is taken");
    assert_eq!(refusal.code, RefusalCode::NameTaken);
}

#[test]
fn a_tokens_retry_is_the_same_request() {
    let mut world = World::new();
    let at = |n: u8, ms: u64| {
        let expires = Timestamp(START.0 + 900_000 + ms);
        let (token, secret_hash) = (token(n), [n; 32]);
        Command::IssueToken(IssueToken { token, secret_hash, node_name: None, expires })
    };
    let first = envelope(&world, START, 500, at(1, 0));
    assert!(world.apply(&first).result.is_ok());
    let retry = Envelope { command: at(2, 3), ..first };
    assert!(world.apply(&retry).result.expect("the same").repeated);
    assert_eq!(world.state.tokens.len(), 1);
}

#[test]
fn ids_of_other_versions_and_other_times_are_refused() {
    let mut world = World::new();
    let day = u64::try_from(Limits::REQUEST_AGE.as_millis()).expect("fits");
    let cases = [
        (START.0 - day, None),
        (START.0 - day - 1, Some(RefusalCode::RequestIdTooOld)),
        (START.0 + day, None),
        (START.0 + day + 1, Some(RefusalCode::RequestIdInvalid)),
    ];
    for (index, (minted, expected)) in cases.into_iter().enumerate() {
        let command = create_client(10 + u8::try_from(index).expect("few"), &format!("c{index}"));
        let envelope = envelope(&world, Timestamp(minted), 500, command);
        let code = world.apply(&envelope).result.err().map(|refusal| refusal.code);
        assert_eq!(code, expected, "minted at {minted}");
    }
    let mut v4 = envelope(&world, START, 500, create_client(20, "v4"));
    v4.request = RequestId::new(Uuid::from_u128(0x4000 << 64 | 0b10 << 62));
    let refusal = world.apply(&v4).result.expect_err("version 4");
    assert_eq!(refusal.code, RefusalCode::RequestIdInvalid);
    let own = Envelope { principal: coordinator(), ..v4 };
    assert!(world.apply(&own).result.is_ok(), "a coordinator's own is guarded by what it carries");
}

#[test]
fn what_has_expired_is_dropped_and_too_old() {
    let mut world = World::new();
    let old = envelope(&world, START, 500, create_client(2, "beta"));
    assert!(world.apply(&old).result.is_ok());
    let held = world.state.requests.held(&person());
    world.wait(u64::try_from(Limits::REQUEST_AGE.as_millis()).expect("fits") + 1);
    let other = Principal::Person("bob".to_owned());
    for n in 0..2 {
        let mut asked = envelope(&world, world.now, n, create_client(3, "acme"));
        asked.principal = other.clone();
        assert!(world.apply(&asked).result.is_err(), "the name is taken");
    }
    assert!(held > 1);
    assert_eq!(world.state.requests.held(&person()), 0, "each of bob's sweeps one other in turn");
    assert_eq!(world.state.requests.held(&other), 2);
    // a clock that went back does not bring it back to life
    let refusal = world.apply(&old).result.expect_err("too old");
    assert_eq!(refusal.code, RefusalCode::RequestIdTooOld);
}

#[test]
fn the_newest_are_kept_at_the_limit() {
    let mut world = World::new();
    let ask = |world: &mut World, n: u64| {
        // refused, which is remembered and cheap
        let envelope = envelope(world, START, n, create_client(2, "acme"));
        world.state.apply(&envelope).result.expect_err("taken").code
    };
    let limit = u64::try_from(Limits::REQUESTS_PER_PRINCIPAL).expect("fits");
    for n in 1000..1000 + limit {
        ask(&mut world, n);
    }
    assert_eq!(world.state.requests.held(&person()), Limits::REQUESTS_PER_PRINCIPAL);
    assert_eq!(ask(&mut world, 1000), RefusalCode::NameTaken, "the oldest is still known");
    ask(&mut world, 1000 + limit);
    assert_eq!(world.state.requests.held(&person()), Limits::REQUESTS_PER_PRINCIPAL);
    assert_eq!(ask(&mut world, 1000), RefusalCode::RequestIdTooOld, "it made room");
    assert_eq!(ask(&mut world, 1001), RefusalCode::NameTaken);
    assert_eq!(warren_model::invariants::check(&world.state), Ok(()));
}

#[test]
fn the_request_that_asked_for_a_run_goes_to_the_node_and_with_the_workspace() {
    let mut world = World::with_nodes(&[Bytes::gib(8)]);
    let create = create_workspace(1, "web", spec(Bytes::gib(1)));
    let create = envelope(&world, world.now, 700, create);
    world.apply(&create).result.expect("made");
    world.settle();
    let told = |world: &World| {
        let orders = warren_model::node_spec(&world.state, node(1), 1).workspaces;
        orders.first().and_then(|order| order.request)
    };
    assert_eq!(told(&world), Some(create.request), "the planner's own requests do not count");

    let idle = envelope(&world, world.now, 701, set_run(1, RunRequest::Start));
    world.apply(&idle).result.expect("it runs already");
    assert_eq!(told(&world), Some(create.request), "what changes nothing is no origin");

    let restart = envelope(&world, world.now, 702, set_run(1, RunRequest::Restart));
    world.apply(&restart).result.expect("restarted");
    assert_eq!(told(&world), Some(restart.request));

    let delete = envelope(&world, world.now, 703, set_run(1, RunRequest::Delete));
    world.apply(&delete).result.expect("asked for");
    let generation = world.workspace(1).generation;
    let forget = Command::Forget(Forget { workspace: workspace(1), generation });
    world.must(forget);
    assert!(world.state.origins.is_empty(), "it goes with its workspace");
}
