//! Levels, names and holds of pools.

use super::*;
use crate::database::Order;
use crate::database::names::MOST;

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
fn each_open_pool_has_a_unique_name_and_a_closed_pool_has_no_level() {
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
fn closed_pools_are_forgotten_although_nobody_scrapes() {
    let fixture = Fixture::new();
    let open = || {
        let builder = r2d2::Pool::builder().max_size(1).min_idle(Some(0));
        fixture
            .database
            .instrument(builder)
            .build(ConnectionManager::<SqliteConnection>::new(":memory:"))
            .unwrap()
    };
    let pools: Vec<_> = (0..20).map(|_| open()).collect();
    let watched = || fixture.database.levels().shared().watched().len();
    assert_eq!(watched(), 20);
    drop(pools);
    until("the next pool takes their place", || {
        std::thread::sleep(Duration::from_millis(50));
        drop(open());
        watched() < 20
    });
}

#[test]
fn pools_beyond_the_limit_share_one_name() {
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
    assert_eq!(names.len(), MOST + 1);
    let beyond = (70 - MOST) as f64;
    assert_eq!(levels_of(&fixture, "overflow"), Some([0.0, 0.0, beyond]));
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
fn pools_of_any_kind_are_told_apart_from_the_second_on() {
    let fixture = Fixture::new();
    let database = &fixture.database;
    let manager = || ConnectionManager::<SqliteConnection>::new(":memory:");
    let builder = r2d2::Pool::builder().max_size(1);
    let shop = database.instrument(builder).name("shop").build(manager());
    let mut of_shop = shop.as_ref().unwrap().get().unwrap();
    let select = |connection: &mut SqliteConnection| {
        diesel::sql_query("SELECT 7").execute(connection).unwrap();
    };
    select(&mut of_shop);
    let audit = database.monitor("audit", r2d2::Pool::builder().max_size(1), manager());
    // On connections that were opened before, and after, and in no pool.
    select(&mut of_shop);
    select(&mut audit.unwrap().get().unwrap());
    let mut alone = SqliteConnection::establish(":memory:").unwrap();
    database.instrument_connection(&mut alone);
    for _ in 0..3 {
        select(&mut alone);
    }
    let count = |pool| {
        fixture
            .families
            .queries
            .series(["", "select", pool])
            .value()
    };
    assert_eq!(["shop", "audit", ""].map(count), [1, 1, 1 + 3]);
    let reports = database.statements().report(Order::Calls, 10);
    let rows: Vec<_> = (reports.iter())
        .map(|row| (row.pool.as_deref(), row.calls))
        .collect();
    assert_eq!(rows, [(None, 3), (Some("shop"), 2), (Some("audit"), 1)]);
}
