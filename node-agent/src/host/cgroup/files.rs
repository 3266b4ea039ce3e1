//! The cgroup files of one container, kept open to be read again and again, or read once.
//!
//! A kept file costs one `pread` per reading: no path is walked, nothing is allocated. Once the
//! container's cgroup is gone, reads fail, and whoever holds this drops it.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use warren_common::{Bytes, MilliCpus, measure::Pressure, status::Usage};

use super::Layout;

/// The longest of the files (`memory.stat` of version 2) has about 2 KiB.
const BUFFER: usize = 8 * 1024;
/// No cap, as version 1 writes it, rounded down to any size of page.
const UNLIMITED: u64 = i64::MAX as u64 - (1 << 20);

/// A buffer that all readings share.
#[derive(Debug)]
pub(crate) struct Buffer(Vec<u8>);

impl Default for Buffer {
    fn default() -> Self {
        Self(vec![0; BUFFER])
    }
}

impl Buffer {
    fn read<'a>(&'a mut self, file: &File) -> io::Result<&'a str> {
        let mut length = 0;
        while length < self.0.len() {
            match file.read_at(&mut self.0[length..], length as u64)? {
                0 => break,
                count => length += count,
            }
        }
        std::str::from_utf8(&self.0[..length])
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    fn number(&mut self, file: &File) -> io::Result<u64> {
        let text = self.read(file)?.trim();
        if text == "max" {
            return Ok(u64::MAX);
        }
        text.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Reads the value of one `key value` line; zero where there is none.
    fn keyed(&mut self, file: &File, key: &str) -> io::Result<u64> {
        let text = self.read(file)?;
        let value = text.lines().find_map(|line| {
            let (name, value) = line.split_once(' ')?;
            if name == key { value.trim().parse().ok() } else { None }
        });
        Ok(value.unwrap_or(0))
    }

    /// Calls `with` for each process of a `cgroup.procs`, at most `most` of them.
    pub(crate) fn pids(
        &mut self,
        file: &File,
        most: usize,
        mut with: impl FnMut(u32),
    ) -> io::Result<()> {
        // a list may be cut within a number by the buffer's end: the last part is no process then
        let text = self.read(file)?;
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().filter_map(|line| line.parse().ok()).take(most).for_each(&mut with);
        Ok(())
    }
}

/// The files of one container.
#[derive(Debug)]
pub(crate) struct Files {
    unified: bool,
    memory: File,
    /// Of version 1 memory and swap together; none where swap is not counted.
    swap: Option<File>,
    stat: File,
    cap: Option<File>,
    kills: File,
    pids: Option<File>,
    cpu: Option<File>,
    pressure: Option<File>,
    /// The processes of the container.
    pub(crate) procs: File,
    /// The container's cgroup below the root of its tree, for people.
    pub(crate) path: String,
    last_cpu: Option<(u64, Instant)>,
}

