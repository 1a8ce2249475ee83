//! The waits for locks of one pool, to be shown, and their sentences.

use std::{collections::HashMap, fmt::Write as _, num::NonZeroU32, time::Duration};

use crate::{
    context::{Owner, OwnerKind},
    database::{
        HeldConnection, HoldActivity,
        holders::{in_words, seconds},
    },
};

/// The most parties of a chain that are kept.
pub(super) const MOST_OF_CHAIN: usize = 8;

/// The most parties of a chain that a sentence names.
const MOST_NAMED: usize = 3;

/// The waits for locks of one pool.
#[derive(Clone, Debug, Default)]
pub struct LockReport {
    /// How long ago the database answered. `None` while nobody waits, and before the first answer.
    pub age: Option<Duration>,
    /// Why the waits are not known. `None` if they are, and while nobody waits.
    pub unknown: Option<&'static str>,
    /// The connections of this process that wait for a lock, the longest wait first.
    pub waits: Vec<LockWait>,
}

/// A connection that waits for a lock.
#[derive(Clone, Debug)]
pub struct LockWait {
    /// The connection that waits.
    pub waiter: LockParty,
    /// How long its query has run.
    pub waited: Duration,
    /// The party that holds the lock, then the party that this one waits for, and so on. Of a longer chain the first eight.
    pub chain: Vec<LockParty>,
    /// Whether the last of the chain waits for another one of it: a deadlock, which the database ends.
    pub is_deadlock: bool,
    /// How many others hold the lock as well, or wait for it in front.
    pub others: usize,
}

/// A connection that waits for a lock or holds one, or something else that does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockParty {
    /// What it is.
    pub kind: LockPartyKind,
    /// What it does; `None` if that is not known.
    pub activity: Option<HoldActivity>,
    /// How long it has done so.
    pub activity_age: Duration,
    /// The number of the statement that it runs, if it is one of this process and kept.
    pub statement: Option<NonZeroU32>,
}

/// What waits for a lock or holds one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LockPartyKind {
    /// A connection of this process, with its holder.
    Connection(Owner),
    /// A connection of this process that is back in its pool.
    Returned,
    /// Another connection to PostgreSQL, by its application name; `None` if it has none.
    Program(Option<String>),
    /// A process of PostgreSQL itself, such as an autovacuum worker.
    Server(String),
    /// A connection to PostgreSQL that the role may not see.
    Hidden,
    /// A transaction of PostgreSQL that is prepared, and waits for its second phase.
    Prepared,
    /// Another process that has the same file of SQLite open.
    Process,
    /// Code of this process. This many of its connections run a statement that writes, and one of them may have the lock.
    ThisProcess(usize),
}

impl LockPartyKind {
    /// Its name in reports.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Connection(owner) => owner.kind.label(),
            Self::Returned => "returned",
            Self::Program(_) => "program",
            Self::Server(_) => "server",
            Self::Hidden => "hidden",
            Self::Prepared => "prepared_transaction",
            Self::Process => "process",
            Self::ThisProcess(_) => "this_process",
        }
    }

    /// The name that a program or a process of the server has given itself.
    pub fn application(&self) -> Option<&str> {
        match self {
            Self::Program(name) => name.as_deref(),
            Self::Server(name) => Some(name),
            _ => None,
        }
    }

    fn in_words(&self) -> String {
        match self {
            Self::Connection(owner) => in_words(owner),
            Self::Returned => "a connection that is back in its pool".to_owned(),
            Self::Program(Some(name)) => format!("the program \"{name}\""),
            Self::Program(None) => "a program without a name".to_owned(),
            Self::Server(name) => format!("the database's own {name}"),
            Self::Hidden => "a program that is not visible to this role".to_owned(),
            Self::Prepared => "a prepared transaction".to_owned(),
            Self::Process => "another process".to_owned(),
            Self::ThisProcess(count) => format!(
                "this process: one of the {count} connections that write, or code outside of its pools"
            ),
        }
    }
}

