//! The system-call filter of every workspace: an allow-list in groups, each with its reason.
//!
//! What is not named is refused with EPERM. Deliberately absent: `io_uring_*`, `userfaultfd`,
//! `bpf`, `perf_event_open`, `keyctl` and its kin, `memfd_secret`, `vmsplice`, `modify_ldt`,
//! `pidfd_getfd`, `process_madvise`, `kcmp`, `setns`, mounting in every form, modules, clocks,
//! swap, quotas, handles to files by number: each a way by which containers were left, or a
//! power without which agents work. Namespaces can be neither made nor entered, so user
//! namespaces, the way into most kernel bugs, stay shut, but for workspaces whose browsers have a
//! sandbox of their own (see [`profile_json`]). 32-bit calls are refused on 64-bit machines: the
//! filter names no second architecture.

use serde::Serialize;

/// Flags of `clone` and `unshare` that make a namespace (all but time).
const CLONE_NEW: u64 = 0x7E02_0000;
/// `unshare` alone knows the time namespace; in `clone` these bits are the exit signal.
const CLONE_NEWTIME: u64 = 0x80;
const CLONE_NEWUSER: u64 = 0x1000_0000;
const CLONE_NEWPID: u64 = 0x2000_0000;
const CLONE_NEWNET: u64 = 0x4000_0000;
const ENOSYS: u32 = 38;
const AF_UNIX: u64 = 1;
const AF_INET: u64 = 2;
const AF_INET6: u64 = 10;
const AF_NETLINK: u64 = 16;
const NETLINK_ROUTE: u64 = 0;

/// Calls that are allowed whatever their arguments: why, and which.
const GROUPS: &[(&str, &str)] = &[
    (
        "read and write what is open",
        "read write readv writev pread64 pwrite64 preadv pwritev preadv2 pwritev2 lseek close \
         close_range dup dup2 dup3 fcntl flock fsync fdatasync sync syncfs sync_file_range \
         sync_file_range2 ftruncate fallocate fadvise64 readahead cachestat sendfile splice tee \
         copy_file_range pipe pipe2",
    ),
    (
        "find, make, name and remove files; devices need a capability that nobody has, mknod \
         makes FIFOs",
        "open openat openat2 creat stat fstat lstat newfstatat statx statfs fstatfs access \
         faccessat faccessat2 getdents getdents64 getcwd chdir fchdir mkdir mkdirat rmdir rename \
         renameat renameat2 link linkat symlink symlinkat readlink readlinkat unlink unlinkat \
         truncate mknod mknodat umask utime utimes futimesat utimensat",
    ),
    (
        "own files and their attributes, within the one user there is",
        "chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr \
         fsetxattr getxattr lgetxattr fgetxattr listxattr llistxattr flistxattr removexattr \
         lremovexattr fremovexattr setxattrat getxattrat listxattrat removexattrat",
    ),
    (
        "wait for files: editors and build tools watch the checkout",
        "poll ppoll select pselect6 epoll_create epoll_create1 epoll_ctl epoll_wait epoll_pwait \
         epoll_pwait2 eventfd eventfd2 signalfd signalfd4 inotify_init inotify_init1 \
         inotify_add_watch inotify_rm_watch",
    ),
    (
        "asynchronous files of databases (the old interface; io_uring stays out)",
        "io_setup io_submit io_cancel io_destroy io_getevents io_pgetevents",
    ),
    (
        "memory of one's own; memfd_create is how browsers and compositors share pictures",
        "brk mmap munmap mremap mprotect madvise mincore msync mlock mlock2 mlockall munlock \
         munlockall memfd_create membarrier pkey_alloc pkey_free pkey_mprotect map_shadow_stack \
         mseal",
    ),
    (
        "processes and threads without namespaces of their own (clone has its rule below)",
        "fork vfork execve execveat exit exit_group wait4 waitid set_tid_address set_robust_list \
         get_robust_list rseq futex futex_waitv futex_wake futex_wait futex_requeue arch_prctl \
         prctl set_thread_area get_thread_area",
    ),
    (
        "who one is, and job control of shells",
        "getpid getppid gettid getpgid setpgid getpgrp getsid setsid getuid geteuid getresuid \
         getgid getegid getresgid getgroups setuid setreuid setresuid setfsuid setgid setregid \
         setresgid setfsgid setgroups capget capset",
    ),
    (
        "signals",
        "kill tkill tgkill pause alarm sigaltstack rt_sigaction rt_sigprocmask rt_sigpending \
         rt_sigsuspend rt_sigtimedwait rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn \
         restart_syscall pidfd_open pidfd_send_signal",
    ),
    (
        "time and timers; setting a clock stays out",
        "time gettimeofday clock_gettime clock_getres clock_nanosleep nanosleep getitimer \
         setitimer timer_create timer_settime timer_gettime timer_getoverrun timer_delete \
         timerfd_create timerfd_settime timerfd_gettime times",
    ),
    (
        "scheduling, limits and facts",
        "sched_yield sched_getaffinity sched_setaffinity sched_getparam sched_setparam \
         sched_getscheduler sched_setscheduler sched_getattr sched_setattr \
         sched_get_priority_max sched_get_priority_min sched_rr_get_interval getpriority \
         setpriority ioprio_get ioprio_set getrlimit setrlimit prlimit64 getrusage getcpu uname \
         sysinfo getrandom",
    ),
    (
        "sockets that are open; opening one has its rules below",
        "bind listen accept accept4 connect shutdown getsockname getpeername getsockopt \
         setsockopt sendto recvfrom sendmsg recvmsg sendmmsg recvmmsg",
    ),
    (
        "System V and POSIX messages, within the workspace's own namespace: databases",
        "shmget shmat shmctl shmdt semget semop semtimedop semctl msgget msgsnd msgrcv msgctl \
         mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr",
    ),
    (
        "debuggers of one's own programs (safe since Linux 4.8: a filter cannot be left by it)",
        "ptrace process_vm_readv process_vm_writev",
    ),
    (
        "sandboxes that a program puts itself into; they only take away",
        "seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self",
    ),
    ("instruction caches of ARM", "cacheflush breakpoint set_tls"),
];

