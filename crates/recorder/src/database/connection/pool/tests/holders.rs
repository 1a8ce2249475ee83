//! Who holds the connections of a pool: in the report, and in the counter of hold times.

use std::collections::BTreeMap;

use super::*;
use crate::context::{OwnerKind, RequestContext};
use crate::database::{HoldActivity, PoolReport};
use crate::name_numbers;

impl Pooled {
    pub(super) fn report(&self) -> PoolReport {
        let reports = self.fixture.database.levels().reports();
        assert_eq!(reports.len(), 1);
        reports.into_iter().next().unwrap()
    }

    /// The time that connections were held, by endpoint, without those that held none.
    fn held_seconds(&self) -> BTreeMap<String, f64> {
        let mut held = BTreeMap::new();
        let family = &self.fixture.families.pool_held_seconds;
        family.for_each(|[pool, endpoint], counter| {
            assert_eq!(pool, "default");
            if counter.value() > 0.0 {
                held.insert(endpoint.to_owned(), counter.value());
            }
        });
        held
    }

    /// The counter accounts for all hold times.
    fn all_is_accounted_for(&self) {
        let holds = &self.fixture.families.pool_hold_seconds;
        let expected = holds.series(["default"]).snapshot().sum;
        let counted: f64 = self.held_seconds().values().sum();
        let difference = (counted - expected).abs();
        assert!(
            difference <= 0.000_001 + expected / 1e6,
            "{counted} {expected}"
        );
    }
}

/// The context of a run of a job with this name.
fn job(name: &str) -> Arc<RequestContext> {
    Arc::new(RequestContext::of_job(name_numbers::number_of(name)))
}

/// Counts the times of a context under this name, as at the end of its request or job.
fn settle(context: Option<Arc<RequestContext>>, name: &'static str) {
    context.unwrap().when_done(move |context| {
        for (pool, held) in context.take_held() {
            pool.add(name, held);
        }
    });
}

#[test]
fn a_connection_is_reported_with_its_holder_and_what_it_does() {
    let pooled = pooled(of_size(2));
    assert!(pooled.report().connections.is_empty());
    let mut first = context::within(&mut Some(job("first")), || pooled.pool.get().unwrap());
    let line = line!() - 1;
    let second = pooled.pool.get().unwrap();
    let report = pooled.report();
    assert_eq!((&*report.name, report.level.checked_out), ("default", 2));
    let [holder, outside] = report.connections.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(holder.owner.kind, OwnerKind::Job);
    assert_eq!(holder.owner.name.as_deref(), Some("first"));
    assert_eq!(holder.activity, HoldActivity::Idle);
    let taken_at = holder.taken_at.unwrap();
    assert_eq!((taken_at.file(), taken_at.line()), (file!(), line));
    assert_eq!(outside.owner.kind, OwnerKind::Outside);
    drop(second);
    let activities = |pooled: &Pooled| -> Vec<_> {
        let connections = pooled.report().connections.into_iter();
        connections.map(|held| held.activity).collect()
    };
    insert(&mut first, "a").unwrap();
    assert_eq!(activities(&pooled), [HoldActivity::Idle]);
    first
        .transaction(|connection| {
            insert(connection, "b")?;
            assert_eq!(activities(&pooled), [HoldActivity::IdleInTransaction]);
            QueryResult::Ok(())
        })
        .unwrap();
    assert_eq!(activities(&pooled), [HoldActivity::Idle]);
    drop(first);
    assert!(pooled.report().connections.is_empty());
}

#[test]
fn a_transaction_that_is_controlled_by_hand_is_reported() {
    let pooled = pooled(of_size(1));
    let mut connection = pooled.pool.get().unwrap();
    let activity = || pooled.report().connections[0].activity;
    let (open, none) = (HoldActivity::IdleInTransaction, HoldActivity::Idle);
    for (sql, expected) in [
        ("SELECT 1", none),
        ("BEGIN", open),
        ("INSERT INTO items (name) VALUES ('a')", open),
        ("SAVEPOINT x", open),
        ("ROLLBACK TO x", open),
        ("COMMIT", none),
        ("BEGIN IMMEDIATE; DELETE FROM items", open),
        ("SELECT 2", open),
        ("ROLLBACK", none),
        ("BEGIN; DELETE FROM items; COMMIT", none),
    ] {
        connection.batch_execute(sql).unwrap();
        assert_eq!(activity(), expected, "{sql}");
    }
    diesel::sql_query("BEGIN").execute(&mut connection).unwrap();
    assert_eq!(activity(), open);
    diesel::sql_query("BEGIN")
        .execute(&mut connection)
        .unwrap_err();
    assert_eq!(activity(), open, "that one failed");
    diesel::sql_query("END").execute(&mut connection).unwrap();
    assert_eq!(activity(), none);
    assert_eq!(
        pooled.fixture.transactions(),
        (0, 0),
        "Diesel announced none"
    );
}

