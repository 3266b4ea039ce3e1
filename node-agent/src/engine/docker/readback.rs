//! What Docker made, as comparable text; and the same for what was planned.
//!
//! The plan's side is written out here a second time, independently of `body`, so that a slip in
//! either shows. Docker's side takes *every* field of `HostConfig`, also those nobody asked for:
//! a privilege that a daemon, a plugin or a newer Docker adds is a difference, not a surprise.

use bollard::models::ContainerInspectResponse;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::body::{LOG, security_options, signed};
use crate::container::{
    ContainerPlan, Drift, Inspected, Mount,
    plan::{HOME, INSIDE, MASKED, OOM_SCORE_ADJ, READ_ONLY, USER},
};

/// Fields of `HostConfig` that grant nothing and differ between versions.
const IGNORED: [&str; 3] = ["ConsoleSize", "ContainerIDFile", "Isolation"];
/// What 0.1 left to Docker and asserted of its list: a container that it made is as good.
const MASKED_BEFORE: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
const READ_ONLY_BEFORE: [&str; 3] = ["/proc/bus", "/proc/sys", "/proc/sysrq-trigger"];
/// The label that says from which plan a container was made.
pub(super) const MADE: &str = "warren.made";
/// Fields that can be changed while a container lives.
const CHANGEABLE: [&str; 18] = [
    "BlkioWeight",
    "CpuPeriod",
    "CpuQuota",
    "CpuRealtimePeriod",
    "CpuRealtimeRuntime",
    "CpuShares",
    "CpusetCpus",
    "CpusetMems",
    "KernelMemory",
    "KernelMemoryTCP",
    "Memory",
    "MemoryReservation",
    "MemorySwap",
    "MemorySwappiness",
    "NanoCpus",
    "OomKillDisable",
    "PidsLimit",
    "RestartPolicy",
];
/// Fields that give a power, whoever made the container.
const POWERS: [&str; 18] = [
    "Binds",
    "CapAdd",
    "CapDrop",
    "CgroupnsMode",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "GroupAdd",
    "IpcMode",
    "NetworkMode",
    "PidMode",
    "PortBindings",
    "Privileged",
    "PublishAllPorts",
    "ReadonlyRootfs",
    "UTSMode",
    "UsernsMode",
    "VolumesFrom",
];
/// Runtimes whose PID 1 is the workspace's own: of others the kernel sees a process of the sandbox.
const PLAIN: [&str; 3] = ["", "runc", "io.containerd.runc.v2"];

/// Returns what a container made from `plan` must look like.
pub(super) fn planned(plan: &ContainerPlan) -> Inspected {
    let mut security = security_options(plan);
    security.sort();
    let tmpfs: serde_json::Map<String, Value> =
        plan.tmpfs.iter().map(|tmpfs| (tmpfs.target.clone(), json!(tmpfs.options))).collect();
    let host = json!({
        "CapDrop": ["ALL"],
        "SecurityOpt": security,
        "IpcMode": "private",
        "CgroupnsMode": "private",
        "NetworkMode": plan.network,
        "Dns": plan.resolver.map(|address| vec![address.to_string()]),
        "DnsSearch": ["."],
        "Sysctls": plan.sysctls,
        "ReadonlyRootfs": true,
        "Mounts": plan.mounts.iter().map(planned_bind).collect::<Vec<Value>>(),
        "Tmpfs": tmpfs,
        "ShmSize": plan.shm.0,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "local", "Config": {"max-size": LOG.0, "max-file": LOG.1}},
        "CgroupParent": plan.cgroup_parent,
        "Memory": plan.memory.0,
        "MemorySwap": plan.memory_and_swap.map_or(-1, signed),
        "OomScoreAdj": OOM_SCORE_ADJ,
        "PidsLimit": plan.pids,
        "CpuShares": plan.cpu_weight,
        "NanoCpus": plan.cpus.map(|cpus| u64::from(cpus.0) * 1_000_000),
        "Ulimits": [
            {"Name": "core", "Soft": 0, "Hard": 0},
            {"Name": "nofile", "Soft": plan.open_files, "Hard": plan.open_files},
        ],
        "MaskedPaths": MASKED,
        "ReadonlyPaths": READ_ONLY,
        "Runtime": plan.runtime,
    });
    let config = json!({
        "Image": plan.image,
        "Hostname": plan.hostname,
        "User": USER,
        "WorkingDir": HOME,
        "Entrypoint": [INSIDE],
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": plan.own_labels(),
        "Env": plan.env.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>(),
    });
    let mut facts = Inspected::new();
    collect(&mut facts, "HostConfig", host);
    collect(&mut facts, "Config", config);
    let mounts = plan.mounts.iter().map(|mount| {
        let access = if mount.read_only { "ro" } else { "rw" };
        format!("bind {} {} {access}", mount.source.display(), mount.target)
    });
    facts.insert("Mounts".to_owned(), joined(mounts));
    facts.insert("Networks".to_owned(), plan.network.clone());
    facts
}

