//! A placement decision with its reasons, as `workspace explain` prints it.

use serde::Serialize;
use warren_common::status::reason;
use warren_proto::pb::admin::v1 as pb;

use super::filled;
use crate::render::table;

/// Why a workspace is where it is, or why it is nowhere.
#[derive(Debug, Serialize)]
pub(crate) struct Explanation {
    pub(crate) summary: String,
    /// None where no node fits.
    pub(crate) node: Option<String>,
    pub(crate) filters: Vec<Filter>,
    /// Best first, then the refused by name.
    pub(crate) candidates: Vec<Candidate>,
}

/// One filter and how many nodes it refused.
#[derive(Debug, Serialize)]
pub(crate) struct Filter {
    pub(crate) filter: String,
    pub(crate) considered: u32,
    pub(crate) refused: u32,
}

/// One node as the planner saw it.
#[derive(Debug, Serialize)]
pub(crate) struct Candidate {
    pub(crate) node: String,
    pub(crate) fits: bool,
    pub(crate) refused_by: Option<String>,
    pub(crate) detail: Option<String>,
    /// Per-mille.
    pub(crate) score: u32,
    pub(crate) parts: Vec<Part>,
}

/// One part of a score.
#[derive(Debug, Serialize)]
pub(crate) struct Part {
    pub(crate) name: String,
    /// 0 to 1000.
    pub(crate) value: u32,
    /// Per-mille of the whole.
    pub(crate) weight: u32,
}

impl From<pb::Explanation> for Explanation {
    fn from(explanation: pb::Explanation) -> Self {
        let filter = |count: pb::FilterCount| Filter {
            filter: count.filter,
            considered: count.considered,
            refused: count.refused,
        };
        Self {
            summary: explanation.summary,
            node: filled(&explanation.node),
            filters: explanation.filters.into_iter().map(filter).collect(),
            candidates: explanation.candidates.into_iter().map(Candidate::from).collect(),
        }
    }
}

impl From<pb::Candidate> for Candidate {
    fn from(candidate: pb::Candidate) -> Self {
        let part =
            |part: pb::ScorePart| Part { name: part.name, value: part.value, weight: part.weight };
        Self {
            node: candidate.node,
            fits: candidate.refused_by.is_empty(),
            refused_by: filled(&candidate.refused_by),
            detail: filled(&candidate.detail),
            score: candidate.score,
            parts: candidate.parts.into_iter().map(part).collect(),
        }
    }
}

impl Explanation {
    /// Returns the page that `workspace explain` prints; cut to `width` on a terminal.
    pub(crate) fn text(&self, address: &str, width: Option<u16>) -> String {
        let mut text = format!("{address}: {}\n", reason(&self.summary));
        if !self.filters.is_empty() {
            let row = |f: &Filter| {
                let left = f.considered.saturating_sub(f.refused);
                vec![
                    f.filter.clone(),
                    f.considered.to_string(),
                    f.refused.to_string(),
                    left.to_string(),
                ]
            };
            let rows = self.filters.iter().map(row).collect();
            text.push('\n');
            text.push_str(&table::lay_out(
                &["FILTER", "CONSIDERED", "REFUSED", "LEFT"],
                rows,
                0,
                width,
            ));
        }
        if !self.candidates.is_empty() {
            let rows = self.candidates.iter().map(Candidate::cells).collect();
            text.push('\n');
            text.push_str(&table::lay_out(
                &["NODE", "SCORE", "FITS", "SCORE PARTS OR REASON"],
                rows,
                3,
                width,
            ));
        }
        text
    }
}

impl Candidate {
    fn cells(&self) -> Vec<String> {
        let (score, fits, why) = match &self.refused_by {
            Some(filter) => {
                let detail = self.detail.as_deref().map(|detail| format!(": {detail}"));
                (String::new(), "no", format!("{filter}{}", detail.unwrap_or_default()))
            }
            None => (self.score.to_string(), "yes", self.score_parts()),
        };
        vec![self.node.clone(), score, fits.to_owned(), why]
    }

    /// `pack-or-spread 900×0.35, …`: value and weight of each part.
    fn score_parts(&self) -> String {
        let part = |part: &Part| {
            format!("{} {}\u{d7}0.{:03}", part.name, part.value, part.weight.min(999))
                .trim_end_matches('0')
                .to_owned()
        };
        self.parts.iter().map(part).collect::<Vec<String>>().join(", ")
    }
}