#[test]
fn a_running_query_is_reported_with_its_statement() {
    let pooled = pooled(of_size(1));
    let mut connection = pooled.pool.get().unwrap();
    // The rows are read one by one, and the query ends with the last.
    insert(&mut connection, "a").unwrap();
    let mut rows = items::table
        .load_iter::<(i32, String), diesel::connection::DefaultLoadingMode>(&mut connection)
        .unwrap();
    let report = pooled.report();
    let [held] = report.connections.as_slice() else {
        panic!("{report:?}");
    };
    assert_eq!(held.activity, HoldActivity::Query);
    let statements = pooled.fixture.database.statements();
    let text = context::StatementShapes::text(statements, held.statement.unwrap()).unwrap();
    assert!(text.starts_with("SELECT"), "{text}");
    assert_eq!(rows.by_ref().count(), 1);
    drop(rows);
    let report = pooled.report();
    assert_eq!(report.connections[0].activity, HoldActivity::Idle);
    assert_eq!(report.connections[0].statement, None);
}

#[test]
fn a_caller_that_waits_is_reported_with_its_wait() {
    let pooled = pooled(of_size(1));
    let held = pooled.pool.get().unwrap();
    std::thread::scope(|scope| {
        let waiter = scope
            .spawn(|| context::within(&mut Some(job("waiting")), || pooled.pool.get().map(drop)));
        until("it waits", || !pooled.report().waiters.is_empty());
        let report = pooled.report();
        let waiters: Vec<_> = report.waiters.iter().map(|waiter| &waiter.owner).collect();
        assert_eq!((report.waiting, waiters.len()), (1, 1));
        assert_eq!(waiters[0].name.as_deref(), Some("waiting"));
        drop(held);
        waiter.join().unwrap().unwrap();
    });
    let report = pooled.report();
    assert_eq!((report.waiting, report.waiters.len()), (0, 0));
}

#[actix_web::test]
async fn work_in_the_queue_is_reported_by_the_request_that_it_is_for() {
    let pooled = pooled(of_size(1));
    let (gate, work) = PausedWork::new();
    let pool = pooled.pool.clone();
    let holder = actix_web::rt::spawn(async move { pool.run(work).await });
    gate.begun.await.unwrap();
    let pool = pooled.pool.clone();
    let mut context = Some(job("queued"));
    let queued = context::within(&mut context, || {
        context::carry_future(async move { pool.run(|connection| insert(connection, "a")).await })
    });
    let queued = actix_web::rt::spawn(queued);
    soon("it waits", || pooled.report().waiters.len() == 1).await;
    let report = pooled.report();
    assert_eq!(report.waiters[0].owner.name.as_deref(), Some("queued"));
    let taken_at = report.connections[0].taken_at.unwrap();
    assert_eq!(taken_at.file(), file!());
    gate.go_on.send(()).unwrap();
    holder.await.unwrap().unwrap();
    queued.await.unwrap().unwrap();
}

#[test]
fn hold_times_are_counted_by_the_endpoint_that_held() {
    let pooled = pooled(of_size(1));
    let mut one = Some(job("one"));
    context::within(&mut one, || drop(pooled.pool.get().unwrap()));
    assert!(pooled.held_seconds().is_empty(), "the job is not over");
    settle(one, "one");
    assert_eq!(pooled.held_seconds().keys().collect::<Vec<_>>(), ["one"]);
    pooled.all_is_accounted_for();
    // Returned in another job, and outside of any.
    let mut two = Some(job("two"));
    let taken = context::within(&mut two, || pooled.pool.get().unwrap());
    let mut three = Some(job("three"));
    context::within(&mut three, || drop(taken));
    let taken = context::within(&mut two, || pooled.pool.get().unwrap());
    drop(taken);
    drop(pooled.pool.get().unwrap());
    settle(three, "three");
    settle(two, "two");
    let endpoints: Vec<_> = pooled.held_seconds().into_keys().collect();
    assert_eq!(endpoints, ["one", "two", "unattributed"]);
    pooled.all_is_accounted_for();
}

