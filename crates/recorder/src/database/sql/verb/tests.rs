//! Verbs: of statements as they are written, of those that are written to mislead, and of anything at all.

use proptest::prelude::*;

use super::{Operation, Verb, operation, verb};
use crate::database::sql::{Dialect, read};

fn query(operation: Operation) -> Verb {
    Verb::Query(operation)
}

const LEADING: &[(&str, Operation, &str)] = &[
    ("SELECT 1", Operation::Select, "plain"),
    ("select", Operation::Select, "ends with the word"),
    ("SeLeCt*FROM t", Operation::Select, "mixed case, no space"),
    ("INSERT INTO t VALUES (1)", Operation::Insert, "plain"),
    (
        "insert or ignore into t values (1)",
        Operation::Insert,
        "SQLite's conflict clause",
    ),
    (
        "REPLACE INTO t VALUES (1)",
        Operation::Insert,
        "SQLite's other insert",
    ),
    (
        "UPSERT INTO t VALUES (1)",
        Operation::Insert,
        "CockroachDB's",
    ),
    ("UPDATE t SET a = 1", Operation::Update, "plain"),
    ("DELETE FROM t", Operation::Delete, "plain"),
    ("VALUES (1), (2)", Operation::Select, "returns rows"),
    ("TABLE t", Operation::Select, "PostgreSQL's SELECT * FROM t"),
    (
        "\t\r\n \u{b}\u{c}SELECT 1",
        Operation::Select,
        "leading white space",
    ),
    (
        "-- first\n  -- second\r\nDELETE FROM t",
        Operation::Delete,
        "line comments",
    ),
    ("--\nSELECT 1", Operation::Select, "an empty comment"),
    ("/* a */UPDATE t", Operation::Update, "block comment"),
    ("/**/SELECT 1", Operation::Select, "an empty block comment"),
    (
        "/* a /* b */ INSERT */ SELECT 1",
        Operation::Select,
        "nested comment",
    ),
    (
        "/* a * / ** // */ SELECT 1",
        Operation::Select,
        "loose stars and slashes",
    ),
    (
        "/*/ INSERT */ SELECT 1",
        Operation::Select,
        "the star of the opening does not close",
    ),
    ("SELECT/* a */1", Operation::Select, "comment for a space"),
    (
        "((SELECT 1) UNION (SELECT 2))",
        Operation::Select,
        "parentheses",
    ),
    (
        "( -- why\n (select 1))",
        Operation::Select,
        "comment in parentheses",
    ),
    (" ; ;SELECT 1", Operation::Select, "empty statements"),
    (
        "SELECT ';'; DELETE FROM t",
        Operation::Select,
        "the first of a batch",
    ),
    ("CREATE TABLE t (a INT)", Operation::Other, "schema"),
    ("PRAGMA journal_mode = WAL", Operation::Other, "setting"),
    (
        "SET TRANSACTION READ ONLY",
        Operation::Other,
        "a setting, too",
    ),
    (
        "MERGE INTO t USING s ON a = b",
        Operation::Other,
        "does everything at once",
    ),
    ("COPY t FROM STDIN", Operation::Other, "its own protocol"),
    (
        "EXPLAIN SELECT 1",
        Operation::Other,
        "a question about a statement",
    ),
    (
        "explain (analyze, buffers) INSERT INTO t VALUES (1)",
        Operation::Other,
        "with options",
    ),
    (
        "EXPLAIN QUERY PLAN DELETE FROM t",
        Operation::Other,
        "SQLite's",
    ),
    (
        "SELECTED",
        Operation::Other,
        "a word that only begins like one",
    ),
    ("SELECT1", Operation::Other, "a digit is part of the word"),
    ("SELECTÉ", Operation::Other, "so is a letter beyond ASCII"),
    (
        "antidisestablishmentarianism",
        Operation::Other,
        "longer than any word we know",
    ),
    (
        "START SLAVE",
        Operation::Other,
        "not every START is a transaction's",
    ),
    (
        "PREPARE p AS INSERT INTO t VALUES (1)",
        Operation::Other,
        "runs nothing yet",
    ),
    ("PREPARE (", Operation::Other, "malformed"),
];

