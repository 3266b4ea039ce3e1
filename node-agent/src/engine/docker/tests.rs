//! Laws of the body and of reading it back, without a Docker. With one: `node-agent/tests/`.

use std::collections::HashMap;

use bollard::models::{
    ContainerConfig, ContainerInspectResponse, EndpointSettings, HostConfig, MountPoint,
    NetworkSettings,
};
use proptest::prelude::*;
use serde_json::json;
use warren_common::{Bytes, MilliCpus, spec::WorkspaceOrder};

use super::*;
use crate::container::{
    fixture::{ground, order},
    plan,
};

/// Answers as Docker does when it made what it was asked.
fn faithful(plan: &ContainerPlan) -> ContainerInspectResponse {
    let asked = body::create_body(plan);
    let config = serde_json::to_value(&asked).expect("JSON");
    let config: ContainerConfig = serde_json::from_value(config).expect("the same fields");
    let mut host = asked.host_config.expect("a host config");
    host.runtime = Some("runc".to_owned());
    host.console_size = Some(vec![0, 0]);
    let mounts = plan.mounts.iter().map(|mount| MountPoint {
        typ: Some("bind".to_owned()),
        source: Some(mount.source.to_string_lossy().into_owned()),
        destination: Some(mount.target.clone()),
        rw: Some(!mount.read_only),
        ..MountPoint::default()
    });
    let networks: HashMap<String, EndpointSettings> =
        [(plan.network.clone(), EndpointSettings::default())].into();
    ContainerInspectResponse {
        mounts: Some(mounts.collect()),
        config: Some(config),
        host_config: Some(host),
        network_settings: Some(NetworkSettings {
            networks: Some(networks),
            ..NetworkSettings::default()
        }),
        ..ContainerInspectResponse::default()
    }
}

fn drifts(plan: &ContainerPlan, container: &ContainerInspectResponse) -> Vec<String> {
    let found = drift(&readback::planned(plan), &readback::actual(container, plan));
    found.into_iter().map(|drift| drift.field).collect()
}

#[test]
fn what_is_asked_is_what_is_compared() {
    let plan = plan(&order(), &ground());
    let found = drift(&readback::planned(&plan), &readback::actual(&faithful(&plan), &plan));
    assert!(found.is_empty(), "{}", crate::container::Drift::list(&found));
}

#[test]
fn the_filter_of_a_browser_sandbox_is_drift_where_none_is_asked_and_the_other_way_round() {
    let mut asked = order();
    let without = plan(&asked, &ground());
    let label = warren_common::spec::BROWSER_SANDBOX_LABEL.to_owned();
    asked.spec.labels.insert(label, "on".to_owned());
    let with = plan(&asked, &ground());
    assert_eq!(drifts(&with, &faithful(&with)), Vec::<String>::new());
    assert!(!with.is_same(&without), "another container");
    // the image's browsers start by this word
    assert_eq!(with.env["WARREN_BROWSER_SANDBOX"], "1");
    assert!(!without.env.contains_key("WARREN_BROWSER_SANDBOX"));
    // the same container but for its filter
    for (one, other) in [(&without, &with), (&with, &without)] {
        let made =
            faithful(&ContainerPlan { browser_sandbox: other.browser_sandbox, ..one.clone() });
        assert_eq!(drifts(one, &made), ["HostConfig.SecurityOpt"]);
    }
}

#[test]
fn a_container_of_another_request_is_no_drift() {
    let mut asked = order();
    let made = faithful(&plan(&asked, &ground()));
    asked.request = Some("0199a0b2-7f00-7000-8000-0000000000cc".parse().expect("an id"));
    let wanted = plan(&asked, &ground());
    assert_eq!(drifts(&wanted, &made), Vec::<String>::new());
    let labelled = faithful(&wanted);
    let labels = labelled.config.clone().and_then(|config| config.labels).expect("labels");
    assert!(labels.contains_key("warren.request"), "{labels:?}");
    assert_eq!(drifts(&plan(&order(), &ground()), &labelled), Vec::<String>::new());
}

