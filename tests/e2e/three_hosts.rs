//! Three hosts with a coordinator and a node on each: daemons are killed, people and nodes are shut
//! out, a host is cut off, another one's clock is wrong. Workspaces run on, there is never a second
//! one of any, and what is told of them is true.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_proto::pb::admin::v1::NodeLiveness;
use warren_tests::{
    Host, Program, Stream, Trio, clock, program::binary, terminal::Terminal, trio::NAMES,
    wait_until,
};

use crate::{opinions::ask, pulse::Pulse};

const SOON: Duration = Duration::from_secs(60);
/// Workspaces of two clients, placed on a node each.
const WORKSPACES: [&str; 3] = ["acme/web", "acme/db", "beta/api"];

fn built() -> Result<(Trio, Vec<Pulse>)> {
    let began = Instant::now();
    let trio = Trio::new()?;
    eprintln!("three hosts after {:.1?}", began.elapsed());
    trio.populate(WORKSPACES)?;
    let pulses = Pulse::all(&trio, WORKSPACES)?;
    eprintln!("three workspaces after {:.1?}", began.elapsed());
    Ok((trio, pulses))
}

/// Returns the place of the coordinator that leads, once one does.
fn leader(trio: &Trio) -> Result<usize> {
    wait_until("somebody leads", SOON, || trio.leader())
}

/// Hands the lead to the coordinator on a host.
fn lead(trio: &Trio, place: usize) -> Result<()> {
    wait_until(&format!("coordinator {} leads", place + 1), SOON, || {
        if trio.leader()? != place {
            trio.cluster.warren(&["cluster", "transfer", &(place + 1).to_string()])?;
        }
        ensure!(trio.leader()? == place, "another one does");
        Ok(())
    })
}

/// Waits until a command in every workspace answers, asked through one coordinator alone.
fn obeys_through(trio: &Trio, place: usize) -> Result<()> {
    for address in WORKSPACES {
        wait_until(&format!("{address} answers through coordinator {}", place + 1), SOON, || {
            let said = trio.warren_through(
                place,
                &["workspace", "exec", address, "--", "sh", "-c", "cat ~/hello/README.md"],
            )?;
            ensure!(said.stdout.contains("hello from the repository"), "{said:?}");
            Ok(())
        })?;
    }
    Ok(())
}

#[test]
fn daemons_are_killed_and_who_is_revoked_is_cut_off_and_no_process_notices() -> Result<()> {
    let (mut trio, pulses) = built()?;
    daemons_are_killed(&mut trio, &pulses)?;
    let follower = (leader(&trio)? + 1) % 3;
    // the workspace that will lose its node is on neither of their hosts
    let other = (follower + 1) % 3;
    let lost = WORKSPACES.into_iter().find(|one| trio.seat_of(one).is_ok_and(|at| at == other));
    let lost = lost.context("a workspace there")?;
    let kept = WORKSPACES.into_iter().find(|one| *one != lost).context("another one")?;
    let admin = Caller { trio: &trio, whose: "config", follower };
    let bystander = admin.run(&exec(kept))?;
    a_user_is_revoked(&admin, kept)?;
    bystander.goes_on(SOON)?;
    a_node_is_removed(&admin, (other, lost))?;
    bystander.goes_on(SOON)?;
    for pulse in pulses.iter().filter(|one| one.address != lost) {
        pulse.unchanged(&trio, "after the removal of another node")?;
    }
    Ok(())
}

/// Docker and agent of one host, each alone and both at once, and each time the coordinator that
/// leads, on another host.
fn daemons_are_killed(trio: &mut Trio, pulses: &[Pulse]) -> Result<()> {
    let host = trio.seat_of(WORKSPACES[0])?;
    for round in ["docker", "agent", "both"] {
        if leader(trio)? == host {
            lead(trio, (host + 1) % 3)?;
        }
        let (leading, began) = (leader(trio)?, Instant::now());
        if round != "agent" {
            trio.engines[host].kill()?;
        }
        if round != "docker" {
            trio.cluster.nodes[host].kill()?;
        }
        trio.cluster.coordinators[leading].kill()?;
        pulses.iter().try_for_each(Pulse::beats)?;
        if round != "docker" {
            // the same program in another file, as an upgrade puts it there
            let next = trio.stage.root().join(format!("warren-node-agent-{round}"));
            fs::copy(binary("warren-node-agent")?, &next)?;
            trio.cluster.nodes[host].start_binary(next)?;
        }
        if round != "agent" {
            let at = Arc::clone(&trio.hosts[host]);
            trio.engines[host].restart(&at)?;
        }
        // two of three are enough for all of it
        for pulse in pulses {
            pulse.unchanged(trio, &format!("after {round}"))?;
        }
        trio.cluster.wait_ready(NAMES[host])?;
        trio.cluster.coordinators[leading].start()?;
        eprintln!("{round}: {:.1?}", began.elapsed());
    }
    (0..3).try_for_each(|place| obeys_through(trio, place))
}