#[test]
fn the_leading_verb_names_the_operation() {
    for &(sql, expected, why) in LEADING {
        assert_eq!(verb(sql), query(expected), "{why}: {sql}");
    }
}

const BEHIND_EXPRESSIONS: &[(&str, Operation, &str)] = &[
    (
        "WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a",
        Operation::Insert,
        "plain",
    ),
    (
        "with a as (delete from t returning *) select * from a",
        Operation::Select,
        "lower case",
    ),
    (
        "WITH a AS (SELECT 1), b AS (SELECT 2) UPDATE t SET x = 1",
        Operation::Update,
        "two",
    ),
    (
        "WITH a(x, y) AS (SELECT 1, 2) DELETE FROM t",
        Operation::Delete,
        "column list",
    ),
    (
        "WITH RECURSIVE a(n) AS (VALUES (1)) SELECT n FROM a",
        Operation::Select,
        "recursive",
    ),
    (
        "WITH RECURSIVE AS (SELECT 1) DELETE FROM t",
        Operation::Delete,
        "named recursive",
    ),
    (
        "WITH recursive(n) AS (SELECT 1) DELETE FROM t",
        Operation::Delete,
        "with columns, too",
    ),
    (
        "WITH a AS MATERIALIZED (SELECT 1) SELECT 2",
        Operation::Select,
        "materialized",
    ),
    (
        "WITH a AS NOT MATERIALIZED(SELECT 1)INSERT INTO t",
        Operation::Insert,
        "not materialized",
    ),
    (
        "WITH \"a AS (\" AS (SELECT ')') UPDATE t",
        Operation::Update,
        "quoted name and string",
    ),
    (
        "WITH a AS (SELECT 'it''s )') UPDATE t",
        Operation::Update,
        "doubled quote",
    ),
    (
        "WITH a AS (SELECT E'\\') DELETE') UPDATE t",
        Operation::Update,
        "backslash escapes in E''",
    ),
    (
        "WITH a AS (SELECT '\\') UPDATE t",
        Operation::Update,
        "and nowhere else",
    ),
    (
        "WITH `a)` AS (SELECT `b)`) UPDATE t",
        Operation::Update,
        "backticks",
    ),
    (
        "WITH a AS (SELECT $$ ) $ $$) UPDATE t",
        Operation::Update,
        "dollar quote",
    ),
    (
        "WITH a AS (SELECT $q$ ) $$ $qq$ $q $q$) UPDATE t",
        Operation::Update,
        "its tag closes it",
    ),
    (
        "WITH a AS (SELECT $1, $2) UPDATE t",
        Operation::Update,
        "parameters are no quotes",
    ),
    (
        "WITH a AS (SELECT x$y$ FROM z) UPDATE t",
        Operation::Update,
        "a dollar within a name",
    ),
    (
        "WITH a AS (SELECT 1 -- )\n) UPDATE t",
        Operation::Update,
        "line comment in a body",
    ),
    (
        "WITH a AS (SELECT 1 /* ) /* */ ) */) UPDATE t",
        Operation::Update,
        "block comment in a body",
    ),
    (
        "WITH a AS (SELECT 4 - 2 / 1) UPDATE t",
        Operation::Update,
        "a minus and a slash",
    ),
    (
        "WITH/**/a/**/AS/**/(SELECT 1)/**/UPDATE/**/t",
        Operation::Update,
        "comments for spaces",
    ),
    (
        "WITH a AS (SELECT (1), ((2))) (SELECT 3)",
        Operation::Select,
        "parentheses in both",
    ),
    (
        "(WITH a AS (SELECT 1) SELECT 2)",
        Operation::Select,
        "parentheses around it",
    ),
    (
        "WITH insert AS (SELECT 1) DELETE FROM t",
        Operation::Delete,
        "a name like a verb",
    ),
    (
        "WITH a AS (SELECT 1) VALUES (1)",
        Operation::Select,
        "values",
    ),
    (
        "WITH a AS (SELECT 1) REPLACE INTO t SELECT 1",
        Operation::Insert,
        "replace",
    ),
    (
        "WITH a AS (SELECT 1) MERGE INTO t",
        Operation::Other,
        "merge",
    ),
    (
        "WITH RECURSIVE a AS (SELECT 1) SEARCH DEPTH FIRST BY x, y SET o, b AS (DELETE FROM t) SELECT 1",
        Operation::Select,
        "search clause and another expression",
    ),
    (
        "WITH RECURSIVE a AS (SELECT 1) CYCLE x SET c TO 'y' DEFAULT 'n' USING p DELETE FROM t",
        Operation::Delete,
        "cycle clause",
    ),
];

