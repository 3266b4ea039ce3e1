//! The tortures, short: what `cargo xtask torture` does at length. `WARREN_TORTURE_SEED` repeats one.

use anyhow::Result;
use warren_tests::torture::{Options, Verdict, cluster, kill, power};

fn options(n: usize) -> Result<Options> {
    let seed = std::env::var("WARREN_TORTURE_SEED").ok();
    let seed = seed.into_iter().flat_map(|seed| ["--seed".to_owned(), seed]);
    Options::read(seed, n)
}

fn told(options: &Options, verdict: &Verdict) -> Result<()> {
    let lines = verdict.lines.join("\n");
    eprintln!("{lines}\nseed {}", options.seed);
    anyhow::ensure!(verdict.holds, "seed {}: {lines}", options.seed);
    Ok(())
}

#[test]
fn nothing_acknowledged_is_lost_over_50_kills() -> Result<()> {
    let options = options(50)?;
    told(&options, &kill::run(&options)?)
}

#[test]
fn nothing_acknowledged_is_lost_over_5_power_cuts_and_a_store_without_fsync_is_caught() -> Result<()>
{
    let options = options(5)?;
    told(&options, &power::run(&options, 2)?)
}

#[test]
fn what_three_coordinators_answer_has_an_order_whatever_is_done_to_one_of_them() -> Result<()> {
    let mut options = Options { minutes: 1.2, ..options(2)? };
    // one engine each time, as the seed says
    let turn = usize::from(options.seed.is_multiple_of(2));
    options.engines.remove(turn);
    told(&options, &cluster::run(&options)?)
}
