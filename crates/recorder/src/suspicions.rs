//! What is suspected of the queries of a request or job: slow ones and repeated ones, with the line of code that ran them.
//!
//! The stack is captured on the thread of the query, once a suspicion has arisen and at most once for each statement,
//! endpoint and hour. A thread of its own finds the application's frame in it later. A query that is not suspicious costs
//! three comparisons.

mod frames;
mod program;
mod stack;
mod suspects;
mod symboliser;

use std::{
    fmt,
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use vitals_registry::Counter;

pub use frames::CodeLocation;
pub use suspects::LocatedSuspicion;
pub(crate) use suspects::SuspectKey;
use suspects::Suspects;

use crate::{
    context::{
        Owner,
        owner::{self, WorkOwner},
    },
    database::sql::Operation,
    log_limit::LogLimit,
    subscriber::LogContext,
};

/// The default of how long a statement may take before it is slow.
pub const SLOW_QUERY: Duration = Duration::from_millis(500);

/// The default of how often a request or job must run one statement to be suspected of a loop.
pub const N_PLUS_ONE: u32 = 10;

/// What is suspected of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// A request ran it many times with different values, probably in a loop.
    NPlusOne = 0,
    /// A request ran it many times with the same values.
    Identical = 1,
    /// A request read the same rows of a table by it and by others, one after the other.
    Serial = 2,
    /// It took longer than the threshold.
    Slow = 3,
}

impl Suspicion {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::NPlusOne, Self::Identical, Self::Serial, Self::Slow];

    /// The kinds of repetition: the values of the label `kind`.
    pub const REPETITIONS: [Self; 3] = [Self::NPlusOne, Self::Identical, Self::Serial];

    /// Its name in metrics and reports.
    pub const fn label(self) -> &'static str {
        match self {
            Self::NPlusOne => "n_plus_one",
            Self::Identical => "identical",
            Self::Serial => "serial",
            Self::Slow => "slow",
        }
    }

    /// What to do about it.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::NPlusOne => "read the rows of all values in one query, by a join or eq_any",
            Self::Identical => "run the query once and pass its result on",
            Self::Serial => "read all needed columns in one query",
            Self::Slow => "look at the plan of the statement: an index may be missing",
        }
    }
}

/// When a statement is suspicious.
#[derive(Clone, Copy, Debug)]
pub struct SuspicionSettings {
    /// How often a request or job must run one statement; 0 suspects none.
    pub n_plus_one: u32,
    /// How long a statement may take; zero calls none slow.
    pub slow_query: Duration,
    /// Whether the line of code is found.
    pub code_locations: bool,
}

impl Default for SuspicionSettings {
    fn default() -> Self {
        Self {
            n_plus_one: N_PLUS_ONE,
            slow_query: SLOW_QUERY,
            code_locations: true,
        }
    }
}

/// The suspicions of one monitoring. Cheap to clone.
#[derive(Clone)]
pub struct Suspicions(Arc<Shared>);

struct Shared {
    n_plus_one: u32,
    /// The run of a statement in one request from which on the values of its runs are compared.
    compared_from: AtomicU32,
    /// The run of a statement in one request at which its stack is captured.
    captured_at: AtomicU32,
    slow_query: Duration,
    /// The same in nanoseconds.
    slow_nanoseconds: u64,
    code_locations: bool,
    /// Whether stacks are symbolised only when their lines are asked for.
    is_lazy: AtomicBool,
    suspects: Suspects,
    slow_lines: LogLimit,
}

impl fmt::Debug for Suspicions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suspicions")
            .field("n_plus_one", &self.0.n_plus_one)
            .field("slow_query", &self.0.slow_query)
            .field("code_locations", &self.0.code_locations)
            .finish_non_exhaustive()
    }
}

/// A query that ended and is suspicious.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SuspiciousQuery {
    /// The number of its statement, if it is kept.
    pub(crate) statement: Option<NonZeroU32>,
    pub(crate) operation: Operation,
    /// How often the request or job has run the statement.
    pub(crate) runs: u32,
    pub(crate) took: Duration,
    /// Whether the stack of this thread is that of the code which ran it.
    pub(crate) is_on_stack: bool,
    /// Whether its stack is to be captured for another reason.
    pub(crate) is_wanted: bool,
}

impl Suspicions {
    /// Counts captures in `captures`.
    pub(crate) fn new(settings: SuspicionSettings, captures: Arc<Counter>) -> Self {
        let threshold = settings.n_plus_one;
        let (compared_from, captured_at) = match threshold {
            0 => (u32::MAX, u32::MAX),
            _ => ((threshold / 2).saturating_sub(1).max(1), threshold),
        };
        let slow_query = match settings.slow_query {
            Duration::ZERO => Duration::MAX,
            threshold => threshold,
        };
        Self(Arc::new(Shared {
            n_plus_one: threshold,
            compared_from: AtomicU32::new(compared_from),
            captured_at: AtomicU32::new(captured_at),
            slow_query,
            slow_nanoseconds: u64::try_from(slow_query.as_nanos()).unwrap_or(u64::MAX),
            code_locations: settings.code_locations,
            is_lazy: AtomicBool::new(false),
            suspects: Suspects::new(captures),
            slow_lines: LogLimit::new(),
        }))
    }