#[test]
fn each_pool_of_a_request_is_counted_for_itself() {
    let fixture = Fixture::new();
    // More than a tally has room for.
    let pools: Vec<_> = (0..6)
        .map(|number| {
            let builder = r2d2::Pool::builder().max_size(1);
            let pool = fixture.database.instrument(builder);
            pool.name(format!("pool{number}"))
                .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
                .unwrap()
        })
        .collect();
    let mut context = Some(job("many"));
    context::within(&mut context, || {
        for pool in &pools {
            drop(pool.get().unwrap());
        }
    });
    settle(context, "many");
    for pool in &pools {
        let holds = &fixture.families.pool_hold_seconds;
        let held = holds.series([pool.name()]).snapshot().sum;
        let counted = &fixture.families.pool_held_seconds;
        let counted = counted.series([pool.name(), "many"]).value();
        assert!((counted - held).abs() < 1e-6, "{counted} {held}");
    }
}

#[test]
fn a_hold_that_outlives_its_job_is_counted_under_the_jobs_name() {
    let pooled = pooled(of_size(1));
    let mut context = Some(job("leaking"));
    let leaked = context::within(&mut context, || pooled.pool.get().unwrap());
    settle(context, "leaking");
    std::thread::sleep(Duration::from_millis(2));
    drop(leaked);
    let endpoints: Vec<_> = pooled.held_seconds().into_keys().collect();
    assert_eq!(endpoints, ["leaking"]);
    pooled.all_is_accounted_for();
}

#[test]
fn the_time_of_a_request_that_is_not_recorded_is_unattributed() {
    let pooled = pooled(of_size(1));
    // Nothing settles this context.
    context::within(&mut None, || drop(pooled.pool.get().unwrap()));
    let endpoints: Vec<_> = pooled.held_seconds().into_keys().collect();
    assert_eq!(endpoints, ["unattributed"]);
    pooled.all_is_accounted_for();
}

#[actix_web::test]
async fn concurrent_work_is_accounted_for() {
    let pooled = pooled(of_size(3));
    let tasks = (0..50).map(|number| {
        let pool = pooled.pool.clone();
        let name = ["/a", "/b", "/c"][number % 3];
        actix_web::rt::spawn(async move {
            let mut context = Some(job(name));
            let work = context::within(&mut context, || {
                context::carry_future(async move {
                    pool.run(|connection| items::table.count().get_result::<i64>(connection))
                        .await
                })
            });
            work.await.unwrap();
            settle(context, name);
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    let endpoints: Vec<_> = pooled.held_seconds().into_keys().collect();
    assert_eq!(endpoints, ["/a", "/b", "/c"]);
    assert_eq!(pooled.holds(), 50);
    pooled.all_is_accounted_for();
}

#[test]
fn a_health_check_holds_no_connection() {
    let pooled = pooled(of_size(1));
    let before = pooled.holds();
    let levels = pooled.fixture.database.levels();
    let answer = actix_web::rt::System::new().block_on(levels.ping());
    assert!(matches!(answer, Some(Ok(()))));
    assert_eq!(pooled.holds(), before);
    assert!(pooled.report().connections.is_empty());
    pooled.all_is_accounted_for();
}

#[test]
fn a_checkout_allocates_nothing() {
    let pooled = pooled(|builder| of_size(1)(builder).test_on_check_out(false));
    let mut context = Some(job("counted"));
    context::within(&mut context, || {
        let checkout = || drop(pooled.pool.get().unwrap());
        let checkouts = (0..100).map(|_| allocation_counter::measure(checkout).count_total);
        // Histograms allocate an octave when the first value falls into it.
        let free = checkouts.filter(|allocations| *allocations == 0).count();
        assert!(free > 80, "{free} of 100");
    });
}
