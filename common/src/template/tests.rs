//! What a template takes, what it makes of it, and what is refused when.

use std::collections::BTreeMap;

use super::*;

fn parameter(name: &str, kind: Kind) -> Parameter {
    Parameter {
        name: name.to_owned(),
        kind,
        description: String::new(),
        default: None,
        optional: false,
        raw: false,
        options: Vec::new(),
        min: None,
        max: None,
    }
}

fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn agent() -> Template {
    let agent = Parameter {
        options: vec!["claude".to_owned(), "codex".to_owned()],
        default: Some(Value::Text("claude".to_owned())),
        ..parameter("agent", Kind::Choice)
    };
    let session = Session::with_command("main", "{{agent}} --task {{ task }} --add {{folders}}");
    Template {
        description: "a coding agent".to_owned(),
        parameters: vec![
            parameter("repo", Kind::String),
            Parameter { optional: true, ..parameter("branch", Kind::String) },
            agent,
            Parameter { optional: true, ..parameter("task", Kind::String) },
            Parameter { optional: true, ..parameter("folders", Kind::List) },
            Parameter {
                min: Some(1),
                max: Some(64),
                default: Some(Value::Number(4)),
                ..parameter("gib", Kind::Number)
            },
        ],
        workspace: Body {
            repo: Some("{{repo}}".to_owned()),
            branch: Some("{{branch}}".to_owned()),
            memory: Some("{{gib}}G".to_owned()),
            setup: Some("docker ps --format '{{.ID}}' {{{agent}}} # {{ no name }} 'it".to_owned()),
            labels: [("for".to_owned(), "{{agent}}".to_owned())].into(),
            ..Body::default()
        },
        sessions: vec![session],
        logins: Vec::new(),
        servers: Vec::new(),
    }
}

#[test]
fn values_fill_the_body_and_what_has_none_is_left_out() {
    let template = agent();
    assert_eq!(template.check(), Ok(()));
    let filled = template.fill(&given(&[("repo", "https://h/r.git")])).expect("complete");
    assert_eq!(filled.body.repo.as_deref(), Some("https://h/r.git"));
    assert_eq!(filled.body.branch, None);
    assert_eq!(filled.body.memory.as_deref(), Some("4G"));
    assert_eq!(filled.body.labels["for"], "claude");
    // braces around what is no name are text
    let setup = "docker ps --format '{{.ID}}' {claude} # {{ no name }} 'it";
    assert_eq!(filled.body.setup.as_deref(), Some(setup));
    assert_eq!(filled.sessions[0].command.as_deref(), Some("claude --task  --add "));
}

#[test]
fn a_parameter_may_say_whether_browsers_have_a_sandbox() {
    let asked = Parameter { optional: true, ..parameter("sandbox", Kind::Bool) };
    let workspace = Body { browser_sandbox: Some("{{sandbox}}".to_owned()), ..Body::default() };
    let template = Template { parameters: vec![asked], workspace, ..Template::default() };
    assert_eq!(template.check(), Ok(()));
    let filled = |pairs| template.fill(&given(pairs)).expect("complete").body.browser_sandbox;
    assert_eq!((filled(&[("sandbox", "true")]), filled(&[])), (Some("true".to_owned()), None));
}

#[test]
fn a_value_is_one_word_for_the_shell_whatever_it_holds() {
    let template = agent();
    let task = "fix it; rm -rf ~ $(id) `id` 'x' \"y\"\nnow";
    let values = given(&[("repo", "r"), ("task", task), ("folders", "a b, c,,d'e")]);
    let filled = template.fill(&values).expect("complete");
    let command = filled.sessions[0].command.clone().expect("a command");
    let wanted = "claude --task 'fix it; rm -rf ~ $(id) `id` '\\''x'\\'' \"y\"\nnow' \
                  --add 'a b' c 'd'\\''e'";
    assert_eq!(command, wanted);
    let empty = template.fill(&given(&[("repo", "r"), ("task", "")])).expect("complete");
    assert_eq!(empty.sessions[0].command.as_deref(), Some("claude --task '' --add "));
}

#[test]
fn a_whole_command_line_stands_as_it_is_where_the_template_says_so() {
    let raw = Parameter { raw: true, optional: true, ..parameter("command", Kind::String) };
    let session = Session::with_command("main", "{{command}}");
    let template =
        Template { parameters: vec![raw], sessions: vec![session], ..Template::default() };
    let filled = template.fill(&given(&[("command", "claude --continue")])).expect("complete");
    assert_eq!(filled.sessions[0].command.as_deref(), Some("claude --continue"));
    let shell = template.fill(&given(&[])).expect("complete");
    assert_eq!(shell.sessions[0].command, None);
}

