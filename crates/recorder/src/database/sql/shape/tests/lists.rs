//! Space, comments and lists are folded.

use super::*;

#[test]
fn space_and_comments_are_folded() {
    for (sql, expected, why) in [
        (
            "  SELECT\n\t1 ;; ",
            "SELECT ?",
            "space, and semicolons at the end",
        ),
        (
            "SELECT 1 -- why\n, 2",
            "SELECT ?, ?",
            "a comment to the end of the line",
        ),
        ("SELECT/* a */1", "SELECT ?", "a comment for a space"),
        ("SELECT 1 -- open", "SELECT ?", "a comment to the end"),
        (
            "SELECT 1 /* open",
            "SELECT ?",
            "a block comment without an end",
        ),
        (
            "SELECT a<=1,b||c,d->>'e'",
            "SELECT a <= ?, b || c, d ->> ?",
            "operators",
        ),
        ("SELECT count ( * )", "SELECT count(*)", "a function"),
        ("a IN(SELECT 1)", "a IN (SELECT ?)", "a subquery is no list"),
        (
            "INSERT INTO t(a)VALUES(1)",
            "INSERT INTO t (a) VALUES (?, ...)",
            "parentheses that are no function's",
        ),
        ("\u{feff}SELECT 1", "SELECT ?", "a byte order mark"),
    ] {
        assert_eq!(common(sql), expected, "{why}");
    }
    let nested = "SELECT/* /* a */ b */1";
    assert_eq!(shape_in(PostgreSql, nested), "SELECT ?");
}

#[test]
fn lists_are_folded() {
    for (sql, expected, why) in [
        ("a IN (1)", "a IN (?, ...)", "one value"),
        ("a IN (1, 'b', ?3)", "a IN (?, ...)", "several"),
        ("a in ((1, 2), (3, 4))", "a in (?, ...)", "of rows"),
        ("a IN (b, 1)", "a IN (b, ?, ...)", "a column is no value"),
        (
            "a IN (b, 1, 2)",
            "a IN (b, ?, ...)",
            "but those behind it are",
        ),
        (
            "a IN (1, 2, b, c, 3)",
            "a IN (?, ..., b, c, ?, ...)",
            "and before",
        ),
        ("VALUES (1, 2)", "VALUES (?, ...)", "a row"),
        ("VALUES (1, NULL), (DEFAULT, ?)", "VALUES (?, ...)", "rows"),
        (
            "VALUES (1, now()), (2, lower('a'))",
            "VALUES (?, ...)",
            "functions of constants",
        ),
        (
            "VALUES (1, a), (2, a), (3, a)",
            "VALUES (?, ..., a)",
            "equal rows",
        ),
        (
            "VALUES (1, a), (2, b)",
            "VALUES (?, ..., a), (?, ..., b)",
            "unlike rows",
        ),
        (
            "VALUES ROW(1, 2), ROW(3, 4)",
            "VALUES ROW(?, ...)",
            "rows with a word before them",
        ),
        (
            "coalesce(1, 2)",
            "coalesce(?, ?)",
            "arguments have their places",
        ),
        ("VALUES ()", "VALUES ()", "nothing to fold"),
        ("a IN (VALUES (1), (2))", "a IN (VALUES (?, ...))", "rows"),
        ("a IN (SELECT b, 1, 2)", "a IN (SELECT b, ?, ?)", "a query"),
        (
            "a IN (1, (SELECT 2), 3)",
            "a IN (?, ..., (SELECT ?), ?, ...)",
            "a query in a list",
        ),
        ("a IN ((((1))), ((2)))", "a IN (?, ...)", "parentheses"),
    ] {
        assert_eq!(common(sql), expected, "{why}");
    }
    for (sql, expected) in [
        ("ARRAY[1, 2]", "ARRAY[?, ...]"),
        ("ARRAY[[1], [2]]", "ARRAY[?, ...]"),
        ("ARRAY [ [a], [2]]", "ARRAY[[a], ?, ...]"),
        ("a[1]", "a[?]"),
    ] {
        assert_eq!(shape_in(PostgreSql, sql), expected);
        assert_eq!(shape(sql), expected);
    }
    let rows = vec!["(?, ?)"; 1000].join(", ");
    assert_eq!(
        shape(&format!(
            "INSERT INTO `t` (`a`, `b`) VALUES {rows} RETURNING `id`"
        )),
        "INSERT INTO `t` (`a`, `b`) VALUES (?, ...) RETURNING `id`"
    );
}

