//! What the state of this machine means: pure functions from what was seen to findings.

use warren_common::Bytes;

use super::{
    super::finding::{Check, Finding, faults_or},
    Daemon, Docker, Machine, Port,
};

/// The checks of one daemon; their codes stay.
struct Codes {
    program: &'static str,
    config: Check,
    state: Check,
    disk: Check,
    ports: Check,
    metrics: Check,
    unit: Check,
}

const COORDINATOR: Codes = Codes {
    program: "warren-coordinator",
    config: Check::new("coordinator here", "COORDINATOR_CONFIG"),
    state: Check::new("coordinator here", "COORDINATOR_STATE"),
    disk: Check::new("coordinator here", "COORDINATOR_DISK"),
    ports: Check::new("coordinator here", "COORDINATOR_PORTS"),
    metrics: Check::new("coordinator here", "COORDINATOR_METRICS"),
    unit: Check::new("coordinator here", "COORDINATOR_UNIT"),
};

const NODE: Codes = Codes {
    program: "warren-node-agent",
    config: Check::new("node agent here", "NODE_CONFIG"),
    state: Check::new("node agent here", "NODE_STATE"),
    disk: Check::new("node agent here", "NODE_DISK"),
    ports: Check::new("node agent here", "NODE_PORTS"),
    metrics: Check::new("node agent here", "NODE_METRICS"),
    unit: Check::new("node agent here", "NODE_UNIT"),
};

const HOST: &str = "this machine";
const DOCKER: Check = Check::new(HOST, "DOCKER");
const LIVE_RESTORE: Check = Check::new(HOST, "DOCKER_LIVE_RESTORE");
const CGROUP: Check = Check::new(HOST, "CGROUP");
const CLOCK: Check = Check::new(HOST, "CLOCK_SYNC");

/// Less than that is used up by one checkpoint or one image.
const FREE_WARNING: u64 = 1 << 30;

pub(super) fn machine(machine: &Machine) -> Vec<Finding> {
    let mut found = daemon(&COORDINATOR, machine.coordinator.as_ref());
    found.extend(daemon(&NODE, machine.node.as_ref()));
    found.extend(docker(machine));
    found.push(match &machine.cgroup {
        Err(why) => CGROUP.not_looked(why.clone()),
        Ok(2) => CGROUP.ok("version 2"),
        Ok(version) => CGROUP
            .warning(format!("version {version}: memory pressure is not told"))
            .fix("boot with systemd.unified_cgroup_hierarchy=1"),
    });
    found.push(match &machine.synchronised {
        Err(why) => CLOCK.not_looked(why.clone()),
        Ok(true) => CLOCK.ok("it is kept right"),
        Ok(false) => CLOCK
            .warning("nothing keeps it right: certificates and ages rest on it")
            .fix("timedatectl set-ntp true"),
    });
    found
}

fn daemon(codes: &Codes, daemon: Option<&Daemon>) -> Vec<Finding> {
    let Some(daemon) = daemon else {
        return vec![codes.config.not_looked("there is none on this machine")];
    };
    let mut found = vec![config(codes, daemon)];
    found.extend(state(codes, daemon));
    found.push(disk(codes, daemon));
    found.extend(ports(codes, daemon));
    found.push(match &daemon.ready {
        Err(why) => codes.metrics.not_looked(why.clone()),
        Ok(Ok(())) => codes.metrics.ok("they are served, and it is ready"),
        Ok(Err(why)) => codes
            .metrics
            .error(why.clone())
            .fix(format!("see that {} runs, and its log", codes.program)),
    });
    found.push(unit(codes, daemon));
    found
}

fn config(codes: &Codes, daemon: &Daemon) -> Finding {
    let file = daemon.config.display();
    match &daemon.configured {
        Err(why) => codes.config.not_looked(why.clone()),
        Ok(Ok(())) if daemon.config.exists() => codes.config.ok(format!("{file} can be used")),
        Ok(Ok(())) => codes.config.ok(format!("there is no {file}: the defaults")),
        Ok(Err(why)) => codes
            .config
            .error(format!("it would not start: {why}"))
            .fix(format!("mend {file}, then {} check-config", codes.program)),
    }
}

