//! A cluster that was off for a year comes back by itself: every certificate on disk has expired,
//! and coordinator, node and person renew theirs by showing what they have.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use rcgen::{CertificateParams, CertificateSigningRequestParams, Issuer, SanType, SerialNumber};
use warren_daemon::identity::{Folder, Key, SERVER_NAME, certificates};
use warren_tests::{Cluster, Output, Program, Stage, program::binary, wait_until};

const DAY: Duration = Duration::from_secs(24 * 3600);
const SOON: Duration = Duration::from_secs(60);

fn now() -> Result<Duration> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?)
}

/// Makes the certificate in a folder one of 90 days that was issued this many days ago: the same
/// holder, serial and key, signed by the same authority.
fn age(cluster: &Cluster, path: &Path, days: u32) -> Result<()> {
    let folder = Folder::open(path)?;
    let identity = folder.load()?.context("an identity")?;
    let peer = identity.credentials.peer();
    let authority = peer.identity.authority().as_str();
    let secret = cluster.folder().join(format!("state/keys/{authority}-authority.secret"));
    let pem = fs::read_to_string(secret)?;
    let der = certificates("an authority", &pem)?.into_iter().next().context("a certificate")?;
    let issuer = Issuer::from_ca_cert_der(&der, Key::from_pem(&pem)?.into_pair())?;
    let key = Key::from_pem(&fs::read_to_string(path.join("identity.pem"))?)?;
    let request = CertificateSigningRequestParams::from_pem(&key.request()?)?;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&peer.serial));
    params.subject_alt_names = vec![
        SanType::URI(peer.identity.uri(peer.cluster).try_into()?),
        SanType::DnsName(SERVER_NAME.try_into()?),
    ];
    params.extended_key_usages = vec![
        rcgen::ExtendedKeyUsagePurpose::ClientAuth,
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
    ];
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let begin = now()? - DAY * days;
    params.not_before = epoch + begin;
    params.not_after = epoch + begin + DAY * 90;
    let leaf = params.signed_by(&request.public_key, &issuer)?;
    let at = pem.find("-----BEGIN CERTIFICATE").context("a certificate")?;
    let chain = format!("{}{}", leaf.pem(), &pem[at..]);
    folder.install(&key, &chain, &identity.trust_pem)?;
    Ok(())
}

/// How much longer the certificate in a folder is good; an error where it is not.
fn good_for(path: &Path) -> Result<Duration> {
    let identity = Folder::open(path)?.load()?.context("an identity")?;
    let end = Duration::from_millis(identity.credentials.peer().not_after.0);
    end.checked_sub(now()?).with_context(|| format!("{} has expired", path.display()))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn private_copy(from: &Path, to: PathBuf) -> Result<PathBuf> {
    copy(from, &to)?;
    Ok(to)
}

#[test]
fn a_cluster_that_was_off_for_a_year_comes_back_by_itself() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    cluster.nodes[0].kill()?;
    cluster.kill_coordinator()?;
    let person = cluster.folder().join("config/contexts/test");
    let coordinator = cluster.folder().join("state/identity");
    let node = cluster.nodes[0].folder().join("state/identity");
    for folder in [&person, &coordinator, &node] {
        age(&cluster, folder, 400)?;
        anyhow::ensure!(good_for(folder).is_err(), "the certificate was not aged");
    }
    let stolen = private_copy(&cluster.folder().join("config"), cluster.folder().join("stolen"))?;

    cluster.nodes[0].start()?;
    cluster.start_coordinator()?;
    wait_until("the administrator is let in", SOON, || {
        cluster.warren(&["client", "list"]).map(drop)
    })?;
    cluster.wait_ready("n1")?;
    for folder in [&person, &coordinator, &node] {
        let good = good_for(folder)?;
        anyhow::ensure!(good > DAY * 89, "{} is good for {good:?}", folder.display());
    }
    cluster.warren(&["client", "create", "second"])?;

    // whoever copied the old certificate meanwhile does not come back with it
    let thief = cluster.cli()?.env("WARREN_CONFIG_DIR", &stolen).args(["client", "list"]).run()?;
    let thief = thief.with_code(7)?;
    for word in ["has expired", "not the newest on record", "warren user invite"] {
        anyhow::ensure!(thief.stderr.contains(word), "no {word:?} in {}", thief.stderr);
    }
    Ok(())
}

#[test]
fn what_is_good_renews_quietly_after_a_third_of_its_life() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    cluster.nodes[0].kill()?;
    cluster.kill_coordinator()?;
    let person = cluster.folder().join("config/contexts/test");
    let coordinator = cluster.folder().join("state/identity");
    let node = cluster.nodes[0].folder().join("state/identity");
    for folder in [&person, &coordinator, &node] {
        age(&cluster, folder, 31)?;
        anyhow::ensure!(good_for(folder)? < DAY * 60, "the certificate was not aged");
    }
    cluster.nodes[0].start()?;
    cluster.start_coordinator()?;
    wait_until("the cluster answers", SOON, || cluster.warren(&["client", "list"]).map(drop))?;
    cluster.wait_ready("n1")?;
    for folder in [&person, &coordinator, &node] {
        wait_until("the certificate is a fresh one", SOON, || {
            let good = good_for(folder)?;
            anyhow::ensure!(good > DAY * 89, "{} is good for {good:?}", folder.display());
            Ok(())
        })?;
    }
    let output = cluster.warren(&["client", "list"])?;
    anyhow::ensure!(output.stderr.is_empty(), "it is quiet: {}", output.stderr);
    Ok(())
}

#[test]
fn a_stopped_coordinator_renews_its_own_certificate_whatever_there_was() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    let config = cluster.folder().join("coordinator.toml");
    let renew = || -> Result<Output> {
        let program = Program::new(binary("warren-coordinator")?);
        program.args(["renew-certs".as_ref(), "--config".as_ref(), config.as_os_str()]).run()
    };
    let running = renew()?.with_code(1)?;
    anyhow::ensure!(running.stderr.contains("renews its certificate by itself"), "{running:?}");
    cluster.kill_coordinator()?;
    let identity = cluster.folder().join("state/identity");
    fs::write(identity.join("identity.pem"), "damaged")?;
    let renewed = renew()?.success()?;
    anyhow::ensure!(renewed.stdout.contains("good until"), "{renewed:?}");
    anyhow::ensure!(good_for(&identity)? > DAY * 89, "it is not fresh");
    cluster.start_coordinator()?;
    wait_until("the cluster answers", SOON, || cluster.warren(&["client", "list"]).map(drop))
}
