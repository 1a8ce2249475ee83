//! `GET /ops/pool`: who holds the connections of each pool, who waits for one, and who waits for a lock of the database.
//!
//! Like `GET /ops/requests`, the answer is made from atomics by the worker that is asked. An ops listener of its own
//! answers while every other worker, every connection and the database itself are stuck.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;
use vitals_recorder::{
    context::{Owner, StatementShapes as _},
    database::{
        Database, HeldConnection, HoldActivity, LockParty, LockPartyKind, LockReport, LockWait,
        PoolReport, WAIT_THRESHOLD, WaitingCaller,
    },
    problem::Problem,
};

use crate::{endpoints::inline_answer::inline_answer, ops::Ops};

/// The most connections of an answer.
const MOST_CONNECTIONS: usize = 200;

/// The most waiting callers of an answer.
const MOST_WAITERS: usize = 200;

/// The most waits for locks of an answer.
const MOST_LOCK_WAITS: usize = 50;

/// The largest size that is expected of a connection in JSON, in bytes.
const CONNECTION_BYTES: usize = 5 * 1024;

#[derive(Serialize)]
struct Listing {
    /// How long a connection may be held before the log names the code that took it; `null` if that is off.
    leak_threshold_seconds: Option<f64>,
    /// How long a caller may wait before the log names the holders.
    wait_threshold_seconds: f64,
    pools: Vec<PoolEntry>,
}

#[derive(Serialize)]
struct PoolEntry {
    pool: String,
    size: u64,
    in_use: u64,
    idle: u64,
    /// The number of all callers that wait.
    waiting: u64,
    /// The holders in one sentence.
    summary: String,
    connections: Vec<ConnectionEntry>,
    waiters: Vec<WaiterEntry>,
    locks: LocksEntry,
}

/// The locks that connections of the pool wait for.
#[derive(Serialize)]
struct LocksEntry {
    /// How long ago the database answered; `null` while nobody waits.
    age_seconds: Option<f64>,
    /// Why the waits are not known.
    unknown: Option<&'static str>,
    waits: Vec<LockWaitEntry>,
}

/// One connection that waits for a lock.
#[derive(Serialize)]
struct LockWaitEntry {
    #[serde(flatten)]
    waiter: LockPartyEntry,
    waiting_seconds: f64,
    /// What holds the lock, then what that waits for, and so on.
    held_by: Vec<LockPartyEntry>,
    /// How many others hold the lock as well, or wait in front.
    others: usize,
    is_deadlock: bool,
    /// All of it in one sentence.
    sentence: String,
}

/// What waits for a lock or holds one.
#[derive(Serialize)]
struct LockPartyEntry {
    kind: &'static str,
    method: Option<&'static str>,
    endpoint: Option<String>,
    trace_id: Option<String>,
    /// The name that another program has given to its connection.
    application: Option<String>,
    /// `null` if it is not known.
    doing: Option<&'static str>,
    doing_seconds: Option<f64>,
    statement: Option<String>,
}

/// The request or job that something is for.
#[derive(Serialize)]
struct OwnerEntry {
    kind: &'static str,
    method: Option<&'static str>,
    /// The endpoint or the job's name; `null` if it is not known.
    endpoint: Option<String>,
    trace_id: Option<String>,
}

/// One connection that is out. Times are in seconds.
#[derive(Serialize)]
struct ConnectionEntry {
    #[serde(flatten)]
    owner: OwnerEntry,
    held_seconds: f64,
    doing: &'static str,
    doing_seconds: f64,
    /// The statement that runs, by its shape.
    statement: Option<String>,
    /// The call that took the connection.
    taken_at: Option<String>,
    is_leak: bool,
}

/// One caller that waits.
#[derive(Serialize)]
struct WaiterEntry {
    #[serde(flatten)]
    owner: OwnerEntry,
    waiting_seconds: f64,
}

impl From<Owner> for OwnerEntry {
    fn from(owner: Owner) -> Self {
        Self {
            kind: owner.kind.label(),
            method: owner.method,
            endpoint: owner.name.as_deref().map(str::to_owned),
            trace_id: owner.trace_id.map(|id| format!("{id:032x}")),
        }
    }
}

impl From<WaitingCaller> for WaiterEntry {
    fn from(waiter: WaitingCaller) -> Self {
        Self {
            owner: waiter.owner.into(),
            waiting_seconds: waiter.waited.as_secs_f64(),
        }
    }
}

