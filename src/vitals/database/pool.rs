//! The pool of connections: who gets one, who waits, and who is turned away.
//!
//! Here: [`Pool`], its [`PoolBuilder`], and [`Levels`], which reads how full the pools are when somebody looks. Not here:
//! how a connection is opened, or what is recorded of what it does.
//!
//! Two ways lead to a connection. [`Pool::get`] blocks the thread that calls it. [`Pool::run`] is for the event loop: it
//! waits in line without a thread, then runs the work on a blocking thread. The line admits as many as the pool has
//! connections, so that no more blocking threads are taken than can do something, and it has an end: whoever comes when it
//! is full is turned away at once.
//!
//! Every wait is measured once, as its caller feels it: from the call until the connection is there, however much of that
//! was in line, before a thread was free, or in r2d2. It also goes to the tally of the request that it was for. A wait that ended at the timeout is observed as well, for the worst
//! waits must not be missing from the histogram. A caller who was turned away did not wait; one who left (its future was
//! dropped) does not count as a waiter from that moment on, and its wait is not observed.
//!
//! Of r2d2's events only the check-in is used: its checkout and timeout know of a part of the wait.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::ops::Add;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use diesel::r2d2::{
    self, ConnectionManager, HandleEvent, PooledConnection, R2D2Connection, event::CheckinEvent,
};
use prometheus::proto::MetricFamily;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::registry::{Collector, FamilyDescription, Unit};
use crate::vitals::context;
use crate::vitals::naming::Naming;
use crate::vitals::reading::Reading;

use super::families::{Families, POOL_NAME};
use super::manager::{Health, Manager, Opener, OutageLog};
use super::metrics::{Metrics, PoolMetrics};
use super::recorder::{Recorder, record_error};
use super::statements::Statements;
use super::system::system_of;

/// How many callers may stand in line, unless set otherwise.
const DEFAULT_MAX_WAITERS: usize = 1024;

/// What a pool is called, unless set otherwise.
const DEFAULT_NAME: &str = "default";

/// A connection out of a [`Pool`]; it goes back when dropped.
pub type Connection<C> = PooledConnection<Manager<C>>;

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckoutError {
    /// All connections were in use until the pool's timeout.
    #[error("no connection to the database was free within the pool's timeout")]
    Timeout,
    /// The database could not be reached until the pool's timeout. The log has the cause.
    #[error("the database cannot be reached")]
    Unavailable,
}

/// Why [`Pool::run`] has no result.
#[derive(Debug, thiserror::Error)]
pub enum RunError<E: Error + 'static> {
    /// The line was full: the work was refused at once.
    #[error("too many callers wait for a connection to the database")]
    Saturated,
    /// All connections were in use until the pool's timeout.
    #[error("no connection to the database was free within the pool's timeout")]
    Timeout,
    /// The database could not be reached until the pool's timeout. The log has the cause.
    #[error("the database cannot be reached")]
    Unavailable,
    /// The work ran and failed.
    #[error(transparent)]
    Query(E),
    /// The work panicked; its connection was closed.
    #[error("the work on the database panicked")]
    Panicked,
    /// The runtime was shut down before the work could begin.
    #[error("the runtime was shut down")]
    Cancelled,
}

impl<E: Error + 'static> From<CheckoutError> for RunError<E> {
    fn from(error: CheckoutError) -> Self {
        match error {
            CheckoutError::Timeout => Self::Timeout,
            CheckoutError::Unavailable => Self::Unavailable,
        }
    }
}

/// Makes an instrumented [`Pool`].
pub struct PoolBuilder<C>
where
    C: R2D2Connection + Send + 'static,
{
    builder: r2d2::Builder<Manager<C>>,
    families: Families,
    statements: Statements,
    levels: Levels,
    name: String,
    system: &'static str,
    max_waiters: usize,
    opener: Option<Opener<C>>,
}

impl<C> fmt::Debug for PoolBuilder<C>
where
    C: R2D2Connection + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("max_waiters", &self.max_waiters)
            .finish_non_exhaustive()
    }
}

