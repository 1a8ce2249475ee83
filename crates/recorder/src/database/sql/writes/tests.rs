//! Texts that write, in every place where a dialect allows it, and texts that only read.

use proptest::prelude::*;

use crate::database::sql::{Dialect, Operation, Verb, read};

#[test]
fn a_text_may_write_although_its_verb_reads() {
    for (sql, expected, why) in [
        ("SELECT 1", false, "a read"),
        ("VALUES (1), (2)", false, "a read"),
        ("(SELECT 1) UNION (SELECT 2)", false, "reads"),
        ("WITH x AS (SELECT 1) SELECT * FROM x", false, "a read"),
        (
            "SELECT id FROM items FOR UPDATE",
            false,
            "locks end with the connection",
        ),
        ("SELECT id FROM items FOR NO KEY UPDATE", false, "the same"),
        (
            "SELECT replace(name, 'a', 'b') FROM items",
            false,
            "a function",
        ),
        (
            "SELECT (replace(name, 'a', 'b')) FROM items",
            false,
            "the same",
        ),
        ("SELECT '(DELETE FROM items)'", false, "a literal"),
        ("SELECT 1; SELECT 2;", false, "several reads"),
        ("BEGIN; SELECT 1; COMMIT", false, "a transaction that reads"),
        ("START TRANSACTION; SELECT 1", false, "the same"),
        (
            "BEGIN; WITH x AS (SELECT 1) SELECT * FROM x",
            false,
            "the same",
        ),
        (
            "WITH x AS (INSERT INTO items VALUES (1) RETURNING id) SELECT id FROM x",
            true,
            "PostgreSQL's insert",
        ),
        (
            "with x as (select 1), y (id) as not materialized (\n/* z */ update items set id = 1 returning id) select 1",
            true,
            "a later expression",
        ),
        (
            "WITH x AS (DELETE FROM items RETURNING id) TABLE x",
            true,
            "PostgreSQL's delete",
        ),
        (
            "WITH x AS (MERGE INTO items USING more ON true WHEN MATCHED THEN DELETE RETURNING 1) SELECT 1",
            true,
            "PostgreSQL's merge",
        ),
        ("SELECT id INTO copies FROM items", true, "a new table"),
        ("SELECT id FROM items INTO OUTFILE '/x'", true, "a file"),
        ("SELECT 1; DELETE FROM items", true, "a batch"),
        (
            "BEGIN; SELECT 1; DELETE FROM items; COMMIT",
            true,
            "a batch",
        ),
        (
            "SELECT 1; WITH x AS (SELECT 1) DELETE FROM items",
            true,
            "its verb is not read",
        ),
        ("SELECT 1; CALL work()", true, "not known to read"),
        (
            "SELECT 1; PREPARE TRANSACTION 'x'",
            true,
            "it outlives the connection",
        ),
    ] {
        for dialect in [Dialect::PostgreSql, Dialect::Unknown] {
            assert_eq!(read(sql, dialect).writes, expected, "{sql}: {why}");
        }
    }
}

#[test]
fn explained_and_called_statements_are_no_reads_by_their_verb() {
    for sql in [
        "EXPLAIN ANALYZE INSERT INTO items VALUES (1)",
        "CALL work()",
        "PRAGMA user_version = 1",
        "WITH x AS (SELECT 1) DELETE FROM items",
        "COPY items FROM STDIN",
    ] {
        let verb = read(sql, Dialect::Unknown).verb;
        assert!(
            matches!(verb, Verb::Query(operation) if operation != Operation::Select),
            "{sql}"
        );
    }
}

#[test]
fn a_write_is_found_in_every_place_where_it_can_stand() {
    for (sql, why) in [
        (
            "WITH x AS (WITH y AS (SELECT 1) DELETE FROM items RETURNING id) SELECT * FROM x",
            "after the WITH of an expression",
        ),
        (
            "WITH x AS (WITH y AS (SELECT 1)/* z */UPDATE items SET id = 1 RETURNING id) SELECT 1",
            "the same, after a comment",
        ),
        (
            "WITH x AS MATERIALIZED (WITH y AS NOT MATERIALIZED (SELECT 1), z (n) AS (VALUES (1)) \
             MERGE INTO items USING y ON true WHEN MATCHED THEN DELETE RETURNING 1) SELECT 1",
            "a list of expressions",
        ),
        (
            "WITH x AS (WITH RECURSIVE y AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM y) \
             SEARCH DEPTH FIRST BY n SET key UPDATE items SET id = 1 RETURNING id) SELECT 1",
            "after SEARCH, whose column is called key",
        ),
        (
            "WITH x AS (WITH RECURSIVE y AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM y) \
             CYCLE n SET \"values\" TO 1 DEFAULT 0 USING path DELETE FROM items RETURNING id) SELECT 1",
            "after CYCLE",
        ),
        (
            "WITH RECURSIVE y AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM y) \
             CYCLE n SET values USING path DELETE FROM items",
            "the verb is taken for VALUES, which is the name of a column",
        ),
        (
            "SELECT (SELECT id FROM items LIMIT 1) INTO copies",
            "a new table",
        ),
        (
            "SELECT id FROM [DELETE FROM items RETURNING id]",
            "CockroachDB's source of rows",
        ),
        (
            "SELECT 1; COPY (DELETE FROM items RETURNING id) TO STDOUT",
            "a copy of what is deleted",
        ),
        (
            "SELECT 1; EXPLAIN ANALYZE DELETE FROM items",
            "it is executed",
        ),
        ("SELECT 1; DO $$ BEGIN DELETE FROM items; END $$", "a block"),
        (
            "PREPARE TRANSACTION 'x'; SELECT 1",
            "it outlives the connection",
        ),
        ("PREPARE TRANSACTION 'x'", "it outlives the connection"),
        (
            r"SELECT 'a\'; DELETE FROM items; --'",
            "a setting decides where the string ends",
        ),
    ] {
        assert!(read(sql, Dialect::PostgreSql).writes, "{sql}: {why}");
    }
}

