//! What is recorded of a connection: every query once, transactions and errors.

mod failures;
mod many_texts;
mod pings;

use std::num::NonZeroU32;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::serialize::{self, ToSql};
use diesel::sql_types::{Integer, Text};
use diesel::sqlite::Sqlite;

use super::super::fixture::{Fixture, insert, insert_returning, items};
use super::{QueryRecorder, record_error};
use crate::clock;
use crate::context;
use crate::database::statements::Order;
use vitals_registry::SpanContext;

fn queries(expected: &[(&str, u64)]) -> Vec<(String, u64)> {
    expected
        .iter()
        .map(|&(operation, count)| (operation.to_owned(), count))
        .collect()
}

fn errors(expected: &[(&str, &str, u64)]) -> Vec<(String, String, u64)> {
    expected
        .iter()
        .map(|&(operation, kind, count)| (operation.to_owned(), kind.to_owned(), count))
        .collect()
}

fn recorder(connection: &mut SqliteConnection) -> &mut QueryRecorder {
    QueryRecorder::of(connection).unwrap()
}

#[test]
fn every_query_is_counted_once_under_its_operation() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for name in ["a", "b", "c"] {
        insert(connection, name).unwrap();
    }
    insert_returning(connection, "d").unwrap();
    let names: Vec<String> = items::table.select(items::name).load(connection).unwrap();
    assert_eq!(names.len(), 4);
    items::table.count().get_result::<i64>(connection).unwrap();
    diesel::update(items::table.find(1))
        .set(items::name.eq("e"))
        .execute(connection)
        .unwrap();
    diesel::delete(items::table.find(2))
        .execute(connection)
        .unwrap();
    connection.batch_execute("PRAGMA user_version = 1").unwrap();
    assert_eq!(
        fixture.queries(),
        queries(&[
            ("delete", 1),
            ("insert", 4),
            ("other", 1),
            ("select", 2),
            ("update", 1)
        ])
    );
    assert_eq!(fixture.errors(), []);
    assert_eq!(fixture.transactions(), (0, 0));
}

#[test]
fn raw_queries_of_one_type_keep_their_own_verbs() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for _ in 0..3 {
        for sql in [
            "SELECT 1",
            "-- why\nDELETE FROM items",
            "WITH a AS (SELECT 'x') INSERT INTO items (name) SELECT * FROM a",
        ] {
            diesel::sql_query(sql).execute(connection).unwrap();
            connection.batch_execute(sql).ok();
        }
        connection.batch_execute("DELETE FROM items").unwrap();
    }
    assert_eq!(
        fixture.queries(),
        queries(&[("delete", 9), ("insert", 6), ("select", 6)])
    );
}

#[test]
fn cached_and_raw_statements_are_counted_under_their_operations() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for round in 0..5 {
        insert(connection, &format!("n{round}")).unwrap();
        let found: Option<i32> = items::table
            .filter(items::id.eq(round))
            .select(items::id)
            .first(connection)
            .optional()
            .unwrap();
        assert_eq!(found.is_some(), round > 0);
        diesel::sql_query("SELECT 1").execute(connection).unwrap();
    }
    assert_eq!(fixture.queries(), queries(&[("insert", 5), ("select", 10)]));
}

/// Each statement's shape, calls and errors, in the order of the shapes.
fn statements(fixture: &Fixture) -> Vec<(String, u64, u64)> {
    let reports = fixture.database.statements().report(Order::Total, 1000);
    let mut found: Vec<_> = reports
        .into_iter()
        .map(|report| (report.statement, report.calls, report.errors))
        .collect();
    found.sort();
    found
}

fn expected_statements(expected: &[(&str, u64, u64)]) -> Vec<(String, u64, u64)> {
    expected
        .iter()
        .map(|&(statement, calls, errors)| (statement.to_owned(), calls, errors))
        .collect()
}

const INSERT: &str = "INSERT INTO `items` (`name`) VALUES (?, ...)";

#[test]
fn every_statement_is_counted_under_its_shape() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for round in 0..300 {
        insert(connection, &format!("n{round}")).unwrap();
        diesel::sql_query(format!("SELECT {round}, 'n{round}'"))
            .execute(connection)
            .unwrap();
    }
    insert(connection, "n1").unwrap_err();
    let other = &mut fixture.connection();
    insert_returning(other, "n1").unwrap();
    let error = insert_returning(other, "n1").unwrap_err();
    record_error(other, &error);
    assert_eq!(
        statements(&fixture),
        expected_statements(&[
            (INSERT, 301, 1),
            (&format!("{INSERT} RETURNING `id`"), 2, 1),
            ("SELECT ?, ?", 300, 0),
        ])
    );
    assert!(recorder(connection).text.is_empty(), "it held literals");
}