impl<C> PoolBuilder<C>
where
    C: R2D2Connection + Send + 'static,
{
    /// A pool with the settings of `builder`, whose levels `levels` will read.
    pub(super) fn new(
        builder: r2d2::Builder<Manager<C>>,
        families: Families,
        statements: Statements,
        levels: Levels,
    ) -> Self {
        Self {
            builder,
            families,
            statements,
            levels,
            name: DEFAULT_NAME.to_owned(),
            system: system_of::<C>(),
            max_waiters: DEFAULT_MAX_WAITERS,
            opener: None,
        }
    }

    /// Opens connections with `open`, in place of the connection manager with its URL.
    ///
    /// For an enum of Diesel's `MultiConnection`: its own way is to try each database in turn, and to tell nothing of what
    /// any of them said. What `open` does with a new connection before it returns it is not recorded.
    #[must_use]
    pub fn opener(
        mut self,
        open: impl Fn() -> diesel::ConnectionResult<C> + Send + Sync + 'static,
    ) -> Self {
        self.opener = Some(Box::new(open));
        self
    }

    /// What the pool is called where the naming tells pools apart, as OpenTelemetry's does: `default` unless set. Pools
    /// of one name are counted together.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Which database it is where the naming tells them apart, as OpenTelemetry's does: by Diesel's backend unless set, and
    /// `other_sql` where that does not tell.
    #[must_use]
    pub fn system(mut self, name: &'static str) -> Self {
        self.system = name;
        self
    }

    /// How many callers of [`Pool::run`] may stand in line for a connection; 1024 unless set. With 0, whoever would have to
    /// wait is refused.
    #[must_use]
    pub fn max_waiters(mut self, max_waiters: usize) -> Self {
        self.max_waiters = max_waiters;
        self
    }

    /// Opens the pool, and waits until its first connections are open.
    ///
    /// # Errors
    ///
    /// When they are not within the pool's timeout.
    pub fn build(self, manager: ConnectionManager<C>) -> Result<Pool<C>, CheckoutError> {
        let health = Arc::default();
        self.open(manager, &health, |builder, manager| {
            builder.build(manager).map_err(|_| failure(&health))
        })
    }

    /// Opens the pool without waiting for its connections: for a service that starts while its database is down.
    pub fn build_unchecked(self, manager: ConnectionManager<C>) -> Pool<C> {
        let opened =
            self.open::<std::convert::Infallible>(manager, &Arc::default(), |builder, manager| {
                Ok(builder.build_unchecked(manager))
            });
        match opened {
            Ok(pool) => pool,
            Err(never) => match never {},
        }
    }

    fn open<E>(
        self,
        manager: ConnectionManager<C>,
        health: &Arc<Health>,
        open: impl FnOnce(r2d2::Builder<Manager<C>>, Manager<C>) -> Result<r2d2::Pool<Manager<C>>, E>,
    ) -> Result<Pool<C>, E> {
        let metrics = Arc::new(PoolMetrics::new(&self.families, &self.name));
        let holds = Holds {
            metrics: Arc::clone(&metrics),
        };
        let log = OutageLog {
            health: Arc::clone(health),
        };
        let builder = self
            .builder
            .event_handler(Box::new(holds))
            .error_handler(Box::new(log));
        let manager = Manager::new(
            manager,
            self.opener,
            Arc::new(Metrics::new(&self.families, self.system)),
            Arc::clone(&metrics),
            self.statements,
            Arc::clone(health),
        );
        let pool = open(builder, manager)?;
        let shared = Arc::new(Shared {
            admission: Arc::new(Semaphore::new(pool.max_size() as usize)),
            line: Arc::new(Line {
                taken: AtomicUsize::new(0),
                places: self.max_waiters,
            }),
            pool,
            metrics,
            health: Arc::clone(health),
        });
        self.levels.add(self.name, &shared);
        Ok(Pool { shared })
    }
}

/// A pool of connections that tells how it is doing. Cheap to clone; the last clone closes it.
pub struct Pool<C>
where
    C: R2D2Connection + Send + 'static,
{
    shared: Arc<Shared<C>>,
}

impl<C> Clone for Pool<C>
where
    C: R2D2Connection + Send + 'static,
{
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
        }
    }
}

impl<C> fmt::Debug for Pool<C>
where
    C: R2D2Connection + Send + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("state", &self.shared.pool.state())
            .finish_non_exhaustive()
    }
}

