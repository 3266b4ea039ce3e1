//! Claude Code's own record of what it does: `~/.claude/sessions/<pid>.json`.
//!
//! It is not documented, outlives its process and comes from the home volume: a record counts only
//! where its process lives and began when the record says.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
use serde::Deserialize;
use tokio::{net::unix::pipe::Receiver, time::sleep};
use warren_common::{
    Timestamp,
    agent::{Registry, RegistryStatus},
};

use super::tree::Life;
use crate::files;

/// Where the records are, below the home.
pub(super) const FOLDER: &str = ".claude/sessions";
/// One record, at most.
const RECORD_BYTES: usize = 64 * 1024;

/// Between two wake-ups by the folder, however often it changes.
const PAUSE: Duration = Duration::from_millis(50);
/// What one wake-up takes of the events that led to it.
const EVENTS_BYTES: usize = 4096;

/// A file's stamp of this age will not stand for another change.
const TICK: Duration = Duration::from_millis(100);

/// Wakes at changes of the records; where the kernel cannot watch them, looks have to do.
#[derive(Debug)]
pub(super) struct Watch {
    folder: PathBuf,
    /// The kernel's queue, and its number for the folder.
    queue: Option<(Receiver, i32)>,
}

impl Watch {
    /// Returns one that watches nothing yet.
    pub(super) const fn new(folder: PathBuf) -> Self {
        Self { folder, queue: None }
    }

    /// Watches the folder where it is there by now, or another one in its place.
    pub(super) fn renew(&mut self) {
        let number = self.queue.as_ref().map(|(queue, _)| self.add(queue));
        match (number, &self.queue) {
            (Some(Some(number)), Some((_, known))) if number == *known => return,
            // a folder that is not there yet is looked for again later
            (None, None) if !self.folder.is_dir() => return,
            _ => {}
        }
        self.queue = None;
        let queue = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).ok();
        // it is no pipe, and is read as one
        let queue = queue.and_then(|queue| Receiver::from_owned_fd_unchecked(queue).ok());
        self.queue = queue.and_then(|queue| {
            let number = self.add(&queue)?;
            Some((queue, number))
        });
    }

    fn add(&self, queue: &Receiver) -> Option<i32> {
        let news = WatchFlags::MODIFY | WatchFlags::CLOSE_WRITE | WatchFlags::MOVED_TO;
        add_watch(queue, &self.folder, news | WatchFlags::ONLYDIR).ok()
    }

    /// Waits for a change. Cancel safe: one that was missed shows at the next look.
    pub(super) async fn changed(&mut self) {
        let Some((queue, _)) = &self.queue else { return std::future::pending().await };
        if queue.readable().await.is_err() {
            return std::future::pending().await;
        }
        // what the events say does not matter
        let _ = queue.try_read(&mut [0; EVENTS_BYTES]);
        sleep(PAUSE).await;
    }
}

/// What was read of one process's record last.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    read: Option<(SystemTime, u64)>,
    told: Option<(Timestamp, Registry)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    pid: u32,
    proc_start: String,
    status: String,
    #[serde(default)]
    waiting_for: Option<String>,
    status_updated_at: u64,
}

impl Record {
    /// Returns what the record of this process says and when it said so, where that is news.
    pub(super) fn news(&mut self, folder: &Path, life: Life) -> Option<(Timestamp, Registry)> {
        let path = folder.join(format!("{}.json", life.pid));
        let file = fs::symlink_metadata(&path).ok()?;
        let changed = file.modified().ok()?;
        let read = (changed, file.len());
        if self.read == Some(read) {
            return None;
        }
        // half of it is there while it is written: the next change or look brings the rest
        let told = parse(&files::read(&path, RECORD_BYTES)?, life)?;
        // two changes in one tick of the clock look like one
        if changed.elapsed().is_ok_and(|age| age > TICK) {
            self.read = Some(read);
        }
        if self.told.as_ref() == Some(&told) {
            return None;
        }
        self.told = Some(told.clone());
        Some(told)
    }
}

fn parse(bytes: &[u8], life: Life) -> Option<(Timestamp, Registry)> {
    let told: Told = serde_json::from_slice(bytes).ok()?;
    let status = match told.status.as_str() {
        "busy" => RegistryStatus::Busy,
        "idle" => RegistryStatus::Idle,
        "waiting" => RegistryStatus::Waiting,
        "shell" => RegistryStatus::Shell,
        _ => return None,
    };
    let live = told.pid == life.pid && told.proc_start == life.start.to_string();
    let waiting_for = told.waiting_for.unwrap_or_default();
    Some((Timestamp(told.status_updated_at), Registry { status, waiting_for, live }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Life = Life { pid: 41, start: 900 };

    fn record(pid: u32, start: u64, status: &str) -> String {
        format!(
            r#"{{"pid":{pid},"sessionId":"s","procStart":"{start}","kind":"interactive",
            "status":"{status}","updatedAt":9,"statusUpdatedAt":7000,"waitingFor":"input needed"}}"#
        )
    }

    #[test]
    fn a_record_counts_for_its_own_process_alone() {
        let parse = |text: String| parse(text.as_bytes(), LIFE);
        let (at, told) = parse(record(41, 900, "waiting")).expect("a record");
        assert_eq!((at, told.status, told.live), (Timestamp(7000), RegistryStatus::Waiting, true));
        assert_eq!(told.waiting_for, "input needed");
        assert!(!parse(record(41, 901, "idle")).expect("a record").1.live);
        assert!(!parse(record(42, 900, "idle")).expect("a record").1.live);
        assert_eq!(parse(record(41, 900, "dreaming")), None);
        let whole = record(41, 900, "idle");
        assert_eq!(parse(whole[..whole.len() - 5].to_owned()), None);
    }

    #[test]
    fn only_news_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("41.json");
        let mut seen = Record::default();
        assert_eq!(seen.news(folder.path(), LIFE), None);
        fs::write(&path, "{").expect("a file");
        assert_eq!(seen.news(folder.path(), LIFE), None);
        fs::write(&path, record(41, 900, "idle")).expect("a file");
        assert!(seen.news(folder.path(), LIFE).is_some());
        assert_eq!(seen.news(folder.path(), LIFE), None);
        fs::write(&path, record(41, 900, "waiting")).expect("a file");
        assert!(seen.news(folder.path(), LIFE).is_some());
        fs::remove_file(&path).expect("it was there");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        assert_eq!(seen.news(folder.path(), LIFE), None);
    }
}
