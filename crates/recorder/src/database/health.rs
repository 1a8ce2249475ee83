//! Whether the database of a pool answers, as seen from its connections: openings, checkouts and returns.
//!
//! Contains [`DatabaseHealth`], which each pool has one of, and which logs an outage once. Nothing here asks the database.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::driver_message::without_values;
use crate::log_limit::LogLimit;

/// The least time between two log lines about pooled connections that are replaced, in milliseconds.
const REPLACED_PAUSE_MS: u64 = 60_000;

/// Logs when the health checks of a pool begin to fail, and when they pass again.
#[derive(Debug, Default)]
pub(super) struct HealthCheckLog {
    failing: AtomicBool,
}

impl HealthCheckLog {
    /// Logs the result of a check, if it differs from the one before. No value of the error is logged.
    pub(super) fn note(&self, pool: &str, error: Option<&str>) {
        let was_failing = self.failing.swap(error.is_some(), Ordering::Relaxed);
        match error {
            Some(error) if !was_failing => {
                let error = without_values(error);
                tracing::warn!(pool, error, "the database fails a health check");
            }
            None if was_failing => {
                tracing::info!(pool, "the database passes its health check again");
            }
            _ => {}
        }
    }
}

/// Whether the database of one pool answers.
#[derive(Debug)]
pub(super) struct DatabaseHealth {
    /// The name of the pool, for the log. A copy: the name itself is free again when the pool is closed.
    pool: OnceLock<Box<str>>,
    /// The last attempt to open or check a connection failed.
    failing: AtomicBool,
    /// The log has a line that connections cannot be opened.
    outage_logged: AtomicBool,
    outage_lines: LogLimit,
    /// The log has a line that the database does not answer.
    silent: AtomicBool,
    /// The log has a line that a recorder was replaced.
    recorder_replaced: AtomicBool,
    created: Instant,
    /// When the database last answered, in milliseconds since `created`; `u64::MAX` before the first answer.
    answered_ms: AtomicU64,
    /// When a rejected ping was last logged, in the same form.
    rejected_ping_ms: AtomicU64,
    /// When a lost connection was last logged, in the same form.
    lost_ms: AtomicU64,
}

impl Default for DatabaseHealth {
    fn default() -> Self {
        Self {
            pool: OnceLock::new(),
            failing: AtomicBool::new(false),
            outage_logged: AtomicBool::new(false),
            outage_lines: LogLimit::new(),
            silent: AtomicBool::new(false),
            recorder_replaced: AtomicBool::new(false),
            created: Instant::now(),
            answered_ms: AtomicU64::new(u64::MAX),
            rejected_ping_ms: AtomicU64::new(u64::MAX),
            lost_ms: AtomicU64::new(u64::MAX),
        }
    }
}

impl DatabaseHealth {
    /// Sets the name of the pool, once.
    pub(super) fn of_pool(&self, name: &str) {
        self.pool.get_or_init(|| name.into());
    }

    /// The name of the pool.
    pub(super) fn pool(&self) -> &str {
        self.pool.get().map_or("", |name| name)
    }

    /// Notes that the database has just answered.
    pub(super) fn answered(&self) {
        self.answered_ms.store(self.elapsed_ms(), Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) && self.silent.swap(false, Ordering::Relaxed) {
            tracing::info!(pool = self.pool(), "the database answers again");
        }
    }

    /// Notes that a caller or a probe waited for `waited` without an answer. Logs, once, a database that has answered
    /// nobody in that time.
    pub(super) fn unanswered(&self, waited: Duration) {
        if !self.failing()
            && !self.answered_within(waited)
            && !self.silent.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(pool = self.pool(), ?waited, "the database does not answer");
        }
    }

    /// Whether the log has a line that the database does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Whether the database has answered within the last `period`.
    pub(super) fn answered_within(&self, period: Duration) -> bool {
        let answered = self.answered_ms.load(Ordering::Relaxed);
        let age = (self.created.elapsed()).checked_sub(Duration::from_millis(answered));
        answered != u64::MAX && age.unwrap_or_default() <= period
    }

    /// Whether the last attempt to open or check a connection failed.
    pub(super) fn failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Notes that a connection was opened or passed its check.
    pub(super) fn recovered(&self) {
        self.answered();
        if self.failing() {
            self.failing.store(false, Ordering::Release);
            if self.outage_logged.swap(false, Ordering::Relaxed) {
                tracing::info!(pool = self.pool(), "the database accepts connections again");
            }
        }
    }

    /// Notes that a connection could not be opened. Logs an outage once, and many outages in a row not each.
    pub(super) fn failed(&self, error: &str) {
        self.failing.store(true, Ordering::Release);
        if !self.outage_logged.load(Ordering::Relaxed)
            && let Some(line) = self.outage_lines.line()
            && !self.outage_logged.swap(true, Ordering::Relaxed)
        {
            let error = without_values(error);
            tracing::warn!(
                pool = self.pool(),
                error,
                left_out = line.left_out,
                "no connection to the database; trying again"
            );
        }
    }

    /// Notes that the check of a pooled connection found it lost. Logs it at most once a minute.
    ///
    /// The pool opens another one. If that fails, it is an outage.
    pub(super) fn lost(&self, error: &str) {
        self.failing.store(true, Ordering::Release);
        if self.is_line_due(&self.lost_ms) {
            let error = without_values(error);
            tracing::warn!(
                pool = self.pool(),
                error,
                "a pooled connection to the database was lost, and is replaced"
            );
        }
    }

    /// Notes that the database answered the ping of a connection with an error. Logs it at most once a minute.
    ///
    /// Such a database is up: the pool replaces the connection, and the caller gets another one. This happens when a
    /// connection pooler or an administrator has dropped the prepared statements of a session.
    pub(super) fn ping_rejected(&self, error: &str) {
        if self.is_line_due(&self.rejected_ping_ms) {
            let error = without_values(error);
            tracing::warn!(
                pool = self.pool(),
                error,
                "the database refuses the ping of a pooled connection, which is replaced"
            );
        }
    }

    /// Whether the last line of a kind was long ago. It is now if so.
    fn is_line_due(&self, logged: &AtomicU64) -> bool {
        let now = self.elapsed_ms();
        let last = logged.load(Ordering::Relaxed);
        let is_due = last == u64::MAX || now.saturating_sub(last) >= REPLACED_PAUSE_MS;
        let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
        is_due && logged.compare_exchange(last, now, success, failure).is_ok()
    }

    /// Notes that a connection has lost its recorder. Logs it once for each pool.
    #[cold]
    pub(super) fn recorder_is_replaced(&self) {
        if !self.recorder_replaced.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                pool = self.pool(),
                "the recorder of a pooled connection was replaced, and its queries are not recorded: \
                 use actix_vitals::database::set_instrumentation in place of Connection::set_instrumentation"
            );
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.created.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}