#[test]
fn boxed_queries_of_one_type_keep_their_own_statements() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let mut select = |by_id: bool, by_name: bool| {
        let mut query = items::table.select(items::id).into_boxed();
        if by_id {
            query = query.filter(items::id.eq(1));
        }
        if by_name {
            query = query.filter(items::name.eq("a"));
        }
        query.load::<i32>(connection).unwrap();
    };
    for _ in 0..10 {
        select(true, false);
        select(false, true);
        select(true, true);
    }
    let all = "SELECT `items`.`id` FROM `items` WHERE";
    let both = format!("{all} ((`items`.`id` = ?) AND (`items`.`name` = ?))");
    assert_eq!(
        statements(&fixture),
        expected_statements(&[
            (&both, 10, 0),
            (&format!("{all} (`items`.`id` = ?)"), 10, 0),
            (&format!("{all} (`items`.`name` = ?)"), 10, 0),
        ])
    );
}

#[test]
fn a_reset_starts_at_zero_on_connections_that_know_the_statement() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for name in ["a", "b", "c"] {
        insert(connection, name).unwrap();
    }
    fixture.database.statements().reset();
    assert_eq!(statements(&fixture), []);
    insert(connection, "d").unwrap();
    assert_eq!(statements(&fixture), expected_statements(&[(INSERT, 1, 0)]));
}

#[test]
fn the_tally_of_a_request_contains_its_queries_shapes_and_time() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let mut context = None;
    context::within(&mut context, || {
        connection
            .transaction(|connection| {
                insert(connection, "a")?;
                insert(connection, "b")?;
                items::table.count().get_result::<i64>(connection)
            })
            .unwrap();
    });
    insert(connection, "c").unwrap();
    let context = context.unwrap();
    assert_eq!(context.queries(), 3);
    assert!(context.database_time() > std::time::Duration::ZERO);
    let runs: Vec<u32> = context.shapes().map(|(_, runs)| runs).collect();
    assert_eq!(runs, [2, 1]);
}

#[test]
fn a_query_within_another_takes_no_time_twice() {
    let fixture = Fixture::new();
    let mut recorder = fixture.database.recorder::<SqliteConnection>();
    let query = diesel::sql_query("SELECT 1");
    let mut context = None;
    let started = clock::now();
    context::within(&mut context, || {
        recorder.start(&diesel::debug_query::<Sqlite, _>(&query));
        recorder.start(&diesel::debug_query::<Sqlite, _>(&query));
        std::thread::sleep(std::time::Duration::from_millis(20));
        recorder.finish(None);
        recorder.finish(None);
    });
    let context = context.unwrap();
    assert_eq!(context.queries(), 2);
    assert!(context.database_time() <= clock::now().since(started));
}

#[test]
fn an_error_is_counted_once_under_its_operation_and_kind() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    insert(connection, "a").unwrap();
    insert(connection, "a").unwrap_err();
    insert(connection, "too long a name").unwrap_err();
    diesel::sql_query("INSERT INTO items (name) VALUES (NULL)")
        .execute(connection)
        .unwrap_err();
    diesel::sql_query("SELECT nothing FROM nowhere")
        .execute(connection)
        .unwrap_err();
    connection.batch_execute("nonsense").unwrap_err();
    assert_eq!(
        fixture.queries(),
        queries(&[("insert", 4), ("other", 1), ("select", 1)])
    );
    assert_eq!(
        fixture.errors(),
        errors(&[
            ("insert", "check_violation", 1),
            ("insert", "not_null_violation", 1),
            ("insert", "unique_violation", 1),
            ("other", "other", 1),
            ("select", "other", 1),
        ])
    );
}

#[test]
fn an_error_that_diesel_leaves_out_is_counted_once_when_recorded() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    insert_returning(connection, "a").unwrap();
    let error = insert_returning(connection, "a").unwrap_err();
    assert_eq!(
        fixture.errors(),
        [],
        "Diesel reports it by now: record_error can go"
    );
    record_error(connection, &error);
    record_error(connection, &error);
    assert_eq!(fixture.queries(), queries(&[("insert", 2)]));
    assert_eq!(
        fixture.errors(),
        errors(&[("insert", "unique_violation", 1)])
    );
}

#[test]
fn an_error_that_diesel_reported_is_not_counted_again_when_recorded() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    insert(connection, "a").unwrap();
    let error = insert(connection, "a").unwrap_err();
    record_error(connection, &error);
    items::table.count().get_result::<i64>(connection).unwrap();
    record_error(connection, &error);
    assert_eq!(
        fixture.errors(),
        errors(&[("insert", "unique_violation", 1)])
    );
}

