//! The reports of statements: their costs in an order, one statement with its last hour, and the start of a new count.
//!
//! The row [`OTHER`] of the statements that are not kept is computed here, as the difference to the counts of all queries.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use super::super::history::{StatementMinute, minute_at};
use super::super::total::Totals;
use super::{OTHER, Statement, Statements, lock};
use crate::clock;
use crate::database::sql::Operation;

/// How [`Statements::report`] orders the rows, the largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// By the time of all calls.
    #[default]
    Total,
    /// By the mean time of a call.
    Mean,
    /// By the number of calls.
    Calls,
    /// By the number of errors.
    Errors,
    /// By the 95th percentile of the time of a call.
    P95,
}

/// Which statements [`Statements::report_some`] returns. The default is all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatementFilter {
    /// The method of an endpoint that ran it, or `job`.
    pub method: Option<String>,
    /// An endpoint that ran it, or a job.
    pub endpoint: Option<String>,
    /// Its operation.
    pub operation: Option<Operation>,
    /// A part of its shape, in upper or lower case.
    pub text: Option<String>,
}

impl StatementFilter {
    fn wants(&self, statement: &Statement) -> bool {
        let Self {
            method,
            endpoint,
            operation,
            text,
        } = self;
        let shape = &statement.shape;
        let is_part = |text: &String| {
            let part = text.to_ascii_lowercase();
            shape.text.to_ascii_lowercase().contains(&part)
        };
        let is_it = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found)
        };
        let ran_it = |name: &String| {
            let (by, of) = name.split_once(' ').unwrap_or(("", name));
            is_it(method, by) && is_it(endpoint, of)
        };
        operation.is_none_or(|operation| operation == shape.operation)
            && text.as_ref().is_none_or(is_part)
            && ((method.is_none() && endpoint.is_none())
                || statement.lock_endpoints().iter().any(ran_it))
    }
}

/// The cost of one statement.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementReport {
    /// Its number, unique in this process. `None` for `(other)`.
    pub number: Option<NonZeroU32>,
    /// The shape: the text without literals and binds. `(other)` for all statements that are not kept.
    pub statement: String,
    /// The operation.
    pub operation: Operation,
    /// The pool that ran it. `None` outside of any pool, and for `(other)`.
    pub pool: Option<String>,
    /// How often it ended, failures included.
    pub calls: u64,
    /// How often it failed.
    pub errors: u64,
    /// How often it ran outside of any request and job.
    pub unattributed_calls: u64,
    /// The time of all calls, in seconds.
    pub total_seconds: f64,
    /// The mean time of a call, in seconds.
    pub mean_seconds: f64,
    /// The 95th percentile of the time of a call, in seconds; from buckets that are 2 % wide.
    pub p95_seconds: f64,
    /// The first endpoints that ran it, at most 8, with their methods: `GET /data/{item_id}`. Empty for `(other)`.
    pub endpoints: Vec<String>,
    /// When it was first seen. For `(other)`: the start of the service, or the last reset.
    pub first_seen: SystemTime,
    /// When it was last seen, to the second.
    pub last_seen: SystemTime,
}

/// One statement: its cost, and its last hour.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StatementDetail {
    /// Its cost since it was first seen, or since the last reset.
    pub report: StatementReport,
    /// Its last 60 minutes, or those since it was first seen. The last one is not over.
    pub history: Vec<StatementMinute>,
}

impl Statements {
    /// When the counts began: at the start of the service, or at the last reset.
    pub fn counted_since(&self) -> SystemTime {
        lock(&self.table.beginning).1
    }

    /// Returns the cost of the first `limit` statements in this order. The queries of statements that are not kept are one
    /// row, `(other)`, which has its place in the order like any statement.
    pub fn report(&self, order: Order, limit: usize) -> Vec<StatementReport> {
        self.report_some(&StatementFilter::default(), order, limit)
    }

