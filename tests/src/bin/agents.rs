//! Plays the agents' stories; `cargo xtask agents` prepares what they need.

use anyhow::ensure;

fn main() -> anyhow::Result<()> {
    let only = std::env::args().nth(1).unwrap_or_default();
    let count = warren_tests::agents::run(&only)?;
    ensure!(count.wrong == 0, "{} of what was said was wrong", count.wrong);
    Ok(())
}