#[test]
fn an_error_left_out_in_a_transaction_belongs_to_the_query_before_the_rollback() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let error = connection
        .transaction(|connection| {
            insert_returning(connection, "a")?;
            insert_returning(connection, "a")
        })
        .unwrap_err();
    record_error(connection, &error);
    assert_eq!(
        fixture.errors(),
        errors(&[("insert", "unique_violation", 1)])
    );
    assert_eq!(fixture.transactions(), (0, 1));
}

#[test]
fn errors_that_are_not_the_databases_are_not_counted() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let error = items::table
        .select(items::id)
        .first::<i32>(connection)
        .unwrap_err();
    assert_eq!(error, Error::NotFound);
    for error in [
        error,
        Error::RollbackTransaction,
        Error::BrokenTransactionManager,
    ] {
        record_error(connection, &error);
    }
    assert_eq!(fixture.queries(), queries(&[("select", 1)]));
    assert_eq!(fixture.errors(), []);
}

#[test]
fn a_result_dropped_early_is_counted_once() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    insert(connection, "a").unwrap();
    insert(connection, "b").unwrap();
    let mut rows = items::table
        .load_iter::<(i32, String), _>(connection)
        .unwrap();
    rows.next().unwrap().unwrap();
    assert_eq!(fixture.queries(), queries(&[("insert", 2)]));
    drop(rows);
    assert_eq!(fixture.queries(), queries(&[("insert", 2), ("select", 1)]));
}

/// A value that cannot be sent.
#[derive(Debug, diesel::expression::AsExpression)]
#[diesel(sql_type = Text)]
struct Unsendable;

impl ToSql<Text, Sqlite> for Unsendable {
    fn to_sql<'b>(&'b self, _: &mut serialize::Output<'b, '_, Sqlite>) -> serialize::Result {
        Err("no".into())
    }
}

#[test]
fn a_query_that_was_never_sent_is_not_counted() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    for _ in 0..9 {
        diesel::delete(items::table.filter(items::name.eq(Unsendable)))
            .execute(connection)
            .unwrap_err();
    }
    insert(connection, "a").unwrap();
    assert_eq!(fixture.queries(), queries(&[("insert", 1)]));
    assert_eq!(fixture.errors(), []);
}

#[test]
fn a_query_within_another_is_counted_by_itself() {
    let fixture = Fixture::new();
    let mut recorder = fixture.database.recorder::<SqliteConnection>();
    let select = diesel::sql_query("SELECT oid FROM pg_type");
    let insert = diesel::sql_query("INSERT INTO t VALUES ($1)");
    recorder.start(&diesel::debug_query::<Sqlite, _>(&insert));
    recorder.start(&diesel::debug_query::<Sqlite, _>(&select));
    recorder.finish(None);
    recorder.finish(None);
    recorder.finish(None);
    assert_eq!(fixture.queries(), queries(&[("insert", 1), ("select", 1)]));
}

#[test]
fn a_failed_query_that_finishes_twice_is_counted_once() {
    let fixture = Fixture::new();
    let mut recorder = fixture.database.recorder::<SqliteConnection>();
    let select = diesel::sql_query("SELECT 1");
    let error = Error::DatabaseError(DatabaseErrorKind::ClosedConnection, Box::new(String::new()));
    // Left unfinished by somebody before.
    recorder.start(&diesel::debug_query::<Sqlite, _>(&select));
    recorder.start(&diesel::debug_query::<Sqlite, _>(&select));
    recorder.finish(Some(&error));
    recorder.finish(None);
    assert_eq!(fixture.queries(), queries(&[("select", 1)]));
    assert_eq!(
        fixture.errors(),
        errors(&[("select", "connection_lost", 1)])
    );
}

#[test]
fn the_outermost_transaction_is_counted_once_by_its_outcome() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    connection
        .transaction(|connection| {
            insert(connection, "a")?;
            connection.transaction(|connection| {
                insert(connection, "b")?;
                connection
                    .transaction(|_| Err::<(), _>(Error::RollbackTransaction))
                    .unwrap_err();
                Ok::<_, Error>(())
            })
        })
        .unwrap();
    assert_eq!(fixture.transactions(), (1, 0));
    connection
        .immediate_transaction(|connection| {
            connection.transaction(|connection| insert(connection, "c"))?;
            Err::<(), _>(Error::RollbackTransaction)
        })
        .unwrap_err();
    assert_eq!(fixture.transactions(), (1, 1));
    assert_eq!(fixture.queries(), queries(&[("insert", 3)]));
    assert_eq!(fixture.errors(), []);
}

#[test]
fn a_nested_transaction_that_rolls_back_leaves_the_outer_one_to_commit() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    connection
        .transaction(|connection| {
            insert(connection, "a")?;
            let inner = connection.transaction(|connection| {
                insert(connection, "b")?;
                insert(connection, "b")
            });
            assert!(inner.is_err());
            Ok::<_, Error>(())
        })
        .unwrap();
    assert_eq!(fixture.transactions(), (1, 0));
    assert_eq!(fixture.queries(), queries(&[("insert", 3)]));
    assert_eq!(
        fixture.errors(),
        errors(&[("insert", "unique_violation", 1)])
    );
}

