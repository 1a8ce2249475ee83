//! No value of a statement is shown: on real SQLite and PostgreSQL, for every way to write a value.
//!
//! The tests with MariaDB are in `tests/mysql`.

use crate::support::tools;

mod plant;

use diesel::{PgConnection, SqliteConnection};

use crate::support::postgres::Cluster;
use crate::support::server::Data as _;
use plant::{Planted, look_for_secrets};

const SQLITE_TABLE: &[Planted] = &[(
    "CREATE TABLE IF NOT EXISTS [t] (\"a\" TEXT, `b`)",
    "CREATE TABLE IF NOT EXISTS [t] (\"a\" TEXT, `b`)",
)];

const SQLITE_STATEMENTS: &[Planted] = &[
    (
        "SELECT a FROM t WHERE a = 'it''s hunter2'",
        "SELECT a FROM t WHERE a = ?",
    ),
    (
        "SELECT b FROM t WHERE a = \"hunter2\"",
        "SELECT b FROM t WHERE a = ?",
    ),
    (
        "SELECT \"hunter2\", 1 AS [n], \"t\".\"a\" FROM \"t\"",
        "SELECT ?, ? AS [n], \"t\".\"a\" FROM \"t\"",
    ),
    (
        "INSERT INTO [t] (\"a\", `b`) VALUES (\"hunter2\", x'313373133f'), ('hunter2', - 313373133)",
        "INSERT INTO [t] (\"a\", `b`) VALUES (?, ...)",
    ),
    (
        "UPDATE \"t\" SET \"a\" = \"hunter2\", b = 313373133 WHERE b IN (\"hunter2\", CAST(313373133 AS TEXT))",
        "UPDATE \"t\" SET \"a\" = ?, b = ? WHERE b IN (?, ...)",
    ),
    ("SELECT 'C:\\', 'hunter2', 0x313373133", "SELECT ?, ?, ?"),
    (
        "SELECT 'a' -- hunter2\r hunter2\n, 'b', 'c'",
        "SELECT ?, ?, ?",
    ),
    (
        "SELECT /* hunter2 /* hunter2 */ a, b FROM t",
        "SELECT a, b FROM t",
    ),
    (
        "\u{feff}WITH [x] AS (SELECT 'hunter2' AS y) SELECT y FROM [x]",
        "WITH [x] AS (SELECT ? AS y) SELECT y FROM [x]",
    ),
    ("PRAGMA user_version = 313373133", "PRAGMA user_version = ?"),
    (
        "SELECT trim('a' || \"hunter2\"), a IS NOT DISTINCT FROM \"hunter2\" FROM t",
        "SELECT trim(? || ?), a IS NOT DISTINCT FROM ? FROM t",
    ),
];

const FAILING_SQLITE: &[Planted] = &[
    (
        "SELECT nothing FROM t WHERE a = \"hunter2\"",
        "SELECT nothing FROM t WHERE a = ?",
    ),
    ("SELECT 'it's', 'hunter2's'", "SELECT ..."),
];

#[actix_web::test]
async fn no_secret_of_a_statement_on_sqlite_is_shown() {
    let directory = tempfile::TempDir::new().unwrap();
    let url = directory.path().join("secrets.db");
    let url = url.to_str().unwrap();
    look_for_secrets::<SqliteConnection>(
        url,
        &with_table(SQLITE_TABLE, SQLITE_STATEMENTS),
        FAILING_SQLITE,
    )
    .await;
}

const POSTGRES_TABLE: &[Planted] = &[(
    "CREATE TABLE IF NOT EXISTS \"t\" (\"a\" TEXT, \"b\" TEXT)",
    "CREATE TABLE IF NOT EXISTS \"t\" (\"a\" TEXT, \"b\" TEXT)",
)];