impl<C> Pool<C>
where
    C: R2D2Connection + Send + 'static,
{
    /// A connection, waited for on this thread: never call it on an event loop.
    ///
    /// # Errors
    ///
    /// When there is none within the pool's timeout.
    pub fn get(&self) -> Result<Connection<C>, CheckoutError> {
        let shared = &self.shared;
        let wait = Wait::begin(&shared.metrics);
        let Ok(connection) = shared.pool.get() else {
            wait.timed_out();
            return Err(failure(&shared.health));
        };
        wait.served();
        Ok(connection)
    }

    /// Runs `work` with a connection on a blocking thread, with the context of the current request.
    ///
    /// Must be called in a Tokio runtime with its timer on, as every worker of Actix is. When the future is dropped before
    /// the work has begun, it does not begin; once begun, it runs to its end.
    ///
    /// An error of the database that `work` returns, or that is among the sources of the error it returns, is counted in
    /// `db_query_errors_total` even where Diesel does not report it; see [`record_error`].
    ///
    /// # Errors
    ///
    /// [`RunError::Query`] with the error of `work`; the others when it did not run, or panicked.
    pub async fn run<T, E, F>(&self, work: F) -> Result<T, RunError<E>>
    where
        F: FnOnce(&mut C) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Error + Send + 'static,
    {
        let shared = &self.shared;
        let (permit, caller) = shared.admit().await?;
        let task = {
            let shared = Arc::clone(shared);
            let wait = Arc::clone(&caller.wait);
            context::carry(move || {
                // Given back behind the connection, also when the work panics.
                let _permit = permit;
                shared.perform(work, &wait)
            })
        };
        match tokio::task::spawn_blocking(task).await {
            Ok(result) => result,
            Err(error) if error.is_panic() => Err(RunError::Panicked),
            Err(_) => Err(RunError::Cancelled),
        }
    }

    /// How many connections the pool opens at most.
    pub fn max_size(&self) -> u32 {
        self.shared.pool.max_size()
    }

    /// How long the pool lets its callers wait.
    pub fn timeout(&self) -> Duration {
        self.shared.pool.connection_timeout()
    }
}

struct Shared<C>
where
    C: R2D2Connection + Send + 'static,
{
    pool: r2d2::Pool<Manager<C>>,
    /// A permit for each connection.
    admission: Arc<Semaphore>,
    line: Arc<Line>,
    metrics: Arc<PoolMetrics>,
    health: Arc<Health>,
}

impl<C> Shared<C>
where
    C: R2D2Connection + Send + 'static,
{
    async fn admit(&self) -> Result<(OwnedSemaphorePermit, Caller), AdmissionError> {
        // Permits go to those in line first: nobody overtakes them here.
        if let Ok(permit) = Arc::clone(&self.admission).try_acquire_owned() {
            return Ok((permit, Caller::new(&self.metrics)));
        }
        let _place = Line::step_in(&self.line).ok_or(AdmissionError::Saturated)?;
        let caller = Caller::new(&self.metrics);
        let deadline = self.deadline(&caller.wait).into();
        let admission = Arc::clone(&self.admission).acquire_owned();
        // The semaphore is never closed: the inner result is always a permit.
        let Ok(Ok(permit)) = tokio::time::timeout_at(deadline, admission).await else {
            caller.wait.timed_out();
            return Err(AdmissionError::Checkout(failure(&self.health)));
        };
        Ok((permit, caller))
    }

    fn deadline(&self, wait: &Wait) -> Instant {
        let timeout = self.pool.connection_timeout();
        // A timeout beyond what the clock can tell is as good as a day.
        let far = Duration::from_secs(86_400);
        wait.started
            .checked_add(timeout)
            .unwrap_or_else(|| wait.started + far)
    }

    fn perform<T, E, F>(&self, work: F, wait: &Wait) -> Result<T, RunError<E>>
    where
        F: FnOnce(&mut C) -> Result<T, E>,
        E: Error + 'static,
    {
        if !wait.lasts() {
            return Err(RunError::Cancelled);
        }
        let patience = self
            .deadline(wait)
            .saturating_duration_since(Instant::now());
        let Ok(mut connection) = self.pool.get_timeout(patience) else {
            wait.timed_out();
            return Err(failure(&self.health).into());
        };
        if !wait.served() {
            return Err(RunError::Cancelled);
        }
        // What was done to the connection until now, such as setting it up, is not this caller's.
        if let Some(recorder) = Recorder::of(&mut *connection) {
            recorder.turn_over();
        }
        work(&mut connection).map_err(|error| {
            if let Some(error) = database_error(&error) {
                record_error(&mut *connection, error);
            }
            RunError::Query(error)
        })
    }
}

enum AdmissionError {
    Saturated,
    Checkout(CheckoutError),
}

impl<E: Error + 'static> From<AdmissionError> for RunError<E> {
    fn from(error: AdmissionError) -> Self {
        match error {
            AdmissionError::Saturated => Self::Saturated,
            AdmissionError::Checkout(error) => error.into(),
        }
    }
}

