//! The firewall is flushed, its table is held by somebody else, the agent and the engine are killed:
//! what was closed stays closed, and workspaces run on.

use std::{
    fs,
    io::Write as _,
    process::{Child, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use warren_tests::wait_until;

use crate::{
    field::{CLOSED, EVIL, Field, INTERNET, LAN, METADATA, NODE, SINK, Walls},
    probe::{By, Probe, Switch, connect, send},
};

/// A line that sends `tick` to the internet twenty times a second for a minute, in the background.
fn ticking(address: &str, port: u16) -> String {
    let program = format!(
        "import socket,time\ns=socket.create_connection(('{address}',{port}))\n\
         for i in range(1200):\n s.sendall(b'tick')\n time.sleep(0.05)\n"
    );
    format!("nohup python3 -c \"{program}\" >/dev/null 2>&1 &")
}

fn frozen(field: &Field, address: &str) -> Result<bool> {
    let pid = field.pid(address)?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let path = |name: &str| {
        groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            (fields.next()? == name).then(|| fields.next().map(str::to_owned)).flatten()
        })
    };
    if let Some(path) = path("freezer") {
        let file = format!("/sys/fs/cgroup/freezer{path}/freezer.state");
        return Ok(fs::read_to_string(file)?.trim() == "FROZEN");
    }
    let file = format!("/sys/fs/cgroup{}/cgroup.events", path("").context("a cgroup")?);
    Ok(fs::read_to_string(file)?.contains("frozen 1"))
}

fn codes(field: &Field) -> Result<Vec<String>> {
    let node = field.lab.cluster.json(&["node", "show", "n1"])?;
    let findings = node["facts"]["findings"].as_array().context("findings")?;
    Ok(findings.iter().filter_map(|one| Some(one["code"].as_str()?.to_owned())).collect())
}

#[test]
fn a_flushed_firewall_is_back_within_two_seconds_and_flows_go_on() -> Result<()> {
    let field = Field::new("")?;
    let pid = field.pid("acme/a")?;
    let node = field.lab.cluster.json(&["node", "show", "n1"])?;
    let table = node["usage"]["firewall"].as_str().context("a fingerprint")?;
    anyhow::ensure!(table.len() == 16, "{table}");
    field.in_a(&ticking(EVIL, 443))?.success()?;
    let ticks = || field.log.count("tcp/443 tick");
    wait_until("the flow goes", Duration::from_secs(10), || {
        anyhow::ensure!(ticks() > 5, "{} ticks", ticks());
        Ok(())
    })?;
    for what in ["flush ruleset", "delete table inet warren", "flush chain inet warren ws_policy"] {
        field.nft(&format!("{what}\n"))?;
        let began = Instant::now();
        wait_until("the table is whole again", Duration::from_secs(2), || {
            let ruleset = field.ruleset()?;
            let whole = ruleset.contains("@ws_private goto ws_allowed")
                && ruleset.matches("goto from-wrn-").count() == 2;
            anyhow::ensure!(whole, "{ruleset}");
            Ok(())
        })?;
        eprintln!("after {what}: whole again in {} ms", began.elapsed().as_millis());
        for closed in [connect(NODE, 2222), connect(LAN, 22), connect(METADATA, 443)] {
            let output = field.in_a(&closed)?;
            anyhow::ensure!(!output.stdout.contains("seen"), "{closed} after {what}: {output:?}");
        }
        let before = ticks();
        wait_until("the flow goes on", Duration::from_secs(10), || {
            anyhow::ensure!(ticks() > before + 5, "{} ticks after {before}", ticks());
            Ok(())
        })?;
    }
    wait_until("the node tells of it", Duration::from_secs(10), || {
        let codes = codes(&field)?;
        anyhow::ensure!(codes.iter().any(|code| code == "W1304"), "it tells {codes:?}");
        Ok(())
    })?;
    let events = field.lab.cluster.warren(&["cluster", "events", "-o", "json"])?.stdout;
    anyhow::ensure!(events.contains("W1304"), "no event tells of it: {events}");
    anyhow::ensure!(field.pid("acme/a")? == pid, "it was started again");
    anyhow::ensure!(!frozen(&field, "acme/a")? && !frozen(&field, "beta/b")?, "it stands still");
    Ok(())
}

