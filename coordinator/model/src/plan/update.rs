//! What a workspace becomes by another version of its template: what the versions differ in changes,
//! and what people changed of it since stays.
//!
//! Three specs are compared, field by field and name by name: what the version it was made from comes
//! to, what the new one comes to, and what the workspace has now. Where the first is not known, only
//! what the new one names is taken, and caps stay as they are.

use std::fmt::Display;

use warren_common::{
    MilliCpus,
    spec::{
        BROWSER_SANDBOX_LABEL, GitIdentity, Labels, RepoUrl, Resources, SessionSpec, WorkspaceSpec,
    },
    status::{line_applied, reason_applied},
};

mod rules;

pub use rules::updated_rules;

/// Bytes that are shown of a value.
const SHOWN: usize = 120;

/// What an update comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdatePlan {
    /// The workspace's spec with it.
    pub spec: WorkspaceSpec,
    /// What changes, in the order of the spec's fields.
    pub changes: Vec<SpecChange>,
    /// Where the workspace differs from the new version and stays so: from what the version says,
    /// to what it has.
    pub kept: Vec<SpecChange>,
    /// A workspace that runs begins a new run by it.
    pub restarts: bool,
}

/// One difference, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecChange {
    /// What: `image`, `memory`, `session tests`, `label team`.
    pub what: String,
    /// What it was; none where there was none.
    pub from: Option<String>,
    /// What it becomes; none where there is none any more.
    pub to: Option<String>,
}

impl UpdatePlan {
    /// Says what changes in one line; never empty.
    pub fn told(&self) -> String {
        let none = || "none".to_owned();
        let one = |change: &SpecChange| {
            let (from, to) = (change.from.clone(), change.to.clone());
            let (from, to) = (from.unwrap_or_else(none), to.unwrap_or_else(none));
            format!("{} {from} to {to}", change.what)
        };
        let all: Vec<String> = self.changes.iter().map(one).collect();
        match all.is_empty() {
            true => "nothing changes".to_owned(),
            false => reason_applied(&all.join(", ")),
        }
    }
}

/// Decides what a workspace that has `present` becomes by `new`; `base` is what its present version
/// comes to, where that is known.
pub fn updated(
    base: Option<&WorkspaceSpec>,
    new: &WorkspaceSpec,
    present: &WorkspaceSpec,
) -> UpdatePlan {
    let mut merge = Merge::default();
    let same = |alike: fn(&WorkspaceSpec, &WorkspaceSpec) -> bool| {
        base.is_some_and(|base| alike(base, new))
    };
    // what the new one leaves out says nothing where the old one is not known
    let same_or_none = |none: bool, alike: fn(&WorkspaceSpec, &WorkspaceSpec) -> bool| {
        base.map_or(none, |base| alike(base, new))
    };
    let whole = |text: &Option<String>| text.clone();
    let author =
        |one: &Option<GitIdentity>| one.as_ref().map(|one| format!("{} <{}>", one.name, one.email));
    let image = same(|one, other| one.image == other.image);
    let image = merge.choose(("image", image), (&new.image, &present.image), text);
    let repo = same_or_none(new.repo.is_none(), |one, other| one.repo == other.repo);
    let url = |repo: &Option<RepoUrl>| repo.as_ref().map(ToString::to_string);
    let repo = merge.choose(("repository", repo), (&new.repo, &present.repo), url);
    let branch = same_or_none(new.branch.is_none(), |one, other| one.branch == other.branch);
    let branch = merge.choose(("branch", branch), (&new.branch, &present.branch), whole);
    let setup = same_or_none(new.setup.is_none(), |one, other| one.setup == other.setup);
    let setup = merge.choose(("setup script", setup), (&new.setup, &present.setup), script);
    let who = same_or_none(new.git_identity.is_none(), |one, other| {
        one.git_identity == other.git_identity
    });
    let both = (&new.git_identity, &present.git_identity);
    let spec = WorkspaceSpec {
        template: new.template.clone(),
        image,
        repo,
        branch,
        setup,
        git_identity: merge.choose(("git identity", who), both, author),
        sessions: sessions(&mut merge, base, (new, present)),
        resources: resources(&mut merge, base, (&new.resources, &present.resources)),
        // see [`updated_rules`]
        placement: present.placement.clone(),
        failover: present.failover,
        labels: named(
            &mut merge,
            "label",
            (base.map(|base| &base.labels), &new.labels, &present.labels),
        ),
    };
    let Merge { changes, kept } = merge;
    UpdatePlan { restarts: begins_anew(present, &spec), spec, changes, kept }
}

