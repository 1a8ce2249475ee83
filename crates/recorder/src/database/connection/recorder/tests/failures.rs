//! Errors that are handed in: each is counted once, under the query it belongs to.

use diesel::prelude::*;
use diesel::result::Error;

use super::super::super::fixture::{Fixture, insert, insert_returning, items};
use super::super::record_error;
use super::{errors, recorder, statements};

/// A table with one item, from which nothing has been recorded yet.
fn connection_of(fixture: &Fixture) -> SqliteConnection {
    let mut connection = fixture.connection();
    recorder(&mut connection).mute(true);
    insert(&mut connection, "a").unwrap();
    recorder(&mut connection).mute(false);
    connection
}

/// Diesel reports this error.
fn reported(connection: &mut SqliteConnection) -> Error {
    insert(connection, "a").unwrap_err()
}

/// Diesel leaves this error out.
fn left_out(connection: &mut SqliteConnection) -> Error {
    insert_returning(connection, "a").unwrap_err()
}

fn succeed(connection: &mut SqliteConnection) {
    items::table.count().get_result::<i64>(connection).unwrap();
}

fn violations(count: u64) -> Vec<(String, String, u64)> {
    errors(&[("insert", "unique_violation", count)])
}

#[test]
fn errors_with_one_message_are_counted_for_each_statement_that_failed() {
    let fixture = Fixture::new();
    let connection = &mut connection_of(&fixture);
    for _ in 0..3 {
        let error = left_out(connection);
        record_error(connection, &error);
    }
    assert_eq!(fixture.errors(), violations(3));
    assert_eq!(statements(&fixture)[0].2, 3, "{:?}", statements(&fixture));
}

#[test]
fn an_error_is_counted_once_if_both_diesel_and_the_caller_report_it() {
    /// The query that fails, and then the error that is handed in.
    type Work = fn(&mut SqliteConnection);
    let cases: [(&str, u64, Work); 11] = [
        ("by an event", 1, |connection| {
            reported(connection);
        }),
        ("by both", 1, |connection| {
            let error = reported(connection);
            record_error(connection, &error);
        }),
        ("by both, and twice", 1, |connection| {
            let error = reported(connection);
            record_error(connection, &error);
            record_error(connection, &error);
        }),
        ("by hand, twice", 1, |connection| {
            let error = left_out(connection);
            record_error(connection, &error);
            record_error(connection, &error);
        }),
        ("by both, three times", 3, |connection| {
            for _ in 0..3 {
                let error = reported(connection);
                record_error(connection, &error);
            }
        }),
        ("in turns", 6, |connection| {
            for _ in 0..3 {
                let error = reported(connection);
                record_error(connection, &error);
                let error = left_out(connection);
                record_error(connection, &error);
            }
        }),
        (
            "by both, late, with a query that wrote in between",
            1,
            |connection| {
                let error = reported(connection);
                insert(connection, "b").unwrap();
                record_error(connection, &error);
            },
        ),
        (
            "by both, twice, with a query that read in between",
            1,
            |connection| {
                let error = reported(connection);
                record_error(connection, &error);
                succeed(connection);
                record_error(connection, &error);
            },
        ),
        (
            "by hand, with a query that read in between",
            1,
            |connection| {
                let error = left_out(connection);
                succeed(connection);
                record_error(connection, &error);
            },
        ),
        ("by events, all handed in at the end", 3, |connection| {
            let errors: Vec<Error> = (0..3).map(|_| reported(connection)).collect();
            for error in &errors {
                record_error(connection, error);
            }
        }),
        ("in transactions that were rolled back", 4, |connection| {
            for fail in [reported, left_out, reported, left_out] {
                let error = connection
                    .transaction(|connection| Err::<(), _>(fail(connection)))
                    .unwrap_err();
                record_error(connection, &error);
            }
        }),
    ];
    for (how, expected, work) in cases {
        let fixture = Fixture::new();
        work(&mut connection_of(&fixture));
        assert_eq!(fixture.errors(), violations(expected), "{how}");
    }
}

#[test]
fn queries_that_fail_while_their_rows_are_read_are_counted_one_by_one() {
    let fixture = Fixture::new();
    let connection = &mut connection_of(&fixture);
    for _ in 0..3 {
        // Fails at its first row. Diesel leaves that out.
        let error = diesel::sql_query("SELECT abs(-9223372036854775808) AS id FROM items")
            .load::<Overflow>(connection)
            .map(drop)
            .unwrap_err();
        record_error(connection, &error);
        record_error(connection, &error);
    }
    assert_eq!(fixture.errors(), errors(&[("select", "other", 3)]));
}

#[derive(QueryableByName)]
struct Overflow {
    #[allow(dead_code, reason = "there is never a row")]
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    id: i64,
}

#[test]
fn errors_of_the_previous_user_of_a_connection_are_dropped() {
    let fixture = Fixture::new();
    let connection = &mut connection_of(&fixture);
    let error = left_out(connection);
    recorder(connection).turn_over();
    record_error(connection, &error);
    assert_eq!(fixture.errors(), []);
}

#[test]
fn a_transaction_that_cannot_begin_is_one_error_however_it_is_reported() {
    use diesel::connection::SimpleConnection;
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locked.db").display().to_string();
    let mut other = SqliteConnection::establish(&path).unwrap();
    let mut connection = SqliteConnection::establish(&path).unwrap();
    connection.set_instrumentation(fixture.database.recorder::<SqliteConnection>());
    diesel::sql_query("SELECT 1")
        .execute(&mut connection)
        .unwrap();
    other
        .batch_execute("CREATE TABLE t (a); BEGIN EXCLUSIVE")
        .unwrap();
    for _ in 0..3 {
        let error = connection
            .immediate_transaction(|_| Ok::<_, Error>(()))
            .unwrap_err();
        record_error(&mut connection, &error);
        record_error(&mut connection, &error);
    }
    assert_eq!(fixture.errors(), errors(&[("other", "busy", 3)]));
}
