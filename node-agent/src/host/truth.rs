//! What the kernel itself says of a running container: the engine may believe something else.
//!
//! `docker inspect` tells what was asked for. Whether PID 1 has no power, cannot gain any, and is
//! held by its caps stands in `/proc` and in the cgroup; somebody on the host can change the latter
//! without the engine knowing.

use std::{fs, io, path::Path};

use tracing::warn;

use super::cgroup::Layout;
use crate::container::{ContainerPlan, Drift};

/// What stands in `/proc/<pid>/status` of every workspace's PID 1.
const STATUS: [(&str, &str); 7] = [
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
    ("NoNewPrivs", "1"),
    ("Seccomp", "2"),
];
/// Caps are held in whole pages, of which the largest has 64 KiB.
const PAGE: u64 = 64 * 1024;

/// Returns how the process differs from what every PID 1 of a plan is; empty where it does not.
///
/// # Errors
/// Where it is gone or cannot be read: then nothing is known.
pub fn drifts(pid: u32, plan: &ContainerPlan) -> io::Result<Vec<Drift>> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let mut drifts = of_status(&status);
    match Layout::of_host().and_then(|layout| of_caps(layout, &groups, plan)) {
        Ok(more) => drifts.extend(more),
        // it ends at this moment
        Err(_) if !Path::new(&format!("/proc/{pid}")).exists() => {}
        Err(error) => warn!(pid, %error, "what holds a container's PID 1 cannot be read"),
    }
    Ok(drifts)
}

fn drift(field: &str, planned: &str, actual: &str) -> Drift {
    Drift {
        field: format!("kernel.{field}"),
        planned: planned.to_owned(),
        actual: actual.to_owned(),
    }
}

fn of_status(status: &str) -> Vec<Drift> {
    let value = |name: &str| {
        let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim)
    };
    let mut drifts: Vec<Drift> = STATUS
        .iter()
        // an older kernel that does not tell is no drift
        .filter_map(|(name, planned)| {
            let actual = value(name).filter(|actual| actual != planned)?;
            Some(drift(name, planned, actual))
        })
        .collect();
    let users: Vec<&str> = value("Uid").unwrap_or_default().split_whitespace().collect();
    if users.contains(&"0") {
        drifts.push(drift("Uid", "not root", "0"));
    }
    drifts
}

fn of_caps(layout: &Layout, groups: &str, plan: &ContainerPlan) -> io::Result<Vec<Drift>> {
    let unified = layout.version == 2;
    let mut drifts = Vec::new();
    let mut check = |controller: &str, files: [&str; 2], planned: Option<u64>, slack: u64| {
        let (Some(planned), file) = (planned, files[usize::from(unified)]) else { return Ok(()) };
        let text = match fs::read_to_string(layout.folder(groups, controller)?.join(file)) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let actual = text.trim();
        let held = actual.parse::<u64>().unwrap_or(u64::MAX);
        if held > planned || planned - held >= slack.max(1) {
            drifts.push(drift(file, &planned.to_string(), actual));
        }
        Ok(())
    };
    let memory = ["memory.limit_in_bytes", "memory.max"];
    check("memory", memory, Some(plan.memory.0), PAGE)?;
    let swap = plan.memory_and_swap;
    let swap = if unified { swap.map(|both| both.minus(plan.memory)) } else { swap };
    let files = ["memory.memsw.limit_in_bytes", "memory.swap.max"];
    check("memory", files, swap.map(|swap| swap.0), PAGE)?;
    check("pids", ["pids.max", "pids.max"], plan.pids.map(u64::from), 1)?;
    Ok(drifts)
}

#[cfg(test)]
mod tests {
    use warren_common::Bytes;

    use super::*;
    use crate::container::{
        fixture::{ground, order},
        plan,
    };

    const GOOD: &str = "Name:\tinside\nUid:\t1000\t1000\t1000\t1000\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\n\
        CapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n";

    fn fields(drifts: &[Drift]) -> Vec<&str> {
        drifts.iter().map(|drift| drift.field.as_str()).collect()
    }

    #[test]
    fn every_power_of_a_process_is_noticed() {
        assert_eq!(of_status(GOOD), []);
        for (field, good, bad) in [
            ("kernel.CapBnd", "CapBnd:\t0000000000000000", "CapBnd:\t00000000a80425fb"),
            ("kernel.CapEff", "CapEff:\t0000000000000000", "CapEff:\t0000000000000001"),
            ("kernel.NoNewPrivs", "NoNewPrivs:\t1", "NoNewPrivs:\t0"),
            ("kernel.Seccomp", "Seccomp:\t2", "Seccomp:\t0"),
            ("kernel.Uid", "Uid:\t1000\t1000\t", "Uid:\t1000\t0\t"),
        ] {
            assert_eq!(fields(&of_status(&GOOD.replace(good, bad))), [field]);
        }
        assert_eq!(fields(&of_status("Uid:\t200000\n")), Vec::<&str>::new(), "remapped");
    }

    #[test]
    fn caps_that_were_changed_in_the_cgroup_itself_are_noticed() {
        let dir = tempfile::tempdir().expect("folder");
        let write = |file: &str, text: String| {
            fs::write(dir.path().join("w").join(file), text).expect("file");
        };
        fs::create_dir(dir.path().join("w")).expect("folder");
        let plan = plan(&order(), &ground());
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", dir.path().display());
        let layout = Layout::parse(&mounts, |_| "memory pids\n".to_owned());
        let found = || of_caps(&layout, "0::/w\n", &plan).expect("read");
        let good = || {
            write("memory.max", format!("{}\n", plan.memory.0));
            write("memory.swap.max", "0\n".to_owned());
            write("pids.max", "1024\n".to_owned());
        };
        good();
        assert_eq!(found(), []);
        for (file, value) in [
            ("memory.max", "max\n".to_owned()),
            ("memory.max", format!("{}\n", plan.memory.plus(Bytes(1)).0)),
            ("memory.max", "4096\n".to_owned()),
            ("memory.swap.max", "max\n".to_owned()),
            ("pids.max", "1025\n".to_owned()),
        ] {
            good();
            write(file, value);
            assert_eq!(fields(&found()), [format!("kernel.{file}")]);
        }
        good();
        write("memory.max", format!("{}\n", plan.memory.0 - 4095));
        assert_eq!(found(), [], "rounded down to a page");
    }

    #[test]
    fn this_process_is_no_workspace() {
        let found = drifts(std::process::id(), &plan(&order(), &ground())).expect("read");
        assert!(fields(&found).contains(&"kernel.NoNewPrivs") || !found.is_empty());
    }
}