/// Whether a workspace that runs as `before` has to start again to be `after`.
fn begins_anew(before: &WorkspaceSpec, after: &WorkspaceSpec) -> bool {
    let of = |spec: &WorkspaceSpec| {
        let WorkspaceSpec { image, repo, branch, setup, git_identity, sessions, .. } = spec.clone();
        // these a container keeps for its life
        let (pids, weight) = (spec.resources.pids, spec.resources.cpu_weight);
        let kept = (pids, weight, spec.browser_sandbox());
        (image, repo, branch, setup, git_identity, sessions, kept)
    };
    of(before) != of(after)
}

/// What was found so far.
#[derive(Debug, Default)]
struct Merge {
    changes: Vec<SpecChange>,
    kept: Vec<SpecChange>,
}

impl Merge {
    /// Returns what becomes of one thing, and notes it: `same` says that the versions do not differ
    /// in it.
    fn choose<T: Clone + PartialEq>(
        &mut self,
        (what, same): (&str, bool),
        (new, present): (&T, &T),
        show: impl Fn(&T) -> Option<String>,
    ) -> T {
        if new != present {
            let shown = |one: &T| show(one).map(|text| line_applied(&text, SHOWN));
            let (new, present, what) = (shown(new), shown(present), what.to_owned());
            match same {
                true => self.kept.push(SpecChange { what, from: new, to: present }),
                false => self.changes.push(SpecChange { what, from: present, to: new }),
            }
        }
        if same { present.clone() } else { new.clone() }
    }
}

fn text<T: Display>(value: &T) -> Option<String> {
    Some(value.to_string())
}

/// Says how long a script is, and nothing of what is in it.
fn script(script: &Option<String>) -> Option<String> {
    script.as_ref().map(|script| format!("{} bytes", script.len()))
}

fn sessions(
    merge: &mut Merge,
    base: Option<&WorkspaceSpec>,
    (new, present): (&WorkspaceSpec, &WorkspaceSpec),
) -> Vec<SessionSpec> {
    fn find<'a>(all: &'a [SessionSpec], one: &SessionSpec) -> Option<&'a SessionSpec> {
        all.iter().find(|other| other.name == one.name)
    }
    let mut sessions = Vec::new();
    let gone = present.sessions.iter().filter(|one| find(&new.sessions, one).is_none());
    for one in new.sessions.iter().chain(gone) {
        let (new, present) = (find(&new.sessions, one), find(&present.sessions, one));
        let same = match base {
            Some(base) => find(&base.sessions, one) == new,
            None => new.is_none(),
        };
        let shown = |one: &Option<&SessionSpec>| {
            one.map(|one| one.command.clone().unwrap_or_else(|| "a shell".to_owned()))
        };
        let what = format!("session {}", one.name);
        sessions.extend(merge.choose((&what, same), (&new, &present), shown).cloned());
    }
    sessions
}

/// Merges labels one by one.
fn named(
    merge: &mut Merge,
    what: &str,
    (base, new, present): (Option<&Labels>, &Labels, &Labels),
) -> Labels {
    let mut labels = Labels::new();
    let mut keys: Vec<&String> = new.keys().chain(present.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let (new, present) = (new.get(key), present.get(key));
        let same = match base {
            Some(base) => base.get(key) == new,
            None => new.is_none(),
        };
        let what = match key.as_str() {
            BROWSER_SANDBOX_LABEL => "browser sandbox".to_owned(),
            _ => format!("{what} {key}"),
        };
        let whole = |value: &Option<&String>| value.cloned();
        let value = merge.choose((&what, same), (&new, &present), whole).cloned();
        labels.extend(value.map(|value| (key.clone(), value)));
    }
    labels
}

