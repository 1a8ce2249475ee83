//! Tests the table of statements: the counts of each, which are evicted, and that no call is lost.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use super::connection_statements::{ConnectionStatements, StatementLookup};
use super::table::{ENDPOINTS, MIN_AGE, OTHER, Statement};
use super::{Order, StatementFilter, Statements};
use crate::clock;
use crate::context::StatementShapes as _;
use crate::database::sql::{Dialect, Operation, Verb, read};
use crate::database::{Database, DatabaseFamilies, DatabaseSettings};

/// A table, the families of all queries, and a connection that has run no statement.
struct TableFixture {
    families: DatabaseFamilies,
    statements: Statements,
    known: ConnectionStatements,
}

fn connection_to(statements: Statements) -> ConnectionStatements {
    ConnectionStatements::new(statements, Dialect::Unknown, "default".into())
}

fn table_of(capacity: usize) -> TableFixture {
    let families = DatabaseFamilies::of_a_test();
    let database = Database::new(
        families.clone(),
        DatabaseSettings {
            statements: capacity,
            ..DatabaseSettings::default()
        },
    );
    let statements = database.statements().clone();
    let known = connection_to(statements.clone());
    TableFixture {
        families,
        statements,
        known,
    }
}

impl TableFixture {
    /// Runs a query as the recorder does. Returns the number of its statement.
    fn run(&mut self, sql: &str, seconds: f64) -> Option<NonZeroU32> {
        let place = self.place(sql);
        self.run_at(place, seconds)
    }

    fn place(&mut self, sql: &str) -> StatementLookup {
        self.known.of_text(self.known.hash(sql), sql).0.unwrap().1
    }

    fn run_at(&mut self, place: StatementLookup, seconds: f64) -> Option<NonZeroU32> {
        let (number, _) = self.known.ran(place, seconds, clock::now());
        let all = (self.families.query_seconds).series(["", "select", ""]);
        all.observe(seconds);
        number
    }

    /// Switches to another connection.
    fn connect(&mut self) {
        self.known = connection_to(self.statements.clone());
    }

    /// Reads the table when its statements are old enough to be evicted.
    fn read_later(&self) {
        self.statements.make_room(MIN_AGE * 2);
    }

    /// The statements with their calls, in this order.
    fn rows(&self, order: Order) -> Vec<(String, u64)> {
        let reports = self.statements.report(order, 10_000);
        let row = |report: super::StatementReport| (report.statement, report.calls);
        reports.into_iter().map(row).collect()
    }

    fn calls(&self) -> u64 {
        self.rows(Order::Total).iter().map(|(_, calls)| calls).sum()
    }
}

fn of_text(statements: &Statements, sql: &str) -> Option<Arc<Statement>> {
    let reading = read(sql, Dialect::Unknown);
    assert_eq!(reading.verb, Verb::Query(Operation::Select));
    let pool = Arc::from("default");
    let hash = statements.hash(&reading.shape, Operation::Select, &pool);
    statements.of_text(hash, &reading.shape, Operation::Select, &pool)
}

#[test]
fn calls_of_one_shape_are_one_statement() {
    let mut table = table_of(10);
    for number in 0..10_000 {
        table.run(&format!("SELECT {number}"), 0.001);
    }
    let reports = table.statements.report(Order::Total, 100);
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!((report.calls, report.errors), (10_000, 0));
    assert_eq!(report.statement, "SELECT ?");
    assert!((report.total_seconds - 10.0).abs() < 1e-6);
    assert!((report.mean_seconds - 0.001).abs() < 1e-9);
    assert!((report.p95_seconds / 0.001 - 1.0).abs() < 0.02);
}

