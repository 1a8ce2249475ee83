//! The pool at work: waits, the line, time-outs, holds, panics and levels.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{self, ConnectionManager, CustomizeConnection};
use diesel::result::{DatabaseErrorKind, Error};
use tempfile::TempDir;

use super::super::Manager;
use super::super::fixture::{Fixture, create_table, insert, insert_returning, items};
use super::{CheckoutError, Pool, RunError};
use crate::context;
use crate::reading::samples;

type R2d2Builder = r2d2::Builder<Manager<SqliteConnection>>;

/// A pool on a database of its own, with the table.
struct Pooled {
    fixture: Fixture,
    pool: Pool<SqliteConnection>,
    _directory: TempDir,
}

fn pooled(settings: impl FnOnce(R2d2Builder) -> R2d2Builder) -> Pooled {
    pooled_with(Fixture::new(), 1024, settings)
}

fn pooled_with(
    fixture: Fixture,
    max_waiters: usize,
    settings: impl FnOnce(R2d2Builder) -> R2d2Builder,
) -> Pooled {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.db");
    let path = path.to_str().unwrap();
    create_table(&mut SqliteConnection::establish(path).unwrap());
    let pool = fixture
        .database
        .instrument(settings(r2d2::Pool::builder()))
        .max_waiters(max_waiters)
        .build(ConnectionManager::new(path))
        .unwrap();
    Pooled {
        fixture,
        pool,
        _directory: directory,
    }
}

fn of_size(size: u32) -> impl FnOnce(R2d2Builder) -> R2d2Builder {
    move |builder| {
        builder
            .max_size(size)
            .connection_timeout(Duration::from_secs(5))
    }
}

fn impatient(size: u32) -> impl FnOnce(R2d2Builder) -> R2d2Builder {
    move |builder| {
        builder
            .max_size(size)
            .connection_timeout(Duration::from_millis(50))
    }
}

impl Pooled {
    fn waiters(&self) -> i64 {
        self.fixture
            .families
            .pool_waiters
            .series(["default"])
            .value()
    }

    fn waits(&self) -> u64 {
        self.fixture
            .families
            .pool_wait_seconds
            .series(["default"])
            .snapshot()
            .count
    }

    fn waited_seconds(&self) -> f64 {
        self.fixture
            .families
            .pool_wait_seconds
            .series(["default"])
            .snapshot()
            .sum
    }

    fn holds(&self) -> u64 {
        self.fixture
            .families
            .pool_hold_seconds
            .series(["default"])
            .snapshot()
            .count
    }

    /// Callers turned away: saturated, timeout, cancelled.
    fn rejected(&self) -> [u64; 3] {
        let family = &self.fixture.families.pool_rejected;
        ["saturated", "timeout", "cancelled"]
            .map(|reason| family.series(["default", reason]).value())
    }

    fn timeouts(&self) -> u64 {
        self.fixture
            .families
            .pool_timeouts
            .series(["default"])
            .value()
    }

    /// Checked out, idle, maximum.
    fn levels(&self) -> Option<[f64; 3]> {
        levels(&self.fixture)
    }
}

fn levels(fixture: &Fixture) -> Option<[f64; 3]> {
    levels_of(fixture, "default")
}

