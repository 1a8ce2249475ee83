//! How PostgreSQL is asked for the generic plan of a statement, and how its answer is read.
//!
//! From version 16 on, `EXPLAIN (GENERIC_PLAN)` explains a text with placeholders. It does so only where nobody else
//! provides parameters: Diesel's protocol does, so the text goes through a `DO` block, whose dynamic SQL does not. Before
//! version 16, the statement is prepared, and the plan of its execution is explained with a forced generic plan.

use serde_json::{Map, Value};

use super::flags::{PlanFacts, TableFacts};
use super::node::{MOST_STEPS, PlanStep, bounded};
use crate::database::explaining::{Answer, AskError, Asked};
use crate::database::sql::{self, Dialect};

/// The first version with `EXPLAIN (GENERIC_PLAN)`.
const GENERIC_PLAN: u32 = 160_000;

/// The quotes around the statement within the `DO` block.
const QUOTE: &str = "$vitals_explained$";

/// How these quotes and those of the block begin. A text that contains it, as a name may, is not explained.
const QUOTE_BEGINNING: &str = "$vitals";

/// The most tables that are asked about.
const MOST_TABLES: usize = 20;

/// The conditions of a step, by their names in `EXPLAIN`.
const CONDITIONS: [&str; 13] = [
    "Index Cond",
    "Recheck Cond",
    "Filter",
    "Hash Cond",
    "Merge Cond",
    "Join Filter",
    "TID Cond",
    "One-Time Filter",
    "Sort Key",
    "Presorted Key",
    "Group Key",
    "Order By",
    "Conflict Filter",
];

/// The version of the server, as one number.
pub(super) fn version(connection: &mut dyn Asked) -> Answer<u32> {
    let rows = connection.rows("SHOW server_version_num")?;
    let version = rows
        .first()
        .and_then(|row| row.first()?.as_deref()?.parse().ok());
    version.ok_or(AskError::Rejected)
}

/// The plan of a statement, and what its flags follow from. Runs within a transaction that is rolled back.
pub(super) fn explain(
    connection: &mut dyn Asked,
    version: u32,
    sql: &str,
) -> Answer<(PlanStep, PlanFacts)> {
    if sql.contains(QUOTE_BEGINNING) {
        return Err(AskError::Rejected);
    }
    let plan = if version >= GENERIC_PLAN {
        generic_plan(connection, sql)?
    } else {
        forced_plan(connection, sql)?
    };
    let mut plan = read(&plan).ok_or(AskError::Rejected)?;
    let facts = facts(connection, &plan.tables())?;
    Ok((plan, facts))
}

fn generic_plan(connection: &mut dyn Asked, sql: &str) -> Answer<String> {
    connection.run(&format!(
        "DO $vitals$ DECLARE plan text; BEGIN \
         EXECUTE {QUOTE}EXPLAIN (GENERIC_PLAN, FORMAT JSON) {sql}{QUOTE} INTO plan; \
         PERFORM pg_catalog.set_config('actix_vitals.plan', plan, true); END $vitals$"
    ))?;
    text(connection.rows("SELECT pg_catalog.current_setting('actix_vitals.plan')")?)
}

fn forced_plan(connection: &mut dyn Asked, sql: &str) -> Answer<String> {
    // A prepared statement outlives its transaction: it is removed within it, so that it cannot stay behind in a session
    // of PgBouncer.
    connection.run(&format!(
        "SET LOCAL plan_cache_mode = force_generic_plan; \
         PREPARE vitals_explained AS {sql}"
    ))?;
    connection.run("SAVEPOINT vitals_explained")?;
    let nulls = vec!["NULL"; parameters(sql)];
    let nulls = if nulls.is_empty() {
        String::new()
    } else {
        format!("({})", nulls.join(", "))
    };
    let plan = connection.rows(&format!(
        "EXPLAIN (FORMAT JSON) EXECUTE vitals_explained{nulls}"
    ));
    let removed =
        connection.run("ROLLBACK TO SAVEPOINT vitals_explained; DEALLOCATE vitals_explained");
    let plan = text(plan?)?;
    removed?;
    Ok(plan)
}

/// How many parameters a text has: the greatest number of a placeholder.
fn parameters(sql: &str) -> usize {
    let numbers = sql.split('$').skip(1).filter_map(|rest| {
        let end = rest.find(|character: char| !character.is_ascii_digit());
        rest[..end.unwrap_or(rest.len())].parse().ok()
    });
    numbers.max().unwrap_or(0).min(65_535)
}

