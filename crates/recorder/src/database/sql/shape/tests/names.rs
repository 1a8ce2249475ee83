//! Names are kept where no value is possible.

use super::*;

#[test]
fn names_are_kept_and_other_quoted_text_is_not() {
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
fn a_token_in_double_quotes_is_a_name_only_where_no_value_is_possible() {
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
        // A token that nobody quoted.
        ("SET app.jwt = hunter2.hunter2.x", "SET app.jwt = ?.?.?"),
        (
            "SET LOCAL app.jwt TO hunter2.x-hunter2, hunter2",
            "SET LOCAL app.jwt TO ?.? - ?, ?",
        ),
        ("SET a = hunter2 = 5, b = 6", "SET a = ? = ?, b = ?"),
        ("PRAGMA key = hunter2.hunter2", "PRAGMA key = ?.?"),
        ("PRAGMA main.key(hunter2.x)", "PRAGMA main.key (?.?)"),
        (
            "ALTER ROLE r SET app.token = hunter2.x",
            "ALTER ROLE r SET app.token = ?.?",
        ),
        // Settings without a sign before their value.
        ("SET ROLE hunter2", "SET ROLE ?"),
        ("SET LOCAL ROLE NONE", "SET LOCAL ROLE ?"),
        (
            "SET SESSION AUTHORIZATION hunter2",
            "SET SESSION AUTHORIZATION ?",
        ),
        (
            "SET SESSION AUTHORIZATION DEFAULT",
            "SET SESSION AUTHORIZATION DEFAULT",
        ),
        ("SET TIME ZONE hunter2", "SET TIME ZONE ?"),
        (
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
            "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        ),
        (
            "SET CONSTRAINTS ALL DEFERRED",
            "SET CONSTRAINTS ALL DEFERRED",
        ),
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
fn a_quoted_name_can_be_the_value_of_a_setting() {
    for (dialect, sql, expected) in [
        (PostgreSql, "SET a.b = \"hunter2\"", "SET a.b = ?"),
        (PostgreSql, "SET a.b TO \"x\", \"y z\"", "SET a.b TO ?, ?"),
        (PostgreSql, "SET LOCAL ROLE \"hunter2\"", "SET LOCAL ROLE ?"),
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
            "CREATE USER u IDENTIFIED WITH p AS hunter2",
            "CREATE USER u IDENTIFIED WITH p AS ?",
        ),
        (
            "CREATE OR REPLACE USER u IDENTIFIED VIA p USING hunter2",
            "CREATE OR REPLACE USER u IDENTIFIED VIA p USING ?",
        ),
        (
            "ALTER USER u IDENTIFIED WITH p BY hunter2 REPLACE 'hunter2'",
            "ALTER USER u IDENTIFIED WITH p BY ? REPLACE ?",
        ),
        (
            "ALTER ROLE r WITH LOGIN ENCRYPTED PASSWORD hunter2 VALID UNTIL 'x'",
            "ALTER ROLE r WITH LOGIN ENCRYPTED PASSWORD ? VALID UNTIL ?",
        ),
        ("ALTER USER u PASSWORD NULL", "ALTER USER u PASSWORD NULL"),
        (
            "CREATE VIRTUAL TABLE f USING csv(filename=/srv/hunter2.csv, key = hunter2, a)",
            "CREATE VIRTUAL TABLE f USING csv(filename = / ? / ?.?, key = ?, a)",
        ),
        (
            "CREATE TABLE t (password TEXT, a INT CHECK (a = b))",
            "CREATE TABLE t (password TEXT, a INT CHECK (a = b))",
        ),
        (
            "SELECT password FROM t ORDER BY a",
            "SELECT password FROM t ORDER BY a",
        ),
    ] {
        for dialect in [Sqlite, MySql, PostgreSql, Unknown] {
            if dialect == PostgreSql && sql.contains('`') {
                continue;
            }
            assert_eq!(shape_in(dialect, sql), expected, "{dialect:?}: {sql}");
        }
    }
}
