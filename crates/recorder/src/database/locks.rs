//! Who waits for a lock of the database, and who holds it.
//!
//! While a query runs or a caller waits for long, the watchdog lets the explaining connection ask, at most once a second. Its
//! thread joins the answer with the hold slots of this process, and leaves the result here. Readers get the last result and its
//! age, and wait for nothing.
//!
//! - `postgres`: the question for PostgreSQL, and how its answer is joined with the connections of this process
//! - `sqlite`: the same for SQLite, whose holder the kernel knows
//! - `report`: the result, and its sentences
//!
//! Of other programs, nothing is read but the name that they gave to their connection, and what that does.

mod postgres;
mod report;
mod sqlite;

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{
    explaining::{Answer, AskError, Explainer, TextRow},
    holders::{HeldConnection, HoldActivity, PoolHolders},
    levels::{SharedPools, WatchedPool},
    sql::Dialect,
};
use crate::clock::{self, Moment};

pub use report::{LockParty, LockPartyKind, LockReport, LockWait};

/// How long a query may run before the database is asked whether it waits for a lock.
const QUERY_THRESHOLD: Duration = Duration::from_secs(1);

/// How long a caller may wait for a connection before the database is asked whether the holders wait for a lock. Less than
/// the time after which the log names the holders.
const CALLER_THRESHOLD: Duration = Duration::from_millis(200);

/// The least time between two looks at one pool, and between two questions for it.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const QUESTION_INTERVAL: Duration = Duration::from_secs(1);

/// Why the waits are not known before the first answer.
const NOT_YET: &str = "The database has not answered yet who waits for a lock.";

/// How often in a row an answer must contradict the slots. Once may be a coincidence: they are read one after the other.
/// Answers that came late do not count.
const MOST_CONTRADICTIONS: u32 = 2;

/// Why the waits of a pool are not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LocksUnknown {
    /// The sessions of this process are not those of the database.
    Pooler,
    /// The pool has no explaining connection.
    NoQuestions,
    /// The database says nothing about locks in a form that is known here.
    Database,
    /// The database did not answer.
    Unanswered(AskError),
    /// The system does not say who locks a file.
    System,
}

impl LocksUnknown {
    /// The reason in a sentence.
    fn reason(self) -> &'static str {
        match self {
            Self::Pooler => {
                "A connection pooler, such as PgBouncer, is between this process and the database. So it is not known \
                 which request a lock belongs to."
            }
            Self::NoQuestions => {
                "A pool that is monitored without a change of its type has no connection for questions."
            }
            Self::Database => "Locks are known of PostgreSQL and of files of SQLite.",
            Self::Unanswered(error) => error.reason(),
            Self::System => "The system does not say who locks the file.",
        }
    }
}

/// The waits of a pool, or why they are not known.
type Waits = Result<Vec<LockWait>, LocksUnknown>;

/// A connection of this process, as the answer is joined with it.
#[derive(Debug)]
pub(super) struct OwnConnection {
    /// The process of PostgreSQL that serves it; 0 if it is not known.
    pub(super) backend: u32,
    /// How long it has been open.
    pub(super) age: Duration,
    /// Whether its open transaction has written.
    pub(super) has_written: bool,
    /// Its holder. `None` while it is in its pool.
    pub(super) hold: Option<HeldConnection>,
}

impl OwnConnection {
    /// How long it has run its query, if it runs one.
    fn query_age(&self) -> Option<Duration> {
        let hold = self.hold.as_ref()?;
        (hold.activity == HoldActivity::Query).then_some(hold.activity_age)
    }
}

/// The waits of one pool.
#[derive(Debug, Default)]
pub(super) struct LockWatch {
    explainer: OnceLock<Weak<Explainer>>,
    /// Whether a question is under way.
    is_asking: AtomicBool,
    state: Mutex<LockState>,
}

