//! `warren audit verify`: every coordinator's records, or those of a folder on this machine.

use std::{path::PathBuf, process::Stdio, time::Duration};

use clap::Args;
use tokio::{process::Command, time::Instant};
use warren_common::Limits;
use warren_daemon::clock;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api,
    app::App,
    command,
    error::{Error, Kind, Outcome},
    render::Tabular,
    value::show_duration,
    view::audit::{Gap, Verified},
};

/// Arguments of `audit verify`.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// Check the records of this machine's coordinator, running or not, and ask nobody.
    #[arg(long)]
    local: bool,
    /// The state folder; as configured without it.
    #[arg(long, value_name = "DIR", requires = "local")]
    state: Option<PathBuf>,
    /// The coordinator's configuration file.
    #[arg(long, value_name = "FILE", requires = "local")]
    config: Option<PathBuf>,
}

/// Beyond what each coordinator may take, until the last of them is given up.
const SLACK: Duration = Duration::from_secs(10);

pub(crate) async fn run(app: &App, verify: &Verify) -> Outcome {
    let verified = match verify.local {
        true => vec![on_this_machine(app, verify).await?],
        false => everywhere(app).await?,
    };
    app.output.list(&verified, clock::now(), "there are no coordinators")?;
    app.output.talk(&summary(&verified));
    let bad = verified.iter().any(|one| one.broken.is_some() || one.trouble.is_some());
    Ok(u8::from(bad || nothing_read(&verified)))
}

/// Whether not one record was read: nothing was shown of anything.
fn nothing_read(verified: &[Verified]) -> bool {
    verified.iter().all(|one| one.records == 0)
}

async fn everywhere(app: &App) -> Result<Vec<Verified>, Error> {
    let mut api = app.api()?;
    let limit = app.timeout().unwrap_or(Limits::AUDIT_TIMEOUT + SLACK);
    let until = Instant::now() + limit;
    let request = pb::VerifyRecordsRequest {};
    let asked = api.read(async |channel| api::audit(channel).verify_records(request).await);
    let mut verdicts = asked.await?;
    let mut verified: Vec<Verified> = Vec::new();
    loop {
        match tokio::time::timeout_at(until, verdicts.message()).await {
            Ok(Ok(Some(verdict))) => verified.push(verdict.into()),
            Ok(Ok(None)) => break,
            Ok(Err(status)) => return Err(api.failed(&status)),
            Err(_) => {
                let message =
                    format!("not every coordinator is done within {}", show_duration(limit));
                return Err(Error::new(Kind::Timeout, "TIMEOUT", message)
                    .next("warren audit verify --timeout 1h, or --local on each machine"));
            }
        }
    }
    verified.sort_by_key(|one| one.coordinator);
    Ok(verified)
}

/// Has the coordinator's own program read its folder: it knows the format, and this one does not.
async fn on_this_machine(app: &App, verify: &Verify) -> Result<Verified, Error> {
    let mut program = Command::new(command::beside("warren-coordinator"));
    program.args(["verify-audit", "--json"]).stdin(Stdio::null()).kill_on_drop(true);
    for (flag, path) in [("--state", &verify.state), ("--config", &verify.config)] {
        if let Some(path) = path {
            program.arg(flag).arg(path);
        }
    }
    let failed = |why: String| {
        Error::new(Kind::Failed, "LOCAL_IO", "the records of this machine cannot be checked")
            .why(why)
            .next("run it as root on the machine of a coordinator; --state names another folder")
    };
    let limit = app.timeout().unwrap_or(Limits::AUDIT_TIMEOUT);
    let output = tokio::time::timeout(limit, program.output()).await;
    let output = output.map_err(|_| {
        let message =
            format!("the records of this machine are not read within {}", show_duration(limit));
        Error::new(Kind::Timeout, "TIMEOUT", message)
            .next("warren audit verify --local --timeout 1h")
    })?;
    let output =
        output.map_err(|why| failed(format!("warren-coordinator does not start: {why}")))?;
    // exit code 1 with an answer is a break
    serde_json::from_slice(&output.stdout).map_err(|_| {
        let said = String::from_utf8_lossy(&output.stderr);
        failed(said.trim().trim_start_matches("error: ").to_owned())
    })
}

