//! Why a clone failed, read from git's own words, and what to do about it.

use warren_common::status::reason;

/// Why git gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    /// The server wants to know who asks.
    Authentication,
    /// The server knows, and says no.
    Forbidden,
    /// Nothing of this name.
    NotFound,
    /// The repository is there, the branch is not.
    NoBranch,
    /// The name of the server leads nowhere.
    Unresolved,
    /// Nobody listens, or the connection broke.
    Connection,
    /// The server failed.
    Server,
    /// It answered too slowly.
    Slow,
    /// Its certificate is not trusted here.
    Certificate,
    /// No room in the home.
    DiskFull,
    /// Something else.
    Other,
}

/// Git's words, in the order they are looked for: the first that matches decides.
const SIGNS: [(&str, Failure); 31] = [
    ("No space left on device", Failure::DiskFull),
    ("Disk quota exceeded", Failure::DiskFull),
    ("could not read Username", Failure::Authentication),
    ("could not read Password", Failure::Authentication),
    ("unable to read askpass", Failure::Authentication),
    ("Authentication failed", Failure::Authentication),
    ("terminal prompts disabled", Failure::Authentication),
    ("returned error: 401", Failure::Authentication),
    ("returned error: 403", Failure::Forbidden),
    ("access denied", Failure::Forbidden),
    ("Remote branch", Failure::NoBranch),
    ("returned error: 404", Failure::NotFound),
    ("returned error: 410", Failure::NotFound),
    ("not found", Failure::NotFound),
    ("does not appear to be a git repository", Failure::NotFound),
    ("Could not resolve host", Failure::Unresolved),
    ("unable to look up", Failure::Unresolved),
    ("returned error: 5", Failure::Server),
    ("returned error: 429", Failure::Server),
    ("Operation too slow", Failure::Slow),
    ("Operation timed out", Failure::Slow),
    ("certificate", Failure::Certificate),
    ("SSL", Failure::Certificate),
    ("gnutls_handshake", Failure::Connection),
    ("onnection refused", Failure::Connection),
    ("onnection reset", Failure::Connection),
    ("onnection timed out", Failure::Connection),
    ("Failed to connect", Failure::Connection),
    ("Empty reply from server", Failure::Connection),
    ("hung up unexpectedly", Failure::Connection),
    ("early EOF", Failure::Connection),
];

impl Failure {
    /// Reads git's output.
    pub(super) fn read(output: &str) -> Self {
        let sign = SIGNS.iter().find(|(words, _)| output.contains(words));
        sign.map_or(Self::Other, |(_, failure)| *failure)
    }

    /// Returns whether the same clone may go well in a moment.
    pub(super) const fn transient(self) -> bool {
        match self {
            Self::Unresolved | Self::Connection | Self::Server | Self::Slow => true,
            Self::Authentication
            | Self::Forbidden
            | Self::NotFound
            | Self::NoBranch
            | Self::Certificate
            | Self::DiskFull
            | Self::Other => false,
        }
    }

    /// Returns what happened and what to do, in one sentence.
    pub(super) fn explain(self, host: &str, branch: &str, output: &str) -> String {
        match self {
            Self::Authentication => format!(
                "{host} asks for a password and takes none that is here: set it with warren secret \
                 set CLIENT git-token, or use a public URL"
            ),
            Self::Forbidden => {
                format!(
                    "{host} refuses access to this repository; check its URL and its visibility"
                )
            }
            Self::NotFound => {
                format!(
                    "{host} has no repository at this URL; check the URL, or whether it is private"
                )
            }
            Self::NoBranch => {
                format!("the repository has no branch {branch:?}; leave it out or name another")
            }
            Self::Unresolved => {
                format!("the name {host} cannot be resolved; check the URL and the node's DNS")
            }
            Self::Connection => format!(
                "{host} cannot be reached ({}); check the URL and the node's network",
                last(output)
            ),
            Self::Server => format!("{host} failed ({}); try again later", last(output)),
            Self::Slow => {
                format!("{host} answers too slowly or not at all; check the node's network")
            }
            Self::Certificate => {
                format!("the certificate of {host} is not trusted here ({})", last(output))
            }
            Self::DiskFull => {
                "the home is full; give the workspace a larger disk or a smaller repository"
                    .to_owned()
            }
            Self::Other => format!("git says: {}", last(output)),
        }
    }
}

/// Returns git's last error line without its prefix.
fn last(output: &str) -> String {
    let is_error = |line: &&str| line.starts_with("fatal: ") || line.starts_with("error: ");
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines().rev().find(is_error).or_else(|| lines().next_back()).unwrap_or("nothing");
    let line = line.trim_start_matches("fatal: ").trim_start_matches("error: ");
    reason(&line.chars().take(300).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_git_are_understood() {
        let cases = [
            (
                "fatal: could not read Username for 'https://x': terminal prompts disabled",
                Failure::Authentication,
            ),
            ("remote: Not Found\nfatal: repository 'http://x/y/' not found", Failure::NotFound),
            ("fatal: Remote branch nope not found in upstream origin", Failure::NoBranch),
            ("fatal: unable to access 'http://x/': Could not resolve host: x", Failure::Unresolved),
            (
                "fatal: unable to access 'http://x/': Failed to connect to x port 1 after 0 ms",
                Failure::Connection,
            ),
            (
                "fatal: unable to access 'http://x/': The requested URL returned error: 503",
                Failure::Server,
            ),
            ("fatal: write error: No space left on device", Failure::DiskFull),
            ("fatal: unable to access: SSL certificate problem: x", Failure::Certificate),
            ("fatal: bad object HEAD", Failure::Other),
        ];
        for (output, failure) in cases {
            assert_eq!(Failure::read(output), failure, "{output}");
        }
        assert!(Failure::Connection.transient() && !Failure::NotFound.transient());
    }

    #[test]
    fn explanations_carry_gits_last_error() {
        let output = "Cloning into 'x'...\nfatal: bad object HEAD\nwarning: x\n";
        assert_eq!(Failure::Other.explain("h", "", output), "git says: bad object HEAD");
    }
}