const POSTGRES_STATEMENTS: &[Planted] = &[
    (
        "SELECT a FROM t WHERE a = 'it''s hunter2'",
        "SELECT a FROM t WHERE a = ?",
    ),
    (
        "SELECT E'it\\'s hunter2', e'\\\\', 'hunter2'",
        "SELECT ?, ?, ?",
    ),
    (
        "SELECT U&'\\0061 hunter2', U&'!0061hunter2' UESCAPE '!'",
        "SELECT ?, ? UESCAPE ?",
    ),
    (
        "SELECT $$it's hunter2$$, $tag$ $$hunter2$$ $tag$",
        "SELECT ?, ?",
    ),
    (
        "SELECT 'C:\\', 'hunter2', x'313373133', b'01', 313373133.313373133e-3",
        "SELECT ?, ?, ?, ?, ?",
    ),
    (
        "SELECT /* hunter2 /* it's hunter2 */ hunter2 */ 1 -- it's hunter2",
        "SELECT ?",
    ),
    (
        "SELECT 'a'\n'hunter2', E'a'\n'\\'hunter2'",
        "SELECT ? ?, ? ?",
    ),
    (
        "SELECT a FROM t WHERE a IN ('hunter2'::text, CAST('hunter2' AS text), lower('hunter2'))",
        "SELECT a FROM t WHERE a IN (?, ...)",
    ),
    (
        "SELECT ARRAY['hunter2', 'it''s hunter2']::text[], '{\"hunter2\"}'::text[]",
        "SELECT ARRAY[?, ...]::text[], ?::text[]",
    ),
    (
        "SELECT '{\"a\": \"hunter2\"}'::jsonb #>> '{hunter2}', '{}'::jsonb @> '{}'",
        "SELECT ?::jsonb #>> ?, ?::jsonb @> ?",
    ),
    (
        "SELECT \"t\".\"a\", DATE '2020-01-01', INTERVAL '- 313373133' DAY FROM \"t\"",
        "SELECT \"t\".\"a\", DATE ?, INTERVAL ? DAY FROM \"t\"",
    ),
    (
        "INSERT INTO \"t\" (\"a\", \"b\") VALUES ('hunter2', E'hunter2'), ('hunter2', lower('HUNTER2'))",
        "INSERT INTO \"t\" (\"a\", \"b\") VALUES (?, ...)",
    ),
    (
        "UPDATE t SET a = 'hunter2' WHERE b LIKE '%\\_hunter2' ESCAPE '\\'",
        "UPDATE t SET a = ? WHERE b LIKE ? ESCAPE ?",
    ),
    (
        "SET application_name TO hunter2",
        "SET application_name TO ?",
    ),
    ("DO $$ BEGIN PERFORM 'hunter2'; END $$", "DO ?"),
    (
        "SET standard_conforming_strings = off",
        "SET standard_conforming_strings = ?",
    ),
    ("SELECT 1, 2, 3, 'it\\'s', 'hunter2'", "SELECT ..."),
    (
        "RESET standard_conforming_strings",
        "RESET standard_conforming_strings",
    ),
];

const FAILING_POSTGRES: &[Planted] = &[
    (
        "SELECT nothing FROM t WHERE a = 'hunter2'",
        "SELECT nothing FROM t WHERE a = ?",
    ),
    (
        "SELECT CAST('hunter2' AS integer)",
        "SELECT CAST(? AS integer)",
    ),
];

#[actix_web::test]
async fn no_secret_of_a_statement_on_postgresql_is_shown() {
    let Some(programs) = tools::postgres("no_secret_of_a_statement_on_postgresql_is_shown") else {
        return;
    };
    let database = Cluster::shared(&programs).database();
    look_for_secrets::<PgConnection>(
        &database.url(),
        &with_table(POSTGRES_TABLE, POSTGRES_STATEMENTS),
        FAILING_POSTGRES,
    )
    .await;
}

fn with_table(table: &[Planted], statements: &[Planted]) -> Vec<Planted> {
    [table, statements].concat()
}