fn levels_of(fixture: &Fixture, pool: &str) -> Option<[f64; 3]> {
    let read = samples(fixture.database.levels());
    let level = |name: &str| read.get(&format!("{name}{{pool=\"{pool}\"}}")).copied();
    Some([
        level("db_pool_checked_out_connections")?,
        level("db_pool_idle_connections")?,
        level("db_pool_max_connections")?,
    ])
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

type Work = Box<dyn FnOnce(&mut SqliteConnection) -> QueryResult<u32> + Send>;

/// Work that signals when it has begun, and goes on when told to.
struct PausedWork {
    begun: tokio::sync::oneshot::Receiver<()>,
    go_on: mpsc::Sender<()>,
}

impl PausedWork {
    fn new() -> (
        Self,
        impl FnOnce(&mut SqliteConnection) -> QueryResult<u32> + Send,
    ) {
        let (signal, begun) = tokio::sync::oneshot::channel();
        let (go_on, wait) = mpsc::channel();
        let work = move |_: &mut SqliteConnection| {
            signal.send(()).ok();
            wait.recv().ok();
            Ok(7)
        };
        (Self { begun, go_on }, work)
    }
}

#[test]
fn levels_holds_and_waits_are_those_of_the_pool() {
    let pooled = pooled(of_size(2));
    assert_eq!(pooled.levels(), Some([0.0, 2.0, 2.0]));
    let first = pooled.pool.get().unwrap();
    assert_eq!(pooled.levels(), Some([1.0, 1.0, 2.0]));
    let second = pooled.pool.get().unwrap();
    assert_eq!(pooled.levels(), Some([2.0, 0.0, 2.0]));
    assert_eq!(
        (pooled.waits(), pooled.holds(), pooled.waiters()),
        (2, 0, 0)
    );
    drop((first, second));
    assert_eq!(pooled.levels(), Some([0.0, 2.0, 2.0]));
    assert_eq!(
        (pooled.waits(), pooled.holds(), pooled.timeouts()),
        (2, 2, 0)
    );
}

#[test]
fn each_open_pool_has_a_name_of_its_own_and_a_closed_one_is_gone() {
    let fixture = Fixture::new();
    let open = |name: &str, size| {
        fixture
            .database
            .instrument(r2d2::Pool::builder().max_size(size))
            .name(name)
            .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
            .unwrap()
    };
    assert_eq!(levels(&fixture), None);
    let (one, three, readers) = (open("default", 1), open("default", 3), open("readers", 2));
    assert_eq!(
        [one.name(), three.name(), readers.name()],
        ["default", "default-2", "readers"]
    );
    assert_eq!(levels(&fixture), Some([0.0, 1.0, 1.0]));
    assert_eq!(levels_of(&fixture, "default-2"), Some([0.0, 3.0, 3.0]));
    assert_eq!(levels_of(&fixture, "readers"), Some([0.0, 2.0, 2.0]));
    drop(three.get().unwrap());
    let waits = |pool| {
        let waits = fixture.families.pool_wait_seconds.series([pool]);
        waits.snapshot().count
    };
    assert_eq!((waits("default"), waits("default-2")), (0, 1));
    drop(one);
    until("the pool is closed", || levels(&fixture).is_none());
    assert_eq!(levels_of(&fixture, "default-2"), Some([0.0, 3.0, 3.0]));
    until("its name is free", || {
        open("default", 1).name() == "default"
    });
}

#[test]
fn past_a_bound_further_pools_share_one_name() {
    let fixture = Fixture::new();
    let pools: Vec<_> = (0..70)
        .map(|_| {
            let builder = r2d2::Pool::builder().max_size(1).min_idle(Some(0));
            fixture
                .database
                .instrument(builder)
                .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
                .unwrap()
        })
        .collect();
    let names: BTreeSet<&str> = pools.iter().map(Pool::name).collect();
    assert_eq!(names.len(), 65);
    assert_eq!(levels_of(&fixture, "overflow"), Some([0.0, 0.0, 6.0]));
}

#[test]
fn the_counts_of_a_pool_exist_from_the_start() {
    let pooled = pooled(of_size(1));
    let text = pooled.fixture.open_metrics();
    for reason in ["saturated", "timeout", "cancelled"] {
        let line = format!("db_pool_rejected_total{{pool=\"default\",reason=\"{reason}\"}} 0");
        assert!(text.contains(&line), "{line}: {text}");
    }
    assert!(
        text.contains("db_pool_timeouts_total{pool=\"default\"} 0"),
        "{text}"
    );
}

#[test]
fn connections_are_counted_and_timed_when_opened() {
    let pooled = pooled(of_size(3));
    let families = &pooled.fixture.families;
    assert_eq!(families.connections_opened.get().value(), 3);
    assert_eq!(
        families
            .connection_open_seconds
            .series([""])
            .snapshot()
            .count,
        3
    );
    assert_eq!(families.connection_open_errors.get().value(), 0);
}

#[test]
fn a_connection_that_cannot_be_opened_is_an_open_error_and_no_connection() {
    let fixture = Fixture::new();
    let builder = r2d2::Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(50));
    let error = fixture
        .database
        .instrument(builder)
        .build(ConnectionManager::<SqliteConnection>::new(
            "/nowhere/s3cret.db",
        ))
        .unwrap_err();
    assert_eq!(error, CheckoutError::Unavailable);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    assert!(fixture.families.connection_open_errors.get().value() >= 1);
    assert_eq!(fixture.families.connections_opened.get().value(), 0);
    assert_eq!(
        fixture
            .families
            .connection_open_seconds
            .series([""])
            .snapshot()
            .count,
        0
    );
}

