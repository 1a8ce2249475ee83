//! The pool: how a caller gets a connection, on its own thread or from the event loop.

use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use diesel::r2d2::{self, PooledConnection, R2D2Connection};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::super::checks::checking_all;
use super::super::manager::Manager;
use super::super::recorder::{QueryRecorder, record_error};
use super::error::{CheckoutError, QueryError, RunError, failure};
use super::probe::PoolProbe;
use super::wait_queue::{Added, Entry, QueuePosition, WaitQueue, Work};
use crate::database::explaining::Explainer;
use crate::database::health::DatabaseHealth;
use crate::database::levels::{AnyPool, Pinging, PoolLevel, Unanswered};
use crate::database::metrics::{PoolMetrics, Rejection};
use crate::database::wait::{self, Caller, Wait, WaitEnd};
use crate::{
    clock::{self, Moment},
    context,
};

/// A connection of a [`Pool`]. It is returned to the pool when dropped.
pub type Connection<C> = PooledConnection<Manager<C>>;

/// A pool of connections that records its waits, holds and errors. Cheap to clone; dropping the last clone closes it.
pub struct Pool<C>
where
    C: R2D2Connection + Send + 'static,
{
    shared: Arc<PoolInner<C>>,
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
    /// Wraps a pool of r2d2, with a wait queue of this capacity.
    pub(super) fn new(
        pool: r2d2::Pool<Manager<C>>,
        metrics: Arc<PoolMetrics>,
        health: Arc<DatabaseHealth>,
        max_waiters: usize,
        name: Arc<str>,
        probe: PoolProbe<C>,
        explainer: Arc<Explainer>,
    ) -> Self {
        Self {
            shared: Arc::new(PoolInner {
                name,
                queue: WaitQueue::new(pool.max_size() as usize, max_waiters),
                pool,
                metrics,
                health,
                probe,
                _explainer: explainer,
            }),
        }
    }

    /// A weak handle for the collector of levels.
    pub(super) fn watched(&self) -> Weak<dyn AnyPool> {
        Arc::downgrade(&self.shared) as Weak<dyn AnyPool>
    }

    /// Gets a connection, and blocks this thread until there is one. Never call it on an event loop.
    ///
    /// # Errors
    ///
    /// If no connection is free within the pool's timeout.
    #[track_caller]
    pub fn get(&self) -> Result<Connection<C>, CheckoutError> {
        let shared = &self.shared;
        let taken = wait::take_idle(|| shared.pool.try_get()).or_else(|since| {
            let wait = Wait::begin(&shared.metrics, since, true);
            if let Ok(connection) = shared.pool.get_timeout(shared.patience(since)) {
                return Ok((connection, wait.over()));
            }
            wait.timed_out();
            Err(failure(&shared.health))
        });
        let (mut connection, wait) = taken?;
        shared.check_out(&mut connection, &wait, Location::caller());
        Ok(connection)
    }

    /// Runs `work` with a connection on a blocking thread, with the context of the current request.
    ///
    /// Needs a Tokio runtime with a timer, which every worker of Actix has. If the future is dropped before the work has
    /// started, the work does not run; work that has started runs to its end.
    ///
    /// The error of `work` may be of any type that is `Send`: see [`QueryError`]. If it is an error of the database, or has
    /// one among its sources, that error is counted in `db_query_errors_total` even if Diesel does not report it; see
    /// [`record_error`].
    ///
    /// # Errors
    ///
    /// [`RunError::Query`] with the error of `work`; the others if it did not run or panicked.
    #[track_caller]
    pub fn run<T, E, Kind>(
        &self,
        work: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, RunError<E>>>
    where
        T: Send + 'static,
        E: QueryError<Kind>,
    {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        self.run_for(move |shared, wait| shared.perform(work, wait, taken_at))
    }

    /// Runs `work`, which only reads, like [`run`](Self::run), and runs it again if its connection is lost.
    ///
    /// `work` runs at most twice, the second time on a connection that was checked. It does not run again if it has run any
    /// other statement than `SELECT`s and transaction control, or if the pool's timeout has passed. A `SELECT` with a
    /// data-modifying expression in its `WITH`, or with `INTO`, counts as another statement. So does one with a column
    /// called `update`, `insert`, `delete` or `merge`, unless its name is in quotes, as Diesel writes it. A function that
    /// writes, as in `SELECT nextval(…)`, is not noticed. Each statement that was sent is counted, and so is the error of
    /// the lost connection.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    #[track_caller]
    pub fn read<T, E, Kind>(
        &self,
        work: impl FnMut(&mut C) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, RunError<E>>>
    where
        T: Send + 'static,
        E: QueryError<Kind>,
    {
        // An `async fn` cannot know its caller.
        let taken_at = Location::caller();
        self.run_for(move |shared, wait| shared.perform_read(work, wait, taken_at))
    }

    /// Runs `perform` on a blocking thread when the caller has its turn.
    async fn run_for<T, E>(
        &self,
        perform: impl FnOnce(&PoolInner<C>, &Wait) -> Result<T, RunError<E>> + Send + 'static,
    ) -> Result<T, RunError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let shared = &self.shared;
        let Some(entry) = WaitQueue::enter(&shared.queue) else {
            shared.metrics.rejected(Rejection::Saturated);
            return Err(RunError::Saturated);
        };
        let caller = Caller::new(&shared.metrics);
        let perform = {
            let shared = Arc::clone(shared);
            let wait = Arc::clone(&caller.wait);
            move || perform(&shared, &wait)
        };
        let (position, mut answer) = begin(entry, perform);
        if let Some(mut position) = position {
            let deadline = shared.deadline(caller.wait.since).into();
            match tokio::time::timeout_at(deadline, &mut answer).await {
                Ok(answer) => return answer.unwrap_or(Err(RunError::Cancelled)),
                Err(_) if position.leave() => {
                    caller.wait.timed_out();
                    return Err(failure(&shared.health).into());
                }
                // The work has begun.
                Err(_) => {}
            }
        }
        let mut watch = AnswerWatch {
            shared,
            since: caller.wait.since,
            is_over: false,
        };
        let answer = answer.await;
        watch.is_over = true;
        answer.unwrap_or(Err(RunError::Cancelled))
    }

    /// The name of the pool in its metrics: the name from the builder, with a number if another open pool has that name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The most connections that the pool opens.
    pub fn max_size(&self) -> u32 {
        self.shared.pool.max_size()
    }

    /// The longest time that callers wait.
    pub fn timeout(&self) -> Duration {
        self.shared.pool.connection_timeout()
    }
}

/// Begins the work of a caller on a blocking thread, or lets it wait for its turn. Returns its position in that case.
fn begin<T, E>(
    entry: Entry,
    perform: impl FnOnce() -> Result<T, RunError<E>> + Send + 'static,
) -> (
    Option<QueuePosition>,
    oneshot::Receiver<Result<T, RunError<E>>>,
)
where
    T: Send + 'static,
    E: Send + 'static,
{
    let (to, answer) = oneshot::channel();
    match entry {
        Entry::Turn(turn) => turn.begin(CallerWork::boxed(context::carry(perform), to)),
        Entry::Waits(position) => {
            let work = CallerWork::boxed(context::carry_waiting(perform), to);
            match position.add(work) {
                Added::Turn(turn, work) => turn.begin(work),
                Added::Waits(position) => return (Some(position), answer),
            }
        }
    }
    (None, answer)
}

/// The work of a caller, and then its result.
struct CallerWork<F, T, E> {
    perform: Option<F>,
    result: Option<Result<T, RunError<E>>>,
    to: oneshot::Sender<Result<T, RunError<E>>>,
    runtime: Handle,
}

impl<F, T, E> CallerWork<F, T, E>
where
    F: FnOnce() -> Result<T, RunError<E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    fn boxed(perform: F, to: oneshot::Sender<Result<T, RunError<E>>>) -> Box<dyn Work> {
        Box::new(Self {
            perform: Some(perform),
            result: None,
            to,
            runtime: Handle::current(),
        })
    }
}