#[test]
fn every_privilege_that_appears_is_noticed() {
    let plan = plan(&order(), &ground());
    let changes = [
        ("Privileged", json!(true)),
        ("CapAdd", json!(["SYS_ADMIN"])),
        ("CapDrop", json!([])),
        ("SecurityOpt", json!(["no-new-privileges:true", "seccomp=unconfined"])),
        ("Devices", json!([{"PathOnHost": "/dev/kvm"}])),
        ("DeviceCgroupRules", json!(["c 1:3 mr"])),
        ("Binds", json!(["/:/host"])),
        ("VolumesFrom", json!(["other"])),
        ("GroupAdd", json!(["0"])),
        ("PidMode", json!("host")),
        ("IpcMode", json!("shareable")),
        ("UTSMode", json!("host")),
        ("UsernsMode", json!("host")),
        ("CgroupnsMode", json!("host")),
        ("NetworkMode", json!("host")),
        ("CgroupParent", json!("/")),
        ("ReadonlyRootfs", json!(false)),
        ("Memory", json!(0)),
        ("MemorySwap", json!(-1)),
        ("PidsLimit", json!(0)),
        ("OomKillDisable", json!(true)),
        ("OomScoreAdj", json!(-1000)),
        ("RestartPolicy", json!({"Name": "always", "MaximumRetryCount": 0})),
        ("PublishAllPorts", json!(true)),
        ("PortBindings", json!({"80/tcp": [{"HostPort": "80"}]})),
        ("ExtraHosts", json!(["x:1.2.3.4"])),
        ("Sysctls", json!({})),
        ("MaskedPaths", json!([])),
        ("ReadonlyPaths", json!([])),
        ("Init", json!(true)),
        ("AutoRemove", json!(true)),
        ("Ulimits", json!([])),
        ("LogConfig", json!({"Type": "json-file", "Config": {}})),
    ];
    for (field, value) in changes {
        let mut container = faithful(&plan);
        let mut host = serde_json::to_value(&container.host_config).expect("JSON");
        host[field] = value;
        let changed: HostConfig = serde_json::from_value(host).expect("a host config");
        container.host_config = Some(changed);
        assert_eq!(drifts(&plan, &container), [format!("HostConfig.{field}")]);
    }
}

#[test]
fn an_images_own_volume_user_or_network_is_noticed() {
    let plan = plan(&order(), &ground());
    let mut container = faithful(&plan);
    container.mounts.get_or_insert_default().push(MountPoint {
        typ: Some("volume".to_owned()),
        destination: Some("/data".to_owned()),
        ..MountPoint::default()
    });
    assert_eq!(drifts(&plan, &container), ["Mounts"]);

    let mut container = faithful(&plan);
    container.config.get_or_insert_default().user = Some("0:0".to_owned());
    assert_eq!(drifts(&plan, &container), ["Config.User"]);

    let mut container = faithful(&plan);
    let settings = container.network_settings.get_or_insert_default();
    settings.networks.get_or_insert_default().insert("bridge".to_owned(), Default::default());
    assert_eq!(drifts(&plan, &container), ["Networks"]);
}

#[test]
fn what_an_image_adds_without_power_is_no_drift() {
    let plan = plan(&order(), &ground());
    let mut container = faithful(&plan);
    let config = container.config.get_or_insert_default();
    config.env.get_or_insert_default().push("NODE_VERSION=22".to_owned());
    config.exposed_ports = Some(vec!["80/tcp".to_owned()]);
    config.labels.get_or_insert_default().insert("maintainer".to_owned(), "x".to_owned());
    assert_eq!(drifts(&plan, &container), Vec::<String>::new());
    let config = container.config.get_or_insert_default();
    config.env.get_or_insert_default().retain(|entry| !entry.starts_with("HOME="));
    assert_eq!(drifts(&plan, &container), ["Config.Env"]);
}

