//! Certificates of every age, over real TLS: an expired one may renew, and nothing else does.

use std::time::Duration;

use rcgen::{CertificateParams, CertificateSigningRequestParams, ExtendedKeyUsagePurpose, Issuer};
use warren_common::Limits;
use warren_daemon::{
    clock,
    identity::{Authority, ClientTls, Credentials, Key, Trouble, certificates},
};
use warren_proto::pb::{
    admin::v1::{DeleteWorkspaceRequest, workspace_service_client::WorkspaceServiceClient},
    node::v1::{RenewRequest, enroll_service_client::EnrollServiceClient},
};

use super::{
    handshake::{Failure, Shape, Site, admin, authorities, coordinator, credentials, health, node},
    *,
};

const DAY: u64 = 24 * 3600 * 1000;

fn days_ago(days: u64) -> Timestamp {
    Timestamp(clock::now().0 - days * DAY)
}

fn client(site: &Site, shown: &Credentials) -> Arc<ClientTls> {
    Arc::new(ClientTls::new(shown, site.ca.coordinator_trust()).expect("usable"))
}

/// Makes the three calls that tell callers apart; how each failed.
async fn calls(site: &Site, shown: &Credentials) -> [Failure; 3] {
    let tls = client(site, shown);
    let channel = match site.channel(&tls).await {
        Ok(channel) => channel,
        Err(trouble) => return [1, 2, 3].map(|_| Failure::Trouble(trouble.clone())),
    };
    let looked = health(channel.clone()).await.expect_err("it has no good certificate");
    let mut workspaces = WorkspaceServiceClient::new(channel.clone());
    let deleted = workspaces.delete_workspace(DeleteWorkspaceRequest::default()).await;
    let renewed = EnrollServiceClient::new(channel).renew(RenewRequest::default()).await;
    let refused = tls.refusal();
    let told = |status: &Status| match (&refused, Failure::of(status)) {
        (Some(trouble), Failure::Status(Code::Unknown | Code::Cancelled | Code::Internal, ..)) => {
            Failure::Trouble(trouble.clone())
        }
        (_, failure) => failure,
    };
    let looked = match (&refused, looked) {
        (Some(trouble), Failure::Status(Code::Unknown | Code::Cancelled | Code::Internal, ..)) => {
            Failure::Trouble(trouble.clone())
        }
        (_, failure) => failure,
    };
    [
        looked,
        told(&deleted.expect_err("it has no good certificate")),
        told(&renewed.expect_err("not served here")),
    ]
}

fn has_reason(failure: &Failure, wanted: &str) -> bool {
    matches!(failure, Failure::Status(_, reason, _) if reason == wanted)
}

/// Signs what the authority itself would never sign: its key is in the site's folder.
fn forge(site: &Site, params: CertificateParams, authority: Authority) -> Credentials {
    let name = format!("keystore/{}-authority.secret", authority.as_str());
    let pem = std::fs::read_to_string(site.folder.path().join(name)).expect("readable");
    let der = certificates("an authority", &pem).expect("PEM").remove(0);
    let issuer = Issuer::from_ca_cert_der(&der, Key::from_pem(&pem).expect("a key").into_pair());
    let key = Key::generate().expect("a key");
    let request = CertificateSigningRequestParams::from_pem(&key.request().expect("made"));
    let public = request.expect("readable").public_key;
    let leaf = params.signed_by(&public, &issuer.expect("an issuer")).expect("signed");
    let at = pem.find("-----BEGIN CERTIFICATE").expect("a certificate");
    let chain = format!("{}{}", leaf.pem(), &pem[at..]);
    Credentials::new(&key.to_pem(), &chain).expect("a pair")
}

fn expired_leaf(site: &Site, identity: &PeerIdentity) -> CertificateParams {
    let mut params = CertificateParams::default();
    let uri = identity.uri(site.ca.cluster()).try_into().expect("ASCII");
    params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_millis(days_ago(200).0);
    params.not_after = epoch + Duration::from_millis(days_ago(100).0);
    params
}

