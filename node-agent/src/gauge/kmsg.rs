//! What the kernel's log says of processes it killed for memory.
//!
//! `/dev/kmsg` gives one record per read: `level,sequence,time,flags;text`. Only records of the
//! kernel itself count: a program may write into the log too, under another facility. Names of
//! processes are chosen by whoever runs them, so each line is read from its fixed parts inwards.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
};

use rustix::fs::OFlags;
use tokio::io::{Interest, unix::AsyncFd};

/// The longest record that the kernel gives.
const RECORD: usize = 8 * 1024;
/// Of the level that a record begins with: the facility above, the severity below.
const FACILITY_SHIFT: u32 = 3;

/// One thing that the kernel said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Said {
    /// It is about to choose a process: whoever looks now may still see all of them.
    Choosing,
    /// It chose this one.
    Chosen {
        /// Its cgroup.
        cgroup: String,
        /// Its name, at most 15 bytes.
        name: String,
        /// On the host.
        pid: u32,
    },
    /// It killed this one; said too where the longer line is withheld, since there were many.
    Killed {
        /// Its name.
        name: String,
        /// On the host.
        pid: u32,
    },
}

/// The kernel's log from now on.
#[derive(Debug)]
pub(super) struct KernelLog {
    file: AsyncFd<File>,
    buffer: Vec<u8>,
}

impl KernelLog {
    /// Opens the log behind its newest record.
    ///
    /// # Errors
    /// Where it is not there or not to be read, as in most containers.
    pub(super) fn open() -> io::Result<Self> {
        let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
        let mut file = OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; the file is owned and never replaced"
        )]
        let file = AsyncFd::with_interest(file, Interest::READABLE)?;
        Ok(Self { file, buffer: vec![0; RECORD] })
    }

    /// Waits for the next thing said about killing. Cancel safe.
    ///
    /// # Errors
    /// The log cannot be read any more.
    pub(super) async fn next(&mut self) -> io::Result<Said> {
        loop {
            let mut ready = self.file.readable().await?;
            let buffer = &mut self.buffer;
            match ready.try_io(|file| file.get_ref().read(buffer)) {
                Ok(Ok(0)) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(Ok(length)) => {
                    let record = String::from_utf8_lossy(&self.buffer[..length]);
                    if let Some(said) = parse(&record) {
                        return Ok(said);
                    }
                }
                // records were overwritten before they were read: the next one is there
                Ok(Err(error)) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_) => {}
            }
        }
    }
}

/// Reads one record; none where it is not about killing, or not the kernel's.
fn parse(record: &str) -> Option<Said> {
    let (head, text) = record.split_once(';')?;
    let level: u32 = head.split(',').next()?.parse().ok()?;
    if level >> FACILITY_SHIFT != 0 {
        return None;
    }
    // what follows the first line are keys of devices
    let text = text.lines().next()?;
    if let Some(facts) = text.strip_prefix("oom-kill:") {
        return chosen(facts);
    }
    if text.contains(" invoked oom-killer: ") {
        return Some(Said::Choosing);
    }
    let (_, rest) = text.split_once("illed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let end = rest.rfind(") total-vm:")?;
    Some(Said::Killed { name: rest[..end].to_owned(), pid: pid.parse().ok()? })
}

/// `…,task_memcg=/warren-n1/w/4f1c,task=node,pid=4711,uid=1000`
fn chosen(facts: &str) -> Option<Said> {
    let (_, rest) = facts.split_once("task_memcg=")?;
    // no cgroup of ours has a comma in its name; a process may
    let (cgroup, rest) = rest.split_once(",task=")?;
    let (rest, _) = rest.rsplit_once(",uid=")?;
    let (name, pid) = rest.rsplit_once(",pid=")?;
    Some(Said::Chosen { cgroup: cgroup.to_owned(), name: name.to_owned(), pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(cgroup: &str, name: &str, pid: u32) -> Option<Said> {
        Some(Said::Chosen { cgroup: cgroup.to_owned(), name: name.to_owned(), pid })
    }

    #[test]
    fn the_kernels_lines_are_read() {
        let line = "6,512,2345694833,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),\
                    cpuset=4f1c,mems_allowed=0,oom_memcg=/warren-n1/w,\
                    task_memcg=/warren-n1/w/4f1c,task=tail,pid=4711,uid=1000\n";
        assert_eq!(parse(line), chosen("/warren-n1/w/4f1c", "tail", 4711));
        let line = "3,513,1,-;Memory cgroup out of memory: Killed process 4711 (tail) \
                    total-vm:259984kB, anon-rss:258048kB, file-rss:0kB, UID:1000\n SUBSYSTEM=x\n";
        assert_eq!(parse(line), Some(Said::Killed { name: "tail".to_owned(), pid: 4711 }));
        let line = "4,511,1,-;tail invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0\n";
        assert_eq!(parse(line), Some(Said::Choosing));
        for other in ["6,1,1,-;br0: port 2(p2) entered disabled state\n", "", "nonsense"] {
            assert_eq!(parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_name_that_looks_like_the_rest_of_the_line_forges_nothing() {
        let line = "6,1,1,-;oom-kill:x,task_memcg=/w/4f1c,task=a,pid=1,uid=0,pid=4711,uid=1000\n";
        assert_eq!(parse(line), chosen("/w/4f1c", "a,pid=1,uid=0", 4711));
        let line = "3,1,1,-;Out of memory: Killed process 4711 (a) total-vm:1) total-vm:2kB\n";
        let killed = Said::Killed { name: "a) total-vm:1".to_owned(), pid: 4711 };
        assert_eq!(parse(line), Some(killed));
    }

    #[test]
    fn what_programs_write_into_the_log_is_not_the_kernels() {
        let line = "14,1,1,-;oom-kill:x,task_memcg=/w/4f1c,task=init,pid=1,uid=0\n";
        assert_eq!(parse(line), None);
    }
}
