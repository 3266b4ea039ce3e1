//! A workspace whose browsers have a sandbox of their own: the namespaces that one is made of can be
//! had, and everything else is refused as it is to others.

use anyhow::Result;
use warren_tests::Lab;

use crate::walls::{Controls, PIDS, PROBES, Probe, UNFILTERED, all, plant_setuid};

/// Shell and Perl: `inner` runs a script in which `call` says whether a system call worked, `child`
/// does something in a child with these flags, or nothing where it cannot be made, and `mapped` says
/// who the child is.
const INNER: &str = r#"inner() { perl -e '$| = 1;
  sub call { $! = 0; syscall(shift, @_) >= 0 }
  sub child { my ($f, $do) = @_; my $p = syscall(56, $f, 0, 0, 0, 0);
    if ($p == 0) { $do->(); exit } waitpid $p, 0 if $p > 0 }
  sub mapped { for (["setgroups", "deny"], ["uid_map", "1000 1000 1"], ["gid_map", "1000 1000 1"]) {
    open my $f, ">", "/proc/self/$_->[0]" or return 0; syswrite $f, $_->[1] or return 0 } 1 }
  eval $ARGV[0]; print $@' "$1"; }
"#;

/// What Chromium does: looks whether it may, starts its zygote, moves it on, takes its root away, and
/// starts a page's process from there.
const MADE: [(&str, &str); 5] = [
    ("a user namespace for a child", r#"child(0x10000011, sub { print "made" })"#),
    ("a zygote", r#"child(0x70000011, sub { mapped() and print "made" })"#),
    (
        "a namespace in it",
        r#"child(0x70000011, sub { mapped() and call(272, 0x10000000) and print "made" })"#,
    ),
    (
        "a root without files",
        r#"child(0x70000011, sub { chroot "/proc/self/fdinfo" and print "made" })"#,
    ),
    ("a page", r#"child(0x70000011, sub { child(0x20000011, sub { print "made" }) })"#),
];

/// Ways on, where somebody is root of a namespace of his own.
const ONWARD: &[Probe] = &[
    Probe {
        id: "A04",
        what: "mounting in namespaces of one's own",
        line: "mkdir -p /tmp/m; unshare -Urm mount -t tmpfs x /tmp/m && echo seen",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "a namespace of mounts",
        line: r#"inner 'child(0x10000011, sub { call(272, 0x20000) and print "seen" })'"#,
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "namespaces of names and messages",
        line: r#"inner 'child(0x1C000011, sub { print "seen" })'"#,
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "a network namespace without processes of its own",
        line: "unshare -Urn true && echo seen",
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A05",
        what: "entering a namespace",
        // one's own user namespace, which is another error
        line: r#"inner 'child(0x10000011, sub { open my $f, "<", "/proc/self/ns/user";
            call(308, fileno $f, 0); $! == 1 or print "seen" })'"#,
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "packet filters of a network of one's own",
        // IPT_SO_GET_INFO; a kernel without them has another error
        line: r#"inner 'child(0x70000011, sub { socket my $s, 2, 1, 0 or exit;
            my ($into, $size) = ("x" x 200, pack "L", 84);
            call(55, fileno $s, 0, 64, $into, $size); $! == 1 or print "seen" })'"#,
        needs: None,
        without: &[UNFILTERED],
    },
    Probe {
        id: "A07",
        what: "NETLINK_NETFILTER of a network of one's own",
        line: r#"inner 'child(0x70000011, sub { call(41, 16, 3, 12) and print "seen" })'"#,
        needs: None,
        without: &[UNFILTERED],
    },
];

#[test]
fn a_browser_sandbox_gives_its_own_namespaces_and_nothing_beyond_them() -> Result<()> {
    let lab = Lab::new()?;
    lab.create("acme/a", &["--session", "main", "--pids", PIDS, "--browser-sandbox"])?;
    lab.create("acme/plain", &["--session", "main"])?;
    plant_setuid(&lab)?;
    for (what, script) in MADE {
        let line = format!("{INNER}inner '{script}'");
        let with = lab.try_shell("acme/a", &line)?;
        anyhow::ensure!(with.stdout.contains("made"), "{what} is refused: {with:?}");
        let without = lab.try_shell("acme/plain", &line)?;
        anyhow::ensure!(!without.stdout.contains("made"), "{what} without the option");
    }
    let word = lab.shell("acme/a", "echo $WARREN_BROWSER_SANDBOX")?;
    anyhow::ensure!(word.trim() == "1", "{word:?}");
    let controls = Controls::new(&lab, "acme/a")?;
    // what the option gives, and a process of the host that another test starts
    let apart = ["a user namespace", "a user namespace for a child", "a process of the host"];
    let walls = PROBES.iter().filter(|probe| !apart.contains(&probe.what));
    all(&lab, &controls, INNER, walls.chain(ONWARD))
}
