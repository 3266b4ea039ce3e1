//! What a person does to a pool: look at it, grow it, check it. All of it works while the agent
//! runs and homes are in use.

use std::{fmt, path::PathBuf, sync::PoisonError};

use serde::Serialize;
use uuid::Uuid;
use warren_common::{Bytes, WorkspaceId, status::Finding};

use super::{
    BtrfsStore, Opened, VolumeError, homes,
    mounts::loops_of,
    program::{LONG, run},
    site::{self, Place},
};
use crate::{
    host::capacity,
    leave::Homes,
    volume::{choose, files::at},
};

/// A pool as it is.
#[derive(Debug, Serialize)]
pub struct Report {
    /// `btrfs pool` or `btrfs folder`.
    pub kind: &'static str,
    /// Its file or folder.
    pub path: PathBuf,
    /// Where it is mounted.
    pub mount: PathBuf,
    /// Its filesystem.
    pub uuid: Uuid,
    /// What homes can take in all.
    pub size_bytes: u64,
    /// What is taken.
    pub used_bytes: u64,
    /// What is left.
    pub available_bytes: u64,
    /// By workspace.
    pub homes: Vec<Home>,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
}

/// What one workspace takes of a pool.
#[derive(Debug, Serialize)]
pub struct Home {
    /// Whose it is.
    pub workspace: WorkspaceId,
    /// What home, `/tmp` and snapshots take.
    pub used_bytes: u64,
    /// How much that may be; none where no quota is set, which the agent mends.
    pub limit_bytes: Option<u64>,
}

/// How far a pool is to grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Growth {
    /// By this much.
    By(Bytes),
    /// To this size; nothing happens where it is that large.
    To(Bytes),
}

/// What growing did: the file's length before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Grown {
    /// Before.
    pub from_bytes: u64,
    /// After.
    pub to_bytes: u64,
}

/// One thing that was checked.
#[derive(Debug, Clone, Serialize)]
pub struct Check {
    /// A stable name: `file`, `mount`, `quotas`, `homes`, `errors`, `scrub`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen.
    pub seen: String,
    /// What to do where it is not.
    pub next: Option<String>,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.ok { "ok" } else { "BAD" };
        write!(f, "{word:<4} {:<7} {}", self.name, self.seen)?;
        match &self.next {
            Some(next) => write!(f, "\n     next: {next}"),
            None => Ok(()),
        }
    }
}

impl BtrfsStore {
    /// Returns the pool as it is, made and mounted where it is not.
    ///
    /// # Errors
    /// It cannot be used.
    pub fn report(&self) -> Result<Report, VolumeError> {
        let (opened, seen) = (self.shared.opened()?, self.shared.seen()?);
        let mut found = Vec::new();
        for (workspace, group) in homes::owned(&opened)? {
            let row = opened.groups.get(group)?.unwrap_or_default();
            found.push(Home {
                workspace,
                used_bytes: row.referenced.0,
                limit_bytes: row.limit.map(|limit| limit.0),
            });
        }
        Ok(Report {
            kind: seen.kind.as_str(),
            path: seen.path,
            mount: self.shared.site.mount.clone(),
            uuid: opened.uuid,
            size_bytes: seen.size.0,
            used_bytes: seen.used.0,
            available_bytes: seen.available.0,
            homes: found,
            findings: seen.findings,
        })
    }

    /// Unmounts the pool and says where homes are then; a pool that is not mounted is fine.
    ///
    /// # Errors
    /// Somebody is in it.
    pub fn close(&self) -> Result<Homes, VolumeError> {
        let site = &self.shared.site;
        let _lock = site.lock()?;
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.opened = None;
        while site.mounted()?.is_some() {
            run("umount", &[&site.mount], LONG)?;
        }
        Ok(match &site.place {
            Place::Loop { file, .. } => Homes::Pool(file.clone()),
            Place::Folder(folder) => Homes::Folder(folder.join("homes")),
        })
    }

    /// Grows the pool while it is in use. Each step can be taken again: what was interrupted is
    /// finished by the same call, or by the agent's next start.
    ///
    /// # Errors
    /// It is no file of its own, would shrink, or the host has no room for it.
    pub fn grow(&self, growth: Growth) -> Result<Grown, VolumeError> {
        self.shared.opened()?;
        let refused = |what: String, next: &str| VolumeError::Pool { what, next: next.to_owned() };
        let Place::Loop { file, .. } = &self.shared.site.place else {
            let path = self.shared.site.place.path().display();
            return Err(refused(
                format!("{path} is a folder of a filesystem that is not the agent's"),
                "grow that filesystem itself: add a device, or enlarge its own",
            ));
        };
        let _lock = self.shared.site.lock()?;
        let from = Bytes(std::fs::metadata(file).map_err(at("look at", file))?.len());
        let to = match growth {
            Growth::By(more) => from.plus(more),
            Growth::To(size) => size,
        };
        let to = Bytes(to.0 - to.0 % Bytes::MIB);
        if to < from {
            return Err(refused(
                format!("the pool has {from} and would shrink to {to}: pools only grow"),
                "name a larger size, or lower the disk of workspaces: warren workspace resize",
            ));
        }
        let folder = file.parent().unwrap_or(file);
        let disk = capacity::disk(folder).map_err(at("measure", folder))?;
        let more = to.minus(from);
        if more > Bytes(0) && choose::leaves_full(disk, more) {
            let free = disk.available;
            return Err(refused(
                format!("{more} more would fill the host's disk, which has {free} free"),
                "free space on the host's disk, or name a smaller size",
            ));
        }
        site::filled(file, to)?;
        self.shared.site.stretch(file)?;
        Ok(Grown { from_bytes: from.0, to_bytes: to.0 })
    }

