//! Attribution of queries to requests and jobs, on SQLite, PostgreSQL and (with the feature `mysql`) MariaDB.
//!
//! Known traffic moves every family by exactly the right amount, under the right endpoint. Statements are reported by their
//! shape, and no value is shown anywhere.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::float_cmp,
    reason = "a test may panic and print; counts are whole numbers, which floats represent exactly"
)]

mod support;

use support::log::Log;
use support::{exposition, postgres, server, tools};
#[macro_use]
#[path = "attribution/app.rs"]
mod app;
#[path = "attribution/lines.rs"]
mod lines;
#[path = "attribution/outside.rs"]
mod outside;
#[path = "attribution/requests.rs"]
mod requests;
#[path = "attribution/statements.rs"]
mod statements;

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::LazyLock;

use actix_vitals::Builder;
use diesel::{PgConnection, SqliteConnection};

use app::{Engine, TestApp, start};
use exposition::Exposition;
use outside::*;
use postgres::Cluster;
use requests::*;
use server::Data as _;
use statements::*;
use support::database_counts::{database_counts, expected_counts, openings};

app::impl_engine!(SqliteConnection);
app::impl_engine!(PgConnection);

/// A secret. No other text contains it.
const SECRET: &str = "xyzzy4711plugh";

/// A type of connection with a real database.
trait Backed: Engine {
    /// The URL of an empty database, and what keeps it. `None` if the programs of the database are missing.
    fn database() -> Option<(String, Box<dyn Any>)>;

    /// The URL of a database that does not exist. It contains the secret.
    fn nowhere() -> String;
}

impl Backed for SqliteConnection {
    fn database() -> Option<(String, Box<dyn Any>)> {
        let directory = tempfile::tempdir().unwrap();
        let url = directory.path().join("items.db").display().to_string();
        Some((url, Box::new(directory)))
    }

    fn nowhere() -> String {
        format!("/nowhere/{SECRET}/items.db")
    }
}

impl Backed for PgConnection {
    fn database() -> Option<(String, Box<dyn Any>)> {
        let programs = tools::postgres("attribution on PostgreSQL")?;
        let database = Cluster::shared(&programs).database();
        Some((database.url(), Box::new(database)))
    }

    fn nowhere() -> String {
        format!("postgres://somebody:{SECRET}@127.0.0.1:1/nowhere")
    }
}

#[cfg(feature = "mysql")]
#[path = "mysql/mariadb.rs"]
mod mariadb_server;

#[cfg(feature = "mysql")]
app::impl_engine!(diesel::MysqlConnection);

#[cfg(feature = "mysql")]
impl Backed for diesel::MysqlConnection {
    fn database() -> Option<(String, Box<dyn Any>)> {
        let server = mariadb_server::Mariadb::shared("attribution on MariaDB")?;
        Some((server.create_database(), Box::new(server)))
    }

    fn nowhere() -> String {
        format!("mysql://somebody:{SECRET}@127.0.0.1:1/nowhere")
    }
}

