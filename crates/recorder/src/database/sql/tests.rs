//! Secrets in every quoting form of every dialect: none may be in a shape, of that dialect or of an unknown one.

use proptest::prelude::*;

use super::{Dialect, read};

/// A server, described by the settings that decide how it reads a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SqlServer {
    Postgres,
    /// With `standard_conforming_strings` off.
    OldPostgres,
    MySql,
    /// In the mode `NO_BACKSLASH_ESCAPES`.
    LiteralMySql,
    Sqlite,
}

use SqlServer::{LiteralMySql, MySql, OldPostgres, Postgres, Sqlite};

impl SqlServer {
    fn dialect(self) -> Dialect {
        match self {
            Postgres | OldPostgres => Dialect::PostgreSql,
            MySql | LiteralMySql => Dialect::MySql,
            Sqlite => Dialect::Sqlite,
        }
    }

    /// Whether a backslash escapes in a plain string.
    fn escapes(self) -> bool {
        matches!(self, OldPostgres | MySql)
    }

    fn is_postgres(self) -> bool {
        self.dialect() == Dialect::PostgreSql
    }

    fn is_mysql(self) -> bool {
        self.dialect() == Dialect::MySql
    }
}

const WORD: &str = "hunter2";
const NUMBER: &str = "31337";

/// A string between quotes, as a server reads it. `style` chooses among the ways to write one and the same.
fn quoted(content: &str, quote: char, style: u8, escapes: bool) -> String {
    let content = if escapes {
        content.replace('\\', "\\\\")
    } else {
        content.to_owned()
    };
    let replacement = if escapes && style.is_multiple_of(2) {
        format!("\\{quote}")
    } else {
        format!("{quote}{quote}")
    };
    format!("{quote}{}{quote}", content.replace(quote, &replacement))
}

/// A value that contains `content`, in one of the forms of a server.
fn value(server: SqlServer, content: &str, form: u8) -> String {
    let plain = quoted(content, '\'', form / 32, server.escapes());
    match form % 8 {
        0 | 1 => plain,
        2 if server.is_postgres() => {
            format!("E{}", quoted(content, '\'', form / 32, true))
        }
        2 if server.is_mysql() => quoted(content, '"', form / 32, server.escapes()),
        3 if server == Postgres => {
            let content = content.replace('\\', "\\\\").replace('\'', "''");
            format!("U&'{content}'")
        }
        3 if server.is_mysql() => format!("N{plain}"),
        3 => format!("x'{NUMBER}'"),
        4 if server.is_postgres() => format!("$${}$$", content.replace('$', "")),
        4 if server.is_mysql() => {
            format!("/*! {} */", plain.replace("*/", "").replace("/*", ""))
        }
        4 => format!("X'{NUMBER}0'"),
        5 if server.is_postgres() => format!("$tag${}$tag$", content.replace('$', "")),
        5 if server.is_mysql() => format!("0x{NUMBER}"),
        2 | 5 => quoted(content, '"', 1, false),
        6 => format!("{NUMBER}.{NUMBER}e-5"),
        _ => NUMBER.to_owned(),
    }
}

/// White space that may contain `content`, in one of the forms of a server.
fn space(server: SqlServer, content: &str, form: u8) -> String {
    let block = content.replace("/*", "").replace("*/", "").replace('!', "");
    let line = content.replace(['\n', '\r'], "");
    match form % 8 {
        0 => format!(" /* {block} */ "),
        1 => format!(" -- {line}\n"),
        2 if server.is_mysql() => format!(" #{line}\n"),
        2 => format!(" --{line}\n"),
        3 if server.is_postgres() => format!(" /* {block} /* {block} */ {block} */ "),
        3 => format!(" /* {block} /* {block} */ "),
        4 if !server.is_postgres() => format!(" -- {line}\r{line}\n"),
        _ => " ".to_owned(),
    }
}

