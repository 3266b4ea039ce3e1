//! The walls of the container itself: powers, files, system calls, processes, memory.
//!
//! Each probe runs in workspace A, where it must see nothing, and in a container that is started
//! with Docker alone and hardened in the same way but for what the probe is about: there it must
//! see something. What the kernel of this machine cannot do is skipped aloud.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use warren_tests::{Lab, Output, Program};

/// The image of workspaces.
const IMAGE: &str = "warren-workspace:latest";
/// Memory and processes of A.
const MEMORY: &str = "256M";
pub(crate) const PIDS: &str = "256";

/// One attack.
pub(crate) struct Probe {
    /// Its number in the threat catalogue, such as `A05`.
    pub(crate) id: &'static str,
    /// What is attacked.
    pub(crate) what: &'static str,
    /// A shell line that writes `seen` where it got through.
    pub(crate) line: &'static str,
    /// A file of the kernel without which there is nothing to attack.
    pub(crate) needs: Option<&'static str>,
    /// What the control lacks: parts of the hardening, each with what stands for it.
    pub(crate) without: &'static [(&'static str, &'static [&'static str])],
}

/// Shared by lines: `sys NUMBER ARGUMENT...` writes the error of a system call, or `ok`.
const PRELUDE: &str = r#"sys() { perl -e '$! = 0; my ($n, @a) = map { $_ + 0 } @ARGV;
  my $r = syscall($n, @a); print $r < 0 ? $!+0 : "ok", "\n"' "$@"; }
beyond() { got=$(sys "${@:2}"); case " $1 " in *" $got "*) ;; *) echo "seen: $got";; esac; }
"#;

pub(crate) const UNFILTERED: (&str, &[&str]) =
    ("seccomp", &["--security-opt", "seccomp=unconfined"]);
const CAPABLE: (&str, &[&str]) = ("caps", &[]);
const ROOT: (&str, &[&str]) = ("user", &["--user", "0:0"]);
const BARE: (&str, &[&str]) = ("paths", &["--security-opt", "systempaths=unconfined"]);

