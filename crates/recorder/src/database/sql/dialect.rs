//! The dialects of SQL that the reader knows, and how a connection's dialect is found.

/// The rules that decide where a value begins and ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Dialect {
    /// PostgreSQL's: double quotes are names, `E''` and dollar quotes are strings, comments nest.
    PostgreSql,
    /// The dialect of MySQL and MariaDB: double quotes are strings, a backslash escapes, `#` starts a comment.
    MySql,
    /// SQLite's: a token in double quotes is a string if no column has its name, `[a]` is a name.
    Sqlite,
    /// Any dialect. Where they differ, the reader shows nothing that is a value in one of them.
    #[default]
    Unknown,
}

impl Dialect {
    /// The dialect of a database system, by its name in OpenTelemetry's conventions.
    pub fn of_system(system: &str) -> Self {
        match system {
            "postgresql" | "cockroachdb" => Self::PostgreSql,
            "mysql" | "mariadb" => Self::MySql,
            "sqlite" => Self::Sqlite,
            _ => Self::Unknown,
        }
    }
}