fn state(codes: &Codes, daemon: &Daemon) -> Vec<Finding> {
    let (check, folder) = (codes.state, daemon.state.display());
    match &daemon.state_mode {
        Err(why) => return vec![check.not_looked(format!("{folder}: {why}; try as root"))],
        Ok(None) => {
            let message = format!("{folder} is not there: it was never started here");
            let fix = format!("systemctl enable --now {}", codes.program);
            return vec![check.warning(message).fix(fix)];
        }
        Ok(Some(_)) => {}
    }
    let own = daemon.state_mode.as_ref().ok().copied().flatten();
    let own = own.filter(|mode| mode & 0o077 != 0).map(|mode| (folder.to_string(), mode));
    let fault = |(path, mode): (String, u32)| {
        let wanted = if mode & 0o100 == 0 { "600" } else { "700" };
        let message = format!("others may use it (mode {mode:o}), and keys are in it");
        check.error(message).about(&path).fix(format!("chmod {wanted} {path}"))
    };
    let inside = daemon.open_to_others.as_ref().map(|open| open.iter().cloned());
    let mut faults: Vec<Finding> =
        own.into_iter().chain(inside.clone().into_iter().flatten()).map(fault).collect();
    if let Err(why) = inside {
        faults.push(check.not_looked(format!("{why}; try as root")));
    }
    faults_or(faults, || check.ok(format!("{folder} is its owner's alone")))
}

fn disk(codes: &Codes, daemon: &Daemon) -> Finding {
    match &daemon.free_bytes {
        Err(why) => codes.disk.not_looked(why.clone()),
        Ok(free) if *free < FREE_WARNING => codes
            .disk
            .error(format!("{} free for {}", Bytes(*free), daemon.state.display()))
            .fix("make room on that volume"),
        Ok(free) => codes.disk.ok(format!("{} free", Bytes(*free))),
    }
}

fn ports(codes: &Codes, daemon: &Daemon) -> Vec<Finding> {
    let ports = match &daemon.ports {
        Err(why) => return vec![codes.ports.not_looked(why.clone())],
        Ok(ports) if ports.is_empty() => return vec![codes.ports.ok("it listens for nobody")],
        Ok(ports) => ports,
    };
    let fault = |port: &Port| {
        let why = port.open.as_ref().err()?;
        let message = format!("nothing answers at {}: {why}", port.address);
        let fix = format!("systemctl restart {}, and look at its log", codes.program);
        Some(codes.ports.error(message).about(&port.name).fix(fix))
    };
    let named: Vec<String> =
        ports.iter().map(|port| format!("{} {}", port.name, port.address)).collect();
    let faults = ports.iter().filter_map(fault).collect();
    faults_or(faults, || codes.ports.ok(named.join(", ")))
}

fn unit(codes: &Codes, daemon: &Daemon) -> Finding {
    let name = codes.program;
    match &daemon.unit {
        Err(why) => codes.unit.not_looked(why.clone()),
        Ok(state) if state == "active" => codes.unit.ok(format!("{name} is active")),
        Ok(state) => codes
            .unit
            .error(format!("{name} is {state}"))
            .fix(format!("systemctl enable --now {name}; journalctl -u {name}")),
    }
}

