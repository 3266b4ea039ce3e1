//! What Docker says about itself, in the words of the node's facts.

use std::{process::Stdio, time::Duration};

use bollard::models::{
    SystemInfo, SystemInfoCgroupDriverEnum, SystemInfoCgroupVersionEnum, SystemVersion,
};
use warren_common::{
    Limits,
    status::{clean, reason},
};

use crate::engine::{EngineError, EngineInfo, GVISOR, Gvisor};

/// How long a runtime is given to say its version.
const SMOKE: Duration = Duration::from_secs(5);

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
        remap: has("userns").then(|| info.docker_root_dir.as_deref().and_then(remap)).flatten(),
        gvisor: Gvisor::Absent,
        gvisor_by_default: info.default_runtime.as_deref() == Some(GVISOR),
    }
}

/// Reads where remapped ids begin: an engine that remaps keeps its data below `<uid>.<gid>`.
fn remap(root: &str) -> Option<(u32, u32)> {
    let (uid, gid) = root.rsplit('/').next()?.split_once('.')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// Runs gVisor's runtime where it is registered: a name in a list is no proof of walls.
pub(super) async fn gvisor(info: &SystemInfo) -> Gvisor {
    let registered = info.runtimes.as_ref().and_then(|runtimes| runtimes.get(GVISOR));
    let Some(registered) = registered else { return Gvisor::Absent };
    let program = registered.path.clone().unwrap_or_else(|| GVISOR.to_owned());
    let mut asked = tokio::process::Command::new(&program);
    asked.arg("--version").stdin(Stdio::null()).kill_on_drop(true);
    let broken = |why: String| Gvisor::Broken(reason(&format!("{program} --version: {why}")));
    match tokio::time::timeout(SMOKE, asked.output()).await {
        Ok(Ok(output)) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            let line = said.lines().next().unwrap_or_default();
            Gvisor::Runs(clean(line, Limits::LABEL_BYTES))
        }
        Ok(Ok(output)) => broken(format!("{}", output.status)),
        Ok(Err(error)) => broken(error.to_string()),
        Err(_) => broken(format!("no answer within {} s", SMOKE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_remapped_ids_begin_is_read_from_the_engines_own_folder() {
        assert_eq!(remap("/var/lib/docker/231072.231072"), Some((231_072, 231_072)));
        assert_eq!(remap("/srv/d.x/100000.200000"), Some((100_000, 200_000)));
        for plain in ["/var/lib/docker", "/var/lib/docker/", "/srv/1.2.3/x.y", ""] {
            assert_eq!(remap(plain), None, "{plain}");
        }
    }

    #[tokio::test]
    async fn a_runtime_is_offered_when_it_runs_and_not_because_it_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let script = |name: &str, text: &str| {
            use std::os::unix::fs::PermissionsExt as _;
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("written");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("set");
            path.display().to_string()
        };
        let with = |path: Option<String>| {
            let runtime = bollard::models::Runtime { path, ..Default::default() };
            let runtimes = path_of(runtime);
            SystemInfo { runtimes: Some(runtimes), ..SystemInfo::default() }
        };
        fn path_of(
            runtime: bollard::models::Runtime,
        ) -> std::collections::HashMap<String, bollard::models::Runtime> {
            [(GVISOR.to_owned(), runtime)].into()
        }
        assert_eq!(gvisor(&SystemInfo::default()).await, Gvisor::Absent);
        let good = script("good", "#!/bin/sh\necho runsc version release-1\necho spec: 1.0\n");
        let runs = Gvisor::Runs("runsc version release-1".to_owned());
        assert_eq!(gvisor(&with(Some(good))).await, runs);
        let bad = script("bad", "#!/bin/sh\nexit 3\n");
        assert!(matches!(gvisor(&with(Some(bad))).await, Gvisor::Broken(why) if why.contains('3')));
        let gone = Some("/no/such/runsc".to_owned());
        assert!(matches!(gvisor(&with(gone)).await, Gvisor::Broken(_)));
    }

    #[test]
    fn old_docker_is_named_and_refused() {
        let error = check_version("19.03.15").expect_err("too old");
        assert_eq!(error.to_string(), "Docker 19.03.15 is too old: 20.10 is the least");
        for fine in ["20.10.0", "20.10.24+dfsg1", "28.2.2", "29.0.0-rc.1", "dev"] {
            assert!(check_version(fine).is_ok(), "{fine}");
        }
    }
}
