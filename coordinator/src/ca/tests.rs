//! The CA: what it issues, what it refuses, and what a crash in its making leaves.

use rcgen::{CertificateParams, KeyPair, SanType};
use warren_common::{NodeId, ReplicaId};
use warren_daemon::{
    Secret,
    identity::{Credentials, Folder, InvalidPeer, Key, Peer, Role, certificates},
};

use super::*;

const NOW: Timestamp = Timestamp(1_764_000_000_000);
const DAY: Duration = Duration::from_secs(24 * 3600);

fn cluster(last: u8) -> ClusterId {
    format!("0199a0b2-7f00-7000-8000-0000000000{last:02x}").parse().expect("an id")
}

fn node() -> PeerIdentity {
    let id: NodeId = "0199a0b2-7f00-7000-8000-0000000000ff".parse().expect("an id");
    PeerIdentity::Node(id)
}

fn keystore() -> (tempfile::TempDir, Keystore) {
    let folder = tempfile::tempdir().expect("a folder");
    let keystore = Keystore::open(&folder.path().join("keystore")).expect("opened");
    (folder, keystore)
}

fn request(key: &Key) -> SigningRequest {
    SigningRequest::from_pem(&key.request().expect("made")).expect("accepted")
}

fn peer(issued: &Issued) -> Peer {
    let chain = certificates("chain", &issued.chain_pem).expect("PEM");
    assert_eq!(chain.len(), 2, "leaf and authority");
    Peer::from_certificate(&chain[0]).expect("it names somebody")
}

#[test]
fn authorities_are_made_once_and_keep_their_cluster() {
    let (_folder, keystore) = keystore();
    assert!(Ca::load(&keystore).expect("readable").is_none());
    let ca = Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let again = Ca::load_or_create(&keystore, cluster(2), NOW).expect("loaded");
    assert_eq!(again.cluster(), cluster(1), "a second init does not replace the first");
    assert_eq!(again.api_trust(), ca.api_trust());
    assert_eq!(Ca::load(&keystore).expect("readable").map(|ca| ca.cluster()), Some(cluster(1)));
    assert_eq!(certificates("trust", &ca.api_trust()).expect("PEM").len(), 3);
    assert!(!ca.api_trust().contains("PRIVATE"));
}

#[test]
fn an_init_that_was_cut_short_is_completed_under_its_own_cluster() {
    let (folder, keystore) = keystore();
    Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let path = folder.path().join("keystore");
    std::fs::remove_file(path.join("coordinator-authority.secret")).expect("removed");
    assert!(Ca::load(&keystore).expect("readable").is_none());
    let ca = Ca::load_or_create(&keystore, cluster(2), NOW).expect("completed");
    assert_eq!(ca.cluster(), cluster(1));
}

#[test]
fn a_damaged_or_exchanged_authority_is_refused() {
    let (_folder, keystore) = keystore();
    Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let person = keystore.get("person-authority").expect("readable").expect("there");
    keystore.put("node-authority", &person).expect("kept");
    let error = Ca::load(&keystore).err().expect("refused").to_string();
    assert!(error.starts_with("the node authority in the keystore is damaged"), "{error}");
    keystore.put("node-authority", &Secret::new(String::new())).expect("kept");
    assert!(matches!(Ca::load(&keystore), Err(CaError::Damaged { .. })));
}

#[test]
fn a_leaf_names_whom_we_say_and_not_whom_it_asks_for() {
    let (_folder, keystore) = keystore();
    let ca = Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let pair = KeyPair::generate().expect("a key");
    let mut greedy = CertificateParams::default();
    let admin = format!("spiffe://{}/person/admin/mallory", cluster(1));
    greedy.subject_alt_names = vec![SanType::URI(admin.try_into().expect("ASCII"))];
    greedy.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let csr = greedy.serialize_request(&pair).expect("made").pem().expect("PEM");
    let request = SigningRequest::from_pem(&csr).expect("its signature is good");
    let issued = ca.issue(&request, &node(), NOW).expect("issued");
    let peer = peer(&issued);
    assert_eq!(peer.identity, node());
    assert_eq!(peer.cluster, cluster(1));
    assert_eq!(peer.serial, issued.serial);
    assert_eq!(peer.not_after, issued.not_after);
    assert_eq!(peer.not_after, NOW.plus(90 * DAY));
    assert_eq!(peer.not_before.plus(Duration::from_secs(7200)), NOW);
    let (chain, again) = (issued.chain_pem, ca.issue(&request, &node(), NOW).expect("issued"));
    assert_ne!(again.serial, issued.serial);
    let key = Secret::new(pair.serialize_pem());
    assert!(Credentials::new(&key, &chain).is_ok(), "the key is the one that asked");
    let other = Key::generate().expect("a key").to_pem();
    assert!(Credentials::new(&other, &chain).is_err(), "another key does not fit");
}

