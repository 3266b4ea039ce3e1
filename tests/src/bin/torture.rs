//! Breaks a coordinator again and again; `cargo xtask torture` prepares what it needs.

use std::process::ExitCode;

use anyhow::{Result, bail};
use warren_tests::torture::{Options, Verdict, cluster, kill, power};

const USAGE: &str = "usage: warren-torture kill|power|cluster [--n N] [--minutes M] \
                     [--engine sled|redb|both] [--seed S] [-o json]";

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut arguments: Vec<String>) -> Result<bool> {
    let json = match arguments.windows(2).position(|pair| pair == ["-o", "json"]) {
        Some(at) => arguments.drain(at..at + 2).count() > 0,
        None => false,
    };
    let mut arguments = arguments.into_iter();
    let what = arguments.next().unwrap_or_default();
    let n = match what.as_str() {
        "kill" => 1000,
        "power" | "cluster" => 50,
        _ => bail!("{USAGE}"),
    };
    let options = Options::read(arguments, n)?;
    eprintln!("torture {what}, seed {}", options.seed);
    let Verdict { lines, json: value, holds, .. } = match what.as_str() {
        "kill" => kill::run(&options)?,
        "cluster" => cluster::run(&options)?,
        _ => power::run(&options, options.n.min(12))?,
    };
    if json {
        println!("{value}");
    } else {
        for line in &lines {
            println!("{line}");
        }
        println!("seed {}: {}", options.seed, if holds { "holds" } else { "does not hold" });
    }
    Ok(holds)
}