impl LockParty {
    pub(super) fn of(connection: &HeldConnection) -> Self {
        Self {
            kind: LockPartyKind::Connection(connection.owner.clone()),
            activity: Some(connection.activity),
            activity_age: connection.activity_age,
            statement: connection.statement,
        }
    }

    pub(super) fn without_activity(kind: LockPartyKind) -> Self {
        Self {
            kind,
            activity: None,
            activity_age: Duration::ZERO,
            statement: None,
        }
    }

    fn activity_in_words(&self) -> Option<String> {
        let age = || seconds(self.activity_age);
        match (self.activity, &self.kind) {
            (Some(HoldActivity::Query), _) => Some(format!("in a query for {}", age())),
            (Some(HoldActivity::IdleInTransaction), _) => {
                Some(format!("idle in transaction for {}", age()))
            }
            (Some(HoldActivity::Idle), _) => Some(format!("without a query for {}", age())),
            (None, LockPartyKind::Program(_)) => {
                Some("whose activity is not visible to this role".to_owned())
            }
            (None, _) => None,
        }
    }

    /// The name, with the trace of a request: `PUT /data/{item_id} (trace …)`.
    fn with_trace(&self) -> String {
        let mut text = self.kind.in_words();
        if let LockPartyKind::Connection(Owner {
            kind: OwnerKind::Request,
            trace_id: Some(trace_id),
            ..
        }) = self.kind
        {
            // Writing to a string cannot fail.
            let _ = write!(text, " (trace {trace_id:032x})");
        }
        text
    }
}

impl LockWait {
    /// The wait in one sentence: `GET /report waits for a lock held by PUT /data/{item_id} (trace …), idle in transaction for
    /// 12 s`.
    pub fn sentence(&self) -> String {
        let mut text = format!("{} waits for a lock", self.waiter.kind.in_words());
        let mut before = " held by ";
        let Some((last, middle)) = self.chain.split_last() else {
            return text;
        };
        // Writing to a string cannot fail.
        for party in middle.iter().take(MOST_NAMED - 1) {
            let _ = write!(text, "{before}{}", party.with_trace());
            before = ", which waits for ";
        }
        if let left_out @ 1.. = (middle.len() + 1).saturating_sub(MOST_NAMED) {
            let _ = write!(text, "{before}{left_out} more");
            before = ", and at the end for ";
        }
        let _ = write!(text, "{before}{}", last.with_trace());
        if self.is_deadlock {
            text.push_str(", which waits for one of these: a deadlock, which the database ends");
        } else if let Some(activity) = last.activity_in_words() {
            let _ = write!(text, ", {activity}");
        }
        text
    }

    /// What all this waits for in the end: `PUT /data/{item_id} (idle in transaction for 12 s)`.
    fn cause(&self) -> String {
        let Some(last) = self.chain.last() else {
            return "nobody".to_owned();
        };
        let name = last.kind.in_words();
        let activity = if self.is_deadlock {
            Some("in a deadlock".to_owned())
        } else {
            last.activity_in_words()
        };
        match activity {
            Some(activity) => format!("{name} ({activity})"),
            None => name,
        }
    }
}

