//! Counters, gauges and histograms of a process, served to Prometheus.
//!
//! A process says in one [`Metric`] table what it counts; [`start`] describes every row, gives each
//! histogram its buckets and sets what has no labels to zero, so that the first scrape shows it.
//! What is only worth knowing when somebody looks is read by probes ([`Metrics::probe`]) while a
//! scrape is answered. Labels are words of a closed set, or ids of coordinators: never a name that
//! people choose, so the number of series is bounded by the code. `serve` holds the endpoint.

mod process;
mod serve;
mod table;

use std::sync::{Arc, PoisonError, RwLock};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::task::spawn_blocking;

use crate::telemetry::TelemetryError;

pub use process::PROCESS;
pub use serve::serve;
pub use table::{BATCHES, Kind, LATENCIES, Metric, SECONDS};

/// Reads something at the moment of a scrape and sets gauges; may block for a few milliseconds.
type Probe = Box<dyn Fn() + Send + Sync>;
/// Says why the process is not ready; nothing where it is.
type Readiness = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// What a process has counted, ready to be rendered; clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    handle: PrometheusHandle,
    /// The first one reads what every process says of itself.
    probes: RwLock<Vec<Probe>>,
    ready: RwLock<Option<Readiness>>,
}

/// Starts counting: from here on the macros of the `metrics` crate have an effect. `tables` say
/// what this process counts, besides [`PROCESS`]; `version` is shown by `warren_build_info`.
///
/// # Errors
/// Counting was started before.
pub fn start(
    component: &'static str,
    version: &'static str,
    tables: &[&[Metric]],
) -> Result<Metrics, TelemetryError> {
    let rows = || tables.iter().copied().chain([PROCESS]).flatten();
    let mut builder = PrometheusBuilder::new();
    for metric in rows() {
        if let Kind::Histogram(buckets) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            let set = builder.set_buckets_for_metric(name, buckets);
            builder = set.map_err(|_| TelemetryError::Buckets(metric.name))?;
        }
    }
    let recorder = builder.build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Twice("counting"))?;
    rows().for_each(Metric::describe);
    metrics::gauge!("warren_build_info", "component" => component, "version" => version).set(1.0);
    let probes: Vec<Probe> = vec![Box::new(process::sample)];
    let inner = Inner { handle, probes: RwLock::new(probes), ready: RwLock::default() };
    Ok(Metrics(Arc::new(inner)))
}

impl Metrics {
    /// Forgets probes and readiness: what they look at has ended, and something else begins.
    pub fn renew(&self) {
        let mut probes = self.0.probes.write().unwrap_or_else(PoisonError::into_inner);
        probes.truncate(1);
        *self.0.ready.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Adds what is read at each scrape. It may block for a few milliseconds and no longer.
    pub fn probe(&self, probe: impl Fn() + Send + Sync + 'static) {
        let mut probes = self.0.probes.write().unwrap_or_else(PoisonError::into_inner);
        probes.push(Box::new(probe));
    }

    /// Sets what `/readyz` asks: the error says, for people, what the process waits for. Without
    /// it the process is not ready.
    pub fn ready_when(&self, ready: impl Fn() -> Result<(), String> + Send + Sync + 'static) {
        let mut held = self.0.ready.write().unwrap_or_else(PoisonError::into_inner);
        *held = Some(Box::new(ready));
    }

    /// Returns what is counted in Prometheus' text format, after asking the probes.
    pub async fn render(&self) -> String {
        let metrics = self.clone();
        let rendering = spawn_blocking(move || {
            let probes = metrics.0.probes.read().unwrap_or_else(PoisonError::into_inner);
            probes.iter().for_each(|probe| probe());
            metrics.0.handle.render()
        });
        rendering.await.unwrap_or_default()
    }

    /// Says why the process is not ready; nothing where it is.
    fn readiness(&self) -> Result<(), String> {
        let ready = self.0.ready.read().unwrap_or_else(PoisonError::into_inner);
        ready.as_ref().map_or_else(|| Err("it is still starting".to_owned()), |ready| ready())
    }

    /// Folds what histograms took in since the last time; without it they would grow for ever
    /// where nobody scrapes.
    fn upkeep(&self) {
        self.0.handle.run_upkeep();
    }
}
