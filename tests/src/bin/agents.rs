//! Plays the agents' stories; `cargo xtask agents` prepares what they need.

fn main() -> anyhow::Result<()> {
    let only = std::env::args().nth(1).unwrap_or_default();
    warren_tests::agents::run(&only)?.hold()
}