/// What a check finds in a container that `made` made, now that `plan` is the plan.
fn found(
    plan: &ContainerPlan,
    made: &ContainerPlan,
    change: impl Fn(&mut ContainerInspectResponse),
) -> Vec<String> {
    let mut container = faithful(made);
    change(&mut container);
    let planned = readback::planned(plan);
    let mut drifts = drift(&planned, &readback::actual(&container, plan));
    if !readback::is_made_from(&container, &planned) {
        drifts.retain(|drift| !readback::is_of_age(drift));
    }
    drifts.into_iter().map(|drift| drift.field).collect()
}

fn leveled() -> ContainerPlan {
    let ground = ground();
    let (node, id) = (&ground.cgroup_parent, order().workspace);
    let cgroup_parent = crate::host::cgroup::level::workspace_parent(node, id);
    plan(&order(), &crate::container::Ground { cgroup_parent, ..ground })
}

#[test]
fn what_another_version_made_is_adopted_and_no_power_is() {
    let plan = leveled();
    let older = |parent: &str, masked: &[&str]| {
        found(&plan, &plan, |container| {
            let labels = &mut container.config.get_or_insert_default().labels;
            labels.get_or_insert_default().remove(readback::MADE);
            let host = container.host_config.get_or_insert_default();
            host.cgroup_parent = Some(parent.to_owned());
            host.masked_paths = Some(masked.iter().map(|path| (*path).to_owned()).collect());
        })
    };
    let dockers = ["/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"];
    assert_eq!(older("/warren-n1", &dockers), Vec::<String>::new());
    assert_eq!(older("/elsewhere", &dockers), Vec::<String>::new(), "its caps are the kernel's");
    assert_eq!(older("/warren-n1", &dockers[..2]), ["HostConfig.MaskedPaths"]);

    // a mount, a limit and a variable more, as another version may have them
    let mut made = plan.clone();
    let (source, target) = ("/run/warren/n1/w/x".into(), "/etc/x".to_owned());
    made.mounts.push(crate::container::Mount { source, target, read_only: true });
    made.open_files = 1024;
    made.env.insert("LANG".to_owned(), "C".to_owned());
    assert_eq!(found(&plan, &made, |_| {}), Vec::<String>::new());
    let changed = |field: &str, value: serde_json::Value| {
        found(&plan, &made, |container| {
            let mut host = serde_json::to_value(&container.host_config).expect("JSON");
            host[field] = value.clone();
            container.host_config = serde_json::from_value(host).expect("a host config");
        })
    };
    for (field, value) in [
        ("Privileged", json!(true)),
        ("CapAdd", json!(["SYS_ADMIN"])),
        ("Memory", json!(0)),
        ("PidsLimit", json!(0)),
        ("RestartPolicy", json!({"Name": "always", "MaximumRetryCount": 0})),
        ("SecurityOpt", json!(["no-new-privileges:true", "seccomp=unconfined"])),
        ("ReadonlyRootfs", json!(false)),
        ("PidMode", json!("host")),
    ] {
        assert_eq!(changed(field, value), [format!("HostConfig.{field}")]);
    }
}

#[test]
fn of_what_was_made_from_this_very_plan_everything_counts() {
    let plan = leveled();
    assert_eq!(found(&plan, &plan, |_| {}), Vec::<String>::new());
    let dns = found(&plan, &plan, |container| {
        container.host_config.get_or_insert_default().dns = Some(vec!["192.0.2.1".to_owned()]);
    });
    assert_eq!(dns, ["HostConfig.Dns"]);
    // caps may be changed by an order: they are no part of what it was made as
    let mut resized = order();
    resized.spec.resources.memory = Bytes::gib(2);
    let fingerprint = |plan: &ContainerPlan| readback::fingerprint(&readback::planned(plan));
    let resized = crate::container::plan(&resized, &ground());
    let same = crate::container::plan(&order(), &ground());
    assert_eq!(
        fingerprint(&ContainerPlan { shm: same.shm, ..resized.clone() }),
        fingerprint(&same)
    );
    assert_ne!(
        fingerprint(&ContainerPlan { image: "x".to_owned(), ..resized }),
        fingerprint(&same)
    );
}