#[tokio::test]
async fn an_expired_certificate_renews_and_does_nothing_else() {
    let site = Site::start(Shape::api()).await;
    for (identity, age) in [(admin(), 91), (node(), 400), (coordinator(), 90 + 5 * 365 - 1)] {
        let shown = credentials(&site.ca, &identity, days_ago(age));
        let [looked, deleted, renewed] = calls(&site, &shown).await;
        assert!(has_reason(&looked, reason::CERTIFICATE_EXPIRED), "{identity}: {looked:?}");
        assert!(has_reason(&deleted, reason::CERTIFICATE_EXPIRED), "{identity}: {deleted:?}");
        let reached = matches!(renewed, Failure::Status(Code::Unimplemented, ..));
        assert!(reached, "let through, not served here: {identity}: {renewed:?}");
        site.revoked.lock().expect("whole").insert(shown.peer().serial.clone());
        for failure in calls(&site, &shown).await {
            assert!(has_reason(&failure, reason::CERTIFICATE_REVOKED), "{identity}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn age_excuses_no_other_fault_and_has_its_own_bound() {
    let site = Site::start(Shape::api()).await;
    let (_folder, other) = authorities(2);
    let tomorrow = Timestamp(clock::now().0 + DAY);
    let forged = expired_leaf(&site, &admin());
    let mut server_only = forged.clone();
    server_only.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let [.., renewed] = calls(&site, &forge(&site, forged.clone(), Authority::Person)).await;
    let reached = matches!(renewed, Failure::Status(Code::Unimplemented, ..));
    assert!(reached, "the forger's hand is good: {renewed:?}");
    for (what, shown) in [
        ("too old", credentials(&site.ca, &admin(), days_ago(90 + 5 * 365 + 1))),
        ("not valid yet", credentials(&site.ca, &admin(), tomorrow)),
        ("of another cluster", credentials(&other, &admin(), days_ago(100))),
        ("not meant for clients", forge(&site, server_only, Authority::Person)),
    ] {
        for failure in calls(&site, &shown).await {
            let refused = matches!(failure, Failure::Trouble(Trouble::Refused(_)));
            assert!(refused, "{what}: {failure:?}");
        }
    }
}

#[tokio::test]
async fn the_raft_listener_takes_no_expired_certificate() {
    let site = Site::start(Shape { issued: clock::now(), raft: true }).await;
    let shown = credentials(&site.ca, &coordinator(), days_ago(91));
    for failure in calls(&site, &shown).await {
        assert!(matches!(failure, Failure::Trouble(Trouble::Refused(_))), "{failure:?}");
    }
}

#[tokio::test]
async fn callers_without_a_good_certificate_have_few_places() {
    let site = Site::start(Shape::api()).await;
    let nobody = Arc::new(ClientTls::pinned(site.ca.pin().expect("a pin")).expect("usable"));
    let expired = client(&site, &credentials(&site.ca, &admin(), days_ago(100)));
    let mut held = Vec::new();
    for number in 0..Limits::UNCERTIFIED {
        let tls = if number % 2 == 0 { &nobody } else { &expired };
        let channel = site.channel(tls).await.expect("there is a place");
        // the answer says that the connection has its place
        health(channel.clone()).await.expect_err("it needs a good certificate");
        held.push(channel);
    }
    let crowded = match site.channel(&nobody).await {
        Ok(channel) => health(channel).await.expect_err("there is no place"),
        Err(trouble) => Failure::Trouble(trouble),
    };
    assert!(!has_reason(&crowded, reason::CERTIFICATE_MISSING), "it was served: {crowded:?}");
    let good = client(&site, &credentials(&site.ca, &admin(), clock::now()));
    assert_eq!(site.call(&good).await, Ok(()), "the others have their own places");
}
