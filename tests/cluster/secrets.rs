//! Secrets on three coordinators: set through any of them, there after the leader is lost, back after
//! a restore, and given to no node but the one that holds the workspace.

use std::{fs, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tonic::Code;
use warren_daemon::identity::{ClientTls, Folder, connect};
use warren_proto::pb::node::v1::{
    FetchSecretsRequest, FetchSecretsResponse, node_service_client::NodeServiceClient,
};
use warren_tests::{Cluster, Stage, wait_until};

const SOON: Duration = Duration::from_secs(20);

fn set(cluster: &Cluster, words: &[&str], value: &str) -> Result<Value> {
    let arguments = [&["secret", "set"], words, &["@-", "-o", "json"]].concat();
    cluster.cli()?.args(arguments).input(value).run()?.success()?.json()
}

fn create(cluster: &Cluster, address: &str) -> Result<()> {
    let size = ["--memory", "64M", "--disk", "64M"];
    cluster.warren(&[&["workspace", "create", address], &size[..]].concat()).map(drop)
}

/// Returns what a fake node holds of a workspace's secret.
fn held(cluster: &Cluster, address: &str, name: &str) -> Result<String> {
    let id = cluster.workspace(address)?["id"].as_str().context("an id")?.to_owned();
    for node in &cluster.nodes {
        let run = run_of(node.folder())?.join(node.name());
        let found = run.join("secrets").join(&id).join(name);
        if found.exists() {
            return Ok(fs::read_to_string(found)?);
        }
    }
    anyhow::bail!("no node holds {name} of {address}")
}

/// Returns the runtime folder that a node's configuration names.
fn run_of(folder: &std::path::Path) -> Result<PathBuf> {
    let text = fs::read_to_string(folder.join("node-agent.toml"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("runtime_dir = "));
    Ok(line.context("a runtime folder")?.trim_matches('"').into())
}

fn wait_held(cluster: &Cluster, (address, name): (&str, &str), value: &str) -> Result<()> {
    wait_until(&format!("{address} has {name}"), SOON, || {
        let held = held(cluster, address, name)?;
        ensure!(held == value, "it holds {held}");
        Ok(())
    })
}

#[test]
fn a_secret_set_through_a_follower_is_there_after_the_leader_is_lost() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::of_three(&stage)?;
    cluster.add_fake_node("n1", None)?;
    for client in ["acme", "beta"] {
        cluster.warren(&["client", "create", client])?;
    }
    let follower = cluster.knowing("config", &[1])?;
    let through = |words: &[&str], value: &str| -> Result<Value> {
        let arguments = [&["secret", "set"], words, &["@-", "-o", "json"]].concat();
        let program = cluster.cli()?.env("WARREN_CONFIG_DIR", &follower).args(arguments);
        program.input(value).run()?.success()?.json()
    };
    let first = through(&["acme", "git-token"], "canary-one")?;
    ensure!(first["version"] == 1 && first["client"] == "acme", "{first}");
    set(&cluster, &["--shared", "tool"], "for all")?;
    set(&cluster, &["beta", "theirs"], "of beta")?;
    create(&cluster, "acme/web")?;
    wait_held(&cluster, ("acme/web", "git-token"), "canary-one")?;
    wait_held(&cluster, ("acme/web", "tool"), "for all")?;
    ensure!(held(&cluster, "acme/web", "theirs").is_err(), "another client's");
    // rotation, by the other coordinators once the leader is gone
    cluster.kill_coordinator()?;
    let second = set(&cluster, &["acme", "git-token"], "canary-two")?;
    ensure!(second["version"] == 2, "{second}");
    wait_held(&cluster, ("acme/web", "git-token"), "canary-two")?;
    create(&cluster, "acme/api")?;
    wait_held(&cluster, ("acme/api", "tool"), "for all")?;
    wait_held(&cluster, ("acme/api", "git-token"), "canary-two")?;
    cluster.warren(&["secret", "delete", "--shared", "tool"])?;
    wait_until("the shared one is gone", SOON, || {
        ensure!(held(&cluster, "acme/api", "tool").is_err(), "it is there");
        Ok(())
    })?;
    // no coordinator has more of it than what was sealed
    for coordinator in &cluster.coordinators {
        let keys = coordinator.folder().join("state/keys");
        for entry in fs::read_dir(&keys)? {
            let text = fs::read_to_string(entry?.path())?;
            ensure!(!text.contains("canary") && !text.contains("for all"), "{text}");
        }
    }
    Ok(())
}

/// Asks a coordinator as a node would, with its certificate.
fn fetch(
    cluster: &Cluster,
    place: usize,
    (workspace, generation): (&str, u64),
) -> Result<Result<FetchSecretsResponse, tonic::Status>> {
    let identity = Folder::open(cluster.nodes[place].folder().join("state/identity"))?.load()?;
    let identity = identity.context("an identity")?;
    let addresses = [cluster.api_address()?];
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let tls = ClientTls::new(&identity.credentials, &identity.trust_pem)?;
        let channel = connect(&Arc::new(tls), &addresses).await?;
        let request = FetchSecretsRequest { workspace_id: workspace.to_owned(), generation };
        let answer = NodeServiceClient::new(channel).fetch_secrets(request).await;
        Ok(answer.map(tonic::Response::into_inner))
    })
}