/// From the answer to a revocation to the end of every stream.
const CUT: Duration = Duration::from_secs(2);

/// Somebody whose command line knows one coordinator alone, which does not lead.
struct Caller<'a> {
    trio: &'a Trio,
    whose: &'a str,
    follower: usize,
}

impl Caller<'_> {
    fn program(&self) -> Result<Program> {
        self.trio.through(self.follower, (&self.trio.desk, self.whose))
    }

    fn run(&self, arguments: &[&str]) -> Result<Stream> {
        let name = format!("{}: {}", self.whose, arguments.join(" "));
        Stream::open(&name, self.program()?.args(arguments), SOON)
    }

    /// Attaches to the session that counts.
    fn attach(&self, address: &str) -> Result<Terminal> {
        let config = self.trio.cluster.knowing(self.whose, &[self.follower])?;
        let around = self.trio.desk.program("/usr/bin/env");
        let around = around.args([format!("WARREN_CONFIG_DIR={}", config.display())]);
        let warren = binary("warren")?;
        let attach = format!("{} session attach {address}/main", warren.display());
        let viewer = Terminal::start(around, &attach)?;
        viewer.wait_for("tick", SOON)?;
        Ok(viewer)
    }
}

/// What goes on for ever.
fn exec(address: &str) -> [&str; 7] {
    let line = "while :; do echo tick; sleep 0.2; done";
    ["workspace", "exec", address, "--", "sh", "-c", line]
}

/// Waits until streams have ended because of a revocation, and prints when each did.
fn cut_off(streams: &[Stream], asked: Instant) -> Result<()> {
    for stream in streams {
        let (code, at) = stream.end(CUT + SOON)?;
        let took = at.saturating_duration_since(asked);
        eprintln!("{} ended {took:.1?} after the answer, with {code:?}", stream.name());
        ensure!(took <= CUT, "{} went on for {took:?}", stream.name());
        ensure!(code != Some(0), "{} ended as if all were well: {}", stream.name(), stream.said());
    }
    Ok(())
}

fn a_user_is_revoked(admin: &Caller<'_>, address: &str) -> Result<()> {
    let trio = admin.trio;
    let invited = trio.cluster.json(&["user", "invite", "vera", "--role", "operator"])?;
    let token = invited["token"].as_str().context("a token")?;
    let join = trio.cluster.cli()?.env("WARREN_CONFIG_DIR", trio.cluster.folder().join("vera"));
    join.args(["context", "join", token]).run()?.success()?;
    let vera = Caller { whose: "vera", ..*admin };
    let streams = [
        vera.run(&exec(address))?,
        vera.run(&["workspace", "logs", "-f", address])?,
        vera.run(&["workspace", "list", "-w", "-o", "json"])?,
    ];
    let viewer = vera.attach(address)?;
    streams[0].goes_on(SOON)?;
    trio.cluster.warren(&["user", "revoke", "vera"])?;
    let asked = Instant::now();
    cut_off(&streams, asked)?;
    let said = viewer.arrival("was revoked", SOON)?.saturating_duration_since(asked);
    eprintln!("vera's terminal said so {said:.1?} after the answer");
    ensure!(said <= CUT, "the terminal went on for {said:?}");
    let out = vera.program()?.args(["workspace", "list"]).run()?.with_code(7)?;
    ensure!(out.stderr.contains("was revoked"), "{}", out.stderr);
    Ok(())
}

