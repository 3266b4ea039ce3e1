//! What goes on while nobody looks: its own record of when it moved.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use warren_common::Timestamp;

/// How long nobody looks.
pub const MINUTE: Duration = Duration::from_secs(60);
/// The most between two lines of what writes two each second: the machine is busy.
const GAP: Duration = Duration::from_secs(5);

/// Holds a record to have gone on without a pause until a minute after everybody was gone. A line is
/// milliseconds since 1970 and a number; returns the numbers in the order of their times.
///
/// # Errors
/// Fails where nothing was written for 5 s, or a line is another.
pub fn goes_on(record: &str, gone: Timestamp) -> Result<Vec<u64>> {
    let line = |line: &str| {
        let (at, number) = line.split_once(' ').context("two words")?;
        anyhow::Ok((Timestamp(at.parse()?), number.parse::<u64>()?))
    };
    let mut lines = record.lines().map(line).collect::<Result<Vec<_>>>()?;
    lines.sort_unstable();
    let gap = lines.windows(2).map(|two| two[1].0.since(two[0].0)).max().context("lines")?;
    ensure!(gap <= GAP, "nothing for {gap:?}");
    let (last, _) = lines.last().context("lines")?;
    ensure!(last.plus(GAP) >= gone.plus(MINUTE), "the last at {last:?}, alone since {gone:?}");
    Ok(lines.into_iter().map(|(_, number)| number).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_an_end_and_a_line_that_is_none_are_seen() {
        let (gone, all) = (Timestamp(10_000), |seconds: std::ops::Range<u64>| -> String {
            seconds.map(|at| format!("{}000 7\n", at + 10)).collect()
        });
        assert_eq!(goes_on(&all(0..60), gone).expect("it went on"), [7; 60]);
        assert!(goes_on(&all(0..50), gone).is_err(), "it ended");
        assert!(goes_on(&(all(0..20) + &all(26..60)), gone).is_err(), "it paused");
        assert!(goes_on("", gone).is_err() && goes_on("1 x\n", gone).is_err());
    }
}