fn resources(
    merge: &mut Merge,
    base: Option<&WorkspaceSpec>,
    (new, present): (&Resources, &Resources),
) -> Resources {
    // where nobody knows what was chosen, nobody knows what may be taken
    let same = |alike: fn(&Resources, &Resources) -> bool| {
        base.is_none_or(|base| alike(&base.resources, new))
    };
    let memory = same(|one, other| one.memory == other.memory);
    let memory = merge.choose(("memory", memory), (&new.memory, &present.memory), text);
    let swap = same(|one, other| one.swap == other.swap);
    let swap = merge.choose(("swap", swap), (&new.swap, &present.swap), text);
    let reserve = same(|one, other| one.reserve == other.reserve);
    let reserve = merge.choose(("reserve", reserve), (&new.reserve, &present.reserve), text);
    let weight = same(|one, other| one.cpu_weight == other.cpu_weight);
    let weights = (&new.cpu_weight, &present.cpu_weight);
    let cpu_weight = merge.choose(("cpu weight", weight), weights, text);
    let cpus = same(|one, other| one.cpus == other.cpus);
    let cores = |cap: &Option<MilliCpus>| cap.map(|cap| cap.to_string());
    let cpus = merge.choose(("cpus", cpus), (&new.cpus, &present.cpus), cores);
    let disk = same(|one, other| one.disk == other.disk);
    let disk = merge.choose(("disk", disk), (&new.disk, &present.disk), text);
    let pids = same(|one, other| one.pids == other.pids);
    let pids = merge.choose(("pids", pids), (&new.pids, &present.pids), text);
    Resources { memory, swap, reserve: reserve.min(memory), cpu_weight, cpus, disk, pids }
}

#[cfg(test)]
mod tests {
    use warren_common::Bytes;

    use super::*;

    fn session(name: &str, command: &str) -> SessionSpec {
        SessionSpec { name: name.parse().expect("a name"), command: Some(command.to_owned()) }
    }

    pub(super) fn spec(version: u32) -> WorkspaceSpec {
        WorkspaceSpec {
            template: format!("agent@{version}"),
            image: "agents:1".to_owned(),
            repo: Some("https://git.example/acme/web.git".parse().expect("a URL")),
            branch: None,
            setup: Some("npm ci\n".to_owned()),
            git_identity: None,
            sessions: vec![session("main", "claude")],
            resources: Resources::with_memory(Bytes::gib(4)),
            placement: Default::default(),
            failover: Default::default(),
            labels: [("template".to_owned(), "agent".to_owned())].into(),
        }
    }

    pub(super) fn whats(changes: &[SpecChange]) -> Vec<&str> {
        changes.iter().map(|change| change.what.as_str()).collect()
    }

    #[test]
    fn a_version_that_says_the_same_changes_nothing_and_restarts_nobody() {
        let plan = updated(Some(&spec(1)), &spec(2), &spec(1));
        assert_eq!((plan.changes.len(), plan.kept.len(), plan.restarts), (0, 0, false));
        assert_eq!(plan.spec, spec(2));
        assert_eq!(plan.told(), "nothing changes");
    }

    #[test]
    fn what_people_changed_stays_unless_the_versions_differ_in_it() {
        let mut present = spec(1);
        present.resources = Resources::with_memory(Bytes::gib(8));
        present.resources.disk = Bytes::gib(90);
        present.sessions.push(session("logs", "tail -f log"));
        present.labels.insert("team".to_owned(), "web".to_owned());
        let mut new = spec(2);
        let plan = updated(Some(&spec(1)), &new, &present);
        assert_eq!(plan.spec, WorkspaceSpec { template: "agent@2".to_owned(), ..present.clone() });
        let kept = ["session logs", "memory", "reserve", "disk", "label team"];
        assert_eq!((whats(&plan.kept), plan.restarts), (kept.to_vec(), false));

        new.resources = Resources::with_memory(Bytes::gib(6));
        let plan = updated(Some(&spec(1)), &new, &present);
        assert_eq!(whats(&plan.changes), ["memory", "reserve"]);
        let caps = &plan.spec.resources;
        let want = (Bytes::gib(6), Bytes::gib(3), Bytes::gib(90));
        assert_eq!((caps.memory, caps.reserve, caps.disk), want);
        assert!(!plan.restarts, "caps are changed while it runs");
        assert_eq!(plan.told(), "memory 8 GiB to 6 GiB, reserve 4 GiB to 3 GiB");
    }

