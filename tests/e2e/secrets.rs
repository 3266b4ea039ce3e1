//! Secrets in real workspaces: files in memory that follow their vaults, and git logged in with one.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use warren_tests::{Lab, repo, wait_until};

/// Rotation and deletion reach what runs within this.
const SOON: Duration = Duration::from_secs(10);
/// An agent that was killed is back within this.
const BACK: Duration = Duration::from_secs(30);

fn set(lab: &Lab, words: &[&str], value: &str) -> Result<()> {
    let arguments = [&["secret", "set"], words, &["@-"]].concat();
    lab.cluster.cli()?.args(arguments).input(value).run()?.success().map(drop)
}

fn wait_for(lab: &Lab, what: &str, line: &str) -> Result<Duration> {
    let began = Instant::now();
    wait_until(what, SOON, || lab.shell("acme/web", line).map(drop))?;
    Ok(began.elapsed())
}

/// Returns the folder of a workspace's secrets on the host.
fn on_host(lab: &Lab, address: &str) -> Result<PathBuf> {
    let container = lab.container(address)?;
    let mounts = container["Mounts"].as_array().context("mounts")?;
    let mount = mounts.iter().find(|one| one["Destination"] == "/run/secrets");
    Ok(mount.and_then(|one| one["Source"].as_str()).context("it is mounted")?.into())
}

#[test]
fn secrets_are_files_in_memory_that_follow_their_vaults_and_git_logs_in_with_one() -> Result<()> {
    let mut lab = Lab::new()?;
    let repositories = lab.stage.folder("repos")?;
    repo::make_locked(&repositories, "locked", ("x-access-token", "tok-1"))?;
    repo::make_locked(&repositories, "other", ("x-access-token", "tok-1"))?;
    set(&lab, &["acme", "git-token"], "tok-1\n")?;
    set(&lab, &["acme", "npm-token"], "first")?;
    set(&lab, &["--shared", "tool"], "for all")?;
    set(&lab, &["beta", "theirs"], "of beta")?;
    let url = lab.repository("locked");
    lab.create("acme/web", &["--repo", &url])?;
    let shell = |line: &str| lab.shell("acme/web", line);

    // the clone itself logged in
    ensure!(shell("cat ~/locked/README.md")?.contains("hello"));
    ensure!(shell("ls /run/secrets")? == "git-token\nnpm-token\ntool\n");
    ensure!(shell("cat /run/secrets/npm-token /run/secrets/tool")? == "firstfor all");
    ensure!(shell("cat /run/secrets/git-token")? == "tok-1", "the end of a line is none of it");
    ensure!(shell("stat -c '%a %u' /run/secrets/npm-token")? == "400 1000\n");
    let kind = shell("stat -f -c %T /run/secrets")?;
    ensure!(["tmpfs\n", "ramfs\n"].contains(&kind.as_str()), "{kind}");
    for line in [
        "echo x > /run/secrets/npm-token",
        "touch /run/secrets/new",
        "rm -f /run/secrets/tool",
        "chmod 644 /run/secrets/tool",
        "umount /run/secrets",
        "mv /run/secrets /run/elsewhere",
    ] {
        ensure!(lab.try_shell("acme/web", line)?.code != 0, "{line} passed");
    }

    git_asks_for_its_own_alone(&lab, &url)?;
    ensure!(repo::shown(&repositories)? == ["locked"], "{:?}", repo::shown(&repositories)?);

    // rotation and deletion reach what runs
    set(&lab, &["acme", "npm-token"], "second")?;
    let took = wait_for(&lab, "the new value", "grep -qx second /run/secrets/npm-token")?;
    eprintln!("rotated in {} ms", took.as_millis());
    lab.cluster.warren(&["secret", "delete", "acme", "npm-token"])?;
    let took = wait_for(&lab, "it is gone", "test ! -e /run/secrets/npm-token")?;
    eprintln!("deleted in {} ms", took.as_millis());

    // an agent that comes back finds what is there, a stopped workspace has nothing
    lab.cluster.nodes[0].kill()?;
    lab.cluster.nodes[0].start()?;
    wait_until("the agent is back", BACK, || {
        let listed = lab.shell("acme/web", "ls /run/secrets")?;
        ensure!(listed == "git-token\ntool\n", "it lists {listed}");
        Ok(())
    })?;
    let folder = on_host(&lab, "acme/web")?;
    ensure!(folder.join("tool").exists());
    lab.cluster.warren(&["workspace", "stop", "acme/web"])?;
    wait_until("its secrets are gone from the host", SOON, || {
        ensure!(!folder.join("tool").exists(), "they are there");
        Ok(())
    })?;
    lab.cluster.warren(&["workspace", "start", "acme/web"])?;
    ensure!(lab.shell("acme/web", "cat /run/secrets/tool")? == "for all");
    lab.cluster.warren(&["workspace", "delete", "acme/web", "--yes"])?;
    ensure!(!folder.exists(), "it is deleted");
    Ok(())
}

