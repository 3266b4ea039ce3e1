//! Homes in a btrfs pool, as people and workspaces see them: what full means, caps that change
//! while everything runs, a machine that comes back.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use warren_tests::{Lab, Program, wait_until};

const SOON: Duration = Duration::from_secs(60);
/// The node looks at its pool and its disk once a minute.
const LOOK: Duration = Duration::from_secs(100);

/// Writes until nothing more can be written; prints what dd said.
const FILL: &str = "dd if=/dev/zero of=~/filler bs=1M 2>&1; sync";

fn pid(lab: &Lab, address: &str) -> Result<Value> {
    Ok(lab.container(address)?["State"]["Pid"].clone())
}

fn codes(lab: &Lab) -> Result<Vec<String>> {
    let node = lab.cluster.json(&["node", "show", "n1"])?;
    let findings = node["facts"]["findings"].as_array().context("findings")?.clone();
    Ok(findings.iter().filter_map(|one| one["code"].as_str().map(str::to_owned)).collect())
}

fn wait_code(lab: &Lab, code: &str, there: bool) -> Result<()> {
    wait_until(&format!("{code} is told: {there}"), LOOK, || {
        let codes = codes(lab)?;
        ensure!(codes.iter().any(|one| one == code) == there, "{codes:?}");
        Ok(())
    })
}

fn volume(lab: &Lab, address: &str) -> Result<Value> {
    Ok(lab.cluster.workspace(address)?["observed"]["volume"].clone())
}

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    Ok(Program::new(program).args(arguments).run()?.success()?.stdout)
}

#[test]
fn a_full_home_is_told_its_neighbour_works_on_and_a_resize_makes_room() -> Result<()> {
    let lab = Lab::with_pool("3G")?;
    let repo = lab.repository("hello");
    let counting = ["--repo", &repo, "--session", "main=bash count.sh"];
    lab.create("beta/neighbour", &counting)?;
    let small = ["workspace", "create", "acme/web", "--memory", "256M", "--disk", "128M"];
    lab.cluster.warren(&small)?;
    let (web, neighbour) = (pid(&lab, "acme/web")?, pid(&lab, "beta/neighbour")?);
    let before = lab.wait_count_past("beta/neighbour", 0)?;

    let said = lab.try_shell("acme/web", FILL)?.stdout;
    ensure!(said.contains("Disk quota exceeded"), "{said}");
    wait_until("the full home is told", SOON, || {
        let seen = volume(&lab, "acme/web")?;
        ensure!(seen["full"] == true, "{seen}");
        Ok(())
    })?;
    let page = lab.cluster.warren(&["workspace", "show", "acme/web"])?.stdout;
    ensure!(page.contains("full, 12") && page.contains("of 128 MiB"), "{page}");
    let list = lab.cluster.warren(&["workspace", "list"])?.stdout;
    ensure!(list.contains("home full, 12"), "{list}");
    lab.wait_count_past("beta/neighbour", before)?;
    ensure!(volume(&lab, "beta/neighbour")?["full"] == false);

    // a subvolume of its own would not be counted: the kernel is not even asked
    let make = "python3 -c 'import fcntl, os\n\
                fd = os.open(os.path.expanduser(\"~\"), os.O_RDONLY)\n\
                fcntl.ioctl(fd, 0x5000940e, bytearray(bytes(8) + b\"escape\" + bytes(4082)))'";
    let escape = lab.try_shell("acme/web", make)?;
    ensure!(escape.code != 0 && escape.stderr.contains("not permitted"), "{escape:?}");

    // more disk: written at once, in the same processes
    lab.cluster.warren(&["workspace", "resize", "acme/web", "--disk", "256M"])?;
    wait_until("there is room", SOON, || lab.shell("acme/web", "echo more > ~/more").map(drop))?;
    // less than it holds: nothing is lost, nothing more goes in, and that is said
    let said = lab.cluster.warren(&["workspace", "resize", "acme/web", "--disk", "64M"])?;
    ensure!(said.stderr.contains("nothing is lost"), "{said:?}");
    wait_until("nothing can be written", SOON, || {
        let tried = lab.try_shell("acme/web", "echo x > ~/x")?;
        ensure!(tried.code != 0, "it could be written");
        Ok(())
    })?;
    ensure!(lab.shell("acme/web", "cat ~/more")?.trim() == "more");
    lab.shell("acme/web", "rm ~/filler")?;
    wait_until("there is room", SOON, || lab.shell("acme/web", "echo y > ~/y").map(drop))?;
    ensure!(pid(&lab, "acme/web")? == web && pid(&lab, "beta/neighbour")? == neighbour);
    Ok(())
}