#[test]
fn a_pool_without_a_database_says_so_and_recovers() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("later");
    let path = home.join("pool.db");
    let builder = r2d2::Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(100));
    let pool =
        fixture.database.instrument(builder).build_unchecked(
            ConnectionManager::<SqliteConnection>::new(path.to_str().unwrap()),
        );
    assert_eq!(
        pool.get().map(drop).unwrap_err(),
        CheckoutError::Unavailable
    );
    assert_eq!(
        fixture.families.pool_timeouts.series(["default"]).value(),
        1
    );
    std::fs::create_dir(&home).unwrap();
    until("the database is there", || pool.get().is_ok());
    let _all = pool.get().unwrap();
    assert_eq!(pool.get().map(drop).unwrap_err(), CheckoutError::Timeout);
}

#[test]
fn pings_at_checkout_are_no_queries() {
    let pooled = pooled(|builder| of_size(1)(builder).test_on_check_out(true));
    for name in ["a", "b", "c"] {
        insert(&mut pooled.pool.get().unwrap(), name).unwrap();
    }
    assert_eq!(pooled.fixture.queries(), [("insert".to_owned(), 3)]);
}

#[derive(Debug)]
struct TestCustomizer;

impl CustomizeConnection<SqliteConnection, r2d2::Error> for TestCustomizer {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), r2d2::Error> {
        connection
            .batch_execute("PRAGMA foreign_keys = ON")
            .map_err(r2d2::Error::QueryError)
    }
}

#[test]
fn the_customizer_of_the_builder_is_kept() {
    let pooled =
        pooled(|builder| of_size(2)(builder).connection_customizer(Box::new(TestCustomizer)));
    assert_eq!(pooled.fixture.queries(), [("other".to_owned(), 2)]);
}

#[test]
fn whoever_blocks_for_a_connection_is_a_waiter_until_it_has_one() {
    let pooled = pooled(of_size(1));
    let held = pooled.pool.get().unwrap();
    let before = pooled.waited_seconds();
    std::thread::scope(|scope| {
        let waiter = scope.spawn(|| pooled.pool.get().map(drop));
        until("it waits", || pooled.waiters() == 1);
        std::thread::sleep(Duration::from_millis(20));
        drop(held);
        waiter.join().unwrap().unwrap();
    });
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 0)
    );
    assert!(pooled.waited_seconds() - before >= 0.02);
}

#[test]
fn a_blocking_wait_that_times_out_is_one_timeout_and_one_wait() {
    let pooled = pooled(impatient(1));
    let _held = pooled.pool.get().unwrap();
    assert_eq!(
        pooled.pool.get().map(drop).unwrap_err(),
        CheckoutError::Timeout
    );
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 1)
    );
    assert!(pooled.waited_seconds() >= 0.05);
}