/// Says in one line or two what it comes to.
fn summary(verified: &[Verified]) -> String {
    let broken: Vec<&Verified> = verified.iter().filter(|one| one.broken.is_some()).collect();
    let checked = verified.iter().filter(|one| one.trouble.is_none()).count();
    let head = verified.iter().find_map(|one| one.head.as_ref());
    let head = head.map_or_else(
        || "no state says which is the newest record: the chain was checked by itself".to_owned(),
        |head| {
            let hash: String = head.hash.chars().take(12).collect();
            format!("up to record {} with hash {hash}", head.record)
        },
    );
    if broken.is_empty() {
        let nobody = missing_everywhere(verified);
        let rest = match nobody.is_empty() {
            true => String::new(),
            false => {
                let gaps: Vec<String> = nobody.iter().map(|gap| gap.text()).collect();
                format!("\nnote: no coordinator that answered has records {}", gaps.join(", "))
            }
        };
        let unchecked = unchecked(verified);
        return format!(
            "{checked} of {} checked, none broken; {head}{rest}{unchecked}",
            verified.len()
        );
    }
    let who: Vec<String> =
        broken.iter().filter_map(|one| one.coordinator).map(|n| n.to_string()).collect();
    let next = match who.is_empty() {
        true => {
            "keep a copy of the folder; the records of the other coordinators tell what stood there"
                .to_owned()
        }
        false => format!(
            "keep a copy of <state>/audit of coordinator {}, look who was on that machine, then \
             warren cluster replace {}",
            who.join(", "),
            who[0]
        ),
    };
    format!("{} of {checked} checked are broken; {head}\n  next: {next}", broken.len())
}

/// Says what to do about those that were not checked; nothing where all were.
fn unchecked(verified: &[Verified]) -> String {
    let missing = verified.iter().filter(|one| one.trouble.is_some());
    let who: Vec<String> = missing.map(Tabular::address).collect();
    match who.is_empty() {
        true if nothing_read(verified) => {
            "\n  next: no record was there to read; warren audit verify \
             --local --state DIR checks the folder that holds them"
                .to_owned()
        }
        true => String::new(),
        false => format!(
            "\n  next: bring coordinator {} back (warren cluster status) and run it again, or \
             warren audit verify --local on its machine",
            who.join(", ")
        ),
    }
}

/// Returns the records that every coordinator that was checked lacks.
fn missing_everywhere(verified: &[Verified]) -> Vec<Gap> {
    let mut checked = verified.iter().filter(|one| one.trouble.is_none());
    let first = checked.next().map_or_else(Vec::new, |one| one.gaps.clone());
    checked.fold(first, |missing, one| {
        let both = |a: &Gap, b: &Gap| {
            let (from, upto) = (a.from.max(b.from), a.upto.min(b.upto));
            (from <= upto).then_some(Gap { from, upto })
        };
        missing.iter().flat_map(|a| one.gaps.iter().filter_map(move |b| both(a, b))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_gaps(gaps: &[(u64, u64)]) -> Verified {
        let gaps = gaps
            .iter()
            .map(|(from, upto)| pb::AuditGap { from_sequence: *from, upto_sequence: *upto });
        pb::VerifyRecordsResponse { whole: true, gaps: gaps.collect(), ..Default::default() }.into()
    }

    #[test]
    fn what_one_lacks_another_may_have() {
        let missing = |all: &[Verified]| -> Vec<String> {
            missing_everywhere(all).iter().map(|gap| gap.text()).collect()
        };
        let whole = with_gaps(&[]);
        assert!(missing(&[with_gaps(&[(1, 9)]), whole]).is_empty());
        let one = with_gaps(&[(1, 9), (20, 30)]);
        assert_eq!(missing(&[one, with_gaps(&[(5, 22)])]), ["5-9", "20-22"]);
        let silent = Verified { trouble: Some("gone".to_owned()), ..with_gaps(&[]) };
        assert_eq!(missing(&[with_gaps(&[(4, 4)]), silent]), ["4"]);
    }

    #[test]
    fn what_was_not_checked_has_a_next_step() {
        assert!(unchecked(&[]).contains("next:"));
        assert!(unchecked(&[with_gaps(&[])]).contains("--state"), "no record was read");
        let whole = || Verified { records: 7, ..with_gaps(&[]) };
        assert_eq!(unchecked(&[whole()]), "");
        let trouble = Some("gone".to_owned());
        let silent = Verified { trouble, coordinator: Some(3), ..with_gaps(&[]) };
        assert!(unchecked(&[whole(), silent]).contains("coordinator 3"));
        assert!(nothing_read(&[]) && !nothing_read(&[whole()]));
    }
}