fn failure(health: &Health) -> CheckoutError {
    if health.failing() {
        CheckoutError::Unavailable
    } else {
        CheckoutError::Timeout
    }
}

/// The error of the database in an error, or among its sources.
fn database_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a diesel::result::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The line in front of the pool.
struct Line {
    taken: AtomicUsize,
    places: usize,
}

/// A place in the line.
struct Place(Arc<Line>);

impl Line {
    fn step_in(line: &Arc<Self>) -> Option<Place> {
        line.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < line.places).then_some(taken + 1)
            })
            .ok()
            .map(|_| Place(Arc::clone(line)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Somebody waiting for a connection. It ends once: by getting one, by the timeout, or by leaving.
struct Wait {
    started: Instant,
    over: AtomicBool,
    metrics: Arc<PoolMetrics>,
}

impl Wait {
    fn begin(metrics: &Arc<PoolMetrics>) -> Self {
        metrics.waiters.inc();
        Self {
            started: Instant::now(),
            over: AtomicBool::new(false),
            metrics: Arc::clone(metrics),
        }
    }

    fn lasts(&self) -> bool {
        !self.over.load(Ordering::Acquire)
    }

    /// Whether this is what ended it.
    fn end(&self) -> bool {
        let ended = !self.over.swap(true, Ordering::AcqRel);
        if ended {
            self.metrics.waiters.dec();
        }
        ended
    }

    /// The connection is there; the answer is whether anybody still waits for it.
    fn served(&self) -> bool {
        let ended = self.end();
        if ended {
            self.observe();
        }
        ended
    }

    fn timed_out(&self) {
        if self.end() {
            self.metrics.timeouts.inc();
            self.observe();
        }
    }

    fn observe(&self) {
        let waited = self.started.elapsed();
        let span = context::add_pool_wait(waited);
        self.metrics
            .wait_seconds
            .observe_with(waited.as_secs_f64(), span.as_ref());
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        self.end();
    }
}

/// The caller's end of a wait: it leaves when this is dropped.
struct Caller {
    wait: Arc<Wait>,
}

impl Caller {
    fn new(metrics: &Arc<PoolMetrics>) -> Self {
        Self {
            wait: Arc::new(Wait::begin(metrics)),
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        self.wait.end();
    }
}

/// Observes how long connections were out.
#[derive(Debug)]
struct Holds {
    metrics: Arc<PoolMetrics>,
}

impl HandleEvent for Holds {
    fn handle_checkin(&self, event: CheckinEvent) {
        let span = context::current_span();
        self.metrics
            .hold_seconds
            .observe_with(event.duration().as_secs_f64(), span.as_ref());
    }
}

/// What one pool, or several, hold at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    /// Connections in use.
    pub(crate) checked_out: u64,
    /// Connections that are open and free.
    pub(crate) idle: u64,
    /// Connections that are opened at most.
    pub(crate) max: u64,
}

impl Add for Level {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            checked_out: self.checked_out + other.checked_out,
            idle: self.idle + other.idle,
            max: self.max + other.max,
        }
    }
}

/// What can be asked of a pool of whatever connections.
trait AnyPool: Send + Sync {
    fn level(&self) -> Level;

    /// Whether the database answers on a connection of the pool.
    #[cfg(feature = "ops")]
    fn ping(self: Arc<Self>) -> Pinging;
}

/// A question to a database.
#[cfg(feature = "ops")]
type Pinging = std::pin::Pin<Box<dyn Future<Output = Result<(), Unanswered>>>>;

/// The database of a pool did not answer.
#[cfg(feature = "ops")]
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the database did not answer")]
pub(crate) struct Unanswered;

impl<C> AnyPool for Shared<C>
where
    C: R2D2Connection + Send + 'static,
{
    #[cfg(feature = "ops")]
    fn ping(self: Arc<Self>) -> Pinging {
        let pool = Pool { shared: self };
        Box::pin(async move {
            let answer = pool.run(|connection| {
                super::manager::mute(connection, true);
                let answer = connection.ping();
                super::manager::mute(connection, false);
                answer.map_err(|_| Unanswered)
            });
            answer.await.map_err(|_| Unanswered)
        })
    }

    fn level(&self) -> Level {
        let state = self.pool.state();
        let (connections, idle) = (state.connections, state.idle_connections);
        Level {
            checked_out: u64::from(connections.saturating_sub(idle)),
            idle: u64::from(idle),
            max: u64::from(self.pool.max_size()),
        }
    }
}