#[test]
fn a_commit_that_fails_is_a_rollback_and_an_error() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    recorder(connection).mute(true);
    connection
        .batch_execute(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE children (item INTEGER REFERENCES items (id) DEFERRABLE INITIALLY DEFERRED)",
        )
        .unwrap();
    recorder(connection).mute(false);
    let error = connection
        .transaction(|connection| {
            diesel::sql_query("INSERT INTO children VALUES (7)").execute(connection)
        })
        .unwrap_err();
    record_error(connection, &error);
    assert_eq!(fixture.transactions(), (0, 1));
    assert_eq!(fixture.queries(), queries(&[("insert", 1)]));
    assert_eq!(
        fixture.errors(),
        errors(&[("other", "foreign_key_violation", 1)])
    );
}

#[test]
fn a_transaction_that_cannot_begin_is_an_error_only() {
    let fixture = Fixture::new();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("locked.db");
    let mut other = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    other
        .batch_execute("CREATE TABLE t (a); BEGIN EXCLUSIVE")
        .unwrap();
    let mut connection = SqliteConnection::establish(path.to_str().unwrap()).unwrap();
    connection.set_instrumentation(fixture.database.recorder::<SqliteConnection>());
    let error = connection
        .immediate_transaction(|_| Ok::<_, Error>(()))
        .unwrap_err();
    record_error(&mut connection, &error);
    drop(connection);
    assert_eq!(fixture.transactions(), (0, 0));
    assert_eq!(fixture.queries(), []);
    assert_eq!(fixture.errors(), errors(&[("other", "busy", 1)]));
}

#[test]
fn closing_a_connection_rolls_back_its_transaction() {
    use diesel::connection::{AnsiTransactionManager, TransactionManager};
    let fixture = Fixture::new();
    let mut connection = fixture.connection();
    AnsiTransactionManager::begin_transaction(&mut connection).unwrap();
    insert(&mut connection, "a").unwrap();
    assert_eq!(fixture.transactions(), (0, 0));
    drop(connection);
    assert_eq!(fixture.transactions(), (0, 1));
}

#[test]
fn a_transaction_made_by_hand_is_not_counted() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    diesel::sql_query("BEGIN").execute(connection).unwrap();
    insert(connection, "a").unwrap();
    connection.batch_execute("COMMIT").unwrap();
    assert_eq!(fixture.queries(), queries(&[("insert", 1)]));
    assert_eq!(fixture.transactions(), (0, 0));
}

#[test]
fn a_transaction_that_the_database_ended_is_counted_as_rolled_back() {
    let fixture = Fixture::new();
    let mut recorder = fixture.database.recorder::<SqliteConnection>();
    let control = diesel::sql_query("BEGIN");
    let begin = |recorder: &mut QueryRecorder| {
        recorder.announce(NonZeroU32::MIN.get(), super::Control::Begin);
        recorder.start(&diesel::debug_query::<Sqlite, _>(&control));
        recorder.finish(None);
    };
    begin(&mut recorder);
    begin(&mut recorder);
    assert_eq!(fixture.transactions(), (0, 1));
    recorder.turn_over();
    assert_eq!(fixture.transactions(), (0, 2));
    drop(recorder);
    assert_eq!(fixture.transactions(), (0, 2));
}

#[test]
fn the_current_span_is_the_exemplar_of_what_is_recorded() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    let span = SpanContext {
        trace_id: 0xabc,
        span_id: 0xdef,
    };
    let mut context = Some(context::of_span(span));
    context::within(&mut context, || {
        connection
            .transaction(|connection| insert(connection, "a"))
            .unwrap();
    });
    let exposition = fixture.open_metrics();
    for family in [
        "db_query_duration_seconds",
        "db_transaction_duration_seconds",
    ] {
        let exemplar = exposition
            .lines()
            .any(|line| line.starts_with(family) && line.contains("00000abc"));
        assert!(exemplar, "{family}");
    }
}

#[test]
fn no_bind_is_exposed() {
    let fixture = Fixture::new();
    let connection = &mut fixture.connection();
    insert(connection, "s3cret").unwrap();
    insert(connection, "s3cret").unwrap_err();
    diesel::sql_query("SELECT ?")
        .bind::<Integer, _>(31_337)
        .execute(connection)
        .unwrap();
    let exposition = fixture.open_metrics();
    assert!(!exposition.contains("s3cret") && !exposition.contains("31337"));
    let recorder = format!("{:?}", recorder(connection));
    assert!(!recorder.contains("s3cret") && !recorder.contains("31337"));
}