impl Files {
    /// Opens the files of the container whose PID 1 this is.
    pub(crate) fn open(layout: &Layout, pid: u32, container: &str) -> io::Result<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
        Self::open_of(layout, &groups, container)
    }

    pub(crate) fn open_of(layout: &Layout, groups: &str, container: &str) -> io::Result<Self> {
        let memory = layout.folder(groups, "memory")?;
        if container.is_empty() || !memory.to_string_lossy().contains(container) {
            let other = "the process is not of this container";
            return Err(io::Error::new(io::ErrorKind::NotFound, other));
        }
        let unified = layout.version == 2;
        let root = layout.root("memory").map(Path::to_owned).unwrap_or_default();
        let path = Path::new("/").join(memory.strip_prefix(root).unwrap_or(&memory));
        let folder = |controller| layout.folder(groups, controller);
        let within = |controller, file: &str| -> Option<File> {
            let path: PathBuf = folder(controller).ok()?.join(file);
            File::open(path).ok()
        };
        let of = |one: &'static str, other: &'static str| if unified { other } else { one };
        let must = |file: &str| File::open(memory.join(file));
        Ok(Self {
            unified,
            memory: must(of("memory.usage_in_bytes", "memory.current"))?,
            swap: must(of("memory.memsw.usage_in_bytes", "memory.swap.current")).ok(),
            stat: must("memory.stat")?,
            cap: must(of("memory.limit_in_bytes", "memory.max")).ok(),
            kills: must(of("memory.oom_control", "memory.events"))?,
            pids: within("pids", "pids.current"),
            cpu: within("cpuacct", of("cpuacct.usage", "cpu.stat")),
            pressure: must("memory.pressure").ok(),
            procs: must("cgroup.procs")?,
            path: path.to_string_lossy().into_owned(),
            last_cpu: None,
        })
    }

    /// Reads how many processes were killed for memory since the container was made.
    pub(crate) fn kills(&self, buffer: &mut Buffer) -> io::Result<u64> {
        buffer.keyed(&self.kills, "oom_kill")
    }

    /// Reads the memory charged now, and the cap.
    pub(crate) fn memory(&self, buffer: &mut Buffer) -> io::Result<(Bytes, Bytes)> {
        let cap = self.cap.as_ref().map(|file| buffer.number(file)).transpose()?.unwrap_or(0);
        let cap = if cap >= UNLIMITED { 0 } else { cap };
        Ok((Bytes(buffer.number(&self.memory)?), Bytes(cap)))
    }

    /// Reads everything but the network.
    pub(crate) fn usage(&mut self, buffer: &mut Buffer) -> io::Result<Usage> {
        let (memory, memory_cap) = self.memory(buffer)?;
        let swap = match &self.swap {
            Some(file) => buffer.number(file)?,
            None => 0,
        };
        let swap = match self.unified {
            true => Bytes(swap),
            false => Bytes(swap).minus(memory),
        };
        let idle = if self.unified { "inactive_file" } else { "total_inactive_file" };
        let idle = Bytes(buffer.keyed(&self.stat, idle)?);
        // shared memory counts as cache and is none; older kernels do not tell it
        let (cache, shared) =
            if self.unified { ("file", "shmem") } else { ("total_cache", "total_shmem") };
        let mut part = |key| buffer.keyed(&self.stat, key).unwrap_or(0);
        let cached = Bytes(part(cache)).minus(Bytes(part(shared)));
        let pids = self.pids.as_ref().and_then(|file| buffer.number(file).ok()).unwrap_or(0);
        let micros = match &self.cpu {
            Some(file) if self.unified => buffer.keyed(file, "usage_usec")?,
            Some(file) => buffer.number(file)? / 1000,
            None => 0,
        };
        let pressure = match &self.pressure {
            Some(file) => buffer.read(file).map(Pressure::parse).unwrap_or_default(),
            None => Pressure::default(),
        };
        Ok(Usage {
            memory,
            swap,
            pids: u32::try_from(pids).unwrap_or(u32::MAX),
            cpu_ms: micros / 1000,
            oom_kills: self.kills(buffer)?,
            working_set: memory.minus(idle),
            held: memory.minus(cached),
            memory_cap,
            cpu: self.rate(micros, Instant::now()),
            received: Bytes(0),
            sent: Bytes(0),
            pressure,
        })
    }

    /// Turns two readings of the processor's time into a rate; nothing after the first.
    fn rate(&mut self, micros: u64, now: Instant) -> MilliCpus {
        let before = self.last_cpu.replace((micros, now));
        let Some((used, at)) = before else { return MilliCpus(0) };
        let passed = now.duration_since(at).as_micros();
        let used = u128::from(micros.saturating_sub(used));
        let milli = used.saturating_mul(1000).checked_div(passed).unwrap_or(0);
        MilliCpus(u32::try_from(milli).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn write(folder: &Path, files: &[(&str, &str)]) {
        fs::create_dir_all(folder).expect("folder");
        for (name, text) in files {
            fs::write(folder.join(name), text).expect("file");
        }
    }

    #[test]
    fn version_1_is_read_from_files_that_stay_open() {
        let root = tempfile::tempdir().expect("folder");
        let of = |controller: &str| root.path().join(controller).join("warren-n1/w/abc");
        write(
            &of("memory"),
            &[
                ("memory.usage_in_bytes", "1000\n"),
                ("memory.memsw.usage_in_bytes", "1500\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                (
                    "memory.stat",
                    "cache 9\ninactive_file 7\ntotal_inactive_file 300\ntotal_cache 400\n\
                     total_rss 600\ntotal_shmem 100\n",
                ),
                ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
                ("cgroup.procs", "11\n12\n4711\n"),
            ],
        );
        write(&of("pids"), &[("pids.current", "7\n")]);
        write(&of("cpuacct"), &[("cpuacct.usage", "2500000000\n")]);
        let line =
            |name: &str| format!("none {}/{name} cgroup rw,{name} 0 0\n", root.path().display());
        let mounts = ["memory", "pids", "cpuacct"].map(line).concat();
        let layout = Layout::parse(&mounts, |_| String::new());
        let groups = "4:memory:/warren-n1/w/abc\n3:cpuacct:/warren-n1/w/abc\n\
                      2:pids:/warren-n1/w/abc\n";
        let mut files = Files::open_of(&layout, groups, "abc").expect("opened");
        assert_eq!(files.path, "/warren-n1/w/abc");
        let mut buffer = Buffer::default();
        let usage = files.usage(&mut buffer).expect("usage");
        let wanted = Usage {
            memory: Bytes(1000),
            swap: Bytes(500),
            pids: 7,
            cpu_ms: 2500,
            oom_kills: 3,
            working_set: Bytes(700),
            held: Bytes(700),
            ..Usage::default()
        };
        assert_eq!(usage, wanted);
        write(&of("memory"), &[("memory.limit_in_bytes", "268435456\n")]);
        assert_eq!(files.memory(&mut buffer).expect("read"), (Bytes(1000), Bytes::mib(256)));
        let mut pids = Vec::new();
        buffer.pids(&files.procs, 2, |pid| pids.push(pid)).expect("read");
        assert_eq!(pids, [11, 12], "bounded");
        assert!(Files::open_of(&layout, groups, "other").is_err(), "a pid that was given away");
        assert!(Files::open_of(&layout, groups, "").is_err());
    }

    #[test]
    fn version_2_is_read_from_one_folder_with_its_pressure() {
        let root = tempfile::tempdir().expect("folder");
        let slice = "warren.slice/warren-n1.slice/warren-n1-w.slice/docker-abc.scope";
        write(
            &root.path().join(slice),
            &[
                ("memory.current", "2000\n"),
                ("memory.swap.current", "10\n"),
                ("memory.max", "max\n"),
                ("memory.stat", "anon 1400\ninactive_file 500\nfile 500\nshmem 100\n"),
                ("memory.events", "low 0\nmax 4\noom 2\noom_kill 1\noom_group_kill 9\n"),
                ("memory.pressure", "some avg10=1.50 avg60=0.00 avg300=0.00 total=0\n"),
                ("cpu.stat", "usage_usec 5000\nuser_usec 1\n"),
                ("pids.current", "2\n"),
                ("cgroup.procs", "11\n"),
            ],
        );
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", root.path().display());
        let layout = Layout::parse(&mounts, |_| "cpu io memory pids\n".to_owned());
        let mut files = Files::open_of(&layout, &format!("0::/{slice}\n"), "abc").expect("opened");
        let usage = files.usage(&mut Buffer::default()).expect("usage");
        let wanted = Usage {
            memory: Bytes(2000),
            swap: Bytes(10),
            pids: 2,
            cpu_ms: 5,
            oom_kills: 1,
            working_set: Bytes(1500),
            held: Bytes(1600),
            pressure: Pressure { some_10: 15, ..Pressure::default() },
            ..Usage::default()
        };
        assert_eq!(usage, wanted);
        let begun = Instant::now();
        files.last_cpu = None;
        assert_eq!(files.rate(0, begun), MilliCpus(0), "nothing to compare with");
        assert_eq!(files.rate(1_500_000, begun + Duration::from_secs(1)), MilliCpus(1500));
    }
}
