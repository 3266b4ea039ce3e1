//! What Docker says about itself, in the words of the node's facts.

use bollard::models::{
    SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum, SystemVersion,
};

use crate::engine::{EngineError, EngineInfo};

/// The least Docker: containers with their own cgroup namespace, and API 1.41.
const LEAST: (u32, u32) = (20, 10);

/// Reads `20.10` out of `20.10.24+dfsg1`.
pub(super) fn major_minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split(['.', '-', '+']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Refuses a Docker older than Warren can use; a version that is none is let pass, since forks
/// name theirs freely and every container is read back anyway.
pub(super) fn check_version(version: &str) -> Result<(), EngineError> {
    match major_minor(version) {
        Some(found) if found < LEAST => Err(EngineError::TooOld { version: version.to_owned() }),
        Some(_) | None => Ok(()),
    }
}

pub(super) fn engine_info(info: &SystemInfo, version: &SystemVersion) -> EngineInfo {
    let options = info.security_options.clone().unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option.starts_with(&format!("name={name}")));
    let mut runtimes: Vec<String> =
        info.runtimes.iter().flat_map(|runtimes| runtimes.keys().cloned()).collect();
    runtimes.sort();
    let runc = version.components.iter().flatten().find(|component| component.name == "runc");
    EngineInfo {
        version: format!("Docker {}", info.server_version.as_deref().unwrap_or("unknown")),
        cgroup: match info.cgroup_version {
            Some(SystemInfoCgroupVersionEnum::_2) => 2,
            Some(SystemInfoCgroupVersionEnum::_1 | SystemInfoCgroupVersionEnum::EMPTY) | None => 1,
        },
        systemd_cgroups: info.cgroup_driver == Some(SystemInfoCgroupDriverEnum::SYSTEMD),
        memory_limit: info.memory_limit.unwrap_or(false),
        swap_limit: info.swap_limit.unwrap_or(false),
        pids_limit: info.pids_limit.unwrap_or(false),
        live_restore: info.live_restore_enabled.unwrap_or(false),
        user_namespaces: has("userns"),
        apparmor: has("apparmor"),
        seccomp: has("seccomp"),
        runtimes,
        runtime_version: runc.map(|runc| runc.version.clone()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_docker_is_named_and_refused() {
        let error = check_version("19.03.15").expect_err("too old");
        assert_eq!(error.to_string(), "Docker 19.03.15 is too old: 20.10 is the least");
        for fine in ["20.10.0", "20.10.24+dfsg1", "28.2.2", "29.0.0-rc.1", "dev"] {
            assert!(check_version(fine).is_ok(), "{fine}");
        }
    }
}
