//! What a benchmark of the replicated log is asked to measure.

use std::str::FromStr;

use anyhow::{Context as _, Result, bail};

/// Where our log lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The default.
    Sled,
    /// The second one.
    Redb,
}

impl Engine {
    /// Returns the word of `[storage] engine`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sled => "sled",
            Self::Redb => "redb",
        }
    }
}

impl FromStr for Engine {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "sled" => Ok(Self::Sled),
            "redb" => Ok(Self::Redb),
            _ => bail!("no engine {text}: sled or redb"),
        }
    }
}

/// Which rows, and how thoroughly.
#[derive(Debug, Clone)]
pub struct Options {
    /// One short pair per row: to see that it runs.
    pub quick: bool,
    /// How many rounds, where somebody said it.
    pub rounds: Option<usize>,
    /// Our engines.
    pub engines: Vec<Engine>,
    /// Sizes of the clusters, ours and the peer's.
    pub replicas: Vec<usize>,
    /// Callers at once.
    pub callers: Vec<usize>,
    /// Only rows with one of these in their names; all where there is none.
    pub only: Vec<String>,
}

impl Options {
    /// Whether a row is asked for.
    pub fn takes(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| row.contains(part))
    }

    /// Checks that `--only` names rows of a benchmark that has `rows`.
    ///
    /// # Errors
    /// Names the rows there are where a part is in none of them.
    pub fn check(&self, rows: &[&str]) -> Result<()> {
        match self.only.iter().find(|part| !rows.iter().any(|row| row.contains(part.as_str()))) {
            Some(part) => bail!("--only {part}: the rows are {}", rows.join(", ")),
            None => Ok(()),
        }
    }

    /// Reads `--quick`, `--rounds 3`, and `--engine`, `--replicas`, `--callers` and `--only` with lists such as
    /// `1,16`.
    ///
    /// # Errors
    /// Names the argument that is unknown or out of bounds.
    pub fn read(arguments: &[String]) -> Result<Self> {
        let mut options = Self {
            quick: false,
            rounds: None,
            engines: vec![Engine::Sled, Engine::Redb],
            replicas: vec![1, 3],
            callers: vec![1, 16, 256],
            only: Vec::new(),
        };
        let mut arguments = arguments.iter();
        while let Some(name) = arguments.next() {
            if name == "--quick" {
                options.quick = true;
                continue;
            }
            let value = arguments.next().with_context(|| format!("{name} takes a list"))?;
            match name.as_str() {
                "--rounds" => options.rounds = Some(value.parse()?),
                "--engine" => options.engines = list(value)?,
                "--replicas" => options.replicas = list(value)?,
                "--callers" => options.callers = list(value)?,
                "--only" => options.only = list(value)?,
                _ => bail!("unknown argument {name}"),
            }
        }
        if options.rounds.is_some_and(|rounds| !(1..=100).contains(&rounds)) {
            bail!("--rounds takes 1 to 100");
        }
        if options.replicas.iter().any(|count| ![1, 3, 5].contains(count)) {
            bail!("--replicas takes 1, 3 and 5");
        }
        if options.callers.iter().any(|count| !(1..=4096).contains(count)) {
            bail!("--callers takes 1 to 4096");
        }
        Ok(options)
    }
}

fn list<T: FromStr>(text: &str) -> Result<Vec<T>>
where
    anyhow::Error: From<T::Err>,
{
    text.split(',').map(|one| Ok(one.trim().parse::<T>()?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options> {
        let arguments: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
        Options::read(&arguments)
    }

    #[test]
    fn a_row_that_there_is_not_is_no_row_that_held() {
        let rows = ["node agent", "coordinator"];
        for fine in ["", "--only coord", "--only agent,coordinator"] {
            assert!(read(fine).expect("some").check(&rows).is_ok(), "{fine}");
        }
        let typo = read("--only agent,cordinator").expect("some").check(&rows).expect_err("a typo");
        assert_eq!(typo.to_string(), "--only cordinator: the rows are node agent, coordinator");
    }

    #[test]
    fn rows_are_chosen_by_lists() {
        let all = read("").expect("everything");
        assert_eq!((all.replicas, all.callers, all.quick), (vec![1, 3], vec![1, 16, 256], false));
        let some = read("--quick --engine redb --replicas 3 --callers 16,64").expect("some");
        assert_eq!((some.engines, some.callers), (vec![Engine::Redb], vec![16, 64]));
        let few = read("--only disk,log").expect("some");
        assert!(few.takes("log flood") && !few.takes("hog"));
        assert!(read("").expect("everything").takes("hog"));
        for odd in
            ["--slow 1", "--rounds 0", "--callers", "--callers 0", "--replicas 2", "--engine none"]
        {
            assert!(read(odd).is_err(), "{odd} passed");
        }
    }
}
