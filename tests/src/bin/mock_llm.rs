//! The models' stand-in as a process, so that it can stand in a host's network.

use anyhow::Context as _;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let address = std::env::args().nth(1).context("usage: warren-test-mock-llm ADDRESS")?;
    warren_tests::mock_llm::serve(&address).await
}
