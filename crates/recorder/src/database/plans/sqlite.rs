//! How SQLite is asked for the plan of a statement, and how its answer is read.

use super::flags::{PlanFacts, TableFacts};
use super::node::{MOST_STEPS, PlanStep, bounded};
use crate::database::explaining::{Answer, AskError, Asked, TextRow};
use crate::database::sql::{Dialect, filters};

/// The name of what a step looks for in an index.
pub(super) const INDEX_CONDITION: &str = "Index Cond";

/// The most tables that are asked about.
const MOST_TABLES: usize = 20;

/// Whether the database is a file. One in memory belongs to its connection: another connection sees another one.
pub(super) fn is_file(connection: &mut dyn Asked) -> Answer<bool> {
    let rows = connection.rows("SELECT file FROM pragma_database_list WHERE name = 'main'")?;
    let file = rows.first().and_then(|row| row.first()?.as_deref());
    Ok(file.is_some_and(|file| !file.is_empty()))
}

/// The plan of a statement, and what its flags follow from.
pub(super) fn explain(connection: &mut dyn Asked, sql: &str) -> Answer<(PlanStep, PlanFacts)> {
    let rows = connection.rows(&format!("EXPLAIN QUERY PLAN {sql}"))?;
    let mut plan = read(&rows);
    // SQLite shows the alias of a table in place of its name.
    let filters = filters::of_statement(sql, Dialect::Sqlite);
    plan.visit(&mut |step| {
        if let Some(table) = &mut step.table {
            *table = filters.table(table).to_owned();
        }
    });
    let facts = facts(connection, &plan.tables());
    let mut indexes = Vec::new();
    plan.visit(&mut |step| indexes.extend(step.index.clone()));
    indexes.truncate(MOST_TABLES);
    for index in indexes {
        let columns = index_columns(connection, &index).unwrap_or_default();
        plan.visit(&mut |step| {
            if step.index.as_ref() == Some(&index) {
                step.index_columns.clone_from(&columns);
            }
        });
    }
    Ok((plan, facts))
}

fn index_columns(connection: &mut dyn Asked, index: &str) -> Answer<Vec<String>> {
    let rows = connection.rows(&format!(
        "SELECT name FROM pragma_index_info({}) ORDER BY seqno",
        string(index)?
    ))?;
    Ok(rows.into_iter().filter_map(|mut row| row.pop()?).collect())
}

/// What is known of each table. Nothing of one that is none, such as a common table expression.
fn facts(connection: &mut dyn Asked, tables: &[String]) -> PlanFacts {
    let tables = tables.iter().take(MOST_TABLES);
    PlanFacts {
        tables: tables
            .map(|name| TableFacts {
                name: name.clone(),
                rows: rows_of(connection, name),
                leading_columns: leading_columns(connection, name).unwrap_or_default(),
            })
            .collect(),
        work_mem: None,
    }
}

/// How many rows a table has, by ANALYZE, or at most by its greatest row id. No rows are counted.
fn rows_of(connection: &mut dyn Asked, table: &str) -> Option<f64> {
    let literal = string(table).ok()?;
    let name = name(table).ok()?;
    // Without ANALYZE there is no such table.
    let analysed = connection.rows(&format!(
        "SELECT max(CAST(stat AS INTEGER)) FROM sqlite_stat1 WHERE tbl = {literal}"
    ));
    let analysed = analysed.ok().and_then(|rows| number(&rows));
    // A seek to the last row. ANALYZE may have been long ago, so the greater number counts.
    let greatest = connection.rows(&format!("SELECT max(rowid) FROM {name}"));
    let greatest = greatest.ok().and_then(|rows| number(&rows));
    match (analysed, greatest) {
        (Some(analysed), Some(greatest)) if greatest < 2.0 * analysed => Some(analysed),
        (analysed, greatest) => greatest.or(analysed),
    }
}

fn leading_columns(connection: &mut dyn Asked, table: &str) -> Answer<Vec<String>> {
    let literal = string(table)?;
    let rows = connection.rows(&format!(
        "SELECT c.name FROM pragma_index_list({literal}) i, pragma_index_info(i.name) c WHERE c.seqno = 0 AND i.partial = 0 \
         UNION SELECT name FROM pragma_table_info({literal}) WHERE pk = 1"
    ))?;
    Ok(rows.into_iter().filter_map(|mut row| row.pop()?).collect())
}

fn number(rows: &[TextRow]) -> Option<f64> {
    rows.first()?.first()?.as_deref()?.parse().ok()
}

/// A text as a literal of SQL.
fn string(text: &str) -> Answer<String> {
    if text.contains('\0') {
        return Err(AskError::Rejected);
    }
    Ok(format!("'{}'", text.replace('\'', "''")))
}

/// A name in quotes.
fn name(text: &str) -> Answer<String> {
    if text.contains('\0') {
        return Err(AskError::Rejected);
    }
    Ok(format!("\"{}\"", text.replace('"', "\"\"")))
}

/// Reads the rows of `EXPLAIN QUERY PLAN`: id, parent, an unused number, and a line.
fn read(rows: &[TextRow]) -> PlanStep {
    let lines: Vec<_> = rows
        .iter()
        .take(MOST_STEPS)
        .filter_map(|row| match row.as_slice() {
            [Some(id), Some(parent), _, Some(line)] => {
                Some((id.parse().ok()?, parent.parse().ok()?, line.as_str()))
            }
            _ => None,
        })
        .collect();
    PlanStep {
        operation: "QUERY PLAN".to_owned(),
        steps: steps_below(0, &lines),
        ..PlanStep::default()
    }
}