    /// Finds the line of every statement that a request or job runs, not only of suspicious ones, and compares the values of
    /// all its runs. For tests: it makes queries slow.
    pub fn locate_all(&self) {
        self.0.compared_from.store(1, Relaxed);
        self.0.captured_at.store(1, Relaxed);
        self.0.is_lazy.store(true, Relaxed);
    }

    /// Whether repetitions are suspected at all.
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.0.n_plus_one > 0
    }

    /// Whether lines of code are found.
    pub(crate) fn finds_lines(&self) -> bool {
        self.0.code_locations
    }

    /// Whether the stack of a suspect was captured.
    pub(crate) fn is_captured(&self, key: SuspectKey) -> bool {
        self.0.suspects.is_captured(key)
    }

    /// Whether this many runs of one statement are suspicious.
    #[inline]
    pub(crate) fn is_repetition(&self, runs: u32) -> bool {
        self.0.n_plus_one > 0 && runs >= self.0.n_plus_one
    }

    /// Whether anything is to be done for a query that has ended.
    #[inline]
    pub(crate) fn is_suspicious(&self, runs: u32, nanoseconds: u64) -> bool {
        let shared = &*self.0;
        runs == shared.captured_at.load(Relaxed) || nanoseconds >= shared.slow_nanoseconds
    }

    /// The run of a statement in one request from which on the values of its runs are compared.
    #[inline]
    pub(crate) fn compared_from(&self) -> u32 {
        self.0.compared_from.load(Relaxed)
    }

    /// Whether a stack that is captured at this run of a statement is that of a repetition.
    pub(crate) fn is_captured_at(&self, runs: u32) -> bool {
        self.0.captured_at.load(Relaxed) == runs
    }

    /// Notes a suspicious query on the thread that ran it. Returns its key, if the request repeats its statement.
    /// `describe` returns the statement's shape and its pool.
    pub(crate) fn query_ended(
        &self,
        query: &SuspiciousQuery,
        describe: impl FnOnce() -> (String, String),
    ) -> Option<SuspectKey> {
        let owner = owner::current_owner();
        let key = query
            .statement
            .map(|statement| SuspectKey::new(statement, owner));
        let is_repeated = query.runs >= self.0.captured_at.load(Relaxed);
        let is_slow = query.took >= self.0.slow_query;
        if let Some(key) = key.filter(|_| is_repeated || is_slow || query.is_wanted)
            && self.0.code_locations
            && query.is_on_stack
            && self.0.suspects.capture(key)
            && !self.0.is_lazy.load(Relaxed)
        {
            self.0.suspects.symbolise_soon(key);
        }
        if is_slow {
            self.report_slow(key, owner, query, describe());
        }
        key
    }

    fn report_slow(
        &self,
        key: Option<SuspectKey>,
        owner: WorkOwner,
        query: &SuspiciousQuery,
        (statement, pool): (String, String),
    ) {
        if let Some(key) = key {
            self.0.suspects.suspect(key, Suspicion::Slow);
        }
        let Some(line) = self.0.slow_lines.line() else {
            return;
        };
        let (operation, took) = (query.operation.label(), query.took);
        self.log_with_location(key, move |location| {
            let owner = Owner::from(owner);
            tracing::warn!(
                method = owner.method,
                endpoint = owner.name.as_deref(),
                trace_id = owner.trace_id.map(|id| format!("{id:032x}")),
                pool,
                operation,
                statement,
                seconds = took.as_secs_f64(),
                at = location.map(ToString::to_string),
                left_out = line.left_out,
                "a statement took longer than the threshold of slow queries"
            );
        });
    }

    /// Notes what a repeated statement is suspected of, now that the endpoint is known.
    pub(crate) fn settle(
        &self,
        guessed: Option<SuspectKey>,
        right: SuspectKey,
        suspicion: Suspicion,
    ) {
        if let Some(guessed) = guessed {
            self.0.suspects.correct(guessed, right);
        }
        self.0.suspects.suspect(right, suspicion);
    }

    /// Calls `log` with the location of a suspect, at once if it is known, or else later on another thread. Its lines go to
    /// the subscriber and into the span of this thread.
    pub(crate) fn log_with_location(
        &self,
        key: Option<SuspectKey>,
        log: impl FnOnce(Option<&CodeLocation>) + Send + 'static,
    ) {
        let Some(key) = key else {
            return log(None);
        };
        let context = LogContext::current();
        self.0.suspects.when_known(key, move |location| {
            context.within(|| log(location));
        });
    }

    /// The suspicions about a statement, the latest first.
    pub fn of_statement(&self, statement: NonZeroU32) -> Vec<LocatedSuspicion> {
        self.0.suspects.of_statement(statement)
    }

    /// Finds the lines of all captured stacks now, on this thread. It may take a second.
    pub fn symbolise_all(&self) {
        self.0.suspects.symbolise_all();
    }
}
