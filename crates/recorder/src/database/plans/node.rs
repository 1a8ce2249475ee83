//! A plan as a tree of steps, without values, and what identifies it.
//!
//! Both databases' plans become such a tree. Only what is known to contain no value, or what the reader of SQL has
//! normalised, gets into it.

use std::fmt::Write as _;
use std::hash::{Hash as _, Hasher as _};

use foldhash::fast::FixedState;

/// The most steps of a plan that are kept.
pub(super) const MOST_STEPS: usize = 100;

/// The longest text of a step that is kept, in bytes.
const LONGEST: usize = 512;

/// One step of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct PlanStep {
    /// What the step does: `Seq Scan` on PostgreSQL, `SEARCH BY INDEX` on SQLite.
    pub operation: String,
    /// The table that it reads or writes.
    pub table: Option<String>,
    /// The index that it reads.
    pub index: Option<String>,
    /// The columns of that index, where they are known.
    pub index_columns: Vec<String>,
    /// How many rows the planner expects from it, each time that it runs.
    pub rows: Option<f64>,
    /// How many rows its table has, by the database's statistics.
    pub table_rows: Option<f64>,
    /// The planner's estimate of its cost with the steps below, in the planner's unit.
    pub cost: Option<f64>,
    /// How many bytes the planner expects of a row.
    pub(super) width: Option<f64>,
    /// Conditions and orders by their names, such as `Filter`, without values.
    pub conditions: Vec<(String, String)>,
    /// The steps that it gets its rows from.
    pub steps: Vec<PlanStep>,
}

impl PlanStep {
    /// The text of a condition, without its values.
    pub(super) fn condition(&self, name: &str) -> Option<&str> {
        let mut conditions = self.conditions.iter();
        conditions
            .find(|(found, _)| found == name)
            .map(|(_, text)| text.as_str())
    }

    /// Calls `visit` for this step and all below.
    pub(super) fn visit(&mut self, visit: &mut impl FnMut(&mut Self)) {
        visit(self);
        for step in &mut self.steps {
            step.visit(visit);
        }
    }

    /// The tables of this step and all below, each once.
    pub(super) fn tables(&mut self) -> Vec<String> {
        let mut tables = Vec::new();
        self.visit(&mut |step| {
            if let Some(table) = &step.table
                && !tables.contains(table)
            {
                tables.push(table.clone());
            }
        });
        tables
    }

    /// The same for all plans that differ only in costs and numbers of rows.
    pub(super) fn fingerprint(&self) -> String {
        let mut text = String::new();
        self.write_identity(&mut text);
        let mut hasher = std::hash::BuildHasher::build_hasher(&FixedState::with_seed(0));
        text.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }

    fn write_identity(&self, text: &mut String) {
        // Writing to a string cannot fail.
        let _ = write!(
            text,
            "({:?} {:?} {:?} {:?}",
            self.operation, self.table, self.index, self.conditions
        );
        for step in &self.steps {
            step.write_identity(text);
        }
        text.push(')');
    }
}

/// Shortens a text to what is kept of it.
pub(super) fn bounded(mut text: String) -> String {
    if text.len() > LONGEST {
        let end = (0..=LONGEST).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push_str("...");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(operation: &str, steps: Vec<PlanStep>) -> PlanStep {
        PlanStep {
            operation: operation.to_owned(),
            steps,
            ..PlanStep::default()
        }
    }

    #[test]
    fn a_fingerprint_ignores_costs_and_rows_and_nothing_else() {
        let plan = step("Sort", vec![step("Seq Scan", vec![])]);
        let mut dearer = plan.clone();
        dearer.cost = Some(12.0);
        dearer.steps[0].rows = Some(5.0);
        dearer.steps[0].table_rows = Some(7.0);
        dearer.steps[0].width = Some(7.0);
        assert_eq!(plan.fingerprint(), dearer.fingerprint());
        let mut others = vec![
            step("Sort", vec![step("Index Scan", vec![])]),
            step("Sort", vec![]),
            step("Sort", vec![step("Seq Scan", vec![step("Sort", vec![])])]),
        ];
        let mut table = plan.clone();
        table.steps[0].table = Some("items".to_owned());
        let mut index = plan.clone();
        index.steps[0].index = Some("items".to_owned());
        let mut condition = plan.clone();
        condition.conditions = vec![("Filter".to_owned(), "(id = ?)".to_owned())];
        others.extend([table, index, condition]);
        for other in others {
            assert_ne!(plan.fingerprint(), other.fingerprint(), "{other:?}");
        }
    }

    #[test]
    fn long_texts_are_shortened_between_characters() {
        assert_eq!(bounded("short".to_owned()), "short");
        let long = bounded("ä".repeat(LONGEST));
        assert_eq!(long.len(), LONGEST + 3);
        assert!(long.ends_with("ä..."));
    }
}