fn steps_below(parent: i64, lines: &[(i64, i64, &str)]) -> Vec<PlanStep> {
    // A step comes after its parent, so that this ends whatever the numbers are.
    let below = lines.iter().enumerate();
    let below = below.filter(|(_, (_, of, _))| *of == parent);
    below
        .map(|(index, (id, _, line))| {
            let rest = lines.get(index + 1..).unwrap_or_default();
            PlanStep {
                steps: if *id == parent {
                    Vec::new()
                } else {
                    steps_below(*id, rest)
                },
                ..step(line)
            }
        })
        .collect()
}

/// Reads a line such as `SEARCH items USING COVERING INDEX items_name (name=?)`. A line of another kind is kept as it is.
fn step(line: &str) -> PlanStep {
    let read = ["SCAN", "SEARCH"]
        .iter()
        .find_map(|verb| Some((*verb, line.strip_prefix(verb)?.strip_prefix(' ')?)))
        .filter(|(_, rest)| !rest.starts_with('(') && *rest != "CONSTANT ROW");
    let Some((verb, rest)) = read else {
        return PlanStep {
            operation: bounded(line.to_owned()),
            ..PlanStep::default()
        };
    };
    // Before version 3.36.
    let rest = rest.strip_prefix("TABLE ").unwrap_or(rest);
    let (table, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    let means = rest.split_once("USING ").map(|(_, means)| means);
    let (means, condition) = match means.and_then(|means| means.split_once('(')) {
        Some((means, condition)) => (Some(means), condition.rsplit_once(')')),
        None => (means, None),
    };
    let (kind, index) = match means.map(str::trim_end) {
        Some(means) => match means.split_once("INDEX ") {
            Some((kind, index)) => (Some(format!("{kind}INDEX")), index.split(' ').next()),
            None => (Some(means.to_owned()), None),
        },
        None => (None, None),
    };
    let kind = kind.map(|kind| format!(" BY {kind}"));
    let condition = condition.map(|(condition, _)| condition.to_owned());
    PlanStep {
        operation: bounded(format!("{verb}{}", kind.unwrap_or_default())),
        table: Some(bounded(table.to_owned())),
        index: index.map(|index| bounded(index.to_owned())),
        conditions: condition
            .map(|condition| (INDEX_CONDITION.to_owned(), bounded(condition)))
            .into_iter()
            .collect(),
        ..PlanStep::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        for (line, operation, table, index, condition) in [
            ("SCAN items", "SCAN", Some("items"), None, None),
            (
                "SEARCH items USING INDEX items_name (name=? AND id>?)",
                "SEARCH BY INDEX",
                Some("items"),
                Some("items_name"),
                Some("name=? AND id>?"),
            ),
            (
                "SEARCH b USING AUTOMATIC COVERING INDEX (x=?) LEFT-JOIN",
                "SEARCH BY AUTOMATIC COVERING INDEX",
                Some("b"),
                None,
                Some("x=?"),
            ),
            (
                "SCAN items USING COVERING INDEX i",
                "SCAN BY COVERING INDEX",
                Some("items"),
                Some("i"),
                None,
            ),
            (
                "SEARCH items USING INTEGER PRIMARY KEY (rowid=?)",
                "SEARCH BY INTEGER PRIMARY KEY",
                Some("items"),
                None,
                Some("rowid=?"),
            ),
            (
                "USE TEMP B-TREE FOR ORDER BY",
                "USE TEMP B-TREE FOR ORDER BY",
                None,
                None,
                None,
            ),
            ("SCAN CONSTANT ROW", "SCAN CONSTANT ROW", None, None, None),
            ("SCAN TABLE items", "SCAN", Some("items"), None, None),
            ("SCAN (subquery-1)", "SCAN (subquery-1)", None, None, None),
        ] {
            let step = step(line);
            assert_eq!(step.operation, operation, "{line}");
            assert_eq!(
                (
                    step.table.as_deref(),
                    step.index.as_deref(),
                    step.condition(INDEX_CONDITION)
                ),
                (table, index, condition),
                "{line}"
            );
        }
    }

    #[test]
    fn lines_form_a_tree_whatever_their_numbers() {
        let row = |id: i64, parent: i64, line: &str| {
            let number = |number: i64| Some(number.to_string());
            vec![number(id), number(parent), number(0), Some(line.to_owned())]
        };
        let plan = read(&[
            row(1, 0, "COMPOUND QUERY"),
            row(2, 1, "LEFT-MOST SUBQUERY"),
            row(5, 2, "SCAN a"),
            row(9, 1, "UNION ALL"),
            row(0, 0, "SCAN b"),
            vec![None],
        ]);
        let lines = |steps: &[PlanStep]| -> Vec<String> {
            steps.iter().map(|step| step.operation.clone()).collect()
        };
        assert_eq!(lines(&plan.steps), ["COMPOUND QUERY", "SCAN"]);
        assert_eq!(
            lines(&plan.steps[0].steps),
            ["LEFT-MOST SUBQUERY", "UNION ALL"]
        );
        assert_eq!(plan.steps[0].steps[0].steps[0].table.as_deref(), Some("a"));
    }
}
