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

/// More pages than any cluster has: a coordinator that never ends is broken.
const MOST_PAGES: usize = 10_000;

/// Returns every item of a list in the coordinator's order, and the time ages are counted to.
///
/// # Errors
/// As the calls fail; also where the pages do not end.
pub(crate) async fn pages<T>(
    api: &mut Api,
    page: impl AsyncFn(&mut Api, u32, String) -> Result<Page<T>, Error>,
) -> Result<(Vec<T>, Timestamp), Error> {
    let size = u32::try_from(Limits::PAGE).expect("a page is small");
    let mut all = Vec::new();
    let mut token = String::new();
    for _ in 0..MOST_PAGES {
        let (items, next, freshness) = page(api, size, token).await?;
        all.extend(items);
        if next.is_empty() {
            api.notice(freshness.as_ref());
            return Ok((all, served(freshness.as_ref())));
        }
        token = next;
    }
    Err(Error::new(Kind::Failed, "ENDLESS_LIST", "the coordinator's list does not end"))
}
