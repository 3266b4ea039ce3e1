//! A flood of connections hurts its own workspace alone.

use anyhow::{Context as _, Result};

use crate::{
    field::{EVIL, Field, INTERNET, Walls},
    probe::{Switch as _, connect},
};

/// Flows that one workspace may have open here.
const BOUND: u64 = 150;

/// Opens 400 connections and holds them; writes how many it got, and waits.
fn flood() -> String {
    format!(
        "python3 -c \"import socket,time\nheld=[]\nn=0\n\
         for i in range(400):\n s=socket.socket()\n s.setblocking(False)\n\
         \x20s.connect_ex(('{EVIL}',443))\n held.append(s)\n\
         time.sleep(3)\n\
         for s in held:\n try:\n  s.getpeername()\n  n+=1\n except OSError: pass\n\
         print(n,flush=True)\ntime.sleep(8)\n\""
    )
}

#[test]
fn a_flood_of_connections_is_bounded_and_its_neighbour_connects() -> Result<()> {
    let mut field = Field::new(&format!("connections = {BOUND}\nnew_connections = 1000"))?;
    let flooding = |field: &Field| -> Result<u64> {
        std::thread::scope(|scope| {
            let flood = scope.spawn(|| field.in_a(&flood()));
            std::thread::sleep(std::time::Duration::from_secs(6));
            let neighbour = field.lab.engine.try_docker(&[
                "exec",
                field.lab.container("beta/b")?["Id"].as_str().context("an id")?,
                "bash",
                "-c",
                &connect(INTERNET, 443),
            ])?;
            anyhow::ensure!(neighbour.stdout.contains("seen"), "B is hurt: {neighbour:?}");
            let output = flood.join().ok().context("it panicked")??.success()?;
            output.stdout.trim().parse().with_context(|| format!("{output:?}"))
        })
    };
    let held = flooding(&field)?;
    anyhow::ensure!(held <= BOUND && held > BOUND / 2, "A holds {held} connections");
    let counters =
        field.lab.node.program("nft").args(["list", "counters"]).run()?.success()?.stdout;
    let flooded = counters.split("ws_flooded").nth(1).context("the counter")?;
    anyhow::ensure!(!flooded.trim_start().starts_with("{\n\t\tpackets 0 "), "{flooded}");
    Walls.off(&mut field)?;
    let held = flooding(&field)?;
    anyhow::ensure!(held > BOUND * 2, "without the bound A holds only {held} connections");
    Walls.on(&mut field)
}