/// What Chromium makes its sandbox of: it looks whether it may make a user namespace, starts its
/// zygote in one with processes and a network of its own, and from there each page with processes of
/// its own (`NamespaceSandbox`, `Credentials`, `base::ForkWithFlags`).
const SANDBOX_CLONES: [u64; 3] =
    [CLONE_NEWUSER, CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET, CLONE_NEWPID];

const SOCKET_OPTIONS: [&str; 2] = ["getsockopt", "setsockopt"];
/// Families of socket options: those of IPv4, of sockets, of UDP, and of IPv6.
const SOL_IP: u64 = 0;
const SOL_SOCKET: u64 = 1;
const SOL_UDP: u64 = 17;
const SOL_IPV6: u64 = 41;
/// From 64 on, IPv4 and IPv6 have the packet filters of old (`ip_tables`, `arp_tables`, `ebtables`),
/// which listen to whoever has a network namespace of his own. This one and these are none.
const SO_ORIGINAL_DST: u64 = 80;
const PLAIN_IPV6: [u64; 3] = [66, 67, 70];

/// The family of `ioctl` requests of btrfs, in bits 8 to 15: with them a workspace could make
/// subvolumes, which its quota would not count.
const BTRFS: u64 = 0x94;
/// Of this family, those every filesystem knows: sharing blocks between files, as `cp` does
/// (`FICLONE`, `FICLONERANGE`, `FIDEDUPERANGE`).
const SHARING: [u64; 3] = [0x4004_9409, 0x4020_940D, 0xC018_9436];

/// Personalities that exist to run ordinary programs: Linux, and the old-kernel names of both
/// word sizes; the last asks only what is set. None turns off address randomisation.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xFFFF_FFFF];

/// The profile in the form that Docker reads.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: &'static str,
    arch_map: Vec<Arch>,
    syscalls: Vec<Rule>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Arch {
    architecture: &'static str,
    sub_architectures: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<&'static str>,
    action: &'static str,
    args: Vec<Argument>,
    comment: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errno_ret: Option<u32>,
}