#[actix_web::test]
async fn work_runs_on_a_connection_of_the_pool() {
    let pooled = pooled(of_size(2));
    let id = pooled
        .pool
        .run(|connection| insert_returning(connection, "a"))
        .await
        .unwrap();
    assert_eq!(id, 1);
    assert_eq!(pooled.fixture.queries(), [("insert".to_owned(), 1)]);
    assert_eq!(
        (pooled.waits(), pooled.holds(), pooled.waiters()),
        (1, 1, 0)
    );
    assert_eq!(pooled.levels(), Some([0.0, 2.0, 2.0]));
}

#[derive(Debug, thiserror::Error)]
#[error("the name is taken")]
struct NameTaken(#[source] Error);

#[actix_web::test]
async fn the_error_of_the_work_is_returned_and_counted_once() {
    let pooled = pooled(of_size(1));
    pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap();
    let error = pooled
        .pool
        .run(|connection| insert_returning(connection, "a").map_err(NameTaken))
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Query(NameTaken(_))));
    let reported = pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap_err();
    assert!(matches!(
        reported,
        RunError::Query(Error::DatabaseError(..))
    ));
    let missing = pooled
        .pool
        .run(|connection| items::table.find(9).first::<(i32, String)>(connection))
        .await
        .unwrap_err();
    assert!(matches!(missing, RunError::Query(Error::NotFound)));
    assert_eq!(
        pooled.fixture.errors(),
        [("insert".to_owned(), "unique_violation".to_owned(), 2)]
    );
}

#[actix_web::test]
async fn errors_of_every_type_are_returned_and_counted_once() {
    let pooled = pooled(of_size(1));
    let pool = &pooled.pool;
    pool.run(|connection| insert(connection, "a"))
        .await
        .unwrap();
    let of_anyhow = pool
        .run(|connection| -> anyhow::Result<_> { Ok(insert_returning(connection, "a")?) })
        .await;
    assert!(matches!(of_anyhow, Err(RunError::Query(_))));
    let boxed = pool
        .run(
            |connection| -> Result<_, Box<dyn std::error::Error + Send + Sync>> {
                Ok(insert_returning(connection, "a")?)
            },
        )
        .await;
    assert!(matches!(boxed, Err(RunError::Query(_))));
    // The words of an error do not say where it comes from; its end was reported by Diesel.
    let in_words = pool
        .run(|connection| insert(connection, "a").map_err(|error| error.to_string()))
        .await;
    let Err(RunError::Query(words)) = in_words else {
        panic!("no error of the work");
    };
    assert_eq!(words, "UNIQUE constraint failed: items.name");
    assert_eq!(
        pooled.fixture.errors(),
        [("insert".to_owned(), "unique_violation".to_owned(), 3)]
    );
}

/// Sets a connection up by a statement.
#[derive(Debug)]
struct SetUp;

impl CustomizeConnection<SqliteConnection, r2d2::Error> for SetUp {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), r2d2::Error> {
        connection
            .batch_execute("PRAGMA foreign_keys = ON")
            .map_err(r2d2::Error::QueryError)
    }
}

#[actix_web::test]
async fn an_error_of_work_that_ran_no_query_is_not_blamed_on_the_setting_up() {
    let pooled = pooled(|builder| of_size(1)(builder).connection_customizer(Box::new(SetUp)));
    let error = pooled
        .pool
        .run(|_| {
            Err::<(), _>(Error::DatabaseError(
                DatabaseErrorKind::Unknown,
                Box::new("database is locked".to_owned()),
            ))
        })
        .await
        .unwrap_err();
    assert!(matches!(error, RunError::Query(Error::DatabaseError(..))));
    assert_eq!(pooled.fixture.errors(), []);
}

#[actix_web::test]
async fn work_that_finds_no_connection_in_time_is_refused_and_counted_once() {
    let pooled = pooled(impatient(1));
    let (gate, work) = PausedWork::new();
    let holder = actix_web::rt::spawn({
        let pool = pooled.pool.clone();
        async move { pool.run(work).await }
    });
    gate.begun.await.unwrap();
    let refused = pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap_err();
    assert!(matches!(refused, RunError::Timeout));
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 1)
    );
    assert_eq!(pooled.rejected(), [0, 1, 0]);
    gate.go_on.send(()).unwrap();
    assert_eq!(holder.await.unwrap().unwrap(), 7);
    assert_eq!(pooled.fixture.queries(), []);
}