impl<F, T, E> Work for CallerWork<F, T, E>
where
    F: FnOnce() -> Result<T, RunError<E>> + Send,
    T: Send,
    E: Send,
{
    fn perform(&mut self) {
        if let Some(perform) = self.perform.take() {
            let result = catch_unwind(AssertUnwindSafe(perform));
            self.result = Some(result.unwrap_or(Err(RunError::Panicked)));
        }
    }

    fn answer(self: Box<Self>) {
        let Self { result, to, .. } = *self;
        // Without its caller, the result is dropped here, and its destructor may panic.
        let answer = AssertUnwindSafe(|| drop(result.map(|result| to.send(result))));
        drop(catch_unwind(answer));
    }

    fn runtime(&self) -> &Handle {
        &self.runtime
    }
}

/// Detects callers that give up while their work runs. If they waited for at least the pool's timeout, the database may
/// have stopped answering.
struct AnswerWatch<'a, C>
where
    C: R2D2Connection + Send + 'static,
{
    shared: &'a PoolInner<C>,
    since: Moment,
    is_over: bool,
}

impl<C> Drop for AnswerWatch<'_, C>
where
    C: R2D2Connection + Send + 'static,
{
    fn drop(&mut self) {
        let timeout = self.shared.pool.connection_timeout();
        if !self.is_over && clock::now().since(self.since) >= timeout {
            self.shared.health.unanswered(timeout);
        }
    }
}

struct PoolInner<C>
where
    C: R2D2Connection + Send + 'static,
{
    name: Arc<str>,
    pool: r2d2::Pool<Manager<C>>,
    /// A turn for each connection.
    queue: Arc<WaitQueue>,
    metrics: Arc<PoolMetrics>,
    health: Arc<DatabaseHealth>,
    probe: PoolProbe<C>,
    /// Ends with the pool.
    _explainer: Arc<Explainer>,
}

