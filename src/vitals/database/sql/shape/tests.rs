//! Shapes: what of a statement they keep, and that no value stays in them.

use proptest::prelude::*;

use super::{LONGEST, shape};

#[test]
fn literals_and_binds_are_left_out() {
    for (sql, expected, why) in [
        ("SELECT 'it''s'", "SELECT ?", "a doubled quote"),
        ("SELECT E'it\\'s', e''", "SELECT ?, ?", "an escaped quote"),
        (
            "SELECT X'00ff', b'01', N'n'",
            "SELECT ?, ?, ?",
            "strings of other kinds",
        ),
        ("SELECT $$a'b$$, $t$ $$ $t$", "SELECT ?, ?", "dollar quotes"),
        (
            "SELECT $1, ?, ?2, :a, @a, $a",
            "SELECT ?, ?, ?, ?, ?, ?",
            "binds of all kinds",
        ),
        (
            "SELECT 1, 1.5, .5, 1e-3, 0xFF, 1_000",
            "SELECT ?, ?, ?, ?, ?, ?",
            "numbers",
        ),
        (
            "SELECT -1, a-1, a - -1, (-.5)",
            "SELECT ?, a - ?, a - ?, (?)",
            "signs",
        ),
        (
            "WHERE a=-1 AND b>=+2",
            "WHERE a = ? AND b >= ?",
            "signs behind operators",
        ),
        (
            "SELECT t1.c2, t1.*",
            "SELECT t1.c2, t1.*",
            "digits in names",
        ),
        ("SELECT 'open", "SELECT ...", "a string without an end"),
        (
            "SELECT $a$ open",
            "SELECT ?",
            "a dollar quote without an end",
        ),
        (
            "SELECT a::text, '1'::int",
            "SELECT a::text, ?::int",
            "casts",
        ),
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
        assert_eq!(shape(sql), expected, "{why}");
    }
}

/// Without spaces, and with a redacted name like any value.
fn normal(shape: &str) -> String {
    shape.replace("\"?\"", "?").split_whitespace().collect()
}

#[test]
fn no_literal_is_left_by_quotes_that_are_read_otherwise_elsewhere() {
    for (sql, expected, why) in [
        (
            "SELECT E'a'\n'b\\'hunter2'",
            "SELECT ? ?",
            "an escape string that goes on in the next line",
        ),
        (
            r"SELECT tsv @@E'\'hunter2\''",
            "SELECT tsv @@ ?",
            "an operator before an escape string",
        ),
        (r"SELECT 5 #E'\'hunter2\''", "SELECT ? # ?", "another"),
        (
            "SELECT 1 AS [Bob's], 'hunter2'",
            "SELECT ? AS ?, ?",
            "a name in brackets, with a quote in it",
        ),
        (
            "SELECT 'a', 'hunter2",
            "SELECT ...",
            "a string that does not end",
        ),
        (
            "SELECT a FROM t WHERE b = 'x'' OR c = 'hunter2'",
            "SELECT ...",
            "a quote too many",
        ),
    ] {
        let shape = shape(sql);
        assert!(!shape.contains("hunter2"), "{why}: {shape}");
        assert_eq!(normal(&shape), normal(expected), "{why}");
    }
}

#[test]
fn names_are_kept_and_what_is_unlike_a_name_is_not() {
    for (sql, expected, why) in [
        (
            "SELECT `a`.`b`",
            "SELECT `a`.`b`",
            "as Diesel writes for SQLite",
        ),
        (
            "SELECT \"a\".\"b\"",
            "SELECT \"a\".\"b\"",
            "as Diesel writes for PostgreSQL",
        ),
        (
            "SELECT \"a@example.org\"",
            "SELECT \"?\"",
            "SQLite takes it for a string",
        ),
        ("SELECT \"it\"\"s\"", "SELECT \"?\"", "a doubled quote"),
        (
            "SELECT \"123\"",
            "SELECT \"?\"",
            "no name begins with a digit",
        ),
        ("SELECT \"open", "SELECT \"?\"", "without an end"),
        (
            "SELECT größe FROM 表",
            "SELECT größe FROM 表",
            "letters of all kinds",
        ),
    ] {
        assert_eq!(shape(sql), expected, "{why}");
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
        ("SELECT/* /* a */ b */1", "SELECT ?", "nested comments"),
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
        ("SELECT count( * )", "SELECT count(*)", "a function"),
        ("a IN(SELECT 1)", "a IN(SELECT ?)", "a subquery is no list"),
    ] {
        assert_eq!(shape(sql), expected, "{why}");
    }
}

#[test]
fn lists_are_folded() {
    for (sql, expected, why) in [
        ("a IN (1)", "a IN (?, ...)", "one value"),
        ("a IN (1, 'b', $3)", "a IN (?, ...)", "several"),
        ("a in ((1, 2), (3, 4))", "a in (?, ...)", "of rows"),
        ("a IN (b, 1)", "a IN (b, ?)", "a column is no value"),
        ("VALUES (1, 2)", "VALUES (?, ...)", "a row"),
        ("VALUES (1, NULL), (DEFAULT, ?)", "VALUES (?, ...)", "rows"),
        (
            "VALUES (1, now()), (2, now())",
            "VALUES (?, now())",
            "equal rows",
        ),
        (
            "VALUES (1, now()), (2, then())",
            "VALUES (?, now()), (?, then())",
            "unlike rows",
        ),
        ("ARRAY[1, 2]", "ARRAY[?, ...]", "an array"),
        ("ARRAY[[1], [2]]", "ARRAY[?, ...]", "of arrays"),
        (
            "coalesce(1, 2)",
            "coalesce(?, ?)",
            "arguments have their places",
        ),
        ("VALUES ()", "VALUES ()", "nothing to fold"),
        ("a[1]", "a[?]", "a subscript"),
    ] {
        assert_eq!(shape(sql), expected, "{why}");
    }
    let rows = vec!["(?, ?)"; 1000].join(", ");
    assert_eq!(
        shape(&format!(
            "INSERT INTO `t` (`a`, `b`) VALUES {rows} RETURNING `id`"
        )),
        "INSERT INTO `t` (`a`, `b`) VALUES (?, ...) RETURNING `id`"
    );
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
        let once = shape(&sql);
        prop_assert!(once.len() <= LONGEST);
        prop_assert_eq!(shape(&once), once);
    }

    #[test]
    fn no_string_reaches_the_shape(secret in "[a-z@.' ]{1,20}", number in 1_000_000_u64..) {
        let quoted = secret.replace('\'', "''");
        let sql = format!("SELECT a FROM t WHERE b = '{quoted}' AND c = {number}");
        prop_assert_eq!(shape(&sql), "SELECT a FROM t WHERE b = ? AND c = ?");
    }
}
