//! Lists, page after page until the last.

use warren_common::{Limits, Timestamp};
use warren_proto::pb::admin::v1 as pb;

use super::Api;
use crate::{
    error::{Error, Kind},
    view::served,
};

/// One page: its items, the token of the next, how fresh it is.
pub(crate) type Page<T> = (Vec<T>, String, Option<pb::Freshness>);

/// A whole list.
pub(crate) struct Listed<T> {
    /// In the coordinator's order.
    pub(crate) items: Vec<T>,
    /// What ages are counted to.
    pub(crate) now: Timestamp,
    /// How fresh its first page was: watching from there misses nothing. Of stale ones that of the
    /// oldest page.
    pub(crate) at: pb::Freshness,
}

impl<T> Listed<T> {
    /// Converts each item.
    pub(crate) fn map<U>(self, convert: impl FnMut(T) -> U) -> Listed<U> {
        let items = self.items.into_iter().map(convert).collect();
        Listed { items, now: self.now, at: self.at }
    }
}

/// More pages than any cluster has: a coordinator that never ends is broken.
const MOST_PAGES: usize = 10_000;

/// Returns a whole list with how fresh it is.
///
/// # Errors
/// As the calls fail; also where the pages do not end.
pub(crate) async fn pages<T>(
    api: &mut Api,
    page: impl AsyncFn(&mut Api, u32, String) -> Result<Page<T>, Error>,
) -> Result<Listed<T>, Error> {
    let size = u32::try_from(Limits::PAGE).expect("a page is small");
    let mut items = Vec::new();
    let mut first = None;
    let mut token = String::new();
    for _ in 0..MOST_PAGES {
        let (some, next, freshness) = page(api, size, token).await?;
        items.extend(some);
        let now = served(freshness.as_ref());
        if next.is_empty() {
            api.notice(freshness.as_ref());
        }
        let at = first.get_or_insert_with(|| freshness.clone().unwrap_or_default());
        if let Some(freshness) = freshness.filter(|one| is_older(one, at)) {
            *at = freshness;
        }
        if next.is_empty() {
            return Ok(Listed { items, now, at: at.clone() });
        }
        token = next;
    }
    Err(endless())
}

/// Tells a list whose pages do not end.
pub(crate) fn endless() -> Error {
    Error::new(Kind::Failed, "ENDLESS_LIST", "the coordinator's list does not end")
}

/// Whether a stale answer may be older than another; one whose age is not known may be the oldest.
fn is_older(one: &pb::Freshness, other: &pb::Freshness) -> bool {
    let age = |of: &pb::Freshness| of.age_ms.unwrap_or(u64::MAX);
    one.consistency() == pb::Consistency::Stale && age(one) > age(other)
}
