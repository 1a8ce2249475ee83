//! The JSON of an item.
//!
//! A page of the list has up to a thousand items. Written by serde, chrono and their general formats, they would take as long as
//! reading them from the database. Here the names of members are constant, a text without escapes is copied, and a time has one
//! fixed form. Everything else falls back to serde and chrono.

use chrono::{Datelike as _, NaiveDateTime, SecondsFormat, Timelike as _};

use crate::store::Item;

/// The bytes of an item's JSON beside its texts: names of members, id and time.
pub(super) const AROUND_ITEM: usize = 128;

/// The item as JSON.
pub(super) fn item_json(item: &Item) -> Vec<u8> {
    let mut json = Vec::with_capacity(AROUND_ITEM);
    write_item(item, &mut json);
    json
}

/// Appends the item as JSON.
pub(super) fn write_item(item: &Item, to: &mut Vec<u8>) {
    to.extend_from_slice(b"{\"id\":");
    // Writing numbers and texts into memory cannot fail, here and below.
    let _written = serde_json::to_writer(&mut *to, &item.id);
    to.extend_from_slice(b",\"name\":");
    write_text(&item.name, to);
    to.extend_from_slice(b",\"email\":");
    write_text(&item.email, to);
    to.extend_from_slice(b",\"message\":");
    match &item.message {
        Some(message) => write_text(message, to),
        None => to.extend_from_slice(b"null"),
    }
    to.extend_from_slice(b",\"created_at\":\"");
    write_time(item.created_at, to);
    to.extend_from_slice(b"\"}");
}

/// Appends a text in quotes.
fn write_text(text: &str, to: &mut Vec<u8>) {
    if needs_escapes(text.as_bytes()) {
        let _written = serde_json::to_writer(to, text);
    } else {
        to.push(b'"');
        to.extend_from_slice(text.as_bytes());
        to.push(b'"');
    }
}

/// Whether JSON escapes a byte of this text (RFC 8259, section 7). Looks at all bytes, without a branch for each.
fn needs_escapes(text: &[u8]) -> bool {
    let found = text.iter().fold(0, |found, byte| {
        let is_control = u8::from(*byte < b' ');
        found | is_control | u8::from(*byte == b'"') | u8::from(*byte == b'\\')
    });
    found != 0
}

/// Appends a time with six decimals and `Z`: `2026-01-31T12:00:00.000000Z`.
fn write_time(time: NaiveDateTime, to: &mut Vec<u8>) {
    let year = u32::try_from(time.year()).ok().filter(|year| *year <= 9999);
    let microseconds = time.nanosecond() / 1000;
    // A leap second has a million microseconds or more.
    let Some(year) = year.filter(|_| microseconds < 1_000_000) else {
        let text = time.and_utc().to_rfc3339_opts(SecondsFormat::Micros, true);
        return to.extend_from_slice(text.as_bytes());
    };
    let [y1, y2] = two_digits(year / 100);
    let [y3, y4] = two_digits(year % 100);
    let [m1, m2] = two_digits(time.month());
    let [d1, d2] = two_digits(time.day());
    let [h1, h2] = two_digits(time.hour());
    let [min1, min2] = two_digits(time.minute());
    let [s1, s2] = two_digits(time.second());
    let [f1, f2] = two_digits(microseconds / 10_000);
    let [f3, f4] = two_digits(microseconds / 100 % 100);
    let [f5, f6] = two_digits(microseconds % 100);
    to.extend_from_slice(&[
        y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', min1, min2, b':', s1, s2,
        b'.', f1, f2, f3, f4, f5, f6, b'Z',
    ]);
}

/// The digits of a number below 100.
fn two_digits(number: u32) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    /// An item as serde and chrono write it.
    #[derive(Serialize)]
    struct Reference<'a> {
        id: i64,
        name: &'a str,
        email: &'a str,
        message: Option<&'a str>,
        created_at: String,
    }

    fn reference(item: &Item) -> String {
        let created_at = item.created_at.and_utc();
        serde_json::to_string(&Reference {
            id: item.id,
            name: &item.name,
            email: &item.email,
            message: item.message.as_deref(),
            created_at: created_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        })
        .unwrap()
    }

    fn written(item: &Item) -> String {
        String::from_utf8(item_json(item)).unwrap()
    }

    #[test]
    fn an_item_has_its_time_in_utc_with_six_decimals() {
        let item = Item {
            id: 7,
            name: "Ada".to_owned(),
            email: "ada@example.com".to_owned(),
            message: None,
            created_at: "2026-01-01T12:00:00".parse().unwrap(),
        };
        assert_eq!(
            written(&item),
            r#"{"id":7,"name":"Ada","email":"ada@example.com","message":null,"created_at":"2026-01-01T12:00:00.000000Z"}"#
        );
    }

    #[test]
    fn each_byte_is_escaped_as_serde_does_it() {
        for character in (0..=0x17f).filter_map(char::from_u32) {
            for around in ["", "12345678901234567"] {
                let text = format!("{around}{character}{around}");
                let mut json = Vec::new();
                write_text(&text, &mut json);
                assert_eq!(json, serde_json::to_vec(&text).unwrap(), "{character:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn an_item_is_written_as_serde_and_chrono_write_it(
            id: i64,
            name: String,
            email in "[ -~]{0,40}",
            message: Option<String>,
            seconds in -70_000_000_000_i64..260_000_000_000,
            microseconds in 0_u32..2_000_000,
        ) {
            let time = chrono::DateTime::from_timestamp(seconds, 0).unwrap().naive_utc();
            let leap = if time.second() == 59 { microseconds } else { microseconds % 1_000_000 };
            let created_at = time.with_nanosecond(leap * 1000).unwrap();
            let item = Item { id, name, email, message, created_at };
            prop_assert_eq!(written(&item), reference(&item));
        }
    }
}
