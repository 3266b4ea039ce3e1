//! From a plan to the body of Docker's create call. Nothing of a caller passes through here but
//! what the plan's closed fields hold; every privilege is spelled out as absent.

use std::collections::{BTreeMap, HashMap};

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig,
    Mount as DockerMount, MountBindOptions, MountBindOptionsPropagationEnum, MountType,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use warren_common::Bytes;

use super::readback::{MADE, fingerprint, planned};
use crate::container::{
    ContainerPlan, Mount,
    plan::{HOME, INSIDE, MASKED, OOM_SCORE_ADJ, READ_ONLY, USER},
    seccomp,
};

/// Log files of one container: size of one, and how many.
pub(super) const LOG: (&str, &str) = ("10m", "3");

/// Returns the security options of every container.
pub(super) fn security_options(plan: &ContainerPlan) -> Vec<String> {
    let profile = seccomp::profile_json(plan.browser_sandbox);
    let mut options = vec!["no-new-privileges:true".to_owned(), format!("seccomp={profile}")];
    if plan.apparmor {
        options.push("apparmor=docker-default".to_owned());
    }
    options
}

/// Returns whom Docker's own resolver asks; without one it would ask whom the host asks.
pub(super) fn resolvers(plan: &ContainerPlan) -> Vec<String> {
    plan.resolver.iter().map(ToString::to_string).collect()
}

/// Returns an amount as Docker counts it; amounts are validated far below the limit.
pub(super) fn signed(bytes: Bytes) -> i64 {
    i64::try_from(bytes.0).unwrap_or(i64::MAX)
}

pub(super) fn create_body(plan: &ContainerPlan) -> ContainerCreateBody {
    let env = plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect();
    ContainerCreateBody {
        image: Some(plan.image.clone()),
        hostname: Some(plan.hostname.clone()),
        user: Some(USER.to_owned()),
        working_dir: Some(HOME.to_owned()),
        entrypoint: Some(vec![INSIDE.to_owned()]),
        env: Some(env),
        labels: Some(labels(plan)),
        tty: Some(false),
        open_stdin: Some(false),
        attach_stdin: Some(false),
        attach_stdout: Some(false),
        attach_stderr: Some(false),
        stop_signal: Some("SIGTERM".to_owned()),
        healthcheck: Some(HealthConfig {
            test: Some(vec!["NONE".to_owned()]),
            ..HealthConfig::default()
        }),
        host_config: Some(host_config(plan)),
        ..ContainerCreateBody::default()
    }
}

fn labels(plan: &ContainerPlan) -> HashMap<String, String> {
    let mut labels = map(&plan.labels);
    labels.insert(MADE.to_owned(), fingerprint(&planned(plan)));
    labels
}

fn host_config(plan: &ContainerPlan) -> HostConfig {
    let limits = limits(plan);
    HostConfig {
        // powers: none
        privileged: Some(false),
        cap_drop: Some(vec!["ALL".to_owned()]),
        cap_add: Some(Vec::new()),
        security_opt: Some(security_options(plan)),
        devices: Some(Vec::new()),
        group_add: Some(Vec::new()),
        // namespaces: its own
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        pid_mode: Some(String::new()),
        uts_mode: Some(String::new()),
        userns_mode: Some(String::new()),
        network_mode: Some(plan.network.clone()),
        publish_all_ports: Some(false),
        dns: Some(resolvers(plan)),
        dns_search: Some(vec![".".to_owned()]),
        sysctls: Some(map(&plan.sysctls)),
        // files
        masked_paths: Some(MASKED.map(str::to_owned).to_vec()),
        readonly_paths: Some(READ_ONLY.map(str::to_owned).to_vec()),
        readonly_rootfs: Some(true),
        binds: Some(Vec::new()),
        mounts: Some(plan.mounts.iter().map(bind).collect()),
        tmpfs: Some(
            plan.tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), tmpfs.options.clone())).collect(),
        ),
        shm_size: Some(signed(plan.shm)),
        runtime: plan.runtime.clone(),
        // life
        init: Some(false),
        auto_remove: Some(false),
        restart_policy: Some(RestartPolicy {
            name: Some(RestartPolicyNameEnum::NO),
            maximum_retry_count: None,
        }),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".to_owned()),
            config: Some(
                [("max-size", LOG.0), ("max-file", LOG.1)]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            ),
        }),
        ..limits
    }
}

/// Caps and weights alone; every other field is left at its default.
fn limits(plan: &ContainerPlan) -> HostConfig {
    let ulimit = |name: &str, value: u64| {
        let value = i64::try_from(value).ok();
        ResourcesUlimits { name: Some(name.to_owned()), soft: value, hard: value }
    };
    HostConfig {
        cgroup_parent: Some(plan.cgroup_parent.clone()),
        memory: Some(signed(plan.memory)),
        // without a count of swap Docker takes no cap on it, and says so at start
        memory_swap: Some(plan.memory_and_swap.map_or(-1, signed)),
        oom_kill_disable: Some(false),
        oom_score_adj: Some(OOM_SCORE_ADJ),
        pids_limit: plan.pids.map(i64::from),
        cpu_shares: Some(i64::from(plan.cpu_weight)),
        nano_cpus: plan.cpus.map(|cpus| i64::from(cpus.0) * 1_000_000),
        ulimits: Some(vec![ulimit("core", 0), ulimit("nofile", plan.open_files)]),
        ..HostConfig::default()
    }
}

fn bind(mount: &Mount) -> DockerMount {
    DockerMount {
        typ: Some(MountType::BIND),
        source: Some(mount.source.to_string_lossy().into_owned()),
        target: Some(mount.target.clone()),
        read_only: Some(mount.read_only),
        bind_options: Some(MountBindOptions {
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..DockerMount::default()
    }
}

pub(super) fn map(from: &BTreeMap<String, String>) -> HashMap<String, String> {
    from.iter().map(|(key, value)| (key.clone(), value.clone())).collect()
}
