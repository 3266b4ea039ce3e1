//! What a node is and has. It comes from a node, so its texts are cleaned and its lists bounded.

use warren_common::{
    Bytes, Limits, MilliCpus,
    spec::validate_labels,
    status::{Finding, FindingLevel, NodeFacts, clean, reason},
};

use super::{InvalidMessage, convert_all, enumeration, parse, unspecified};
use crate::pb::node::v1 as pb;

impl From<NodeFacts> for pb::NodeFacts {
    fn from(facts: NodeFacts) -> Self {
        Self {
            hostname: facts.hostname,
            boot_id: facts.boot.to_string(),
            allocatable_memory_bytes: facts.allocatable_memory.0,
            swap_bytes: facts.swap.0,
            milli_cpus: facts.cpus.0,
            disk_bytes: facts.disk.0,
            version: facts.version,
            engine: facts.engine,
            kernel: facts.kernel,
            cgroup: facts.cgroup,
            labels: facts.labels.into_iter().collect(),
            findings: facts.findings.into_iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<pb::NodeFacts> for NodeFacts {
    type Error = InvalidMessage;
    fn try_from(facts: pb::NodeFacts) -> Result<Self, InvalidMessage> {
        let word = |text: &str| clean(text, Limits::LABEL_BYTES).replace(['\n', '\t'], " ");
        let labels = facts.labels.into_iter().collect();
        validate_labels("labels", &labels).map_err(|error| InvalidMessage::new("labels", error))?;
        Ok(Self {
            hostname: word(&facts.hostname),
            boot: parse("boot_id", &facts.boot_id)?,
            allocatable_memory: Bytes(facts.allocatable_memory_bytes),
            swap: Bytes(facts.swap_bytes),
            cpus: MilliCpus(facts.milli_cpus),
            disk: Bytes(facts.disk_bytes),
            version: word(&facts.version),
            engine: word(&facts.engine),
            kernel: word(&facts.kernel),
            cgroup: facts.cgroup,
            labels,
            findings: convert_all("findings", facts.findings, Limits::FINDINGS)?,
        })
    }
}

impl From<Finding> for pb::Finding {
    fn from(finding: Finding) -> Self {
        Self {
            code: finding.code,
            level: pb::FindingLevel::from(finding.level).into(),
            message: finding.message,
            fix: finding.fix,
        }
    }
}

impl TryFrom<pb::Finding> for Finding {
    type Error = InvalidMessage;
    fn try_from(finding: pb::Finding) -> Result<Self, InvalidMessage> {
        Ok(Self {
            code: clean(&finding.code, Limits::NAME_BYTES),
            level: enumeration::<pb::FindingLevel>("level", finding.level)?.try_into()?,
            message: reason(&finding.message),
            fix: reason(&finding.fix),
        })
    }
}

impl From<FindingLevel> for pb::FindingLevel {
    fn from(level: FindingLevel) -> Self {
        match level {
            FindingLevel::Warning => Self::Warning,
            FindingLevel::Blocking => Self::Blocking,
        }
    }
}

impl TryFrom<pb::FindingLevel> for FindingLevel {
    type Error = InvalidMessage;
    fn try_from(level: pb::FindingLevel) -> Result<Self, InvalidMessage> {
        match level {
            pb::FindingLevel::Unspecified => Err(unspecified("level")),
            pb::FindingLevel::Warning => Ok(Self::Warning),
            pb::FindingLevel::Blocking => Ok(Self::Blocking),
        }
    }
}