fn a_node_is_removed(admin: &Caller<'_>, (host, address): (usize, &str)) -> Result<()> {
    let trio = admin.trio;
    let tunnels = [admin.run(&exec(address))?];
    let mut viewer = admin.attach(address)?;
    trio.cluster.warren(&["node", "remove", NAMES[host], "--yes", "--lost", address])?;
    let asked = Instant::now();
    cut_off(&tunnels, asked)?;
    let agent = trio.cluster.nodes[host].agent.as_ref().context("it runs")?;
    let told = wait_until("the agent is told", CUT, || {
        ensure!(agent.log().contains("was revoked"), "it says {}", agent.log());
        Ok(asked.elapsed())
    })?;
    eprintln!("the agent of the removed node was told {told:.1?} after the answer");
    ensure!(viewer.wait(SOON)? != 0, "the viewer ended as if all were well");
    // it may be started elsewhere now, and must not run twice: the node stops what it runs, and keeps it
    wait_until("the removed node runs nothing", SOON, || {
        let engine = &trio.engines[host];
        ensure!(engine.docker(&["ps", "-q"])?.stdout.is_empty(), "it still runs something");
        ensure!(!engine.docker(&["ps", "-aq"])?.stdout.is_empty(), "it removed a container");
        Ok(())
    })?;
    eprintln!("the removed node ran nothing {:.1?} after the answer", asked.elapsed());
    let shown = admin.program()?.args(["workspace", "show", address]).run()?.success()?;
    ensure!(shown.stdout.contains("NODE_REMOVED"), "{}", shown.stdout);
    admin.program()?.args(exec(address)).run()?.with_code(4).map(drop)
}

/// What may pass between a deadline and its being told, on a busy machine.
const LATE: Duration = Duration::from_secs(8);
/// From the last sign of life to the moment at which a test can know that it was the last.
const EARLY: Duration = Duration::from_secs(3);

/// Ensures that the list of workspaces that a program writes tells truly which run.
fn list_is_true(list: Program, seen: &dyn Fn(&str) -> bool, of: &[(&str, usize)]) -> Result<()> {
    let listed = list.args(["-o", "json"]).run()?.success()?.json()?;
    let listed = listed.as_array().context("a list")?;
    for (address, seat) in of {
        let row = listed.iter().find(|row| row["address"] == *address);
        let row = row.with_context(|| format!("{address} is not in {listed:?}"))?;
        let status = row["status"].as_str().unwrap_or_default();
        let last = status.starts_with("last seen running at ");
        match seen(address) {
            true => ensure!(status == "running", "{address} is {status}"),
            false => {
                ensure!(last && status.ends_with(&format!(" on {}", NAMES[*seat])), "{status}")
            }
        }
    }
    Ok(())
}

/// Returns which registration each node is at.
fn epochs(trio: &Trio) -> Result<Vec<u64>> {
    let epoch = |name: &&str| {
        let node = trio.cluster.json(&["node", "show", name])?;
        node["epoch"].as_u64().context("an epoch")
    };
    NAMES.iter().map(epoch).collect()
}

fn codes(trio: &Trio, place: usize, node: &str) -> Result<Vec<String>> {
    let shown = trio.warren_through(place, &["node", "show", node, "-o", "json"])?.json()?;
    let code = |one: &Value| one["code"].as_str().map(str::to_owned);
    let of =
        |list: &Value| list.as_array().into_iter().flatten().filter_map(code).collect::<Vec<_>>();
    Ok([of(&shown["findings"]), of(&shown["facts"]["findings"])].concat())
}

#[test]
fn of_a_host_cut_off_everybody_says_last_seen_and_no_copy_of_it_gets_in() -> Result<()> {
    let (mut trio, pulses) = built()?;
    let gone = trio.seat_of(WORKSPACES[2])?;
    let left = [(gone + 1) % 3, (gone + 2) % 3];
    let seats = WORKSPACES.map(|one| Ok((one, trio.seat_of(one)?)));
    let seats = seats.into_iter().collect::<Result<Vec<_>>>()?;
    lead_and_be_known(&trio, gone)?;
    let cut = Cut { trio: &trio, gone, left, seats };
    for (place, from) in trio.hosts.iter().enumerate() {
        wait_until("everybody sees everything run", SOON, || {
            list_is_true(cut.list(place, from)?, &|_| true, &cut.seats)
        })?;
    }
    // what leads goes with it
    let since = Instant::now();
    trio.hosts[gone].cut()?;
    cut.called(NodeLiveness::Suspect, (Duration::from_secs(12), since))?;
    cut.lists_are_true()?;
    cut.called(NodeLiveness::Unreachable, (Duration::from_secs(30), since))?;
    cut.lists_are_true()?;
    cut.a_copy_is_refused()?;
    trio.hosts[gone].mend()?;
    let back = Instant::now();
    trio.cluster.wait_ready(NAMES[gone])?;
    eprintln!("ready {:.1?} after the mend", back.elapsed());
    for pulse in &pulses {
        pulse.unchanged(&trio, "after the cut")?;
    }
    (0..3).try_for_each(|place| obeys_through(&trio, place))?;
    a_clock_is_wrong(&mut trio, left[0], &pulses)?;
    a_firewall_is_flushed(&trio, left[1], &pulses)
}

