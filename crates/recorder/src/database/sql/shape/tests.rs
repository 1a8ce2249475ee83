//! Shapes: what of a statement they keep, and that no value stays in them.

use proptest::prelude::*;

use super::output::LONGEST;
use crate::database::sql::{Dialect, read};

use Dialect::{MySql, PostgreSql, Sqlite, Unknown};

const DIALECTS: [Dialect; 4] = [PostgreSql, MySql, Sqlite, Unknown];

fn shape_in(dialect: Dialect, sql: &str) -> String {
    read(sql, dialect).shape
}

/// The shape of a text of an unknown dialect.
fn shape(sql: &str) -> String {
    shape_in(Unknown, sql)
}

/// The shape of a text that is the same in all dialects.
fn common(sql: &str) -> String {
    let shape = shape(sql);
    for dialect in DIALECTS {
        assert_eq!(shape_in(dialect, sql), shape, "{dialect:?}");
    }
    shape
}

/// A text of a dialect, its shape, and the rule under test.
type ShapeCase = (Dialect, &'static str, &'static str, &'static str);

const LITERALS: &[ShapeCase] = &[
    (
        PostgreSql,
        "SELECT E'it\\'s', e''",
        "SELECT ?, ?",
        "an escaped quote",
    ),
    (
        PostgreSql,
        "SELECT $$a'b$$, $t$ $$ $t$",
        "SELECT ?, ?",
        "dollar quotes",
    ),
    (
        Unknown,
        "SELECT $$a b$$, $t$ $$ $t$",
        "SELECT ?, ?",
        "dollar quotes that hold no others",
    ),
    (
        PostgreSql,
        "SELECT $a$ open",
        "SELECT ?",
        "a dollar quote without an end",
    ),
    (
        PostgreSql,
        "SELECT U&'d!0061' UESCAPE '!', U&\"d\\0061\"",
        "SELECT ? UESCAPE ?, \"?\"",
        "with Unicode escapes",
    ),
    (
        PostgreSql,
        "SELECT a::text, '1'::int",
        "SELECT a::text, ?::int",
        "casts",
    ),
    (
        PostgreSql,
        "SELECT a @> $1, b #>> '{c}', d ? 'e', f !~* 'g'",
        "SELECT a @> ?, b #>> ?, d ? ?, f !~* ?",
        "operators on documents",
    ),
    (
        Unknown,
        "SELECT $1, ?, ?2, :a, @a, $a",
        "SELECT ?, ?, ?, ?, ?, ?",
        "binds of all kinds",
    ),
    (
        Sqlite,
        "SELECT $a$, :b, a=@c",
        "SELECT ?, ?, a = ?",
        "binds with names",
    ),
    (
        MySql,
        "SELECT \"it\\\"s\", 'it\\'s', _utf8'a', _utf8mb4 X'41', 0b01",
        "SELECT ?, ?, _utf8 ?, _utf8mb4 ?, ?",
        "strings of all kinds",
    ),
    (
        MySql,
        "SELECT 1 # hunter2\n, 2 --hunter",
        "SELECT ?, ? - - hunter",
        "dashes without a space are signs",
    ),
    (
        MySql,
        "SELECT /*!50001 SQL_NO_CACHE 'a' */ /*+ hint */ 1",
        "SELECT SQL_NO_CACHE ? ?",
        "a comment that is executed, and one that is not",
    ),
];

#[test]
fn literals_and_binds_are_left_out() {
    for (sql, expected, why) in [
        ("SELECT 'it''s'", "SELECT ?", "a doubled quote"),
        (
            "SELECT X'00ff', b'01', N'n'",
            "SELECT ?, ?, ?",
            "strings of other kinds",
        ),
        (
            "SELECT 1, 1.5, .5, 1e-3, 0xFF, 1_000",
            "SELECT ?, ?, ?, ?, ?, ?",
            "numbers",
        ),
        (
            "SELECT t1.c2, t1.*",
            "SELECT t1.c2, t1.*",
            "digits in names",
        ),
        ("SELECT 'open", "SELECT ...", "a string without an end"),
        (
            "SELECT date'2020-01-01'",
            "SELECT date ?",
            "a typed literal",
        ),
        (
            "SELECT NULL, TRUE",
            "SELECT NULL, TRUE",
            "words say no secret",
        ),
    ] {
        assert_eq!(common(sql), expected, "{why}");
    }
    for &(dialect, sql, expected, why) in LITERALS {
        assert_eq!(shape_in(dialect, sql), expected, "{why}");
    }
}

#[test]
fn signs_belong_to_the_value() {
    for (sql, expected) in [
        (
            "SELECT -1, a-1, a - -1, (-.5)",
            "SELECT ?, a - ?, a - ?, (?)",
        ),
        ("WHERE a=-1 AND b>=+2", "WHERE a = ? AND b >= ?"),
        ("WHERE a = - 5", "WHERE a = ?"),
        ("WHERE a = - - /* b */ + 5", "WHERE a = ?"),
        ("WHERE a = -'5' OR a = - ?", "WHERE a = ? OR a = ?"),
        ("WHERE a - 5 = -b", "WHERE a - ? = - b"),
        ("WHERE (a) - 5 > f(1) - 5", "WHERE (a) - ? > f(?) - ?"),
        ("SET x TO -1", "SET x TO ?"),
        ("SET x TO - 1", "SET x TO ?"),
        ("SET x TO 1", "SET x TO ?"),
        ("a + INTERVAL -1 DAY", "a + INTERVAL ? DAY"),
        ("a + INTERVAL - 1 DAY", "a + INTERVAL ? DAY"),
        ("a + INTERVAL 1 DAY", "a + INTERVAL ? DAY"),
        ("BETWEEN -1 AND -2", "BETWEEN ? AND ?"),
        ("LIMIT -1 OFFSET -2", "LIMIT ? OFFSET ?"),
        (
            "CASE WHEN -1 THEN -2 ELSE -3 END - 4",
            "CASE WHEN ? THEN ? ELSE ? END - ?",
        ),
        (
            "ALTER SEQUENCE s INCREMENT BY -1",
            "ALTER SEQUENCE s INCREMENT BY ?",
        ),
        ("PRAGMA cache_size = -2000", "PRAGMA cache_size = ?"),
    ] {
        assert_eq!(common(sql), expected, "{sql}");
    }
}

const MISLEADING: &[ShapeCase] = &[
    (
        PostgreSql,
        "SELECT E'a'\n'b\\'hunter2'",
        "SELECT ? ?",
        "an escape string that goes on in the next line",
    ),
    (
        PostgreSql,
        r"SELECT tsv @@E'\'hunter2\''",
        "SELECT tsv @@ ?",
        "an operator before an escape string",
    ),
    (
        PostgreSql,
        r"SELECT 5 #E'\'hunter2\''",
        "SELECT ? # ?",
        "another",
    ),
    (
        Sqlite,
        "SELECT 1 AS [Bob's], 'hunter2'",
        "SELECT ? AS [?], ?",
        "a name in brackets, with a quote in it",
    ),
    (
        Unknown,
        "SELECT 1 AS [Bob's], 'hunter2'",
        "SELECT ? AS [?], ?",
        "no other dialect has a bracket there",
    ),
    (
        Unknown,
        "SELECT a[b's], 'hunter2'",
        "SELECT ...",
        "a name in one dialect, a subscript in another",
    ),
    (
        Unknown,
        "SELECT 'a', 'hunter2",
        "SELECT ...",
        "a string that does not end",
    ),
    (
        Unknown,
        "SELECT a FROM t WHERE b = 'x'' OR c = 'hunter2'",
        "SELECT ...",
        "a quote too many",
    ),
    (
        MySql,
        r"SELECT 'a\'b', 'hunter2\'c'",
        "SELECT ?, ?",
        "a backslash escapes",
    ),
    (
        Unknown,
        r"SELECT 'a\'b', 'hunter2\'c'",
        "SELECT ...",
        "in MySQL a backslash escapes",
    ),
    (
        Sqlite,
        r"SELECT 'a\'b', 'hunter2\'c'",
        "SELECT ...",
        "a backslash that no SQLite takes",
    ),
    (
        Sqlite,
        "SELECT 'it's', 'hunter2's'",
        "SELECT ...",
        "values that were put in without being quoted",
    ),
    (
        Unknown,
        r"SELECT a FROM t WHERE b = 'C:\' AND c = 'hunter2'",
        "SELECT a FROM t WHERE b = ...",
        "elsewhere it does not",
    ),
    (
        PostgreSql,
        r"SELECT a FROM t WHERE b LIKE 'c\_%' ESCAPE '\' AND d = 'hunter2'",
        "SELECT a FROM t WHERE b LIKE ? ESCAPE ? AND d = ?",
        "as the standard has it",
    ),
    (
        PostgreSql,
        r"SELECT a FROM t WHERE b = 'it\'s' AND d = 'hunter2'",
        "SELECT ...",
        "with standard_conforming_strings off",
    ),
    (
        MySql,
        r"SELECT a FROM t WHERE b = 'C:\' AND c = 'hunter2'",
        "SELECT ...",
        "with NO_BACKSLASH_ESCAPES",
    ),
    (
        PostgreSql,
        "SELECT a, 'b\\', -- ', hunter2\n1",
        "SELECT a, ...",
        "two ways to read it, by a setting",
    ),
    (
        MySql,
        "SELECT a, 'b\\', -- ', hunter2\n1",
        "SELECT a, ...",
        "two ways to read it, by a setting",
    ),
    (
        Unknown,
        "SELECT 1 #hunter2",
        "SELECT ? ...",
        "a comment of MySQL's",
    ),
    (
        Unknown,
        "SELECT 1 --it's\n, hunter2 AS b -- '",
        "SELECT ? ...",
        "a comment, or two signs before a string",
    ),
    (
        Unknown,
        "SELECT 1 -- it's\n, 'hunter2' AS b",
        "SELECT ?, ? AS b",
        "a comment to all",
    ),
    (
        Unknown,
        "SELECT 1 -- a\rhunter2\n, 2",
        "SELECT ? ...",
        "a line's end to PostgreSQL alone",
    ),
    (
        Sqlite,
        "SELECT 1 -- a\rhunter2\n, 2",
        "SELECT ?, ?",
        "no line's end to SQLite",
    ),
    (
        MySql,
        "SELECT /* a /* b */ 1 /* hunter2 */",
        "SELECT ?",
        "comments that do not nest",
    ),
    (
        Unknown,
        "SELECT /* a /* b */ 1 /* hunter2 */",
        "SELECT ...",
        "only PostgreSQL's nest",
    ),
    (
        Unknown,
        "SELECT /* /* a */ 1, ' */ hunter2 */ AS ', 2",
        "SELECT ...",
        "two ways to read it",
    ),
    (
        Unknown,
        "SELECT /*! 'a */ 1, hunter2, ' */ b', 2",
        "SELECT ...",
        "a string of MySQL's begins in what others skip",
    ),
    (
        MySql,
        "SELECT /*!99999 it's */ 1, hunter2, 'a */ b', 2",
        "SELECT ...",
        "a comment that an older server skips",
    ),
    (
        Sqlite,
        "SELECT 1\0, hunter2",
        "SELECT ?",
        "SQLite reads no further",
    ),
    (
        Unknown,
        "SELECT q'[it's hunter2]' FROM t",
        "SELECT ...",
        "a string of Oracle's",
    ),
    (
        PostgreSql,
        "SELECT 1 */ hunter2",
        "SELECT ...",
        "the end of a comment that was not read as one",
    ),
];

#[test]
fn no_literal_is_left_by_quotes_that_are_read_otherwise_elsewhere() {
    for &(dialect, sql, expected, why) in MISLEADING {
        let shape = shape_in(dialect, sql);
        assert_eq!(shape, expected, "{why}: {sql}");
        assert!(!shape.contains("hunter2"), "{why}: {shape}");
    }
}

#[test]
fn names_are_kept_and_what_is_unlike_a_name_is_not() {
    for (dialect, sql, expected, why) in [
        (
            Sqlite,
            "SELECT `a`.`b`, `c` FROM `a`",
            "SELECT `a`.`b`, `c` FROM `a`",
            "as Diesel writes for SQLite",
        ),
        (
            PostgreSql,
            "SELECT \"a\".\"b\", \"c\" FROM \"a\"",
            "SELECT \"a\".\"b\", \"c\" FROM \"a\"",
            "as Diesel writes for PostgreSQL",
        ),
        (
            PostgreSql,
            "SELECT \"it\"\"s\"",
            "SELECT \"?\"",
            "a doubled quote",
        ),
        (
            PostgreSql,
            "SELECT \"a b\"",
            "SELECT \"?\"",
            "more than a word",
        ),
        (
            PostgreSql,
            "SELECT \"123\"",
            "SELECT \"?\"",
            "no name begins with a digit",
        ),
        (MySql, "SELECT `a b`, `c`", "SELECT `?`, `c`", "backticks"),
        (Sqlite, "SELECT [a b], [c]", "SELECT [?], [c]", "brackets"),
        (Unknown, "SELECT [a b], [c]", "SELECT [?], [c]", "brackets"),
        (
            PostgreSql,
            "SELECT a[1], ARRAY[b]",
            "SELECT a[?], ARRAY[b]",
            "other brackets",
        ),
        (
            Unknown,
            "SELECT a[1], ARRAY[[b], [c]]",
            "SELECT a[?], ARRAY[[b], [c]]",
            "other brackets",
        ),
        (Unknown, "SELECT \"open", "SELECT ...", "without an end"),
        (
            Unknown,
            "SELECT größe FROM 表",
            "SELECT größe FROM 表",
            "letters of all kinds",
        ),
    ] {
        assert_eq!(shape_in(dialect, sql), expected, "{why}");
    }
}

#[test]
fn a_token_in_double_quotes_is_a_name_only_where_no_value_can_stand() {
    for dialect in [Sqlite, MySql, Unknown] {
        for (sql, expected) in [
            ("SELECT a WHERE b = \"x\"", "SELECT a WHERE b = ?"),
            ("SELECT \"x\", \"y\" FROM \"t\"", "SELECT ?, ? FROM \"t\""),
            (
                "SELECT \"t\".\"a\" , s . \"b\" FROM \"s\" . \"t\"",
                "SELECT \"t\".\"a\", s.\"b\" FROM \"s\".\"t\"",
            ),
            ("SELECT \"x\" AS \"b\"", "SELECT ? AS \"b\""),
            (
                "SELECT a FROM t JOIN \"u\" ON \"t\".\"a\" = \"x\"",
                "SELECT a FROM t JOIN \"u\" ON \"t\".\"a\" = ?",
            ),
            (
                "INSERT INTO \"t\" (\"a\", \"b\") VALUES (\"x\", now(\"y\")), (\"z\", 1)",
                "INSERT INTO \"t\" (\"a\", \"b\") VALUES (?, ...)",
            ),
            (
                "INSERT INTO t (a, \"b\") SELECT c, \"x\" FROM d",
                "INSERT INTO t (a, \"b\") SELECT c, ? FROM d",
            ),
            (
                "INSERT INTO t (SELECT \"x\", \"y\")",
                "INSERT INTO t (SELECT ?, ?)",
            ),
            (
                "INSERT INTO t VALUES (\"x\", c)",
                "INSERT INTO t VALUES (?, ..., c)",
            ),
            (
                "INSERT INTO t VALUE (\"x\", c)",
                "INSERT INTO t VALUE (?, ..., c)",
            ),
            (
                "INSERT INTO \"t\" (\"a\") VALUES (?) ON CONFLICT (\"a\") DO UPDATE SET \"a\" = excluded.\"a\", \"b\" = \"x\"",
                "INSERT INTO \"t\" (\"a\") VALUES (?, ...) ON CONFLICT (\"a\") DO UPDATE SET \"a\" = excluded.\"a\", \"b\" = ?",
            ),
            (
                "UPDATE \"t\" SET \"a\" = \"x\", \"b\" = 1 WHERE \"t\".\"c\" = \"y\"",
                "UPDATE \"t\" SET \"a\" = ?, \"b\" = ? WHERE \"t\".\"c\" = ?",
            ),
            (
                "UPDATE t SET a = f(b, \"x\" = c)",
                "UPDATE t SET a = f(b, ? = c)",
            ),
            ("SELECT a, \"x\" = b FROM t", "SELECT a, ? = b FROM t"),
            (
                "UPDATE t SET a = 1 ORDER BY b, \"x\" = c",
                "UPDATE t SET a = ? ORDER BY b, ? = c",
            ),
            (
                "DELETE FROM \"t\" WHERE a IS DISTINCT FROM \"x\"",
                "DELETE FROM \"t\" WHERE a IS DISTINCT FROM ?",
            ),
            (
                "SELECT trim(\"x\" FROM \"y\") FROM \"t\"",
                "SELECT trim(? FROM ?) FROM \"t\"",
            ),
            (
                "WITH \"a\" AS (SELECT \"x\"), \"b\" (\"c\") AS (SELECT 1) SELECT a FROM \"a\"",
                "WITH \"a\" AS (SELECT ?), \"b\" (\"c\") AS (SELECT ?) SELECT a FROM \"a\"",
            ),
            (
                "CREATE TABLE \"t\" (\"a\" TEXT DEFAULT \"x\", \"b\" INT)",
                "CREATE TABLE \"t\" (\"a\" TEXT DEFAULT ?, \"b\" INT)",
            ),
            (
                "CREATE INDEX \"i\" ON \"t\" (\"a\", \"b\")",
                "CREATE INDEX \"i\" ON \"t\" (\"a\", \"b\")",
            ),
            (
                "CREATE VIEW v AS SELECT a FROM t JOIN u ON \"x\" = b",
                "CREATE VIEW v AS SELECT a FROM t JOIN u ON ? = b",
            ),
            (
                "ALTER TABLE \"t\" RENAME COLUMN \"a\" TO \"b\"",
                "ALTER TABLE \"t\" RENAME COLUMN \"a\" TO \"b\"",
            ),
            (
                "CREATE USER u IDENTIFIED WITH p AS \"x\"",
                "CREATE USER u IDENTIFIED WITH p AS ?",
            ),
            (
                "ATTACH DATABASE \"x\" AS \"y\" KEY \"z\"",
                "ATTACH DATABASE ? AS ? KEY ?",
            ),
            ("VACUUM INTO \"x\"", "VACUUM INTO ?"),
            ("PRAGMA key = \"x\"", "PRAGMA key = ?"),
            (
                "SELECT a FROM t WHERE b = \"x\".",
                "SELECT a FROM t WHERE b = ?.",
            ),
        ] {
            assert_eq!(shape_in(dialect, sql), expected, "{dialect:?}: {sql}");
        }
    }
}

#[test]
fn a_bare_word_can_be_the_value_of_a_setting() {
    for (sql, expected) in [
        ("PRAGMA key = hunter2", "PRAGMA key = ?"),
        ("PRAGMA table_info(hunter2)", "PRAGMA table_info(?)"),
        (
            "PRAGMA main.journal_mode = WAL",
            "PRAGMA main.journal_mode = ?",
        ),
        ("SET app.token TO hunter2, hunter2", "SET app.token TO ?, ?"),
        ("SET LOCAL app.token = hunter2", "SET LOCAL app.token = ?"),
        ("SET a = hunter2, b.c = hunter2", "SET a = ?, b.c = ?"),
        ("SET a = DEFAULT, b = TRUE", "SET a = DEFAULT, b = TRUE"),
        (
            "SET a = (SELECT max(b) FROM c)",
            "SET a = (SELECT max(b) FROM c)",
        ),
        (
            "ALTER ROLE r SET app.token TO hunter2",
            "ALTER ROLE r SET app.token TO ?",
        ),
        ("ALTER TABLE t RENAME TO u", "ALTER TABLE t RENAME TO u"),
        (
            "ALTER TABLE t SET (a = 1), ALTER COLUMN b SET NOT NULL",
            "ALTER TABLE t SET (a = ?), ALTER COLUMN b SET NOT NULL",
        ),
        ("UPDATE t SET a = b", "UPDATE t SET a = b"),
    ] {
        assert_eq!(common(sql), expected, "{sql}");
    }
}

#[test]
fn what_stands_in_quotes_of_names_can_be_the_value_of_a_setting() {
    for (dialect, sql, expected) in [
        (PostgreSql, "SET a.b = \"hunter2\"", "SET a.b = ?"),
        (PostgreSql, "SET a.b TO \"x\", \"y z\"", "SET a.b TO ?, ?"),
        (
            PostgreSql,
            "ALTER ROLE \"r\" IN DATABASE d SET a.b = \"hunter2\"",
            "ALTER ROLE \"r\" IN DATABASE d SET a.b = ?",
        ),
        (
            PostgreSql,
            "ALTER TABLE \"t\" SET (a = 1), ALTER COLUMN \"b\" SET NOT NULL",
            "ALTER TABLE \"t\" SET (a = ?), ALTER COLUMN \"b\" SET NOT NULL",
        ),
        (
            PostgreSql,
            "UPDATE \"t\" SET \"a\" = \"b\"",
            "UPDATE \"t\" SET \"a\" = \"b\"",
        ),
        (Sqlite, "PRAGMA key = [hunter2]", "PRAGMA key = ?"),
        (Sqlite, "PRAGMA key = `hunter2`", "PRAGMA key = ?"),
        (Sqlite, "PRAGMA main.key(`hunter2`)", "PRAGMA main.key (?)"),
        (MySql, "SET a = `hunter2`", "SET a = ?"),
        (MySql, "SET `a` = 1, `b` = 2", "SET `a` = ?, `b` = ?"),
    ] {
        assert_eq!(shape_in(dialect, sql), expected, "{dialect:?}: {sql}");
    }
}

#[test]
fn a_bare_word_can_be_a_file_or_a_password() {
    for (sql, expected) in [
        (
            "ATTACH DATABASE hunter2 AS a KEY hunter2",
            "ATTACH DATABASE ? AS ? KEY ?",
        ),
        ("attach hunter2 AS a", "attach ? AS ?"),
        ("ATTACH `hunter2` AS a; SELECT b", "ATTACH ? AS ?; SELECT b"),
        (
            "CREATE USER u IDENTIFIED BY hunter2 ACCOUNT UNLOCK",
            "CREATE USER u IDENTIFIED BY ? ACCOUNT UNLOCK",
        ),
        (
            "SELECT password FROM t ORDER BY a",
            "SELECT password FROM t ORDER BY a",
        ),
    ] {
        for dialect in [Sqlite, MySql, Unknown] {
            assert_eq!(shape_in(dialect, sql), expected, "{dialect:?}: {sql}");
        }
    }
}

#[test]
fn quotes_of_a_text_processor_hide_the_text() {
    for (sql, expected) in [
        ("SELECT a WHERE b = ‘hunter2 or 3’", "SELECT ..."),
        ("SELECT a WHERE b = “hunter2”", "SELECT ..."),
        ("SELECT a WHERE b = «hunter2»", "SELECT ..."),
        ("SELECT a WHERE b = ´hunter2´", "SELECT ..."),
        ("SELECT a WHERE b =\u{a0}4711", "SELECT ..."),
        ("SELECT a –– hunter2", "SELECT ..."),
        ("SELECT größe, 名前 FROM t", "SELECT größe, 名前 FROM t"),
        ("SELECT '‘a’', a -- “b”", "SELECT ?, a"),
    ] {
        assert_eq!(common(sql), expected, "{sql}");
    }
}

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
fn a_list_of_constants_has_one_shape_whatever_they_are_and_how_many() {
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
fn what_names_a_column_or_asks_a_query_is_no_constant() {
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

#[test]
fn the_memory_for_a_text_is_bounded_by_the_shape() {
    const TEXT: usize = 512 << 10;
    let repeated = |begin: &str, piece: &str, end: &str| {
        format!("{begin}{}{end}", piece.repeat(TEXT / piece.len()))
    };
    for sql in [
        repeated("SELECT a FROM t WHERE b IN (", "7,", "7)"),
        repeated("SELECT a FROM t WHERE b IN (", "CAST(1 AS INTEGER),", "7)"),
        repeated("SELECT a FROM t WHERE b IN (", "(", ")"),
        repeated("INSERT INTO t VALUES ", "(1, a, 'b'), ", "(2)"),
        repeated("INSERT INTO t VALUES ", "(now(), a), (then(), b), ", "(2)"),
        repeated("SELECT ", "column, ", "b"),
        repeated("SELECT '", "a''\\'", "'"),
        repeated("SELECT ", "- ", "1"),
        repeated("SELECT ", "[", "1"),
        repeated("SELECT ", "/*", "1"),
        repeated("SELECT ", "(a[\"b\".", "1"),
        repeated("SELECT a", "a", " b"),
    ] {
        for dialect in DIALECTS {
            let mut longest = 0;
            let allocated = allocation_counter::measure(|| {
                longest = read(&sql, dialect).shape.len();
            });
            assert!(longest <= LONGEST, "{longest}");
            let most = 160 << 10;
            assert!(
                allocated.bytes_max < most,
                "{dialect:?}, {}: {allocated:?}",
                &sql[..60]
            );
        }
    }
}

#[test]
fn a_list_of_eight_megabytes_is_folded_like_a_short_one() {
    let list = vec!["7"; 4 << 20].join(",");
    let sql = format!("SELECT a FROM t WHERE b IN ({list}) AND c = 1");
    let folded = "SELECT a FROM t WHERE b IN (?, ...) AND c = ?";
    let allocated = allocation_counter::measure(|| assert_eq!(shape(&sql), folded));
    assert!(allocated.bytes_max < 8 << 10, "{allocated:?}");
    let constant = format!("lower('{}')", "a".repeat(8 << 10));
    let deep = format!("{}1{}", "lower(".repeat(2_000), ")".repeat(2_000));
    let sql = format!("SELECT a FROM t WHERE b IN ({constant}, {deep}, {deep}) AND c = 1");
    assert_eq!(common(&sql), folded);
}

#[test]
fn ten_thousand_literals_have_one_shape() {
    for number in 0..10_000 {
        let sql = format!("SELECT a FROM t WHERE b = {number} AND c = 'n{number}'");
        assert_eq!(shape(&sql), "SELECT a FROM t WHERE b = ? AND c = ?");
    }
}

#[test]
fn a_long_text_is_cut_between_two_tokens() {
    let long = shape(&format!("SELECT {}", "column, ".repeat(10_000)));
    assert!(long.len() <= LONGEST && long.ends_with(" ..."), "{long}");
    assert_eq!(shape(&long), long);
}

/// Tokens of SQL, in any order.
fn sqlish_tokens() -> impl Strategy<Value = Vec<&'static str>> {
    let token = prop::sample::select(vec![
        "SELECT", "FROM", "IN", "VALUES", "AS", "SET", "INTO", "AND", "NULL", "(", ")", ",", ";",
        "+", "-", "=", "1", "'a'", "?", "a", "b", "count", "`c`", "[d]",
    ]);
    prop::collection::vec(token, 0..30)
}

/// Text that looks like SQL often enough to matter.
fn sqlish() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        prop::sample::select(vec![
            "SELECT", "IN", "VALUES", "ARRAY", "NULL", "(", ")", "[", "]", ",", ";", ".", "...",
            "::", ":", "'", "''", "\"", "`", "$", "$$", "$a$", "$1", "?", "-", "--", "/*", "*/",
            "/", "*", "+", "=", "<", ">", "1", "1.5", ".5", "1e", "1e-5", "0x", "E'", "e", "X'",
            "U&'", " ", "\n", "\\", "a", "b1", "é", "@", "#", "@a", ":a", "%",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn any_text_has_a_shape_whose_shape_it_is(sql in sqlish()) {
        for dialect in DIALECTS {
            let once = shape_in(dialect, &sql);
            prop_assert!(once.len() <= LONGEST);
            prop_assert_eq!(shape_in(dialect, &once), once, "{:?}", dialect);
        }
    }

    #[test]
    fn space_between_tokens_changes_no_shape(sql in sqlish_tokens()) {
        for dialect in DIALECTS {
            let close = shape_in(dialect, &sql.join(" "));
            let wide = shape_in(dialect, &sql.join("\n\t /* a */ "));
            prop_assert_eq!(close, wide, "{:?}", dialect);
        }
    }

    #[test]
    fn no_string_reaches_the_shape(secret in "[a-z@.' ]{1,20}", number in 1_000_000_u64..) {
        let quoted = secret.replace('\'', "''");
        let sql = format!("SELECT a FROM t WHERE b = '{quoted}' AND c = {number}");
        prop_assert_eq!(shape(&sql), "SELECT a FROM t WHERE b = ? AND c = ?");
    }
}
