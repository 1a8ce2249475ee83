//! Literals and binds are left out, also where dialects disagree about quotes.

use super::*;

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
fn no_literal_remains_where_dialects_read_quotes_differently() {
    for &(dialect, sql, expected, why) in MISLEADING {
        let shape = shape_in(dialect, sql);
        assert_eq!(shape, expected, "{why}: {sql}");
        assert!(!shape.contains("hunter2"), "{why}: {shape}");
    }
}

#[test]
fn typographic_quotes_hide_the_text() {
    for (sql, expected) in [
        ("SELECT a WHERE b = ‘hunter2 or 3’", "SELECT ..."),
        ("SELECT a WHERE b = “hunter2”", "SELECT ..."),
        ("SELECT a WHERE b = «hunter2»", "SELECT ..."),
        ("SELECT a WHERE b = ´hunter2´", "SELECT ..."),
        ("SELECT a WHERE b =\u{a0}4711", "SELECT ..."),
        ("SELECT a –– hunter2", "SELECT ..."),
        ("SELECT\u{a0}hunter2", "..."),
        ("DELETE\u{3000}4711", "..."),
        ("SELECT größe, 名前 FROM t", "SELECT größe, 名前 FROM t"),
        ("SELECT '‘a’', a -- “b”", "SELECT ?, a"),
    ] {
        assert_eq!(common(sql), expected, "{sql}");
    }
}