impl LockReport {
    /// The causes of all waits in one sentence: `3 of them wait for a lock: 2 x because of PUT /data/{item_id} (idle in
    /// transaction for 12 s), …`. `None` if nobody waits.
    pub fn summary(&self) -> Option<String> {
        let mut groups: Vec<(String, usize)> = Vec::new();
        let mut found = HashMap::new();
        for wait in &self.waits {
            let cause = wait.cause();
            let group = *found.entry(cause.clone()).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, count)) => *count += 1,
                None => groups.push((cause, 1)),
            }
        }
        if groups.is_empty() {
            return None;
        }
        groups.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let named = groups.iter().take(MOST_NAMED);
        let named: Vec<_> = named
            .map(|(cause, count)| format!("{count} x because of {cause}"))
            .collect();
        let rest: usize = groups.iter().skip(MOST_NAMED).map(|(_, count)| count).sum();
        let rest = if rest > 0 {
            format!(", {rest} x others")
        } else {
            String::new()
        };
        let (count, named) = (self.waits.len(), named.join(", "));
        let verb = if count == 1 { "waits" } else { "wait" };
        Some(format!("{count} of them {verb} for a lock: {named}{rest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &'static str, name: &str) -> LockPartyKind {
        LockPartyKind::Connection(Owner {
            kind: OwnerKind::Request,
            method: Some(method),
            name: Some(name.into()),
            trace_id: (method == "PUT").then_some(0x4bf9),
        })
    }

    fn party(kind: LockPartyKind, activity: Option<HoldActivity>, age: f64) -> LockParty {
        LockParty {
            kind,
            activity,
            activity_age: Duration::from_secs_f64(age),
            statement: None,
        }
    }

    fn wait(chain: Vec<LockParty>) -> LockWait {
        LockWait {
            waiter: party(request("GET", "/report"), Some(HoldActivity::Query), 3.0),
            waited: Duration::from_secs(3),
            chain,
            is_deadlock: false,
            others: 0,
        }
    }

    #[test]
    fn a_wait_is_a_sentence() {
        use HoldActivity::{Idle, IdleInTransaction, Query};
        let put = || {
            party(
                request("PUT", "/data/{item_id}"),
                Some(IdleInTransaction),
                12.0,
            )
        };
        let program = |name: &str| LockPartyKind::Program(Some(name.to_owned()));
        for (chain, expected) in [
            (
                vec![put()],
                "held by PUT /data/{item_id} (trace 00000000000000000000000000004bf9), idle in transaction for 12 s",
            ),
            (
                vec![party(program("psql"), Some(IdleInTransaction), 2.0)],
                "held by the program \"psql\", idle in transaction for 2.0 s",
            ),
            (
                vec![party(program("psql"), None, 0.0)],
                "held by the program \"psql\", whose activity is not visible to this role",
            ),
            (
                vec![party(LockPartyKind::Program(None), Some(Query), 2.0)],
                "held by a program without a name, in a query for 2.0 s",
            ),
            (
                vec![LockParty::without_activity(LockPartyKind::Hidden)],
                "held by a program that is not visible to this role",
            ),
            (
                vec![LockParty::without_activity(LockPartyKind::Process)],
                "held by another process",
            ),
            (
                vec![
                    party(request("GET", "/b"), Some(Query), 2.0),
                    party(request("GET", "/c"), Some(Idle), 5.0),
                ],
                "held by GET /b, which waits for GET /c, without a query for 5.0 s",
            ),
            (
                (0..5)
                    .map(|number| party(request("GET", &format!("/{number}")), Some(Query), 1.0))
                    .collect(),
                "held by GET /0, which waits for GET /1, which waits for 2 more, and at the end for GET /4, in a query for 1.0 s",
            ),
        ] {
            let expected = format!("GET /report waits for a lock {expected}");
            assert_eq!(wait(chain).sentence(), expected);
        }
        let deadlock = LockWait {
            is_deadlock: true,
            ..wait(vec![party(request("GET", "/b"), Some(Query), 2.0)])
        };
        assert_eq!(
            deadlock.sentence(),
            "GET /report waits for a lock held by GET /b, which waits for one of these: a deadlock, which the database ends"
        );
    }

    #[test]
    fn a_summary_groups_the_waits_by_their_cause() {
        let put = || {
            party(
                request("PUT", "/data/{item_id}"),
                Some(HoldActivity::IdleInTransaction),
                12.0,
            )
        };
        let middle = party(request("GET", "/report"), Some(HoldActivity::Query), 1.0);
        let mut report = LockReport {
            waits: vec![
                wait(vec![LockParty::without_activity(LockPartyKind::Prepared)]),
                wait(vec![put()]),
                wait(vec![middle, put()]),
            ],
            ..LockReport::default()
        };
        assert_eq!(
            report.summary().unwrap(),
            "3 of them wait for a lock: 2 x because of PUT /data/{item_id} (idle in transaction for 12 s), \
             1 x because of a prepared transaction"
        );
        report.waits.clear();
        assert_eq!(report.summary(), None);
    }
}
