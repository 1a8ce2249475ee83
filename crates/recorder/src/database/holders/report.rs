//! The connections of a pool that are out, and the callers that wait for one, to be shown.

use std::{
    collections::HashMap, fmt::Write as _, num::NonZeroU32, panic::Location, sync::Arc,
    time::Duration,
};

use super::{
    PoolHolders,
    hold_slot::{HoldActivity, HoldReading},
};
use crate::{
    clock::{self, Moment},
    code_location,
    context::{Owner, OwnerKind},
    database::{levels::PoolLevel, locks::LockReport},
};

/// The most holders that a summary names.
const MOST_NAMED: usize = 5;

/// A connection that is out of its pool.
#[derive(Clone, Debug)]
pub struct HeldConnection {
    /// The request or job that took it.
    pub owner: Owner,
    /// How long it has been out.
    pub held: Duration,
    /// What it does.
    pub activity: HoldActivity,
    /// How long it has done so.
    pub activity_age: Duration,
    /// The number of the statement that runs, if it is kept.
    pub statement: Option<NonZeroU32>,
    /// The call that took it, if it is known.
    pub taken_at: Option<&'static Location<'static>>,
}

/// A caller that waits for a connection.
#[derive(Clone, Debug)]
pub struct WaitingCaller {
    /// The request or job that waits.
    pub owner: Owner,
    /// How long it has waited.
    pub waited: Duration,
}

/// One pool at one moment.
#[derive(Clone, Debug)]
pub struct PoolReport {
    /// The name of the pool in its metrics.
    pub name: Arc<str>,
    /// How many connections it has.
    pub level: PoolLevel,
    /// The number of all callers that wait.
    pub waiting: u64,
    /// The connections that are out, in the order in which they were taken.
    pub connections: Vec<HeldConnection>,
    /// Callers that wait, the longest wait first.
    pub waiters: Vec<WaitingCaller>,
    /// The connections that wait for a lock of the database.
    pub locks: LockReport,
}

impl HeldConnection {
    /// The call that took it as file, line and column, without a path of the machine.
    pub fn taken_at_text(&self) -> Option<String> {
        self.taken_at.map(code_location::text_of)
    }

    pub(super) fn new(reading: &HoldReading, now: Moment) -> Self {
        Self {
            owner: reading.owner.into(),
            held: now.since(reading.since),
            activity: reading.activity,
            activity_age: now.since(reading.activity_since),
            statement: reading.statement,
            taken_at: reading.taken_at,
        }
    }
}

impl PoolHolders {
    /// The holders and the waiting callers of now.
    pub(in crate::database) fn report(&self, name: Arc<str>, level: PoolLevel) -> PoolReport {
        let now = clock::now();
        let readings = self.read();
        let mut connections: Vec<_> = readings
            .map(|(_, reading)| HeldConnection::new(&reading, now))
            .collect();
        connections.sort_by_key(|connection| std::cmp::Reverse(connection.held));
        let waits = self.waits.read();
        let mut waiters: Vec<_> = waits
            .map(|(owner, since)| WaitingCaller {
                owner: owner.into(),
                waited: now.since(since),
            })
            .collect();
        waiters.sort_by_key(|waiter| std::cmp::Reverse(waiter.waited));
        PoolReport {
            name,
            level,
            waiting: u64::try_from(self.waiters.value()).unwrap_or(0),
            connections,
            waiters,
            locks: self.locks.report(now),
        }
    }

    /// The connections that have been out for at least `threshold`, each once.
    pub(in crate::database) fn new_leaks(&self, threshold: Duration) -> Vec<HeldConnection> {
        let now = clock::now();
        let readings = self.read();
        let leaks = readings.filter(|(slot, reading)| {
            now.since(reading.since) >= threshold && slot.report(reading)
        });
        leaks
            .map(|(_, reading)| HeldConnection::new(&reading, now))
            .collect()
    }
}

impl PoolReport {
    /// The holders in one sentence, and the locks that they wait for: "10 of 10 connections: 9 x GET /report (oldest 41 s, in a
    /// query), …; 9 of them wait for a lock: …".
    pub fn summary(&self) -> String {
        let mut groups: Vec<(String, usize, &HeldConnection)> = Vec::new();
        let mut found = HashMap::new();
        // The oldest connection of each holder comes first.
        for connection in &self.connections {
            let owner = in_words(&connection.owner);
            let group = *found.entry(owner.clone()).or_insert(groups.len());
            match groups.get_mut(group) {
                Some((_, count, _)) => *count += 1,
                None => groups.push((owner, 1, connection)),
            }
        }
        // A stable sort: the oldest first among those with as many connections.
        groups.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
        let PoolLevel {
            checked_out, max, ..
        } = self.level;
        let mut text = format!("{checked_out} of {max} connections");
        let mut before = ": ";
        for (owner, count, oldest) in groups.iter().take(MOST_NAMED) {
            let age = seconds(oldest.held);
            let activity = match oldest.activity {
                HoldActivity::Idle => "without a query",
                HoldActivity::Query => "in a query",
                HoldActivity::IdleInTransaction => "idle in transaction",
            };
            // Writing to a string cannot fail.
            let _ = write!(text, "{before}{count} x {owner} (oldest {age}, {activity})");
            before = ", ";
        }
        let rest = groups.iter().skip(MOST_NAMED).map(|(_, count, _)| count);
        let rest: usize = rest.sum();
        if rest > 0 {
            let _ = write!(text, ", {rest} x others");
        }
        let held = self.connections.len() as u64;
        if let Some(checked @ 1..) = checked_out.checked_sub(held) {
            // A server that does not answer keeps the checks of a pool waiting, before any caller has a connection.
            let _ = write!(text, "{before}{checked} x being checked by the pool");
        }
        if let Some(locks) = self.locks.summary() {
            let _ = write!(text, "; {locks}");
        }
        text
    }
}

