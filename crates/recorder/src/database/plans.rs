//! The plans that databases would choose for the costliest statements, without ever executing one.
//!
//! - `study`: which statement of a pool is explained next, and what follows from its plan
//! - `postgres`, `sqlite`: how a database is asked, and its answer
//! - `node`: a plan as a tree of steps, without values
//! - `flags`: what is notable about a plan
//!
//! Contains [`Plans`], which keeps the plans. They come from the explaining connection, so that no query pays for them. A
//! plan is a generic one: that of the text, not of one call with its values.

mod flags;
mod node;
mod postgres;
mod sqlite;
mod study;

use std::collections::{HashMap, HashSet};
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use vitals_registry::{Counter, HistogramSnapshot};

pub use flags::{PlanFlag, PlanFlagKind};
pub use node::PlanStep;
pub(super) use study::Study;

use super::statements::Statements;
use crate::log_limit::LogLimit;

/// The most earlier plans of a statement that are kept.
const MOST_CHANGES: usize = 3;

/// The most statements whose plans are kept, over all pools.
const MOST_STATEMENTS: usize = 200;

/// The plan of a statement.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// The steps, the last one first.
    pub root: PlanStep,
    /// What is notable about it.
    pub flags: Vec<PlanFlag>,
    /// The same for all plans that differ only in costs and numbers of rows.
    pub fingerprint: String,
    /// When the database was first seen to choose it.
    pub since: SystemTime,
    /// When the database last reported it.
    pub checked: SystemTime,
}

/// A plan that another one replaced.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PlanChange {
    /// When the change was noticed.
    pub at: SystemTime,
    /// The plan before it.
    pub before: Plan,
    /// The 95th percentile of the time of the calls under the plan before, in seconds. `None` without calls.
    pub p95_before: Option<f64>,
    /// That of the calls from the change to the next one, or until now.
    pub p95_after: Option<f64>,
}

/// What is known of the plan of a statement.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PlanReport {
    /// The plan, if the database has been asked and has answered.
    pub plan: Option<Plan>,
    /// Why there is no plan, or no current one; `None` if there is one.
    pub reason: Option<String>,
    /// The plans before, the latest change first.
    pub changes: Vec<PlanChange>,
}

/// The plans of the statements of a service. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(super) struct Plans {
    inner: Arc<PlansInner>,
}

#[derive(Debug)]
struct PlansInner {
    /// `None` if nothing is explained.
    changed: Option<Arc<Counter>>,
    kept: Mutex<HashMap<NonZeroU32, KeptPlan>>,
    /// Statements that an operator looks at, by pool: they are explained next.
    wanted: Mutex<HashMap<Arc<str>, HashSet<NonZeroU32>>>,
    /// The pools whose statements are not explained, and why.
    off: Mutex<HashMap<Box<str>, &'static str>>,
    log: LogLimit,
}

/// What is kept of the plan of one statement.
#[derive(Debug, Default)]
struct KeptPlan {
    /// When the database was last asked. The clock of the system may go back.
    asked: Option<Instant>,
    plan: Option<Plan>,
    reason: Option<&'static str>,
    changes: Vec<KeptChange>,
    /// The calls when the present plan was first seen.
    at_start: HistogramSnapshot,
    /// The calls when the present plan was last seen.
    at_check: HistogramSnapshot,
}

#[derive(Debug)]
struct KeptChange {
    at: SystemTime,
    before: Plan,
    p95_before: Option<f64>,
    /// The calls when the change was noticed.
    calls: HistogramSnapshot,
    /// Known once the next plan was seen.
    p95_after: Option<f64>,
}

impl Plans {
    /// Plans whose changes are counted by `changed`; none are asked for if `wanted` is false.
    pub(super) fn new(wanted: bool, changed: Arc<Counter>) -> Self {
        Self {
            inner: Arc::new(PlansInner {
                changed: wanted.then_some(changed),
                kept: Mutex::default(),
                wanted: Mutex::default(),
                off: Mutex::default(),
                log: LogLimit::new(),
            }),
        }
    }

    /// Whether statements are explained at all.
    pub(super) fn are_on(&self) -> bool {
        self.inner.changed.is_some()
    }

    /// What is known of the plan of a statement. The database is asked soon, and the answer is in a later report. `is_asked`
    /// says whether its pool has an explaining connection.
    pub(super) fn report(
        &self,
        statements: &Statements,
        number: NonZeroU32,
        is_asked: bool,
    ) -> PlanReport {
        if !self.are_on() {
            return unavailable("plans are turned off (--plans)");
        }
        let Some(text) = statements.text_to_explain(number) else {
            return unavailable(WAITING);
        };
        if let Err(reason) = text.sql {
            return unavailable(reason.reason());
        }
        if let Some(reason) = lock(&self.inner.off).get(&*text.pool) {
            return unavailable(reason);
        }
        if !is_asked {
            return unavailable(
                "only pools that Vitals::instrument or instrument_async builds are asked for plans, while they are open",
            );
        }
        let mut wanted = lock(&self.inner.wanted);
        wanted.entry(text.pool).or_default().insert(number);
        drop(wanted);
        let kept = lock(&self.inner.kept);
        kept.get(&number)
            .map_or_else(|| unavailable(WAITING), |kept| kept.report(&text.calls))
    }