#[test]
fn reports_are_ordered_by_the_chosen_figure() {
    let mut table = table_of(10);
    table.run("SELECT slow", 3.0);
    for _ in 0..9 {
        table.run("SELECT frequent", 1.0);
    }
    table.run("SELECT wrong", 0.1);
    let wrong = table.place("SELECT wrong");
    table.known.failed(wrong);
    for (order, first) in [
        (Order::Total, "SELECT frequent"),
        (Order::Mean, "SELECT slow"),
        (Order::Calls, "SELECT frequent"),
        (Order::Errors, "SELECT wrong"),
        (Order::P95, "SELECT slow"),
    ] {
        assert_eq!(table.rows(order)[0].0, first, "{order:?}");
    }
    assert_eq!(table.statements.report(Order::Total, 2).len(), 2);
}

#[test]
fn the_rows_contain_every_call_even_if_the_table_is_full() {
    let mut table = table_of(20);
    for _ in 0..3 {
        for number in 0..100 {
            table.run(&format!("SELECT c{number}"), 0.001);
        }
    }
    let rows = table.rows(Order::Total);
    assert_eq!(rows.len(), 21);
    assert_eq!(rows[0], (OTHER.to_owned(), 240));
    assert_eq!(table.calls(), 300);
    let other = table.statements.report(Order::Calls, 1).remove(0);
    assert_eq!(other.statement, OTHER);
    assert!((other.total_seconds - 0.24).abs() < 1e-9);
    assert!((other.p95_seconds / 0.001 - 1.0).abs() < 0.02);
    assert!(other.first_seen <= other.last_seen && other.endpoints.is_empty());
}

#[test]
fn the_row_other_has_its_place_in_the_order_within_the_limit() {
    let mut table = table_of(2);
    for (sql, seconds) in [("SELECT a", 5.0), ("SELECT b", 1.0), ("SELECT c", 3.0)] {
        table.run(sql, seconds);
    }
    let rows = table.rows(Order::Total);
    let names: Vec<_> = rows.iter().map(|(name, _)| &**name).collect();
    assert_eq!(names, ["SELECT a", OTHER, "SELECT b"]);
    for limit in 0..4 {
        let reports = table.statements.report(Order::Total, limit);
        let found: Vec<_> = reports.iter().map(|row| &*row.statement).collect();
        assert_eq!(found, names[..limit.min(3)]);
    }
}

#[test]
fn errors_and_unattributed_calls_of_statements_that_are_not_kept_are_in_the_row_other() {
    let mut table = table_of(1);
    for sql in ["SELECT kept", "SELECT other"] {
        table.run(sql, 0.001);
        let place = table.place(sql);
        for _ in 0..2 {
            table.known.failed(place);
        }
        table.known.unattributed(place);
        let unattributed = &table.families.unattributed;
        unattributed.series(["", "select", ""]).inc();
    }
    let rows: Vec<_> = table.statements.report(Order::Total, 10);
    let rows = rows.iter().map(|row| {
        let figures = (row.calls, row.errors, row.unattributed_calls);
        (row.statement.as_str(), figures)
    });
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [("SELECT kept", (1, 2, 1)), (OTHER, (1, 2, 1))]
    );
}

#[test]
fn the_least_costly_statements_are_evicted_and_no_call_is_lost() {
    let mut table = table_of(20);
    table.run("SELECT costly", 9.0);
    for number in 0..100 {
        table.run(&format!("SELECT c{number}"), 0.001);
    }
    table.run("SELECT also_costly", 8.0);
    assert!(!table.rows(Order::Total)[1].0.contains("also_costly"));
    table.read_later();
    assert_eq!(table.statements.kept(), 18, "a tenth was evicted");
    assert_eq!(table.statements.evicted(), 2);
    assert_eq!(table.calls(), 102);
    table.run("SELECT also_costly", 8.0);
    let rows = table.rows(Order::Total);
    let kept: Vec<_> = rows.iter().filter(|(text, _)| text != OTHER).collect();
    assert_eq!(kept[0], &("SELECT costly".to_owned(), 1));
    assert_eq!(kept[1], &("SELECT also_costly".to_owned(), 1));
    assert_eq!(table.calls(), 103);
}