/// The name of an owner in a sentence.
pub(in crate::database) fn in_words(owner: &Owner) -> String {
    let name = owner.name.as_deref();
    match owner.kind {
        OwnerKind::Request => {
            let method = owner.method.unwrap_or_default();
            format!("{method} {}", name.unwrap_or("(endpoint not known)"))
        }
        OwnerKind::Job => format!("job {}", name.unwrap_or("(not known)")),
        OwnerKind::Outside => "code outside of requests and jobs".to_owned(),
    }
}

/// A time with a decimal if it is short.
pub(in crate::database) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds < 9.95 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(owner: Owner, seconds: f64, activity: HoldActivity) -> HeldConnection {
        HeldConnection {
            owner,
            held: Duration::from_secs_f64(seconds),
            activity,
            activity_age: Duration::ZERO,
            statement: None,
            taken_at: None,
        }
    }

    fn owner(kind: OwnerKind, method: &'static str, name: &str) -> Owner {
        Owner {
            kind,
            method: (kind == OwnerKind::Request).then_some(method),
            name: (!name.is_empty()).then(|| name.into()),
            trace_id: None,
        }
    }

    fn report(connections: Vec<HeldConnection>) -> PoolReport {
        PoolReport {
            name: "default".into(),
            level: PoolLevel {
                checked_out: connections.len() as u64,
                idle: 0,
                max: 10,
            },
            waiting: 0,
            connections,
            waiters: Vec::new(),
            locks: LockReport::default(),
        }
    }

    #[test]
    fn a_summary_names_those_with_the_most_connections_first() {
        let request = |name| owner(OwnerKind::Request, "GET", name);
        let mut connections = vec![held(
            request("/report"),
            41.3,
            HoldActivity::IdleInTransaction,
        )];
        connections.push(held(
            owner(OwnerKind::Job, "", "nightly"),
            9.96,
            HoldActivity::Query,
        ));
        connections.extend((0..2).map(|_| held(request("/report"), 3.0, HoldActivity::Query)));
        connections.push(held(request(""), 0.26, HoldActivity::Idle));
        connections.push(held(
            owner(OwnerKind::Outside, "", ""),
            0.0,
            HoldActivity::Idle,
        ));
        assert_eq!(
            report(connections).summary(),
            "6 of 10 connections: 3 x GET /report (oldest 41 s, idle in transaction), \
             1 x job nightly (oldest 10 s, in a query), \
             1 x GET (endpoint not known) (oldest 0.3 s, without a query), \
             1 x code outside of requests and jobs (oldest 0.0 s, without a query)"
        );
        assert_eq!(report(Vec::new()).summary(), "0 of 10 connections");
        let mut report = report(vec![held(request("/report"), 1.0, HoldActivity::Query)]);
        report.level.checked_out = 4;
        assert_eq!(
            report.summary(),
            "4 of 10 connections: 1 x GET /report (oldest 1.0 s, in a query), 3 x being checked by the pool"
        );
        report.connections.clear();
        assert_eq!(
            report.summary(),
            "4 of 10 connections: 4 x being checked by the pool"
        );
    }

    #[test]
    fn a_summary_ends_with_the_causes_of_waits_for_locks() {
        use crate::database::{LockParty, LockPartyKind, LockWait};

        let put = owner(OwnerKind::Request, "PUT", "/data/{item_id}");
        let party = |activity, seconds| LockParty {
            kind: LockPartyKind::Connection(put.clone()),
            activity: Some(activity),
            activity_age: Duration::from_secs(seconds),
            statement: None,
        };
        let mut report = report(vec![held(put.clone(), 1.0, HoldActivity::Query)]);
        report.locks.waits.push(LockWait {
            waiter: party(HoldActivity::Query, 1),
            waited: Duration::from_secs(1),
            chain: vec![party(HoldActivity::IdleInTransaction, 12)],
            is_deadlock: false,
            others: 0,
        });
        assert_eq!(
            report.summary(),
            "1 of 10 connections: 1 x PUT /data/{item_id} (oldest 1.0 s, in a query); 1 of them waits for a lock: \
             1 x because of PUT /data/{item_id} (idle in transaction for 12 s)"
        );
    }

    #[test]
    fn a_summary_is_bounded() {
        let names = (0..9).map(|number| format!("/{number}"));
        let connections = names
            .map(|name| owner(OwnerKind::Request, "PUT", &name))
            .map(|owner| held(owner, 1.0, HoldActivity::Query));
        let summary = report(connections.collect()).summary();
        assert!(summary.ends_with("1 x PUT /4 (oldest 1.0 s, in a query), 4 x others"));
    }
}
