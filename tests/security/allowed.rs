//! What a client is allowed: opened live, for that client alone, and closed live.

use std::time::Duration;

use anyhow::{Context as _, Result};
use warren_tests::wait_until;

use crate::{
    field::{COORDINATOR, Field, LAN, METADATA},
    probe::connect,
};

const SOON: Duration = Duration::from_secs(5);

#[test]
fn a_destination_is_opened_for_its_client_alone_and_closing_it_cuts_what_is_open() -> Result<()> {
    let field = Field::new("")?;
    let warren = |arguments: &[&str]| field.lab.cluster.warren(arguments);
    let reaches = |line: &str| -> Result<bool> { Ok(field.in_a(line)?.stdout.contains("seen")) };
    let refused = || -> Result<u64> {
        let counter = ["list", "counter", "inet", "warren", "ws_refused"];
        let listed = field.lab.node.program("nft").args(counter).run()?.success()?.stdout;
        let packets = listed.split("packets ").nth(1).context("packets")?;
        Ok(packets.split_whitespace().next().context("a number")?.parse()?)
    };
    let database = connect(LAN, 5432);
    anyhow::ensure!(!reaches(&database)?, "it is open already");
    let counted = refused()?;
    anyhow::ensure!(counted > 0, "nothing was counted");
    let destination = format!("{LAN}:5432");
    let answer = warren(&["client", "allow", "acme", &destination])?.stdout;
    anyhow::ensure!(answer.contains(&format!("{LAN}/32:5432/tcp")), "{answer}");
    wait_until("it is open", SOON, || {
        anyhow::ensure!(reaches(&database)?, "it is closed");
        Ok(())
    })?;
    anyhow::ensure!(refused()? >= counted, "counters began anew");
    anyhow::ensure!(!reaches(&connect(LAN, 22))?, "another port is open");
    let of_b = field.lab.try_shell("beta/b", &database)?;
    anyhow::ensure!(!of_b.stdout.contains("seen"), "it is open for another client: {of_b:?}");
    let listed = field.lab.cluster.json(&["client", "allowed", "acme"])?;
    anyhow::ensure!(listed[0]["port"] == 5432 && listed[0]["protocol"] == "tcp", "{listed}");
    what_can_never_be_allowed(&field)?;

    // a flow that is open is cut with the permission
    let ticking = format!(
        "nohup python3 -c \"import socket,time\ns=socket.create_connection(('{LAN}',5432))\n\
         for i in range(1200):\n s.sendall(b'allowed-tick')\n time.sleep(0.05)\n\" >/dev/null 2>&1 &"
    );
    field.in_a(&ticking)?.success()?;
    let ticks = || field.log.count("allowed-tick");
    wait_until("the flow goes", SOON, || {
        anyhow::ensure!(ticks() > 5, "{} ticks", ticks());
        Ok(())
    })?;
    warren(&["client", "disallow", "acme", &destination])?;
    wait_until("the flow is cut", SOON, || {
        let before = ticks();
        std::thread::sleep(Duration::from_millis(700));
        anyhow::ensure!(ticks() == before, "it goes on");
        Ok(())
    })?;
    anyhow::ensure!(!reaches(&database)?, "it is open still");
    field.lab.cluster.refuses(
        &["client", "disallow", "acme", &destination],
        3,
        &["not allowed"],
    )?;
    for action in ["client.allow", "client.disallow"] {
        let records = field.lab.cluster.json(&["audit", "list", "--action", action])?;
        anyhow::ensure!(records.to_string().contains(LAN), "no record of {action}: {records}");
    }
    Ok(())
}

/// Metadata and loopback are refused; a coordinator can be named and stays closed.
fn what_can_never_be_allowed(field: &Field) -> Result<()> {
    for (destination, word) in
        [(METADATA.to_owned() + ":443", "metadata"), ("127.0.0.1:22".to_owned(), "loopback")]
    {
        field.lab.cluster.refuses(&["client", "allow", "acme", &destination], 2, &[word])?;
    }
    let coordinator = format!("{COORDINATOR}:7400");
    field.lab.cluster.warren(&["client", "allow", "acme", &coordinator])?;
    wait_until("the node has taken it", SOON, || {
        let ruleset = field.ruleset()?;
        anyhow::ensure!(ruleset.contains(COORDINATOR), "it has not");
        anyhow::ensure!(ruleset.contains("proto-dst 7400"), "it has not");
        Ok(())
    })?;
    let through = field.in_a(&connect(COORDINATOR, 7400))?;
    anyhow::ensure!(!through.stdout.contains("seen"), "a coordinator is open: {through:?}");
    field.lab.cluster.warren(&["client", "disallow", "acme", &coordinator]).map(drop)
}
