//! What the tests of this module share: a registry with the families of the database, and a table to work on.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;

use crate::naming::Naming;
use vitals_registry::{Format, Registry};

use crate::database::families::DatabaseFamilies;
use crate::database::{Database, DatabaseSettings};

diesel::table! {
    items (id) {
        id -> Integer,
        name -> Text,
    }
}

pub(in crate::database) struct Fixture {
    pub(in crate::database) families: DatabaseFamilies,
    pub(in crate::database) database: Database,
    registry: Registry,
}

impl Fixture {
    pub(in crate::database) fn new() -> Self {
        let mut builder = Registry::builder(|| Duration::from_secs(1));
        let families = DatabaseFamilies::declare(&mut builder, Naming::Vitals, &[0.001, 1.0]);
        let registry = builder.build().unwrap();
        let database = Database::new(families.clone(), DatabaseSettings::default());
        registry.register(database.levels().clone()).unwrap();
        registry.register(database.fullness()).unwrap();
        Self {
            families,
            database,
            registry,
        }
    }

    /// A connection to a database of its own, with the table, from which nothing has been recorded yet.
    pub(in crate::database) fn connection(&self) -> SqliteConnection {
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        create_table(&mut connection);
        connection.set_instrumentation(self.database.recorder::<SqliteConnection>());
        connection
    }

    /// The exposition with exemplars.
    pub(in crate::database) fn open_metrics(&self) -> String {
        String::from_utf8(self.registry.encode(Format::OpenMetrics)).unwrap()
    }

    /// How many places of the table of statements are taken.
    pub(in crate::database) fn places(&self) -> Option<u64> {
        let exposition = self.open_metrics();
        let mut lines = exposition.lines();
        let places = lines.find_map(|line| line.strip_prefix("db_statements "))?;
        places.parse().ok()
    }

    /// The operations that were counted, and that the histogram has as many observations of.
    pub(in crate::database) fn queries(&self) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        self.families
            .queries
            .for_each(|[system, operation, pool], counter| {
                let observed = self
                    .families
                    .query_seconds
                    .series([system, operation, pool])
                    .snapshot();
                assert_eq!(observed.count, counter.value(), "{operation}");
                assert!(observed.sum >= 0.0);
                if counter.value() > 0 {
                    found.push((operation.to_owned(), counter.value()));
                }
            });
        found.sort();
        found
    }

    pub(in crate::database) fn errors(&self) -> Vec<(String, String, u64)> {
        let mut found = Vec::new();
        self.families
            .query_errors
            .for_each(|[_, operation, kind, _], counter| {
                if counter.value() > 0 {
                    found.push((operation.to_owned(), kind.to_owned(), counter.value()));
                }
            });
        found.sort();
        found
    }

    /// How many transactions were committed, and how many rolled back.
    pub(in crate::database) fn transactions(&self) -> (u64, u64) {
        let count = |outcome| {
            let counted = self.families.transactions.series([outcome, ""]).value();
            let observed = self
                .families
                .transaction_seconds
                .series([outcome, ""])
                .snapshot();
            assert_eq!(observed.count, counted, "{outcome}");
            counted
        };
        (count("committed"), count("rolled_back"))
    }
}

pub(in crate::database) fn create_table(connection: &mut SqliteConnection) {
    connection
        .batch_execute("CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE CHECK (length(name) < 9))")
        .unwrap();
}

pub(in crate::database) fn insert(
    connection: &mut SqliteConnection,
    name: &str,
) -> QueryResult<usize> {
    diesel::insert_into(items::table)
        .values(items::name.eq(name))
        .execute(connection)
}

/// By `RETURNING`, whose failures Diesel does not report.
pub(in crate::database) fn insert_returning(
    connection: &mut SqliteConnection,
    name: &str,
) -> QueryResult<i32> {
    diesel::insert_into(items::table)
        .values(items::name.eq(name))
        .returning(items::id)
        .get_result(connection)
}
