//! Which statement of a pool is explained next, and what follows from the answer.

use std::collections::{HashMap, HashSet, VecDeque};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::flags;
use super::node::PlanStep;
use super::{Plan, Plans, postgres, sqlite};
use crate::database::explaining::{Answer, AskError, Asked};
use crate::database::plans::flags::PlanFlag;
use crate::database::sql::Dialect;
use crate::database::statements::{Statements, TextToExplain};

/// The statements of a pool that cost most, and are explained.
const DEAREST: usize = 50;

/// The time between two looks at all statements of a pool.
const LOOK: Duration = Duration::from_secs(10);

/// A plan is asked for again after this time, if the statement has run.
const RECHECK: Duration = Duration::from_secs(300);

/// The plan of a statement that has become slower or faster is asked for again at once, but not more often than this.
const RECHECK_TURNED: Duration = Duration::from_secs(30);

/// The plan of a statement that an operator looks at is asked for again, if it is older than this.
const RECHECK_WANTED: Duration = Duration::from_secs(2);

/// A statement turns slow or fast if the mean time of its calls changes by this factor between two looks.
const TURN: f64 = 2.0;

/// A statement is slow only if its calls take longer than this, in seconds.
const SLOW: f64 = 0.005;

/// A mean of fewer calls says little.
const FEWEST_CALLS: u64 = 5;

/// As many statements in a row that the role may not explain, and none that it may, turn the plans of a pool off.
const MOST_DENIED: u32 = 3;

/// Explains the statements of one pool. The explaining thread owns it.
pub(in crate::database) struct Study {
    pool: Arc<str>,
    dialect: Dialect,
    plans: Plans,
    statements: Statements,
    seen: HashMap<NonZeroU32, Seen>,
    due: VecDeque<NonZeroU32>,
    looked: Option<Instant>,
    /// The version of the server, once it is known.
    version: Option<u32>,
    /// Statements in a row that the role may not explain; `None` once it may explain one.
    denied: Option<u32>,
}

/// What was seen of a statement.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// At the last look.
    calls: u64,
    seconds: f64,
    /// The mean time of the calls before that.
    mean: Option<f64>,
    /// When it was last explained, and how many calls there were.
    explained: Option<(Instant, u64)>,
}

impl Study {
    /// Explains the statements of this pool. `None` if nothing is explained.
    pub(in crate::database) fn new(
        pool: &Arc<str>,
        dialect: Dialect,
        plans: &Plans,
        statements: &Statements,
    ) -> Option<Self> {
        if !plans.are_on() {
            return None;
        }
        let reason = match dialect {
            Dialect::PostgreSql | Dialect::Sqlite => None,
            Dialect::MySql => {
                Some("MySQL and MariaDB plan a statement only with the values of a call")
            }
            Dialect::Unknown => Some(
                "the database of this pool is not known: name it with the builder's method system",
            ),
        };
        if let Some(reason) = reason {
            plans.turn_off(pool, reason);
            return None;
        }
        Some(Self {
            pool: Arc::clone(pool),
            dialect,
            plans: plans.clone(),
            statements: statements.clone(),
            seen: HashMap::new(),
            due: VecDeque::new(),
            looked: None,
            version: None,
            denied: Some(0),
        })
    }

    /// Whether plans were turned off for this pool, so that nothing more is explained.
    pub(in crate::database) fn is_off(&self) -> bool {
        self.plans.is_off(&self.pool)
    }

    /// Whether a statement waits to be explained.
    pub(in crate::database) fn is_due(&self) -> bool {
        !self.due.is_empty() || self.plans.has_wanted(&self.pool)
    }

    /// The time until the next look at all statements.
    pub(in crate::database) fn until_look(&self, now: Instant) -> Duration {
        self.looked.map_or(Duration::ZERO, |looked| {
            LOOK.saturating_sub(now.saturating_duration_since(looked))
        })
    }

    /// The statement that is to be explained now.
    pub(in crate::database) fn next(&mut self, now: Instant) -> Option<NonZeroU32> {
        for number in self.plans.take_wanted(&self.pool) {
            if self
                .age(number, now)
                .is_none_or(|age| age >= RECHECK_WANTED)
            {
                self.due.retain(|due| *due != number);
                self.due.push_front(number);
            }
        }
        if self.until_look(now).is_zero() {
            self.looked = Some(now);
            self.look(now);
        }
        self.due.pop_front()
    }

    /// How long ago a statement was explained.
    fn age(&self, number: NonZeroU32, now: Instant) -> Option<Duration> {
        let (explained, _) = self.seen.get(&number)?.explained?;
        Some(now.saturating_duration_since(explained))
    }

