//! How full the table of statements is. A full table evicts statements when a scrape reads this.

use std::error::Error;

use super::table::Statements;
use crate::clock;
use vitals_registry::{Collector, FamilyDescription, FamilyRows, ReadFamily, Unit};

const KEPT: ReadFamily = ReadFamily::gauge(
    "db_statements",
    Unit::None,
    "Statements that are kept by shape for /ops/statements; at the capacity, further ones are counted as (other).",
);
const EVICTED: ReadFamily = ReadFamily::counter(
    "db_statements_evicted_total",
    Unit::None,
    "Statements that the full table evicted to make room for others; their counts are part of (other).",
);

/// How full a table is, read at the scrape.
#[derive(Debug)]
pub struct Fullness(pub(crate) Statements);

impl Collector for Fullness {
    fn name(&self) -> &'static str {
        "statements"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        vec![KEPT.describe(), EVICTED.describe()]
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let Self(statements) = self;
        statements.make_room(statements.age(clock::now()));
        rows.extend([
            KEPT.single(statements.kept() as f64),
            EVICTED.single(statements.evicted() as f64),
        ]);
        Ok(())
    }
}