/// Hands the lead to the coordinator on a host and waits until every node has registered with it.
fn lead_and_be_known(trio: &Trio, place: usize) -> Result<()> {
    let (before, led) = (epochs(trio)?, leader(trio)? == place);
    lead(trio, place)?;
    wait_until("every node has registered with it", SOON, || {
        let now = epochs(trio)?;
        let all = now.iter().zip(&before).all(|(now, before)| led || now > before);
        ensure!(all, "they were {before:?}, are {now:?}");
        Ok(())
    })
}

/// A host that is cut off, and the two that are left.
struct Cut<'a> {
    trio: &'a Trio,
    gone: usize,
    left: [usize; 2],
    /// On which host each workspace is.
    seats: Vec<(&'static str, usize)>,
}

impl Cut<'_> {
    /// Names the list of workspaces as one coordinator tells it to somebody on a host.
    fn list(&self, place: usize, from: &Arc<Host>) -> Result<Program> {
        Ok(self.trio.through(place, (from, "config"))?.args(["workspace", "list"]))
    }

    /// Waits until both coordinators that are left call the node so, and judges when, counted from
    /// the cut.
    fn called(&self, expected: NodeLiveness, (after, since): (Duration, Instant)) -> Result<()> {
        let Self { trio, gone, left, .. } = self;
        for place in left {
            wait_until("it is called so", after + SOON, || {
                let seen = ask(&trio.cluster, &trio.desk, (*place, NAMES[*gone]))?;
                ensure!(seen.liveness() == expected, "{}: {}", place + 1, seen.reason);
                Ok(())
            })?;
            let took = since.elapsed();
            eprintln!("coordinator {}: {expected:?} after {took:.1?}", place + 1);
            let in_time = took + EARLY >= after && took <= after + LATE;
            ensure!(in_time, "{expected:?} after {took:?}");
        }
        Ok(())
    }

    /// Every list is true on both sides; the one that is cut off says that it is no majority.
    fn lists_are_true(&self) -> Result<()> {
        let there =
            |one: &str| self.seats.iter().any(|(on, seat)| *on == one && *seat == self.gone);
        for place in self.left {
            let list = self.list(place, &self.trio.desk)?;
            list_is_true(list, &|one| !there(one), &self.seats)?;
        }
        let alone = &self.trio.hosts[self.gone];
        self.list(self.gone, alone)?.run()?.with_code(5)?;
        // it may have heard of the others a moment later than they of it
        wait_until("it knows that the others are silent", SOON, || {
            list_is_true(self.list(self.gone, alone)?.args(["--stale"]), &there, &self.seats)
        })
    }

    /// Somebody starts a copy of the silent node's state on another host.
    fn a_copy_is_refused(&self) -> Result<()> {
        let Self { trio, gone, left, .. } = self;
        let host = Arc::clone(&trio.hosts[left[0]]);
        let mut copy = trio.cluster.nodes[*gone].copy(&trio.stage, "copy", Some(host))?;
        let config = copy.folder().join("node-agent.toml");
        let [here, from] = [left[0], *gone].map(|at| &trio.engines[at]);
        let text = fs::read_to_string(&config)?
            .replace(&from.socket().display().to_string(), &here.socket().display().to_string())
            .replace(&format!("{}/warren", from.cgroup()), &format!("{}/copy", here.cgroup()));
        fs::write(&config, text)?;
        copy.move_to_machine("4f1c0a8e4f1c0a8e4f1c0a8e4f1c0a8e")?;
        copy.start()?;
        wait_until("the copy is refused", SOON, || {
            let log = copy.agent.as_ref().context("it runs")?.log();
            ensure!(log.contains("on another machine"), "it says {log}");
            Ok(())
        })?;
        for place in left {
            wait_until("everybody is told of it", SOON, || {
                let codes = codes(trio, *place, NAMES[*gone])?;
                ensure!(codes.iter().any(|code| code == "IDENTITY_CONFLICT"), "{codes:?}");
                Ok(())
            })?;
        }
        self.lists_are_true()?;
        copy.kill()
    }
}