/// Locked for as long as a value is copied, never while the database is asked.
#[derive(Debug, Default)]
struct LockState {
    /// Whether a query has run, or a caller has waited, for long. Answers are kept meanwhile.
    is_wanted: bool,
    looked: Option<Moment>,
    asked: Option<Moment>,
    /// The last answer.
    answer: Option<(Moment, Arc<Waits>)>,
    /// What identifies the server or the file: pools of one database may block each other.
    database: Option<Box<str>>,
    /// A pooler was noticed. That does not change while the pool is open.
    has_pooler: bool,
    contradictions: u32,
    /// The role may not read `pg_stat_activity`.
    is_restricted: bool,
}

impl LockState {
    /// Notes whether an answer that was asked for this long ago is a sign of a pooler. The wait that it reports may have
    /// ended since: then an old answer contradicts the slots, however often that happens.
    fn note_pooler(&mut self, joined: &postgres::Joined, age: Duration) {
        if !joined.has_contradiction {
            self.contradictions = 0;
        } else if age < postgres::SETTLED {
            self.contradictions += 1;
        }
        self.has_pooler |= joined.has_pooler || self.contradictions >= MOST_CONTRADICTIONS;
    }
}

/// Ends a question, also if nobody answers it.
struct Asking(Arc<PoolHolders>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.locks.is_asking.store(false, Relaxed);
    }
}

impl LockWatch {
    /// Sets the explaining connection of the pool.
    pub(super) fn explained_by(&self, explainer: &Arc<Explainer>) {
        self.explainer.get_or_init(|| Arc::downgrade(explainer));
    }

    /// The last answer, while one is wanted.
    pub(super) fn report(&self, now: Moment) -> LockReport {
        let (is_wanted, answer) = {
            let state = self.lock();
            (state.is_wanted, state.answer.clone())
        };
        let Some((at, answer)) = answer else {
            return LockReport {
                unknown: is_wanted.then_some(NOT_YET),
                ..LockReport::default()
            };
        };
        let (waits, unknown) = match &*answer {
            Ok(waits) => (waits.clone(), None),
            Err(unknown) => (Vec::new(), Some(unknown.reason())),
        };
        LockReport {
            age: Some(now.since(at)),
            waits,
            unknown,
        }
    }

    /// Whether it is time for a look.
    fn is_due(&self, now: Moment) -> bool {
        let mut state = self.lock();
        let is_due = state.looked.is_none_or(|at| now.since(at) >= LOOK_INTERVAL);
        if is_due {
            state.looked = Some(now);
        }
        is_due
    }

    /// Whether a question may be asked.
    fn may_ask(&self, now: Moment) -> bool {
        let mut state = self.lock();
        let is_due = state
            .asked
            .is_none_or(|at| now.since(at) >= QUESTION_INTERVAL)
            && !self.is_asking.swap(true, Relaxed);
        if is_due {
            state.asked = Some(now);
        }
        is_due
    }

    /// Whether answers to questions will say which database the pool has.
    fn may_learn(&self) -> bool {
        let explainer = self.explainer.get().and_then(Weak::upgrade);
        let dialect = explainer.map(|explainer| explainer.dialect());
        matches!(dialect, Some(Dialect::PostgreSql | Dialect::Sqlite))
    }

    /// Which database the pool has, if that is known.
    fn database(&self) -> Option<Box<str>> {
        self.lock().database.clone()
    }

    /// Notes whether an answer is wanted. Forgets the last one if not.
    fn want(&self, is_wanted: bool) {
        let mut state = self.lock();
        state.is_wanted = is_wanted;
        if !is_wanted {
            state.answer = None;
        }
    }

    /// Whether the last look found that an answer is wanted.
    fn is_wanted(&self) -> bool {
        self.lock().is_wanted
    }

    /// Keeps an answer, if one is still wanted.
    fn keep(&self, answer: Waits) {
        let mut state = self.lock();
        if state.is_wanted {
            state.answer = Some((clock::now(), Arc::new(answer)));
        }
    }