fn git_asks_for_its_own_alone(lab: &Lab, url: &str) -> Result<()> {
    lab.shell("acme/web", "cd ~/locked && git fetch -q && git ls-remote -q")?;
    let host = url.trim_start_matches("http://").split('/').next().context("a host")?;
    let ask = |protocol: &str, host: &str, path: &str| {
        let question = format!("protocol={protocol}\\nhost={host}\\npath={path}\\n\\n");
        lab.shell("acme/web", &format!("printf '{question}' | /warren/inside git-credential get"))
    };
    let own = ask("http", host, "locked.git")?;
    ensure!(own == "username=x-access-token\npassword=tok-1\n", "{own}");
    for (protocol, host, path) in [
        ("https", host, "locked.git"),
        ("http", "evil.example", "locked.git"),
        ("http", host, "other.git"),
        ("http", host, "locked2.git"),
        ("http", host, ""),
    ] {
        let given = ask(protocol, host, path)?;
        ensure!(given.is_empty(), "{protocol}://{host}/{path} gets {} bytes", given.len());
    }
    // git itself, without anybody to ask
    let other = url.replace("locked", "other");
    let refused =
        lab.try_shell("acme/web", &format!("GIT_TERMINAL_PROMPT=0 git ls-remote {other}"))?;
    ensure!(refused.code != 0, "another path got the password");
    ensure!(refused.stderr.contains("warren: no password for git"), "{}", refused.stderr);
    Ok(())
}

#[test]
fn a_template_takes_a_secret_by_name_or_sets_it_and_none_is_started_without() -> Result<()> {
    let lab = Lab::new()?;
    let repositories = lab.stage.folder("repos")?;
    repo::make_locked(&repositories, "locked", ("ann", "tok-2"))?;
    let folder = lab.stage.folder("keyed")?;
    fs::write(
        folder.join("template.toml"),
        "[[parameter]]\nname = \"repo\"\ntype = \"string\"\n\
         [[parameter]]\nname = \"token\"\ntype = \"secret\"\n\
         [workspace]\nrepo = \"{{repo}}\"\ngit_token = \"{{token}}\"\n\
         setup = \"cat {{token}} > ~/seen; mkdir -p ~/.local/bin; cd ~/.local/bin; \
         echo 'cat $2/auth.json' > vercel; chmod +x vercel\"\n\
         [[login]]\ntool = \"vercel\"\nsecret = \"{{token}}\"\n\
         [[mcp]]\nname = \"docs\"\ncommand = \"printenv\"\nargs = [\"TOKEN\"]\n\
         env = { TOKEN = \"{{token}}\" }\n\
         [[session]]\nname = \"main\"\n",
    )?;
    lab.cluster.warren(&["template", "push", &folder.to_string_lossy()])?;
    set(&lab, &["acme", "git-username"], "ann")?;
    let token = lab.stage.root().join("token");
    fs::write(&token, "tok-2\n")?;
    let (repo, token) =
        (format!("repo={}", lab.repository("locked")), format!("token=@{}", token.display()));
    let with = |token: &str| {
        vec![
            "--template".to_owned(),
            "keyed".to_owned(),
            "--param".to_owned(),
            repo.clone(),
            "--param".to_owned(),
            token.to_owned(),
        ]
    };
    let refused = lab
        .cluster
        .cli()?
        .args(["workspace", "create", "acme/no", "--memory", "256M"])
        .args(with("token=hunter2"))
        .run()?
        .with_code(2)?;
    ensure!(!refused.stderr.contains("hunter2"), "{}", refused.stderr);
    let arguments = with(&token);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    lab.create("acme/web", &arguments)?;
    ensure!(lab.shell("acme/web", "cat ~/locked/README.md")?.contains("hello"));
    ensure!(lab.shell("acme/web", "cat ~/seen")? == "tok-2");
    let listed = lab.cluster.json(&["secret", "list", "acme"])?;
    let names: Vec<_> =
        listed.as_array().context("a list")?.iter().map(|one| &one["name"]).collect();
    ensure!(names == ["git-username", "web-token"], "{names:?}");
    ensure!(listed[1]["workspaces"][0] == "acme/web", "{listed}");
    let shown = lab.cluster.json(&["workspace", "show", "acme/web"])?.to_string();
    ensure!(!shown.contains("tok-2"), "{shown}");
    // a tool that came with the script is logged in, and a server has its secret when it runs
    let said = lab.shell("acme/web", "/run/tools/bin/vercel deploy")?;
    ensure!(said.trim() == "{\"token\":\"tok-2\"}", "{said}");
    let started = "/warren/inside with-secrets TOKEN=web-token -- printenv TOKEN";
    let plain = "sed -n 's/^args = //p' ~/.codex/config.toml";
    ensure!(lab.shell("acme/web", plain)?.contains("TOKEN=web-token"), "by reference alone");
    let said = lab.shell("acme/web", started)?;
    ensure!(said.trim() == "tok-2", "{said}");
    // it was made for the workspace, and goes with it
    ensure!(listed[1]["made_for"] == "web" && listed[0]["made_for"].is_null(), "{listed}");
    lab.cluster.warren(&["workspace", "delete", "acme/web", "--yes"])?;
    let listed = lab.cluster.json(&["secret", "list", "acme"])?;
    let left: Vec<_> =
        listed.as_array().context("a list")?.iter().map(|one| &one["name"]).collect();
    ensure!(left == ["git-username"], "{left:?}");
    Ok(())
}
