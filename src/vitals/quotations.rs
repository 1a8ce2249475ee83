//! What of a message may be told: all but what it quotes.

/// A message of a driver without what stands in double quotes. There libpq repeats what it could not understand of the
/// URL, and that may be part of a password.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_part_of_the_url_reaches_the_log() {
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