pub(crate) const PROBES: &[Probe] = &[
    Probe {
        id: "A01",
        what: "a capability that could be had",
        line: "grep -q 'CapBnd:.*[1-9a-f]' /proc/self/status && echo seen",
        needs: None,
        without: &[CAPABLE],
    },
    Probe {
        id: "A01",
        what: "new privileges",
        line: "grep -q 'NoNewPrivs:.0' /proc/self/status && echo seen",
        // a filter set by somebody without the right to would need it too: it goes first
        needs: None,
        without: &[("nnp", &[]), UNFILTERED],
    },
    Probe {
        id: "A01",
        what: "a process without a filter",
        line: "grep -q 'Seccomp:.0' /proc/self/status && echo seen",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A01",
        what: "being root",
        line: "test \"$(id -u)\" = 0 && echo seen",
        needs: None,
        without: &[ROOT],
    },
    Probe {
        id: "A02",
        what: "a setuid program of root's",
        line: "test \"$(~/suid-id -u)\" = 0 && echo seen",
        needs: None,
        without: &[("nnp", &[])],
    },
    Probe {
        id: "A03",
        what: "a file of the image",
        line: "touch /var/tmp/x && echo seen",
        needs: None,
        without: &[("rootfs", &[])],
    },
    Probe {
        id: "A03",
        what: "a program of the image",
        line: "cp /bin/true /usr/bin/x && echo seen",
        needs: None,
        without: &[("rootfs", &[]), ROOT, CAPABLE],
    },
    Probe {
        id: "A04",
        what: "mounting",
        line: "mkdir -p /tmp/m; mount -t tmpfs x /tmp/m && echo seen",
        needs: None,
        without: &[("caps", &["--cap-add", "SYS_ADMIN"]), ROOT, UNFILTERED],
    },
    Probe {
        id: "A04",
        what: "a device of the host's disk",
        line: "mknod /tmp/disk b 8 0 && echo seen; rm -f /tmp/disk",
        needs: None,
        without: &[CAPABLE, ROOT],
    },
    Probe {
        id: "A04",
        what: "a hook of the cgroups",
        line: "mkdir -p /tmp/c && mount -t cgroup -o memory x /tmp/c && echo seen",
        needs: None,
        without: &[("caps", &["--cap-add", "SYS_ADMIN"]), ROOT, UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "a user namespace",
        line: "unshare -U true && echo seen",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "a network namespace through a user namespace",
        line: "unshare -Urn true && echo seen",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "a user namespace for a child",
        // CLONE_NEWUSER and SIGCHLD
        line: "beyond 1 56 268435473 0 0 0 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "clone3",
        line: "beyond 38 435 0 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "setns",
        line: "beyond 1 308 0 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A06",
        what: "io_uring",
        line: "beyond 1 425 1 0",
        // Docker's own filter of that time lets it through
        needs: None,
        without: &[("seccomp", &[])],
    },
    Probe {
        id: "A06",
        what: "bpf",
        line: "beyond 1 321 0 0 0",
        needs: None,
        without: &[("caps", &["--cap-add", "SYS_ADMIN"]), ROOT, UNFILTERED],
    },
    Probe {
        id: "A06",
        what: "userfaultfd",
        line: "beyond 1 323 0",
        needs: None,
        without: &[("caps", &["--cap-add", "SYS_PTRACE"]), ROOT, UNFILTERED],
    },
    Probe {
        id: "A06",
        what: "perf_event_open",
        line: "beyond 1 298 0 0 0 0 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A06",
        what: "keyctl",
        line: "beyond 1 250 0 0 0 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A06",
        what: "memfd_secret",
        line: "beyond 1 447 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "AF_VSOCK",
        line: "beyond 1 41 40 1 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "AF_ALG",
        line: "beyond 1 41 38 5 0",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "NETLINK_NETFILTER",
        line: "beyond 1 41 16 3 12",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "AF_PACKET",
        line: "beyond 1 41 17 3 0",
        needs: None,
        without: &[CAPABLE, ROOT, UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "SOCK_RAW",
        line: "beyond 1 41 2 3 1",
        needs: None,
        without: &[CAPABLE, ROOT],
    },
    Probe {
        id: "A08",
        what: "core_pattern",
        // opened and not written: it is the host's own
        line: "(: >>/proc/sys/kernel/core_pattern) && echo seen",
        needs: None,
        without: &[BARE, ROOT],
    },
    Probe {
        id: "A08",
        what: "sysrq-trigger",
        line: "(: >>/proc/sysrq-trigger) && echo seen",
        needs: Some("/proc/sysrq-trigger"),
        without: &[BARE, ROOT],
    },
    Probe {
        id: "A08",
        what: "the host's interrupts",
        line: "grep -q CPU0 /proc/interrupts && echo seen",
        needs: None,
        without: &[BARE],
    },
    Probe {
        id: "A08",
        what: "the host's timers",
        line: "head -c 1 /proc/timer_list | grep -q . && echo seen",
        needs: Some("/proc/timer_list"),
        without: &[BARE, ROOT],
    },
    Probe {
        id: "A10",
        what: "a process of the host",
        line: "grep -qs walls-host[-]process /proc/[0-9]*/environ /proc/[0-9]*/cmdline && echo seen",
        needs: None,
        without: &[("pids", &["--pid", "host"]), ROOT, ("caps", &["--cap-add", "SYS_PTRACE"])],
    },
    Probe {
        id: "A13",
        what: "memory beyond the cap",
        line: "test \"$(head -c 400M /dev/zero | tail -c 400M | wc -c)\" = 419430400 && echo seen",
        needs: None,
        without: &[("memory", &[])],
    },
    Probe {
        id: "A14",
        what: "processes beyond the cap",
        line: "perl -e 'my @p; for (1..500) { my $p = fork; last unless defined $p; \
               if (!$p) { sleep 60; exit } push @p, $p } print \"seen\\n\" if @p == 500; \
               kill 9, @p; wait for @p'",
        needs: None,
        without: &[("pids-limit", &[])],
    },
];

/// The engine's own containers, hardened as a workspace is.
pub(crate) struct Controls {
    hardened: BTreeMap<&'static str, Vec<String>>,
}

impl Controls {
    pub(crate) fn new(lab: &Lab, address: &str) -> Result<Self> {
        let container = lab.container(address)?;
        let options = container["HostConfig"]["SecurityOpt"].as_array().context("options")?;
        let mut profile =
            options.iter().filter_map(|option| option.as_str()?.strip_prefix("seccomp="));
        let file = lab.stage.root().join("seccomp.json");
        fs::write(&file, profile.next_back().context("a profile")?)?;
        let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        let home = home(lab, address)?.display().to_string();
        Ok(Self {
            hardened: [
                ("user", texts(&["--user", "1000:1000"])),
                ("caps", texts(&["--cap-drop", "ALL"])),
                ("nnp", texts(&["--security-opt", "no-new-privileges:true"])),
                ("seccomp", texts(&["--security-opt", &format!("seccomp={}", file.display())])),
                ("rootfs", texts(&["--read-only"])),
                ("memory", texts(&["--memory", MEMORY, "--memory-swap", MEMORY])),
                ("pids-limit", texts(&["--pids-limit", PIDS])),
                ("home", texts(&["--volume", &format!("{home}:/home/agent")])),
                ("tmp", texts(&["--tmpfs", "/tmp:rw,exec"])),
            ]
            .into(),
        })
    }

    /// Runs a line in a container that lacks some of the hardening.
    fn run(&self, lab: &Lab, line: &str, without: &[(&str, &[&str])]) -> Result<Output> {
        let mut arguments = vec!["run".to_owned(), "--rm".to_owned(), "--network=none".to_owned()];
        for (part, hardened) in &self.hardened {
            if !without.iter().any(|(name, _)| name == part) {
                arguments.extend(hardened.iter().cloned());
            }
        }
        for (_, instead) in without {
            arguments.extend(instead.iter().map(|text| (*text).to_owned()));
        }
        let rest = ["--entrypoint", "bash", "--env", "HOME=/home/agent", IMAGE, "-c", line];
        arguments.extend(rest.map(str::to_owned));
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        lab.engine.try_docker(&arguments)
    }
}

/// Returns the host's side of a workspace's home.
fn home(lab: &Lab, address: &str) -> Result<PathBuf> {
    let container = lab.container(address)?;
    let mounts = container["Mounts"].as_array().context("mounts")?;
    let home = mounts.iter().find(|mount| mount["Destination"] == "/home/agent");
    Ok(home.and_then(|home| home["Source"].as_str()).context("a home")?.into())
}

/// Puts a copy of a program into A's home that belongs to root and would make root of whoever runs
/// it: A cannot do that itself, a careless template could.
pub(crate) fn plant_setuid(lab: &Lab) -> Result<()> {
    lab.shell("acme/a", "cp /usr/bin/id ~/suid-id")?;
    let file = home(lab, "acme/a")?.join("suid-id");
    std::os::unix::fs::chown(&file, Some(0), Some(0))?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o4755))?;
    Ok(())
}