#[actix_web::test]
async fn work_waits_for_those_who_block_as_well() {
    let pooled = pooled(impatient(1));
    let held = pooled.pool.get().unwrap();
    let refused = pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap_err();
    assert!(matches!(refused, RunError::Timeout));
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 1)
    );
    drop(held);
    pooled
        .pool
        .run(|connection| insert(connection, "a"))
        .await
        .unwrap();
}

#[actix_web::test]
async fn a_wait_in_line_is_measured_once_from_its_beginning() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move { pool.run(work).await });
    gate.begun.await.unwrap();
    let before = pooled.waited_seconds();
    let pool = pooled.pool.clone();
    let waiter =
        actix_web::rt::spawn(async move { pool.run(|connection| insert(connection, "a")).await });
    soon("it waits", || pooled.waiters() == 1).await;
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(pooled.waits(), 1);
    gate.go_on.send(()).unwrap();
    holder.await.unwrap().unwrap();
    waiter.await.unwrap().unwrap();
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (0, 2, 0)
    );
    assert!(pooled.waited_seconds() - before >= 0.02);
}

#[actix_web::test]
async fn the_line_has_an_end() {
    let pooled = pooled_with(Fixture::new(), 2, of_size(1));
    let (gate, work) = PausedWork::new();
    let spawn = |work: Work| {
        let pool = pooled.pool.clone();
        actix_web::rt::spawn(async move { pool.run(work).await })
    };
    let holder = spawn(Box::new(work));
    gate.begun.await.unwrap();
    let waiters = [spawn(Box::new(|_| Ok(1))), spawn(Box::new(|_| Ok(2)))];
    soon("both wait", || pooled.waiters() == 2).await;
    let started = Instant::now();
    let refused = pooled.pool.run(|_| Ok::<_, Error>(3)).await.unwrap_err();
    assert!(matches!(refused, RunError::Saturated));
    assert!(started.elapsed() < Duration::from_secs(4), "at once");
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.timeouts()),
        (2, 1, 0)
    );
    assert_eq!(pooled.rejected(), [1, 0, 0]);
    gate.go_on.send(()).unwrap();
    assert_eq!(holder.await.unwrap().unwrap(), 7);
    for (waiter, answer) in waiters.into_iter().zip([1, 2]) {
        assert_eq!(waiter.await.unwrap().unwrap(), answer);
    }
    pooled.pool.run(|_| Ok::<_, Error>(3)).await.unwrap();
    assert_eq!((pooled.waiters(), pooled.waits()), (0, 4));
}

#[actix_web::test]
async fn a_caller_who_leaves_the_line_is_no_waiter_any_more() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move { pool.run(work).await });
    gate.begun.await.unwrap();
    {
        let ran = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&ran);
        let mut leaver = Box::pin(pooled.pool.run(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            Ok::<_, Error>(())
        }));
        tokio::select! {
            biased;
            _ = &mut leaver => panic!("there is no connection"),
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(pooled.waiters(), 1);
        drop(leaver);
        assert_eq!(pooled.waiters(), 0);
        gate.go_on.send(()).unwrap();
        holder.await.unwrap().unwrap();
        pooled.pool.run(|_| Ok::<_, Error>(())).await.unwrap();
        assert_eq!(ran.load(Ordering::SeqCst), 0);
    }
    assert_eq!((pooled.waits(), pooled.timeouts()), (3, 0), "its wait, too");
    assert_eq!(pooled.rejected(), [0, 0, 1]);
}