#[test]
fn a_statement_after_common_table_expressions_decides_the_verb() {
    for &(sql, expected, why) in BEHIND_EXPRESSIONS {
        assert_eq!(verb(sql), query(expected), "{why}: {sql}");
    }
}

#[test]
fn transaction_control_is_not_a_query() {
    for sql in [
        "BEGIN",
        "begin immediate;",
        "BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "START TRANSACTION",
        "start /* a */ transaction read only",
        "COMMIT",
        "COMMIT PREPARED 'a;b'",
        "END TRANSACTION",
        "ROLLBACK",
        "ROLLBACK TO SAVEPOINT diesel_savepoint_1",
        "ABORT",
        "SAVEPOINT diesel_savepoint_1",
        "SAVEPOINT \"a; SELECT 1\"",
        "RELEASE SAVEPOINT diesel_savepoint_1",
        "PREPARE TRANSACTION 'x'",
        "-- why\nCOMMIT; -- done",
        "COMMIT; BEGIN",
    ] {
        assert_eq!(verb(sql), Verb::Transaction, "{sql}");
        assert_eq!(operation(sql), Operation::Other, "{sql}");
    }
}

#[test]
fn a_batch_that_opens_a_transaction_has_the_verb_of_its_first_statement() {
    for (sql, expected) in [
        ("BEGIN; INSERT INTO t VALUES (1); COMMIT", Operation::Insert),
        ("COMMIT; VACUUM", Operation::Other),
        ("SAVEPOINT \";\"; (SELECT 1)", Operation::Select),
        (
            "BEGIN; START TRANSACTION; WITH a AS (SELECT 1) DELETE FROM t",
            Operation::Delete,
        ),
    ] {
        assert_eq!(verb(sql), query(expected), "{sql}");
    }
}

#[test]
fn unreadable_text_is_other() {
    for sql in [
        "",
        "  ",
        ";",
        "-",
        "/",
        "--",
        "/*",
        "/* /* */",
        "'SELECT'",
        "\"SELECT\"",
        "$$SELECT$$",
        "$1",
        "E'x'",
        "?",
        "{call x}",
        "-1",
        "/ SELECT 1",
        ", SELECT 1",
        "[SELECT]",
        "WITH",
        "WITH a",
        "WITH a AS",
        "WITH a AS (",
        "WITH a AS (SELECT '",
        "WITH a AS (SELECT $x$ ) UPDATE t",
        "WITH a AS (SELECT 1",
        "WITH a AS (SELECT 1)",
        "WITH a AS (SELECT 1),",
        "WITH a AS (SELECT 1); DELETE FROM t",
        "WITH , SELECT 1",
        "WITH a AS (SELECT 1) = 2",
        "WITH RECURSIVE",
        "START",
        "START;",
        "START )",
    ] {
        assert_eq!(verb(sql), query(Operation::Other), "{sql}");
    }
}

