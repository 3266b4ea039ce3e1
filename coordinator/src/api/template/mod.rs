//! Templates: from parameters and overrides to a complete workspace spec.
//!
//! One template is built in, `base`; others were pushed ([`document`]). Making a spec fills every field of the spec, so that what enters the
//! model names nothing that could change later. Values are checked here with the vocabulary's own
//! rules, and each refusal says what to do next.

pub mod document;
mod invalid;

use std::collections::BTreeMap;

use warren_common::{
    Bytes, MilliCpus, SecretName, SessionName,
    spec::{
        BROWSER_SANDBOX_LABEL, Failover, GIT_TOKEN_LABEL, GitIdentity, Labels, OFF, ON,
        PlacementRules, RepoUrl, Resources, SessionSpec, WorkspaceSpec,
    },
};

pub use document::Chosen;
pub use invalid::InvalidRequest;

use crate::config::TemplateDefaults;

/// The only template, and the default.
pub const BASE: &str = "base";

/// Its parameters with what each is, in the order in which errors list them.
pub const PARAMETERS: [(&str, &str); 7] = [
    ("repo", "https URL of the git repository cloned into the home"),
    ("branch", "branch to check out"),
    ("setup", "shell script run in the checkout after the clone"),
    ("image", "container image"),
    ("git_name", "user.name of git inside"),
    ("git_email", "user.email of git inside"),
    ("command", "command line of the session main"),
];

/// What a request says about a workspace; everything it leaves out comes from the template.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The template's name; [`BASE`] where empty.
    pub template: String,
    /// Its parameters.
    pub parameters: BTreeMap<String, String>,
    /// The sessions asked for by name; `main` where there are none.
    pub sessions: Vec<SessionSpec>,
    /// The caps asked for.
    pub resources: ResourceRequest,
    /// Where it may run.
    pub placement: PlacementRules,
    /// What happens when its node dies; the template's without it.
    pub failover: Option<Failover>,
    /// The operator's labels.
    pub labels: Labels,
}

/// The caps a request names.
#[derive(Debug, Clone, Copy, Default)]
pub struct ResourceRequest {
    /// Hard memory cap, bytes.
    pub memory: Option<u64>,
    /// Swap beyond it, bytes.
    pub swap: Option<u64>,
    /// What placement sets aside, bytes.
    pub reserve: Option<u64>,
    /// Share of the processor.
    pub cpu_weight: Option<u32>,
    /// Hard processor cap, thousandths of a core.
    pub milli_cpus: Option<u32>,
    /// Size of the home volume, bytes.
    pub disk: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u32>,
}

impl ResourceRequest {
    /// Returns the same with what it leaves out as `other` has it.
    fn or(self, other: Self) -> Self {
        Self {
            memory: self.memory.or(other.memory),
            swap: self.swap.or(other.swap),
            // what was chosen for another cap is at most this one
            reserve: self.reserve.or(other
                .reserve
                .map(|reserve| self.memory.map_or(reserve, |memory| reserve.min(memory)))),
            cpu_weight: self.cpu_weight.or(other.cpu_weight),
            milli_cpus: self.milli_cpus.or(other.milli_cpus),
            disk: self.disk.or(other.disk),
            pids: self.pids.or(other.pids),
        }
    }
}

/// Makes the complete spec of a request; `chosen` is the template it names, none for [`BASE`]. What
/// the request says itself goes before what the template says.
///
/// # Errors
/// Returns the first thing that is wrong with it.
pub fn expand(
    request: Request,
    chosen: Option<Chosen>,
    defaults: &TemplateDefaults,
) -> Result<WorkspaceSpec, InvalidRequest> {
    let Some(chosen) = chosen else { return base(request, defaults) };
    let Chosen { reference, filled, rules } = chosen;
    let caps = request.resources.or(document::resources(&filled.body)?);
    let mut sessions = document::sessions(&filled);
    let mut extras = filled.extras;
    for asked in request.sessions {
        // what the request says is all there is of it
        extras.sessions.retain(|(name, _)| *name != asked.name);
        match sessions.iter_mut().find(|one| one.name == asked.name) {
            Some(one) => *one = asked,
            None => sessions.push(asked),
        }
    }
    let body = filled.body;
    let repo = body.repo.map(|url| url.parse::<RepoUrl>()).transpose()?;
    if body.branch.is_some() && repo.is_none() {
        return Err(InvalidRequest::BranchWithoutRepo);
    }
    let branched = extras.sessions.iter().find(|(_, program)| program.branch.is_some());
    if let (Some((name, _)), None) = (branched, &repo) {
        return Err(InvalidRequest::SessionBranch(name.clone()));
    }
    let mut labels = body.labels;
    if document::browser_sandbox(body.browser_sandbox.as_deref())? {
        labels.insert(BROWSER_SANDBOX_LABEL.to_owned(), ON.to_owned());
    }
    labels.extend(request.labels);
    if let Some(token) = body.git_token {
        let token: SecretName = token.parse().map_err(|_| InvalidRequest::GitToken)?;
        labels.insert(GIT_TOKEN_LABEL.to_owned(), token.to_string());
    }
    let spec = WorkspaceSpec {
        template: reference,
        image: body.image.unwrap_or_else(|| defaults.image.clone()),
        repo,
        branch: body.branch,
        setup: extras.before(body.setup),
        git_identity: identity(body.git_name, body.git_email)?,
        sessions: self::sessions(sessions, None, defaults),
        resources: resources(caps, defaults),
        placement: placed(request.placement, rules.placement),
        failover: request.failover.or(rules.failover).unwrap_or_default(),
        labels,
    };
    checked(spec)
}