#[test]
fn docker_times_are_read() {
    assert_eq!(timestamp("1970-01-01T00:00:01.5Z"), Timestamp(1500));
    assert_eq!(timestamp("0001-01-01T00:00:00Z"), Timestamp(0));
    assert_eq!(timestamp(""), Timestamp(0));
}

fn any_order() -> impl Strategy<Value = WorkspaceOrder> {
    let resources = (64u64..1 << 20, 0u64..1 << 20, 2u32..262_144, 16u32..32_768);
    let texts = ("\\PC*", "\\PC*", "\\PC*", "[a-z0-9]{1,40}", "[a-z0-9]{1,40}");
    (resources, proptest::option::of(10u32..1_024_000), texts, any::<u64>()).prop_map(
        |((memory, swap, weight, pids), cpus, (image, label, setup, client, name), run)| {
            let mut order = order();
            order.address = format!("{client}/{name}").parse().expect("an address");
            order.run_serial = run;
            order.spec.image = image;
            order.spec.setup = Some(setup.clone());
            order.spec.template = setup;
            order.spec.sessions[0].command = Some(label.clone());
            order.spec.branch = Some(label.clone());
            order.spec.labels.insert(label.clone(), label);
            let resources = &mut order.spec.resources;
            resources.memory = Bytes::mib(memory);
            resources.swap = Bytes::mib(swap);
            resources.cpu_weight = weight;
            resources.pids = pids;
            resources.cpus = cpus.map(MilliCpus);
            order
        },
    )
}

/// The body with everything taken out that an order may decide.
fn powers(plan: &ContainerPlan) -> serde_json::Value {
    let mut asked = serde_json::to_value(body::create_body(plan)).expect("JSON");
    for field in ["Image", "Hostname", "Labels"] {
        asked[field] = json!(null);
    }
    for field in ["Memory", "MemorySwap", "ShmSize", "PidsLimit", "CpuShares", "NanoCpus"] {
        asked["HostConfig"][field] = json!(null);
    }
    let env = asked["Env"].as_array_mut().expect("a list");
    env.retain(|entry| {
        let text = entry.as_str().expect("a text");
        !text.starts_with("WARREN_RUN_SERIAL=") && !text.starts_with("WARREN_WORKSPACE=")
    });
    asked
}

proptest! {
    #[test]
    fn no_field_of_an_order_adds_a_power(order in any_order()) {
        let base = plan(&super::tests::order(), &ground());
        let plan = plan(&order, &ground());
        prop_assert_eq!(powers(&plan), powers(&base));
        prop_assert_eq!(plan.env.len(), base.env.len());
        prop_assert_eq!(
            plan.labels.keys().collect::<Vec<_>>(), base.labels.keys().collect::<Vec<_>>()
        );
    }

    #[test]
    fn caps_are_set_whatever_is_asked(order in any_order()) {
        let plan = plan(&order, &ground());
        let host = body::create_body(&plan).host_config.expect("a host config");
        let memory = host.memory.expect("a cap");
        prop_assert!(memory > 0);
        prop_assert!(host.memory_swap.expect("explicit") >= memory);
        prop_assert!(host.pids_limit.expect("a cap") > 0);
        prop_assert!(host.shm_size.expect("a size") <= memory / 2);
    }

    #[test]
    fn what_is_made_as_asked_never_drifts(order in any_order()) {
        let plan = plan(&order, &ground());
        prop_assert_eq!(drifts(&plan, &faithful(&plan)), Vec::<String>::new());
    }
}