/// A condition on one argument; those of one rule must all hold.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: u32,
    value: u64,
    value_two: u64,
    op: &'static str,
}

const fn equals(index: u32, value: u64) -> Argument {
    Argument { index, value, value_two: 0, op: "SCMP_CMP_EQ" }
}

/// Holds where the bits of `mask` are those of `value`.
const fn masked(index: u32, mask: u64, value: u64) -> Argument {
    Argument { index, value: mask, value_two: value, op: "SCMP_CMP_MASKED_EQ" }
}

/// Holds where none of the bits of `mask` is set.
const fn without(index: u32, mask: u64) -> Argument {
    Argument { index, value: mask, value_two: 0, op: "SCMP_CMP_MASKED_EQ" }
}

fn allow(names: Vec<&'static str>, args: Vec<Argument>, comment: &'static str) -> Rule {
    Rule { names, action: "SCMP_ACT_ALLOW", args, comment, errno_ret: None }
}

/// What a browser's sandbox takes beside what everybody has. Mounting stays refused, and so does
/// entering a namespace; `chroot` asks for a power that only the namespace gives, over itself.
fn browser_rules() -> Vec<Rule> {
    let reason = "the sandbox of a browser";
    let mut rules: Vec<Rule> = SANDBOX_CLONES
        .map(|flags| allow(vec!["clone"], vec![masked(0, CLONE_NEW, flags)], reason))
        .into();
    rules.push(allow(vec!["unshare"], vec![equals(0, CLONE_NEWUSER)], reason));
    rules.push(allow(vec!["chroot"], Vec::new(), reason));
    rules.extend(plain_options());
    rules
}

/// Options of sockets where there may be a network namespace whose owner is root in it: all but those
/// of packet filters. Only the low halves count: the kernel reads no more.
fn plain_options() -> Vec<Rule> {
    let low = |index, value| masked(index, 0xFFFF_FFFF, value);
    let allow =
        |args| allow(SOCKET_OPTIONS.to_vec(), args, "options of sockets, no packet filters");
    let mut rules = vec![allow(vec![masked(2, 0xFFFF_FFC0, 0)])];
    rules.extend([SOL_SOCKET, SOL_UDP].map(|level| allow(vec![low(1, level)])));
    rules.extend(PLAIN_IPV6.map(|option| allow(vec![low(1, SOL_IPV6), low(2, option)])));
    rules.push(allow(vec![low(1, SOL_IP), low(2, SO_ORIGINAL_DST)]));
    rules
}

fn profile(sandbox: bool) -> Profile {
    let arch = |architecture| Arch { architecture, sub_architectures: Vec::new() };
    let mut syscalls: Vec<Rule> = GROUPS
        .iter()
        .map(|(reason, names)| {
            let bound = |name: &&str| sandbox && SOCKET_OPTIONS.contains(name);
            let names = names.split_whitespace().filter(|name| !bound(name)).collect();
            allow(names, Vec::new(), reason)
        })
        .collect();
    for family in [AF_UNIX, AF_INET, AF_INET6] {
        syscalls.push(allow(vec!["socket"], vec![equals(0, family)], "local and internet sockets"));
    }
    let route = vec![equals(0, AF_NETLINK), equals(2, NETLINK_ROUTE)];
    syscalls.push(allow(vec!["socket"], route, "libc and node list interfaces over it"));
    syscalls.push(allow(vec!["socketpair"], vec![equals(0, AF_UNIX)], "pipes both ways"));
    let plain = "threads and processes, no namespaces";
    syscalls.push(allow(vec!["clone"], vec![without(0, CLONE_NEW)], plain));
    let mask = CLONE_NEW | CLONE_NEWTIME;
    syscalls.push(allow(vec!["unshare"], vec![without(0, mask)], plain));
    for personality in PERSONALITIES {
        let args = vec![equals(0, personality)];
        syscalls.push(allow(vec!["personality"], args, "ordinary programs"));
    }
    // a filter has no "unlike": another family differs from that of btrfs in one of its eight bits
    for bit in (0..8).map(|bit| 1 << bit) {
        let other = vec![masked(1, bit << 8, (!BTRFS & bit) << 8)];
        syscalls.push(allow(vec!["ioctl"], other, "devices and files, but no subvolumes"));
    }
    for request in SHARING {
        let args = vec![masked(1, 0xFFFF_FFFF, request)];
        syscalls.push(allow(vec!["ioctl"], args, "cp without copying"));
    }
    if sandbox {
        syscalls.extend(browser_rules());
    }
    syscalls.push(Rule {
        names: vec!["clone3"],
        action: "SCMP_ACT_ERRNO",
        args: Vec::new(),
        comment: "its flags lie in memory where no filter sees them; libc falls back to clone",
        errno_ret: Some(ENOSYS),
    });
    Profile {
        default_action: "SCMP_ACT_ERRNO",
        arch_map: vec![arch("SCMP_ARCH_X86_64"), arch("SCMP_ARCH_AARCH64")],
        syscalls,
    }
}