#[actix_web::test]
async fn a_caller_who_leaves_before_its_work_begins_is_no_waiter_any_more() {
    let pooled = pooled(of_size(1));
    let held = pooled.pool.get().unwrap();
    let (gate, work) = PausedWork::new();
    let mut leaver = Box::pin(pooled.pool.run(work));
    tokio::select! {
        biased;
        _ = &mut leaver => panic!("there is no connection"),
        () = tokio::time::sleep(Duration::from_millis(5)) => {}
    }
    assert_eq!(pooled.waiters(), 1);
    drop(leaver);
    assert_eq!(pooled.waiters(), 0);
    drop(held);
    assert!(gate.begun.await.is_err(), "the work did not begin");
    pooled.pool.run(|_| Ok::<_, Error>(())).await.unwrap();
    assert_eq!((pooled.waits(), pooled.timeouts()), (3, 0), "its wait, too");
    assert_eq!(pooled.rejected(), [0, 0, 1]);
}

#[actix_web::test]
async fn work_that_has_begun_runs_to_its_end_without_its_caller() {
    let pooled = pooled(of_size(1));
    let (signal, begun) = tokio::sync::oneshot::channel();
    let (go_on, wait) = mpsc::channel::<()>();
    let mut leaver = Box::pin(pooled.pool.run(move |connection| {
        signal.send(()).ok();
        wait.recv().ok();
        insert(connection, "a")
    }));
    tokio::select! {
        _ = &mut leaver => panic!("it waits for us"),
        begun = begun => begun.unwrap(),
    }
    drop(leaver);
    go_on.send(()).unwrap();
    let count = pooled
        .pool
        .run(|connection| items::table.count().get_result::<i64>(connection))
        .await
        .unwrap();
    assert_eq!(count, 1);
    assert_eq!((pooled.waiters(), pooled.waits()), (0, 2));
    assert_eq!(pooled.rejected(), [0, 0, 0], "it had its connection");
}

#[actix_web::test]
async fn work_that_panics_costs_its_connection_and_nothing_else() {
    let pooled = pooled(of_size(1));
    let panicked = pooled
        .pool
        .run(|connection| {
            connection.transaction(|connection| {
                insert(connection, "a")?;
                panic!("on purpose");
                #[allow(unreachable_code)]
                Ok::<(), Error>(())
            })
        })
        .await
        .unwrap_err();
    assert!(matches!(panicked, RunError::Panicked));
    let count = pooled
        .pool
        .run(|connection| items::table.count().get_result::<i64>(connection))
        .await
        .unwrap();
    assert_eq!(count, 0);
    assert_eq!(pooled.fixture.transactions(), (0, 1));
    assert_eq!(pooled.fixture.families.connections_opened.get().value(), 2);
    assert_eq!((pooled.waiters(), pooled.holds()), (0, 2));
}

#[actix_web::test]
async fn many_callers_on_a_small_pool_all_get_their_turn() {
    let pooled = pooled(of_size(2));
    let callers: Vec<_> = (0..100)
        .map(|number: i32| {
            let pool = pooled.pool.clone();
            actix_web::rt::spawn(async move {
                pool.run(move |connection| {
                    diesel::select(diesel::dsl::sql::<diesel::sql_types::Integer>("1"))
                        .get_result::<i32>(connection)
                        .map(|one| one + number)
                })
                .await
            })
        })
        .collect();
    for (number, caller) in (0..).zip(callers) {
        assert_eq!(caller.await.unwrap().unwrap(), number + 1);
    }
    assert_eq!(pooled.fixture.queries(), [("select".to_owned(), 100)]);
    assert_eq!(
        (pooled.waiters(), pooled.waits(), pooled.holds()),
        (0, 100, 100)
    );
}

#[actix_web::test]
async fn the_work_and_its_wait_belong_to_the_request_of_the_caller() {
    let pooled = pooled(of_size(1));
    let mut context = None;
    let mut run = std::pin::pin!(pooled.pool.run(|connection| insert(connection, "a")));
    let ran = std::future::poll_fn(|cx| context::within(&mut context, || run.as_mut().poll(cx)));
    assert_eq!(ran.await.unwrap(), 1);
    let context = context.unwrap();
    assert_eq!(context.queries(), 1);
    assert!(context.database_time() > Duration::ZERO);
    assert!(context.pool_wait() > Duration::ZERO);
}

