//! No output contains a value of a statement: on a real MariaDB, with every form of value in MySQL's dialect. Needs the
//! feature `mysql`, and the headers of a MySQL client, which `make test` installs.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test may panic")]

mod support;

#[path = "secrets/plant.rs"]
mod plant;

#[path = "mysql/mariadb.rs"]
mod mariadb;

use diesel::MysqlConnection;

use mariadb::Mariadb;
use plant::{Planted, look_for_secrets};

const STATEMENTS: &[Planted] = &[
    (
        "CREATE TABLE IF NOT EXISTS `t` (`a` TEXT, `b` TEXT)",
        "CREATE TABLE IF NOT EXISTS `t` (`a` TEXT, `b` TEXT)",
    ),
    (r"SELECT 'a\'b', 'hunter2\'c'", "SELECT ?, ?"),
    (
        r#"SELECT a FROM t WHERE a = "hunter2" OR b = "it\"s 'hunter2'""#,
        "SELECT a FROM t WHERE a = ? OR b = ?",
    ),
    ("SELECT 1 #hunter2", "SELECT ?"),
    ("SELECT 1, 2 -- it's hunter2", "SELECT ?, ?"),
    (
        "SELECT 5--1, \"hunter2\" /* hunter2 /* it's */",
        "SELECT ? - ?, ?",
    ),
    (
        "SELECT /*!50001 'hunter2', */ /*! \"hunter2\", */ 1",
        "SELECT ?, ?, ?",
    ),
    (
        "SELECT N'hunter2', _utf8'hunter2', _utf8mb4 x'313373133f', 0x313373133f, b'01', x'313373133f'",
        "SELECT ?, _utf8 ?, _utf8mb4 ?, ?, ?, ?",
    ),
    (
        "SELECT a FROM t WHERE a IN ('hunter2', \"hunter2\", DATE '2020-01-01', - 313373133)",
        "SELECT a FROM t WHERE a IN (?, ...)",
    ),
    (
        "INSERT INTO t (`a`, `b`) VALUES ('hunter2', \"it's hunter2\"), (lower('hunter2'), 313373133)",
        "INSERT INTO t (`a`, `b`) VALUES (?, ...)",
    ),
    (
        "INSERT INTO t VALUE (\"hunter2\", 'hunter2')",
        "INSERT INTO t VALUE (?, ...)",
    ),
    (
        "UPDATE t SET a = \"hunter2\", b = 'hunter2' WHERE b = \"hunter2\"",
        "UPDATE t SET a = ?, b = ? WHERE b = ?",
    ),
    (
        "SELECT DATE '2020-01-01' + INTERVAL - 1 DAY",
        "SELECT DATE ? + INTERVAL ? DAY",
    ),
    (
        "SELECT `t`.`a`, \"hunter2\" AS \"n\" FROM `t` WHERE trim(\"a\" FROM \"hunter2\")",
        "SELECT `t`.`a`, ? AS \"n\" FROM `t` WHERE trim(? FROM ?)",
    ),
    (
        "SET @token = 'hunter2', @other = \"hunter2\"",
        "SET ? = ?, ? = ?",
    ),
    (
        "SET SESSION sql_mode = 'NO_BACKSLASH_ESCAPES'",
        "SET SESSION sql_mode = ?",
    ),
    (
        r"SELECT a FROM t WHERE a = 'C:\' AND b = 'hunter2'",
        "SELECT ...",
    ),
    (
        "SET SESSION sql_mode = 'ANSI_QUOTES'",
        "SET SESSION sql_mode = ?",
    ),
    (
        "SELECT \"t\".\"a\" FROM \"t\" WHERE \"a\" = 'hunter2'",
        "SELECT \"t\".\"a\" FROM \"t\" WHERE ? = ?",
    ),
    (
        "SET SESSION sql_mode = DEFAULT",
        "SET SESSION sql_mode = DEFAULT",
    ),
];

const FAILING: &[Planted] = &[
    (
        "SELECT nothing FROM t WHERE a = \"hunter2\"",
        "SELECT nothing FROM t WHERE a = ?",
    ),
    ("SELECT 'it's', 'hunter2's'", "SELECT ..."),
];

#[actix_web::test]
async fn no_secret_of_a_statement_on_mariadb_is_shown() {
    let Some(server) = Mariadb::shared("no_secret_of_a_statement_on_mariadb_is_shown") else {
        return;
    };
    look_for_secrets::<MysqlConnection>(&server.create_database(), STATEMENTS, FAILING).await;
}
