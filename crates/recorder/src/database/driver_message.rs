//! Reads the messages of database drivers: what may be logged of them, and what they say about the server.

/// Returns a driver's message without the text in double quotes.
///
/// libpq quotes the part of a URL that it could not parse, which may be part of a password. If the number of quotes is odd,
/// that part contains quotes of its own, and nothing after the first quote is kept.
pub fn without_quotations(message: &str) -> String {
    let message = message.trim_end();
    let mut parts = message.split('"');
    let mut kept = parts.next().unwrap_or_default().to_owned();
    let has_pairs = message.matches('"').count().is_multiple_of(2);
    while parts.next().is_some() {
        kept.push_str("\"…\"");
        let Some(between) = parts.next().filter(|_| has_pairs) else {
            break;
        };
        kept.push_str(between);
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
            (
                "invalid percent-encoded token: \"pa\"secret%zz\"",
                "invalid percent-encoded token: \"…\"",
            ),
            (
                "connection to server at \"db\", port 5432 failed: FATAL: no role \"ada\"",
                "connection to server at \"…\", port 5432 failed: FATAL: no role \"…\"",
            ),
            ("\"a\" and \"b\"", "\"…\" and \"…\""),
        ] {
            assert_eq!(without_quotations(message), kept);
        }
    }
}
