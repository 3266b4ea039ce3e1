//! Tests of what is looked at and told.

use warren_proto::pb::inside::v1::Session;

use super::*;
use crate::{
    config::Config,
    reaper::Reaper,
    session::{book::Book, program::Program},
};

fn wanted(config: &Config, name: &str, command: &str) -> Wanted {
    let session = Session { command: command.to_owned(), ..Session::default() };
    Wanted {
        name: name.to_owned(),
        command: command.to_owned(),
        folder: PathBuf::new(),
        launch: Launch {
            program: Program::of(&session),
            name: name.to_owned(),
            life: 0,
            run: 0,
            conversation: 0,
            home: config.home.clone(),
            book: Book::open(config),
        },
        about: About::default(),
        crashes: None,
    }
}

#[tokio::test]
async fn an_older_listing_never_comes_after_a_newer_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = Config::in_folder(folder.path());
    let board = Board::new();
    let agents = Agents::new(&config, board.clone());
    let tmux = Tmux::new(&config, Reaper::new(folder.path()));
    let keeper = Keeper::new(tmux, board.clone(), agents);
    let (go, gone) = tokio::sync::oneshot::channel();
    let older = keeper.look_at(async {
        let _ = gone.await;
        Ok(vec![seen("older", None)])
    });
    let newer = keeper.look_at(async { Ok(vec![seen("newer", None)]) });
    let last = async {
        tokio::task::yield_now().await;
        go.send(()).expect("the older one waits");
    };
    let (older, newer, ()) = tokio::join!(biased; older, newer, last);
    assert!(older.is_ok() && newer.is_ok());
    let shown = board.subscribe().borrow().to_status().sessions;
    assert_eq!(shown.first().map(|session| session.name.as_str()), Some("newer"));
}

fn seen(name: &str, exit: Option<i32>) -> Seen {
    Seen {
        name: name.to_owned(),
        command: "vim".to_owned(),
        agent: None,
        exit,
        created: 3,
        active: 4,
        viewers: 0,
        panes: Vec::new(),
    }
}

#[test]
fn one_that_ends_runs_until_all_of_it_has_ended() {
    let home = tempfile::tempdir().expect("a folder");
    let config = Config::in_folder(home.path());
    let mut main = wanted(&config, "main", "claude");
    let told = |main: &Wanted| {
        let statuses = to_statuses(std::slice::from_ref(main), vec![seen("main", Some(143))]);
        (statuses[0].running, statuses[0].exit_code)
    };
    assert_eq!(told(&main), (false, 143));
    main.about.ending = true;
    assert_eq!(told(&main), (true, 0));
}

#[test]
fn asked_for_sessions_come_first_in_their_order() {
    let home = tempfile::tempdir().expect("a folder");
    let config = Config::in_folder(home.path());
    let wanted = |name: &str, command: &str| wanted(&config, name, command);
    let ordered = |wanted: &[Wanted], seen| to_statuses(wanted, in_order(wanted, seen));
    let statuses = ordered(
        &[wanted("main", "claude --continue"), wanted("aux", ""), wanted("gone", "")],
        vec![seen("0", None), seen("aux", Some(2)), seen("main", None)],
    );
    let short: Vec<_> = statuses
        .iter()
        .map(|s| (s.name.as_str(), s.command.as_str(), s.running, s.exit_code))
        .collect();
    assert_eq!(
        short,
        [("main", "claude --continue", true, 0), ("aux", "bash", false, 2), ("0", "vim", true, 0)]
    );
    assert_eq!(statuses[0].started_unix_ms, 3000);
    let mut flood: Vec<Seen> = (0..99).map(|n| seen(&format!("a{n}"), None)).collect();
    flood.push(seen("main", None));
    let statuses = ordered(&[wanted("main", "")], flood);
    assert_eq!((statuses.len(), statuses[0].name.as_str()), (Limits::SESSIONS, "main"));
}