#[test]
fn what_an_operator_paused_stays_paused_when_the_table_is_mended() -> Result<()> {
    let field = Field::new("")?;
    let id = field.lab.container("beta/b")?["Id"].as_str().context("an id")?.to_owned();
    let engine = &field.lab.engine;
    engine.docker(&["pause", &id])?.success()?;
    anyhow::ensure!(frozen(&field, "beta/b")?, "docker pause freezes nothing");
    field.nft("delete table inet warren\n")?;
    wait_until("the node tells that it is back", Duration::from_secs(15), || {
        let codes = codes(&field)?;
        anyhow::ensure!(codes.iter().any(|code| code == "W1304"), "it tells {codes:?}");
        Ok(())
    })?;
    anyhow::ensure!(!frozen(&field, "acme/a")?, "it runs on");
    anyhow::ensure!(frozen(&field, "beta/b")?, "it was resumed behind its operator's back");
    engine.docker(&["unpause", &id])?.success()?;
    anyhow::ensure!(!frozen(&field, "beta/b")?, "it is theirs to resume");
    Ok(())
}

#[test]
fn without_table_and_agent_the_backstop_holds_and_the_next_agent_mends_it() -> Result<()> {
    let mut field = Field::new("")?;
    let (_, b, _) = field.network("beta/b")?;
    let probe =
        |what: &str, line: String| Probe { id: "A34", what: what.to_owned(), by: By::Agent, line };
    // `open`: B has no listener here; a datagram to it is noted by nobody
    let probes = [
        probe("the internet", connect(INTERNET, 443)),
        probe("a datagram to the internet", send(INTERNET, SINK)),
        probe("a private network", connect(LAN, 22)),
        probe("another", connect(CLOSED[0], 5432)),
        probe("the metadata service", connect(METADATA, 443)),
    ];
    field.lab.cluster.nodes[0].kill()?;
    field.nft("flush ruleset\n")?;
    let plain = "table ip plain { chain out { type nat hook postrouting priority srcnat; \
                 ip saddr 10.213.0.0/16 oifname eth0 masquerade; }; }\n";
    field.nft(plain)?;
    let through = |field: &Field| -> Result<Vec<String>> {
        let mut through = Vec::new();
        for (number, probe) in probes.iter().enumerate() {
            let token = format!("backstop{number}x{}", Instant::now().elapsed().as_nanos());
            let output = field.in_a(&probe.line.replace("TOKEN", &token))?;
            if output.stdout.contains("seen") || field.log.holds(&token) {
                through.push(format!("{} {}", probe.id, probe.what));
            }
        }
        Ok(through)
    };
    let held = through(&field)?;
    anyhow::ensure!(held.is_empty(), "the backstop lets through {held:?} (B is at {b})");
    field.drop_backstops()?;
    let open = through(&field)?;
    anyhow::ensure!(open.len() == probes.len(), "without it only {open:?} get through");
    Walls.on(&mut field)?;
    let after = through(&field)?;
    anyhow::ensure!(
        after == ["A34 the internet", "A34 a datagram to the internet"],
        "the next agent leaves {after:?} open"
    );
    Ok(())
}

/// The table is somebody else's: nobody but them can change it.
fn hold_table(field: &Field) -> Result<Child> {
    let mut command = field.lab.node.program("nft").args(["-i"]).into_command();
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let stdin = holder.stdin.as_mut().context("stdin")?;
    stdin.write_all(b"delete table inet warren; add table inet warren { flags owner; }\n")?;
    stdin.flush()?;
    Ok(holder)
}