/// Returns a name for what a plan makes that cannot be changed afterwards. A container bears that of
/// its own plan ([`MADE`]): another one here says that another version made it, or the same one on
/// other ground, and not that somebody changed it.
pub(super) fn fingerprint(planned: &Inspected) -> String {
    let mut hasher = Sha256::new();
    for (field, value) in planned {
        let name = field.strip_prefix("HostConfig.").unwrap_or(field);
        if !CHANGEABLE.contains(&name) && field != "Config.Labels" {
            hasher.update(format!("{field}={value}\n"));
        }
    }
    let digest = hasher.finalize();
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a container was made from what the plan is now.
pub(super) fn is_made_from(container: &ContainerInspectResponse, planned: &Inspected) -> bool {
    let labels = container.config.as_ref().and_then(|config| config.labels.as_ref());
    let made = labels.and_then(|labels| labels.get(MADE));
    made.is_some_and(|made| *made == fingerprint(planned))
}

/// Whether a difference of a container that was made from another plan may be one of that plan:
/// neither something that can be changed while it runs, nor a power.
pub(super) fn is_of_age(drift: &Drift) -> bool {
    let actual: Value = serde_json::from_str(&drift.actual).unwrap_or(Value::Null);
    let has = |part: &str| {
        let list = actual.as_array().map(Vec::as_slice).unwrap_or_default();
        list.iter().any(|found| found == part)
    };
    let Some(field) = drift.field.strip_prefix("HostConfig.") else {
        return !matches!(drift.field.as_str(), "Config.User" | "Networks");
    };
    match field {
        "SecurityOpt" => {
            let profile = |option: &Value| {
                option.as_str().is_some_and(|option| option.starts_with("seccomp={"))
            };
            let filtered = actual.as_array().is_some_and(|list| list.iter().any(profile));
            filtered && has("no-new-privileges:true")
        }
        "MaskedPaths" => MASKED_BEFORE.iter().all(|path| has(path)),
        "ReadonlyPaths" => READ_ONLY_BEFORE.iter().all(|path| has(path)),
        other => !CHANGEABLE.contains(&other) && !POWERS.contains(&other),
    }
}

/// Whether PID 1 of the container is a process of the host's kernel, as with runc.
pub(super) fn is_plain(container: &ContainerInspectResponse) -> bool {
    let runtime = container.host_config.as_ref().and_then(|host| host.runtime.as_deref());
    PLAIN.contains(&runtime.unwrap_or_default())
}

fn planned_bind(mount: &Mount) -> Value {
    json!({
        "Type": "bind",
        "Source": mount.source.to_string_lossy(),
        "Target": mount.target,
        "ReadOnly": mount.read_only,
        "BindOptions": {"Propagation": "rprivate"},
    })
}

/// Returns what `container` looks like, with everything of the image's left out that grants
/// nothing: its own labels and the variables the plan does not set.
pub(super) fn actual(container: &ContainerInspectResponse, plan: &ContainerPlan) -> Inspected {
    let mut facts = Inspected::new();
    let mut host = value(&container.host_config);
    for field in IGNORED {
        remove(&mut host, field);
    }
    if plan.runtime.is_none() {
        // the engine's own, whatever its name
        remove(&mut host, "Runtime");
    }
    if host["MemorySwappiness"] == json!(-1) {
        remove(&mut host, "MemorySwappiness");
    }
    sort(&mut host["SecurityOpt"]);
    sort(&mut host["MaskedPaths"]);
    sort(&mut host["ReadonlyPaths"]);
    collect(&mut facts, "HostConfig", host);

    let mut config = value(&container.config);
    for field in ["ExposedPorts", "Volumes", "OnBuild", "Shell", "Cmd"] {
        // an image's volumes show in the mounts, its ports are published nowhere, and its
        // command is not used where an entrypoint is given
        remove(&mut config, field);
    }
    let key = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    keep(&mut config["Env"], |entry| plan.env.contains_key(&key(entry)));
    if let Some(labels) = config["Labels"].as_object_mut() {
        let own = plan.own_labels();
        labels.retain(|label, _| own.contains_key(label));
    }
    collect(&mut facts, "Config", config);

    let mounts = container.mounts.iter().flatten().map(|mount| {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let access = if mount.rw == Some(false) { "ro" } else { "rw" };
        let (kind, source) = (text(&mount.typ), text(&mount.source));
        format!("{kind} {source} {} {access}", text(&mount.destination))
    });
    facts.insert("Mounts".to_owned(), joined(mounts));
    let settings = container.network_settings.as_ref();
    let networks = settings.and_then(|settings| settings.networks.as_ref());
    facts
        .insert("Networks".to_owned(), joined(networks.iter().flat_map(|map| map.keys().cloned())));
    facts
}

fn value<T: serde::Serialize>(part: &Option<T>) -> Value {
    serde_json::to_value(part).unwrap_or(Value::Null)
}

fn remove(of: &mut Value, field: &str) {
    if let Some(object) = of.as_object_mut() {
        object.remove(field);
    }
}

/// Keeps the wanted texts of a list, sorted.
fn keep(list: &mut Value, wanted: impl Fn(&str) -> bool) {
    if let Some(list) = list.as_array_mut() {
        list.retain(|entry| entry.as_str().is_some_and(&wanted));
    }
    sort(list);
}

fn sort(list: &mut Value) {
    if let Some(list) = list.as_array_mut() {
        list.sort_by_key(ToString::to_string);
    }
}

fn joined(lines: impl Iterator<Item = String>) -> String {
    let mut lines: Vec<String> = lines.collect();
    lines.sort();
    lines.join("\n")
}

/// Adds the fields of an object under a prefix, leaving out what is empty, zero or off.
fn collect(facts: &mut Inspected, prefix: &str, object: Value) {
    let Value::Object(object) = object else { return };
    for (field, value) in object {
        let value = bare(value);
        if let Some(value) = value {
            facts.insert(format!("{prefix}.{field}"), value.to_string());
        }
    }
}

/// Returns a value without its empty parts; none where nothing is left of it. List entries stay
/// where they stand unless they are empty themselves.
fn bare(value: Value) -> Option<Value> {
    match value {
        Value::Null | Value::Bool(false) => None,
        Value::Bool(true) => Some(Value::Bool(true)),
        Value::Number(number) if number.as_f64() == Some(0.0) => None,
        Value::Number(number) => Some(Value::Number(number)),
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(Value::String(text)),
        Value::Array(list) => {
            let list: Vec<Value> = list.into_iter().filter_map(bare).collect();
            (!list.is_empty()).then_some(Value::Array(list))
        }
        Value::Object(object) => {
            let object: serde_json::Map<String, Value> =
                object.into_iter().filter_map(|(key, value)| Some((key, bare(value)?))).collect();
            (!object.is_empty()).then_some(Value::Object(object))
        }
    }
}