    /// Returns the cost of the first `limit` statements that the filter wants, in this order. The row `(other)` is among them
    /// only if the filter wants all statements.
    pub fn report_some(
        &self,
        filter: &StatementFilter,
        order: Order,
        limit: usize,
    ) -> Vec<StatementReport> {
        self.make_room(self.age(clock::now()));
        // Read before the rows, so that a query that ends meanwhile is not counted in `(other)`.
        let (totals, since) = self.totals();
        let mut kept = Totals::default();
        let mut reports = Vec::new();
        for statement in self.list() {
            if !filter.wants(&statement) {
                continue;
            }
            let counts = statement.counts();
            if counts.seconds.count > 0 {
                reports.push(self.report_one(&statement, &counts));
                kept.add(&counts);
            }
        }
        if *filter == StatementFilter::default() {
            reports.extend(self.report_other(&totals.since(&kept), since));
        }
        let cost = |report: &StatementReport| match order {
            Order::Total => report.total_seconds,
            Order::Mean => report.mean_seconds,
            Order::Calls => report.calls as f64,
            Order::Errors => report.errors as f64,
            Order::P95 => report.p95_seconds,
        };
        reports.sort_by(|one, other| {
            (cost(other).total_cmp(&cost(one)))
                .then(other.total_seconds.total_cmp(&one.total_seconds))
        });
        reports.truncate(limit);
        reports
    }

    /// Returns one statement, if the table keeps it.
    pub fn detail(&self, number: NonZeroU32) -> Option<StatementDetail> {
        let age = self.age(clock::now());
        self.sample(age);
        let statement = self.find(number)?;
        let now = SystemTime::now();
        let start = |minute: u64| now - age.saturating_sub(Duration::from_secs(60 * minute));
        let seconds = statement.seconds.snapshot();
        let history = lock(&statement.history).read(&seconds, minute_at(age), start);
        Some(StatementDetail {
            report: self.report_one(&statement, &statement.counts()),
            history,
        })
    }

    fn report_one(&self, statement: &Statement, counts: &Totals) -> StatementReport {
        StatementReport {
            number: Some(statement.number()),
            statement: statement.shape.text.to_string(),
            operation: statement.shape.operation,
            pool: statement.shape.pool_name(),
            endpoints: statement.lock_endpoints().clone(),
            ..self.unnamed(counts, statement.first_seen, &statement.last_seen_seconds)
        }
    }

    /// Returns the row of the statements that are not kept; `None` if there are none.
    fn report_other(&self, other: &Totals, since: SystemTime) -> Option<StatementReport> {
        (other.seconds.count > 0).then(|| StatementReport {
            statement: OTHER.to_owned(),
            ..self.unnamed(other, since, &self.table.other_last_seen_seconds)
        })
    }

    /// The row of these counts, without a statement.
    fn unnamed(
        &self,
        counts: &Totals,
        first_seen: SystemTime,
        last_seen_seconds: &AtomicU64,
    ) -> StatementReport {
        let seconds = &counts.seconds;
        StatementReport {
            number: None,
            statement: String::new(),
            operation: Operation::Other,
            pool: None,
            calls: seconds.count,
            errors: counts.errors,
            unattributed_calls: counts.unattributed,
            // The difference of two sums of floats may be slightly negative.
            total_seconds: seconds.sum.max(0.0),
            mean_seconds: seconds.mean().unwrap_or_default().max(0.0),
            p95_seconds: seconds.quantile(0.95).unwrap_or_default(),
            endpoints: Vec::new(),
            first_seen,
            last_seen: self.last_seen(last_seen_seconds).max(first_seen),
        }
    }

    /// The wall-clock time of a last run. Computed from its age, so that the two clocks do not drift apart.
    fn last_seen(&self, seconds: &AtomicU64) -> SystemTime {
        let last_seen = Duration::from_secs(seconds.load(Relaxed));
        SystemTime::now() - self.age(clock::now()).saturating_sub(last_seen)
    }

    /// The counts of all queries since the last reset, and its time.
    fn totals(&self) -> (Totals, SystemTime) {
        let beginning = lock(&self.table.beginning);
        let totals = self.table.counted.totals();
        (totals.since(&beginning.0), beginning.1)
    }

    /// Starts counting at zero. A statement is reported again when it has run again. Its number, its endpoints and its
    /// history stay, and the metrics keep their counts.
    pub fn reset(&self) {
        let mut beginning = lock(&self.table.beginning);
        for statement in self.list() {
            statement.reset();
        }
        *beginning = (self.table.counted.totals(), SystemTime::now());
    }
}
