//! Which connections are checked before their next use, and what becomes of work whose connection is lost.

use std::sync::Mutex;

use diesel::connection::{Instrumentation, InstrumentationEvent};

use super::super::super::set_instrumentation;
use super::*;

const LONG: Duration = Duration::from_secs(3600);

/// A pool of one connection that is checked this long after its last answer.
fn checked_after(check_after: Duration, size: u32) -> Pooled {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.db");
    let path = path.to_str().unwrap();
    create_table(&mut SqliteConnection::establish(path).unwrap());
    let pool = fixture
        .database
        .instrument(of_size(size)(r2d2::Pool::builder()))
        .check_after(check_after)
        .build(ConnectionManager::new(path))
        .unwrap();
    Pooled {
        fixture,
        pool,
        _directory: directory,
    }
}

/// Counts the pings of a connection, as the application's own instrumentation sees them.
#[derive(Clone, Default)]
struct Pings(Arc<Mutex<u32>>);

impl Pings {
    fn count(&self) -> u32 {
        *self.0.lock().unwrap()
    }
}

impl Instrumentation for Pings {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event
            && query.to_string().starts_with("SELECT 1")
        {
            *self.0.lock().unwrap() += 1;
        }
    }
}

fn lost() -> Error {
    let message = "server closed the connection unexpectedly".to_owned();
    Error::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(message))
}

fn count_items(connection: &mut SqliteConnection) -> QueryResult<i64> {
    items::table.count().get_result(connection)
}

impl Pooled {
    fn opened(&self) -> u64 {
        self.fixture
            .families
            .connections_opened
            .series([""])
            .value()
    }
}

#[test]
fn a_connection_that_has_answered_lately_is_not_checked() {
    for (check_after, checks) in [(LONG, 0), (Duration::ZERO, 3)] {
        let pooled = checked_after(check_after, 1);
        let pings = Pings::default();
        set_instrumentation(&mut *pooled.pool.get().unwrap(), pings.clone());
        let before = pings.count();
        for _ in 0..3 {
            count_items(&mut pooled.pool.get().unwrap()).unwrap();
        }
        assert_eq!(pings.count() - before, checks, "{check_after:?}");
        assert_eq!(pooled.fixture.queries(), [("select".to_owned(), 3)]);
    }
}

#[test]
fn a_connection_that_has_not_answered_lately_is_checked() {
    let pooled = checked_after(Duration::from_millis(50), 1);
    let pings = Pings::default();
    set_instrumentation(&mut *pooled.pool.get().unwrap(), pings.clone());
    until("the connection is checked", || {
        drop(pooled.pool.get().unwrap());
        pings.count() == 1
    });
}

#[actix_web::test]
async fn a_read_whose_connection_is_lost_runs_again_on_another_one() {
    let pooled = checked_after(LONG, 1);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let read = pooled.pool.read(move |connection| {
        let count = connection.transaction(count_items)?;
        match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(lost()),
            _ => Ok(count),
        }
    });
    assert_eq!(read.await.unwrap(), 0);
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    // Each run is counted once, and so is the error.
    assert_eq!(pooled.fixture.queries(), [("select".to_owned(), 2)]);
    let error = ("select".to_owned(), "connection_lost".to_owned(), 1);
    assert_eq!(pooled.fixture.errors(), [error]);
    assert_eq!((pooled.waits(), pooled.holds(), pooled.opened()), (2, 2, 2));
    assert_eq!((pooled.waiters(), pooled.rejected()), (0, [0; 3]));
    assert_eq!(pooled.levels(), Some([0.0, 1.0, 1.0]));
}

#[actix_web::test]
async fn a_read_runs_at_most_twice() {
    let pooled = checked_after(LONG, 2);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let read = pooled.pool.read(move |connection| {
        counted.fetch_add(1, Ordering::SeqCst);
        count_items(connection)?;
        Err::<(), _>(lost())
    });
    assert!(matches!(read.await, Err(RunError::Query(_))));
    assert_eq!(runs.load(Ordering::SeqCst), 2);
    let error = ("select".to_owned(), "connection_lost".to_owned(), 2);
    assert_eq!(pooled.fixture.errors(), [error]);
}