fn docker(machine: &Machine) -> Vec<Finding> {
    match &machine.docker {
        Err(why) => [DOCKER, LIVE_RESTORE].map(|check| check.not_looked(why.clone())).to_vec(),
        Ok(Docker::Unreachable(why)) => vec![
            DOCKER
                .error(format!("it cannot be reached: {why}"))
                .fix("systemctl enable --now docker"),
            LIVE_RESTORE.not_looked("Docker cannot be reached"),
        ],
        Ok(Docker::Reachable { version, live_restore }) => {
            let live = match live_restore {
                true => LIVE_RESTORE.ok("workspaces outlive a restart of Docker"),
                false => LIVE_RESTORE
                    .warning("it is off: a restart of Docker stops every workspace")
                    .fix("\"live-restore\": true in /etc/docker/daemon.json, then systemctl reload docker"),
            };
            vec![DOCKER.ok(format!("version {version}")), live]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::doctor::finding::Level;

    fn daemon() -> Daemon {
        Daemon {
            config: "/etc/warren/none.toml".into(),
            configured: Ok(Ok(())),
            state: "/var/lib/warren/coordinator".into(),
            state_mode: Ok(Some(0o700)),
            open_to_others: Ok(Vec::new()),
            free_bytes: Ok(50 << 30),
            ports: Ok(vec![Port {
                name: "api".to_owned(),
                address: "127.0.0.1:7400".to_owned(),
                open: Ok(()),
            }]),
            ready: Ok(Ok(())),
            unit: Ok("active".to_owned()),
        }
    }

    fn whole() -> Machine {
        Machine {
            coordinator: Some(daemon()),
            node: Some(daemon()),
            docker: Ok(Docker::Reachable { version: "28.1".to_owned(), live_restore: true }),
            cgroup: Ok(2),
            synchronised: Ok(true),
        }
    }

    /// Returns the codes of what is not ok, after a change.
    fn after(change: impl FnOnce(&mut Machine, &mut Daemon)) -> Vec<(&'static str, Level)> {
        let (mut all, mut own) = (whole(), daemon());
        change(&mut all, &mut own);
        all.coordinator = all.coordinator.map(|_| own);
        let found = machine(&all);
        for one in &found {
            let told = matches!(one.level, Level::Ok | Level::NotLooked) || one.fix.is_some();
            assert!(told, "{} says what to do", one.code);
        }
        let bad = found.iter().filter(|one| one.level != Level::Ok);
        bad.map(|one| (one.code, one.level)).collect()
    }

    #[test]
    fn a_machine_in_order_is_ok() {
        assert_eq!(after(|_, _| {}), []);
        assert_eq!(machine(&whole()).len(), 16, "every check says something");
    }

    #[test]
    fn each_fault_has_its_code() {
        use Level::{Error, NotLooked, Warning};
        let one = |change: fn(&mut Machine, &mut Daemon)| after(change);
        let bad = || Err("it broke".to_owned());
        assert_eq!(
            one(|_, own| own.configured = Ok(Err("no".into()))),
            [("COORDINATOR_CONFIG", Error)]
        );
        assert_eq!(one(|_, own| own.state_mode = Ok(Some(0o755))), [("COORDINATOR_STATE", Error)]);
        assert_eq!(one(|_, own| own.state_mode = Ok(None)), [("COORDINATOR_STATE", Warning)]);
        let open = |own: &mut Daemon| {
            own.open_to_others = Ok(vec![("keys/k".to_owned(), 0o644)]);
        };
        assert_eq!(after(|_, own| open(own)), [("COORDINATOR_STATE", Error)]);
        let blind = after(|_, own| own.open_to_others = Err("keys: permission denied".to_owned()));
        assert_eq!(blind, [("COORDINATOR_STATE", NotLooked)]);
        assert_eq!(one(|_, own| own.free_bytes = Ok(5)), [("COORDINATOR_DISK", Error)]);
        let shut = |own: &mut Daemon| {
            own.ports = Ok(vec![Port {
                name: "raft".to_owned(),
                address: "127.0.0.1:7401".to_owned(),
                open: bad(),
            }])
        };
        assert_eq!(after(|_, own| shut(own)), [("COORDINATOR_PORTS", Error)]);
        assert_eq!(after(|_, own| own.ready = Ok(bad())), [("COORDINATOR_METRICS", Error)]);
        assert_eq!(one(|_, own| own.unit = Ok("failed".into())), [("COORDINATOR_UNIT", Error)]);
        assert_eq!(one(|all, _| all.cgroup = Ok(1)), [("CGROUP", Warning)]);
        assert_eq!(one(|all, _| all.synchronised = Ok(false)), [("CLOCK_SYNC", Warning)]);
        let gone = |all: &mut Machine| all.docker = Ok(Docker::Unreachable("no".to_owned()));
        let gone = after(|all, _| gone(all));
        assert_eq!(gone, [("DOCKER", Error), ("DOCKER_LIVE_RESTORE", NotLooked)]);
        let off = |all: &mut Machine| {
            all.docker = Ok(Docker::Reachable { version: "28".into(), live_restore: false });
        };
        assert_eq!(after(|all, _| off(all)), [("DOCKER_LIVE_RESTORE", Warning)]);
    }

    #[test]
    fn what_cannot_be_seen_is_never_ok() {
        let blind = |own: &mut Daemon| {
            let why = || "permission denied".to_owned();
            own.configured = Err(why());
            own.state_mode = Err(why());
            own.free_bytes = Err(why());
            own.ports = Err(why());
            own.ready = Err(why());
            own.unit = Err(why());
        };
        let found = after(|_, own| blind(own));
        assert_eq!(found.len(), 6);
        assert!(found.iter().all(|(_, level)| *level == Level::NotLooked));
        let none = after(|all, _| (all.coordinator, all.node) = (None, None));
        let codes: Vec<_> = none.iter().map(|(code, _)| *code).collect();
        assert_eq!(codes, ["COORDINATOR_CONFIG", "NODE_CONFIG"]);
    }
}