/// A host whose clock is an hour behind has the lead: it is told, and nothing else is different.
fn a_clock_is_wrong(trio: &mut Trio, host: usize, pulses: &[Pulse]) -> Result<()> {
    let behind = clock::off_by("-1h")?;
    trio.cluster.nodes[host].kill()?;
    trio.cluster.coordinators[host].kill()?;
    trio.cluster.coordinators[host].start_in(&behind)?;
    trio.cluster.nodes[host].start_in(&behind)?;
    lead(trio, host)?;
    for place in 0..3 {
        for (seat, name) in NAMES.iter().enumerate() {
            let what = format!("coordinator {} tells whose clock is off of {name}", place + 1);
            wait_until(&what, SOON, || {
                let seen = ask(&trio.cluster, &trio.desk, (place, name))?;
                ensure!(seen.liveness() == NodeLiveness::Ready, "it is {}", seen.reason);
                // each coordinator compares with its own clock
                let off = (place == host) != (seat == host);
                let codes = codes(trio, place, name)?;
                ensure!(codes.iter().any(|code| code == "CLOCK") == off, "{codes:?}");
                Ok(())
            })?;
        }
    }
    trio.cluster.warren(&["workspace", "list"]).and_then(|listed| {
        ensure!(!listed.stdout.contains("last seen"), "{}", listed.stdout);
        Ok(())
    })?;
    for pulse in pulses {
        pulse.unchanged(trio, "while the clock of the leader is wrong")?;
        let shown = trio.cluster.warren(&["workspace", "show", pulse.address])?.stdout;
        ensure!(!shown.contains("expired") && shown.contains("confirmed"), "{shown}");
    }
    trio.cluster.nodes[host].kill()?;
    trio.cluster.coordinators[host].kill()?;
    trio.cluster.coordinators[host].start()?;
    trio.cluster.nodes[host].start()?;
    trio.cluster.wait_ready(NAMES[host])?;
    for pulse in pulses {
        pulse.unchanged(trio, "after the clock was set right")?;
    }
    Ok(())
}

/// The firewall of one host is flushed: its workspaces reach the internet again and no coordinator,
/// and everybody is told on which host it was.
fn a_firewall_is_flushed(trio: &Trio, host: usize, pulses: &[Pulse]) -> Result<()> {
    let there = WORKSPACES.into_iter().find(|one| trio.seat_of(one).is_ok_and(|at| at == host));
    let there = there.context("a workspace there")?;
    trio.hosts[host].program("nft").args(["flush", "ruleset"]).run()?.success()?;
    for place in 0..3 {
        wait_until("everybody is told of it", SOON, || {
            for (seat, name) in NAMES.iter().enumerate() {
                let codes = codes(trio, place, name)?;
                let told = codes.iter().any(|code| code == "W1304");
                ensure!(told == (seat == host), "{name} through {}: {codes:?}", place + 1);
            }
            Ok(())
        })?;
        let address = trio.cluster.coordinators[place].api_address()?;
        let (ip, port) = address.rsplit_once(':').context("an address")?;
        let dial = format!("timeout 5 bash -c '</dev/tcp/{ip}/{port}' && echo reached");
        let said = trio.cluster.try_shell(there, &dial)?;
        ensure!(!said.stdout.contains("reached"), "{there} reaches coordinator {}", place + 1);
    }
    let clone = format!("git ls-remote {}", trio.repository("hello"));
    let said = trio.cluster.try_shell(there, &clone)?.success()?;
    ensure!(said.stdout.contains("refs/heads/main"), "{said:?}");
    for pulse in pulses {
        pulse.unchanged(trio, "after the flush")?;
    }
    Ok(())
}
