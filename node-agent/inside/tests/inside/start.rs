//! The startup steps.

use std::{fs, process::Command, time::Duration};

use warren_proto::pb::inside::v1::{Setup, Status, Step, StepState};

use crate::{
    server::{Manner, Server, make_repo},
    workspace::{Workspace, session, wait_until},
};

fn step<'a>(status: &'a Status, name: &str) -> &'a Step {
    let found = status.steps.iter().find(|step| step.name == name);
    found.unwrap_or_else(|| panic!("no step {name} in {status:#?}"))
}

fn setup(repo: String) -> Setup {
    Setup {
        repo,
        folder: "web".to_owned(),
        sessions: vec![session("main", "pwd > ~/where; sleep 1000")],
        clone_timeout_ms: 15_000,
        ..Setup::default()
    }
}

/// Clones from `repo`, expects the clone to fail, and returns the message.
async fn failing(setup: Setup) -> String {
    let (workspace, mut agent) = Workspace::start(setup);
    let status = agent.until_started().await;
    let clone = step(&status, "clone");
    assert_eq!(clone.state(), StepState::Failed, "{status:#?}");
    assert_eq!(step(&status, "session:main").state(), StepState::Done, "sessions start anyway");
    wait_until("git to be gone", || workspace.processes("git").is_empty()).await;
    assert!(!workspace.home().join("web").exists());
    assert!(!workspace.home().join(".web.warren-clone").exists());
    let answered = workspace.home().join(".claude.json");
    assert!(!answered.exists(), "there is no checkout to be trusted");
    clone.message.clone()
}

#[tokio::test]
async fn a_workspace_starts_step_by_step_and_does_nothing_twice() {
    let root = tempfile::tempdir().expect("a folder");
    make_repo(root.path());
    let server = Server::start(Manner::Files(root.path().to_owned())).await;
    let setup = Setup {
        branch: "feature".to_owned(),
        git_name: "Ada".to_owned(),
        git_email: "ada@acme.example".to_owned(),
        setup_script: "echo \"in $PWD\"; echo once >> ~/ran".to_owned(),
        ..setup(server.url("acme/web.git"))
    };
    let (workspace, mut agent) = Workspace::start(setup.clone());
    // A clone that a crash left behind.
    fs::create_dir_all(workspace.home().join(".web.warren-clone/.git")).expect("a folder");
    let status = agent.until_started().await;
    let names: Vec<&str> = status.steps.iter().map(|step| step.name.as_str()).collect();
    assert_eq!(names, ["git-identity", "clone", "setup", "session:main"]);
    assert!(status.steps.iter().all(|step| step.state() == StepState::Done), "{status:#?}");
    assert!(step(&status, "clone").title.starts_with("git clone acme/web"), "{status:#?}");
    let checkout = workspace.home().join("web");
    assert_eq!(step(&status, "setup").output, format!("in {}\n", checkout.display()));
    assert!(workspace.log().contains(" setup: in "), "{}", workspace.log());
    assert_eq!(fs::read_to_string(checkout.join("file3")).expect("a file"), "3\n");
    assert!(!workspace.home().join(".web.warren-clone").exists());
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(arguments).current_dir(&checkout).env("HOME", workspace.home());
        String::from_utf8(git.output().expect("git").stdout).expect("text").trim().to_owned()
    };
    assert_eq!(git(&["config", "user.email"]), "ada@acme.example");
    assert_eq!(git(&["rev-parse", "--abbrev-ref", "HEAD"]), "feature");
    let place = workspace.home().join("where");
    wait_until("the session", || fs::read_to_string(&place).is_ok_and(|p| !p.is_empty())).await;
    let place = fs::read_to_string(place).expect("a file");
    assert_eq!(place.trim(), checkout.to_string_lossy());
    let claude = workspace.home().join(".claude.json");
    let answered = fs::read_to_string(&claude).expect("a file");
    let trusted = format!("{:?}: {{\"hasTrustDialogAccepted\": true}}", checkout.display());
    assert!(answered.contains(&trusted), "{answered}");
    let codex = fs::read_to_string(workspace.home().join(".codex/config.toml")).expect("a file");
    assert!(codex.contains(&format!("[projects.{:?}]\n", checkout.display())), "{codex}");
    fs::write(&claude, "the person's own").expect("a file");

    drop(agent);
    let (workspace, mut agent) = Workspace::start_in(workspace.into_folder().await, setup);
    let status = agent.until_started().await;
    assert_eq!(step(&status, "git-identity").state(), StepState::Skipped);
    assert_eq!(step(&status, "clone").state(), StepState::Skipped);
    assert_eq!(step(&status, "clone").title, "git clone acme/web (already cloned)");
    assert_eq!(step(&status, "setup").title, "setup script (has run before)");
    assert_eq!(fs::read_to_string(workspace.home().join("ran")).expect("a file"), "once\n");
    let claude = workspace.home().join(".claude.json");
    assert_eq!(fs::read_to_string(claude).expect("a file"), "the person's own");
}