fn base(request: Request, defaults: &TemplateDefaults) -> Result<WorkspaceSpec, InvalidRequest> {
    let mut parameters = Parameters::known(request.parameters)?;
    let repo = parameters.take("repo").map(|url| url.parse::<RepoUrl>()).transpose()?;
    let branch = parameters.take("branch");
    if branch.is_some() && repo.is_none() {
        return Err(InvalidRequest::BranchWithoutRepo);
    }
    let identity = identity(parameters.take("git_name"), parameters.take("git_email"))?;
    let command = parameters.take("command");
    let spec = WorkspaceSpec {
        template: BASE.to_owned(),
        image: parameters.take("image").unwrap_or_else(|| defaults.image.clone()),
        repo,
        branch,
        setup: parameters.take("setup"),
        git_identity: identity,
        sessions: sessions(request.sessions, command, defaults),
        resources: resources(request.resources, defaults),
        placement: request.placement,
        failover: request.failover.unwrap_or_default(),
        labels: request.labels,
    };
    checked(spec)
}

fn checked(spec: WorkspaceSpec) -> Result<WorkspaceSpec, InvalidRequest> {
    spec.validate()?;
    match spec.labels.get(BROWSER_SANDBOX_LABEL).map(String::as_str) {
        None | Some(ON | OFF) => Ok(spec),
        Some(_) => Err(InvalidRequest::BrowserSandbox),
    }
}

/// Joins rules: what a request says goes before the template's, but its walls are never weaker.
fn placed(asked: PlacementRules, of: PlacementRules) -> PlacementRules {
    let mut required_labels = of.required_labels;
    required_labels.extend(asked.required_labels);
    let (pin, tier) = (asked.pin.or(of.pin), asked.tier.max(of.tier));
    PlacementRules { pin, required_labels, tier }
}

/// Parameters that the template knows, none of them empty.
struct Parameters(BTreeMap<&'static str, String>);

impl Parameters {
    fn known(given: BTreeMap<String, String>) -> Result<Self, InvalidRequest> {
        let mut known = BTreeMap::new();
        for (name, value) in given {
            let Some((name, _)) = PARAMETERS.iter().find(|(known, _)| *known == name) else {
                let nearest = nearest(&name);
                let name = name.chars().take(40).collect();
                return Err(InvalidRequest::Parameter { name, nearest });
            };
            if value.trim().is_empty() {
                return Err(InvalidRequest::Empty(name));
            }
            known.insert(*name, value);
        }
        Ok(Self(known))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }
}

fn identity(
    name: Option<String>,
    email: Option<String>,
) -> Result<Option<GitIdentity>, InvalidRequest> {
    match (name, email) {
        (Some(name), Some(email)) => Ok(Some(GitIdentity { name, email })),
        (None, None) => Ok(None),
        (Some(_), None) => Err(InvalidRequest::Identity("git_email")),
        (None, Some(_)) => Err(InvalidRequest::Identity("git_name")),
    }
}

/// The sessions asked for; `main` where there are none, or where a command for it is given.
fn sessions(
    mut sessions: Vec<SessionSpec>,
    command: Option<String>,
    defaults: &TemplateDefaults,
) -> Vec<SessionSpec> {
    let main: SessionName = "main".parse().expect("main is a name");
    if let Some(session) = sessions.iter_mut().find(|session| session.name == main) {
        session.command = command.or_else(|| session.command.take());
    } else if sessions.is_empty() || command.is_some() {
        let command = command.or_else(|| defaults.command.clone());
        sessions.insert(0, SessionSpec { name: main, command });
    }
    sessions
}

fn resources(request: ResourceRequest, defaults: &TemplateDefaults) -> Resources {
    let default = &defaults.resources;
    let memory = request.memory.map_or(default.memory, Bytes);
    let reserve = match request.reserve {
        Some(reserve) => Bytes(reserve),
        None if defaults.reserve_is_set => default.reserve.min(memory),
        None => Resources::with_memory(memory).reserve,
    };
    Resources {
        memory,
        swap: request.swap.map_or(default.swap, Bytes),
        reserve,
        cpu_weight: request.cpu_weight.unwrap_or(default.cpu_weight),
        cpus: request.milli_cpus.map(MilliCpus).or(default.cpus),
        disk: request.disk.map_or(default.disk, Bytes),
        pids: request.pids.unwrap_or(default.pids),
    }
}

/// Returns the parameter that is at most two edits away, the nearest first.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 40 {
        return None;
    }
    let distances = PARAMETERS.iter().map(|(known, _)| (distance(name, known), *known));
    distances.min().filter(|(edits, _)| *edits <= 2).map(|(_, known)| known)
}