/// Constants as they are written in lists.
const CONSTANTS: &[&str] = &[
    "7",
    "- 7",
    "'a'",
    "NULL",
    "?",
    "CAST(1 AS INTEGER)",
    "CAST('1' AS DECIMAL(10, 2))",
    "CAST(CAST('1' AS TEXT) AS DOUBLE PRECISION)",
    "DATE '2020-01-01'",
    "TIMESTAMP WITH TIME ZONE '2020-01-01 00:00'",
    "INTERVAL '1' DAY",
    "INTERVAL - 1 DAY",
    "DATE '2020-01-01' + INTERVAL '1 day'",
    "lower('A')",
    "coalesce(NULL, lower(upper('a')), 'b')",
    "pg_catalog.lower('a')",
    "make_interval(days => 1)",
    "now()",
    "CURRENT_TIMESTAMP(6)",
    "'a' COLLATE nocase",
    "'a' || 'b'",
    "(1, 'a')",
    "(1 + 2) * 3",
    "NOT TRUE",
    "1 BETWEEN 0 AND 2",
    "CASE WHEN 1 = 2 THEN 'a' ELSE 'b' END",
    "extract(YEAR FROM DATE '2020-01-01')",
    "x'00'",
];

/// Others, that only PostgreSQL has.
const CONSTANTS_OF_POSTGRES: &[&str] = &[
    "'00000000-0000-0000-0000-000000000000'::uuid",
    "'1'::numeric(10, 2)",
    "'a'::timestamp with time zone",
    "'{1,2}'::int[]",
    "'a'::\"Mood\"",
    "'a'::public.mood",
    "$1::text::int",
    "ARRAY[1, 2]",
    "ROW(1, 2)",
    "'2020-01-01'::timestamptz AT TIME ZONE 'UTC'",
    "E'a'",
    "$$a$$",
    "U&'a' UESCAPE '!'",
];

#[test]
fn lists_of_constants_of_any_kind_and_length_have_one_shape() {
    let hostile: Vec<&str> = [CONSTANTS, CONSTANTS_OF_POSTGRES].concat();
    for dialect in DIALECTS {
        let constants = match dialect {
            PostgreSql | Unknown => &*hostile,
            _ => CONSTANTS,
        };
        for (index, constant) in constants.iter().enumerate() {
            for length in 1..=5 {
                let same = vec![*constant; length].join(", ");
                let mixed: Vec<&str> = (0..length)
                    .map(|other| constants[(index + other) % constants.len()])
                    .collect();
                for list in [same, mixed.join(" , ")] {
                    for (sql, expected) in [
                        (format!("a IN ({list}) AND b"), "a IN (?, ...) AND b"),
                        (format!("a not in({list})"), "a not in (?, ...)"),
                        (
                            format!("INSERT INTO t VALUES ({list}), (9), ({list}) RETURNING a"),
                            "INSERT INTO t VALUES (?, ...) RETURNING a",
                        ),
                    ] {
                        assert_eq!(shape_in(dialect, &sql), expected, "{dialect:?}: {sql}");
                    }
                    if dialect == PostgreSql {
                        let sql = format!("a = ANY(ARRAY[{list}]::int[])");
                        assert_eq!(shape_in(dialect, &sql), "a = ANY(ARRAY[?, ...]::int[])");
                    }
                }
            }
        }
    }
}

#[test]
fn an_element_with_a_column_or_a_query_is_not_a_constant() {
    for element in [
        "b",
        "t.b",
        "\"t\".\"b\"",
        "`b`",
        "b + 1",
        "1 + b",
        "lower(b)",
        "coalesce(1, lower(b))",
        "CAST(b AS INTEGER)",
        "b COLLATE nocase",
        "CASE WHEN b THEN 1 END",
        "(SELECT 1)",
        "(1, b)",
        "NOT b",
        "b BETWEEN 1 AND 2",
        "1 AND b",
    ] {
        for dialect in [MySql, Sqlite, Unknown] {
            let kept = shape_in(dialect, &format!("SELECT {element}"));
            let kept = kept.trim_start_matches("SELECT ");
            let sql = format!("SELECT a IN (1, 2, {element}, 3, 4)");
            let expected = format!("SELECT a IN (?, ..., {kept}, ?, ...)");
            assert_eq!(shape_in(dialect, &sql), expected, "{dialect:?}: {sql}");
        }
    }
}