#[test]
fn memory_and_processors_change_while_it_runs() -> Result<()> {
    let lab = Lab::with_pool("2G")?;
    lab.create("acme/web", &["--session", "main"])?;
    let before = pid(&lab, "acme/web")?;
    // at once: whoever asked was answered when the node held it
    let held = |memory: u64, cpus: i64| -> Result<()> {
        let host = lab.container("acme/web")?["HostConfig"].clone();
        ensure!(host["Memory"] == memory && host["MemorySwap"] == memory, "{host}");
        ensure!(host["NanoCpus"] == cpus, "{host}");
        Ok(())
    };
    let resize = |arguments: &[&str]| {
        let mut all = vec!["workspace", "resize", "acme/web"];
        all.extend(arguments);
        lab.cluster.warren(&all)
    };
    resize(&["--memory", "512M", "--cpus", "0.5"])?;
    held(512 << 20, 500_000_000)?;
    // a program may take what it could not before
    lab.shell("acme/web", "head -c 300M /dev/zero | tail -c 300M | wc -c")?;
    let show = lab.cluster.workspace("acme/web")?;
    ensure!(show["spec"]["resources"]["reserve_bytes"] == 256_u64 << 20, "{show}");

    // what is held cannot be taken away: refused, and nothing dies
    let hold = "nohup python3 -c 'import time; x = bytearray(200 << 20); time.sleep(600)' \
                >/dev/null 2>&1 & echo started";
    lab.shell("acme/web", hold)?;
    wait_until("it is seen to hold it", SOON, || {
        let held = lab.cluster.workspace("acme/web")?["observed"]["usage"]["held_bytes"].clone();
        ensure!(held.as_u64().is_some_and(|held| held > 190 << 20), "{held}");
        Ok(())
    })?;
    let words = ["CAP_BELOW_USE", "cannot give back"];
    lab.cluster.refuses(
        &["workspace", "resize", "acme/web", "--memory", "128M", "-o", "json"],
        4,
        &words,
    )?;
    lab.shell("acme/web", "pgrep -f bytearray")?;
    lab.shell("acme/web", "pkill -f bytearray")?;
    wait_until("it is given back", SOON, || {
        resize(&["--memory", "256M", "--cpus", "0"]).map(drop)
    })?;
    let cores = std::thread::available_parallelism()?.get();
    held(256 << 20, i64::try_from(cores)? * 1_000_000_000)?;
    ensure!(pid(&lab, "acme/web")? == before, "it was started anew");

    // more than the node has: refused with what is free
    let words = ["NO_NODE_FITS", "is free"];
    lab.cluster.refuses(
        &["workspace", "resize", "acme/web", "--memory", "3T", "-o", "json"],
        4,
        &words,
    )?;
    // a stopped one starts with its new caps
    lab.cluster.warren(&["workspace", "stop", "acme/web"])?;
    resize(&["--memory", "384M", "--disk", "512M"])?;
    lab.cluster.warren(&["workspace", "start", "acme/web"])?;
    held(384 << 20, 0)?;
    ensure!(volume(&lab, "acme/web")?["limit_bytes"] == 512_u64 << 20);
    let audit = lab.cluster.warren(&["audit", "list", "--action", "workspace.resize"])?.stdout;
    ensure!(audit.contains("memory 256 MiB to 512 MiB"), "{audit}");
    Ok(())
}

