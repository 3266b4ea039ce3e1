//! Runs one benchmark and ends with one JSON line; `cargo xtask bench` prepares what it needs.

use anyhow::bail;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let line = match arguments.first().map(String::as_str) {
        Some("start") => warren_tests::bench::start::run(quick)?,
        _ => bail!("usage: warren-bench start [--quick]"),
    };
    println!("{line}");
    Ok(())
}