#[test]
fn a_table_that_cannot_be_mended_keeps_workspaces_still_until_an_agent_can() -> Result<()> {
    let mut field = Field::new("")?;
    let pid = field.pid("acme/a")?;
    let mut holder = hold_table(&field)?;
    let told =
        wait_until("both stand still and the node says why", Duration::from_secs(20), || {
            anyhow::ensure!(frozen(&field, "acme/a")? && frozen(&field, "beta/b")?, "they run");
            let codes = codes(&field)?;
            anyhow::ensure!(codes.iter().any(|code| code == "E1302"), "it tells {codes:?}");
            Ok(())
        });
    // killed in the middle: the next one finds what this one froze in the ledger
    field.lab.cluster.nodes[0].kill()?;
    let still = told.and_then(|()| {
        anyhow::ensure!(frozen(&field, "acme/a")? && frozen(&field, "beta/b")?, "they run again");
        Ok(())
    });
    holder.kill()?;
    holder.wait()?;
    Walls.on(&mut field)?;
    still?;
    wait_until("both run on", Duration::from_secs(10), || {
        anyhow::ensure!(
            !frozen(&field, "acme/a")? && !frozen(&field, "beta/b")?,
            "they stand still"
        );
        Ok(())
    })?;
    anyhow::ensure!(field.pid("acme/a")? == pid, "it was started again");
    field.in_a(&connect(INTERNET, 443))?.success()?;
    Ok(())
}

#[test]
fn dockerd_and_a_removed_bridge_open_nothing_and_are_told() -> Result<()> {
    let mut field = Field::new("")?;
    let closed = |field: &Field, when: &str| -> Result<()> {
        for line in [connect(NODE, 2222), connect(LAN, 22), connect(METADATA, 443)] {
            let output = field.in_network_of_a(&line)?;
            anyhow::ensure!(!output.stdout.contains("seen"), "{line} {when}: {output:?}");
        }
        let output = field.in_network_of_a(&connect(INTERNET, 443))?;
        anyhow::ensure!(output.stdout.contains("seen"), "the internet is closed {when}");
        Ok(())
    };
    closed(&field, "before")?;
    field.lab.engine.kill()?;
    let pid = field.lab.cluster.workspace("acme/a")?["observed"]["pid"].as_u64();
    let node = std::sync::Arc::clone(&field.lab.node);
    let folder = field.lab.engine.socket().parent().context("a folder")?.display().to_string();
    wait_until("its containerd has ended with it", Duration::from_secs(20), || {
        let named = warren_tests::daemon::processes_naming(&folder);
        let comm = |pid: &rustix::process::Pid| {
            fs::read_to_string(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default()
        };
        anyhow::ensure!(!named.iter().any(|pid| comm(pid).trim() == "containerd"), "it runs");
        Ok(())
    })?;
    field.lab.engine.restart(&node)?;
    anyhow::ensure!(pid == Some(field.pid("acme/a")?), "it was started again");
    closed(&field, "after dockerd was killed and came back")?;

    let (bridge, _, _) = field.network("beta/b")?;
    node.program("ip").args(["link", "delete", &bridge]).run()?.success()?;
    wait_until("the removed bridge is told", Duration::from_secs(15), || {
        let codes = codes(&field)?;
        anyhow::ensure!(codes.iter().any(|code| code == "W1305"), "it tells {codes:?}");
        Ok(())
    })?;
    closed(&field, "while B has no bridge")?;
    field.lab.cluster.warren(&["workspace", "restart", "beta/b"])?;
    wait_until("a restart makes another bridge", Duration::from_secs(60), || {
        let output = field.lab.try_shell("beta/b", &connect(INTERNET, 443))?;
        anyhow::ensure!(output.stdout.contains("seen"), "{output:?}");
        Ok(())
    })?;
    wait_until("nothing is told any more", Duration::from_secs(15), || {
        let codes = codes(&field)?;
        anyhow::ensure!(!codes.iter().any(|code| code == "W1305"), "it tells {codes:?}");
        Ok(())
    })
}