#[test]
fn values_that_do_not_fit_are_refused_by_name() {
    let template = agent();
    let refused = |pairs: &[(&str, &str)]| {
        let all: Vec<_> = [("repo", "r")].into_iter().chain(pairs.iter().copied()).collect();
        template.fill(&given(&all)).expect_err("refused").to_string()
    };
    assert_eq!(refused(&[("gib", "65")]), "parameter gib takes 1 to 64, not \"65\"");
    assert_eq!(refused(&[("gib", "4G")]), "parameter gib takes a whole number, not \"4G\"");
    let wanted = "parameter agent takes one of claude, codex, not \"gemini\"";
    assert_eq!(refused(&[("agent", "gemini")]), wanted);
    assert_eq!(refused(&[("task", "\x1b[2J")]), "parameter task takes no control characters");
    assert_eq!(refused(&[("tsak", "x")]), "the template has no parameter \"tsak\"");
    let many = "x,".repeat(Limits::TEMPLATE_LIST + 1);
    assert!(refused(&[("folders", &many)]).starts_with("parameter folders takes at most"));
    let missing = template.fill(&given(&[])).expect_err("no repo").to_string();
    assert_eq!(missing, "parameter repo is not given");
}

#[test]
fn a_template_that_could_not_be_filled_is_refused_when_it_is_pushed() {
    let check = |change: &dyn Fn(&mut Template)| {
        let mut template = agent();
        change(&mut template);
        template.check().expect_err("refused").to_string()
    };
    let undefined = check(&|one| one.workspace.image = Some("{{imgae}}".to_owned()));
    assert_eq!(undefined, "workspace.image names parameter imgae, which is not defined");
    let undefined = check(&|one| one.sessions[0].command = Some("{{agnt}}".to_owned()));
    assert_eq!(undefined, "command of session main names parameter agnt, which is not defined");
    let unused = check(&|one| one.parameters.push(parameter("vault", Kind::String)));
    assert_eq!(unused, "parameter vault is named nowhere in the template");
    let twice = check(&|one| one.parameters.push(parameter("repo", Kind::String)));
    assert_eq!(twice, "parameter repo is defined twice");
    let name = check(&|one| one.parameters[0].name = "Repo URL".to_owned());
    assert!(name.starts_with("\"Repo URL\" is no name of a parameter"), "{name}");
    let empty = check(&|one| one.parameters[2].options.clear());
    assert_eq!(empty, "parameter agent is a choice without options");
    let default = check(&|one| one.parameters[2].default = Some(Value::Text("vim".to_owned())));
    assert_eq!(default, "parameter agent takes one of claude, codex, not \"vim\"");
    let default = check(&|one| one.parameters[5].default = Some(Value::Text("4".to_owned())));
    assert_eq!(default, "parameter gib is a number and has the default Text(\"4\")");
    let crossed = check(&|one| one.parameters[5].min = Some(65));
    assert_eq!(crossed, "parameter gib has a min above its max");
    let many = check(&|one| {
        let more =
            (0..=Limits::TEMPLATE_PARAMETERS).map(|n| parameter(&format!("p{n}"), Kind::Bool));
        one.parameters = more.collect();
    });
    assert!(many.contains("parameters, the limit is"), "{many}");
}

#[test]
fn a_name_inside_quotes_of_a_script_is_refused() {
    let check = |setup: &str| {
        let mut template = agent();
        template.workspace.setup = Some(setup.to_owned());
        template.check()
    };
    for quoted in
        ["git switch \"{{branch}}\"", "echo 'to {{branch}}'", "a='x'\necho \"\\\" {{task}}"]
    {
        let error = check(quoted).expect_err("refused").to_string();
        assert!(error.starts_with("workspace.setup names parameter"), "{error}");
        assert!(error.contains("inside quotes"), "{error}");
    }
    for good in [
        "git switch {{branch}}",
        "# don't\ngit switch {{branch}}",
        "echo \"it's\" {{branch}} 'and \"' {{task}}",
        "x=a#'b' {{task}} \\' {{branch}}",
        "cat <<END\nit's {{branch}}\nEND",
    ] {
        assert_eq!(check(good), Ok(()), "{good}");
    }
}

#[test]
fn many_braces_and_many_values_are_no_work_without_end() {
    let mut template = agent();
    let braces = "{".repeat(Limits::TEMPLATE_BYTES);
    template.workspace.image = Some(braces.clone());
    let filled = template.fill(&given(&[("repo", "r")])).expect("text");
    assert_eq!(filled.body.image, Some(braces));
    template.workspace.image = Some("{{task}}".repeat(1000));
    let task = "x".repeat(1000);
    let error = template.fill(&given(&[("repo", "r"), ("task", &task)])).expect_err("too long");
    assert_eq!(error, InvalidTemplate::TooLong(Limits::TEMPLATE_BYTES));
}

#[test]
fn a_parameter_reads_what_people_write() {
    let read = |kind, text: &str| parameter("x", kind).read(text);
    assert_eq!(read(Kind::Bool, "yes"), Ok(Value::Bool(true)));
    assert_eq!(read(Kind::Bool, "false"), Ok(Value::Bool(false)));
    assert_eq!(read(Kind::Number, " -3 "), Ok(Value::Number(-3)));
    let list = Value::List(vec!["a".to_owned(), "b c".to_owned()]);
    assert_eq!(read(Kind::List, "a, b c,"), Ok(list));
    let error = read(Kind::Bool, "maybe").expect_err("neither").to_string();
    assert_eq!(error, "parameter x takes true or false, not \"maybe\"");
}

