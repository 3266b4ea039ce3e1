//! Tools that are logged in each time they run: a link with the tool's name, first on the path, leads to
//! this program, which gives the real one its secret and becomes it. A new value counts from the next
//! run on.
//!
//! What a tool reads from a folder stands in memory (`/run/tools`), so that no home and no backup
//! holds it. A tool that knows nothing but a variable has it in its own environment, and in that of
//! what it starts. The same way gives the servers of coding agents theirs (`with-secrets`). Nothing
//! stands in an argument.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    io::{self, Write as _},
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use warren_common::{
    SecretName,
    spec::{Extras, Login, Tool},
};

use crate::{credential, files};

/// Where links and what tools keep are (`WARREN_TOOLS_DIR` where a test says so).
const TOOLS: &str = "/run/tools";
/// Says which tools are logged in with which secrets.
const LOGINS: &str = "logins";
/// Where an earlier version handed over a file for each call of az: one may have stayed.
const CALLS: &str = "calls";
/// More than the logins of a workspace need.
const LOGINS_BYTES: usize = 64 * 1024;
/// More than any settings of npm have.
const NPMRC_BYTES: usize = 64 * 1024;
/// What a shell says of a program that is not there.
const NOT_FOUND: u8 = 127;

/// Returns the folder of links and of what tools keep.
pub(crate) fn folder() -> PathBuf {
    env::var_os("WARREN_TOOLS_DIR").map_or_else(|| TOOLS.into(), PathBuf::from)
}

/// Returns the folder of links, which stands first on the path.
pub(crate) fn links() -> PathBuf {
    folder().join("bin")
}

/// Returns the programs that a tool is run by; none of one that keeps its own login.
pub(crate) const fn programs(tool: Tool) -> &'static [&'static str] {
    match tool {
        Tool::Gh => &[],
        Tool::Az => &["az"],
        Tool::Vercel => &["vercel", "vc"],
        Tool::Netlify => &["netlify", "ntl"],
        Tool::Supabase => &["supabase"],
        Tool::Neon => &["neon", "neonctl"],
        Tool::Npm => &["npm", "npx", "pnpm", "pnpx"],
    }
}

/// Returns the tool that a program of this name belongs to.
fn tool_of(program: &str) -> Option<Tool> {
    Tool::ALL.into_iter().find(|tool| programs(*tool).contains(&program))
}

/// Whether this process was started by the name of a tool.
pub(crate) fn stands_for(name: &OsStr) -> Option<&'static str> {
    let name = Path::new(name).file_name()?.to_str()?;
    let all = Tool::ALL.into_iter().flat_map(|tool| programs(tool).iter());
    all.copied().find(|program| *program == name)
}

/// Becomes the tool, logged in; without its secret it says so and becomes the tool all the same.
pub(crate) fn stand_in(program: &str, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(real) = find(program) else {
        say(&format!("{program} is not installed in this workspace"));
        return ExitCode::from(NOT_FOUND);
    };
    let given: Vec<OsString> = arguments.collect();
    let mut command = Command::new(&real);
    let login = tool_of(program).and_then(known);
    if let Some(login) = login
        && let Err(why) = prepare(&mut command, &login, (&real, &given))
    {
        say(&format!("{program} is not logged in: {why}"));
    }
    command.args(given);
    become_it(command, program)
}

/// Becomes `-- PROGRAM …` with variables that have the values of secrets: `VARIABLE=SECRET …` before.
/// One whose name ends in `_FILE` has the path of the secret's file: no environment holds the value.
pub(crate) fn with_secrets(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments;
    let mut values = Vec::new();
    for word in arguments.by_ref().take_while(|word| word != "--") {
        let pair = word.to_str().and_then(|word| word.split_once('='));
        let Some((variable, secret)) = pair else {
            say("with-secrets takes VARIABLE=SECRET … -- PROGRAM …");
            return ExitCode::from(2);
        };
        let value = match variable.ends_with("_FILE") {
            true => credential::file(&credential::secrets(), secret).map(OsString::from),
            false => credential::line(&credential::secrets(), secret).map(OsString::from),
        };
        match value {
            Ok(value) => values.push((variable.to_owned(), value)),
            Err(why) => {
                say(&format!("{variable} is not given: {why}"));
                return ExitCode::FAILURE;
            }
        }
    }
    let Some(program) = arguments.next() else {
        say("with-secrets takes VARIABLE=SECRET … -- PROGRAM …");
        return ExitCode::from(2);
    };
    let mut command = Command::new(&program);
    command.args(arguments).envs(values);
    become_it(command, &program.to_string_lossy())
}

