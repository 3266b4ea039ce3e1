//! Judging kernel and engine: findings with a code, a level and what to do.
//!
//! Pure over what was read. Blocking is only what makes a workspace impossible or its memory cap
//! a lie; everything else is a warning, since a node that works is better than none.

use warren_common::status::{Finding, FindingLevel};

use super::cgroup::Layout;
use crate::engine::{EngineError, EngineInfo, Gvisor};

/// What the host adds to what the engine says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// Cgroups as the host has them.
    pub cgroups: Layout,
    /// `/proc/sys/kernel/core_pattern`.
    pub core_pattern: String,
    /// The setting of the kernel by which nobody but root makes a user namespace, where there is one.
    pub closed: Option<&'static str>,
    /// The same for programs that no profile of AppArmor holds.
    pub closed_unconfined: Option<&'static str>,
}

/// Settings that keep user namespaces for root, and their values then.
const CLOSED: [(&str, &str); 2] =
    [("kernel.unprivileged_userns_clone", "0"), ("user.max_user_namespaces", "0")];
const CLOSED_UNCONFINED: [(&str, &str); 1] =
    [("kernel.apparmor_restrict_unprivileged_userns", "1")];

/// Returns the first setting that has this value.
fn set(settings: &[(&'static str, &str)]) -> Option<&'static str> {
    let value = |name: &str| super::first_line(&format!("/proc/sys/{}", name.replace('.', "/")));
    settings.iter().find(|(name, closes)| value(name) == *closes).map(|(name, _)| *name)
}

impl HostFacts {
    /// Reads them.
    ///
    /// # Errors
    /// Where the kernel does not tell its mounts.
    pub fn read() -> std::io::Result<Self> {
        let core_pattern = super::first_line("/proc/sys/kernel/core_pattern");
        let (closed, closed_unconfined) = (set(&CLOSED), set(&CLOSED_UNCONFINED));
        Ok(Self { cgroups: Layout::read()?, core_pattern, closed, closed_unconfined })
    }
}

/// Returns every finding, blocking ones first, in a fixed order.
pub fn preflight(engine: Result<&EngineInfo, &EngineError>, host: &HostFacts) -> Vec<Finding> {
    let mut findings = Vec::new();
    match engine {
        Ok(info) => {
            of_engine(&mut findings, info);
            of_tiers(&mut findings, info);
        }
        Err(error) => findings.push(no_engine(error)),
    }
    of_host(&mut findings, host);
    let unconfined = engine.is_ok_and(|info| !info.apparmor);
    let closed = host.closed.or_else(|| host.closed_unconfined.filter(|_| unconfined));
    findings.extend(closed.map(no_namespaces));
    findings.sort_by(|a, b| b.level.cmp(&a.level).then_with(|| a.code.cmp(&b.code)));
    findings
}

fn no_engine(error: &EngineError) -> Finding {
    let code = if matches!(error, EngineError::TooOld { .. }) { "E1002" } else { "E1001" };
    let fix = error.next().unwrap_or_else(|| "see the engine's own log".to_owned());
    finding(code, FindingLevel::Blocking, &error.to_string(), &fix)
}

fn of_engine(findings: &mut Vec<Finding>, info: &EngineInfo) {
    let mut note = |bad: bool, code, level, message: &str, fix| {
        if bad {
            findings.push(finding(code, level, message, fix));
        }
    };
    note(
        !info.memory_limit,
        "E1003",
        FindingLevel::Blocking,
        "memory cannot be capped: the kernel or the engine has no memory controller",
        "boot with cgroup_enable=memory, and do not run Docker rootless on cgroup v1",
    );
    note(
        !info.seccomp,
        "E1005",
        FindingLevel::Blocking,
        "the engine cannot filter system calls, so it refuses every workspace",
        "use a kernel and a Docker built with seccomp",
    );
    let runc = version(&info.runtime_version);
    note(
        runc.is_some_and(old_runc),
        "W1101",
        FindingLevel::Warning,
        &format!(
            "runc {} is older than 1.2.8 and 1.3.3 and can be escaped from (CVE-2025-31133)",
            info.runtime_version
        ),
        "upgrade runc, or make sure that your distribution has mended this version",
    );
    note(
        !info.live_restore,
        "W1103",
        FindingLevel::Warning,
        "a restart of Docker stops every workspace: live-restore is off",
        r#"set {"live-restore": true} in /etc/docker/daemon.json and reload Docker"#,
    );
    note(
        !info.swap_limit,
        "W1104",
        FindingLevel::Warning,
        "swap is not counted, so a workspace can swap beyond its share",
        "boot with swapaccount=1, or run without swap",
    );
    note(
        !info.pids_limit,
        "W1105",
        FindingLevel::Warning,
        "processes cannot be capped: one workspace can use up the host's",
        "use a kernel with the pids controller",
    );
    let docker = version(info.version.trim_start_matches("Docker "));
    note(
        docker.is_some_and(|docker| docker < [20, 10, 10]),
        "W1107",
        FindingLevel::Warning,
        "this Docker cannot answer clone3 as programs expect: newer images may fail to start",
        "upgrade Docker to 20.10.10 or newer",
    );
}

/// What is wrong with walls stronger than a container's, where there are any.
fn of_tiers(findings: &mut Vec<Finding>, info: &EngineInfo) {
    if info.user_namespaces && info.remap.is_none() {
        findings.push(finding(
            "E1006",
            FindingLevel::Blocking,
            "Docker remaps user ids and does not tell to which: homes would not be writable",
            "use userns-remap of Docker's own configuration, not a rootless Docker",
        ));
    }
    if let Gvisor::Broken(why) = &info.gvisor {
        let what = "tier gvisor is not offered: its runtime is registered and does not run";
        findings.push(finding(
            "W1109",
            FindingLevel::Warning,
            &format!("{what} ({why})"),
            "install runsc at the path that Docker's configuration names, or take it out there",
        ));
    }
}

fn of_host(findings: &mut Vec<Finding>, host: &HostFacts) {
    let mut note = |bad: bool, code, level, message, fix| {
        if bad {
            findings.push(finding(code, level, message, fix));
        }
    };
    note(
        !host.cgroups.controllers.contains("freezer"),
        "E1004",
        FindingLevel::Blocking,
        "workspaces cannot be frozen: the kernel has no freezer",
        "use a kernel with cgroup v2, or with the freezer controller",
    );
    note(
        host.cgroups.version == 1,
        "W1102",
        FindingLevel::Warning,
        "the host uses cgroup v1, which Docker and systemd are giving up",
        "boot with systemd.unified_cgroup_hierarchy=1",
    );
    note(
        host.core_pattern.starts_with('|'),
        "W1108",
        FindingLevel::Warning,
        "a crash in a workspace writes its memory to the host: core dumps go to a program",
        "set kernel.core_pattern to a plain name, such as core",
    );
}

fn no_namespaces(setting: &str) -> Finding {
    finding(
        "W1112",
        FindingLevel::Warning,
        &format!(
            "{setting} forbids user namespaces: Chromium starts in no workspace with --browser-sandbox"
        ),
        "change it, or keep such workspaces off this node with --require-label",
    )
}

fn finding(code: &str, level: FindingLevel, message: &str, fix: &str) -> Finding {
    Finding { code: code.to_owned(), level, message: message.to_owned(), fix: fix.to_owned() }
}

/// Reads `1.1.5` out of `1.1.5+ds1`; none where it is no version.
fn version(text: &str) -> Option<[u32; 3]> {
    let mut parts = text.split(['.', '-', '+', '~']).map(|part| part.parse().ok());
    Some([parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)])
}

/// Mended in 1.2.8, 1.3.3 and 1.4.
fn old_runc(version: [u32; 3]) -> bool {
    version < [1, 2, 8] || ([1, 3, 0]..[1, 3, 3]).contains(&version)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> EngineInfo {
        EngineInfo {
            version: "Docker 28.5.2".to_owned(),
            cgroup: 2,
            systemd_cgroups: true,
            memory_limit: true,
            swap_limit: true,
            pids_limit: true,
            live_restore: true,
            user_namespaces: false,
            apparmor: true,
            seccomp: true,
            runtimes: vec!["runc".to_owned()],
            runtime_version: "1.3.3".to_owned(),
            remap: None,
            gvisor: Gvisor::Absent,
            gvisor_by_default: false,
        }
    }

    fn host() -> HostFacts {
        let mut cgroups = Layout::read().expect("mounts");
        cgroups.version = 2;
        cgroups.controllers.insert("freezer".to_owned());
        let core_pattern = "core".to_owned();
        HostFacts { cgroups, core_pattern, closed: None, closed_unconfined: None }
    }

    fn codes(engine: &EngineInfo, host: &HostFacts) -> Vec<String> {
        preflight(Ok(engine), host).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_good_node_has_no_findings() {
        assert_eq!(codes(&good(), &host()), Vec::<String>::new());
    }

    #[test]
    fn each_weakness_has_its_code_and_blocking_ones_come_first() {
        let mut info = EngineInfo { version: "Docker 20.10.5".to_owned(), ..EngineInfo::default() };
        info.runtime_version = "1.1.5+ds1".to_owned();
        let mut host = host();
        host.cgroups.version = 1;
        host.cgroups.controllers.clear();
        host.core_pattern = "|/usr/lib/systemd/systemd-coredump".to_owned();
        let all = "E1003 E1004 E1005 W1101 W1102 W1103 W1104 W1105 W1107 W1108";
        assert_eq!(codes(&info, &host).join(" "), all);
    }

    #[test]
    fn remapped_ids_that_are_told_are_fine_and_a_runtime_that_does_not_run_is_named() {
        let mut info = good();
        info.user_namespaces = true;
        assert_eq!(codes(&info, &host()), ["E1006"], "to which is not told");
        info.remap = Some((231_072, 231_072));
        assert_eq!(codes(&info, &host()), Vec::<String>::new());
        info.gvisor = Gvisor::Broken("no such file".to_owned());
        assert_eq!(codes(&info, &host()), ["W1109"]);
        info.gvisor = Gvisor::Runs("runsc 1".to_owned());
        assert_eq!(codes(&info, &host()), Vec::<String>::new());
    }

    #[test]
    fn who_cannot_make_a_sandbox_is_told_by_which_setting() {
        let (mut info, mut host) = (good(), host());
        host.closed_unconfined = Some("kernel.apparmor_restrict_unprivileged_userns");
        assert_eq!(codes(&info, &host), Vec::<String>::new(), "a profile holds every workspace");
        info.apparmor = false;
        assert_eq!(codes(&info, &host), ["W1112"]);
        host.closed = Some("user.max_user_namespaces");
        let findings = preflight(Ok(&info), &host);
        assert_eq!(findings.len(), 1);
        assert!(
            findings[0].message.starts_with("user.max_user_namespaces forbids"),
            "{findings:?}"
        );
    }

    #[test]
    fn an_engine_that_is_not_there_blocks() {
        let error = EngineError::TooOld { version: "19.03.15".to_owned() };
        let findings = preflight(Err(&error), &host());
        assert_eq!(findings[0].code, "E1002");
        assert_eq!(findings[0].level, FindingLevel::Blocking);
        assert_eq!(findings[0].message, "Docker 19.03.15 is too old: 20.10 is the least");
    }

    #[test]
    fn old_runtimes_are_told_from_mended_ones() {
        for (text, old) in [
            ("1.1.15", true),
            ("1.2.7", true),
            ("1.2.8", false),
            ("1.3.2", true),
            ("1.3.3", false),
            ("1.4.0-rc.3", false),
        ] {
            assert_eq!(version(text).map(old_runc), Some(old), "{text}");
        }
        assert_eq!(version(""), None);
    }
}
