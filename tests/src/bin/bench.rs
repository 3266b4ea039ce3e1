//! Runs one benchmark and ends with one JSON line; `cargo xtask bench` prepares what it needs.

use anyhow::bail;
use warren_tests::bench::{Options, commit, footprint, handover, home, neighbours, start, status};

const USAGE: &str = "usage: warren-bench start|commit|handover|read|footprint|neighbours|status|home \
                     [--quick] [--rounds 5] [--engine sled,redb] [--replicas 1,3] [--callers 1,16,256] \
                     [--only PART,PART]";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, arguments)) = arguments.split_first() else { bail!("{USAGE}") };
    let options = Options::read(arguments)?;
    let line = match name.as_str() {
        "start" => tokio::task::spawn_blocking(move || start::run(options.quick)).await??,
        "neighbours" => tokio::task::spawn_blocking(move || neighbours::run(&options)).await??,
        "status" => tokio::task::spawn_blocking(move || status::run(options.quick)).await??,
        "home" => {
            let work = move || home::run(options.quick, options.rounds);
            tokio::task::spawn_blocking(work).await??
        }
        "commit" => commit::run(&options).await?,
        "read" => commit::run_reads(&options).await?,
        "footprint" => footprint::run(&options).await?,
        "handover" => handover::run(&options).await?,
        _ => bail!("{USAGE}"),
    };
    println!("{line}");
    Ok(())
}
