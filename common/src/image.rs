//! Warren's own images for workspaces: their names, and the stages of the Dockerfile that they are.

use std::{collections::BTreeMap, fmt, str::FromStr};

use thiserror::Error;

/// Build arguments that a proxy needs; passed on where the environment has them.
pub const PROXIES: [&str; 6] =
    ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
/// Where a Debian machine keeps the authorities that were added to its own.
pub const AUTHORITIES: &str = "/usr/local/share/ca-certificates";

/// The tools that the largest image has where they are wanted, in order.
pub const TOOLS: [&str; 5] = ["az", "neon", "netlify", "supabase", "vercel"];
/// What prints which of them an image has, for [`tools`].
pub const TELL_TOOLS: &str = "cd /usr/share/warren/tools && grep -H '' *";

/// Warren's own images, each made on the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flavour {
    /// bash, tmux, git and what people reach for first.
    Base,
    /// The coding agents with what they need.
    Agents,
    /// Browsers and a display too.
    Browsers,
    /// An editor and further tools too; its build takes minutes.
    Full,
}

/// A name that none of them has.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no such flavour: base, agents, browsers and full are")]
pub struct UnknownFlavour;

/// A wish for tools that no build can meet.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("there is no tool {0:?}: all, none, or some of {names} with commas between them", names = TOOLS.join(", "))]
pub struct UnknownTool(String);

/// Reads which tools are wanted: `all`, `none`, or names with commas between them.
///
/// # Errors
/// One of them is none of [`TOOLS`].
pub fn wanted_tools(text: &str) -> Result<String, UnknownTool> {
    let odd = match text {
        "all" | "none" => None,
        names => names.split(',').find(|name| !TOOLS.contains(name)),
    };
    odd.map_or_else(|| Ok(text.to_owned()), |name| Err(UnknownTool(name.to_owned())))
}

/// Reads what [`TELL_TOOLS`] printed: the version of each tool, or why the image lacks it.
pub fn tools(text: &str) -> BTreeMap<String, Result<String, String>> {
    let one = |line: &str| {
        let (name, note) = line.split_once(':')?;
        let note =
            note.strip_prefix("- ").map_or_else(|| Ok(note.to_owned()), |why| Err(why.to_owned()));
        Some((name.to_owned(), note))
    };
    text.lines().filter_map(one).collect()
}

impl Flavour {
    /// All of them, smallest first.
    pub const ALL: [Self; 4] = [Self::Base, Self::Agents, Self::Browsers, Self::Full];

    /// Returns its name, which is its stage in the Dockerfile.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Agents => "agents",
            Self::Browsers => "browsers",
            Self::Full => "full",
        }
    }

    /// Returns the image's name by default.
    pub const fn tag(self) -> &'static str {
        match self {
            Self::Base => "warren-workspace:latest",
            Self::Agents => "warren-workspace:agents",
            Self::Browsers => "warren-workspace:browsers",
            Self::Full => "warren-workspace:full",
        }
    }

    /// Says what is in it, for people.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Base => "bash, tmux, git and what people reach for first",
            Self::Agents => "The coding agents with what they need",
            Self::Browsers => "Browsers and a display too",
            Self::Full => "An editor and further tools too; its build takes minutes",
        }
    }
}

impl fmt::Display for Flavour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Flavour {
    type Err = UnknownFlavour;
    fn from_str(text: &str) -> Result<Self, UnknownFlavour> {
        Self::ALL.into_iter().find(|one| one.as_str() == text).ok_or(UnknownFlavour)
    }
}

/// Returns an image's name as engines show it: with a tag or a digest and not both, and without the
/// registry that is meant where none is named.
pub fn shown(image: &str) -> String {
    let own = ["docker.io/", "index.docker.io/"].iter().find_map(|from| image.strip_prefix(from));
    let image = own.map_or(image, |own| own.strip_prefix("library/").unwrap_or(own));
    let at = image.rfind('/').map_or(0, |at| at + 1);
    let (path, name) = image.split_at(at);
    match (name.split_once('@'), name.contains(':')) {
        (Some((name, digest)), _) => {
            let name = name.split_once(':').map_or(name, |(name, _)| name);
            format!("{path}{name}@{digest}")
        }
        (None, true) => image.to_owned(),
        (None, false) => format!("{image}:latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_mean_the_same_image_are_shown_alike() {
        for (image, as_shown) in [
            ("agents", "agents:latest"),
            ("docker.io/library/debian:12", "debian:12"),
            ("docker.io/acme/web", "acme/web:latest"),
            ("host:5000/web", "host:5000/web:latest"),
            ("host:5000/web:1@sha256:00", "host:5000/web@sha256:00"),
            ("sha256:00", "sha256:00"),
        ] {
            assert_eq!(shown(image), as_shown);
            assert_eq!(shown(as_shown), as_shown);
        }
    }

    #[test]
    fn a_flavour_is_read_by_its_stage_and_nothing_else() {
        for flavour in Flavour::ALL {
            assert_eq!(flavour.to_string().parse(), Ok(flavour));
        }
        assert_eq!("Base".parse::<Flavour>(), Err(UnknownFlavour));
    }

    #[test]
    fn tools_are_wanted_by_name_and_told_with_version_or_reason() {
        for wanted in ["all", "none", "az", "vercel,az"] {
            assert_eq!(wanted_tools(wanted).as_deref(), Ok(wanted));
        }
        for odd in ["", "az,", "all,az", "Az", "gh"] {
            let why = wanted_tools(odd).expect_err("no such tool").to_string();
            assert!(why.contains("some of az, neon, netlify, supabase, vercel"), "{why}");
        }
        let told = tools("az:2.91.0\nneon:- not asked for\n\nodd\n");
        let expected = [
            ("az".to_owned(), Ok("2.91.0".to_owned())),
            ("neon".to_owned(), Err("not asked for".to_owned())),
        ];
        assert_eq!(told, expected.into());
    }
}