#[test]
fn the_costly_half_is_never_evicted() {
    let mut table = table_of(20);
    for number in 0..10 {
        table.run(&format!("SELECT costly{number}"), 1.0);
    }
    for number in 0..500 {
        table.run(&format!("SELECT c{number}"), 0.001);
        table.read_later();
    }
    let rows = table.rows(Order::Total);
    assert!(rows[..10].iter().all(|(text, _)| text.contains("costly")));
    assert!(table.statements.evicted() > 300);
    assert_eq!(table.calls(), 510);
}

#[test]
fn an_evicted_statement_is_counted_again_by_a_connection_that_knows_it() {
    let mut table = table_of(2);
    table.run("SELECT a", 1.0);
    table.run("SELECT b", 2.0);
    assert_eq!(table.run("SELECT c", 3.0), None);
    table.read_later();
    assert!(table.run("SELECT a", 1.0).is_some(), "there is room again");
    assert_eq!(table.run("SELECT c", 3.0), None, "and now there is none");
    assert_eq!(
        table.rows(Order::Calls),
        [
            (OTHER.to_owned(), 3),
            ("SELECT b".to_owned(), 1),
            ("SELECT a".to_owned(), 1),
        ]
    );
    table.read_later();
    assert!(table.run("SELECT c", 3.0).is_some());
    assert_eq!(table.run("SELECT a", 1.0), None);
    assert_eq!(table.calls(), 7);
}

#[test]
fn a_young_statement_is_not_evicted() {
    let mut table = table_of(2);
    for sql in ["SELECT a", "SELECT b", "SELECT c"] {
        table.run(sql, 1.0);
    }
    table.statements.make_room(MIN_AGE / 2);
    assert_eq!(table.statements.kept(), 2);
    table.statements.make_room(MIN_AGE * 2);
    assert_eq!(table.statements.kept(), 1);
}

#[test]
fn nothing_is_evicted_if_all_statements_have_room() {
    let mut table = table_of(2);
    for sql in ["SELECT a", "SELECT b", "SELECT a"] {
        table.run(sql, 1.0);
    }
    table.read_later();
    assert_eq!(
        (table.statements.kept(), table.statements.evicted()),
        (2, 0)
    );
}

#[test]
fn a_retired_statement_is_renewed_when_it_is_run() {
    let mut table = table_of(1);
    let place = table.place("SELECT 1");
    let before = table.run_at(place, 0.001).unwrap();
    table.run("SELECT a", 1.0);
    table.read_later();
    assert_eq!(table.statements.text(before), None, "it was evicted");
    let after = table.run_at(place, 0.001).unwrap();
    assert_ne!(before, after);
    assert_eq!(
        table.rows(Order::Calls),
        [(OTHER.to_owned(), 2), ("SELECT ?".to_owned(), 1)]
    );
    assert_eq!(table.statements.text(after).as_deref(), Some("SELECT ?"));
}

#[test]
fn a_reset_counts_anew_and_keeps_what_is_known_of_a_statement() {
    let mut table = table_of(1);
    let created = table.statements.counted_since();
    let number = table.run("SELECT a", 4.0).unwrap();
    table.statements.ran_by(number, "GET", "/a");
    let place = table.place("SELECT a");
    table.known.failed(place);
    table.run("SELECT b", 1.0);
    table.statements.reset();
    assert_eq!(table.rows(Order::Total), []);
    let reset = table.statements.detail(number).unwrap();
    assert_eq!((reset.report.calls, reset.report.errors), (0, 0));
    assert_eq!(reset.history[0].calls, 1, "the last hour stays");
    assert_eq!(table.run("SELECT a", 1.0), Some(number));
    table.run("SELECT b", 1.0);
    assert_eq!(
        table.rows(Order::Total),
        [("SELECT a".to_owned(), 1), (OTHER.to_owned(), 1)]
    );
    let report = table.statements.report(Order::Total, 1).remove(0);
    assert!((report.p95_seconds - 1.0).abs() < 0.02 && (report.mean_seconds - 1.0).abs() < 1e-6);
    assert!(table.statements.counted_since() > created);
    assert_eq!(
        (report.errors, &*report.endpoints),
        (0, &["GET /a".to_owned()][..])
    );
}

