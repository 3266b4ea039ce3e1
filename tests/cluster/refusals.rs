//! Bad input is answered with what happened, why, and what to do; nothing hangs, nothing is made.

use std::{fs, sync::Arc};

use anyhow::{Context as _, Result};
use warren_common::Timestamp;
use warren_daemon::{Secret, token::JoinToken};
use warren_tests::{Cluster, Program, Stage, program::binary};

fn cluster() -> Result<Cluster> {
    let stage = Arc::new(Stage::new()?);
    let mut cluster = Cluster::start(&stage, None)?;
    cluster.add_fake_node("n1", None)?;
    cluster.warren(&["client", "create", "acme"])?;
    Ok(cluster)
}

#[test]
fn odd_parameters_names_and_amounts_are_refused() -> Result<()> {
    let cluster = cluster()?;
    let create = |address: &'static str, more: &[&'static str]| -> Vec<&'static str> {
        [&["workspace", "create", address, "--wait=none"][..], more].concat()
    };
    for (arguments, code, words) in [
        (create("acme/a", &["--param", "colour=red"]), 2, &["colour", "next:"][..]),
        (create("acme/a", &["--memory", "0"]), 2, &["memory"][..]),
        (create("acme/a", &["--memory", "lots"]), 2, &["lots"][..]),
        (create("acme/a", &["--memory", "64M", "--reserve", "1G"]), 2, &["reserve"][..]),
        (create("acme/A b", &[]), 2, &["name"][..]),
        (create("nobody/a", &[]), 3, &["nobody"][..]),
        (create("acme/a", &["--repo", "https://user:hunter2@h/x.git"]), 2, &["credentials"][..]),
        (create("acme/a", &["--repo", "file:///etc"]), 2, &["file"][..]),
        (vec!["client", "create", "acme"], 4, &["exists", "next: warren client show acme"][..]),
        (vec!["client", "create", "-x"], 2, &[][..]),
        (vec!["workspace", "show", "acme/none"], 3, &["acme/none"][..]),
        (vec!["client", "show", "acme/none"], 3, &["acme/none"][..]),
    ] {
        let output = cluster.cli()?.args(&arguments).run()?;
        anyhow::ensure!(
            output.code == code,
            "{arguments:?} ended with {}: {}",
            output.code,
            output.stderr
        );
        anyhow::ensure!(output.stderr.contains("error:"), "{arguments:?} says {}", output.stderr);
        anyhow::ensure!(
            !output.stderr.contains("hunter2"),
            "a secret is repeated: {}",
            output.stderr
        );
        for word in words {
            anyhow::ensure!(
                output.stderr.contains(word),
                "{arguments:?} says no {word:?}: {}",
                output.stderr
            );
        }
    }
    // as much as an argument may hold; ten megabytes are sent to the API itself (limits.rs)
    let label = format!("k={}", "x".repeat(120_000));
    let create = ["workspace", "create", "acme/a", "--wait=none", "--label", &label];
    cluster.refuses(&create, 2, &["256"])?;
    anyhow::ensure!(
        cluster.json(&["workspace", "list"])? == serde_json::json!([]),
        "something was made"
    );
    Ok(())
}

#[test]
fn a_workspace_no_node_can_hold_is_explained() -> Result<()> {
    let cluster = cluster()?;
    let create = ["workspace", "create", "acme/big", "--memory", "2000G", "--no-queue"];
    cluster.refuses(&create, 4, &["no node can hold workspace acme/big", "why:", "next:"])?;
    let create = ["workspace", "create", "acme/big", "--memory", "2000G", "--timeout", "3s"];
    cluster.refuses(&create, 6, &["why:"])?;
    let explained = cluster.warren(&["workspace", "explain", "acme/big"])?;
    anyhow::ensure!(explained.stdout.contains("memory"), "{}", explained.stdout);
    let shown = cluster.workspace("acme/big")?;
    let reason = shown["reason"].as_str().unwrap_or_default();
    anyhow::ensure!(reason.contains("lacks memory"), "{reason}");
    Ok(())
}

#[test]
fn an_unreachable_coordinator_is_said_within_its_deadline() -> Result<()> {
    let mut cluster = cluster()?;
    cluster.kill_coordinator()?;
    let output =
        cluster.refuses(&["client", "list", "--timeout", "3s"], 5, &["127.0.0.1", "next:"])?;
    anyhow::ensure!(output.took.as_secs() < 20, "it took {:?}", output.took);
    Ok(())
}

#[test]
fn tokens_are_spent_once_and_checked() -> Result<()> {
    let cluster = cluster()?;
    let token = cluster.json(&["node", "token"])?["token"].as_str().context("a token")?.to_owned();
    let join = |name: &str, token: &str| -> Result<warren_tests::Output> {
        let folder = std::env::temp_dir().join(format!("wt{}-{name}", std::process::id()));
        fs::create_dir_all(&folder)?;
        let config = folder.join("c.toml");
        let engine = "[engine]\nkind = \"fake\"\n";
        fs::write(&config, format!("state_dir = \"{}\"\n{engine}", folder.join("s").display()))?;
        let join = ["join", token, "--name", name, "--config", &config.to_string_lossy()];
        let output = Program::new(binary("warren-node-agent")?).args(join).run();
        fs::remove_dir_all(&folder)?;
        output
    };
    join("n2", &token)?.success()?;
    let used = join("n3", &token)?;
    anyhow::ensure!(used.code != 0 && used.stderr.contains("used"), "{used:?}");
    let cut = join("n3", &token[..token.len() - 5])?;
    anyhow::ensure!(cut.code != 0 && cut.stderr.contains("token"), "{cut:?}");
    let fresh = cluster.json(&["node", "token"])?["token"].as_str().context("a token")?.to_owned();
    let mut late: JoinToken = fresh.parse()?;
    late.expires = Timestamp(1_000);
    let late = join("n3", late.to_text()?.expose())?;
    anyhow::ensure!(late.code != 0 && late.stderr.contains("expired"), "{late:?}");
    let mut forged: JoinToken = fresh.parse()?;
    forged.secret = Secret::new([7; 32]);
    let forged = join("n3", forged.to_text()?.expose())?;
    anyhow::ensure!(forged.code != 0 && forged.stderr.contains("token"), "{forged:?}");
    Ok(())
}