#[test]
fn no_power_file_call_process_or_memory_of_the_host_can_be_had() -> Result<()> {
    let lab = Lab::new()?;
    lab.create("acme/a", &["--session", "main", "--pids", PIDS])?;
    plant_setuid(&lab)?;
    let controls = Controls::new(&lab, "acme/a")?;
    let mut sleeper =
        std::process::Command::new("sleep").arg("600").env("MARK", "walls-host-process").spawn()?;
    let outcome = all(&lab, &controls, "", PROBES);
    sleeper.kill()?;
    sleeper.wait()?;
    outcome
}

/// Tries each of them in workspace A, and in its control, with more that lines share.
pub(crate) fn all<'a>(
    lab: &Lab,
    controls: &Controls,
    prelude: &str,
    probes: impl IntoIterator<Item = &'a Probe>,
) -> Result<()> {
    let mut wrong = Vec::new();
    for probe in probes {
        if let Some(file) = probe.needs.filter(|file| !Path::new(file).exists()) {
            eprintln!("SKIPPED: {} {}: this kernel has no {file}", probe.id, probe.what);
            continue;
        }
        let line = format!("{PRELUDE}{prelude}{}", probe.line);
        let attack = lab.try_shell("acme/a", &line)?;
        if attack.stdout.contains("seen") {
            wrong.push(format!("{} {} got through: {attack:?}", probe.id, probe.what));
        }
        let control = controls.run(lab, &line, probe.without)?;
        if !control.stdout.contains("seen") {
            wrong.push(format!("{} {} is blind: {control:?}", probe.id, probe.what));
        }
    }
    anyhow::ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

#[test]
fn a_flood_of_the_log_stays_within_its_files() -> Result<()> {
    const FLOOD: &str = "head -c 60M /dev/zero | tr '\\0' 'x' | fold -w 4000 >/proc/1/fd/1";
    let lab = Lab::new()?;
    lab.create("acme/a", &["--session", "main"])?;
    lab.try_shell("acme/a", FLOOD)?;
    let size = |id: &str| -> Result<u64> {
        let folder = lab.stage.root().join("docker-n1/data/containers").join(id);
        let du = Program::new("du").args(["-s", "--block-size=1M"]).args([&folder]).run()?;
        let size = du.success()?.stdout;
        Ok(size.split_whitespace().next().context("a size")?.parse()?)
    };
    let a = lab.container("acme/a")?["Id"].as_str().context("an id")?.to_owned();
    let held = size(&a)?;
    anyhow::ensure!(held <= 32, "A's log holds {held} MiB");
    let control = ["run", "-d", "--log-driver", "json-file", "--entrypoint", "bash", IMAGE, "-c"];
    let flood = format!("{}; sleep 60", FLOOD.replace(">/proc/1/fd/1", ""));
    let id = lab.engine.docker(&[&control[..], &[&flood]].concat())?.stdout.trim().to_owned();
    let full = warren_tests::wait_until(
        "the flood is written",
        std::time::Duration::from_secs(60),
        || {
            let held = size(&id)?;
            anyhow::ensure!(held > 50, "the control's log holds {held} MiB");
            Ok(held)
        },
    );
    lab.engine.docker(&["rm", "-f", &id])?;
    full.map(drop)
}
