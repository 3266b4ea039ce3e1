//! Laws of counting and naming, over files that the test writes in place of the kernel.

use std::{fs, time::Duration};

use super::*;
use crate::host::cgroup::Layout;

const ID: &str = "4f1c";

/// A workspace whose container is a folder of files that the test writes.
struct World {
    folder: tempfile::TempDir,
    subject: Subject,
    buffer: Buffer,
}

impl World {
    fn new(kills: u64) -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let write = |file: &str, text: &str| {
            fs::write(folder.path().join("w/4f1c").join(file), text).expect("file");
        };
        fs::create_dir_all(folder.path().join("w/4f1c")).expect("folder");
        write("memory.current", "1000\n");
        write("memory.max", "268435456\n");
        write("memory.stat", "inactive_file 0\n");
        write("memory.events", &format!("oom_kill {kills}\n"));
        write("cgroup.procs", "");
        let mounts = format!("cgroup2 {} cgroup2 rw 0 0\n", folder.path().display());
        let layout = Layout::parse(&mounts, |_| "cpu memory pids\n".to_owned());
        let files = Files::open_of(&layout, "0::/w/4f1c\n", ID).expect("opened");
        let (mut subject, mut buffer) = (Subject::new("wrn-x".to_owned()), Buffer::default());
        subject.enter(ID, files, &mut buffer);
        Self { folder, subject, buffer }
    }

    fn counted(&self, kills: u64) {
        let file = self.folder.path().join("w/4f1c/memory.events");
        fs::write(file, format!("oom_kill {kills}\n")).expect("file");
    }

    fn ticks(&mut self, ticks: u64) {
        for _ in 0..ticks {
            self.subject.tick(Some(&Traffic::default()), &mut self.buffer, Timestamp(7));
        }
    }

    fn kills(&self) -> Vec<(String, KillSource)> {
        let reading = self.subject.reader().borrow().clone();
        reading.kills.into_iter().map(|kill| (kill.process, kill.source)).collect()
    }
}

fn named(name: &str) -> (String, KillSource) {
    (name.to_owned(), KillSource::KernelLog)
}

fn unknown() -> (String, KillSource) {
    (UNKNOWN.to_owned(), KillSource::Counter)
}

#[test]
fn what_was_killed_before_it_was_measured_is_counted_and_not_told() {
    let mut world = World::new(3);
    world.ticks(9);
    assert_eq!(world.kills(), []);
    assert_eq!(world.subject.reader().borrow().usage.oom_kills, 3);
}

#[test]
fn a_name_pays_its_count_back_whichever_comes_first() {
    let mut world = World::new(0);
    world.subject.killed("tail", 4_194_000, Timestamp(1));
    world.counted(1);
    world.ticks(9);
    assert_eq!(world.kills(), [named("tail")]);
    world.counted(2);
    world.ticks(1);
    world.subject.killed("node", 4_194_001, Timestamp(2));
    world.ticks(9);
    assert_eq!(world.kills(), [named("node"), named("tail")]);
    assert_eq!(world.subject.reader().borrow().usage.oom_kills, 2);
}

#[test]
fn a_kill_that_nobody_names_is_told_as_unknown_with_its_cgroup() {
    let mut world = World::new(0);
    world.counted(1);
    world.ticks(2);
    assert_eq!(world.kills(), [], "its name may still come");
    world.ticks(2);
    assert_eq!(world.kills(), [unknown()]);
    let cgroup = world.subject.reader().borrow().kills[0].cgroup.clone();
    assert_eq!(cgroup, "/w/4f1c");
}

#[test]
fn the_engine_is_believed_only_where_nobody_else_said_so() {
    let mut world = World::new(0);
    world.subject.killed("tail", 4_194_000, Timestamp(1));
    world.counted(1);
    world.subject.hinted(ID);
    world.ticks(9);
    assert_eq!(world.kills(), [named("tail")]);
    world.ticks(9);
    // the container is gone with its counter before anybody read it
    fs::remove_dir_all(world.folder.path().join("w")).expect("removed");
    world.subject.leave();
    world.subject.hinted(ID);
    world.ticks(9);
    assert_eq!(world.kills(), [unknown(), named("tail")]);
}

#[test]
fn of_many_only_the_newest_are_kept() {
    let mut world = World::new(0);
    for n in 0..9 {
        world.subject.killed(&format!("p{n}"), 4_194_000 + n, Timestamp(1));
    }
    let kept: Vec<_> = world.kills().into_iter().map(|(name, _)| name).collect();
    assert_eq!(kept, ["p8", "p7", "p6", "p5"]);
}

#[test]
fn a_cgroup_is_told_by_the_containers_id_in_every_layout() {
    let world = World::new(0);
    for yes in ["/w/4f1c", "/a.slice/a-b.slice/docker-4f1c.scope", "/w/4f1c/init"] {
        assert!(world.subject.is_in(yes), "{yes}");
    }
    for no in ["/w/4f1c2", "/x-4f1c", "/"] {
        assert!(!world.subject.is_in(no), "{no}");
    }
    assert!(world.subject.holds(ID) && !world.subject.holds("other"));
}

#[test]
fn small_changes_are_no_news() {
    let before = Usage { memory: Bytes::mib(100), ..Usage::default() };
    let now = Usage { memory: before.memory.plus(Bytes(4096)), cpu_ms: 12, ..before };
    assert!(!is_news(&before, &now));
    for now in [
        Usage { memory: Bytes::mib(101), ..before },
        Usage { pids: 1, ..before },
        Usage { cpu: warren_common::MilliCpus(NEWS_CPU), ..before },
        Usage { oom_kills: 1, ..before },
    ] {
        assert!(is_news(&before, &now), "{now:?}");
    }
}

#[test]
fn a_hundred_workspaces_cost_less_than_a_hundredth_of_a_core() {
    let mut worlds: Vec<World> = (0..100).map(|_| World::new(0)).collect();
    let traffic = Traffic::default();
    // time on a processor, so that a busy machine does not count
    let spent = || {
        let told = fs::read_to_string("/proc/thread-self/schedstat").expect("a kernel that counts");
        let nanos = told.split(' ').next().and_then(|nanos| nanos.parse().ok());
        Duration::from_nanos(nanos.expect("a number"))
    };
    let before = spent();
    // five seconds' worth: counters each second, everything once
    for second in 0..5 {
        for world in &mut worlds {
            let all = (second == 0).then_some(&traffic);
            world.subject.tick(all, &mut world.buffer, Timestamp(7));
        }
    }
    let cost = spent() - before;
    assert!(cost < Duration::from_millis(50), "{cost:?} of 5 s");
}