#[test]
fn a_connection_remembers_all_statements_that_the_table_keeps() {
    let mut table = table_of(500);
    let mut places = Vec::new();
    for round in 0..3 {
        for number in 0..500 {
            let place = table.place(&format!("SELECT c{number}"));
            if round == 0 {
                places.push(place);
            }
            assert_eq!(place, places[number], "{round}");
        }
    }
    assert_eq!(table.known.remembered(), (500, 500));
}

#[test]
fn the_memory_of_a_connection_is_bounded() {
    let mut table = table_of(10);
    for number in 0..5_000 {
        table.run(&format!("SELECT c{number}"), 0.001);
        if number % 7 == 0 {
            table.read_later();
        }
        let (texts, statements) = table.known.remembered();
        assert!(texts <= 40 && statements <= 20, "{texts} {statements}");
    }
    assert_eq!(table.calls(), 5_000);
    let evicted = table.statements.evicted();
    assert!(evicted > 600, "{evicted}");
}

#[test]
fn connections_share_what_the_table_keeps() {
    let mut table = table_of(100);
    for _ in 0..5 {
        for number in 0..50 {
            table.run(&format!("SELECT c{number}"), 0.001);
        }
        table.connect();
    }
    let rows = table.rows(Order::Calls);
    assert_eq!(rows.len(), 50);
    assert!(rows.iter().all(|(_, calls)| *calls == 5));
}

#[test]
fn threads_lose_no_call_while_statements_are_evicted() {
    let table = table_of(8);
    let all = (table.families.query_seconds).series(["", "select", ""]);
    let statements = &table.statements;
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut known = connection_to(statements.clone());
                for number in 0..20_000 {
                    let sql = format!("SELECT c{}", number % 29);
                    let (_, place) = known.of_text(known.hash(&sql), &sql).0.unwrap();
                    known.ran(place, 0.001, clock::now());
                    all.observe(0.001);
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..200 {
                statements.make_room(MIN_AGE * 2);
                std::thread::yield_now();
            }
        });
    });
    assert_eq!(table.calls(), 60_000);
    assert!(table.statements.kept() <= 8);
}

#[test]
fn transaction_control_is_not_a_statement() {
    let mut table = table_of(10);
    for _ in 0..2 {
        let hash = table.known.hash("BEGIN IMMEDIATE");
        assert_eq!(table.known.of_text(hash, "BEGIN IMMEDIATE").0, None);
    }
    assert!(table.statements.is_empty());
}

#[test]
fn the_first_endpoints_that_ran_a_statement_are_reported() {
    let mut table = table_of(10);
    let number = table.run("SELECT 1", 0.1).unwrap();
    for endpoint in [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
        let endpoint = format!("/{endpoint}");
        table.statements.ran_by(number, "GET", &endpoint);
    }
    let endpoints = &table.statements.report(Order::Total, 1)[0].endpoints;
    assert_eq!(endpoints.len(), ENDPOINTS);
    assert_eq!(endpoints[..3], ["GET /0", "GET /1", "GET /2"]);
}

#[test]
fn one_shape_in_two_pools_is_two_statements() {
    let mut table = table_of(10);
    table.run("SELECT 1", 0.001);
    let shop = table.statements.clone();
    table.known = ConnectionStatements::new(shop, Dialect::Unknown, "audit".into());
    table.run("SELECT 2", 0.001);
    let number = table.run("SELECT 3", 0.001).unwrap();
    assert_eq!(table.statements.pool(number).as_deref(), Some("audit"));
    let rows = table.statements.report(Order::Calls, 10);
    let rows: Vec<_> = (rows.iter())
        .map(|row| (row.pool.as_deref(), &*row.statement, row.calls))
        .collect();
    assert_eq!(
        rows,
        [
            (Some("audit"), "SELECT ?", 2),
            (Some("default"), "SELECT ?", 1)
        ]
    );
}