/// Each test, on each database.
macro_rules! on_each_database {
    ($($test:ident)*) => {
        mod sqlite {
            $(#[actix_web::test] async fn $test() { super::$test::<diesel::SqliteConnection>().await; })*
        }
        mod postgresql {
            $(#[actix_web::test] async fn $test() { super::$test::<diesel::PgConnection>().await; })*
        }
        #[cfg(feature = "mysql")]
        mod mariadb {
            $(#[actix_web::test] async fn $test() { super::$test::<diesel::MysqlConnection>().await; })*
        }
    };
}

on_each_database! {
    known_traffic_moves_every_family_by_exactly_the_right_amount
    a_plain_pool_counts_like_an_instrumented_one
    queries_on_other_threads_and_tasks_belong_to_their_request
    a_query_in_the_synchronous_part_of_a_middleware_belongs_to_its_request
    a_background_job_is_recorded_like_an_endpoint
    queries_outside_of_any_request_are_counted_as_such
    queries_of_an_excluded_request_are_not_unattributed
    a_query_that_outlives_its_request_is_attributed_at_its_end
    a_wait_for_the_pool_is_in_server_timing
    no_response_has_server_timing_by_default
    the_threshold_of_n_plus_one_can_be_set_and_turned_off
    a_loop_after_many_other_statements_is_detected
    a_suspected_loop_is_logged_once_by_its_endpoint_and_its_shape
    statements_are_reported_by_their_shape_with_their_endpoints
    the_rows_of_statements_add_up_to_all_queries
    wrong_parameters_and_methods_are_rejected
    ten_thousand_values_are_one_shape
    no_secret_is_shown
}

/// Each test of lines and of kinds of repetition, on each database.
mod lines_on {
    macro_rules! lines_on_each_database {
        ($($test:ident)*) => {
            mod sqlite {
                $(#[actix_web::test] async fn $test() { crate::lines::$test::<diesel::SqliteConnection>().await; })*
            }
            mod postgresql {
                $(#[actix_web::test] async fn $test() { crate::lines::$test::<diesel::PgConnection>().await; })*
            }
            #[cfg(feature = "mysql")]
            mod mariadb {
                $(#[actix_web::test] async fn $test() { crate::lines::$test::<diesel::MysqlConnection>().await; })*
            }
        };
    }

    lines_on_each_database! {
        a_loop_is_named_with_its_kind_and_its_line
        a_stack_is_captured_once_for_each_statement_and_endpoint
        a_slow_statement_is_logged_with_its_line
        a_slow_statement_that_is_not_kept_is_logged_with_its_operation
        harmless_requests_raise_nothing
        no_line_is_found_if_that_is_turned_off
    }
}

/// The log of the process, including the threads of the pool. It is set before the first log line, because lines without a
/// subscriber may stay disabled for a later one.
static LOG: LazyLock<Log> = LazyLock::new(|| Log::of_process(tracing::Level::TRACE));

/// The application over a database of its own, with a pool of this size.
async fn app_on<C: Backed>(
    size: u32,
    settings: fn(Builder) -> Builder,
) -> Option<(TestApp<C>, Box<dyn Any>)> {
    LazyLock::force(&LOG);
    let (url, database) = C::database()?;
    Some((start(&url, size, settings).await, database))
}

fn defaults(builder: Builder) -> Builder {
    builder
}

/// How much the samples of these names rose between two scrapes, without those that did not.
fn moved(before: &Exposition, after: &Exposition, names: &[&str]) -> BTreeMap<String, f64> {
    let mut moved = BTreeMap::new();
    for (name, labels, value) in after.samples() {
        let earlier = before
            .series(name)
            .into_iter()
            .find(|(of_series, _)| *of_series == labels);
        let rise = value - earlier.map_or(0.0, |(_, value)| value);
        if names.contains(&name) && rise != 0.0 {
            let values: Vec<&str> = labels.values().map(String::as_str).collect();
            moved.insert(format!("{name} {}", values.join(" ")), rise);
        }
    }
    moved
}

/// How many queries ran, for whom.
const QUERIES: [&str; 3] = [
    "db_queries_total",
    "db_queries_unattributed_total",
    "http_request_db_queries_sum",
];

const COUNTS: [&str; 10] = [
    "db_queries_unattributed_total",
    "http_request_db_queries_count",
    "http_request_db_queries_sum",
    "http_request_db_seconds_count",
    "http_n_plus_one_suspected_total",
    "db_queries_total",
    "db_query_errors_total",
    "db_transactions_total",
    "db_transaction_duration_seconds_count",
    "db_pool_wait_seconds_count",
];

/// Asserts that a request moves every count of databases by `queries`, under its endpoint, and by `others`.
async fn moves_exactly<C: Engine>(
    app: &TestApp<C>,
    endpoint: &str,
    queries: &[(&str, f64)],
    others: &[(&str, f64)],
) {
    let before = app.scrape();
    let status = app.get(endpoint).await.status;
    let after = app.scrape();
    let connections = if queries.is_empty() { 0.0 } else { 1.0 };
    assert_eq!(
        database_counts(&before, &after),
        expected_counts(endpoint, queries, connections, others),
        "{endpoint}: {status}"
    );
    assert_eq!(openings(&before, &after), 0.0, "{endpoint}");
    let seconds = moved(&before, &after, &["http_request_db_seconds_sum"]);
    assert_eq!(
        seconds.len(),
        usize::from(!queries.is_empty()),
        "{endpoint}"
    );
}
