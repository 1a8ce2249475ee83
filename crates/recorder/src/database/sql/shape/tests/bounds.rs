//! Long texts, and properties of any text.

use proptest::prelude::*;

use super::*;
use crate::database::sql::shape::output::LONGEST;

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
    fn the_shape_of_a_shape_is_that_shape(sql in sqlish()) {
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