#[test]
fn a_byte_order_mark_and_names_in_brackets_are_read() {
    for (sql, expected) in [
        ("\u{feff}SELECT 1", Operation::Select),
        ("\u{feff}\u{feff} DELETE FROM t", Operation::Delete),
        ("-- why\n\u{feff}UPDATE t SET a = 1", Operation::Update),
        (
            "WITH [a] AS (SELECT 1) SELECT * FROM [a]",
            Operation::Select,
        ),
        (
            "WITH [a b] AS (SELECT 1), [it's] AS (SELECT 2) DELETE FROM t",
            Operation::Delete,
        ),
        (
            "WITH RECURSIVE [a]([n]) AS (SELECT 1) UPDATE t SET b = 1",
            Operation::Update,
        ),
        (
            "WITH a AS (SELECT x[1], ARRAY[[1], [y]] FROM t) SELECT 1",
            Operation::Select,
        ),
    ] {
        assert_eq!(verb(sql), query(expected), "{sql}");
    }
    for dialect in [Dialect::Sqlite, Dialect::Unknown] {
        let reading = read("\u{feff}WITH [a] AS (SELECT 1) SELECT * FROM [a]", dialect);
        assert_eq!(reading.verb, query(Operation::Select));
        assert_eq!(reading.shape, "WITH [a] AS (SELECT ?) SELECT * FROM [a]");
    }
}

#[test]
fn mysql_executes_some_comments() {
    for (sql, expected) in [
        ("/*!50001 SELECT */ 1", Operation::Select),
        ("/*!50001 CREATE VIEW v AS */ SELECT 1", Operation::Other),
        ("/*M!100100 DELETE FROM t */", Operation::Delete),
        ("# why\nINSERT INTO t VALUES (1)", Operation::Insert),
        ("/* a /* b */ UPDATE t SET a = 1", Operation::Update),
        ("--1", Operation::Other),
    ] {
        assert_eq!(read(sql, Dialect::MySql).verb, query(expected), "{sql}");
    }
}

#[test]
fn a_dollar_tag_may_be_long() {
    let tag = "x".repeat(200);
    let sql = format!("WITH a AS (SELECT ${tag}$ ) ${tag}$) UPDATE t");
    assert_eq!(verb(&sql), query(Operation::Update));
}

#[test]
fn a_megabyte_of_nesting_is_read_in_one_pass() {
    let mut sql = String::from("WITH a AS (");
    sql.push_str(&"(".repeat(500_000));
    sql.push_str(&")".repeat(500_000));
    sql.push_str(") SELECT 1");
    assert_eq!(verb(&sql), query(Operation::Select));
    assert_eq!(verb(&"/*".repeat(500_000)), query(Operation::Other));
    assert_eq!(verb(&"$a".repeat(500_000)), query(Operation::Other));
}

/// Text that looks enough like SQL to get past the first word.
fn sql_like() -> impl Strategy<Value = String> {
    let token = prop_oneof![
        Just("WITH "),
        Just("RECURSIVE "),
        Just("a"),
        Just(" AS "),
        Just("("),
        Just(")"),
        Just(","),
        Just(";"),
        Just("SELECT "),
        Just("INSERT "),
        Just("'"),
        Just("\""),
        Just("$"),
        Just("$x$"),
        Just("--"),
        Just("\n"),
        Just("/*"),
        Just("*/"),
        Just("E'"),
        Just("\\"),
        Just("BEGIN"),
        Just("START "),
        Just("TRANSACTION"),
        Just("SEARCH "),
        Just("é"),
        Just(" "),
        Just("1"),
    ];
    prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
}

proptest! {
    #[test]
    fn any_text_has_a_verb(sql in "\\PC*") {
        verb(&sql);
    }

    #[test]
    fn the_verb_alone_is_the_verb_of_a_reading(sql in sql_like()) {
        prop_assert_eq!(read(&sql, Dialect::Unknown).verb, verb(&sql));
    }

    #[test]
    fn comments_and_space_change_nothing(sql in sql_like()) {
        let dressed = format!("/* x */ -- y\n ( {sql}");
        prop_assert_eq!(operation(&dressed), operation(&sql));
    }
}