/// Statements with `§` in the place of each value.
const TEMPLATES: &[&str] = &[
    "SELECT § , § FROM t WHERE a = § AND b IN ( § , § ) ORDER BY §",
    "SELECT a FROM t WHERE § = a OR b IS DISTINCT FROM § LIMIT §",
    "SELECT f ( § , a ) , trim ( § FROM § ) FROM t GROUP BY §",
    "SELECT CASE WHEN § THEN § ELSE § END FROM t JOIN u ON § = a",
    "SELECT a FROM t WHERE EXISTS ( SELECT § , § FROM u WHERE b = § )",
    "INSERT INTO t ( a , b ) VALUES ( § , § ) , ( § , c )",
    "INSERT INTO t VALUES ( § ) RETURNING § , a",
    "INSERT INTO t ( SELECT § , § )",
    "INSERT INTO t ( a ) VALUES ( § ) ON CONFLICT ( a ) DO UPDATE SET a = § , b = §",
    "UPDATE t SET a = § , b = f ( § , § ) WHERE § = c",
    "DELETE FROM t WHERE a BETWEEN § AND §",
    "WITH x AS ( SELECT § ) , y AS ( VALUES ( § ) ) SELECT § FROM x",
    "VALUES ( § , § ) , ( § , § )",
    "SET x = §",
    "SET x TO § , §",
    "PRAGMA key = §",
    "PRAGMA key ( § )",
    "CALL p ( § , § )",
    "CREATE TABLE t ( a TEXT DEFAULT § , b TEXT CHECK ( b IN ( § , § ) ) )",
    "CREATE USER u IDENTIFIED BY §",
    "ALTER USER u IDENTIFIED WITH p AS §",
    "ATTACH DATABASE § AS § KEY §",
    "LOAD DATA INFILE § INTO TABLE t FIELDS TERMINATED BY §",
    "VACUUM INTO §",
    "EXPLAIN SELECT § FROM t WHERE a LIKE § ESCAPE §",
    "COMMENT ON TABLE t IS §",
    "BEGIN ; UPDATE t SET a = § ; COMMIT",
    "§",
    "( § )",
];

#[derive(Clone, Debug)]
struct Planted {
    server: SqlServer,
    sql: String,
    /// The statement with binds for values, and without comments.
    plain: String,
    /// Nothing in it depends on a setting of the server.
    is_clear: bool,
}

fn content() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "'", "\"", "`", "\\", "--", "-- ", "#", "/*", "*/", "$$", "$a$", "[", "]", "\n", "\r", ";",
        "é", " ", ")", "(", ",", "?", ".", "=", "E", "q", "!", "\\'", "' ", " '", "\\\\",
    ]);
    let pieces = || prop::collection::vec(piece.clone(), 0..4);
    (pieces(), pieces())
        .prop_map(|(before, behind)| format!("{}{WORD} {WORD}{}", before.concat(), behind.concat()))
}

fn planted() -> impl Strategy<Value = Planted> {
    let server = prop::sample::select(vec![Postgres, OldPostgres, MySql, LiteralMySql, Sqlite]);
    let form = || (content(), any::<u8>());
    (
        server,
        prop::sample::select(TEMPLATES),
        prop::collection::vec(form(), 12),
        prop::collection::vec(form(), 48),
    )
        .prop_map(|(server, template, values, spaces)| {
            let mut sql = String::new();
            let (mut values, mut spaces) = (values.iter().cycle(), spaces.iter().cycle());
            let mut is_clear = true;
            for word in template.split(' ') {
                let (content, form) = spaces.next().expect("endless");
                sql.push_str(&space(server, content, *form));
                if word == "§" {
                    let (content, form) = values.next().expect("endless");
                    is_clear &= !content.contains('\\');
                    sql.push_str(&value(server, content, *form));
                } else {
                    sql.push_str(word);
                }
            }
            Planted {
                server,
                sql,
                plain: template.replace('§', "?"),
                is_clear: is_clear && matches!(server, Postgres | MySql | Sqlite),
            }
        })
}

fn shows_a_secret(shape: &str) -> bool {
    shape.contains(WORD) || shape.contains(NUMBER)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn no_secret_reaches_a_shape(planted in planted()) {
        let dialect = planted.server.dialect();
        let reading = read(&planted.sql, dialect);
        prop_assert!(!shows_a_secret(&reading.shape), "{}", reading.shape);
        let unknown = read(&planted.sql, Dialect::Unknown);
        prop_assert!(!shows_a_secret(&unknown.shape), "{}", unknown.shape);
        if planted.is_clear {
            let plain = read(&planted.plain, dialect);
            prop_assert_eq!(reading.verb, plain.verb);
            // By chance MySQL's escapes can be read in the other way, too.
            if planted.server != MySql || !reading.shape.ends_with("...") {
                prop_assert_eq!(reading.shape, plain.shape);
            }
        }
    }

    #[test]
    fn no_secret_reaches_a_shape_of_a_text_that_is_cut_off(planted in planted(), cut in any::<prop::sample::Index>()) {
        let mut sql = planted.sql;
        let mut at = cut.index(sql.len() + 1);
        while !sql.is_char_boundary(at) {
            at -= 1;
        }
        sql.truncate(at);
        let dialect = match planted.server {
            Postgres | MySql | Sqlite => planted.server.dialect(),
            // It may well be whole by the usual settings.
            OldPostgres | LiteralMySql => Dialect::Unknown,
        };
        for dialect in [dialect, Dialect::Unknown] {
            let shape = read(&sql, dialect).shape;
            prop_assert!(!shows_a_secret(&shape), "{:?}: {}", dialect, shape);
        }
    }
}
