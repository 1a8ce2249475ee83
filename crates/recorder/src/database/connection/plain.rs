//! Monitors a pool of r2d2 without a change of its type.
//!
//! A plain `r2d2::Pool<ConnectionManager<C>>` reports its waits, holds and openings by events, and its customizer sets the
//! recorder of each connection. Some facts have no event: who waits, callers that leave, connections from `try_get` that are
//! in use, which call took a connection, and how long an opening takes. An instrumented [`Pool`](super::Pool) records these, too.

mod connections;

use std::cell::Cell;
use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use diesel::r2d2::event::{AcquireEvent, CheckinEvent, CheckoutEvent, ReleaseEvent, TimeoutEvent};
use diesel::r2d2::{
    self, ConnectionManager, CustomizeConnection, Error, HandleError, HandleEvent, PoolError,
    R2D2Connection,
};

use connections::PlainConnections;

use super::backend::backend_of;
use super::instrumentation::install;
use super::manager::OutageLog;
use super::recorder::Driver;
use super::recorders::Recorders;
use super::system::system_of;
use crate::clock;
use crate::context::{self, owner::current_owner};
use crate::database::Database;
use crate::database::health::DatabaseHealth;
use crate::database::levels::{AnyPool, Pinging, PoolLevel, Unanswered};
use crate::database::metrics::{PoolMetrics, Rejection};
use crate::database::names::NamedPool;
use crate::database::wait::WaitEnd;

/// A plain pool of r2d2.
type PlainPool<C> = r2d2::Pool<ConnectionManager<C>>;

/// What the handlers of a plain pool share. The pool owns it.
struct PlainMonitor {
    name: Arc<str>,
    recorders: Recorders,
    pool_metrics: Arc<PoolMetrics>,
    health: Arc<DatabaseHealth>,
    open: AtomicU64,
    connections: PlainConnections,
    max: AtomicU32,
}

impl Database {
    /// Builds a plain pool of r2d2 that is monitored, under this name.
    pub fn monitor<C>(
        &self,
        name: &str,
        builder: r2d2::Builder<ConnectionManager<C>>,
        manager: ConnectionManager<C>,
    ) -> Result<PlainPool<C>, PoolError>
    where
        C: R2D2Connection + 'static,
    {
        let system = system_of::<C::Backend>();
        let NamedPool {
            name,
            metrics,
            pool_metrics,
        } = self.name_pool(name, system);
        let health = Arc::<DatabaseHealth>::default();
        health.of_pool(&name);
        let monitor = Arc::new(PlainMonitor {
            recorders: Recorders::of_pool(self, &name, metrics, system),
            pool_metrics,
            name,
            health,
            open: AtomicU64::new(0),
            connections: PlainConnections::default(),
            max: AtomicU32::new(0),
        });
        self.levels().add(
            Arc::downgrade(&monitor) as Weak<dyn AnyPool>,
            &monitor.pool_metrics.holders,
        );
        let pool = builder
            .connection_customizer(Box::new(Handler(Arc::clone(&monitor))))
            .event_handler(Box::new(Handler(Arc::clone(&monitor))))
            .error_handler(Box::new(Handler(Arc::clone(&monitor))))
            .build(manager)?;
        monitor.max.store(pool.max_size(), Ordering::Relaxed);
        Ok(pool)
    }
}

thread_local! {
    /// The position of the connection that this thread opens. r2d2 calls the customizer first, and reports the id then.
    static OPENED: Cell<Option<usize>> = const { Cell::new(None) };
}

/// The monitor as r2d2's handlers and customizer.
struct Handler(Arc<PlainMonitor>);

impl fmt::Debug for Handler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handler").finish_non_exhaustive()
    }
}