/// The rows of an answer with one column, as one text.
fn text(rows: Vec<Vec<Option<String>>>) -> Answer<String> {
    let lines: Option<Vec<_>> = rows.into_iter().map(|mut row| row.pop()?).collect();
    lines
        .filter(|lines| !lines.is_empty())
        .map(|lines| lines.join("\n"))
        .ok_or(AskError::Rejected)
}

/// Asks how many rows these tables have, and which columns their indexes begin with.
fn facts(connection: &mut dyn Asked, tables: &[String]) -> Answer<PlanFacts> {
    let names: Vec<_> = tables
        .iter()
        // Such names are rare, and how to quote a backslash depends on a setting.
        .filter(|name| !name.contains(['\'', '\\']))
        .take(MOST_TABLES)
        .map(|name| format!("'{name}'"))
        .collect();
    let names = if names.is_empty() {
        "''".to_owned()
    } else {
        names.join(", ")
    };
    // The planner computes rows like this: the rows of a page, as of the last ANALYZE, times the pages of now. A table
    // that was never analysed has 100 rows a page here.
    let rows = connection.rows(&format!(
        "SELECT c.relname::text, \
         ((CASE WHEN c.relpages > 0 AND c.reltuples >= 0 THEN c.reltuples / c.relpages ELSE 100 END) \
         * (pg_catalog.pg_relation_size(c.oid) / pg_catalog.current_setting('block_size')::int))::bigint::text, \
         (SELECT pg_catalog.string_agg(DISTINCT a.attname::text, pg_catalog.chr(10)) FROM pg_catalog.pg_index i \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0] \
         WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL), \
         pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem'))::text \
         FROM pg_catalog.pg_class c \
         WHERE c.relname IN ({names}) AND pg_catalog.pg_table_is_visible(c.oid)"
    ))?;
    let mut facts = PlanFacts::default();
    for row in rows {
        let [name, rows, columns, work_mem] = row.as_slice() else {
            continue;
        };
        let number = |text: &Option<String>| text.as_deref()?.parse::<f64>().ok();
        facts.work_mem = number(work_mem).or(facts.work_mem);
        facts.tables.push(TableFacts {
            name: name.clone().unwrap_or_default(),
            rows: number(rows),
            leading_columns: (columns.iter().flat_map(|columns| columns.lines()))
                .map(str::to_owned)
                .collect(),
        });
    }
    Ok(facts)
}

/// Reads the JSON of `EXPLAIN`.
fn read(json: &str) -> Option<PlanStep> {
    let answer: Value = serde_json::from_str(json).ok()?;
    let plan = answer.get(0)?.get("Plan")?.as_object()?;
    let mut left = MOST_STEPS;
    Some(step(plan, &mut left))
}

fn step(node: &Map<String, Value>, left: &mut usize) -> PlanStep {
    let text = |key: &str| node.get(key)?.as_str();
    let number = |key: &str| node.get(key)?.as_f64();
    let conditions = CONDITIONS.iter().filter_map(|name| {
        let condition = match node.get(*name)? {
            Value::String(condition) => condition.clone(),
            Value::Array(keys) => {
                let keys: Vec<_> = keys.iter().filter_map(Value::as_str).collect();
                keys.join(", ")
            }
            _ => return None,
        };
        Some(((*name).to_owned(), without_values(&condition)))
    });
    let below = node.get("Plans").and_then(Value::as_array);
    let mut steps = Vec::new();
    for below in below.into_iter().flatten().filter_map(Value::as_object) {
        let Some(rest) = left.checked_sub(1) else {
            break;
        };
        *left = rest;
        steps.push(step(below, left));
    }
    PlanStep {
        operation: bounded(operation(node)),
        table: text("Relation Name").map(|name| bounded(name.to_owned())),
        index: text("Index Name").map(|name| bounded(name.to_owned())),
        index_columns: Vec::new(),
        rows: number("Plan Rows"),
        table_rows: None,
        cost: number("Total Cost"),
        width: number("Plan Width"),
        conditions: conditions.collect(),
        steps,
    }
}