/// `GET /ops/pool`: of all pools at most 200 connections and 200 waiting callers, the oldest first.
pub(crate) async fn get_pool(
    request: HttpRequest,
    ops: web::Data<Ops>,
) -> Result<HttpResponse, Problem> {
    let watched = ops.watched();
    // Not on a blocking thread: other large answers could occupy those.
    let listing = watched.database.as_ref().map(list);
    let pools = listing.iter().flat_map(|listing| &listing.pools);
    let entries = pools.map(|pool| {
        let parties = pool.locks.waits.iter().map(|wait| 1 + wait.held_by.len());
        1 + pool.connections.len() + pool.waiters.len() + parties.sum::<usize>()
    });
    let bytes = entries.sum::<usize>() * CONNECTION_BYTES;
    inline_answer(&request, watched, bytes, &listing)
}

fn list(database: &Database) -> Listing {
    let (mut connections, mut waiters) = (MOST_CONNECTIONS, MOST_WAITERS);
    let mut lock_waits = MOST_LOCK_WAITS;
    let entry = |report: PoolReport| {
        let summary = report.summary();
        let kept = report.connections.into_iter().take(connections);
        let kept: Vec<_> = kept
            .map(|connection| connection_entry(database, connection))
            .collect();
        connections -= kept.len();
        let kept_waits = report.locks.waits.len().min(lock_waits);
        lock_waits -= kept_waits;
        let locks = locks_entry(database, report.locks, kept_waits);
        let waiting = report.waiters.into_iter().take(waiters);
        let waiting: Vec<_> = waiting.map(WaiterEntry::from).collect();
        waiters -= waiting.len();
        PoolEntry {
            pool: report.name.to_string(),
            size: report.level.max,
            in_use: report.level.checked_out,
            idle: report.level.idle,
            waiting: report.waiting,
            summary,
            connections: kept,
            waiters: waiting,
            locks,
        }
    };
    let levels = database.levels();
    Listing {
        leak_threshold_seconds: levels.leak_threshold().map(|time| time.as_secs_f64()),
        wait_threshold_seconds: WAIT_THRESHOLD.as_secs_f64(),
        pools: levels.reports().into_iter().map(entry).collect(),
    }
}

fn connection_entry(database: &Database, connection: HeldConnection) -> ConnectionEntry {
    let threshold = database.levels().leak_threshold();
    let statement = connection.statement;
    let taken_at = connection.taken_at_text();
    ConnectionEntry {
        owner: connection.owner.into(),
        held_seconds: connection.held.as_secs_f64(),
        doing: connection.activity.label(),
        doing_seconds: connection.activity_age.as_secs_f64(),
        statement: statement.and_then(|number| database.statements().text(number)),
        taken_at,
        is_leak: threshold.is_some_and(|threshold| connection.held >= threshold),
    }
}

fn locks_entry(database: &Database, locks: LockReport, most: usize) -> LocksEntry {
    let party = |party: LockParty| {
        let application = party.kind.application().map(str::to_owned);
        let kind = party.kind.label();
        let owner = match party.kind {
            LockPartyKind::Connection(owner) => Some(OwnerEntry::from(owner)),
            _ => None,
        };
        let (method, endpoint, trace_id) = match owner {
            Some(owner) => (owner.method, owner.endpoint, owner.trace_id),
            None => (None, None, None),
        };
        LockPartyEntry {
            kind,
            method,
            endpoint,
            trace_id,
            application,
            doing: party.activity.map(HoldActivity::label),
            doing_seconds: party.activity.map(|_| party.activity_age.as_secs_f64()),
            statement: (party.statement).and_then(|number| database.statements().text(number)),
        }
    };
    let wait = |wait: LockWait| LockWaitEntry {
        sentence: wait.sentence(),
        waiter: party(wait.waiter),
        waiting_seconds: wait.waited.as_secs_f64(),
        held_by: wait.chain.into_iter().map(party).collect(),
        others: wait.others,
        is_deadlock: wait.is_deadlock,
    };
    LocksEntry {
        age_seconds: locks.age.map(|age| age.as_secs_f64()),
        unknown: locks.unknown,
        waits: locks.waits.into_iter().take(most).map(wait).collect(),
    }
}