    #[test]
    fn an_image_a_script_or_a_session_begins_a_new_run() {
        let with = |how: fn(&mut WorkspaceSpec)| {
            let mut new = spec(2);
            how(&mut new);
            let plan = updated(Some(&spec(1)), &new, &spec(1));
            assert_eq!(plan.spec, new);
            (plan.told(), plan.restarts)
        };
        let image = with(|spec| "agents:2".clone_into(&mut spec.image));
        assert_eq!(image, ("image agents:1 to agents:2".to_owned(), true));
        let (told, restarts) = with(|spec| spec.setup = Some("npm ci --quiet\n".to_owned()));
        assert!(told == "setup script 7 bytes to 15 bytes" && restarts, "{told}");
        let added = with(|spec| spec.sessions.push(session("tests", "make watch")));
        assert_eq!(added, ("session tests none to make watch".to_owned(), true));
        let removed = with(|spec| spec.sessions.clear());
        assert_eq!(removed, ("session main claude to none".to_owned(), true));
        let who = |spec: &mut WorkspaceSpec| {
            spec.git_identity = Some(GitIdentity { name: "Ada".into(), email: "a@b.c".into() });
        };
        assert_eq!(with(who), ("git identity none to Ada <a@b.c>".to_owned(), true));
        let label = with(|spec| drop(spec.labels.insert("agent".into(), "codex".into())));
        assert_eq!(label, ("label agent none to codex".to_owned(), false));
        let on = |spec: &mut WorkspaceSpec| {
            spec.labels.insert(BROWSER_SANDBOX_LABEL.to_owned(), "on".to_owned());
        };
        assert_eq!(with(on), ("browser sandbox none to on".to_owned(), true));
        let off = |spec: &mut WorkspaceSpec| {
            spec.labels.insert(BROWSER_SANDBOX_LABEL.to_owned(), "off".to_owned());
        };
        assert_eq!(with(off), ("browser sandbox none to off".to_owned(), false));
        let gone = with(|spec| spec.labels.clear());
        assert_eq!(gone, ("label template agent to none".to_owned(), false));
    }

    #[test]
    fn where_nobody_knows_what_it_was_made_from_caps_and_what_is_not_named_stay() {
        let mut present = spec(0);
        present.resources.disk = Bytes::gib(90);
        present.sessions.push(session("logs", "tail -f log"));
        present.labels.insert("team".to_owned(), "web".to_owned());
        let mut new = spec(2);
        "agents:2".clone_into(&mut new.image);
        new.sessions = vec![session("main", "codex")];
        let plan = updated(None, &new, &present);
        assert_eq!(whats(&plan.changes), ["image", "session main"]);
        assert_eq!(whats(&plan.kept), ["session logs", "disk", "label team"]);
        assert_eq!(plan.spec.resources, present.resources);
    }

    #[test]
    fn what_a_version_leaves_out_stays_where_nobody_knows_the_one_before() {
        let mut present = spec(0);
        present.repo = Some("https://git.example/acme/web.git".parse().expect("a URL"));
        present.setup = Some("make".to_owned());
        let new = WorkspaceSpec { repo: None, setup: None, ..spec(2) };
        let kept = updated(None, &new, &present).spec;
        assert_eq!((&kept.repo, &kept.setup), (&present.repo, &present.setup));
        // known to have been the same: it is a person's change, and stays; else the version's goes
        let base = WorkspaceSpec { repo: None, setup: present.setup.clone(), ..spec(1) };
        let taken = updated(Some(&base), &new, &present).spec;
        assert_eq!((&taken.repo, &taken.setup), (&present.repo, &None));
    }

    #[test]
    fn what_a_container_keeps_for_its_life_makes_it_start_again() {
        let starts = |change: fn(&mut Resources)| {
            let mut new = spec(2);
            change(&mut new.resources);
            updated(Some(&spec(1)), &new, &spec(1)).restarts
        };
        assert!(starts(|caps| caps.pids += 1) && starts(|caps| caps.cpu_weight += 1));
        assert!(!starts(|caps| caps.memory = Bytes::gib(9)));
    }

    #[test]
    fn what_is_set_aside_is_never_more_than_the_cap() {
        let mut present = spec(1);
        present.resources = Resources::with_memory(Bytes::gib(2));
        let mut new = spec(2);
        new.resources.reserve = Bytes::gib(3);
        let caps = updated(Some(&spec(1)), &new, &present).spec.resources;
        assert_eq!((caps.memory, caps.reserve), (Bytes::gib(2), Bytes::gib(2)));
        caps.validate().expect("they fit together");
    }
}
