//! Of when an answer is that was read without asking a majority.

use std::time::Duration;

use serde::Serialize;
use warren_proto::pb::admin::v1 as pb;

use crate::render::time::spell;

/// How old a stale answer may be, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AsOf {
    /// The coordinator that answered, by its number.
    pub(crate) coordinator: u64,
    /// How long ago it last had everything, as far as it knows; none where it cannot tell.
    pub(crate) age_ms: Option<u64>,
    pub(crate) revision: u64,
    pub(crate) incarnation: u32,
}

impl AsOf {
    /// Reads what an answer says of itself; none where it holds everything that was acknowledged.
    pub(crate) fn of(freshness: Option<&pb::Freshness>) -> Option<Self> {
        let freshness = freshness?;
        let stale = freshness.consistency() == pb::Consistency::Stale;
        stale.then_some(Self {
            coordinator: freshness.replica_id,
            age_ms: freshness.age_ms,
            revision: freshness.revision,
            incarnation: freshness.incarnation,
        })
    }

    /// Returns the line that people read below the answer.
    pub(crate) fn text(&self) -> String {
        let Self { coordinator, revision, .. } = self;
        match self.age_ms.map(Duration::from_millis) {
            Some(age) if age < Duration::from_secs(100) => {
                let seconds = age.as_secs_f64();
                format!(
                    "as coordinator {coordinator} knew it {seconds:.1} s ago, revision {revision}"
                )
            }
            Some(age) => {
                let age = spell(age);
                format!("as coordinator {coordinator} knew it {age} ago, revision {revision}")
            }
            None => format!(
                "as coordinator {coordinator} knows it, revision {revision}; how old that is it \
                 cannot tell: it has heard no leader since it started"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_stale_answers_have_an_age() {
        let at = |consistency: pb::Consistency, age_ms| pb::Freshness {
            revision: 812,
            replica_id: 2,
            consistency: consistency.into(),
            age_ms,
            ..pb::Freshness::default()
        };
        for fresh in [pb::Consistency::Linearizable, pb::Consistency::Unspecified] {
            assert_eq!(AsOf::of(Some(&at(fresh, None))), None);
        }
        assert_eq!(AsOf::of(None), None);
        let text =
            |age_ms| AsOf::of(Some(&at(pb::Consistency::Stale, age_ms))).map(|as_of| as_of.text());
        let knew = |age: &str| Some(format!("as coordinator 2 knew it {age} ago, revision 812"));
        assert_eq!(text(Some(1_234)), knew("1.2 s"));
        assert_eq!(text(Some(99_900)), knew("99.9 s"));
        assert_eq!(text(Some(150_000)), knew("2m30s"));
        assert!(text(None).is_some_and(|text| text.contains("it cannot tell")));
    }
}
