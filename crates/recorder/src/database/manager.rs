//! How the pool opens connections and looks whether they are alive.
//!
//! Here: the [`Manager`], which wraps Diesel's and gives each new connection its recorder. Not here: how many connections
//! there are, and who waits for one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use diesel::r2d2::{ConnectionManager, Error, HandleError, ManageConnection, R2D2Connection};
use diesel::{ConnectionError, ConnectionResult};

use super::error::ErrorKind;
use super::instrumentation::install;
use super::metrics::{Metrics, PoolMetrics};
use super::recorder::Recorder;
use super::sql::Dialect;
use super::statements::Statements;

/// The least time between two lines of the log about refused pings, in milliseconds.
const REFUSED_LOG_PAUSE_MS: u64 = 60_000;

/// What opens a connection in place of `C::establish`.
pub(super) type Opener<C> = Box<dyn Fn() -> ConnectionResult<C> + Send + Sync>;

/// Opens connections: with the opener, or with Diesel's manager where there is none.
pub(super) struct Connector<C> {
    inner: ConnectionManager<C>,
    opener: Option<Opener<C>>,
}

impl<C: R2D2Connection + Send + 'static> Connector<C> {
    pub(super) fn new(inner: ConnectionManager<C>, opener: Option<Opener<C>>) -> Self {
        Self { inner, opener }
    }

    /// Opens a connection. A panic is an error: r2d2 would wait for the connection for good, and have one less.
    pub(super) fn open(&self) -> Result<C, Error> {
        catch_unwind(AssertUnwindSafe(|| match &self.opener {
            Some(open) => open().map_err(Error::ConnectionError),
            None => self.inner.connect(),
        }))
        .unwrap_or_else(|_| {
            let panicked = "the opening of a connection panicked".to_owned();
            Err(Error::ConnectionError(ConnectionError::BadConnection(
                panicked,
            )))
        })
    }
}

/// Diesel's connection manager, timed and counted.
///
/// The ping with which r2d2 looks whether a connection is alive is no query of anybody's: it is not recorded, well or not.
pub struct Manager<C> {
    connector: Arc<Connector<C>>,
    metrics: Arc<Metrics>,
    pool_metrics: Arc<PoolMetrics>,
    statements: Statements,
    dialect: Dialect,
    health: Arc<Health>,
}

impl<C> Manager<C> {
    /// A manager of the connections that `connector` opens.
    pub(super) fn new(
        connector: Arc<Connector<C>>,
        metrics: Arc<Metrics>,
        pool_metrics: Arc<PoolMetrics>,
        statements: Statements,
        dialect: Dialect,
        health: Arc<Health>,
    ) -> Self {
        Self {
            connector,
            metrics,
            pool_metrics,
            statements,
            dialect,
            health,
        }
    }
}

impl<C> fmt::Debug for Manager<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manager")
            .field("inner", &self.connector.inner)
            .finish_non_exhaustive()
    }
}

impl<C> ManageConnection for Manager<C>
where
    C: R2D2Connection + Send + 'static,
{
    type Connection = C;
    type Error = Error;

    fn connect(&self) -> Result<C, Error> {
        let started = Instant::now();
        match self.connector.open() {
            Ok(mut connection) => {
                self.pool_metrics.opened(started.elapsed());
                self.health.recovered();
                let metrics = Arc::clone(&self.metrics);
                let recorder = Recorder::of_pool(metrics, self.statements.clone(), self.dialect);
                install(&mut connection, recorder);
                Ok(connection)
            }
            Err(error) => {
                self.pool_metrics.open_errors.inc();
                Err(error)
            }
        }
    }

    fn is_valid(&self, connection: &mut C) -> Result<(), Error> {
        mute(connection, true);
        let alive = self.connector.inner.is_valid(connection);
        mute(connection, false);
        if alive.is_ok() {
            self.health.recovered();
        }
        alive
    }

    fn has_broken(&self, connection: &mut C) -> bool {
        if let Some(recorder) = Recorder::of(connection) {
            if recorder.was_answered() {
                self.health.answered();
            }
            recorder.turn_over();
        }
        self.connector.inner.has_broken(connection)
    }
}

/// Has the connection's recorder look away, or back.
pub(super) fn mute<C: R2D2Connection>(connection: &mut C, muted: bool) {
    if let Some(recorder) = Recorder::of(connection) {
        recorder.mute(muted);
    }
}

/// Whether the database answers, as seen from openings, checkouts and returned connections.
#[derive(Debug)]
pub(super) struct Health {
    failing: AtomicBool,
    /// Whether the log has that the database does not answer.
    silent: AtomicBool,
    /// Whether the replacement of a recorder was logged.
    replaced: AtomicBool,
    made: Instant,
    /// When the database last answered, in milliseconds since `made`; none is `u64::MAX`.
    answered: AtomicU64,
    /// When the log last had a refused ping, likewise.
    refused: AtomicU64,
}