#[actix_web::test]
async fn a_wait_in_line_that_times_out_belongs_to_its_request() {
    let pooled =
        pooled(|builder| of_size(1)(builder).connection_timeout(Duration::from_millis(50)));
    let _held = pooled.pool.get().unwrap();
    let mut context = None;
    let mut run = std::pin::pin!(pooled.pool.run(|connection| insert(connection, "a")));
    let ran = std::future::poll_fn(|cx| context::within(&mut context, || run.as_mut().poll(cx)));
    assert!(matches!(ran.await, Err(RunError::Timeout)));
    let context = context.unwrap();
    assert_eq!(context.queries(), 0);
    assert!(context.pool_wait() >= Duration::from_millis(50));
}

/// What `/readyz` asks, with a bound: it must not wait for anybody.
async fn ping(fixture: &Fixture) -> Option<bool> {
    let asked = fixture.database.levels().ping();
    let answer = tokio::time::timeout(Duration::from_secs(4), asked).await;
    answer
        .expect("a probe waits for nobody")
        .map(|answer| answer.is_ok())
}

#[actix_web::test]
async fn without_a_pool_nothing_is_asked() {
    let fixture = Fixture::new();
    assert_eq!(ping(&fixture).await, None);
    let pooled = pooled_with(fixture, 0, of_size(1));
    assert_eq!(ping(&pooled.fixture).await, Some(true));
    let Pooled { fixture, pool, .. } = pooled;
    drop(pool);
    until("the pool is closed", || levels(&fixture).is_none());
    assert_eq!(ping(&fixture).await, None);
}

#[actix_web::test]
async fn a_busy_pool_is_ready_and_a_probe_is_in_none_of_its_families() {
    let pooled = pooled_with(Fixture::new(), 0, of_size(2));
    let held = [pooled.pool.get().unwrap(), pooled.pool.get().unwrap()];
    let before = pooled.fixture.open_metrics();
    // Past the time for which an answer counts as recent.
    tokio::time::sleep(Duration::from_millis(700)).await;
    for _ in 0..3 {
        assert_eq!(ping(&pooled.fixture).await, Some(true));
    }
    assert_eq!(pooled.fixture.open_metrics(), before);
    drop(held);
    let before = pooled.fixture.open_metrics();
    assert_eq!(ping(&pooled.fixture).await, Some(true));
    assert_eq!(pooled.fixture.open_metrics(), before);
}

#[actix_web::test]
async fn a_pool_without_connections_at_rest_is_ready() {
    let pooled = pooled(|builder| of_size(2)(builder).min_idle(Some(0)));
    assert_eq!(pooled.levels(), Some([0.0, 0.0, 2.0]));
    assert_eq!(ping(&pooled.fixture).await, Some(true));
    assert_eq!(pooled.levels(), Some([0.0, 0.0, 2.0]));
}

#[actix_web::test]
async fn a_busy_pool_whose_database_is_gone_is_not_ready() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pool.db");
    let pool = fixture
        .database
        .instrument(of_size(1)(r2d2::Pool::builder()))
        .build(ConnectionManager::<SqliteConnection>::new(
            path.to_str().unwrap(),
        ))
        .unwrap();
    let _held = pool.get().unwrap();
    directory.close().unwrap();
    soon_not_ready(&fixture).await;
}

/// A pool of one connection, after which the opener fails with this message.
fn pool_with_one_opening(fixture: &Fixture, message: &'static str) -> Pool<SqliteConnection> {
    let opened = AtomicU32::new(0);
    fixture
        .database
        .instrument(of_size(1)(r2d2::Pool::builder()))
        .opener(move || match opened.fetch_add(1, Ordering::SeqCst) {
            0 => SqliteConnection::establish(":memory:"),
            _ => Err(ConnectionError::BadConnection(message.to_owned())),
        })
        .build(ConnectionManager::new(""))
        .unwrap()
}

