//! Names, places and what is dead.

use uuid::Uuid;
use warren_common::Timestamp;
use warren_model::Principal;

use super::*;

fn name(text: &str) -> SecretName {
    text.parse().expect("a name")
}

fn acme() -> ClientId {
    ClientId::new(Uuid::from_u128(7))
}

fn state() -> ClusterState {
    let record = SecretRecord {
        version: 3,
        value: ValueId([5; 16]),
        by: Principal::Person("ann".to_owned()),
        at: Timestamp(1),
        made_for: None,
        revision: Revision(1),
    };
    let mut state = ClusterState::default();
    let secrets: BTreeMap<_, _> = [(name("a-b"), record)].into();
    state.secrets.insert(Vault::Client(acme()), secrets.clone().into());
    state.secrets.insert(Vault::Shared, secrets.into());
    state
}

#[test]
fn what_the_state_does_not_name_is_dead_and_the_rest_is_left_alone() {
    let mut state = state();
    for vault in [Vault::Shared, Vault::Client(acme())] {
        assert!(!is_dead(&state, &file(vault, &name("a-b"), 3)), "the value that counts");
        assert!(is_dead(&state, &file(vault, &name("a-b"), 2)), "the one before");
        assert!(is_dead(&state, &file(vault, &name("other"), 1)));
    }
    assert!(is_dead(&state, &key_file(Vault::Client(acme()))), "its client is gone");
    assert!(!is_dead(&state, &key_file(Vault::Shared)));
    for others in ["node-authority", "secret-of-a-later-version", "vault-key-of-another-kind"] {
        assert!(!is_dead(&state, others), "{others}");
    }
    state.secrets.remove(&Vault::Shared);
    assert!(is_dead(&state, &file(Vault::Shared, &name("a-b"), 3)));
    let longest = file(Vault::Client(acme()), &name(&"x".repeat(40)), u64::MAX);
    let folder = tempfile::tempdir().expect("a folder");
    let keystore = Keystore::open(folder.path()).expect("opened");
    assert!(keystore.get(&longest).expect("a name of the keystore").is_none());
}

#[test]
fn a_value_opens_where_the_state_names_it_and_what_is_missing_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let keystore = Keystore::open(folder.path()).expect("opened");
    let (vault, secret) = (Vault::Client(acme()), name("a-b"));
    let record = state().secret(vault, &secret).expect("there").clone();
    let wanted = [(vault, secret.clone(), record.clone())];
    let reason = |keystore: &Keystore| open_all(keystore, &wanted).err().expect("none").reason;
    assert_eq!(reason(&keystore), "SECRET_MISSING", "no key");
    let key = SealKey::random().expect("a key");
    keystore.put(&key_file(vault), &key.to_text()).expect("kept");
    assert_eq!(reason(&keystore), "SECRET_MISSING", "no value");
    let value = Secret::new(b"hunter2".to_vec());
    let keep = |version: u64, id: ValueId| {
        let place = place(vault, &secret, (version, id));
        let sealed = key.seal(place.as_bytes(), &value).expect("sealed");
        assert!(!sealed.contains("hunter2"));
        keystore.put(&file(vault, &secret, version), &Secret::new(sealed)).expect("kept");
    };
    keep(3, ValueId([6; 16]));
    assert_eq!(reason(&keystore), "SECRET_MISSING", "the value of another leader");
    keep(3, record.value);
    keep(4, ValueId([6; 16]));
    let opened = open_all(&keystore, &wanted).expect("opened");
    assert_eq!(opened[0].1.expose(), b"hunter2", "a later try stands beside it");
    assert_eq!(opened[0].0, secret);
}

#[test]
fn a_mark_tells_values_of_one_request_apart_and_says_nothing_without_the_key() {
    let key = SealKey::random().expect("a key");
    let setting = |request: u128, value: &str| Setting {
        envelope: Envelope {
            request: warren_common::RequestId::new(Uuid::from_u128(request)),
            principal: Principal::Person("ann".to_owned()),
            at: Timestamp(1),
            if_revision: None,
            command: Command::Secret(Box::new(SecretCommand::Set(SetSecret {
                vault: Vault::Shared,
                name: name("x"),
                version: 0,
                value: ValueId::default(),
                mark: ValueMark::default(),
                made_for: None,
            }))),
        },
        serial: Vec::new(),
        value: Secret::new(value.as_bytes().to_vec()),
    };
    let mark = setting(1, "one").mark(&key);
    assert_eq!(mark, setting(1, "one").mark(&key));
    assert_ne!(mark, setting(1, "two").mark(&key));
    assert_ne!(mark, setting(2, "one").mark(&key), "requests cannot be linked by it");
    assert_ne!(mark, setting(1, "one").mark(&SealKey::random().expect("a key")));
}
