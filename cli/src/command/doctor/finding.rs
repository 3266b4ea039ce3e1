//! What a check finds, and how all of it is printed.

use std::fmt::Write as _;

use serde::Serialize;
use warren_common::{Limits, status::clean};

use crate::view::Moment;

/// Findings of one check that people are shown; programs get all.
const SHOWN: usize = 20;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Level {
    /// It was looked at, and it is as it should be.
    Ok,
    /// It could not be looked at: nothing is known.
    NotLooked,
    /// It works, and should be seen to.
    Warning,
    /// It does not work, or is about to fail.
    Error,
}

impl Level {
    const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NotLooked => "-",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    const fn colour(self) -> &'static str {
        match self {
            Self::Ok => "\x1b[32m",
            Self::NotLooked => "\x1b[2m",
            Self::Warning => "\x1b[33m",
            Self::Error => "\x1b[1;31m",
        }
    }
}

/// One question that is always asked: its code stays, whatever is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Check {
    part: &'static str,
    code: &'static str,
}

/// One answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What it belongs to, such as `coordinators`.
    pub(crate) part: &'static str,
    /// Stable, in capitals.
    pub(crate) code: &'static str,
    pub(crate) level: Level,
    /// What it was found about; none where it is about all of them.
    pub(crate) subject: Option<String>,
    /// What it is and what it means.
    pub(crate) message: String,
    /// What to type, or to do.
    pub(crate) fix: Option<String>,
}

impl Check {
    pub(crate) const fn new(part: &'static str, code: &'static str) -> Self {
        Self { part, code }
    }

    fn found(self, level: Level, message: impl Into<String>) -> Finding {
        let message = message.into();
        let Self { part, code } = self;
        Finding { part, code, level, subject: None, message, fix: None }
    }

    pub(crate) fn ok(self, message: impl Into<String>) -> Finding {
        self.found(Level::Ok, message)
    }

    pub(crate) fn not_looked(self, why: impl Into<String>) -> Finding {
        self.found(Level::NotLooked, why)
    }

    pub(crate) fn warning(self, message: impl Into<String>) -> Finding {
        self.found(Level::Warning, message)
    }

    pub(crate) fn error(self, message: impl Into<String>) -> Finding {
        self.found(Level::Error, message)
    }
}

impl Finding {
    /// Names what it is about.
    pub(crate) fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Whether somebody should see to it.
    pub(crate) const fn is_bad(&self) -> bool {
        matches!(self.level, Level::Warning | Level::Error)
    }

    /// Returns its code with what it is about, as a line.
    pub(crate) fn name(&self) -> String {
        match &self.subject {
            Some(subject) => format!("{} {}\n", self.code, one_line(subject)),
            None => format!("{}\n", self.code),
        }
    }

    /// Says what to do.
    pub(crate) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }
}

/// Returns the faults, or `ok` where there are none.
pub(crate) fn faults_or(faults: Vec<Finding>, ok: impl FnOnce() -> Finding) -> Vec<Finding> {
    if faults.is_empty() { vec![ok()] } else { faults }
}

/// Everything that was found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// None where this machine was looked at, or no cluster answered.
    pub(crate) cluster: Option<String>,
    pub(crate) looked_at: Moment,
    pub(crate) ok: usize,
    pub(crate) not_looked: usize,
    pub(crate) warnings: usize,
    pub(crate) errors: usize,
    /// By part, in the order in which they were asked.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    pub(crate) fn new(cluster: Option<String>, looked_at: Moment, findings: Vec<Finding>) -> Self {
        let count = |level| findings.iter().filter(|one| one.level == level).count();
        Self {
            cluster,
            looked_at,
            ok: count(Level::Ok),
            not_looked: count(Level::NotLooked),
            warnings: count(Level::Warning),
            errors: count(Level::Error),
            findings,
        }
    }

    /// Returns the page for people.
    pub(crate) fn text(&self, colour: bool) -> String {
        let width = self.findings.iter().map(|one| one.code.len()).max().unwrap_or(0);
        let mut text = String::new();
        let (mut part, mut check, mut shown) = ("", "", 0);
        for finding in &self.findings {
            if finding.part != part {
                let gap = if part.is_empty() { "" } else { "\n" };
                // a String takes every write
                let _ = writeln!(text, "{gap}{}", finding.part);
                part = finding.part;
            }
            if finding.code != check {
                (check, shown) = (finding.code, 0);
            }
            shown += 1;
            if shown <= SHOWN {
                line(&mut text, finding, (width, colour));
            } else if shown == SHOWN + 1 {
                let _ = writeln!(text, "  {:<7}  {check}: there are more; -o json has all", "");
            }
        }
        text.push('\n');
        text.push_str(&self.summary());
        text
    }

    fn summary(&self) -> String {
        let plural = |count: usize, one: &str, many: &str| {
            format!("{count} {}", if count == 1 { one } else { many })
        };
        format!(
            "{} ok, {}, {}, {} not looked at\n",
            self.ok,
            plural(self.warnings, "warning", "warnings"),
            plural(self.errors, "error", "errors"),
            self.not_looked
        )
    }
}

fn line(text: &mut String, finding: &Finding, (width, colour): (usize, bool)) {
    let (on, off) = if colour { (finding.level.colour(), "\x1b[0m") } else { ("", "") };
    let (word, code) = (finding.level.word(), finding.code);
    let subject = finding.subject.as_ref().map_or_else(String::new, |one| format!("{one}: "));
    let why = if finding.level == Level::NotLooked { "not looked at: " } else { "" };
    let told = one_line(&format!("{subject}{why}{}", finding.message));
    let _ = writeln!(text, "  {on}{word:<7}{off}  {code:<width$}  {told}");
    if let Some(fix) = &finding.fix {
        let _ = writeln!(text, "  {:<7}  {:<width$}  fix: {}", "", "", one_line(fix));
    }
}

/// Texts may come from a workspace or a peer: one line, no control characters.
fn one_line(text: &str) -> String {
    clean(text, Limits::REASON_BYTES * 4).replace(['\n', '\t'], " ")
}
