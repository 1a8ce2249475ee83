//! The database's address: which database it means, without ever showing the secret that it may hold.
//!
//! It opens nothing: that is the store's work.

use std::fmt;
use std::path::PathBuf;

use super::postgres_url::PostgresUrl;

/// Where the data is kept.
///
/// Its `Debug` and `Display` forms hold no credentials: both may be logged.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DatabaseUrl {
    /// A PostgreSQL database, or one that speaks its protocol.
    Postgres(PostgresUrl),
    /// An SQLite database.
    Sqlite(SqliteLocation),
}

/// Where an SQLite database is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SqliteLocation {
    /// In a file, by its path; a relative path starts from the working directory.
    File(PathBuf),
    /// In memory, for as long as the process lives. It lives in one connection, so the pool has exactly one.
    Memory,
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
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

/// Reads `postgres://…`, `sqlite://relative.db`, `sqlite:///absolute.db`, `sqlite://:memory:`, `:memory:` or a plain path.
///
/// A path stands for itself: nothing in it is percent-decoded. What could be a misspelt URL is refused rather than taken
/// for a file, whose name would be logged. A refusal never repeats the text, which may hold a password, however it is
/// misspelt.
pub(super) fn parse(text: &str) -> Result<DatabaseUrl, String> {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    let path = match text.split_once("://") {
        Some((scheme, path)) if scheme.eq_ignore_ascii_case("sqlite") => path,
        Some((scheme, rest))
            if ["postgres", "postgresql"].contains(&scheme.to_ascii_lowercase().as_str()) =>
        {
            return PostgresUrl::parse(rest).map(DatabaseUrl::Postgres);
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

fn unknown_scheme() -> String {
    "must begin with `sqlite://` or `postgres://`, or be the path of a file; one with both `:` and `@` in it must begin \
     with `/` or `./`"
        .to_owned()
}

/// Whether it has the form of a URL's scheme (RFC 3986, section 3.1).
fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .chars()
            .all(|character| character.is_ascii_alphanumeric() || "+-.".contains(character))
}

/// Whether a path looks as if it were an address of a server: in a URL whose scheme is misspelt or missing, or in libpq's
/// other notation (`host=… password=…`).
fn could_hold_credentials(path: &str) -> bool {
    let is_plainly_a_path = (path.starts_with('/') && !path.starts_with("//"))
        || path.starts_with("./")
        || path.starts_with("../");
    let has_user = path.contains('@') && path.contains([':', '/']);
    // A name's value: no file is called so, and libpq knows more names for a password than one.
    let has_parameter = path.contains('=')
        && (path.contains(char::is_whitespace)
            || ["host", "user", "dbname", "port", "pass", "pgpass"]
                .iter()
                .any(|name| path.to_ascii_lowercase().contains(name)));
    !is_plainly_a_path && (has_user || has_parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str) -> DatabaseUrl {
        DatabaseUrl::Sqlite(SqliteLocation::File(path.into()))
    }

    #[test]
    fn every_form_of_an_sqlite_address_is_understood() {
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

    #[test]
    fn either_scheme_of_postgresql_is_understood() {
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
    fn a_refusal_does_not_repeat_the_address() {
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
            let refusal = parse(text).expect_err(text);
            assert!(!refusal.contains("s3cret"), "{text:?}: {refusal}");
        }
    }
}
