//! Several coordinators, and a node that one of them does not hear.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use warren_daemon::identity::{ClientTls, Folder, connect};
use warren_proto::pb::admin::v1::{
    Consistency, GetNodeRequest, Node, NodeLiveness, Read,
    node_admin_service_client::NodeAdminServiceClient,
};
use warren_tests::{Cluster, Host, Network, Stage, host, wait_until};

const SOON: Duration = Duration::from_secs(60);

/// Asks one coordinator what it sees of a node, whatever the others do.
pub(crate) fn ask(cluster: &Cluster, from: &Host, (at, node): (usize, &str)) -> Result<Node> {
    let identity = Folder::open(cluster.folder().join("config/contexts/test"))?.load()?;
    let identity = identity.context("an identity")?;
    let address = cluster.coordinators[at].api_address()?;
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| -> Result<Node> {
            from.enter()?;
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let tls = ClientTls::new(&identity.credentials, &identity.trust_pem)?;
                let channel = connect(&Arc::new(tls), &[address]).await?;
                let read = Read { consistency: Consistency::Stale.into(), min_revision: 0 };
                let request = GetNodeRequest { node: node.to_owned(), read: Some(read) };
                let answer = NodeAdminServiceClient::new(channel).get_node(request).await?;
                answer.into_inner().node.context("the node")
            })
        });
        asked.join().map_err(|_| anyhow::anyhow!("asking panicked"))?
    })
}

/// The node stops hearing the third coordinator for a while, and hears it again.
fn deaf(
    (cluster, config): (&Cluster, &Path),
    (node, third): (&Host, &Host),
    through: &(impl Fn(&Path) -> Result<Duration> + Sync),
) -> Result<()> {
    // the node does not hear the third, which still takes its stream for a good one
    node.ignore(&[third])?;
    let took = through(config).context("through the next one")?;
    ensure!(took >= Duration::from_secs(3), "the third heard it, after {took:?}");
    node.ignore(&[])?;
    wait_until("the third reaches it again", SOON, || {
        let took = through(config)?;
        ensure!(took < Duration::from_secs(3), "it took {took:?}");
        Ok(())
    })?;
    // who knows the third alone waits on: here until the node hears it again. What the third sent
    // meanwhile it sends again after pauses that double: at worst that comes as long again after the
    // node was deaf, and for all of it a node has 10 s
    let alone = cluster.knowing("config", &[2])?;
    node.ignore(&[third])?;
    let asked = std::thread::scope(|scope| {
        let asked = scope.spawn(|| through(&alone));
        std::thread::park_timeout(Duration::from_millis(3800));
        node.ignore(&[])?;
        asked.join().map_err(|_| anyhow::anyhow!("asking panicked"))?
    });
    asked.context("through the only one").map(drop)
}

#[test]
fn a_node_that_one_coordinator_does_not_hear_is_suspect_there_and_gone_only_when_none_does()
-> Result<()> {
    host::check(&["nft"])?;
    let stage = Arc::new(Stage::new()?);
    let mut network = Network::new(&stage)?;
    let hosts = ["c1", "c2", "c3"].map(|name| network.host(name).map(Arc::new));
    let [one, two, three] = hosts;
    let hosts = [one?, two?, three?];
    let node = Arc::new(network.host("n1")?);
    let mut cluster = Cluster::start(&stage, Some(Arc::clone(&hosts[0])))?;
    for (name, host) in [("coordinator-2", &hosts[1]), ("coordinator-3", &hosts[2])] {
        cluster.add_coordinator(name, Some(Arc::clone(host)))?;
    }
    cluster.add_fake_node("n1", Some(Arc::clone(&node)))?;
    cluster.warren(&["client", "create", "acme"])?;
    let create = ["workspace", "create", "acme/web", "--memory", "64M", "--disk", "64M"];
    cluster.warren(&create)?;
    for at in 0..3 {
        wait_until("every coordinator hears it", SOON, || {
            let seen = ask(&cluster, &hosts[0], (at, "n1"))?;
            ensure!(seen.liveness() == NodeLiveness::Ready, "{}: {}", at + 1, seen.reason);
            Ok(())
        })?;
    }
    let config = cluster.knowing("config", &[2, 0, 1])?;
    let through = |config: &Path| -> Result<Duration> {
        let began = Instant::now();
        let exec = cluster.cli()?.env("WARREN_CONFIG_DIR", config);
        let exec = exec.args(["workspace", "exec", "acme/web", "--", "echo", "through"]).run()?;
        ensure!(exec.success()?.stdout.contains("through"), "it answers nothing");
        Ok(began.elapsed())
    };
    through(&config).context("before anything is cut")?;
    deaf((&cluster, &config), (&node, &hosts[2]), &through)?;
    // the third stops hearing the node; the two others hear it, and it hears them
    hosts[2].ignore(&[&node])?;
    let heard = wait_until("the third is told by another", SOON, || {
        let seen = ask(&cluster, &hosts[0], (2, "n1"))?;
        ensure!(seen.reason.contains("heard it"), "{}", seen.reason);
        Ok(seen)
    })?;
    ensure!(heard.liveness() == NodeLiveness::Suspect, "{}", heard.reason);
    // well past the time at which it would be called unreachable
    let until = Instant::now() + Duration::from_secs(25);
    while Instant::now() < until {
        let seen = ask(&cluster, &hosts[0], (2, "n1"))?;
        ensure!(seen.liveness() == NodeLiveness::Suspect, "it is {:?}", seen.liveness());
        std::thread::park_timeout(Duration::from_millis(500));
    }
    // whoever asks the third first gets through all the same, now that it knows its stream is dead
    wait_until("another coordinator is asked", SOON, || through(&config).map(drop))?;
    // nobody hears it any more: then it is gone
    node.cut()?;
    wait_until("it is unreachable everywhere", SOON, || {
        for at in 0..3 {
            let seen = ask(&cluster, &hosts[0], (at, "n1"))?;
            ensure!(seen.liveness() == NodeLiveness::Unreachable, "{}: {}", at + 1, seen.reason);
        }
        Ok(())
    })?;
    node.mend()?;
    hosts[2].ignore(&[])?;
    cluster.wait_ready("n1")
}
