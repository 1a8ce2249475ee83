//! The table of statements: what is counted of each, and which give way.

use std::sync::Arc;
use std::time::Duration;

use super::table::{ENDPOINTS, Statement};
use super::{Known, Order, Statements};
use crate::vitals::clock;
use crate::vitals::context::Shapes as _;
use crate::vitals::database::sql::{self, Dialect, Operation};

fn run(statements: &Statements, sql: &str, seconds: f64) -> Arc<Statement> {
    let statement = statements.of_shape(&sql::read(sql, Dialect::Unknown).shape, Operation::Select);
    statement.ran(Duration::from_secs_f64(seconds), Duration::ZERO);
    statement
}

fn texts(statements: &Statements, order: Order) -> Vec<String> {
    let reports = statements.report(order, 100);
    reports.into_iter().map(|report| report.statement).collect()
}

#[test]
fn calls_of_one_shape_are_one_statement() {
    let statements = Statements::new(10);
    for number in 0..10_000 {
        run(&statements, &format!("SELECT {number}"), 0.001);
    }
    let reports = statements.report(Order::Total, 100);
    assert_eq!(reports.len(), 1);
    let report = &reports[0];
    assert_eq!((report.calls, report.errors), (10_000, 0));
    assert_eq!(report.statement, "SELECT ?");
    assert!((report.total_seconds - 10.0).abs() < 1e-6);
    assert!((report.mean_seconds - 0.001).abs() < 1e-9);
    assert!((report.p95_seconds / 0.001 - 1.0).abs() < 0.02);
}

#[test]
fn the_most_of_what_is_asked_for_comes_first() {
    let statements = Statements::new(10);
    run(&statements, "SELECT slow", 3.0);
    for _ in 0..9 {
        run(&statements, "SELECT frequent", 1.0);
    }
    run(&statements, "SELECT wrong", 0.1).failed();
    for (order, first) in [
        (Order::Total, "SELECT frequent"),
        (Order::Mean, "SELECT slow"),
        (Order::Calls, "SELECT frequent"),
        (Order::Errors, "SELECT wrong"),
        (Order::P95, "SELECT slow"),
    ] {
        assert_eq!(texts(&statements, order)[0], first, "{order:?}");
    }
    assert_eq!(statements.report(Order::Total, 2).len(), 2);
}

#[test]
fn the_least_costly_give_way() {
    let statements = Statements::new(20);
    let first = run(&statements, "SELECT costly", 9.0);
    for number in 0..100 {
        run(&statements, &format!("SELECT c{number}"), 0.001);
    }
    let last = run(&statements, "SELECT also_costly", 8.0);
    for number in 0..100 {
        run(&statements, &format!("SELECT d{number}"), 0.001);
    }
    let texts = texts(&statements, Order::Total);
    assert!(texts.len() <= 20, "{}", texts.len());
    assert_eq!(texts[..2], ["SELECT costly", "SELECT also_costly"]);
    assert!(!first.is_retired() && !last.is_retired());
}

#[test]
fn a_retired_statement_is_renewed_when_it_is_run() {
    let statements = Statements::new(10);
    let mut known = Known::new(statements.clone(), Dialect::Unknown);
    let (_, place) = known.of_text("SELECT 1").unwrap();
    let took = Duration::from_millis(1);
    let before = known.ran(place, took, clock::now()).unwrap();
    statements.reset();
    let after = known.ran(place, took, clock::now()).unwrap();
    assert_ne!(before, after);
    assert_eq!(statements.report(Order::Total, 10)[0].calls, 1);
    assert_eq!(statements.text(before), None);
    assert_eq!(statements.text(after).as_deref(), Some("SELECT ?"));
}

#[test]
fn a_connection_remembers_a_bounded_number_of_texts_and_statements() {
    let mut known = Known::new(Statements::new(10), Dialect::Unknown);
    let first = known.of_text("SELECT first").unwrap().1;
    for number in 0..2_000 {
        known.of_text(&format!("SELECT c{number}"));
    }
    assert!(!known.is_valid(first));
    assert_eq!(known.ran(first, Duration::ZERO, clock::now()), None);
    let again = known.of_text("SELECT first").unwrap().1;
    assert!(known.ran(again, Duration::ZERO, clock::now()).is_some());
}

#[test]
fn control_of_a_transaction_is_no_statement() {
    let statements = Statements::new(10);
    let mut known = Known::new(statements.clone(), Dialect::Unknown);
    assert_eq!(known.of_text("BEGIN IMMEDIATE"), None);
    assert_eq!(known.of_text("BEGIN IMMEDIATE"), None);
    assert!(statements.is_empty());
}

#[test]
fn the_endpoints_that_ran_a_statement_first_are_told() {
    let statements = Statements::new(10);
    let shape = run(&statements, "SELECT 1", 0.1).shape();
    for number in [0, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9] {
        statements.ran_by(shape, "GET", &format!("/{number}"));
    }
    let endpoints = &statements.report(Order::Total, 1)[0].endpoints;
    assert_eq!(endpoints.len(), ENDPOINTS);
    assert_eq!(endpoints[..3], ["GET /0", "GET /1", "GET /2"]);
}