#[test]
fn operations_of_one_shape_are_statements_of_their_own() {
    let table = table_of(10);
    let one = of_text(&table.statements, "SELECT 1").unwrap();
    let again = of_text(&table.statements, "SELECT 2").unwrap();
    assert!(Arc::ptr_eq(&one, &again));
    let (operation, pool) = (Operation::Other, Arc::from("default"));
    let hash = table.statements.hash("SELECT ?", operation, &pool);
    let other = (table.statements).of_text(hash, "SELECT ?", operation, &pool);
    assert_ne!(other.unwrap().number(), one.number());
}

#[test]
fn the_history_of_a_statement_ends_with_the_minute_that_is_not_over() {
    let mut table = table_of(10);
    let number = table.run("SELECT 1", 1.0).unwrap();
    let calls = |table: &TableFixture| {
        let history = table.statements.detail(number).unwrap().history;
        history
            .iter()
            .map(|minute| minute.calls)
            .collect::<Vec<_>>()
    };
    assert_eq!(calls(&table), [1]);
    table.statements.sample(Duration::from_secs(60));
    assert_eq!(calls(&table), [1, 0]);
    table.run("SELECT 2", 1.0);
    table.run("SELECT 3", 1.0);
    table.statements.sample(Duration::from_secs(119));
    assert_eq!(calls(&table), [1, 2], "the second minute is not over");
    table.statements.sample(Duration::from_secs(121));
    assert_eq!(calls(&table), [1, 2, 0]);
    let detail = table.statements.detail(number).unwrap();
    assert_eq!(detail.report.calls, 3);
    assert!(
        detail.history[0]
            .p95_seconds
            .is_some_and(|p95| (p95 - 1.0).abs() < 0.02)
    );
    assert_eq!(detail.history[2].p95_seconds, None);
}

#[test]
fn a_filter_chooses_by_endpoint_operation_and_text() {
    let mut table = table_of(10);
    let orders = table.run("SELECT id FROM orders", 2.0).unwrap();
    let customers = table.run("SELECT id FROM customers", 1.0).unwrap();
    table.run("DELETE FROM orders", 0.5).unwrap();
    table.statements.ran_by(orders, "GET", "/orders");
    table.statements.ran_by(customers, "GET", "/orders");
    table.statements.ran_by(customers, "PUT", "/customers/{id}");
    let owned = |text: &str| Some(text.to_owned());
    for (filter, expected, why) in [
        (
            StatementFilter {
                endpoint: owned("/orders"),
                ..StatementFilter::default()
            },
            vec![2.0, 1.0],
            "an endpoint",
        ),
        (
            StatementFilter {
                endpoint: owned("/orders"),
                method: owned("PUT"),
                ..StatementFilter::default()
            },
            vec![],
            "its method",
        ),
        (
            StatementFilter {
                method: owned("PUT"),
                ..StatementFilter::default()
            },
            vec![1.0],
            "a method",
        ),
        (
            StatementFilter {
                operation: Some(Operation::Delete),
                ..StatementFilter::default()
            },
            vec![0.5],
            "an operation",
        ),
        (
            StatementFilter {
                text: owned("ORDERS"),
                ..StatementFilter::default()
            },
            vec![2.0, 0.5],
            "a part in any case",
        ),
        (
            StatementFilter {
                text: owned("hunter2"),
                ..StatementFilter::default()
            },
            vec![],
            "no part, and no other row",
        ),
    ] {
        let rows = table.statements.report_some(&filter, Order::Total, 10);
        let seconds: Vec<_> = rows.iter().map(|row| row.total_seconds).collect();
        assert_eq!(seconds, expected, "{why}");
    }
}
