//! The repository server as a process, so that it can stand in a host's network.

use std::path::Path;

use anyhow::Context as _;

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments.next().context("usage: warren-test-repo-server FOLDER ADDRESS")?;
    let address = arguments.next().context("usage: warren-test-repo-server FOLDER ADDRESS")?;
    warren_tests::repo::serve(Path::new(&folder), &address)
}