impl<C: R2D2Connection> CustomizeConnection<C, Error> for Handler {
    fn on_acquire(&self, connection: &mut C) -> Result<(), Error> {
        let Self(monitor) = self;
        let mut recorder = monitor.recorders.recorder(Driver::Blocking);
        // When the opening began is not reported.
        let since = clock::now();
        let backend = (monitor.recorders.are_of_postgres()).then(|| backend_of(connection));
        let entry = monitor.connections.open(&monitor.pool_metrics.holders);
        if let Some((position, slot)) = entry {
            slot.opened(backend.flatten(), since);
            recorder = recorder.listed_in(slot);
            OPENED.set(Some(position));
        }
        install(connection, recorder);
        monitor.health.recovered();
        Ok(())
    }
}

impl HandleEvent for Handler {
    fn handle_acquire(&self, event: AcquireEvent) {
        if let Some(position) = OPENED.take() {
            (self.0.connections).identify(position, event.connection_id());
        }
        self.0.open.fetch_add(1, Ordering::Relaxed);
        self.0.pool_metrics.opened_untimed();
    }

    fn handle_release(&self, event: ReleaseEvent) {
        self.0.connections.close(event.connection_id());
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }

    fn handle_checkout(&self, event: CheckoutEvent) {
        if let Some(slot) = self.0.connections.slot(event.connection_id()) {
            slot.begin(None, clock::now());
        }
        self.observe_wait(event.duration());
    }

    fn handle_timeout(&self, event: TimeoutEvent) {
        self.0.pool_metrics.rejected(Rejection::Timeout);
        self.observe_wait(event.timeout());
    }

    fn handle_checkin(&self, event: CheckinEvent) {
        let (metrics, held) = (&self.0.pool_metrics, event.duration());
        let slot = self.0.connections.slot(event.connection_id());
        if !slot.is_some_and(|slot| slot.end(held)) {
            // A connection from `try_get`: its checkout was not reported.
            metrics.holders.held_seconds.count(current_owner(), held);
        }
        metrics.held(held);
    }
}

impl Handler {
    fn observe_wait(&self, waited: std::time::Duration) {
        let at = clock::now();
        let span = context::add_pool_wait(waited, at);
        (self.0.pool_metrics).waited(&WaitEnd { waited, at, span });
    }
}

impl HandleError<Error> for Handler {
    fn handle_error(&self, error: Error) {
        if let Error::ConnectionError(_) = error {
            self.0.pool_metrics.open_failed();
        }
        let log = OutageLog {
            health: Arc::clone(&self.0.health),
        };
        log.handle_error(error);
    }
}

impl AnyPool for PlainMonitor {
    fn name(&self) -> &str {
        &self.name
    }

    fn level(&self) -> PoolLevel {
        let checked_out = self.connections.checked_out() as u64;
        PoolLevel {
            checked_out,
            idle: (self.open.load(Ordering::Relaxed)).saturating_sub(checked_out),
            max: self.max.load(Ordering::Relaxed).into(),
        }
    }

