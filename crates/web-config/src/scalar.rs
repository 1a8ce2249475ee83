//! Plain scalars of YAML as go-yaml reads them, and the bytes of a file as text.
//!
//! The exporters read their configuration with go-yaml: YAML 1.1 with parts of 1.2.

/// The type of a scalar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ScalarKind {
    Null,
    Bool,
    Int,
    Float,
    Text,
}

/// Returns the text of a file in UTF-8, or in UTF-16 after a byte order mark; or what is wrong with it.
///
/// Editors of Windows write the mark, also before UTF-8. It is not part of the text.
pub(crate) fn decode(contents: &[u8]) -> Result<String, &'static str> {
    let utf_16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units = pairs.iter().map(|pair| unit(*pair));
        let text: Result<String, _> = char::decode_utf16(units).collect();
        text.ok().filter(|_| rest.is_empty())
    };
    let text = match contents {
        [0xff, 0xfe, rest @ ..] => utf_16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf_16(rest, u16::from_be_bytes),
        contents => str::from_utf8(contents).ok().map(str::to_owned),
    };
    let text = text.ok_or("must be UTF-8")?;
    let text = text.trim_start_matches('\u{feff}');
    // YAML 1.1, section 4.1.1.
    let is_printable = |c: char| matches!(c, '\t' | '\n' | '\r' | '\u{85}') || !c.is_control();
    if text.chars().all(is_printable) {
        Ok(text.to_owned())
    } else {
        Err("must not contain control characters")
    }
}

/// Returns the type of a plain scalar.
pub(crate) fn kind_of(text: &str) -> ScalarKind {
    if matches!(text, "" | "~" | "null" | "Null" | "NULL") {
        ScalarKind::Null
    } else if bool_of(text).is_some() {
        ScalarKind::Bool
    } else if int_of(text).is_some() {
        ScalarKind::Int
    } else if float_of(text).is_some() {
        ScalarKind::Float
    } else {
        ScalarKind::Text
    }
}

/// Returns a boolean in the words of YAML 1.1.
pub(crate) fn bool_of(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Some(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Some(false)
        }
        _ => None,
    }
}

/// Returns the whole part of a number; `None` if the scalar is not a number, or too large.
pub(crate) fn whole_of(text: &str, kind: ScalarKind) -> Option<i64> {
    match kind {
        ScalarKind::Int => int_of(text)?.try_into().ok(),
        ScalarKind::Float => {
            let number = float_of(text)?;
            // `i64::MAX` itself has no exact float; the next number has.
            let past = 2f64.powi(63);
            #[allow(clippy::cast_possible_truncation, reason = "the fraction is to be cut")]
            (-past..past).contains(&number).then_some(number as i64)
        }
        ScalarKind::Null | ScalarKind::Bool | ScalarKind::Text => None,
    }
}

/// Returns an integer as Go reads it (`strconv.ParseInt` with base 0): decimal, `0x1f`, `0o17`, `017`, `0b11`, each with
/// `_` between digits.
fn int_of(text: &str) -> Option<i128> {
    let (is_negative, digits) = unsigned(text);
    let digits = digits.replace('_', "");
    let lower = digits.to_ascii_lowercase();
    let (base, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, &lower[..]),
    };
    // `from_str_radix` accepts a second sign.
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_alphanumeric());
    let number = is_number.then(|| u64::from_str_radix(digits, base).ok())??;
    let number = i128::from(number);
    Some(if is_negative { -number } else { number })
}

fn float_of(text: &str) -> Option<f64> {
    let (is_negative, digits) = unsigned(text);
    let sign = if is_negative { -1.0 } else { 1.0 };
    if matches!(digits, ".inf" | ".Inf" | ".INF") {
        return Some(sign * f64::INFINITY);
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(f64::NAN);
    }
    let plain = digits.replace('_', "");
    let starts_with_digit = plain
        .trim_start_matches('.')
        .starts_with(|it: char| it.is_ascii_digit());
    let has_only_number_bytes = plain
        .bytes()
        .all(|it| it.is_ascii_digit() || matches!(it, b'.' | b'e' | b'E' | b'+' | b'-'));
    if !starts_with_digit || !has_only_number_bytes {
        return None;
    }
    plain.parse::<f64>().ok().map(|number| sign * number)
}

fn unsigned(text: &str) -> (bool, &str) {
    match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    }
}

/// The units of Go's durations, in nanoseconds. A unit comes before its own prefixes.
const GO_UNITS: [(&str, f64); 8] = [
    ("ns", 1.0),
    ("us", 1e3),
    ("µs", 1e3),
    ("μs", 1e3),
    ("ms", 1e6),
    ("s", 1e9),
    ("m", 6e10),
    ("h", 3.6e12),
];

/// Returns the nanoseconds of a duration as Go writes it (`time.ParseDuration`): `1h2m3.5s`, `-10us`, `0`.
pub(crate) fn go_duration(text: &str) -> Option<i64> {
    let (is_negative, mut rest) = unsigned(text);
    if rest == "0" {
        return Some(0);
    }
    let mut total = 0_f64;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest
            .find(|it: char| !it.is_ascii_digit() && it != '.')
            .unwrap_or(rest.len());
        let (number, behind) = rest.split_at(end);
        let number: f64 = number.parse().ok()?;
        let (unit, nanoseconds) = GO_UNITS.iter().find(|(unit, _)| behind.starts_with(unit))?;
        total += number * nanoseconds;
        rest = &behind[unit.len()..];
    }
    if total >= 2f64.powi(63) {
        return None;
    }
    #[allow(
        clippy::cast_possible_truncation,
        reason = "in bounds, and the fraction is to be cut"
    )]
    let total = total as i64;
    Some(if is_negative { -total } else { total })
}
