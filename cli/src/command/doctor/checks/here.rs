//! This machine: its context, its certificate, its files, its clock.

use std::time::Duration;

use warren_common::Limits;

use super::{each, faults_or};
use crate::{
    command::doctor::{
        facts::{Facts, Own},
        finding::{Check, Finding},
    },
    render::time::{rfc3339_seconds, spell},
};

const PART: &str = "this machine";
const CONTEXT: Check = Check::new(PART, "CONTEXT");
const CERTIFICATE: Check = Check::new(PART, "CONTEXT_CERTIFICATE");
const FILES: Check = Check::new(PART, "CONTEXT_FILES");
const CLOCK: Check = Check::new(PART, "CLOCK");

/// A clock further off than this makes ages and deadlines wrong.
const SKEW_WARNING: u64 = 5_000;
/// And one further off than this refuses fresh certificates and tokens.
const SKEW_ERROR: u64 = 60_000;

pub(super) fn check(facts: &Facts) -> Vec<Finding> {
    let mut found = match &facts.own {
        Ok(own) => vec![
            CONTEXT.ok(format!("{}: {} of cluster {}", own.context, own.person, own.cluster)),
            certificate(facts, own),
        ],
        Err(error) => {
            let fault = CONTEXT.error(error.message.clone());
            let next = error.next.clone().unwrap_or_else(|| "warren context list".to_owned());
            vec![
                fault.fix(next),
                CERTIFICATE.not_looked("there is no certificate that can be read"),
            ]
        }
    };
    found.extend(files(facts));
    found.extend(clock(facts));
    found
}

fn certificate(facts: &Facts, own: &Own) -> Finding {
    let left = own.expires.since(facts.here);
    let end = rfc3339_seconds(own.expires);
    if left.is_zero() {
        let message = format!("it ended at {end}, and was not renewed");
        let invite = format!("an administrator: warren user invite {}", own.person);
        return CERTIFICATE.error(message).fix(invite);
    }
    let message = format!("good for {} (until {end})", spell(left));
    match left < Limits::CERTIFICATE_DUE {
        true => CERTIFICATE
            .warning(format!("{message}; it should have renewed itself long before"))
            .fix("warren cluster status renews it where a coordinator answers"),
        false => CERTIFICATE.ok(message),
    }
}

fn files(facts: &Facts) -> Vec<Finding> {
    let open = match &facts.open_to_others {
        Ok(open) => open,
        Err(why) => return vec![FILES.not_looked(why.clone())],
    };
    let fault = |(path, mode): &(String, u32)| {
        let message =
            format!("others may use it (mode {mode:o}): it holds or guards a private key");
        let wanted = if mode & 0o100 == 0 { "600" } else { "700" };
        FILES.error(message).about(path).fix(format!("chmod {wanted} {path}"))
    };
    let faults = open.iter().map(fault).collect();
    faults_or(faults, || FILES.ok("key and contexts are this user's alone"))
}

fn clock(facts: &Facts) -> Vec<Finding> {
    each(
        facts,
        CLOCK,
        |one, answer| {
            let off = answer.ahead_ms.unsigned_abs();
            let way = if answer.ahead_ms > 0 { "ahead of" } else { "behind" };
            let told = Duration::from_millis(off).as_secs_f64();
            let message = format!("its clock is {told:.1} s {way} this machine's");
            let fault = match off {
                0..SKEW_WARNING => return None,
                SKEW_WARNING..SKEW_ERROR => CLOCK.warning(message),
                _ => CLOCK.error(message),
            };
            let fix = "compare both with a good clock, and run chrony or systemd-timesyncd";
            Some(fault.about(one.label()).fix(fix))
        },
        || {
            let most = facts.answering().map(|(_, answer)| answer.ahead_ms.unsigned_abs()).max();
            let most = Duration::from_millis(most.unwrap_or(0)).as_secs_f64();
            format!("at most {most:.1} s from the coordinators'")
        },
    )
}