impl Default for Health {
    fn default() -> Self {
        Self {
            failing: AtomicBool::new(false),
            silent: AtomicBool::new(false),
            replaced: AtomicBool::new(false),
            made: Instant::now(),
            answered: AtomicU64::new(u64::MAX),
            refused: AtomicU64::new(u64::MAX),
        }
    }
}

impl Health {
    /// The database has answered just now.
    fn answered(&self) {
        self.answered.store(self.since_made(), Ordering::Relaxed);
        if self.silent.load(Ordering::Relaxed) && self.silent.swap(false, Ordering::Relaxed) {
            tracing::info!("the database answers again");
        }
    }

    /// A caller or a probe waited in vain for this long. Logs a database that has not answered anybody since, once.
    pub(super) fn unanswered(&self, waited: Duration) {
        if !self.failing()
            && !self.answered_within(waited)
            && !self.silent.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(?waited, "the database does not answer");
        }
    }

    /// Whether the log has that the database does not answer.
    pub(super) fn is_silent(&self) -> bool {
        self.silent.load(Ordering::Relaxed)
    }

    /// Whether the database has answered within this time.
    pub(super) fn answered_within(&self, period: Duration) -> bool {
        let answered = self.answered.load(Ordering::Relaxed);
        let age = (self.made.elapsed()).checked_sub(Duration::from_millis(answered));
        answered != u64::MAX && age.unwrap_or_default() <= period
    }

    /// Whether the last attempt failed.
    pub(super) fn failing(&self) -> bool {
        self.failing.load(Ordering::Acquire)
    }

    /// Notes that a connection has lost its recorder. Logs it once for each pool.
    #[cold]
    pub(super) fn recorder_is_replaced(&self) {
        if !self.replaced.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the recorder of a pooled connection was replaced, and its queries are not recorded: \
                 use actix_vitals::database::set_instrumentation in place of Connection::set_instrumentation"
            );
        }
    }

    /// The database refused the ping of a connection. The log has it once a minute.
    fn connection_is_replaced(&self, error: &Error) {
        let now = self.since_made();
        let last = self.refused.load(Ordering::Relaxed);
        let is_due = last == u64::MAX || now.saturating_sub(last) >= REFUSED_LOG_PAUSE_MS;
        let exchange = || {
            let (success, failure) = (Ordering::Relaxed, Ordering::Relaxed);
            self.refused
                .compare_exchange(last, now, success, failure)
                .is_ok()
        };
        if is_due && exchange() {
            let error = without_quotations(&error.to_string());
            tracing::warn!(
                error,
                "the database refuses the ping of a pooled connection, which is replaced"
            );
        }
    }

    fn since_made(&self) -> u64 {
        u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn recovered(&self) {
        self.answered();
        if self.failing() && self.failing.swap(false, Ordering::AcqRel) {
            tracing::info!("the database accepts connections again");
        }
    }
}

/// Logs when the database stops answering: once, however often the pool tries again. The counters have the rest.
///
/// A database that refuses the ping of a connection answers. The pool replaces that connection, and its caller waits for
/// another one. So it is where a pooler or an administrator took the prepared statements from a session.
#[derive(Debug)]
pub(super) struct OutageLog {
    /// What the manager keeps, too.
    pub(super) health: Arc<Health>,
}

impl HandleError<Error> for OutageLog {
    fn handle_error(&self, error: Error) {
        if let Error::QueryError(refused) = &error
            && ErrorKind::of(refused) == Some(ErrorKind::Other)
        {
            self.health.connection_is_replaced(&error);
            return;
        }
        if !self.health.failing.swap(true, Ordering::AcqRel) {
            let error = without_quotations(&error.to_string());
            tracing::warn!(error, "no connection to the database; trying again");
        }
    }
}

/// A message of a driver without what stands in double quotes. There libpq repeats what it could not understand of the
/// URL, and that may be part of a password.
pub fn without_quotations(message: &str) -> String {
    let mut kept = String::with_capacity(message.len());
    for (index, part) in message.trim_end().split('"').enumerate() {
        if index % 2 == 0 {
            kept.push_str(part);
        } else {
            kept.push_str("\"…\"");
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_url_reaches_the_log() {
        for (message, kept) in [
            ("connection refused", "connection refused"),
            (
                "could not translate host name \"pa@ss\" to address: no\n",
                "could not translate host name \"…\" to address: no",
            ),
            (
                "invalid port number: \"secret\"",
                "invalid port number: \"…\"",
            ),
            ("unterminated \"secret", "unterminated \"…\""),
            ("\"a\" and \"b\"", "\"…\" and \"…\""),
        ] {
            assert_eq!(without_quotations(message), kept);
        }
    }
}
