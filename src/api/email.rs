//! The validation of email addresses.

/// Most bytes before the `@` (RFC 5321, section 4.5.3.1.1).
const LOCAL_LENGTH: usize = 64;

/// Most bytes of one label of a domain (RFC 1035, section 2.3.4).
const LABEL_LENGTH: usize = 63;

/// Whether `text` is an email address of a host on the internet: a dot-string, `@`, and a domain (RFC 5321, section 4.1.2) in
/// ASCII.
///
/// - Before the `@`: 1 to 64 letters, digits or any of ``!#$%&'*+-/=?^_`{|}~``, in parts joined by single dots.
/// - After it: at least two labels joined by dots. Each has 1 to 63 letters, digits or hyphens, and no hyphen at either end.
///   The last one begins with a letter.
///
/// The RFC also allows quoted local parts, comments, address literals and hosts without a dot. In practice these are
/// mistakes, so they are invalid here. An international domain must be in its `xn--` form. `openapi.yaml` has the same rule
/// as a regular expression, and a test compares both.
pub(super) fn is_valid(text: &str) -> bool {
    let Some((local, domain)) = text.split_once('@') else {
        return false;
    };
    let Some((_, last)) = domain.rsplit_once('.') else {
        return false;
    };
    local.len() <= LOCAL_LENGTH
        && local.split('.').all(is_atom)
        && domain.split('.').all(is_label)
        && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

fn is_atom(part: &str) -> bool {
    !part.is_empty()
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&byte))
}

fn is_label(label: &str) -> bool {
    (1..=LABEL_LENGTH).contains(&label.len())
        && label
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_internet_hosts_are_valid() {
        for text in [
            "ada@example.com",
            "ada.lovelace+tag@mail.example.co.uk",
            "!#$%&'*+-/=?^_`{|}~@example.com",
            "0@A.com",
            "a@b.c",
            "x@1.2.example",
            "x@xn--bcher-kva.example",
            &format!("{}@example.com", "a".repeat(64)),
            &format!("a@{}.com", "b".repeat(63)),
        ] {
            assert!(is_valid(text), "{text}");
        }
    }

    #[test]
    fn other_texts_are_invalid() {
        for (text, why) in [
            ("", "empty"),
            ("ada", "no @"),
            ("ada@", "no domain"),
            ("@example.com", "no local part"),
            ("ada@localhost", "no dot"),
            ("ada@example", "no dot"),
            ("ada@@example.com", "two @"),
            ("ada@b@example.com", "two @"),
            (".ada@example.com", "a leading dot"),
            ("ada.@example.com", "a trailing dot"),
            ("a..da@example.com", "two dots"),
            ("a da@example.com", "a space"),
            (" ada@example.com", "a leading space"),
            ("ada@example.com ", "a trailing space"),
            ("ada@example.com\n", "a line break"),
            ("ada@.example.com", "an empty first label"),
            ("ada@example..com", "an empty label"),
            ("ada@example.com.", "an empty last label"),
            ("ada@-example.com", "a leading hyphen"),
            ("ada@example-.com", "a trailing hyphen"),
            ("ada@exa_mple.com", "an underscore in a label"),
            ("ada@127.0.0.1", "an address of four numbers"),
            ("ada@[127.0.0.1]", "an address literal"),
            ("\"ada\"@example.com", "a quoted name"),
            ("ada(comment)@example.com", "a comment"),
            ("Ada <ada@example.com>", "a display name"),
            ("mailto:ada@example.com", "a URI"),
            ("adä@example.com", "not ASCII"),
            ("ada@bücher.example", "not ASCII"),
        ] {
            assert!(!is_valid(text), "{text}: {why}");
        }
        assert!(!is_valid(&format!("{}@example.com", "a".repeat(65))));
        assert!(!is_valid(&format!("a@{}.com", "b".repeat(64))));
    }
}