impl<C> PoolInner<C>
where
    C: R2D2Connection + Send + 'static,
{
    /// When the pool's timeout ends for a caller that waits since then.
    fn deadline(&self, since: Moment) -> Instant {
        let now = Instant::now();
        // A deadline that the clock cannot represent becomes a day.
        let far = Duration::from_secs(86_400);
        now.checked_add(self.patience(since)).unwrap_or(now + far)
    }

    /// Resets the recorder: earlier queries, such as those of the customizer, do not belong to the next user.
    fn check_out(&self, connection: &mut C, wait: &WaitEnd, taken_at: &'static Location<'static>) {
        let is_observed = if let Some(recorder) = QueryRecorder::of(connection) {
            recorder.check_out(taken_at, wait)
        } else {
            self.health.recorder_is_replaced();
            false
        };
        if !is_observed {
            self.metrics.waited(wait);
        }
    }

    fn perform<T, E, Kind>(
        &self,
        work: impl FnOnce(&mut C) -> Result<T, E>,
        wait: &Wait,
        taken_at: &'static Location<'static>,
    ) -> Result<T, RunError<E>>
    where
        E: QueryError<Kind>,
    {
        let mut connection = self.take(wait, taken_at)?;
        do_work(&mut connection, work).map_err(RunError::Query)
    }

    fn perform_read<T, E, Kind>(
        &self,
        mut work: impl FnMut(&mut C) -> Result<T, E>,
        wait: &Wait,
        taken_at: &'static Location<'static>,
    ) -> Result<T, RunError<E>>
    where
        E: QueryError<Kind>,
    {
        let mut connection = self.take(wait, taken_at)?;
        let error = match do_work(&mut connection, &mut work) {
            Err(error) if may_read_again(&mut *connection) => error,
            result => return result.map_err(RunError::Query),
        };
        // Closes it, so that another one can be opened.
        drop(connection);
        let since = wait.since;
        if self.patience(since).is_zero() {
            return Err(RunError::Query(error));
        }
        let wait = Wait::begin(&self.metrics, clock::now(), false);
        let mut connection = checking_all(|| self.take_since(since, &wait, taken_at))?;
        do_work(&mut connection, work).map_err(RunError::Query)
    }

    /// Takes a connection for the caller of this wait, unless the caller has left.
    fn take<E>(
        &self,
        wait: &Wait,
        taken_at: &'static Location<'static>,
    ) -> Result<Connection<C>, RunError<E>> {
        if !wait.lasts() {
            return Err(RunError::Cancelled);
        }
        self.take_since(wait.since, wait, taken_at)
    }

    /// Takes a connection, within the timeout of a caller that waits since then.
    fn take_since<E>(
        &self,
        since: Moment,
        wait: &Wait,
        taken_at: &'static Location<'static>,
    ) -> Result<Connection<C>, RunError<E>> {
        let taken = self.pool.try_get();
        let taken = taken.or_else(|| self.pool.get_timeout(self.patience(since)).ok());
        let Some(mut connection) = taken else {
            wait.timed_out();
            return Err(failure(&self.health).into());
        };
        let wait = wait.served().ok_or(RunError::Cancelled)?;
        self.check_out(&mut connection, &wait, taken_at);
        Ok(connection)
    }

    /// The rest of the pool's timeout for a caller that waits since then.
    fn patience(&self, since: Moment) -> Duration {
        let timeout = self.pool.connection_timeout();
        timeout.saturating_sub(clock::now().since(since))
    }
}

/// Runs `work`, and counts its error if Diesel has not reported it.
fn do_work<C, T, E, Kind>(
    connection: &mut Connection<C>,
    work: impl FnOnce(&mut C) -> Result<T, E>,
) -> Result<T, E>
where
    C: R2D2Connection + Send + 'static,
    E: QueryError<Kind>,
{
    let result = work(connection);
    if let Some(error) = result.as_ref().err().and_then(E::database_error) {
        record_error(&mut **connection, error);
    }
    result
}

/// Whether the connection is lost, and its user has written nothing.
fn may_read_again<C: R2D2Connection>(connection: &mut C) -> bool {
    QueryRecorder::of(connection)
        .is_some_and(|recorder| recorder.is_lost() && recorder.has_only_read())
}

impl<C> AnyPool for PoolInner<C>
where
    C: R2D2Connection + Send + 'static,
{
    fn ping(self: Arc<Self>) -> Pinging {
        Box::pin(async move {
            let turn = self.probe.turn().await;
            let ask = context::carry(move || {
                let _turn = turn;
                self.probe.ask(&self.pool, &self.health)
            });
            match tokio::task::spawn_blocking(ask).await {
                Ok(true) => Ok(()),
                _ => Err(Unanswered),
            }
        })
    }

    fn name(&self) -> &str {
        &self.name
    }

    fn level(&self) -> PoolLevel {
        let state = self.pool.state();
        let taken = state.connections.saturating_sub(state.idle_connections);
        // A connection that a probe holds counts as idle.
        let taken = taken.saturating_sub(self.probe.taken());
        PoolLevel {
            checked_out: u64::from(taken),
            idle: u64::from(state.connections.saturating_sub(taken)),
            max: u64::from(self.pool.max_size()),
        }
    }
}
