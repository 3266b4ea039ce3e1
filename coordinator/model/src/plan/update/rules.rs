//! The same for versions that say where a workspace may run, or what happens when its node dies.

use warren_common::{
    NodeId,
    spec::{Failover, IsolationTier, PlacementRules, WorkspaceSpec},
};

use super::{Merge, UpdatePlan, named, text, updated};

/// Decides as [`updated`] does, and what becomes of the rules too. None of them begins a new run: they
/// are looked at where a node is chosen.
pub fn updated_rules(
    base: Option<&WorkspaceSpec>,
    new: &WorkspaceSpec,
    present: &WorkspaceSpec,
) -> UpdatePlan {
    let plan = updated(base, new, present);
    let mut merge = Merge { changes: plan.changes, kept: plan.kept };
    let usual = PlacementRules::default();
    // what the new one leaves out says nothing where the old one is not known
    let before = base.map_or(&usual, |base| &base.placement);
    let (to, now) = (&new.placement, &present.placement);
    let node = |pin: &Option<NodeId>| pin.map(|node| node.to_string());
    let pin = merge.choose(("pin", before.pin == to.pin), (&to.pin, &now.pin), node);
    let known = base.map(|base| &base.placement.required_labels);
    let labels = (known, &to.required_labels, &now.required_labels);
    let required_labels = named(&mut merge, "required label", labels);
    let tiers = (&to.tier, &now.tier);
    let tier = merge.choose(("isolation", before.tier == to.tier), tiers, text::<IsolationTier>);
    let before = base.map_or(Failover::default(), |base| base.failover);
    let policies = (&new.failover, &present.failover);
    let word = |policy: &Failover| Some(policy.as_str().to_owned());
    let failover = merge.choose(("failover", before == new.failover), policies, word);
    let placement = PlacementRules { pin, required_labels, tier };
    let Merge { changes, kept } = merge;
    UpdatePlan { spec: WorkspaceSpec { placement, failover, ..plan.spec }, changes, kept, ..plan }
}

#[cfg(test)]
mod tests {
    use warren_common::Bytes;

    use super::*;
    use crate::plan::update::tests::{spec, whats};

    fn ruled(version: u32, region: &str) -> WorkspaceSpec {
        let mut spec = spec(version);
        spec.placement.required_labels.insert("region".to_owned(), region.to_owned());
        spec.placement.tier = IsolationTier::Gvisor;
        spec.failover = Failover::Manual;
        spec
    }

    #[test]
    fn rules_that_the_versions_differ_in_change_and_no_run_begins() {
        let plan = updated_rules(Some(&spec(1)), &ruled(2, "eu"), &spec(1));
        assert_eq!(plan.spec, ruled(2, "eu"));
        assert_eq!(whats(&plan.changes), ["required label region", "isolation", "failover"]);
        assert!(!plan.restarts && plan.kept.is_empty());
        let told = "required label region none to eu, isolation container to gvisor, \
                    failover auto to manual";
        assert_eq!(plan.told(), told);
        let back = updated_rules(Some(&ruled(2, "eu")), &spec(3), &ruled(2, "eu"));
        assert_eq!(back.spec, spec(3));
    }

    #[test]
    fn rules_that_people_chose_stay_unless_the_versions_differ_in_them() {
        let mut present = ruled(1, "eu");
        present.placement.required_labels.insert("disk".to_owned(), "ssd".to_owned());
        present.failover = Failover::Auto;
        let plan = updated_rules(Some(&ruled(1, "eu")), &ruled(2, "us"), &present);
        assert_eq!(whats(&plan.changes), ["required label region"]);
        assert_eq!(whats(&plan.kept), ["required label disk", "failover"]);
        assert_eq!(plan.spec.placement.required_labels["disk"], "ssd");
        assert_eq!(plan.spec.failover, Failover::Auto);
        // where nobody knows what it was made from
        let plan = updated_rules(None, &spec(2), &present);
        assert_eq!(plan.spec.placement, present.placement);
    }

    #[test]
    fn versions_without_rules_come_to_what_they_came_to_before_there_were_any() {
        let mut present = ruled(1, "eu");
        present.resources.disk = Bytes::gib(90);
        for base in [None, Some(&spec(1))] {
            let mut plain = updated(base, &spec(2), &present);
            let whole = updated_rules(base, &spec(2), &present);
            plain.kept.clone_from(&whole.kept);
            assert_eq!(plain, whole);
        }
    }
}
