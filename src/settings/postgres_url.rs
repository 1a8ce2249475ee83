//! The URL of a PostgreSQL database: all of it for the driver, and its hosts and database for messages.
//!
//! libpq interprets the parts. This module only checks that it is certain which part is secret: a password that is not
//! percent-encoded could be taken for a host, and shown.

use std::fmt;

/// A connection URI of libpq (<https://www.postgresql.org/docs/current/libpq-connect.html>).
///
/// Its `Debug` and `Display` forms contain the hosts and the database's name, but no user, password or parameter.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    text: String,
    /// The position in `text` after the `?`.
    parameters: Option<usize>,
    /// `host:port`, separated by commas. Empty if libpq takes them from parameters or its defaults.
    hosts: String,
    /// As written in the URL. May be empty.
    database: String,
}

impl PostgresUrl {
    /// Parses the text after `postgres://` or `postgresql://`. An error does not repeat any of it.
    pub(super) fn parse(rest: &str) -> Result<Self, String> {
        if rest.contains(|character: char| character.is_whitespace() || character.is_control()) {
            return Err("must not contain white space or control characters; percent-encode them, a space as %20".to_owned());
        }
        if rest.contains('"') {
            // libpq's messages quote parts of the URL. A quote within would end such a quotation early.
            return Err("must not contain `\"`; percent-encode it as %22".to_owned());
        }
        let (location, parameters) = match rest.split_once('?') {
            Some((location, parameters)) => (location, Some(parameters)),
            None => (rest, None),
        };
        let (authority, database) = location.split_once('/').unwrap_or((location, ""));
        let hosts = match authority.split_once('@') {
            Some((_, hosts)) => hosts,
            None => authority,
        };
        let is_valid = hosts.split(',').all(is_host)
            && database.chars().all(|character| !"@:/".contains(character))
            && parameters.is_none_or(|parameters| parameters.split('&').all(is_parameter));
        if !is_valid {
            return Err(
                "must be postgres://user:password@host:port/database?parameter=value, with `/`, `?`, `@` and the like \
                 percent-encoded in the user, the password and the values"
                    .to_owned(),
            );
        }
        let scheme = "postgres://";
        Ok(Self {
            text: format!("{scheme}{rest}"),
            parameters: parameters.map(|_| scheme.len() + location.len() + 1),
            hosts: hosts.to_owned(),
            database: database.to_owned(),
        })
    }

    /// The whole URL including secrets, with the parameters of `defaults` (names and values) that it does not set.
    pub(in super::super) fn with_defaults(&self, defaults: &[(&str, &str)]) -> String {
        let mut url = self.text.clone();
        for (name, value) in defaults.iter().filter(|(name, _)| !self.sets(name)) {
            let separator = match self.parameters {
                None if url.len() == self.text.len() => "?",
                _ if url.ends_with(['?', '&']) => "",
                _ => "&",
            };
            url.extend([separator, name, "=", value]);
        }
        url
    }

    fn sets(&self, name: &str) -> bool {
        self.parameters.is_some_and(|start| {
            self.text[start..]
                .split('&')
                .any(|parameter| parameter.split('=').next() == Some(name))
        })
    }
}

/// `name`, `name:port`, `[v6]:port`, the encoded path of a socket directory, or nothing.
fn is_host(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port),
        _ => (text, ""),
    };
    let bare = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match bare {
        Some(address) => address
            .chars()
            .all(|character| character.is_ascii_hexdigit() || ":.%".contains(character)),
        None => host
            .chars()
            .all(|character| character.is_alphanumeric() || ".-_%".contains(character)),
    };
    is_host && port.chars().all(|character| character.is_ascii_digit())
}

