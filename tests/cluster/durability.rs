//! What was acknowledged is there, exactly once, whatever is killed.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result};
use warren_tests::{Cluster, Stage, wait_until};

/// Rounds of killing; the long form is `WARREN_TEST_KILLS`.
fn kills() -> usize {
    std::env::var("WARREN_TEST_KILLS").ok().and_then(|count| count.parse().ok()).unwrap_or(3)
}

#[test]
fn every_acknowledged_create_exists_exactly_once_after_the_coordinator_is_killed() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let acknowledged = Arc::new(Mutex::new(BTreeSet::new()));
    for round in 0..kills() {
        create_while_killing(&mut cluster, round, &acknowledged)?;
    }
    cluster.wait_ready("n1")?;
    let listed = cluster.json(&["workspace", "list"])?;
    let listed: Vec<String> =
        listed.as_array().context("a list")?.iter().map(|row| row["name"].to_string()).collect();
    let unique: BTreeSet<&String> = listed.iter().collect();
    anyhow::ensure!(unique.len() == listed.len(), "something exists twice: {listed:?}");
    let acknowledged = acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
    anyhow::ensure!(!acknowledged.is_empty(), "nothing was acknowledged: the test proves nothing");
    for name in acknowledged.iter() {
        anyhow::ensure!(unique.contains(&serde_json::json!(name).to_string()), "{name} is lost");
        cluster.wait_phase(&format!("acme/{name}"), "active")?;
    }
    eprintln!("{} acknowledged creates over {} kills, all there", acknowledged.len(), kills());
    Ok(())
}

/// Creates workspaces from two callers while the coordinator is killed and started again; each
/// caller goes on until its create is acknowledged, with the same request id.
fn create_while_killing(
    cluster: &mut Cluster,
    round: usize,
    acknowledged: &Arc<Mutex<BTreeSet<String>>>,
) -> Result<()> {
    let callers: Vec<_> = (0..2)
        .map(|caller| -> Result<_> {
            let programs: Vec<_> = (0..3)
                .map(|number| {
                    let name = format!("w{round}-{caller}-{number}");
                    let address = format!("acme/{name}");
                    let create =
                        ["workspace", "create", &address, "--memory", "64M", "--disk", "64M"];
                    let create = [&create[..], &["--wait=none", "--timeout", "60s"]].concat();
                    Ok((name, cluster.cli()?.args(create)))
                })
                .collect::<Result<_>>()?;
            let acknowledged = Arc::clone(acknowledged);
            Ok(thread::spawn(move || -> Result<()> {
                for (name, program) in programs {
                    program.run()?.success()?;
                    acknowledged.lock().unwrap_or_else(PoisonError::into_inner).insert(name);
                }
                Ok(())
            }))
        })
        .collect::<Result<_>>()?;
    let floor = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
    wait_until("a create is acknowledged", Duration::from_secs(60), || {
        let count = acknowledged.lock().unwrap_or_else(PoisonError::into_inner).len();
        anyhow::ensure!(count > floor, "still {count}");
        Ok(())
    })?;
    cluster.kill_coordinator()?;
    cluster.start_coordinator()?;
    for caller in callers {
        caller.join().map_err(|_| anyhow::anyhow!("a caller panicked"))??;
    }
    Ok(())
}

#[test]
fn a_node_agent_is_killed_and_its_workspaces_are_adopted() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    cluster.warren(&["workspace", "create", "acme/web", "--memory", "64M", "--disk", "64M"])?;
    let before = cluster.workspace("acme/web")?;
    cluster.nodes[0].kill()?;
    cluster.nodes[0].start()?;
    cluster.wait_ready("n1")?;
    let after = cluster.wait_phase("acme/web", "active")?;
    for field in ["id", "generation", "run_serial", "node"] {
        anyhow::ensure!(before[field] == after[field], "{field} changed: {before} {after}");
    }
    Ok(())
}

#[test]
fn the_same_request_id_takes_effect_once() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    let create =
        ["workspace", "create", "acme/once", "--memory", "64M", "--disk", "64M", "--wait=none"];
    let create = |id: &str| [&create[..], &["--request-id", id, "-o", "json"]].concat().join(" ");
    let create = |cluster: &Cluster, id: &str| -> Result<_> {
        cluster.cli()?.args(create(id).split(' ').collect::<Vec<_>>()).run()
    };
    // an id minted long ago is refused: nothing could say whether it took effect
    let late = create(&cluster, "0199f3a0-0000-7000-8000-0000000000aa")?.with_code(4)?;
    anyhow::ensure!(late.stderr.contains("request"), "{}", late.stderr);
    let id = uuid::Uuid::now_v7().hyphenated().to_string();
    let first = create(&cluster, &id)?.success()?.json()?;
    cluster.kill_coordinator()?;
    cluster.start_coordinator()?;
    let again = create(&cluster, &id)?.success()?.json()?;
    anyhow::ensure!(first["id"] == again["id"], "made twice: {first} {again}");
    let other = uuid::Uuid::now_v7().hyphenated().to_string();
    create(&cluster, &other)?.with_code(4)?;
    Ok(())
}