/// What a step does, with the words of `EXPLAIN`'s text form: `Nested Loop Left Join`, `Insert`, `Aggregate (Hashed)`.
fn operation(node: &Map<String, Value>) -> String {
    let text = |key: &str| node.get(key).and_then(Value::as_str);
    let kind = text("Node Type").unwrap_or("?");
    let is_parallel = node.get("Parallel Aware").and_then(Value::as_bool) == Some(true);
    let parallel = if is_parallel { "Parallel " } else { "" };
    match (kind, text("Operation"), text("Join Type"), text("Strategy")) {
        ("ModifyTable", Some(operation), ..) => operation.to_owned(),
        (_, _, Some("Inner"), _) => format!("{parallel}{kind}"),
        (_, _, Some(join), _) => format!("{parallel}{kind} {join} Join"),
        ("Aggregate", _, _, Some(strategy)) if strategy != "Plain" => {
            format!("{kind} ({strategy})")
        }
        _ => format!("{parallel}{kind}"),
    }
}

/// A condition without its values: those of a view or of a partial index may be in it.
fn without_values(condition: &str) -> String {
    bounded(sql::read(condition, Dialect::PostgreSql).shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::plans::flags::{self, PlanFlagKind};

    const PLAN: &str = r#"[{"Plan": {
        "Node Type": "Nested Loop", "Join Type": "Left", "Startup Cost": 0.0, "Total Cost": 58.11, "Plan Rows": 2,
        "Plan Width": 36, "Join Filter": "(a.secret = 'hunter2'::text)", "Output": ["a.id", "'hunter2'"],
        "Plans": [
            {"Node Type": "Seq Scan", "Parallel Aware": true, "Relation Name": "items", "Alias": "i", "Plan Rows": 5,
             "Filter": "((kind = 'hunter2'::text) AND (name = $1) AND (id > 4711))"},
            {"Node Type": "Sort", "Plan Rows": 5, "Sort Key": ["created_at DESC", "(lower('hunter2'::text))"]}
        ]}}]"#;

    #[test]
    fn a_plan_is_read_without_its_values() {
        let plan = read(PLAN).unwrap();
        assert_eq!(plan.operation, "Nested Loop Left Join");
        assert_eq!(plan.steps[0].operation, "Parallel Seq Scan");
        assert_eq!(plan.steps[0].table.as_deref(), Some("items"));
        assert_eq!(plan.steps[0].rows, Some(5.0));
        assert_eq!(plan.cost, Some(58.11));
        let shown = format!("{plan:?}");
        assert!(
            !shown.contains("hunter2") && !shown.contains("4711"),
            "{shown}"
        );
        assert_eq!(
            plan.steps[0].condition("Filter"),
            Some("((kind = ?::text) AND (name = ?) AND (id > ?))")
        );
    }

    /// A connection that may not be asked.
    struct Unasked;

    impl Asked for Unasked {
        fn run(&mut self, sql: &str) -> Answer<()> {
            panic!("{sql}");
        }

        fn rows(&mut self, sql: &str) -> Answer<Vec<Vec<Option<String>>>> {
            panic!("{sql}");
        }
    }

    #[test]
    fn a_name_that_would_end_the_quotes_is_sent_nowhere() {
        for name in ["a$vitals$", "a$vitals_explained$", "$vitals$; COMMIT; b"] {
            let sql = format!("SELECT \"{name}\" FROM items");
            for version in [150_000, 160_000] {
                let answer = explain(&mut Unasked, version, &sql);
                assert_eq!(answer.err(), Some(AskError::Rejected), "{name}");
            }
        }
    }

    #[test]
    fn answers_that_are_no_plan_are_rejected() {
        for json in ["", "[]", "{}", "[{}]", r#"[{"Plan": 1}]"#, "[{\"Plan\": {"] {
            assert_eq!(read(json), None, "{json}");
        }
        let deep = r#"[{"Plan": {"Plans": [{"Plans": [7]}]}}]"#;
        assert_eq!(read(deep).unwrap().steps.len(), 1);
    }

    #[test]
    fn the_steps_of_a_plan_are_bounded() {
        let many = vec![r#"{"Node Type": "Seq Scan"}"#; 2 * MOST_STEPS].join(",");
        let json = format!(r#"[{{"Plan": {{"Node Type": "Append", "Plans": [{many}]}}}}]"#);
        assert_eq!(read(&json).unwrap().steps.len(), MOST_STEPS);
    }

    #[test]
    fn parameters_are_counted_by_their_greatest_number() {
        for (sql, expected) in [
            ("SELECT 1", 0),
            ("SELECT $1", 1),
            ("SELECT $2, $10, $3", 10),
            ("SELECT a$b", 0),
        ] {
            assert_eq!(parameters(sql), expected, "{sql}");
        }
    }

    fn items(rows: f64, columns: &[&str]) -> PlanFacts {
        PlanFacts {
            tables: vec![TableFacts {
                name: "items".to_owned(),
                rows: Some(rows),
                leading_columns: columns.iter().map(|&column| column.to_owned()).collect(),
            }],
            work_mem: Some(4.0 * 1024.0 * 1024.0),
        }
    }

    #[test]
    fn flags_follow_from_the_plan_and_the_tables() {
        let scan = |rows: u32, filter: &str| {
            format!(
                r#"{{"Node Type": "Seq Scan", "Relation Name": "items", "Plan Rows": {rows}, "Filter": "{filter}"}}"#
            )
        };
        let above = |kind: &str, rows: u32, width: u32, below: &[&str]| {
            format!(
                r#"{{"Node Type": "{kind}", "Plan Rows": {rows}, "Plan Width": {width}, "Plans": [{}]}}"#,
                below.join(",")
            )
        };
        let index = r#"{"Node Type": "Index Scan", "Relation Name": "items", "Index Name": "i", "Plan Rows": 1}"#;
        let outer = r#"{"Node Type": "Index Scan", "Relation Name": "items", "Plan Rows": 20000}"#;
        let filter = "(name = $1)";
        let large = items(50_000.0, &["id"]);
        for (plan, facts, expected, why) in [
            (
                scan(1, filter),
                &large,
                &[PlanFlagKind::SequentialScan, PlanFlagKind::MissingIndex] as &[_],
                "a large table without an index",
            ),
            (
                scan(1, filter),
                &items(500.0, &["id"]),
                &[],
                "a small table",
            ),
            (
                scan(1, filter),
                &items(50_000.0, &["name"]),
                &[PlanFlagKind::SequentialScan],
                "an index that the planner has not chosen",
            ),
            (
                scan(40_000, filter),
                &large,
                &[PlanFlagKind::SequentialScan],
                "a filter that keeps most rows",
            ),
            (
                scan(1, "(lower(name) = $1)"),
                &large,
                &[PlanFlagKind::SequentialScan],
                "no column that an index could begin with",
            ),
            (
                above("Sort", 100_000, 100, &[index]),
                &large,
                &[PlanFlagKind::SortOnDisk],
                "12 MB in 4 MB",
            ),
            (
                above("Limit", 10, 100, &[&above("Sort", 100_000, 100, &[index])]),
                &large,
                &[],
                "only ten rows are kept",
            ),
            (
                above("Sort", 1_000, 100, &[index]),
                &large,
                &[],
                "a small sort",
            ),
            (
                above("Nested Loop", 1, 8, &[outer, index]),
                &large,
                &[PlanFlagKind::NestedLoop],
                "many rows outside",
            ),
            (
                above("Nested Loop", 1, 8, &[index, outer]),
                &large,
                &[],
                "one row outside",
            ),
            (index.to_owned(), &large, &[], "an index"),
        ] {
            let mut plan = read(&format!(r#"[{{"Plan": {plan}}}]"#)).unwrap();
            flags::fill_in(&mut plan, facts);
            let flags = flags::of_postgres(&plan, facts);
            let kinds: Vec<_> = flags.iter().map(|flag| flag.kind).collect();
            assert_eq!(kinds, expected, "{why}");
        }
    }

    #[test]
    fn the_index_that_would_serve_is_advised() {
        let facts = items(1_234_567.0, &["id"]);
        let json = r#"[{"Plan": {"Node Type": "Seq Scan", "Relation Name": "items", "Plan Rows": 3,
            "Filter": "((created_at > $2) AND ((\"Kind\")::text = $1))"}}]"#;
        let flags = flags::of_postgres(&read(json).unwrap(), &facts);
        assert_eq!(
            flags[0].sentence,
            "Each call reads all of about 1,200,000 rows of items."
        );
        assert_eq!(
            flags[1].sentence,
            "No index of items begins with Kind or created_at, which the statement filters by."
        );
        assert_eq!(
            flags[1].advice.as_deref(),
            Some(r#"CREATE INDEX ON items ("Kind", created_at)"#)
        );
    }
}