    fn lock(&self) -> MutexGuard<'_, LockState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Looks at all pools, and asks the databases of those with a long query or a long wait.
pub(super) fn look(pools: &SharedPools, watched: &[WatchedPool], now: Moment) {
    let open = watched.iter().filter(|(pool, _)| pool.strong_count() > 0);
    let all: Vec<_> = open.map(|(_, holders)| holders).collect();
    let due = all.iter().filter(|holders| holders.locks.is_due(now));
    let due: Vec<_> = due.copied().collect();
    for holders in &due {
        holders.locks.want(has_waiting(holders, now));
    }
    // The looks at two pools need not coincide: what the last look at each found counts.
    let any_waits = all.iter().any(|holders| holders.locks.is_wanted());
    for holders in due {
        // A pool that waits for nobody may have the connection that another one waits for.
        let is_unknown = || holders.locks.may_learn() && holders.locks.database().is_none();
        if holders.locks.is_wanted() || any_waits && is_unknown() {
            ask(holders, &all, pools, now);
        }
    }
}

/// Whether a query has run for long, or a caller has waited for long.
fn has_waiting(holders: &PoolHolders, now: Moment) -> bool {
    let longest = holders.waits.longest_since();
    longest.is_some_and(|since| now.since(since) >= CALLER_THRESHOLD)
        || holders.longest_query(now) >= Some(QUERY_THRESHOLD)
}

fn ask(holders: &Arc<PoolHolders>, all: &[&Arc<PoolHolders>], pools: &SharedPools, now: Moment) {
    let watch = &holders.locks;
    if !watch.may_ask(now) {
        return;
    }
    let asking = Asking(Arc::clone(holders));
    let Some(explainer) = watch.explainer.get().and_then(Weak::upgrade) else {
        return watch.keep(Err(LocksUnknown::NoQuestions));
    };
    let others: Vec<_> = all.iter().map(|&holders| Arc::clone(holders)).collect();
    match explainer.dialect() {
        Dialect::PostgreSql => {
            let database = watch.database();
            let connections = connections_of(&others, holders, database.as_deref());
            let backends = connections.iter().map(|own| i64::from(own.backend));
            let backends: Vec<_> = backends.filter(|backend| *backend != 0).collect();
            let is_restricted = watch.lock().is_restricted;
            let question = if is_restricted {
                postgres::QUESTION_WITHOUT_ACTIVITY
            } else {
                postgres::QUESTION
            };
            explainer.ask(question, &backends, move |answer| {
                asking.0.locks.lock().is_restricted |= answer == Err(AskError::Denied);
                answered(&asking.0, answer, |rows| {
                    join_postgres(&asking.0, &others, &rows, clock::now().since(now))
                });
            });
        }
        Dialect::Sqlite => {
            let statements = pools.statements.clone();
            explainer.ask(sqlite::QUESTION, &[], move |answer| {
                answered(&asking.0, answer, |rows| {
                    let file = sqlite::LockedFile::of(&rows).ok_or(LocksUnknown::Database)?;
                    asking.0.locks.lock().database = Some(file.identity().into());
                    let connections = connections_of(&others, &asking.0, Some(&file.identity()));
                    let holder = file.holder().ok_or(LocksUnknown::System)?;
                    Ok(sqlite::join(holder, &connections, &statements))
                });
            });
        }
        Dialect::MySql | Dialect::Unknown => watch.keep(Err(LocksUnknown::Database)),
    }
}

fn answered(
    holders: &PoolHolders,
    answer: Answer<Vec<TextRow>>,
    join: impl FnOnce(Vec<TextRow>) -> Waits,
) {
    let answer = answer.map_err(LocksUnknown::Unanswered).and_then(join);
    holders.locks.keep(answer);
}

/// The connections of a pool, and those of the other pools of its database as far as that is known.
fn connections_of(
    all: &[Arc<PoolHolders>],
    holders: &Arc<PoolHolders>,
    database: Option<&str>,
) -> Vec<OwnConnection> {
    let now = clock::now();
    let is_same = |other: &&Arc<PoolHolders>| {
        Arc::ptr_eq(other, holders)
            || database.is_some_and(|database| other.locks.database().as_deref() == Some(database))
    };
    let same = all.iter().filter(is_same);
    same.flat_map(|holders| holders.connections(now)).collect()
}

/// Joins an answer that was asked for this long ago.
fn join_postgres(
    holders: &Arc<PoolHolders>,
    all: &[Arc<PoolHolders>],
    rows: &[TextRow],
    age: Duration,
) -> Waits {
    let rows = postgres::read(rows).ok_or(LocksUnknown::Database)?;
    let database = rows.first().map(|row| row.server.clone());
    let connections = connections_of(all, holders, database.as_deref());
    let joined = postgres::join(&rows, &connections);
    let mut state = holders.locks.lock();
    state.database = database;
    state.note_pooler(&joined, age);
    if state.has_pooler {
        return Err(LocksUnknown::Pooler);
    }
    Ok(joined.waits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::owner::WorkOwner;
    use crate::database::connection::fixture::Fixture;
    use crate::database::explaining::Open;
    use crate::database::levels::{AnyPool, Pinging, PoolLevel};

    /// A pool that is open.
    struct OpenPool;

    impl AnyPool for OpenPool {
        fn name(&self) -> &'static str {
            "default"
        }

        fn level(&self) -> PoolLevel {
            PoolLevel::default()
        }

        fn ping(self: Arc<Self>) -> Pinging {
            Box::pin(async { Ok(()) })
        }
    }

    #[test]
    fn while_a_wait_is_long_there_is_an_answer_or_the_reason_why_there_is_none() {
        let watch = LockWatch::default();
        let state = || {
            let report = watch.report(clock::now());
            (report.age.is_some(), report.unknown)
        };
        let lost = LocksUnknown::Unanswered(AskError::Unreachable);
        assert_eq!(state(), (false, None), "nobody waits");
        watch.keep(Err(lost));
        assert_eq!(state(), (false, None), "a late answer is of no interest");
        watch.want(true);
        assert_eq!(state(), (false, Some(NOT_YET)));
        watch.keep(Err(lost));
        assert_eq!(state(), (true, Some(lost.reason())));
        watch.want(true);
        watch.keep(Ok(Vec::new()));
        assert_eq!(state(), (true, None));
        watch.want(false);
        assert_eq!(state(), (false, None), "nobody waits any more");
    }

    #[test]
    fn only_young_answers_in_a_row_are_a_sign_of_a_pooler() {
        let agrees = postgres::Joined::default();
        let contradicts = postgres::Joined {
            has_contradiction: true,
            ..postgres::Joined::default()
        };
        let (young, old) = (Duration::from_millis(999), Duration::from_secs(1));
        let mut state = LockState::default();
        for (joined, age, expected, why) in [
            (&contradicts, old, false, "the wait may have ended"),
            (&contradicts, old, false, "it may have ended each time"),
            (&contradicts, young, false, "once may be a coincidence"),
            (&agrees, young, false, "it was one"),
            (&contradicts, young, false, "the first in a row"),
            (&contradicts, old, false, "it says nothing"),
            (&contradicts, young, true, "the second in a row"),
            (&agrees, young, true, "a pooler stays"),
        ] {
            state.note_pooler(joined, age);
            assert_eq!(state.has_pooler, expected, "{why}");
        }
    }

    #[test]
    fn an_idle_pool_is_asked_while_another_one_waits_that_is_looked_at_at_other_times() {
        let fixture = Fixture::new();
        let pools = fixture.database.levels().shared();
        let open_pool: Arc<dyn AnyPool> = Arc::new(OpenPool);
        let pool = || -> WatchedPool {
            let holders = PoolHolders::new(&fixture.families, "default");
            (Arc::downgrade(&open_pool), holders)
        };
        let watched = [pool(), pool()];
        let [(_, idle), (_, waiting)] = &watched;
        let open: Open = Box::new(|| Err(AskError::Unreachable));
        let explainer = Explainer::new("default", Dialect::Sqlite, open, None);
        idle.locks.explained_by(&explainer);
        let begun = clock::now();
        let at = |milliseconds| begun.after(Duration::from_millis(milliseconds));
        let asked = || idle.locks.lock().asked;

        // The other pool was opened after the first look.
        look(pools, &watched[..1], at(1_000));
        assert_eq!(asked(), None, "nobody waits");
        let _listed = waiting.waits.enter(WorkOwner::default(), begun);
        look(pools, &watched, at(1_100));
        assert_eq!(asked(), None, "its look is not due");
        look(pools, &watched, at(1_200));
        assert_eq!(asked(), Some(at(1_200)));
    }
}
