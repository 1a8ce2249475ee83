//! A ping is no query and takes no place in the table of statements, in whichever way it is recognised.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};

use super::super::super::fixture::Fixture;
use super::super::Driver;
use super::{queries, recorder};
use crate::database::holders::PoolHolders;

#[test]
fn pings_are_not_recorded() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    recorder(connection).mute(true);
    connection.batch_execute("SELECT 1").unwrap();
    connection.batch_execute("nonsense").unwrap_err();
    recorder(connection).mute(false);
    assert_eq!(fixture.queries(), []);
    assert_eq!(fixture.errors(), []);
    connection.batch_execute("SELECT 1").unwrap();
    assert_eq!(fixture.queries(), queries(&[("select", 1)]));
}

#[test]
fn a_bind_that_is_selected_on_a_pooled_connection_is_no_ping() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let recorder = recorder(connection);
    // As a connection of diesel-async in a pool, whose pings are muted.
    recorder.driver = Driver::Exclusive;
    recorder.slot = Some(PoolHolders::new(&fixture.families, "default").new_slot());
    for _ in 0..3 {
        let text: String = diesel::select("a".into_sql::<Text>())
            .get_result(connection)
            .unwrap();
        assert_eq!(text, "a");
    }
    assert_eq!(fixture.queries(), queries(&[("select", 3)]));
}

#[test]
fn of_a_connection_outside_of_any_pool_only_the_ping_itself_is_a_ping() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    recorder(connection).driver = Driver::Exclusive;
    let ping = |connection: &mut SqliteConnection| {
        let one = diesel::select(1.into_sql::<Integer>()).get_result::<i32>(connection);
        assert_eq!(one, Ok(1));
    };
    for _ in 0..3 {
        ping(connection);
    }
    assert_eq!(fixture.queries(), []);
    assert_eq!(fixture.places(), Some(0));
    let select = |connection: &mut SqliteConnection, value: i32| {
        let selected = diesel::select(value.into_sql::<Integer>()).get_result(connection);
        assert_eq!(selected, Ok(value));
    };
    // The type of the ping, and after so many runs one whose text is known.
    for round in 0..1_100 {
        select(connection, 2 + round);
        ping(connection);
    }
    assert_eq!(fixture.queries(), queries(&[("select", 1_100)]));
    for _ in 0..3 {
        let text: String = diesel::select("1".into_sql::<Text>())
            .get_result(connection)
            .unwrap();
        assert_eq!(text, "1");
        ping(connection);
    }
    assert_eq!(fixture.queries(), queries(&[("select", 1_103)]));
    assert_eq!(fixture.places(), Some(1));
}

/// Instruments the connections of a pool that is not ours.
#[derive(Debug)]
struct Instrumenting(crate::database::Database);

impl diesel::r2d2::CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Instrumenting {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        self.0.instrument_connection(connection);
        Ok(())
    }
}

#[test]
fn pings_of_a_foreign_pool_are_not_queries() {
    let fixture = Fixture::new();
    let pool = diesel::r2d2::Pool::builder()
        .max_size(1)
        .test_on_check_out(true)
        .connection_customizer(Box::new(Instrumenting(fixture.database.clone())))
        .build(diesel::r2d2::ConnectionManager::<SqliteConnection>::new(
            ":memory:",
        ))
        .unwrap();
    for _ in 0..3 {
        diesel::sql_query("SELECT 1")
            .execute(&mut pool.get().unwrap())
            .unwrap();
    }
    assert_eq!(fixture.queries(), [("select".to_owned(), 3)]);
    let statements = fixture.database.statements();
    let reports = statements.report(crate::database::Order::Calls, 10);
    let calls: Vec<u64> = reports.iter().map(|report| report.calls).collect();
    assert_eq!(calls, [3]);
    assert_eq!(fixture.places(), Some(1));
    assert_eq!(fixture.errors(), []);
}
