//! `warren audit list`.

use clap::Args;
use uuid::Uuid;
use warren_common::{Limits, Timestamp};
use warren_daemon::clock;
use warren_proto::pb::admin::v1 as pb;

use crate::{
    api::{self, Api},
    app::App,
    error::{Error, Outcome},
    follow, value,
    view::{
        audit::{Gap, Record},
        served,
    },
};

/// Arguments of `audit list`.
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Recorded since then: 2026-11-24T15:00:00Z, 2026-11-24, or how long ago, such as 24h.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    since: Option<Timestamp>,
    /// Recorded before then.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<Timestamp>,
    /// Who asked: a person or a node by name, or person/NAME, node/NAME, coordinator/NUMBER.
    #[arg(long, value_name = "ACTOR")]
    actor: Option<String>,
    /// What was done, such as client.create, or the first word alone: client.
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// To what: an address with everything below it (acme, acme/web), or an id.
    #[arg(long, value_name = "TARGET")]
    target: Option<String>,
    /// As which request.
    #[arg(long, value_name = "UUID")]
    request_id: Option<Uuid>,
    /// At most so many: the newest of those that fit.
    #[arg(long, value_name = "COUNT", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    limit: u32,
    /// Then go on with new records, a line each, until Ctrl-C (exit code 130).
    #[arg(short, long, conflicts_with = "until")]
    watch: bool,
}

/// More pages than any search takes that is worth waiting for.
const MOST_PAGES: usize = 10_000;

/// What was listed.
struct Listed {
    /// Newest last.
    records: Vec<Record>,
    gaps: Vec<Gap>,
    /// Newest record of the state as of the first page.
    head: u64,
    now: Timestamp,
    /// Whose records they are.
    coordinator: u64,
    /// There are older ones that may fit.
    more: bool,
}

/// What came after a record.
struct Later {
    records: Vec<Record>,
    /// Each with the coordinator that lacks it: another one may answer each page.
    gaps: Vec<(u64, Gap)>,
    /// Newest record of the state.
    head: u64,
}

fn moment(text: &str) -> Result<Timestamp, String> {
    value::moment(text, clock::now())
}

impl List {
    fn request(&self) -> pb::ListRecordsRequest {
        let text = |part: &Option<String>| part.clone().unwrap_or_default();
        let request = self.request_id.map(|id| id.hyphenated().to_string());
        pb::ListRecordsRequest {
            since_unix_ms: self.since.map_or(0, |at| at.0),
            until_unix_ms: self.until.map_or(0, |at| at.0),
            actor: text(&self.actor),
            action: text(&self.action),
            target: text(&self.target),
            request_id: request.unwrap_or_default(),
            ..Default::default()
        }
    }
}

pub(crate) async fn run(app: &App, list: &List) -> Outcome {
    let mut api = app.api()?;
    let listed = newest(&mut api, list).await?;
    note_gaps(app, listed.coordinator, &listed.gaps);
    if listed.more {
        app.output.talk(&format!(
            "note: these are the newest {}; --limit shows more, --since and the others fewer",
            listed.records.len()
        ));
    }
    if list.watch {
        let more = async |api: &mut Api, after: u64| {
            let later = later(api, list, after).await?;
            for (coordinator, gap) in &later.gaps {
                note_gaps(app, *coordinator, &[*gap]);
            }
            Ok((later.records, later.head))
        };
        return follow::records(app, &mut api, (listed.records, listed.head), more).await;
    }
    app.output.list(&listed.records, listed.now, "no records fit")?;
    Ok(0)
}

/// Says which records a coordinator does not have.
fn note_gaps(app: &App, coordinator: u64, gaps: &[Gap]) {
    if gaps.is_empty() {
        return;
    }
    let gaps: Vec<String> = gaps.iter().map(|gap| gap.text()).collect();
    app.output.talk(&format!(
        "note: coordinator {coordinator} has no records {}; warren audit verify shows who has",
        gaps.join(", ")
    ));
}

/// Asks from the newest back until enough are found.
async fn newest(api: &mut Api, list: &List) -> Result<Listed, Error> {
    let limit = list.limit as usize;
    let mut request = list.request();
    let (mut records, mut gaps, mut head) = (Vec::new(), Vec::new(), None);
    for _ in 0..MOST_PAGES {
        let left = (limit - records.len()).min(Limits::PAGE);
        request.page_size = u32::try_from(left).expect("a page is small");
        let page = page(api, &request).await?;
        records.extend(page.records.into_iter().map(Record::from));
        gaps.extend(page.gaps.into_iter().map(Gap::from));
        let head = *head.get_or_insert(page.head_sequence);
        let full = records.len() >= limit;
        if full || page.next_page_token.is_empty() {
            records.reverse();
            gaps.reverse();
            api.notice(page.freshness.as_ref());
            let (more, coordinator) = (!page.next_page_token.is_empty(), page.replica_id);
            let now = served(page.freshness.as_ref());
            return Ok(Listed { records, gaps, head, now, coordinator, more });
        }
        request.page_token = page.next_page_token;
    }
    Err(api::endless())
}

/// Asks for what came after a record.
async fn later(api: &mut Api, list: &List, after: u64) -> Result<Later, Error> {
    let mut request = list.request();
    (request.oldest_first, request.after_sequence) = (true, after);
    let (mut records, mut gaps) = (Vec::new(), Vec::new());
    for _ in 0..MOST_PAGES {
        let page = page(api, &request).await?;
        records.extend(page.records.into_iter().map(Record::from));
        let coordinator = page.replica_id;
        gaps.extend(page.gaps.into_iter().map(|gap| (coordinator, Gap::from(gap))));
        if page.next_page_token.is_empty() {
            return Ok(Later { records, gaps, head: page.head_sequence });
        }
        request.page_token = page.next_page_token;
    }
    Err(api::endless())
}

async fn page(
    api: &mut Api,
    request: &pb::ListRecordsRequest,
) -> Result<pb::ListRecordsResponse, Error> {
    api.read(async |channel| api::audit(channel).list_records(request.clone()).await).await
}