#[test]
fn a_full_pool_stops_placement_grows_in_use_and_comes_back_after_a_reboot() -> Result<()> {
    let mut lab = Lab::with_pool("2G")?;
    lab.create("acme/web", &["--session", "main"])?;
    lab.shell("acme/web", "echo kept > ~/kept")?;
    let node = lab.cluster.nodes[0].folder().to_owned();
    let (mount, file) = (node.join("state/pool"), node.join("state/pool.btrfs"));
    let disk = |lab: &Lab| -> Result<u64> {
        let shown = lab.cluster.json(&["node", "show", "n1"])?;
        ensure!(shown["usage"]["pool"]["kind"] == "btrfs pool", "{shown}");
        shown["facts"]["disk_bytes"].as_u64().context("disk")
    };
    let before = disk(&lab)?;
    // somebody fills the pool itself, past every quota
    let filler = mount.join("filler");
    let of = format!("of={}", filler.display());
    Program::new("dd").args(["if=/dev/zero", &of, "bs=1M"]).run()?;
    wait_code(&lab, "E1202", true)?;
    let words = ["NO_NODE_FITS", "blocking finding"];
    let create =
        ["workspace", "create", "acme/late", "--memory", "64M", "--disk", "64M", "--no-queue"];
    lab.cluster.refuses(&[&create[..], &["-o", "json"]].concat(), 4, &words)?;
    ensure!(lab.shell("acme/web", "cat ~/kept")?.trim() == "kept");
    ensure!(lab.cluster.workspace("acme/web")?["status"] == "running");

    lab.cluster.nodes[0].command(&["pool", "grow", "--by", "1G"])?;
    wait_until("the node tells of it", LOOK, || {
        let now = disk(&lab)?;
        ensure!(now >= before + (900 << 20), "{before} and {now}");
        Ok(())
    })?;
    wait_code(&lab, "E1202", false)?;
    fs::remove_file(&filler)?;
    wait_until("it is placed", SOON, || lab.cluster.warren(&create).map(drop))?;
    let report = lab.cluster.nodes[0].command(&["pool", "show", "-o", "json"])?.json()?;
    ensure!(report["homes"].as_array().is_some_and(|homes| homes.len() == 2), "{report}");
    lab.cluster.nodes[0].command(&["pool", "check"])?;

    // the machine goes down: nothing runs, nothing is mounted, the boot is another
    lab.cluster.nodes[0].kill()?;
    let running = lab.engine.docker(&["ps", "-q"])?.stdout;
    for container in running.split_whitespace() {
        lab.engine.docker(&["kill", container])?;
    }
    run("umount", &[&mount.to_string_lossy()])?;
    // what a killed container had mounted goes with it, a moment later
    wait_until("no loop device is left", SOON, || {
        let loops = run("losetup", &["--noheadings", "--associated", &file.to_string_lossy()])?;
        ensure!(loops.is_empty(), "{loops}");
        Ok(())
    })?;
    lab.cluster.nodes[0].start()?;
    lab.cluster.wait_ready("n1")?;
    wait_until("it runs again", SOON, || {
        ensure!(lab.shell("acme/web", "cat ~/kept")?.trim() == "kept");
        Ok(())
    })?;
    // and a removed workspace leaves nothing in the pool
    lab.cluster.warren(&["workspace", "delete", "acme/late", "--yes"])?;
    let homes = fs::read_dir(mount.join("homes"))?.count();
    ensure!(homes == 1, "{homes} homes are left");
    Ok(())
}

#[test]
fn a_full_host_disk_stops_placement_and_nothing_else() -> Result<()> {
    let mut lab = Lab::with(|stage, node| {
        // the agent's state has a disk of its own, which can be filled without harm to others
        let (image, state) = (stage.root().join("state.ext4"), node.join("state"));
        let text = |path: &Path| path.to_string_lossy().into_owned();
        fs::create_dir_all(&state)?;
        run("fallocate", &["-l", "1600M", &text(&image)])?;
        run("mkfs.ext4", &["-q", "-m", "0", &text(&image)])?;
        run("mount", &["-o", "loop", &text(&image), &text(&state)])?;
        Ok("[volumes]\nkind = \"btrfs\"\nsize = \"1G\"\n".to_owned())
    })?;
    let small = ["workspace", "create", "acme/web", "--memory", "256M", "--disk", "256M"];
    lab.cluster.warren(&small)?;
    let before = pid(&lab, "acme/web")?;
    let state = lab.cluster.nodes[0].folder().join("state");
    ensure!(!codes(&lab)?.iter().any(|code| code == "E1204"), "it is full already");
    let of = format!("of={}", state.join("filler").display());
    Program::new("dd").args(["if=/dev/zero", &of, "bs=64k"]).run()?;
    let one = fs::write(state.join("more"), [0; 65_536]);
    ensure!(one.is_err(), "the disk is not full");
    let _ = fs::remove_file(state.join("more"));
    wait_code(&lab, "E1204", true)?;
    // homes have their blocks already
    lab.shell("acme/web", "dd if=/dev/zero of=~/big bs=1M count=100 && sync && rm ~/big")?;
    // the ledger goes on: orders are taken, kept and obeyed, also by an agent that begins now
    lab.cluster.warren(&["workspace", "restart", "acme/web"])?;
    ensure!(pid(&lab, "acme/web")? != before, "it was not restarted");
    lab.cluster.nodes[0].kill()?;
    lab.cluster.nodes[0].start()?;
    lab.cluster.wait_ready("n1")?;
    lab.cluster.warren(&["workspace", "stop", "acme/web"])?;
    lab.cluster.warren(&["workspace", "start", "acme/web"])?;
    lab.shell("acme/web", "true")?;
    let words = ["NO_NODE_FITS", "blocking finding"];
    let create =
        ["workspace", "create", "acme/late", "--memory", "64M", "--no-queue", "-o", "json"];
    lab.cluster.refuses(&create, 4, &words)?;
    fs::remove_file(state.join("filler"))?;
    wait_code(&lab, "E1204", false)?;
    lab.cluster.warren(&[
        "workspace",
        "create",
        "acme/late",
        "--memory",
        "64M",
        "--disk",
        "64M",
    ])?;
    Ok(())
}
