//! The URL of the database, and the part of it that may be shown: never a user, a password or a parameter.
//!
//! The store opens the database.

use std::{fmt, path::PathBuf};

#[cfg(feature = "postgres")]
use super::postgres_url::PostgresUrl;

/// The database that the data is stored in.
///
/// Its `Debug` and `Display` forms contain no credentials, so that both may be logged.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseUrl {
    /// A PostgreSQL database, or one with the same protocol.
    #[cfg(feature = "postgres")]
    Postgres(PostgresUrl),
    /// An SQLite database.
    Sqlite(SqliteLocation),
}

/// The location of an SQLite database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqliteLocation {
    /// A file. A relative path starts from the working directory.
    File(PathBuf),
    /// Memory, until the process ends. The data belongs to one connection, so the pool has exactly one.
    Memory,
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "postgres")]
            Self::Postgres(url) => fmt::Display::fmt(url, f),
            Self::Sqlite(SqliteLocation::File(path)) => {
                write!(f, "SQLite database {}", path.display())
            }
            Self::Sqlite(SqliteLocation::Memory) => f.write_str("SQLite database in memory"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Parses `postgres://…`, `sqlite://relative.db`, `sqlite:///absolute.db`, `sqlite://:memory:`, `:memory:` or a plain path.
///
/// A path is taken literally, without percent-decoding. A text that may be a misspelt URL is an error: as the name of a file
/// it would be logged. An error never repeats the text, which may contain a password.
pub(super) fn parse(text: &str) -> Result<DatabaseUrl, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let path = match text.split_once("://") {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("sqlite") => path,
        Some((scheme, rest))
            if ["postgres", "postgresql"].contains(&scheme.to_ascii_lowercase().as_str()) =>
        {
            return parse_postgres(rest);
        }
        Some(_) => return Err(unknown_scheme()),
        None => match text.split_once(':') {
            Some((scheme, path)) if scheme.eq_ignore_ascii_case("sqlite") => path,
            Some((scheme, _)) if is_scheme(scheme) => return Err(unknown_scheme()),
            _ => text,
        },
    };
    if could_hold_credentials(path) {
        return Err(unknown_scheme());
    }
    if path == ":memory:" {
        return Ok(DatabaseUrl::Sqlite(SqliteLocation::Memory));
    }
    if path.is_empty() {
        return Err("must name a file after `sqlite://`".to_owned());
    }
    if path.contains('\0') {
        return Err("must not contain a null character".to_owned());
    }
    if path.len() != text.len() && path.contains('?') {
        return Err("must be sqlite:// and a path without parameters (`?`)".to_owned());
    }
    Ok(DatabaseUrl::Sqlite(SqliteLocation::File(path.into())))
}

#[cfg(feature = "postgres")]
fn parse_postgres(rest: &str) -> Result<DatabaseUrl, String> {
    PostgresUrl::parse(rest).map(DatabaseUrl::Postgres)
}

#[cfg(not(feature = "postgres"))]
fn parse_postgres(_: &str) -> Result<DatabaseUrl, String> {
    Err(
        "must begin with `sqlite://`: this program is built without PostgreSQL (feature `postgres`)"
            .to_owned(),
    )
}

fn unknown_scheme() -> String {
    let schemes = if cfg!(feature = "postgres") {
        "`sqlite://` or `postgres://`"
    } else {
        "`sqlite://`"
    };
    format!(
        "must begin with {schemes}, or be the path of a file; one with both `:` and `@` in it must begin with `/` or `./`"
    )
}

/// Whether the text has the form of a URL's scheme (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
}