#[test]
fn a_node_gets_the_secrets_of_its_own_workspaces_at_their_generation_alone() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    for node in ["n1", "n2"] {
        cluster.add_fake_node(node, None)?;
    }
    for client in ["acme", "beta"] {
        cluster.warren(&["client", "create", client])?;
        set(&cluster, &[client, "token"], &format!("of {client}"))?;
    }
    let pinned = |address: &str, node: &str| -> Result<(String, u64)> {
        let size = ["--memory", "64M", "--disk", "64M", "--pin", node];
        cluster.warren(&[&["workspace", "create", address], &size[..]].concat())?;
        let shown = cluster.workspace(address)?;
        let text = shown["generation"].as_str().context("a generation")?;
        let (incarnation, counter) = text.split_once('.').context("two parts")?;
        let generation = incarnation.parse::<u64>()? << 32 | counter.parse::<u64>()?;
        Ok((shown["id"].as_str().context("an id")?.to_owned(), generation))
    };
    let (a, of_a) = pinned("acme/web", "n1")?;
    let (b, of_b) = pinned("beta/web", "n2")?;
    let own = fetch(&cluster, 0, (&a, of_a))??;
    ensure!(own.values.len() == 1 && &own.values[0].value[..] == b"of acme", "its own");
    ensure!(own.secrets != 0);
    ensure!(&fetch(&cluster, 1, (&b, of_b))??.values[0].value[..] == b"of beta");
    let nobody = "0199a0b2-7f00-7000-8000-000000000001";
    for (place, workspace, generation) in [
        (0, b.as_str(), of_b),
        (1, a.as_str(), of_a),
        (0, a.as_str(), of_a - 1),
        (0, a.as_str(), of_a + 1),
        (0, a.as_str(), 0),
        (0, nobody, of_a),
    ] {
        let refused = fetch(&cluster, place, (workspace, generation))?.err();
        let refused = refused.with_context(|| format!("node {place} got {workspace}"))?;
        ensure!(refused.code() == Code::PermissionDenied, "{refused}");
    }
    cluster.warren(&["workspace", "delete", "acme/web", "--yes"])?;
    let gone = fetch(&cluster, 0, (&a, of_a))?.err().context("a deleted one's")?;
    ensure!(gone.code() == Code::PermissionDenied, "{gone}");
    // with its client go its key and what was sealed with it
    cluster.warren(&["client", "delete", "acme"])?;
    let keys = cluster.folder().join("state/keys");
    wait_until("acme's key is shredded", SOON, || {
        let mut good = 0;
        for entry in fs::read_dir(&keys)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let ours = name.starts_with("secret-") || name.starts_with("vault-key-");
            let text = fs::read_to_string(&path)?;
            good += usize::from(ours && text.lines().nth(1).is_some_and(|line| !line.is_empty()));
        }
        ensure!(good == 2, "{good} values and keys are left, beta's are 2");
        Ok(())
    })
}

fn passphrase(stage: &Stage) -> Result<String> {
    let passphrase = stage.root().join("passphrase");
    fs::write(&passphrase, "correct horse battery staple")?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&passphrase, private)?;
    Ok(passphrase.to_string_lossy().into_owned())
}

