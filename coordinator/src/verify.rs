//! `warren-coordinator verify-audit`: the audit records of a state folder, checked on the spot.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::{Context as _, ensure};
use clap::Args;
use serde::Serialize;
use warren_coordinator::{
    audit::{self, Gap, Verified},
    config::Config,
    raft,
};
use warren_model::{AuditHead, state::certificate};

/// Arguments of `verify-audit`.
#[derive(Args)]
pub(crate) struct VerifyAudit {
    /// The state folder; as configured without it
    #[arg(long, value_name = "DIR")]
    state: Option<PathBuf>,
    /// Write what was found as JSON
    #[arg(long)]
    json: bool,
}

/// What was found, as `warren audit verify --local` reads it.
#[derive(Serialize)]
struct Shown {
    whole: bool,
    first: Option<u64>,
    last: Option<u64>,
    records: u64,
    segments: usize,
    gaps: Vec<Stretch>,
    broken: Option<Break>,
    head: Option<Head>,
}

#[derive(Serialize)]
struct Stretch {
    from: u64,
    upto: u64,
}

#[derive(Serialize)]
struct Break {
    record: u64,
    segment: Option<String>,
    line: Option<usize>,
    reason: String,
}

#[derive(Serialize)]
struct Head {
    record: u64,
    hash: String,
}

impl Shown {
    fn new(verified: Verified, head: Option<AuditHead>) -> Self {
        let any = |number: u64| Some(number).filter(|_| verified.first != 0);
        let stretch = |gap: &Gap| Stretch { from: gap.from, upto: gap.upto };
        Self {
            whole: verified.broken.is_none(),
            first: any(verified.first),
            last: any(verified.head.sequence),
            records: verified.records,
            segments: verified.segments,
            gaps: verified.gaps.iter().map(stretch).collect(),
            broken: verified.broken.map(|broken| Break {
                record: broken.sequence,
                segment: broken.segment,
                line: Some(broken.line).filter(|line| *line != 0),
                reason: broken.reason,
            }),
            head: head
                .map(|head| Head { record: head.sequence, hash: certificate::hex(&head.hash) }),
        }
    }

    fn text(&self) -> String {
        let known = match &self.head {
            Some(head) => format!("; the newest checkpoint knows record {}", head.record),
            None => "; there is no checkpoint to hold them against".to_owned(),
        };
        let range = match (self.first, self.last) {
            (Some(first), Some(last)) => format!("{first} to {last}"),
            _ => "none".to_owned(),
        };
        match &self.broken {
            None => format!("records {range}: {} checked, none broken{known}", self.records),
            Some(broken) => {
                let place = match (&broken.segment, broken.line) {
                    (Some(segment), Some(line)) => format!(" ({segment} line {line})"),
                    _ => String::new(),
                };
                format!("broken at record {}{place}: {}{known}", broken.record, broken.reason)
            }
        }
    }
}

/// Checks them; fails where one is broken.
pub(crate) fn run(config: &Config, verify: &VerifyAudit) -> anyhow::Result<ExitCode> {
    let state = verify.state.as_ref().unwrap_or(&config.state_dir);
    let folder = state.join("audit");
    ensure!(
        folder.is_dir(),
        "{} is not there: no coordinator kept its state here",
        folder.display()
    );
    let reading = || format!("reading {}", folder.display());
    // what the state knows before the records are read can only be in them
    let head = raft::recorded_head(state).with_context(reading)?;
    let shown = Shown::new(audit::verify(&folder, head).with_context(reading)?, head);
    let mut stdout = std::io::stdout();
    let written = match verify.json {
        true => serde_json::to_string(&shown).map(|text| writeln!(stdout, "{text}"))?,
        false => writeln!(stdout, "{}", shown.text()),
    };
    written.context("writing to stdout")?;
    Ok(if shown.whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
