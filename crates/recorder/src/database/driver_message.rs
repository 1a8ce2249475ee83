//! Reads the messages of database drivers: what may be logged of them, and what they say about the server.

/// Returns a driver's message without the text in double quotes.
///
/// libpq quotes the part of a URL that it could not parse, which may be part of a password.
pub fn without_quotations(message: &str) -> String {
    let mut kept = String::with_capacity(message.len());
    for (index, part) in message.trim_end().split('"').enumerate() {
        if index % 2 == 0 {
            kept.push_str(part);
        } else {
            kept.push_str("\"…\"");
        }
    }
    kept
}

/// Whether a server rejected a connection because it has as many as it accepts. Such a server is up.
///
/// Knows the messages of PostgreSQL, `PgBouncer`, MySQL and MariaDB, in English.
pub(super) fn is_connection_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "too many clients",
        "too many connections",
        "remaining connection slots",
        "no more connections allowed",
        "max_user_connections",
    ]
    .iter()
    .any(|limit| message.contains(limit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_url_is_kept() {
        for (message, kept) in [
            ("connection refused", "connection refused"),
            (
                "could not translate host name \"pa@ss\" to address: no\n",
                "could not translate host name \"…\" to address: no",
            ),
            (
                "invalid port number: \"secret\"",
                "invalid port number: \"…\"",
            ),
            ("unterminated \"secret", "unterminated \"…\""),
            ("\"a\" and \"b\"", "\"…\" and \"…\""),
        ] {
            assert_eq!(without_quotations(message), kept);
        }
    }
}