    /// The monitor has no connection to ask on. The pool replaces lost connections, and that fails in an outage.
    fn ping(self: Arc<Self>) -> Pinging {
        let answer = if self.health.failing() {
            Err(Unanswered)
        } else {
            Ok(())
        };
        Box::pin(std::future::ready(answer))
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use diesel::SqliteConnection;
    use diesel::prelude::*;
    use diesel::r2d2::PooledConnection;

    use super::super::fixture::{Fixture, create_table, insert, items};
    use super::*;

    type Pooled = PooledConnection<ConnectionManager<SqliteConnection>>;

    fn builder(size: u32) -> r2d2::Builder<ConnectionManager<SqliteConnection>> {
        r2d2::Pool::builder()
            .max_size(size)
            // The pool opens its connections within that time.
            .connection_timeout(Duration::from_secs(5))
    }

    fn count(connection: &mut Pooled) -> i64 {
        items::table.count().get_result(connection).unwrap()
    }

    #[test]
    fn a_plain_pool_keeps_its_type_and_is_counted_exactly() {
        let fixture = Fixture::new();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("plain.db").display().to_string();
        create_table(&mut SqliteConnection::establish(&path).unwrap());
        let pool: PlainPool<SqliteConnection> = fixture
            .database
            .monitor("plain", builder(2), ConnectionManager::new(path))
            .unwrap();
        let families = &fixture.families;
        let level = || fixture.database.levels().sum().unwrap();
        let mut held = pool.get().unwrap();
        insert(&mut held, "a").unwrap();
        let mut other = pool.get().unwrap();
        assert_eq!((count(&mut held), count(&mut other)), (1, 1));
        assert_eq!((level().checked_out, level().idle, level().max), (2, 0, 2));
        drop(other);
        let mut other = pool.try_get().unwrap();
        assert_eq!((count(&mut other), level().checked_out), (1, 1));
        assert!(pool.get_timeout(Duration::from_millis(20)).is_err());
        drop((held, other));
        assert_eq!((level().checked_out, level().idle), (0, 2));
        assert_eq!(pool.state().idle_connections, 2);
        // The pings of r2d2 at each checkout are not queries.
        assert_eq!(
            fixture.queries(),
            [("insert".to_owned(), 1), ("select".to_owned(), 3)]
        );
        let waits = families.pool_wait_seconds.series(["plain"]).snapshot();
        let holds = families.pool_hold_seconds.series(["plain"]).snapshot();
        assert_eq!((waits.count, holds.count), (3, 3));
        assert_eq!(families.pool_timeouts.series(["plain"]).value(), 1);
        assert_eq!(families.connections_opened.series([""]).value(), 2);
        drop(pool);
        let deadline = Instant::now() + Duration::from_secs(10);
        while fixture.database.levels().sum().is_some() {
            assert!(Instant::now() < deadline, "a closed pool has no level");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_ping_takes_no_place_in_the_table_of_statements() {
        let fixture = Fixture::new();
        let manager = ConnectionManager::<SqliteConnection>::new(":memory:");
        let pool = (fixture.database)
            .monitor("plain", builder(2).test_on_check_out(true), manager)
            .unwrap();
        for _ in 0..3 {
            drop((pool.get().unwrap(), pool.get().unwrap()));
        }
        assert_eq!(fixture.places(), Some(0));
        // The same text, run by the application.
        for _ in 0..3 {
            let mut connection = pool.get().unwrap();
            diesel::sql_query("SELECT 1")
                .execute(&mut connection)
                .unwrap();
        }
        assert_eq!(fixture.places(), Some(1));
        assert_eq!(fixture.queries(), [("select".to_owned(), 3)]);
    }

    #[test]
    fn the_holders_of_a_plain_pool_are_reported_and_their_time_is_counted() {
        use crate::database::HoldActivity;

        let fixture = Fixture::new();
        let manager = ConnectionManager::<SqliteConnection>::new(":memory:");
        let database = &fixture.database;
        let pool = database.monitor("plain", builder(2), manager).unwrap();
        let mut connection = pool.get().unwrap();
        let other = pool.try_get().unwrap();
        connection
            .transaction(|connection| {
                create_table(connection);
                let report = database.levels().reports().remove(0);
                assert_eq!(&*report.name, "plain");
                let [held] = report.connections.as_slice() else {
                    panic!("{report:?}");
                };
                assert_eq!(held.activity, HoldActivity::IdleInTransaction);
                assert_eq!(held.taken_at, None);
                QueryResult::Ok(())
            })
            .unwrap();
        drop((connection, other));
        assert!(database.levels().reports()[0].connections.is_empty());
        let families = &fixture.families;
        let holds = families.pool_hold_seconds.series(["plain"]).snapshot();
        let counted = (families.pool_held_seconds).series(["plain", "unattributed"]);
        assert_eq!(holds.count, 2);
        assert!((counted.value() - holds.sum).abs() < 1e-6);
    }

    #[test]
    fn an_unreachable_database_is_an_open_error() {
        let fixture = Fixture::new();
        let manager = ConnectionManager::<SqliteConnection>::new("/nowhere/plain.db");
        assert!(
            fixture
                .database
                .monitor("plain", builder(1), manager)
                .is_err()
        );
        assert!(fixture.families.connection_open_errors.series([""]).value() >= 1);
        assert_eq!(fixture.families.connections_opened.series([""]).value(), 0);
    }
}