fn become_it(mut command: Command, program: &str) -> ExitCode {
    let error = command.exec();
    say(&format!("{program} cannot be started: {error}"));
    ExitCode::from(NOT_FOUND)
}

fn say(text: &str) {
    // whoever runs the tool reads it; where nobody does it is lost
    let _ = writeln!(io::stderr().lock(), "warren: {text}");
}

/// Returns the program of this name that is not a link to this one.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let identity = |path: &Path| {
        let facts = fs::metadata(path).ok()?;
        Some((facts.dev(), facts.ino()))
    };
    let own = identity(Path::new("/proc/self/exe"));
    let path = env::var_os("PATH").unwrap_or_default();
    let mut all = env::split_paths(&path).map(|folder| folder.join(program));
    all.find(|path| files::runs(path) && identity(path) != own)
}

/// Notes which tools are logged in.
pub(crate) fn note(logins: &[Login]) -> io::Result<()> {
    remove_calls(&folder().join(Tool::Az.as_str()));
    let all = Extras { logins: logins.to_vec(), ..Extras::default() };
    keep(&folder().join(LOGINS), &all.before(None).unwrap_or_default())
}

fn known(tool: Tool) -> Option<Login> {
    let text = String::from_utf8(files::read(&folder().join(LOGINS), LOGINS_BYTES)?).ok()?;
    Extras::split(&text).0.logins.into_iter().find(|login| login.tool == tool)
}

/// Makes a command find its secret.
fn prepare(
    command: &mut Command,
    login: &Login,
    (real, given): (&Path, &[OsString]),
) -> Result<(), String> {
    let folder = folder().join(login.tool.as_str());
    let failed = |error: io::Error| format!("{} cannot be written: {error}", folder.display());
    let secret = || credential::line(&credential::secrets(), login.secret.as_str());
    let variable = match login.tool {
        Tool::Netlify => "NETLIFY_AUTH_TOKEN",
        Tool::Supabase => "SUPABASE_ACCESS_TOKEN",
        Tool::Neon => "NEON_API_KEY",
        Tool::Vercel => {
            let chosen = ["--global-config", "-Q", "--token", "-t"];
            let chooses = |word: &OsString| {
                let word = word.to_str().unwrap_or_default();
                chosen.iter().any(|one| word == *one || word.starts_with(&format!("{one}=")))
            };
            if !given.iter().any(chooses) {
                let text = serde_json::json!({ "token": secret()? }).to_string();
                keep(&folder.join("auth.json"), &text).map_err(failed)?;
                command.arg("--global-config").arg(&folder);
            }
            return Ok(());
        }
        Tool::Npm => {
            let host = login.host.as_deref().unwrap_or("registry.npmjs.org");
            let host = host.trim_end_matches('/');
            let text = format!("{}//{host}/:_authToken={}\n", settings_of_all(), secret()?);
            let path = folder.join("npmrc");
            keep(&path, &text).map_err(failed)?;
            command.env("NPM_CONFIG_GLOBALCONFIG", path);
            return Ok(());
        }
        Tool::Az => return log_in_az(command, login, (real, &folder)),
        Tool::Gh => return Ok(()),
    };
    // a person may have chosen another
    if env::var_os(variable).is_none() {
        command.env(variable, secret()?);
    }
    Ok(())
}

/// Returns what npm is told for everybody, which ours stands in the place of.
fn settings_of_all() -> String {
    let prefix = env::var_os("NPM_CONFIG_PREFIX").map(PathBuf::from);
    let path = prefix.map(|prefix| prefix.join("etc/npmrc"));
    let bytes = path.and_then(|path| files::read(&path, NPMRC_BYTES)).unwrap_or_default();
    match String::from_utf8(bytes) {
        Ok(text) if text.is_empty() || text.ends_with('\n') => text,
        Ok(text) => format!("{text}\n"),
        Err(_) => String::new(),
    }
}

