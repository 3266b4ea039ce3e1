//! `--watch` of what has no events: records that only ever come, looked for again and again.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{LOOK, lines, source::Absence};
use crate::{
    api::Api,
    app::App,
    error::{Error, Outcome},
    render::Tabular,
};

/// Prints `begin`, and then what `more` finds after the number it is given, until the command is
/// interrupted. `more` answers with the number to go on after.
///
/// # Errors
/// The calls are refused, or no coordinator answers any more.
pub(crate) async fn records<T: Tabular + Serialize>(
    app: &App,
    api: &mut Api,
    (begin, mut after): (Vec<T>, u64),
    more: impl AsyncFn(&mut Api, u64) -> Result<(Vec<T>, u64), Error>,
) -> Outcome {
    let mut widths = BTreeMap::new();
    let mut absence = Absence::new(app.timeout(), &app.output);
    let mut found = begin;
    loop {
        for record in &found {
            lines::row(&app.output, record, &mut widths)?;
        }
        tokio::time::sleep(LOOK).await;
        match more(api, after).await {
            Ok((records, upto)) => {
                absence.answered();
                (found, after) = (records, upto);
            }
            Err(error) => {
                absence.unanswered(error)?;
                found = Vec::new();
            }
        }
    }
}