#[test]
fn logins_and_servers_name_secrets_and_what_is_odd_in_them_is_refused() {
    let secret = |name: &str| Parameter { optional: true, ..parameter(name, Kind::Secret) };
    let login = |tool: &str, secret: &str| ToolLogin {
        tool: tool.to_owned(),
        secret: secret.to_owned(),
        host: None,
    };
    let server = Server {
        name: "docs".to_owned(),
        command: "npx".to_owned(),
        args: vec!["-y".to_owned(), "{{package}}".to_owned(), "{{token}}".to_owned()],
        env: [("TOKEN".to_owned(), "{{token}}".to_owned())].into(),
    };
    let package = Parameter { optional: true, ..parameter("package", Kind::String) };
    let template = Template {
        parameters: vec![secret("token"), package],
        logins: vec![login("vercel", "{{token}}"), login("npm", "npm-token")],
        servers: vec![server],
        ..Template::default()
    };
    template.check().expect("sound");
    let filled = template.fill(&given(&[("token", "deploy")])).expect("filled").extras;
    assert_eq!(filled.logins.len(), 2);
    assert_eq!(filled.logins[0].secret.as_str(), "deploy", "its name, not its file");
    assert_eq!(filled.servers[0].args, ["-y", "/run/secrets/deploy"], "its file, not its value");
    assert_eq!(filled.servers[0].env["TOKEN"].as_str(), "deploy");
    let without = template.fill(&given(&[])).expect("filled").extras;
    assert_eq!((without.logins.len(), without.servers[0].env.len()), (1, 0));
    let refused = |change: &dyn Fn(&mut Template)| {
        let mut odd = template.clone();
        change(&mut odd);
        odd.check().expect_err("refused").to_string()
    };
    assert!(refused(&|odd| odd.logins[1].tool = "frob".to_owned()).contains("no login for"));
    assert!(refused(&|odd| odd.logins[1].tool = "vercel".to_owned()).contains("twice"));
    assert!(refused(&|odd| odd.logins[1].secret = "No Name".to_owned()).contains("login npm"));
    assert!(refused(&|odd| odd.logins[1].secret = "{{other}}".to_owned()).contains("not defined"));
    assert!(refused(&|odd| odd.servers[0].name = "a b".to_owned()).contains("MCP server"));
    assert!(refused(&|odd| odd.servers[0].command = " ".to_owned()).contains("docs"));
}

#[test]
fn a_session_and_rules_of_a_template_name_parameters_and_are_checked_when_it_is_pushed() {
    let mut template = agent();
    let arguments = vec!["--add".to_owned(), "{{folders}}".to_owned(), "{{task}}".to_owned()];
    template.sessions = vec![Session {
        command: None,
        agent: Some("{{agent}}".to_owned()),
        arguments,
        prompt: Some("first: {{task}}".to_owned()),
        branch: Some("{{branch}}".to_owned()),
        permissions: Some("ask".to_owned()),
        ..template.sessions[0].clone()
    }];
    template.workspace.require_labels = [("for".to_owned(), "{{agent}}".to_owned())].into();
    template.workspace.isolation = Some("gvisor".to_owned());
    template.check().expect("sound");
    let values = given(&[("repo", "r"), ("branch", "fix"), ("folders", "a b,c")]);
    let filled = template.fill(&values).expect("complete");
    let line = "claude --add 'a b' c";
    assert_eq!(filled.sessions[0].command.as_deref(), Some(line));
    let (name, program) = &filled.extras.sessions[0];
    assert_eq!((name.as_str(), program.branch.as_deref()), ("main", Some("fix")));
    assert_eq!((program.prompt.as_str(), program.line().as_str()), ("first: ", line));
    assert_eq!(filled.body.require_labels["for"], "claude");
    let refused = |change: &dyn Fn(&mut Template)| {
        let mut odd = template.clone();
        change(&mut odd);
        odd.check().expect_err("refused").to_string()
    };
    let none = refused(&|odd| odd.sessions[0].permissions = Some("all".to_owned()));
    assert_eq!(none, "session main has permissions, which takes bypass or ask");
    let none = refused(&|odd| odd.sessions[0].prompt = Some("{{tsak}}".to_owned()));
    assert_eq!(none, "prompt of session main names parameter tsak, which is not defined");
    let branch = refused(&|odd| odd.sessions[0].branch = Some("a..b".to_owned()));
    assert_eq!(branch, "session main: \"a..b\" is not a branch name");
    let two = refused(&|odd| {
        odd.sessions[0].branch = Some("fix".to_owned());
        let name = "second".parse().expect("a name");
        odd.sessions.push(Session { name, ..odd.sessions[0].clone() });
    });
    assert_eq!(two, "session second: works on branch fix, as session main does");
}