/// Takes the values of clients' secrets away from a coordinator's keystore; returns how many.
fn lose_values(coordinator: &std::path::Path) -> Result<usize> {
    let mut lost = 0;
    for entry in fs::read_dir(coordinator.join("state/keys"))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("secret-") {
            fs::remove_file(&path)?;
            lost += 1;
        }
    }
    Ok(lost)
}

#[test]
fn a_backup_holds_the_newest_values_or_is_refused() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = Cluster::of_three(&stage)?;
    cluster.warren(&["client", "create", "acme"])?;
    set(&cluster, &["acme", "git-token"], "canary-kept")?;
    let passphrase = passphrase(&stage)?;
    let follower = cluster.knowing("config", &[1])?;
    let back_up = |name: &str| {
        let file = stage.root().join(name).to_string_lossy().into_owned();
        let words = ["cluster", "backup", &file, "--passphrase-file", &passphrase];
        let run = cluster.cli()?.env("WARREN_CONFIG_DIR", &follower).args(words).run()?;
        anyhow::Ok((run, file))
    };
    // one that has lost them takes them from the others
    let folders: Vec<_> = cluster.coordinators.iter().map(|one| one.folder().to_owned()).collect();
    wait_until("it has one, and has lost it", SOON, || {
        ensure!(lose_values(&folders[1])? == 1, "it had none yet");
        Ok(())
    })?;
    let (run, file) = back_up("whole.warren")?;
    run.success()?;
    cluster.warren(&["cluster", "verify-backup", &file, "--passphrase-file", &passphrase])?;
    // where nobody has them it is refused, and nothing is written
    wait_until("a backup is refused", SOON, || {
        // a comparison may bring one back from another meanwhile
        for folder in &folders {
            lose_values(folder)?;
        }
        let (run, file) = back_up("lacking.warren")?;
        if run.code == 0 {
            fs::remove_file(&file)?;
        }
        ensure!(run.code != 0, "a backup without the newest values was made");
        ensure!(run.stderr.contains("acme/git-token"), "{}", run.stderr);
        ensure!(!std::path::Path::new(&file).exists());
        Ok(())
    })
}

#[test]
fn a_request_id_with_another_value_is_refused_wherever_it_is_asked() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let cluster = Cluster::start(&stage, None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let id = uuid::Uuid::now_v7().to_string();
    let ask = |value: &str| {
        let words = ["secret", "set", "acme", "token", "@-", "--request-id", &id, "-o", "json"];
        cluster.cli()?.args(words).input(value).run()
    };
    let first = ask("canary-one")?;
    let first = first.success()?.json()?;
    ensure!(first["version"] == 1, "{first}");
    let again = ask("canary-one")?.success()?.json()?;
    ensure!(again["version"] == 1, "{again}");
    let other = ask("canary-two")?;
    ensure!(other.code != 0 && other.stderr.contains("request id"), "{}", other.stderr);
    Ok(())
}

#[test]
fn a_restored_cluster_has_its_secrets() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    set(&cluster, &["acme", "git-token"], "canary-kept")?;
    let (file, passphrase) = (stage.root().join("b.warren"), stage.root().join("passphrase"));
    fs::write(&passphrase, "correct horse battery staple")?;
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(&passphrase, private)?;
    let shown = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let (file_of, passphrase) = (shown(&file), shown(&passphrase));
    cluster.warren(&["cluster", "backup", &file_of, "--passphrase-file", &passphrase])?;
    let sealed = fs::read(&file)?;
    ensure!(!sealed.windows(6).any(|bytes| bytes == b"canary"), "it stands in the backup");
    cluster.lose_coordinator()?;
    cluster.start_coordinator()?;
    let socket = cluster.wait_socket()?;
    let restore = ["cluster", "restore", &file_of, "--passphrase-file", &passphrase];
    cluster.warren(&[&restore[..], &["--socket", &socket]].concat())?;
    let address = cluster.api_address()?;
    cluster.nodes[0].command(&["coordinators", "set", &address])?;
    cluster.wait_ready("n1")?;
    create(&cluster, "acme/web")?;
    wait_held(&cluster, ("acme/web", "git-token"), "canary-kept")
}
