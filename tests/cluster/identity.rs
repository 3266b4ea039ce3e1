//! Certificates that are expired, of another role or of another cluster, shown by the real command line to the
//! real coordinator.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, SanType};
use warren_common::{ClusterId, NodeId};
use warren_daemon::identity::{Folder, Key, PeerIdentity, Role, certificates};
use warren_tests::{Cluster, Stage};

/// Whether a certificate is good today.
#[derive(Clone, Copy, PartialEq)]
enum Time {
    Good,
    Over,
}

/// Signs a fresh key for `identity` with its authority's own key, as a thief of it would.
fn forge(
    cluster: &Cluster,
    id: ClusterId,
    (identity, time): (&PeerIdentity, Time),
) -> Result<(Key, String)> {
    let path = format!("state/keys/{}-authority.secret", identity.authority().as_str());
    let pem = fs::read_to_string(cluster.folder().join(path))?;
    let der = certificates("an authority", &pem)?.into_iter().next().context("a certificate")?;
    let issuer = Issuer::from_ca_cert_der(&der, Key::from_pem(&pem)?.into_pair())?;
    let key = Key::generate()?;
    let request = CertificateSigningRequestParams::from_pem(&key.request()?)?;
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(identity.uri(id).try_into()?)];
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(2020, 1, 1);
    let year = if time == Time::Good { 2100 } else { 2021 };
    params.not_after = rcgen::date_time_ymd(year, 1, 1);
    let leaf = params.signed_by(&request.public_key, &issuer)?;
    let at = pem.find("-----BEGIN CERTIFICATE").context("a certificate")?;
    Ok((key, format!("{}{}", leaf.pem(), &pem[at..])))
}

/// Makes a copy of the administrator's contexts, to be spoilt.
fn copy_of(cluster: &Cluster, name: &str) -> Result<(PathBuf, Folder)> {
    let config = cluster.folder().join(name);
    fs::create_dir_all(config.join("contexts"))?;
    fs::copy(cluster.folder().join("config/config.toml"), config.join("config.toml"))?;
    let folder = Folder::open(config.join("contexts/test"))?;
    for file in ["identity.pem", "trust.pem"] {
        let from = cluster.folder().join("config/contexts/test").join(file);
        fs::copy(from, folder.path().join(file))?;
    }
    Ok((config, folder))
}

fn refused(cluster: &Cluster, config: &Path, code: i32, words: &[&str]) -> Result<()> {
    let create = ["client", "create", "second", "--timeout", "10s"];
    let output = cluster.cli()?.env("WARREN_CONFIG_DIR", config).args(create).run()?;
    let output = output.with_code(code)?;
    for word in ["error:", "next:"].iter().chain(words) {
        anyhow::ensure!(output.stderr.contains(word), "no {word:?} in {}", output.stderr);
    }
    anyhow::ensure!(output.took.as_secs() < 9, "it was tried until the deadline: {output:?}");
    Ok(())
}

#[test]
fn an_expired_certificate_and_one_of_another_role_are_refused() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = Cluster::start(&stage, None)?;
    let id: ClusterId =
        cluster.json(&["cluster", "status"])?["id"].as_str().context("an id")?.parse()?;
    let admin = PeerIdentity::Person { role: Role::Admin, name: "mallory".parse()? };
    let node = PeerIdentity::Node("0199a0b2-7f00-7000-8000-0000000000a1".parse::<NodeId>()?);
    let viewer = PeerIdentity::Person { role: Role::Viewer, name: "vera".parse()? };
    let administrator = "ask an administrator";
    for (name, shown, time, code, words) in [
        ("good", &admin, Time::Good, 0, &[][..]),
        ("expired", &admin, Time::Over, 7, &["has expired", "why:", "cluster init"]),
        ("node", &node, Time::Good, 7, &[administrator]),
        ("viewer", &viewer, Time::Good, 7, &[administrator]),
    ] {
        let (config, folder) = copy_of(&cluster, name)?;
        let trust = folder.load()?.context("an identity")?.trust_pem;
        let (key, chain) = forge(&cluster, id, (shown, time))?;
        folder.install(&key, &chain, &trust)?;
        if code == 0 {
            // the forger's hand is good: what is refused below is refused for its own reason
            let create = cluster.cli()?.env("WARREN_CONFIG_DIR", &config);
            create.args(["client", "create", "first"]).run()?.success()?;
        } else {
            refused(&cluster, &config, code, words).with_context(|| name.to_owned())?;
        }
    }
    let made = cluster.warren(&["client", "list", "-o", "name"])?.stdout;
    anyhow::ensure!(made == "first\n", "something was made: {made}");
    Ok(())
}

#[test]
fn another_cluster_neither_lets_in_nor_is_trusted() -> Result<()> {
    let (stage, elsewhere) = (Arc::new(Stage::new()?), Arc::new(Stage::new()?));
    let (ours, theirs) = (Cluster::start(&stage, None)?, Cluster::start(&elsewhere, None)?);
    // our person with our trust at their address: who answers there is not our coordinator
    let (config, folder) = copy_of(&ours, "abroad")?;
    let known = fs::read_to_string(config.join("config.toml"))?;
    let moved = known.replace(&ours.api_address()?, &theirs.api_address()?);
    anyhow::ensure!(known != moved, "the address is not there: {known}");
    fs::write(config.join("config.toml"), moved)?;
    refused(&ours, &config, 5, &["not a coordinator of cluster test"])?;
    // trusting them does not make them trust us
    let trust = theirs.folder().join("config/contexts/test/trust.pem");
    fs::copy(trust, folder.path().join("trust.pem"))?;
    refused(&ours, &config, 7, &["not issued by this cluster", "cluster init"])
}
