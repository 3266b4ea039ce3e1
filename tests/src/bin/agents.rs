//! Plays the agents' stories; `cargo xtask agents` prepares what they need.

use warren_tests::agents::{Choice, run};

fn main() -> anyhow::Result<()> {
    run(&Choice::read(std::env::args().skip(1))?)?.hold()
}