/// Returns the profile as the JSON that goes into the container's security options; with `sandbox`
/// that of a workspace whose browsers may make the namespaces of their sandbox.
pub fn profile_json(sandbox: bool) -> String {
    serde_json::to_string(&profile(sandbox)).expect("plain data without maps has a JSON form")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Names that no rule may ever allow without looking at arguments.
    const NEVER: &str = "io_uring_setup io_uring_enter io_uring_register userfaultfd bpf \
        perf_event_open keyctl add_key request_key memfd_secret clone3 setns mount umount \
        umount2 move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr pivot_root \
        chroot init_module finit_module delete_module kexec_load kexec_file_load reboot swapon \
        swapoff acct quotactl quotactl_fd settimeofday clock_settime clock_adjtime adjtimex \
        open_by_handle_at name_to_handle_at fanotify_init fanotify_mark lookup_dcookie syslog \
        sethostname setdomainname iopl ioperm modify_ldt vmsplice pidfd_getfd process_madvise \
        kcmp move_pages migrate_pages set_mempolicy mbind vhangup nfsservctl uselib ustat sysfs \
        _sysctl socketcall ipc";

    /// Whether a call gets through with these arguments.
    fn passes(sandbox: bool, name: &str, arguments: &[u64]) -> bool {
        let holds = |one: &Argument| {
            let given = arguments.get(one.index as usize).copied().unwrap_or_default();
            match one.op {
                "SCMP_CMP_EQ" => given == one.value,
                "SCMP_CMP_MASKED_EQ" => given & one.value == one.value_two,
                other => panic!("{other} is not known here"),
            }
        };
        let profile = profile(sandbox);
        let mut rules = profile.syscalls.iter().filter(|rule| rule.names.contains(&name));
        rules.any(|rule| rule.action == "SCMP_ACT_ALLOW" && rule.args.iter().all(holds))
    }

    #[test]
    fn dangerous_calls_are_never_allowed() {
        for sandbox in [false, true] {
            let profile = profile(sandbox);
            assert_eq!(profile.default_action, "SCMP_ACT_ERRNO");
            for name in NEVER.split_whitespace().filter(|name| !sandbox || *name != "chroot") {
                let allowed = profile
                    .syscalls
                    .iter()
                    .any(|rule| rule.action == "SCMP_ACT_ALLOW" && rule.names.contains(&name));
                assert!(!allowed, "{name} is allowed");
            }
        }
    }

    #[test]
    fn calls_that_need_a_look_at_arguments_have_no_plain_rule() {
        let always = ["socket", "socketpair", "clone", "unshare", "personality", "ioctl"];
        for (sandbox, more) in [(false, &[][..]), (true, &SOCKET_OPTIONS)] {
            for name in always.iter().chain(more) {
                let mut rules = profile(sandbox).syscalls;
                rules.retain(|rule| rule.names.contains(name));
                assert!(!rules.is_empty(), "{name} has no rule");
                assert!(rules.iter().all(|rule| !rule.args.is_empty()), "{name}: outright");
            }
        }
    }

    #[test]
    fn a_browsers_sandbox_makes_its_own_namespaces_and_no_others() {
        const SIGCHLD: u64 = 17;
        // CLONE_FS, CLONE_VM and CLONE_VFORK, as whoever changes its root for a page starts a helper
        for plain in [SIGCHLD, 0x4300 | SIGCHLD] {
            assert!(passes(false, "clone", &[plain]) && passes(true, "clone", &[plain]));
        }
        let (user, process, net) = (CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET);
        for flags in [user, user | process | net, process] {
            assert!(passes(true, "clone", &[flags | SIGCHLD]), "{flags:x}");
            assert!(!passes(false, "clone", &[flags | SIGCHLD]), "{flags:x}");
        }
        // mounts, cgroups, names and messages, also beside its own
        let others = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000];
        let beside = others.map(|flags| flags | user | process | net);
        let halves = [net, user | process, user | net, process | net];
        for flags in [others, beside, halves].concat() {
            assert!(!passes(true, "clone", &[flags | SIGCHLD]), "{flags:x}");
            assert!(!passes(true, "unshare", &[flags]), "{flags:x}");
        }
        assert!(passes(true, "unshare", &[user]) && !passes(false, "unshare", &[user]));
        assert!(!passes(true, "unshare", &[user | CLONE_NEWTIME]));
        assert!(passes(true, "chroot", &[]) && !passes(false, "chroot", &[]));
    }

    #[test]
    fn who_may_own_a_network_sets_no_packet_filters_and_every_other_option() {
        // level and option: of sockets, TCP, UDP, IPv4 and IPv6; an original destination
        let usual = [(1, 2), (1, 83), (6, 1), (17, 103), (0, 50), (41, 26), (41, 67), (0, 80)];
        for (level, option) in usual {
            for name in SOCKET_OPTIONS {
                assert!(passes(true, name, &[3, level, option]), "{level} {option}");
            }
        }
        let high = 1 << 32;
        for option in [64, 65, 67, 96, 97, 128, 129, 1152] {
            for (level, option) in
                [(0, option), (0, option | high), (high, option), (41, option.min(65))]
            {
                for name in SOCKET_OPTIONS {
                    assert!(!passes(true, name, &[3, level, option]), "{level:x} {option:x}");
                    assert!(passes(false, name, &[3, level, option]), "nobody is root there");
                }
            }
        }
    }

    #[test]
    fn subvolumes_cannot_be_made_and_terminals_and_copies_work() {
        let allowed = |request: u64| passes(false, "ioctl", &[3, request]);
        // make and remove subvolumes and snapshots, and whatever else btrfs alone knows
        for number in (0..=0xFF_u64).filter(|number| ![9, 13, 54].contains(number)) {
            for direction in [0x0000_0000, 0x5000_0000, 0x9000_0000, 0xD000_0000] {
                assert!(!allowed(direction | 0x9400 | number), "{number}");
            }
        }
        // windows of terminals, non-blocking files, clones
        for request in [0x5401, 0x5413, 0x5421, 0x8004_5430, 0x4004_9409, 0x4020_940D] {
            assert!(allowed(request), "{request:x}");
        }
    }

    #[test]
    fn every_call_is_named_once() {
        let mut seen = BTreeSet::new();
        for (reason, names) in GROUPS {
            assert!(!reason.is_empty());
            for name in names.split_whitespace() {
                assert!(seen.insert(name), "{name} is named twice");
            }
        }
        assert!(seen.len() > 250, "{} names", seen.len());
    }

    #[test]
    fn the_json_is_what_docker_reads() {
        let json: serde_json::Value = serde_json::from_str(&profile_json(false)).expect("JSON");
        assert_eq!(json["defaultAction"], "SCMP_ACT_ERRNO");
        assert_eq!(json["archMap"][0]["subArchitectures"], serde_json::json!([]));
        let rules = json["syscalls"].as_array().expect("rules");
        let clone3 = rules.iter().find(|rule| rule["names"][0] == "clone3").expect("clone3");
        assert_eq!(clone3["errnoRet"], 38);
        let clone = rules.iter().find(|rule| rule["names"][0] == "clone").expect("clone");
        assert_eq!(clone["args"][0]["valueTwo"], 0);
        assert_eq!(clone["args"][0]["value"], 0x7E02_0000);
    }
}
