//! One bridge network per workspace, in a /28 that nothing else on this host uses.

use std::collections::HashMap;

use bollard::{
    models::{Ipam, IpamConfig, Network, NetworkCreateRequest, NetworkDisconnectRequest},
    query_parameters::ListNetworksOptionsBuilder,
};
use tracing::{info, warn};
use warren_common::Limits;

use super::{DockerEngine, body::map};
use crate::{
    container::{
        NetworkPlan,
        subnet::{Subnet, next_free},
    },
    engine::{EngineError, NetworkSeen},
    host,
};

/// Ranges tried before giving up: each one refused is one that something hidden from us holds.
const TRIES: usize = 16;

impl DockerEngine {
    pub(super) async fn network(&self, plan: &NetworkPlan) -> Result<NetworkSeen, EngineError> {
        let operation = "create the network";
        let _one_at_a_time = self.networks.lock().await;
        let all = self.all_networks().await?;
        if let Some(existing) = all.iter().find(|network| is_named(network, &plan.name)) {
            if labels_differ(existing, plan) {
                let detail = format!("the name {} is taken by another network", plan.name);
                return Err(EngineError::Conflict { operation, detail });
            }
            if !host::has_device(&plan.name) {
                // somebody removed the bridge: the engine does not make it again by itself
                warn!(network = %plan.name, "the bridge is gone; the network is made anew");
                self.remove_named(&plan.name).await?;
                return self.make_network(plan).await;
            }
            return seen(existing).ok_or_else(|| EngineError::Failed {
                operation,
                detail: format!("network {} has no IPv4 range", plan.name),
            });
        }
        self.make_network(plan).await
    }

    /// Makes a network that is not there, in a range that nothing uses.
    async fn make_network(&self, plan: &NetworkPlan) -> Result<NetworkSeen, EngineError> {
        let operation = "create the network";
        let all = self.all_networks().await?;
        let range: Subnet = plan.range.parse().map_err(|_| EngineError::Refused {
            operation,
            detail: format!("{:?} is not an IPv4 range", plan.range),
        })?;
        let mut used: Vec<Subnet> = all.iter().flat_map(subnets).collect();
        used.extend(host::routes());
        let api = self.api().await?;
        for _ in 0..TRIES {
            let Some(subnet) = next_free(range, &used) else { break };
            let create = api.create_network(request(plan, subnet));
            match self.call(operation, Limits::ENGINE_TIMEOUT, create).await {
                Ok(_) => {
                    let (name, gateway) = (plan.name.clone(), subnet.gateway());
                    return Ok(NetworkSeen { name, subnet: subnet.to_string(), gateway });
                }
                // held by something that neither Docker's list nor the routes show
                Err(EngineError::Refused { detail, .. } | EngineError::Failed { detail, .. })
                    if detail.contains("overlap") =>
                {
                    info!(%subnet, %detail, "an address range is taken, trying the next");
                    used.push(subnet);
                }
                Err(error) => return Err(error),
            }
        }
        Err(EngineError::NoSubnet { range: plan.range.clone() })
    }

    pub(super) async fn drop_network(&self, name: &str) -> Result<(), EngineError> {
        let _one_at_a_time = self.networks.lock().await;
        self.remove_named(name).await
    }

    /// Removes every network of ours with this name; the caller has the turn.
    async fn remove_named(&self, name: &str) -> Result<(), EngineError> {
        let operation = "remove the network";
        let api = self.api().await?;
        for network in self.all_networks().await?.iter().filter(|other| is_named(other, name)) {
            let ours = network.labels.as_ref().is_some_and(|labels| {
                labels.get("warren.cluster") == Some(&self.cluster.to_string())
                    && labels.get("warren.node") == Some(&self.node.to_string())
            });
            if !ours {
                let detail = format!("network {name} is not this node's");
                return Err(EngineError::Conflict { operation, detail });
            }
            let id = network.id.clone().unwrap_or_else(|| name.to_owned());
            self.cut_off(&id).await?;
            let remove = api.remove_network(&id);
            match self.call(operation, Limits::ENGINE_TIMEOUT, remove).await {
                Ok(()) | Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Takes every container off a network, also those that are not ours.
    async fn cut_off(&self, id: &str) -> Result<(), EngineError> {
        let api = self.api().await?;
        let inspect = api.inspect_network(id, None);
        let network = match self.call("inspect the network", Limits::CALL_TIMEOUT, inspect).await {
            Ok(network) => network,
            Err(EngineError::NotFound { .. }) => return Ok(()),
            Err(error) => return Err(error),
        };
        for container in network.containers.unwrap_or_default().into_keys() {
            let request = NetworkDisconnectRequest { container, force: Some(true) };
            let cut = api.disconnect_network(id, request);
            match self.call("cut off a container", Limits::ENGINE_TIMEOUT, cut).await {
                Ok(()) | Err(EngineError::NotFound { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn all_networks(&self) -> Result<Vec<Network>, EngineError> {
        let api = self.api().await?;
        let options = ListNetworksOptionsBuilder::default().build();
        let list = api.list_networks(Some(options));
        self.call("list networks", Limits::CALL_TIMEOUT, list).await
    }
}

fn request(plan: &NetworkPlan, subnet: Subnet) -> NetworkCreateRequest {
    let options = [
        ("com.docker.network.bridge.name", plan.name.as_str()),
        // a workspace is alone on its bridge; what root attaches besides is meant to be reached
        ("com.docker.network.bridge.enable_icc", "true"),
        // the firewall's table does that, for what it lets through and nothing else
        ("com.docker.network.bridge.enable_ip_masquerade", "false"),
    ];
    let options: HashMap<String, String> =
        options.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    NetworkCreateRequest {
        name: plan.name.clone(),
        driver: Some("bridge".to_owned()),
        internal: Some(false),
        attachable: Some(false),
        enable_ipv6: Some(false),
        ipam: Some(Ipam {
            driver: Some("default".to_owned()),
            config: Some(vec![IpamConfig {
                subnet: Some(subnet.to_string()),
                gateway: Some(subnet.gateway().to_string()),
                ..IpamConfig::default()
            }]),
            options: None,
        }),
        options: Some(options),
        labels: Some(map(&plan.labels)),
        ..NetworkCreateRequest::default()
    }
}

fn is_named(network: &Network, name: &str) -> bool {
    network.name.as_deref() == Some(name)
}

fn labels_differ(network: &Network, plan: &NetworkPlan) -> bool {
    let labels = network.labels.as_ref();
    plan.labels.iter().any(|(key, value)| labels.and_then(|labels| labels.get(key)) != Some(value))
}

/// Returns the IPv4 ranges of one network.
fn subnets(network: &Network) -> impl Iterator<Item = Subnet> {
    let configs = network.ipam.as_ref().and_then(|ipam| ipam.config.as_deref()).unwrap_or(&[]);
    configs.iter().filter_map(|config| config.subnet.as_deref()?.parse().ok())
}

fn seen(network: &Network) -> Option<NetworkSeen> {
    let subnet: Subnet = subnets(network).next()?;
    let name = network.name.clone()?;
    Some(NetworkSeen { name, subnet: subnet.to_string(), gateway: subnet.gateway() })
}
