//! Users as they are printed.

use serde::Serialize;
use warren_common::Timestamp;
use warren_proto::pb::admin::v1 as pb;

use super::{Moment, event::Event, fields, moment};
use crate::{
    follow::Watched,
    render::{
        Tabular, table,
        time::{age, rfc3339_seconds},
    },
};

/// One person, or their automation.
#[derive(Debug, Serialize)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) role: String,
    /// `in` or `revoked`.
    pub(crate) status: &'static str,
    pub(crate) joined_at: Option<Moment>,
    pub(crate) revoked_at: Option<Moment>,
    /// When one of the certificates was last renewed.
    pub(crate) renewed_at: Option<Moment>,
    /// In the order in which they were issued.
    pub(crate) certificates: Vec<Certificate>,
}

/// One certificate on record.
#[derive(Debug, Serialize)]
pub(crate) struct Certificate {
    pub(crate) serial: String,
    pub(crate) issued_at: Option<Moment>,
    pub(crate) expires_at: Option<Moment>,
    /// `good`, `renewed` (another one was given in its place), `expired` (it may renew) or `revoked`.
    pub(crate) status: &'static str,
}

impl User {
    pub(crate) fn new(user: pb::User, now: Timestamp) -> Self {
        let mut certificates = user.certificates;
        certificates.sort_by(|one, other| {
            (one.issued_unix_ms, &one.serial).cmp(&(other.issued_unix_ms, &other.serial))
        });
        let certificate = |one: pb::Certificate| Certificate {
            status: match (one.revoked, one.renewed, one.expires_unix_ms <= now.0) {
                (true, ..) => "revoked",
                (_, true, _) => "renewed",
                (_, _, true) => "expired",
                (_, _, false) => "good",
            },
            serial: one.serial,
            issued_at: moment(one.issued_unix_ms),
            expires_at: moment(one.expires_unix_ms),
        };
        Self {
            name: user.name,
            role: user.role,
            status: if user.revoked_unix_ms == 0 { "in" } else { "revoked" },
            joined_at: moment(user.joined_unix_ms),
            revoked_at: moment(user.revoked_unix_ms),
            renewed_at: moment(user.renewed_unix_ms),
            certificates: certificates.into_iter().map(certificate).collect(),
        }
    }

    fn good(&self) -> impl Iterator<Item = &Certificate> {
        self.certificates.iter().filter(|one| one.status == "good")
    }

    fn certified(&self) -> String {
        format!("{} good of {}", self.good().count(), self.certificates.len())
    }

    /// Returns the page that `user show` prints.
    pub(crate) fn text(&self, now: Timestamp) -> String {
        let since = |at: Option<Moment>| at.map_or_else(String::new, |at| age(at.0, now));
        let mut text = fields(&[
            ("name", self.name.clone()),
            ("role", self.role.clone()),
            ("status", self.status.to_owned()),
            ("age", since(self.joined_at)),
            ("renewed", self.renewed_at.map_or_else(|| "never".to_owned(), |at| age(at.0, now))),
        ]);
        if !self.certificates.is_empty() {
            let day = |at: Option<Moment>| at.map_or_else(String::new, |at| rfc3339_seconds(at.0));
            let row = |one: &Certificate| {
                vec![
                    one.serial.clone(),
                    one.status.to_owned(),
                    day(one.issued_at),
                    day(one.expires_at),
                ]
            };
            let rows = self.certificates.iter().map(row).collect();
            text.push('\n');
            let header = ["CERTIFICATE", "STATUS", "ISSUED", "EXPIRES"];
            text.push_str(&table::lay_out(&header, rows, 0, None));
        }
        text
    }
}

impl Tabular for User {
    const HEADER: &'static [&'static str] =
        &["USER", "ROLE", "STATUS", "CERTIFICATES", "EXPIRES", "RENEWED", "AGE"];
    const FLEXIBLE: usize = 0;

    fn row(&self, now: Timestamp) -> Vec<String> {
        let expires = self.good().filter_map(|one| one.expires_at).map(|at| at.0).max();
        let since = |at: Option<Moment>| at.map_or_else(String::new, |at| age(at.0, now));
        vec![
            self.name.clone(),
            self.role.clone(),
            self.status.to_owned(),
            self.certified(),
            expires.map_or_else(String::new, rfc3339_seconds),
            since(self.renewed_at),
            since(self.joined_at),
        ]
    }

    fn address(&self) -> String {
        self.name.clone()
    }
}

/// Events about people name them and tell no more: the list is looked at again and again.
impl Watched for User {
    const KINDS: &'static [pb::EventKind] = &[];

    fn standing(&self) -> Vec<String> {
        vec![self.role.clone(), self.status.to_owned(), self.certified()]
    }

    fn revision(&self) -> Option<u64> {
        None
    }

    fn keep(&mut self, _: &Self) {}

    fn of(_: Event) -> Option<Self> {
        None
    }
}