/// Whether a path may be the address of a server: a URL whose scheme is misspelt or missing, or libpq's other notation
/// (`host=… password=…`).
fn could_hold_credentials(path: &str) -> bool {
    let is_clearly_a_path = (path.starts_with('/') && !path.starts_with("//"))
        || path.starts_with("./")
        || path.starts_with("../");
    let has_user = path.contains('@') && path.contains([':', '/']);
    // A parameter of libpq. It has several names for a password, and no file is named like that.
    let has_parameter = path.contains('=')
        && (path.contains(char::is_whitespace)
            || ["host", "user", "dbname", "port", "pass", "pgpass"]
                .iter()
                .any(|name| path.to_ascii_lowercase().contains(name)));
    !is_clearly_a_path && (has_user || has_parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> DatabaseUrl {
        DatabaseUrl::Sqlite(SqliteLocation::File(path.into()))
    }

    #[test]
    fn every_form_of_an_sqlite_url_is_parsed() {
        let memory = DatabaseUrl::Sqlite(SqliteLocation::Memory);
        for (text, expected) in [
            ("sqlite://vitals.db", file("vitals.db")),
            ("sqlite://data/vitals.db", file("data/vitals.db")),
            ("sqlite:///var/lib/vitals.db", file("/var/lib/vitals.db")),
            ("SQLite://vitals.db", file("vitals.db")),
            ("sqlite:vitals.db", file("vitals.db")),
            ("SQLite:vitals.db", file("vitals.db")),
            ("vitals.db", file("vitals.db")),
            ("/var/lib/what?.db", file("/var/lib/what?.db")),
            (
                "/var/lib/at 12:00@home.db",
                file("/var/lib/at 12:00@home.db"),
            ),
            ("./12:00.db", file("./12:00.db")),
            ("me@home.db", file("me@home.db")),
            ("sqlite://my files/50%.db", file("my files/50%.db")),
            ("sqlite://:memory:", memory.clone()),
            ("sqlite::memory:", memory.clone()),
            (":memory:", memory.clone()),
        ] {
            assert_eq!(parse(text), Ok(expected), "{text}");
        }
    }

    #[cfg(not(feature = "postgres"))]
    #[test]
    fn without_postgresql_its_url_is_rejected_with_the_reason() {
        let error = parse("postgres://ada:s3cret@localhost/vitals").unwrap_err();
        assert!(error.contains("built without PostgreSQL"), "{error}");
        assert!(!error.contains("s3cret"), "{error}");
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn both_schemes_of_postgresql_are_parsed() {
        for text in [
            "postgres://ada:s3cret@localhost/vitals",
            "postgresql://ada:s3cret@localhost/vitals",
            "PostgreSQL://ada:s3cret@localhost/vitals",
        ] {
            let url = parse(text).unwrap();
            assert_eq!(
                url.to_string(),
                "PostgreSQL database vitals at localhost",
                "{text}"
            );
        }
    }

    #[test]
    fn an_error_does_not_repeat_the_url() {
        for text in [
            "",
            "sqlite://",
            "sqlite:",
            "sqlite://vitals.db?mode=s3cret",
            "mysql://user:s3cret@host/db",
            "postgres:user:s3cret@host",
            "postgres://user:s3cret@a@host/db",
            "file:s3cret",
            "Postgres:vitals:s3cret@db",
            "POSTGRESQL:vitals",
            "postgress:/u:s3cret@h/db",
            "postgres//u:s3cret@h/db",
            "postgres;//u:s3cret@h/db",
            "user:s3cret@h:5432/db",
            "my_user:s3cret@h:5432/db",
            ":s3cret@h/db",
            "//user:s3cret@h/db",
            "sqlite:user:s3cret@h/db",
            "sqlite://user:s3cret@h/db",
            "sqlite://postgres://user:s3cret@h/db",
            "host=h user=u password=s3cret",
            "Password = s3cret",
            "host=127.0.0.1 passwd=s3cret",
            "pass=s3cret host=h",
            "dbname=v user=postgres pgpass=s3cret",
            "postgres//s3cret@h/db",
            "user/s3cret@host/db",
            "C:\\s3cret.db",
            "://s3cret",
            "nul\0s3cret",
        ] {
            let error = parse(text).expect_err(text);
            assert!(!error.contains("s3cret"), "{text:?}: {error}");
        }
    }
}