    /// Looks at all statements of the pool, for those that are dear or turn slow.
    fn look(&mut self, now: Instant) {
        let mut costs = self.statements.costs(&self.pool);
        self.plans.forget_others(&self.statements);
        let numbers: HashSet<_> = costs.iter().map(|cost| cost.number).collect();
        self.seen.retain(|number, _| numbers.contains(number));
        costs.sort_by(|one, other| other.seconds.total_cmp(&one.seconds));
        for (rank, cost) in costs.iter().enumerate() {
            let seen = self.seen.entry(cost.number).or_default();
            let has_turned = seen.look(cost.calls, cost.seconds);
            let after = if has_turned { RECHECK_TURNED } else { RECHECK };
            let is_due = match seen.explained {
                None => rank < DEAREST || has_turned,
                Some((at, calls)) => {
                    (rank < DEAREST || has_turned)
                        && calls != cost.calls
                        && now.saturating_duration_since(at) >= after
                }
            };
            if is_due && cost.is_explainable && !self.due.contains(&cost.number) {
                if has_turned {
                    self.due.push_front(cost.number);
                } else {
                    self.due.push_back(cost.number);
                }
            }
        }
    }

    /// Asks for the plan of a statement. The connection is within a transaction that will be rolled back.
    pub(in crate::database) fn explain(
        &mut self,
        number: NonZeroU32,
        connection: &mut dyn Asked,
    ) -> Answer<()> {
        let Some(text) = self.statements.text_to_explain(number) else {
            return Ok(());
        };
        let Ok(sql) = &text.sql else {
            return Ok(());
        };
        let answer = self.ask(sql, connection);
        self.took(number, &text, answer)
    }

    /// Notes the answer of the database, or that it gave none.
    fn took(
        &mut self,
        number: NonZeroU32,
        text: &TextToExplain,
        answer: Answer<Option<(PlanStep, Vec<PlanFlag>)>>,
    ) -> Answer<()> {
        let seen = self.seen.entry(number).or_default();
        seen.explained = Some((Instant::now(), text.calls.count));
        let (root, plan_flags) = match answer {
            Ok(Some(plan)) => plan,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.failed(error);
                self.plans
                    .keep(number, Err(error.reason()), text.calls.clone());
                return Err(error);
            }
        };
        self.denied = None;
        let now = SystemTime::now();
        let plan = Plan {
            fingerprint: root.fingerprint(),
            root,
            flags: plan_flags,
            since: now,
            checked: now,
        };
        if self.plans.keep(number, Ok(plan), text.calls.clone()) {
            self.plans.log_change(&self.pool, number, &text.shape);
        }
        Ok(())
    }

    /// Notes that a statement could not be explained, before or after it was asked for.
    pub(in crate::database) fn unasked(&mut self, number: NonZeroU32, error: AskError) {
        if let Some(text) = self.statements.text_to_explain(number) {
            // The error was logged by the caller.
            let _noted = self.took(number, &text, Err(error));
        }
    }

    fn failed(&mut self, error: AskError) {
        match (error, &mut self.denied) {
            (AskError::Denied, Some(denied)) => {
                *denied += 1;
                if *denied >= MOST_DENIED {
                    self.plans.turn_off(
                        &self.pool,
                        "the role that the pool connects as may not explain its statements: the application may set another role afterwards",
                    );
                }
            }
            // The server may be another one when it is back.
            (AskError::Unreachable, _) => self.version = None,
            _ => {}
        }
    }

    /// The plan of a text, with its flags. `None` if there are no plans in this pool.
    fn ask(
        &mut self,
        sql: &str,
        connection: &mut dyn Asked,
    ) -> Answer<Option<(PlanStep, Vec<PlanFlag>)>> {
        if self.dialect == Dialect::Sqlite {
            if !sqlite::is_file(connection)? {
                self.plans.turn_off(
                    &self.pool,
                    "the database is in memory, where another connection does not see it",
                );
                return Ok(None);
            }
            let (mut plan, facts) = sqlite::explain(connection, sql)?;
            flags::fill_in(&mut plan, &facts);
            let found = flags::of_sqlite(&plan, sql, &facts);
            return Ok(Some((plan, found)));
        }
        let version = match self.version {
            Some(version) => version,
            None => postgres::version(connection)?,
        };
        self.version = Some(version);
        let (mut plan, facts) = postgres::explain(connection, version, sql)?;
        flags::fill_in(&mut plan, &facts);
        let found = flags::of_postgres(&plan, &facts);
        Ok(Some((plan, found)))
    }
}

impl Seen {
    /// Takes the counts of a look. Returns whether the mean time of the calls has turned since the look before.
    fn look(&mut self, calls: u64, seconds: f64) -> bool {
        let new = calls.saturating_sub(self.calls);
        if new < FEWEST_CALLS {
            return false;
        }
        let mean = (seconds - self.seconds) / new as f64;
        let before = self.mean.replace(mean);
        (self.calls, self.seconds) = (calls, seconds);
        before.is_some_and(|before| {
            let (less, more) = (before.min(mean), before.max(mean));
            more >= SLOW && more >= TURN * less
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_turns_when_its_calls_become_slower_or_faster() {
        let mut seen = Seen::default();
        for (calls, seconds, expected, why) in [
            (10, 0.1, false, "the first look"),
            (20, 0.2, false, "the same mean"),
            (22, 9.0, false, "two calls say little"),
            (30, 1.2, true, "ten times the mean"),
            (40, 2.2, false, "as slow as before"),
            (50, 2.3, true, "fast again"),
            (1_000, 2.31, true, "faster again"),
            (2_000, 2.4, false, "nine times the mean, but still fast"),
        ] {
            assert_eq!(seen.look(calls, seconds), expected, "{why}");
        }
    }
}
