//! `image build` with a stand-in for Docker: what it is asked for, and what is said of it.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use tempfile::TempDir;

use crate::support::Bench;

/// Keeps what it is asked, knows Debian's image alone, and fails where a Dockerfile says so.
const DOCKER: &str = r#"#!/bin/sh
here=$(dirname "$0")
{ printf '%s|' "$@"; echo; } >> "$here/asked"
for last; do :; done
case "$1 $2" in
"build "*) echo "Step 1/1"
  (cd "$last" && find . ! -type l -exec stat -c '%a %n' {} +) > "$here/modes"
  test -f "$last/Dockerfile" && ! grep -q broken "$last/Dockerfile" ;;
"image inspect") case "$*" in *node:*) exit 1 ;; *--format*) echo "sha256:0123456789abcdef 2097152" ;; esac ;;
"pull "*) exit 1 ;;
esac
"#;

struct Stand {
    bench: Bench,
    folder: TempDir,
}

impl Stand {
    fn new() -> Self {
        let (bench, folder) = (Bench::new(), tempfile::tempdir().expect("a folder"));
        let docker = folder.path().join("docker");
        fs::write(&docker, DOCKER).expect("written");
        fs::set_permissions(&docker, fs::Permissions::from_mode(0o755)).expect("a program");
        Self { bench, folder }
    }

    fn build(&self, arguments: &[&str]) -> (Output, String, String) {
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.bench.command(&[&["image", "build"], arguments].concat());
        command.env("PATH", format!("{}:{path}", self.folder.path().display()));
        let output = command.output().expect("it runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        (output, stdout, stderr)
    }

    /// What Docker was asked, an argument ends with a bar.
    fn asked(&self) -> String {
        fs::read_to_string(self.folder.path().join("asked")).unwrap_or_default()
    }

    fn own(&self, dockerfile: &str) -> String {
        let own = self.folder.path().join("own");
        fs::create_dir_all(&own).expect("a folder");
        fs::write(own.join("Dockerfile"), dockerfile).expect("written");
        own.to_string_lossy().into_owned()
    }
}

#[test]
fn one_of_our_own_is_built_from_what_the_program_carries() {
    let stand = Stand::new();
    let (output, stdout, stderr) = stand.build(&["--flavour", "agents"]);
    assert!(output.status.success(), "{stderr}");
    assert!(stdout.starts_with("warren-workspace:agents (0123456789ab, 2 MiB)\n"), "{stdout}");
    assert!(stdout.contains("docker save warren-workspace:agents | ssh NODE docker load"));
    assert!(stderr.contains("Step 1/1") && !stdout.contains("Step"), "its words are talk");
    let asked = stand.asked();
    let build = asked.lines().find(|line| line.starts_with("build|")).expect("a build");
    for part in [
        "--tag|warren-workspace:agents|",
        "--target|agents|--label|warren.image.flavour=agents|",
        "--build-arg|CLAUDE_CODE=",
        "--build-arg|CA_CERTIFICATES=",
    ] {
        assert!(asked.contains(part), "no {part} in {asked}");
    }
    assert!(!build.contains("NODE_IMAGE"), "it is neither here nor to be pulled: {build}");
    let folder = stderr.lines().next().and_then(|line| line.split(" from ").nth(1));
    assert!(
        folder.is_some_and(|folder| !Path::new(folder).exists()),
        "it is left behind: {stderr}"
    );
}

#[test]
fn who_builds_it_with_a_narrow_umask_gets_the_same_image() {
    let stand = Stand::new();
    let path = std::env::var("PATH").unwrap_or_default();
    let warren = stand.bench.command(&["image", "build", "--flavour", "base"]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 077; exec \"$0\" \"$@\""]).arg(warren.get_program());
    command.args(warren.get_args()).env_clear();
    command.envs(warren.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", format!("{}:{path}", stand.folder.path().display()));
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let modes = fs::read_to_string(stand.folder.path().join("modes")).expect("modes");
    for expected in [
        "755 .",
        "755 ./root/usr/local/bin",
        "755 ./root/usr/local/bin/sudo",
        "644 ./root/etc/profile.d/warren.sh",
    ] {
        assert!(modes.lines().any(|line| line == expected), "no {expected} in\n{modes}");
    }
}

#[test]
fn a_folder_of_ones_own_is_tagged_and_pushed_and_programs_read_what_came_of_it() {
    let stand = Stand::new();
    let own = stand.own("FROM warren-workspace:agents\n");
    let tag = "registry.example/agents:2";
    let (_, stdout, stderr) = stand.build(&[&own, "--tag", tag, "--push", "-o", "json"]);
    let built: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!((&built["image"], &built["pushed"]), (&tag.into(), &true.into()), "{stderr}");
    assert_eq!(built["bytes"], 2_097_152);
    assert!(stand.asked().contains(&format!("push|{tag}|\n")), "{}", stand.asked());
    assert!(!stand.asked().contains("--target"), "{}", stand.asked());
}

#[test]
fn what_cannot_be_built_says_what_to_do_and_pushes_nothing() {
    let stand = Stand::new();
    let empty = stand.folder.path().to_string_lossy().into_owned();
    let (broken, tag) = (stand.own("broken\n"), ["--tag", "x:1", "--push"]);
    for (arguments, code, word) in [
        (vec![], 2, "--flavour"),
        (vec![broken.as_str()], 2, "--tag"),
        (vec![empty.as_str(), "--tag", "x:1"], 2, "no Dockerfile in"),
        (vec!["--flavour", "base", "--tag=-x"], 2, "no name of an image"),
        (vec!["--flavour", "base", "--tag", "x y"], 2, "no name of an image"),
        ([&[broken.as_str()][..], &tag].concat(), 1, "the image does not build"),
    ] {
        let (output, _, stderr) = stand.build(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
        assert!(stderr.contains(word), "{arguments:?}: {stderr}");
    }
    assert!(!stand.asked().contains("push|"), "{}", stand.asked());
    fs::remove_file(stand.folder.path().join("docker")).expect("gone");
    let own = stand.own("FROM x\n");
    let mut command = stand.bench.command(&["image", "build", &own, "--tag", "x:1"]);
    let output = command.env("PATH", "/nonexistent").output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("docker cannot be run") && said.contains("next:"), "{said}");
}