const CHECKED_OUT: Reading = Reading::gauge(
    "db_pool_checked_out_connections",
    Unit::None,
    "Connections of the pool that are in use; at the maximum for long, callers wait.",
);
const IDLE: Reading = Reading::gauge(
    "db_pool_idle_connections",
    Unit::None,
    "Connections of the pool that are open and free.",
);
const MAX: Reading = Reading::gauge(
    "db_pool_max_connections",
    Unit::None,
    "Connections that the pool opens at most.",
);

/// In use and free, together.
const COUNT: Reading = Reading::gauge(
    "db_client_connection_count",
    Unit::None,
    "Connections of the pool that are open, by whether they are used or idle; all used for long, callers wait.",
)
.labels(&[POOL_NAME, "db_client_connection_state"]);
const MAX_OF_POOL: Reading = Reading {
    name: "db_client_connection_max",
    ..MAX
}
.labels(&[POOL_NAME]);

/// Reads how full the pools are, when somebody looks. Pools of one name are added up, and all of them where the naming
/// does not tell pools apart; without any, there are no rows.
#[derive(Clone)]
pub(crate) struct Levels {
    naming: Naming,
    pools: Arc<Mutex<Vec<Named>>>,
}

/// A pool, as long as there is one.
struct Named {
    name: String,
    pool: Weak<dyn AnyPool>,
}

impl Levels {
    /// Of no pool yet.
    pub(super) fn new(naming: Naming) -> Self {
        Self {
            naming,
            pools: Arc::default(),
        }
    }

    fn add<C>(&self, name: String, pool: &Arc<Shared<C>>)
    where
        C: R2D2Connection + Send + 'static,
    {
        let pool = Arc::downgrade(pool);
        self.lock().push(Named { name, pool });
    }

    /// The levels now, by name.
    fn read(&self) -> BTreeMap<String, Level> {
        let pools: Vec<_> = {
            let mut pools = self.lock();
            pools.retain(|named| named.pool.strong_count() > 0);
            let living = pools
                .iter()
                .map(|named| Some((named.name.clone(), named.pool.upgrade()?)));
            living.flatten().collect()
        };
        let mut levels = BTreeMap::<_, Level>::new();
        for (name, pool) in pools {
            let sum = levels.entry(name).or_default();
            *sum = *sum + pool.level();
        }
        levels
    }

    /// All pools added up; nothing, where there are none.
    #[cfg(feature = "dashboard")]
    pub(crate) fn sum(&self) -> Option<Level> {
        self.read().into_values().reduce(Add::add)
    }

    /// Whether the database of every pool answers, on a connection of it.
    #[cfg(feature = "ops")]
    pub(crate) async fn ping(&self) -> Result<(), Unanswered> {
        let pools: Vec<_> = (self.lock().iter())
            .filter_map(|named| named.pool.upgrade())
            .collect();
        for pool in pools {
            pool.ping().await?;
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Named>> {
        self.pools.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Levels").finish_non_exhaustive()
    }
}

impl Collector for Levels {
    fn name(&self) -> &'static str {
        "database_pool"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        let readings: &[Reading] = match self.naming {
            Naming::Vitals => &[CHECKED_OUT, IDLE, MAX],
            Naming::OpenTelemetry => &[COUNT, MAX_OF_POOL],
        };
        readings.iter().map(Reading::describe).collect()
    }

    fn collect(&self, rows: &mut Vec<MetricFamily>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let pools = self.read();
        if pools.is_empty() {
            return Ok(());
        }
        match self.naming {
            Naming::Vitals => {
                let level = pools.into_values().fold(Level::default(), Add::add);
                rows.push(CHECKED_OUT.single(level.checked_out as f64));
                rows.push(IDLE.single(level.idle as f64));
                rows.push(MAX.single(level.max as f64));
            }
            Naming::OpenTelemetry => {
                let states = pools.iter().flat_map(|(name, level)| {
                    [("used", level.checked_out), ("idle", level.idle)]
                        .map(|(state, count)| ([name.as_str(), state], count))
                });
                let states: Vec<_> = states.collect();
                let states = states
                    .iter()
                    .map(|(values, count)| (&values[..], *count as f64));
                rows.push(COUNT.series(states));
                let most: Vec<_> = (pools.iter())
                    .map(|(name, level)| ([name.as_str()], level.max))
                    .collect();
                let most = most.iter().map(|(values, max)| (&values[..], *max as f64));
                rows.push(MAX_OF_POOL.series(most));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
