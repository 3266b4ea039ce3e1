//! A sees nothing of B, nor of the platform. Each probe has a positive control: the same probe
//! where it must succeed, so that a broken probe cannot pass for a wall.

use anyhow::Result;
use warren_tests::Lab;

/// One probe: a shell line that writes `seen` where it reached what it looked for.
struct Probe {
    what: &'static str,
    line: String,
    /// Run as root in B itself or on the host: there it must succeed.
    control: Control,
}

enum Control {
    InB,
    OnHost,
}

#[test]
fn a_cannot_see_bs_files_or_processes_nor_dockers_socket() -> Result<()> {
    let lab = Lab::new()?;
    lab.create("acme/a", &["--session", "main"])?;
    lab.create("beta/b", &["--session", "main=sleep 4711"])?;
    lab.shell("beta/b", "echo secret-of-b > ~/secret.txt")?;
    let home = lab.shell("beta/b", "echo $HOME/secret.txt")?;
    let socket = lab.engine.socket().display().to_string();
    let probes = [
        Probe {
            what: "B's file by name",
            line: format!("grep -q secret-of-b {} 2>/dev/null && echo seen", home.trim()),
            control: Control::InB,
        },
        Probe {
            what: "B's file anywhere",
            line: "grep -rqs secret-of-b / --include=secret.txt --exclude-dir=proc --exclude-dir=sys && echo seen"
                .to_owned(),
            control: Control::InB,
        },
        Probe {
            what: "B's process",
            line: "grep -lqs 4711 /proc/[0-9]*/cmdline --exclude-dir=self && tr '\\0' ' ' </dev/null; \
                   for f in /proc/[0-9]*/cmdline; do tr '\\0' ' ' <$f 2>/dev/null | grep -q '^sleep 47''11' && echo seen; done"
                .to_owned(),
            control: Control::InB,
        },
        Probe {
            what: "Docker's socket by its path",
            line: format!("test -S {socket} && echo seen"),
            control: Control::OnHost,
        },
        Probe {
            what: "any Docker socket",
            line: format!(
                "for s in /var/run/docker.sock /run/docker.sock {socket}; do \
                 curl -s --max-time 5 --unix-socket $s http://d/_ping | grep -q OK && echo seen; done"
            ),
            control: Control::OnHost,
        },
    ];
    for probe in probes {
        let control = match probe.control {
            Control::InB => lab.try_shell("beta/b", &probe.line)?,
            Control::OnHost => lab.node.program("bash").args(["-c", &probe.line]).run()?,
        };
        anyhow::ensure!(
            control.stdout.contains("seen"),
            "the probe for {} is blind: {control:?}",
            probe.what
        );
        let from_a = lab.try_shell("acme/a", &probe.line)?;
        anyhow::ensure!(!from_a.stdout.contains("seen"), "A sees {}: {from_a:?}", probe.what);
    }
    a_is_nobody(&lab)
}

/// No privilege to be had inside: the kernel's own words, beside a root shell on the host.
fn a_is_nobody(lab: &Lab) -> Result<()> {
    let status = lab.shell("acme/a", "cat /proc/self/status; id -u")?;
    for line in
        ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"]
    {
        anyhow::ensure!(status.contains(line), "no {line:?} in {status}");
    }
    let root = lab.node.program("cat").args(["/proc/self/status"]).run()?.stdout;
    anyhow::ensure!(!root.contains("CapEff:\t0000000000000000"), "the probe is blind");
    for denied in
        ["mount -t tmpfs x /mnt", "unshare -U true", "touch /usr/x", "echo x > /warren/run/x"]
    {
        let tried = lab.try_shell("acme/a", denied)?;
        anyhow::ensure!(tried.code != 0, "{denied} worked");
    }
    Ok(())
}
