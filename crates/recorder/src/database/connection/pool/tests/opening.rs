//! How a pool opens and checks its connections, and what it counts of that.

use super::*;

#[test]
fn connections_are_counted_and_timed_when_opened() {
    let pooled = pooled(of_size(3));
    let families = &pooled.fixture.families;
    assert_eq!(families.connections_opened.series([""]).value(), 3);
    assert_eq!(
        families
            .connection_open_seconds
            .series([""])
            .snapshot()
            .count,
        3
    );
    assert_eq!(families.connection_open_errors.series([""]).value(), 0);
}

#[test]
fn a_connection_that_cannot_be_opened_is_an_open_error_and_no_connection() {
    let fixture = Fixture::new();
    let builder = r2d2::Pool::builder()
        .max_size(1)
        // An opening fails within that time.
        .connection_timeout(Duration::from_secs(1));
    let error = fixture
        .database
        .instrument(builder)
        .build(ConnectionManager::<SqliteConnection>::new(
            "/nowhere/s3cret.db",
        ))
        .unwrap_err();
    assert_eq!(error, CheckoutError::Unavailable);
    assert!(!format!("{error} {error:?}").contains("s3cret"));
    assert!(fixture.families.connection_open_errors.series([""]).value() >= 1);
    assert_eq!(fixture.families.connections_opened.series([""]).value(), 0);
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
fn a_pool_reports_an_unavailable_database_and_recovers() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("later");
    let path = home.join("pool.db");
    let builder = r2d2::Pool::builder()
        .max_size(1)
        // An opening fails within that time.
        .connection_timeout(Duration::from_secs(1));
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