/// Counts the insertions, removals and replacements between two texts (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in other.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use warren_common::{
        Limits,
        spec::IsolationTier,
        template::{Body, Filled, FilledSession},
    };

    use super::*;
    use crate::config::{Config, RawConfig};

    fn defaults() -> TemplateDefaults {
        Config::try_from(RawConfig::default()).expect("the defaults").template
    }

    fn with(parameters: &[(&str, &str)]) -> Request {
        let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Request { parameters: parameters.iter().map(pair).collect(), ..Request::default() }
    }

    fn refused(parameters: &[(&str, &str)]) -> InvalidRequest {
        expand(with(parameters), None, &defaults()).expect_err("refused")
    }

    #[test]
    fn an_empty_request_is_a_shell_in_the_default_image() {
        let spec = expand(Request::default(), None, &defaults()).expect("complete");
        assert_eq!(spec.template, BASE);
        assert_eq!(spec.image, "warren-workspace:latest");
        assert_eq!(spec.resources.reserve, Bytes::gib(1));
        assert_eq!(spec.sessions.len(), 1);
        assert_eq!(spec.sessions[0].name.as_str(), "main");
    }

    #[test]
    fn an_unknown_parameter_names_the_nearest_and_all() {
        let error = refused(&[("rep", "https://h/x")]);
        assert_eq!(error.reason(), "UNKNOWN_PARAMETER");
        assert!(error.to_string().contains("did you mean repo?"), "{error}");
        let next = error.next().expect("the list");
        assert!(PARAMETERS.iter().all(|(name, _)| next.contains(name)), "{next}");
        assert!(!refused(&[("colour", "red")]).to_string().contains("did you mean"));
    }

    #[test]
    fn credentials_in_a_url_are_refused_with_a_next_step_and_never_repeated() {
        let error = refused(&[("repo", "https://me:hunter2@h/x.git")]);
        assert_eq!(error.reason(), "REPO_CREDENTIALS");
        assert!(error.next().is_some());
        assert!(!format!("{error:?}{error}").contains("hunter2"));
    }

    #[test]
    fn impossible_caps_and_long_scripts_are_refused() {
        let resources = ResourceRequest { memory: Some(1), ..ResourceRequest::default() };
        let error = expand(Request { resources, ..Request::default() }, None, &defaults());
        assert_eq!(error.expect_err("1 byte").reason(), "INVALID_RESOURCES");
        let script = "x".repeat(Limits::SETUP_BYTES + 1);
        assert_eq!(refused(&[("setup", &script)]).reason(), "INVALID_SPEC");
        assert_eq!(refused(&[("git_name", "a")]).reason(), "INVALID_PARAMETER");
        assert_eq!(refused(&[("branch", "main")]).reason(), "INVALID_PARAMETER");
        assert_eq!(refused(&[("image", " ")]).reason(), "INVALID_PARAMETER");
    }

    #[test]
    fn the_reserve_follows_the_cap_unless_it_is_given() {
        let resources = ResourceRequest { memory: Some(Bytes::gib(8).0), ..Default::default() };
        let spec =
            expand(Request { resources, ..Request::default() }, None, &defaults()).expect("fits");
        assert_eq!(spec.resources.reserve, Bytes::gib(4));
    }

    #[test]
    fn a_command_is_of_the_session_main() {
        let spec = expand(with(&[("command", "claude")]), None, &defaults()).expect("fits");
        assert_eq!(spec.sessions[0].command.as_deref(), Some("claude"));
        let other = SessionSpec { name: "logs".parse().expect("a name"), command: None };
        let request = Request { sessions: vec![other], ..with(&[("command", "claude")]) };
        let spec = expand(request, None, &defaults()).expect("fits");
        let names: Vec<&str> = spec.sessions.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["main", "logs"]);
    }

    #[test]
    fn a_request_goes_before_its_template_and_that_before_the_defaults() {
        let text = |text: &str| Some(text.to_owned());
        let session = |name: &str, command: &str| FilledSession {
            name: name.parse().expect("a name"),
            command: text(command),
        };
        let filled = Filled {
            body: Body {
                image: text("agents:1"),
                memory: text("8G"),
                disk: text("30G"),
                labels: [("team".to_owned(), "web".to_owned())].into(),
                ..Body::default()
            },
            sessions: vec![session("main", "claude"), session("tests", "make watch")],
            ..Filled::default()
        };
        let placement = PlacementRules {
            required_labels: [("region".to_owned(), "eu".to_owned())].into(),
            tier: IsolationTier::Gvisor,
            ..PlacementRules::default()
        };
        let rules = document::Rules { placement, failover: Some(Failover::Manual) };
        let chosen = Chosen { reference: "agent@3".to_owned(), filled, rules };
        let main = SessionSpec { name: "main".parse().expect("a name"), command: text("codex") };
        let resources = ResourceRequest { disk: Some(Bytes::gib(50).0), ..Default::default() };
        let request = Request { sessions: vec![main], resources, ..Request::default() };
        let spec = expand(request, Some(chosen.clone()), &defaults()).expect("complete");
        assert_eq!((spec.template.as_str(), spec.image.as_str()), ("agent@3", "agents:1"));
        let caps = &spec.resources;
        let given = (caps.memory, caps.reserve, caps.disk, caps.pids);
        let pids = defaults().resources.pids;
        assert_eq!(given, (Bytes::gib(8), Bytes::gib(4), Bytes::gib(50), pids));
        let commands: Vec<_> = spec.sessions.iter().map(|one| one.command.as_deref()).collect();
        assert_eq!(commands, [Some("codex"), Some("make watch")]);
        assert_eq!(spec.labels["team"], "web");
        let rules = &spec.placement;
        assert_eq!((rules.tier, spec.failover), (IsolationTier::Gvisor, Failover::Manual));
        assert_eq!(rules.required_labels["region"], "eu");
        let mut asked = Request { failover: Some(Failover::Auto), ..Request::default() };
        asked.placement.tier = IsolationTier::Container;
        asked.placement.required_labels.insert("region".to_owned(), "us".to_owned());
        let spec = expand(asked, Some(chosen.clone()), &defaults()).expect("complete");
        assert_eq!(spec.failover, Failover::Auto);
        assert_eq!(spec.placement.tier, IsolationTier::Gvisor, "its walls are never weaker");
        assert_eq!(spec.placement.required_labels["region"], "us");

        let mut broken = chosen;
        broken.filled.body.memory = text("much");
        let error = expand(Request::default(), Some(broken), &defaults()).expect_err("refused");
        assert_eq!(error.reason(), "INVALID_PARAMETER");
        assert!(error.to_string().starts_with("memory of the template: "), "{error}");
    }

    #[test]
    fn a_browser_sandbox_is_the_requests_then_the_templates_then_off() {
        let on = |template: Option<&str>, label: Option<&str>| {
            let body = Body { browser_sandbox: template.map(str::to_owned), ..Default::default() };
            let filled = Filled { body, ..Filled::default() };
            let chosen =
                Chosen { reference: "web@1".to_owned(), filled, rules: document::Rules::default() };
            let labels = label.map(|value| (BROWSER_SANDBOX_LABEL.to_owned(), value.to_owned()));
            let request = Request { labels: labels.into_iter().collect(), ..Request::default() };
            expand(request, Some(chosen), &defaults()).map(|spec| spec.browser_sandbox())
        };
        assert_eq!((on(None, None), on(Some("false"), None)), (Ok(false), Ok(false)));
        assert_eq!((on(Some("true"), None), on(None, Some(ON))), (Ok(true), Ok(true)));
        assert_eq!(
            (on(Some("true"), Some(OFF)), on(Some("false"), Some(ON))),
            (Ok(false), Ok(true))
        );
        for refused in [on(Some("yes"), None), on(None, Some("yes"))] {
            assert_eq!(refused.expect_err("refused").reason(), "INVALID_PARAMETER");
        }
        let labels = [(BROWSER_SANDBOX_LABEL.to_owned(), "maybe".to_owned())].into();
        let request = Request { labels, ..Request::default() };
        assert_eq!(expand(request, None, &defaults()), Err(InvalidRequest::BrowserSandbox));
    }

    #[test]
    fn distances_count_edits() {
        assert_eq!(distance("repo", "repo"), 0);
        assert_eq!(distance("", "repo"), 4);
        assert_eq!(distance("brunch", "branch"), 1);
    }
}