#[actix_web::test]
async fn work_that_may_have_written_does_not_run_again() {
    let pooled = checked_after(LONG, 1);
    let read = pooled.pool.read(|connection| {
        insert(connection, "a")?;
        count_items(connection)?;
        Err::<(), _>(lost())
    });
    assert!(matches!(read.await, Err(RunError::Query(_))));
    let run = pooled.pool.run(|connection| {
        count_items(connection)?;
        Err::<(), _>(lost())
    });
    assert!(matches!(run.await, Err(RunError::Query(_))));
    let batch = pooled.pool.read(|connection| {
        connection.batch_execute("SELECT 1; INSERT INTO items (name) VALUES ('b')")?;
        Err::<(), _>(lost())
    });
    assert!(matches!(batch.await, Err(RunError::Query(_))));
    let counted = [("insert".to_owned(), 1), ("select".to_owned(), 3)];
    assert_eq!(pooled.fixture.queries(), counted);
    let found = pooled.pool.run(count_items).await.unwrap();
    assert_eq!(found, 2);
    assert_eq!(pooled.opened(), 4, "each lost connection is closed");
}

#[actix_web::test]
async fn a_read_that_fails_otherwise_does_not_run_again() {
    let pooled = checked_after(LONG, 1);
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let read = pooled.pool.read(move |connection| {
        counted.fetch_add(1, Ordering::SeqCst);
        count_items(connection)?;
        Err::<(), _>(Error::NotFound)
    });
    assert!(matches!(read.await, Err(RunError::Query(_))));
    assert_eq!((runs.load(Ordering::SeqCst), pooled.opened()), (1, 1));
}

#[actix_web::test]
async fn a_read_without_another_connection_fails_at_the_timeout() {
    let fixture = Fixture::new();
    let opened = AtomicU32::new(0);
    let pool = fixture
        .database
        .instrument(impatient(1)(r2d2::Pool::builder()))
        .opener(move || match opened.fetch_add(1, Ordering::SeqCst) {
            0 => SqliteConnection::establish(":memory:"),
            _ => Err(ConnectionError::BadConnection("down".to_owned())),
        })
        .build(ConnectionManager::new(""))
        .unwrap();
    let read = pool.read(|connection| {
        diesel::sql_query("SELECT 2").execute(connection)?;
        Err::<(), _>(lost())
    });
    assert!(matches!(read.await, Err(RunError::Unavailable)));
    let rejected = fixture
        .families
        .pool_rejected
        .series(["default", "timeout"]);
    assert_eq!(rejected.value(), 1);
    assert_eq!(fixture.families.pool_waiters.series(["default"]).value(), 0);
}

#[test]
fn connections_are_checked_once_another_was_found_lost() {
    let pooled = checked_after(LONG, 2);
    let pings = Pings::default();
    let mut held = pooled.pool.get().unwrap();
    set_instrumentation(&mut *held, pings.clone());
    let mut other = pooled.pool.get().unwrap();
    count_items(&mut other).unwrap();
    crate::database::record_error(&mut *other, &lost());
    drop(other);
    drop(held);
    until("the lost connection is replaced", || {
        pooled.opened() == 3 && pooled.levels() == Some([0.0, 2.0, 2.0])
    });
    let all = [pooled.pool.get().unwrap(), pooled.pool.get().unwrap()];
    assert_eq!(pings.count(), 1);
    drop(all);
    let _all = [pooled.pool.get().unwrap(), pooled.pool.get().unwrap()];
    assert_eq!(pings.count(), 1, "a check counts as an answer");
}

/// Begins to block at the first ping, until the other end is dropped.
struct Blocked(Mutex<mpsc::Receiver<()>>);

impl Instrumentation for Blocked {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = event
            && query.to_string().starts_with("SELECT 1")
        {
            let _ = self.0.lock().unwrap().recv();
        }
    }
}

#[test]
fn a_caller_whose_idle_connection_is_checked_is_a_waiter_until_it_has_it() {
    let pooled = checked_after(Duration::ZERO, 1);
    let (answer, blocked) = mpsc::channel::<()>();
    let blocked = Blocked(Mutex::new(blocked));
    set_instrumentation(&mut *pooled.pool.get().unwrap(), blocked);
    let listed = || pooled.report().waiters.len();
    assert_eq!((pooled.waiters(), listed()), (0, 0));
    std::thread::scope(|scope| {
        let caller = scope.spawn(|| pooled.pool.get().map(drop));
        until("it waits", || (pooled.waiters(), listed()) == (1, 1));
        assert_eq!(pooled.waits(), 1);
        drop(answer);
        caller.join().unwrap().unwrap();
    });
    assert_eq!((pooled.waiters(), listed()), (0, 0));
    assert_eq!((pooled.waits(), pooled.holds()), (2, 2));
    drop(pooled.pool.get().unwrap());
    assert_eq!((pooled.waits(), pooled.waiters()), (3, 0));
}