#[test]
fn requests_that_prove_nothing_are_refused() {
    let key = Key::generate().expect("a key");
    let good = key.request().expect("made");
    assert_eq!(request(&key).key_hash(), key.public_hash());
    let error = |pem: &str| SigningRequest::from_pem(pem).expect_err("refused").to_string();
    error("");
    error("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n");
    assert!(error(&"x".repeat(20_000)).contains("larger"));
    // thirty characters before the end of the body is inside the signature's last number
    let end = good.find("\n-----END").expect("an end");
    let at = good[..end].rmatch_indices(|c: char| c.is_ascii_alphanumeric()).nth(30);
    let (at, character) = at.expect("long enough");
    let mut forged = good.clone();
    forged.replace_range(at..=at, if character == "A" { "B" } else { "A" });
    assert!(error(&forged).contains("not signed by its own key"), "{}", error(&forged));
    let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).expect("a key");
    let csr = CertificateParams::default().serialize_request(&ed25519).expect("made");
    assert!(error(&csr.pem().expect("PEM")).contains("P-256"));
}

#[test]
fn a_leaf_never_outlives_its_authority() {
    let (_folder, keystore) = keystore();
    let ca = Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let key = Key::generate().expect("a key");
    let end = NOW.plus(AUTHORITY_LIFE);
    let late = end.0 - 10 * u64::try_from(DAY.as_millis()).expect("fits");
    let issued = ca.issue(&request(&key), &node(), Timestamp(late)).expect("issued");
    assert_eq!(issued.not_after, end);
    assert!(matches!(ca.issue(&request(&key), &node(), end), Err(CaError::Expired(_))));
}

#[test]
fn the_own_certificate_is_renewed_after_a_third_of_its_life() {
    let (folder, keystore) = keystore();
    let ca = Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let own = Folder::open(folder.path().join("identity")).expect("opened");
    let serial = |replica, at| {
        let identity = own_identity(&ca, &own, ReplicaId(replica), at).expect("an identity");
        assert_eq!(identity.trust_pem, ca.api_trust());
        identity.credentials.peer().serial.clone()
    };
    let first = serial(1, NOW);
    assert_eq!(serial(1, NOW.plus(29 * DAY)), first, "still fresh");
    let second = serial(1, NOW.plus(31 * DAY));
    assert_ne!(second, first);
    assert_ne!(serial(2, NOW.plus(31 * DAY)), second, "another replica has its own");
}

#[test]
fn a_pending_key_survives_until_its_certificate_is_installed() {
    let (folder, keystore) = keystore();
    let ca = Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let own = Folder::open(folder.path().join("node")).expect("opened");
    assert!(own.load().expect("readable").is_none());
    let key = own.pending_key().expect("a key");
    assert_eq!(own.pending_key().expect("the same").public_hash(), key.public_hash());
    let issued = ca.issue(&request(&key), &node(), NOW).expect("issued");
    assert!(own.install(&key, &issued.chain_pem, "").is_err(), "trust nobody?");
    assert!(own.load().expect("readable").is_none(), "nothing was written");
    own.install(&key, &issued.chain_pem, ca.coordinator_trust()).expect("installed");
    let loaded = own.load().expect("readable").expect("there");
    assert_eq!(loaded.credentials.peer().identity, node());
    assert_eq!(loaded.credentials.peer().identity.authority(), Authority::Node);
    assert_ne!(own.pending_key().expect("a new one").public_hash(), key.public_hash());
    let admin = PeerIdentity::Person { role: Role::Admin, name: "ada".parse().expect("a name") };
    let issued = ca.issue(&request(&key), &admin, NOW).expect("issued");
    assert_eq!(peer(&issued).identity, admin);
}

#[test]
fn an_authority_cannot_name_holders_of_another_kind() {
    let (_folder, keystore) = keystore();
    let ca = Ca::load_or_create(&keystore, cluster(1), NOW).expect("made");
    let key = Key::generate().expect("a key");
    let admin = PeerIdentity::Person { role: Role::Admin, name: "ada".parse().expect("a name") };
    let issued = ca.node.issue(&request(&key), &admin, NOW).expect("a stolen key signs anything");
    let chain = certificates("chain", &issued.chain_pem).expect("PEM");
    let error = Peer::from_certificate(&chain[0]).expect_err("refused");
    assert!(matches!(error, InvalidPeer::Authority { .. }), "{error}");
}