/// Azure's keeps a login of its own, made anew where the secret is another file by now. It reads the
/// password from its standard input: no file holds it, whatever ends the call.
fn log_in_az(
    command: &mut Command,
    login: &Login,
    (real, folder): (&Path, &Path),
) -> Result<(), String> {
    let failed = |error: io::Error| format!("{} cannot be used: {error}", folder.display());
    let home = env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let own = |command: &mut Command| {
        command.env("AZURE_CONFIG_DIR", folder);
        // these are no secrets, and large
        command.env("AZURE_EXTENSION_DIR", home.join(".azure/cliextensions"));
    };
    own(command);
    let secret = &login.secret;
    let path = credential::secrets().join(secret.as_str());
    let odd = || {
        format!(
            "the secret {secret} is not what az ad sp create-for-rbac prints: \
             JSON with appId, password and tenant"
        )
    };
    let facts = fs::metadata(&path).map_err(|_| credential::missing(secret.as_str()))?;
    let mark = format!("{} {} {}", facts.ino(), facts.mtime(), facts.mtime_nsec());
    let noted = folder.join("warren-login");
    if files::holds(&noted, &mark) {
        return Ok(());
    }
    let bytes = files::read(&path, LOGINS_BYTES).ok_or_else(odd)?;
    let principal: serde_json::Value = serde_json::from_slice(&bytes).map_err(|_| odd())?;
    let field = |name: &str| principal.get(name)?.as_str().filter(|text| !text.is_empty());
    let (Some(id), Some(password), Some(tenant)) =
        (field("appId"), field("password"), field("tenant"))
    else {
        return Err(odd());
    };
    let mut az = Command::new(real);
    own(&mut az);
    az.args(["login", "--service-principal", "--output", "none", "--username", id, "--tenant"]);
    az.arg(tenant).args(["--password", "@-"]).stdin(Stdio::piped());
    let mut az = az.spawn().map_err(failed)?;
    // it closes with this statement; one that takes nothing says why itself
    let _ = az.stdin.take().map(|mut input| input.write_all(password.as_bytes()));
    let done = az.wait().map_err(failed)?;
    match done.success() {
        true => keep(&noted, &mark).map_err(failed),
        false => Err(format!("az login says no ({done})")),
    }
}

/// Removes what an earlier version left.
fn remove_calls(folder: &Path) {
    // most often there is nothing; one that stays is found again
    let _ = fs::remove_dir_all(folder.join(CALLS));
}

/// Writes a file that nobody else reads, whole, where it holds something else.
fn keep(path: &Path, text: &str) -> io::Result<()> {
    if files::holds(path, text) {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    // two may run at once
    let fresh = path.with_extension(format!("{}.new", std::process::id()));
    files::write_anew(&fresh, text, 0o600)?;
    fs::rename(&fresh, path)
}

/// Makes the links of a tool's programs that are installed, and returns their names.
pub(crate) fn link(tool: Tool) -> io::Result<Vec<&'static str>> {
    let (links, own) = (links(), env::current_exe()?);
    let mut made = Vec::new();
    for program in programs(tool) {
        let path = links.join(program);
        if find(program).is_none() {
            continue;
        }
        fs::create_dir_all(&links)?;
        match std::os::unix::fs::symlink(&own, &path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => made.push(*program),
        }
    }
    Ok(made)
}

/// Whether a secret is there.
pub(crate) fn is_there(secret: &SecretName) -> bool {
    credential::secrets().join(secret.as_str()).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tool_has_programs_of_its_own_or_keeps_its_login() {
        let all: Vec<_> = Tool::ALL.into_iter().flat_map(|tool| programs(tool).iter()).collect();
        for program in &all {
            assert_eq!(all.iter().filter(|one| one == &program).count(), 1, "{program}");
            assert_eq!(
                stands_for(OsStr::new(&format!("/run/tools/bin/{program}"))),
                Some(**program)
            );
        }
        assert_eq!(stands_for(OsStr::new("warren-inside")), None);
        assert_eq!(stands_for(OsStr::new("bash")), None);
    }

    #[test]
    fn a_file_is_written_whole_for_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("npm/npmrc");
        for text in ["one", "two"] {
            keep(&path, text).expect("written");
            assert!(files::holds(&path, text));
        }
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder.path().join("npm"))), (0o600, 0o700));
        assert_eq!(fs::read_dir(folder.path().join("npm")).expect("listed").count(), 1);
    }
}
