//! The node's own swap file: there when it is configured, gone when it is not, refused with its
//! reason where it cannot work.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::Result;
use warren_tests::{Cluster, Program, Stage, wait_until};

const SOON: Duration = Duration::from_secs(30);
/// More than a tenth is left of it beside the swap file.
const DISK: &str = "256M";

/// A filesystem in a file.
struct Disk {
    folder: PathBuf,
}

impl Disk {
    fn new(stage: &Stage, kind: &str, options: &str) -> Result<Self> {
        let number = fs::read_dir(stage.root())?.count();
        let file = stage.root().join(format!("{kind}-{number}.disk"));
        let folder = stage.folder(&format!("{kind}-{number}"))?;
        run("truncate", &["-s", DISK, &file.to_string_lossy()])?;
        run(&format!("mkfs.{kind}"), &["-q", &file.to_string_lossy()])?;
        let options = format!("loop,{options}");
        run("mount", &["-o", &options, &file.to_string_lossy(), &folder.to_string_lossy()])?;
        Ok(Self { folder })
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let swap = self.folder.join("swapfile");
        if is_on(&swap) {
            run("swapoff", &[&swap.to_string_lossy()]).ok();
        }
        if let Err(error) = run("umount", &[&self.folder.to_string_lossy()]) {
            eprintln!("{error:#}");
        }
    }
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    Program::new(program).args(arguments).run()?.success().map(drop)
}

fn is_on(file: &Path) -> bool {
    let swaps = fs::read_to_string("/proc/swaps").unwrap_or_default();
    swaps.lines().any(|line| line.starts_with(&*file.to_string_lossy()))
}

fn configured(file: &Path, size: &str) -> String {
    format!(
        "kind = \"fake\"\n[swap]\nsize = \"{size}\"\nfile = \"{}\"\npriority = 7\n",
        file.display()
    )
}

#[test]
fn a_swap_file_comes_and_goes_as_configured_and_is_refused_where_it_cannot_work() -> Result<()> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    for (number, kind) in ["ext4", "btrfs"].into_iter().enumerate() {
        let disk = Disk::new(&stage, kind, "defaults")?;
        let file = disk.folder.join("swapfile");
        cluster.add_node(&format!("n{number}"), None, &configured(&file, "64M"))?;
        wait_until("swap is on", SOON, || {
            anyhow::ensure!(is_on(&file), "it is not in /proc/swaps");
            Ok(())
        })?;
        let swaps = fs::read_to_string("/proc/swaps")?;
        let line = swaps.lines().find(|line| line.contains(&*file.to_string_lossy()));
        anyhow::ensure!(line.is_some_and(|line| line.trim_end().ends_with('7')), "{swaps}");
        // another size is another file; none is none
        for (size, on) in [("32M", true), ("0", false)] {
            let node = cluster.nodes.last_mut().expect("just added");
            let config = node.folder().join("node-agent.toml");
            let text = fs::read_to_string(&config)?;
            let before = text.lines().find(|line| line.starts_with("size = ")).expect("a size");
            fs::write(&config, text.replace(before, &format!("size = \"{size}\"")))?;
            node.kill()?;
            node.start()?;
            wait_until("swap follows its configuration", SOON, || {
                let held = fs::metadata(&file).map(|file| file.len() >> 20).unwrap_or(0);
                let wanted = if on { 32 } else { 0 };
                anyhow::ensure!(is_on(&file) == on && held == wanted, "{held} MiB, on: {on}");
                Ok(())
            })?;
        }
        cluster.nodes.last_mut().expect("there").kill()?;
    }
    let disk = Disk::new(&stage, "btrfs", "compress-force=zstd,datacow")?;
    for (number, file, why) in [
        (2, PathBuf::from("/dev/shm").join(stage.prefix()), "tmpfs, which is memory itself"),
        (3, disk.folder.join("too-large"), "would leave less than a tenth of its disk"),
    ] {
        let name = format!("n{number}");
        cluster.add_node(&name, None, &configured(&file, "250M"))?;
        wait_until("the refusal is a finding", SOON, || {
            let shown = cluster.warren(&["node", "show", &name])?.stdout;
            anyhow::ensure!(shown.contains("W1111") && shown.contains(why), "{shown}");
            Ok(())
        })?;
        anyhow::ensure!(!file.exists() && !is_on(&file), "something was left");
    }
    Ok(())
}