    /// Checks the pool; with `scrub` every block of it is read and held against its checksum, which
    /// takes as long as reading it all.
    ///
    /// # Errors
    /// It cannot be used at all; what is wrong beyond that is in the checks.
    pub fn check(&self, scrub: bool) -> Result<Vec<Check>, VolumeError> {
        let opened = self.shared.opened()?;
        let mut checks = Vec::new();
        if let Place::Loop { file, .. } = &self.shared.site.place {
            let holes = site::holes(file).map_err(at("look at", file))?;
            let devices = loops_of(file).map_err(at("look at", file))?;
            let single = devices.len() == 1;
            checks.push(Check {
                name: "file",
                ok: holes <= Bytes::mib(1) && single,
                seen: format!("{}, {holes} of holes, on {}", file.display(), devices.join(", ")),
                next: (!single).then(|| {
                    "stop the workspaces and unmount: two devices of one file destroy it".to_owned()
                }),
            });
        }
        checks.push(self.mount_check()?);
        let consistent = opened.groups.consistent();
        checks.push(Check {
            name: "quotas",
            ok: consistent,
            seen: if consistent { "on, and counted" } else { "being counted anew" }.to_owned(),
            next: (!consistent).then(|| "look again in some minutes".to_owned()),
        });
        checks.push(homes_check(&opened)?);
        checks.push(errors_check(&opened)?);
        if scrub {
            checks.push(scrub_check(&opened)?);
        }
        Ok(checks)
    }

    fn mount_check(&self) -> Result<Check, VolumeError> {
        let mounted = self.shared.site.mounted()?;
        let writable = mounted.as_ref().is_some_and(|mounted| !mounted.read_only);
        let safe = mounted.as_ref().is_some_and(|mounted| !mounted.open);
        let how = mounted.map_or_else(
            || "not mounted".to_owned(),
            |mounted| {
                let access = if mounted.read_only { "read-only" } else { "read-write" };
                let flags = if mounted.open { "without nosuid,nodev" } else { "nosuid,nodev" };
                format!("{}, {access}, {flags}", mounted.source)
            },
        );
        let at = self.shared.site.mount.display();
        Ok(Check {
            name: "mount",
            ok: writable && safe,
            seen: format!("{at}: {how}"),
            next: (!(writable && safe))
                .then(|| format!("stop the workspaces, umount {at}, and restart the agent")),
        })
    }
}

/// Whether each home has its quota, and each subvolume is in it.
fn homes_check(opened: &Opened) -> Result<Check, VolumeError> {
    let owned = homes::owned(opened)?;
    let mut bad = Vec::new();
    for (workspace, group) in &owned {
        let limited = opened.groups.get(*group)?.is_some_and(|row| row.limit.is_some());
        if !limited {
            bad.push(workspace.to_string());
        }
    }
    let next = "restart the agent: it puts quotas right at its start".to_owned();
    Ok(Check {
        name: "homes",
        ok: bad.is_empty(),
        seen: match bad.len() {
            0 => format!("{} with a quota each", owned.len()),
            some => format!("{some} of {} without a quota: {}", owned.len(), bad.join(", ")),
        },
        next: (!bad.is_empty()).then_some(next),
    })
}

/// What the filesystem counted of reads and writes that failed, since it was made.
fn errors_check(opened: &Opened) -> Result<Check, VolumeError> {
    let told = run("btrfs", &[&"device", &"stats", &opened.mount()], LONG)?;
    let count = |line: &str| line.split_whitespace().last().and_then(|last| last.parse().ok());
    let counted: Vec<u64> = told.lines().filter_map(count).collect();
    let sum: u64 = counted.iter().sum();
    Ok(Check {
        name: "errors",
        ok: sum == 0 && !counted.is_empty(),
        seen: format!("{sum} reads and writes failed since the pool was made"),
        next: (sum > 0).then(|| {
            "look at the host's disk; then pool check --scrub finds what is lost".to_owned()
        }),
    })
}

fn scrub_check(opened: &Opened) -> Result<Check, VolumeError> {
    // reading a large pool takes hours, and whoever asked for it waits
    let within = std::time::Duration::from_secs(48 * 3600);
    let outcome = run("btrfs", &[&"scrub", &"start", &"-B", &opened.mount()], within);
    let (ok, seen) = match outcome {
        Ok(told) => {
            let summary = told.lines().find_map(|line| line.trim().strip_prefix("Error summary:"));
            let summary = summary.unwrap_or("no summary").trim().to_owned();
            (summary == "no errors found", summary)
        }
        Err(VolumeError::Program { said, .. }) => (false, said),
        Err(other) => return Err(other),
    };
    Ok(Check {
        name: "scrub",
        ok,
        seen,
        next: (!ok).then(|| "the kernel log names the files; restore them".to_owned()),
    })
}