#[tokio::test]
async fn the_title_counts_the_objects() {
    let root = tempfile::tempdir().expect("a folder");
    make_repo(root.path());
    let server = Server::start(Manner::Git(root.path().to_owned())).await;
    let (workspace, mut agent) = Workspace::start(setup(server.git_url("acme/web.git")));
    let status = agent.until_started().await;
    // Three commits, each with a tree and a file.
    assert_eq!(step(&status, "clone").title, "git clone acme/web (9 objects)", "{status:#?}");
    assert!(workspace.home().join("web/file3").exists());
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_at_the_deadline() {
    let server = Server::start(Manner::Silent).await;
    let repo = server.url("acme/web.git");
    let script = "echo never".to_owned();
    let setup = Setup { clone_timeout_ms: 1500, setup_script: script, ..setup(repo) };
    let (_workspace, mut agent) = Workspace::start(setup.clone());
    let status = agent.until_started().await;
    assert_eq!(step(&status, "setup").state(), StepState::Skipped);
    assert_eq!(step(&status, "setup").title, "setup script (not run: the clone failed)");
    let message = failing(setup).await;
    assert!(message.contains("did not answer within 1.5 s"), "{message}");
}

#[tokio::test]
async fn a_server_that_wants_a_password_is_not_given_one() {
    let server = Server::start(Manner::Status("401 Unauthorized")).await;
    let message = failing(setup(server.url("acme/web.git"))).await;
    assert!(message.contains("asks for a password and takes none that is here"), "{message}");
}

#[tokio::test]
async fn what_is_not_there_is_said_to_be_not_there() {
    let root = tempfile::tempdir().expect("a folder");
    make_repo(root.path());
    let server = Server::start(Manner::Files(root.path().to_owned())).await;
    let message = failing(setup(server.url("acme/nope.git"))).await;
    assert!(message.contains("has no repository at this URL"), "{message}");
    let branch = "nope".to_owned();
    let message = failing(Setup { branch, ..setup(server.url("acme/web.git")) }).await;
    assert!(message.contains("has no branch \"nope\""), "{message}");
    let message = failing(setup("file:///etc".to_owned())).await;
    assert!(message.contains("not http, https or git"), "{message}");
}

#[tokio::test]
async fn a_server_that_is_away_is_tried_again() {
    let root = tempfile::tempdir().expect("a folder");
    make_repo(root.path());
    let server = Server::start(Manner::Flaky(1, root.path().to_owned())).await;
    let (workspace, mut agent) = Workspace::start(setup(server.url("acme/web.git")));
    let again = agent.until("another try", |status| {
        status.steps.iter().any(|step| step.title.contains("trying again"))
    });
    again.await;
    let status = agent.until_started().await;
    assert_eq!(step(&status, "clone").state(), StepState::Done, "{status:#?}");
    assert!(workspace.home().join("web/file1").exists());

    let nobody = "http://127.0.0.1:1/acme/web.git".to_owned();
    let message = failing(Setup { clone_timeout_ms: 2000, ..setup(nobody) }).await;
    assert!(message.contains("127.0.0.1:1 cannot be reached"), "{message}");
}

#[tokio::test]
async fn a_folder_in_the_way_is_left_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("home/web")).expect("a folder");
    fs::create_dir_all(folder.path().join("run")).expect("a folder");
    fs::write(folder.path().join("home/web/mine"), "precious").expect("a file");
    let repo = "http://127.0.0.1:1/acme/web.git".to_owned();
    let (workspace, mut agent) = Workspace::start_in(folder, setup(repo));
    let status = agent.until_started().await;
    assert!(step(&status, "clone").message.contains("is in the way"), "{status:#?}");
    let mine = fs::read_to_string(workspace.home().join("web/mine"));
    assert_eq!(mine.expect("a file"), "precious");
}

#[tokio::test]
async fn a_setup_script_that_fails_or_hangs_is_reported_and_runs_again() {
    let script = |text: &str| Setup {
        setup_script: text.to_owned(),
        sessions: vec![session("main", "sleep 1000")],
        ..Setup::default()
    };
    let failing = script("echo first >> ~/ran; seq 3000; exit 3");
    let (workspace, mut agent) = Workspace::start(failing.clone());
    let status = agent.until_started().await;
    let failed = step(&status, "setup");
    assert_eq!(failed.state(), StepState::Failed);
    assert!(failed.message.contains("ended with code 3"), "{status:#?}");
    assert!(failed.output.len() <= 8192 && failed.output.ends_with("2999\n3000\n"));
    assert_eq!(step(&status, "session:main").state(), StepState::Done);
    drop(agent);

    let (workspace, mut agent) = Workspace::start_in(workspace.into_folder().await, failing);
    agent.until_started().await;
    assert_eq!(fs::read_to_string(workspace.home().join("ran")).expect("a file"), "first\nfirst\n");
    drop(agent);

    let hanging = Setup { setup_timeout_ms: 1000, ..script("sleep 4711 & sleep 4711") };
    let (workspace, mut agent) = Workspace::start_in(workspace.into_folder().await, hanging);
    let status = agent.until_started().await;
    assert!(step(&status, "setup").message.contains("longer than 1 s"), "{status:#?}");
    wait_until("its programs to be gone", || workspace.processes("4711").is_empty()).await;
    assert!(step(&status, "setup").elapsed_ms < Duration::from_secs(10).as_millis() as u64);
}