#[actix_web::test]
async fn a_busy_pool_that_has_all_connections_of_its_database_is_ready() {
    for (message, is_ready) in [
        ("FATAL:  sorry, too many clients already", true),
        ("FATAL:  too many connections for role \"app\"", true),
        (
            "FATAL:  remaining connection slots are reserved for roles with the SUPERUSER attribute",
            true,
        ),
        (
            "FATAL:  no more connections allowed (max_client_conn)",
            true,
        ),
        ("Too many connections", true),
        (
            "User 'app' has exceeded the 'max_user_connections' resource (current value: 5)",
            true,
        ),
        ("FATAL:  the database system is shutting down", false),
        ("connection refused", false),
    ] {
        let fixture = Fixture::new();
        let pool = pool_with_one_opening(&fixture, message);
        let _held = pool.get().unwrap();
        // Past the time for which an answer counts as recent.
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(ping(&fixture).await, Some(is_ready), "{message}");
    }
}

async fn soon_not_ready(fixture: &Fixture) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while ping(fixture).await == Some(true) {
        assert!(Instant::now() < deadline, "never: not ready");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[actix_web::test]
async fn the_health_check_of_the_pool_decides_where_a_connection_is_idle() {
    let fixture = Fixture::new();
    let pool = fixture
        .database
        .instrument(of_size(1)(r2d2::Pool::builder()))
        .health_check(|connection| items::table.count().get_result::<i64>(connection).map(drop))
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .unwrap();
    assert_eq!(ping(&fixture).await, Some(false), "there is no table");
    create_table(&mut pool.get().unwrap());
    let of_pool = || {
        let text = fixture.open_metrics();
        let lines = text.lines().filter(|line| line.starts_with("db_pool_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let (before, queries) = (of_pool(), fixture.queries());
    let mut context = None;
    let mut asked = std::pin::pin!(ping(&fixture));
    let asked =
        std::future::poll_fn(|cx| context::within(&mut context, || asked.as_mut().poll(cx)));
    assert_eq!(asked.await, Some(true));
    assert_eq!(of_pool(), before);
    assert_ne!(fixture.queries(), queries);
    assert_eq!(
        context.unwrap().queries(),
        1,
        "it belongs to the request that asks"
    );
    // On a listener that records no requests, it is nobody's on purpose.
    let (queries, before) = (fixture.queries(), unattributed(&fixture));
    assert_eq!(ping(&fixture).await, Some(true));
    assert_ne!(fixture.queries(), queries);
    assert!(!before.is_empty());
    assert_eq!(unattributed(&fixture), before);
}

fn unattributed(fixture: &Fixture) -> Vec<String> {
    let text = fixture.open_metrics();
    let lines = text
        .lines()
        .filter(|line| line.starts_with("db_queries_unattributed_total"));
    lines.map(str::to_owned).collect()
}

#[actix_web::test]
async fn a_health_check_that_hangs_keeps_one_connection_however_often_it_is_asked() {
    let fixture = Fixture::new();
    let (go_on, wait) = mpsc::channel::<()>();
    let wait = std::sync::Mutex::new(wait);
    let asked = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&asked);
    let pool = fixture
        .database
        .instrument(of_size(3)(r2d2::Pool::builder()))
        .health_check(move |_| {
            counted.fetch_add(1, Ordering::SeqCst);
            wait.lock().unwrap().recv().ok();
            Ok(())
        })
        .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
        .unwrap();
    for _ in 0..5 {
        let asked = fixture.database.levels().ping();
        let answer = tokio::time::timeout(Duration::from_millis(50), asked).await;
        assert!(answer.is_err(), "it hangs");
    }
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(
        levels(&fixture),
        Some([0.0, 3.0, 3.0]),
        "idle to everybody else"
    );
    let _two = [pool.get().unwrap(), pool.get().unwrap()];
    drop(go_on);
    assert_eq!(ping(&fixture).await, Some(true));
}