/// `name=value`, or nothing. A value with an `@` may be the rest of a password, before a host.
fn is_parameter(text: &str) -> bool {
    text.is_empty()
        || text.split_once('=').is_some_and(|(name, value)| {
            let named = |character: char| character.is_ascii_alphabetic() || character == '_';
            !name.is_empty() && name.chars().all(named) && !value.contains(['=', '@'])
        })
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PostgreSQL database")?;
        if !self.database.is_empty() {
            write!(f, " {}", self.database)?;
        }
        if !self.hosts.is_empty() {
            write!(f, " at {}", self.hosts)?;
        }
        Ok(())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shown_form_contains_the_database_and_no_secret() {
        for (rest, shown) in [
            (
                "ada:s3cret@db.example.org:5433/vitals",
                "PostgreSQL database vitals at db.example.org:5433",
            ),
            (
                "ada@localhost/vitals",
                "PostgreSQL database vitals at localhost",
            ),
            (
                "ada:s3cret@[2001:db8::1]:5432/vitals?sslmode=require",
                "PostgreSQL database vitals at [2001:db8::1]:5432",
            ),
            ("localhost", "PostgreSQL database at localhost"),
            ("", "PostgreSQL database"),
            (
                "/vitals?host=/run/postgresql&user=ada&password=s3cret",
                "PostgreSQL database vitals",
            ),
            (
                "ada:s3cret@a.example:1,b.example:2/vitals?target_session_attrs=read-write",
                "PostgreSQL database vitals at a.example:1,b.example:2",
            ),
            (
                "%2Frun%2Fpostgresql/vitals",
                "PostgreSQL database vitals at %2Frun%2Fpostgresql",
            ),
        ] {
            let url = PostgresUrl::parse(rest).unwrap();
            assert_eq!(url.to_string(), shown, "{rest}");
            assert_eq!(format!("{url:?}"), shown, "{rest}");
        }
    }

    #[test]
    fn a_secret_that_is_not_encoded_is_an_error_that_does_not_repeat_it() {
        for rest in [
            "ada:s3/cret@localhost/vitals",
            "ada:12/s3cret@localhost/vitals",
            "ada:s3@cret@localhost/vitals",
            "ada:s3?cret@localhost/vitals",
            "ada:12?s3=cret@localhost/vitals=1",
            "ada:12?s=3cret@localhost/vitals",
            "ada:s3\"cret@localhost/vitals",
            "ada:s3cret@localhost/vit\"als",
            "localhost/vitals?password=s3\"cret",
            "ada:s3 cret@localhost/vitals",
            "s3cret:s3cret/vitals",
            "[s3cret]/vitals",
            "localhost/vitals?s3cret",
            "localhost/vitals?=s3cret",
            "localhost/vitals/s3cret",
            "localhost/a:s3cret",
            "local\0host/s3cret",
        ] {
            let error = PostgresUrl::parse(rest).expect_err(rest);
            assert!(!error.contains("s3"), "{rest}: {error}");
        }
    }

    #[test]
    fn a_parameter_of_the_url_takes_precedence_over_a_default() {
        let defaults = [("connect_timeout", "3"), ("application_name", "x")];
        for (rest, whole) in [
            (
                "localhost/vitals",
                "postgres://localhost/vitals?connect_timeout=3&application_name=x",
            ),
            (
                "localhost/a&",
                "postgres://localhost/a&?connect_timeout=3&application_name=x",
            ),
            (
                "localhost?",
                "postgres://localhost?connect_timeout=3&application_name=x",
            ),
            (
                "localhost/vitals?connect_timeout=9",
                "postgres://localhost/vitals?connect_timeout=9&application_name=x",
            ),
            (
                "u:p@localhost/v?sslmode=require&application_name=mine",
                "postgres://u:p@localhost/v?sslmode=require&application_name=mine&connect_timeout=3",
            ),
            (
                "localhost/v?sslmode=require&",
                "postgres://localhost/v?sslmode=require&connect_timeout=3&application_name=x",
            ),
            (
                "localhost/v?connect_timeout=&application_name=",
                "postgres://localhost/v?connect_timeout=&application_name=",
            ),
        ] {
            let url = PostgresUrl::parse(rest).unwrap();
            assert_eq!(url.with_defaults(&defaults), whole, "{rest}");
        }
    }
}