#[test]
fn a_write_by_the_rules_of_other_databases_is_found() {
    use Dialect::{MySql, Unknown};

    for (dialect, sql, why) in [
        (MySql, "TABLE items INTO OUTFILE '/x'", "a file"),
        (MySql, "SELECT 1 --1 INTO OUTFILE '/x'", "no comment"),
        (
            MySql,
            "SELECT id FROM items /*!50000 INTO OUTFILE '/x' */",
            "a comment that is executed",
        ),
        (
            MySql,
            "BEGIN NOT ATOMIC DELETE FROM items; END",
            "MariaDB's block",
        ),
        (MySql, "BEGIN NOT ATOMIC CALL work(); END", "the same"),
        (
            Unknown,
            "BEGIN TRAN DELETE FROM items",
            "SQL Server needs no semicolon",
        ),
        (Unknown, "SELECT 1 DELETE FROM items", "the same"),
        (
            Unknown,
            "SELECT 1 FOR UPDATE; UPDATE items SET id = 1",
            "after a lock",
        ),
    ] {
        assert!(read(sql, dialect).writes, "{sql}: {why}");
    }
}

#[test]
fn locks_and_names_in_quotes_are_no_writes() {
    for sql in [
        "SELECT id FROM items FOR UPDATE OF items SKIP LOCKED",
        "SELECT id FROM items FOR NO KEY UPDATE NOWAIT",
        "SELECT id FROM items FOR KEY SHARE FOR UPDATE",
        "WITH x AS (SELECT id FROM items FOR UPDATE) SELECT id FROM x",
        "(SELECT id FROM items) FOR UPDATE",
        r#"SELECT "delete", "items"."update" AS "insert" FROM "merge""#,
        "SELECT updated, inserted_at FROM deleted",
        "SELECT $$ DELETE FROM items $$",
        "SELECT 1 -- DELETE FROM items",
        "SELECT 1 /* ; DELETE FROM items */",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY NOT DEFERRABLE; SELECT 1; COMMIT AND NO CHAIN",
        "SAVEPOINT x; SELECT 1; ROLLBACK TO x",
    ] {
        assert!(!read(sql, Dialect::PostgreSql).writes, "{sql}");
    }
}

/// A statement with what may precede it within a `WITH`, some levels deep.
fn nested(leaf: impl Strategy<Value = String> + 'static) -> impl Strategy<Value = String> {
    const CLAUSES: [&str; 5] = [
        " ",
        "/* SELECT */",
        " SEARCH BREADTH FIRST BY n SET key ",
        " SEARCH DEPTH FIRST BY n, m SET ord CYCLE n SET no USING for_path ",
        " CYCLE n SET is_cycle TO 'y' DEFAULT 'n' USING key ",
    ];
    const BODIES: [&str; 4] = [
        "SELECT 1 AS n",
        "VALUES (1), (2)",
        "TABLE items",
        "SELECT n FROM (SELECT 1 AS n) AS inner_one FOR UPDATE",
    ];
    let with = (
        prop::sample::select(vec!["WITH", "with recursive", "WITH\n-- x\n"]),
        prop::collection::vec(
            (
                prop::sample::select(vec![" y ", " \"y z\" (n)", " key (n, m) "]),
                prop::sample::select(vec![
                    "AS (",
                    "as materialized(",
                    "AS NOT MATERIALIZED /* z */ (",
                ]),
                prop::sample::select(BODIES.to_vec()),
                prop::sample::select(CLAUSES.to_vec()),
            ),
            1..3,
        ),
    );
    let with = with.prop_map(|(with, expressions)| {
        let list: Vec<_> = (expressions.into_iter())
            .map(|(name, opening, body, clause)| format!("{name}{opening}{body}){clause}"))
            .collect();
        format!("{with} {}", list.join(","))
    });
    let select = prop::sample::select(vec![
        ("WITH x AS (", ") SELECT * FROM x"),
        ("WITH x AS MATERIALIZED (", ") TABLE x"),
        (
            "WITH a AS (SELECT 1), x (id) AS (",
            "), b AS (SELECT 2) SELECT id FROM x",
        ),
        ("SELECT * FROM [", "] AS x"),
    ]);
    (leaf, prop::option::of(with), select).prop_map(|(leaf, with, (before, after))| {
        format!("{before}{}{leaf}{after}", with.unwrap_or_default())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn no_write_is_taken_for_a_read(sql in nested(prop::sample::select(vec![
        "INSERT INTO items VALUES (1) RETURNING id",
        "UPDATE items SET id = 1 RETURNING id",
        "delete from only items returning id",
        "Merge Into items USING y ON true WHEN MATCHED THEN DO NOTHING RETURNING 1",
    ]).prop_map(str::to_owned))) {
        for dialect in [Dialect::PostgreSql, Dialect::Unknown] {
            let reading = read(&sql, dialect);
            // Without a known dialect, short text in brackets is a name.
            if dialect == Dialect::PostgreSql || !sql.contains('[') {
                prop_assert!(reading.writes || reading.verb != Verb::Query(Operation::Select));
            }
        }
    }

    #[test]
    fn no_read_is_taken_for_a_write(sql in nested(prop::sample::select(vec![
        "SELECT id FROM items FOR UPDATE",
        "VALUES ('DELETE FROM items')",
    ]).prop_map(str::to_owned))) {
        prop_assert!(!read(&sql, Dialect::PostgreSql).writes, "{}", sql);
    }
}