    /// Whether an operator looks at a statement of this pool.
    fn has_wanted(&self, pool: &str) -> bool {
        lock(&self.inner.wanted).contains_key(pool)
    }

    /// Takes the statements of this pool that operators look at.
    fn take_wanted(&self, pool: &str) -> HashSet<NonZeroU32> {
        lock(&self.inner.wanted).remove(pool).unwrap_or_default()
    }

    /// Whether the statements of a pool are not explained.
    fn is_off(&self, pool: &str) -> bool {
        lock(&self.inner.off).contains_key(pool)
    }

    /// Forgets the plans of statements that are no longer kept.
    fn forget_others(&self, statements: &Statements) {
        self.kept().retain(|number, _| statements.keeps(*number));
    }

    fn log_change(&self, pool: &str, number: NonZeroU32, statement: &str) {
        if let Some(line) = self.inner.log.line() {
            tracing::info!(
                pool,
                statement_id = number.get(),
                statement,
                left_out = line.left_out,
                "the database has another plan for a statement"
            );
        }
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<NonZeroU32, KeptPlan>> {
        lock(&self.inner.kept)
    }

    /// Notes that the statements of a pool are not explained, and why.
    fn turn_off(&self, pool: &str, reason: &'static str) {
        if lock(&self.inner.off).insert(pool.into(), reason).is_none() {
            tracing::info!(pool, reason, "plans are not available");
        }
        lock(&self.inner.wanted).remove(pool);
    }

    /// Keeps the plan of a statement, or why there is none. Returns whether it is another plan than before.
    fn keep(
        &self,
        number: NonZeroU32,
        answer: Result<Plan, &'static str>,
        calls: HistogramSnapshot,
    ) -> bool {
        let mut kept = self.kept();
        if kept.len() >= MOST_STATEMENTS && !kept.contains_key(&number) {
            // The one that was asked for longest ago: it is no longer among the costliest.
            let oldest = kept.iter().min_by_key(|(_, plan)| plan.asked);
            if let Some(oldest) = oldest.map(|(number, _)| *number) {
                kept.remove(&oldest);
            }
        }
        let plan = kept.entry(number).or_default();
        plan.asked = Some(Instant::now());
        let has_changed = plan.take(answer, calls);
        if has_changed && let Some(changed) = &self.inner.changed {
            changed.inc();
        }
        has_changed
    }
}

/// The reason before the first answer.
const WAITING: &str = "the database has not been asked yet";

fn unavailable(reason: &str) -> PlanReport {
    PlanReport {
        reason: Some(reason.to_owned()),
        ..PlanReport::default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl KeptPlan {
    /// Takes an answer of the database. Returns whether the plan is another one than before.
    fn take(&mut self, answer: Result<Plan, &'static str>, calls: HistogramSnapshot) -> bool {
        let mut plan = match answer {
            Ok(plan) => plan,
            Err(reason) => {
                // A plan stays as long as the database says nothing else.
                self.reason = Some(reason);
                return false;
            }
        };
        self.reason = None;
        let before = self.plan.take();
        let has_changed = before
            .as_ref()
            .is_some_and(|before| before.fingerprint != plan.fingerprint);
        match before {
            Some(before) if has_changed => self.change(before, plan.checked, &calls),
            Some(before) => plan.since = before.since,
            None => self.at_start = calls.clone(),
        }
        self.plan = Some(plan);
        self.at_check = calls;
        has_changed
    }

    fn change(&mut self, before: Plan, at: SystemTime, calls: &HistogramSnapshot) {
        if let Some(last) = self.changes.first_mut() {
            last.p95_after = last.p95_after(&self.at_check);
        }
        // Calls since the last look may have had either plan. They are left out, unless there are no others.
        let before_look = self.at_check.delta(&self.at_start);
        let known = if before_look.count > 0 {
            before_look
        } else {
            calls.delta(&self.at_start)
        };
        self.changes.insert(
            0,
            KeptChange {
                at,
                before,
                p95_before: known.quantile(0.95),
                calls: calls.clone(),
                p95_after: None,
            },
        );
        self.changes.truncate(MOST_CHANGES);
        self.at_start = calls.clone();
    }

    fn report(&self, calls: &HistogramSnapshot) -> PlanReport {
        let changes = self.changes.iter().enumerate();
        PlanReport {
            plan: self.plan.clone(),
            reason: self.reason.map(str::to_owned),
            changes: changes
                .map(|(index, change)| PlanChange {
                    at: change.at,
                    before: change.before.clone(),
                    p95_before: change.p95_before,
                    p95_after: if index == 0 {
                        change.p95_after(calls)
                    } else {
                        change.p95_after
                    },
                })
                .collect(),
        }
    }
}

impl KeptChange {
    /// The 95th percentile of the calls from the change on until `calls` were counted.
    fn p95_after(&self, calls: &HistogramSnapshot) -> Option<f64> {
        let after = calls.delta(&self.calls);
        after.quantile(0.95).filter(|_| after.count > 0)
    }
}

#[cfg(test)]
mod tests;
