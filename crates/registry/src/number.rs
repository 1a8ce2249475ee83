//! Numbers in the text formats: integers, floats with the fewest digits that are exact, and float labels (`le`,
//! `quantile`) in Go's notation, which OpenMetrics made canonical.

/// Integral floats below this magnitude are written as integers, without point and exponent.
const PLAIN_INTEGER_LIMIT: f64 = 1e16;

/// A short text that is appended as a block of fixed size, and then cut to its length. The copy needs no call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    bytes: [u8; Block::SIZE],
    length: usize,
}

impl Block {
    const SIZE: usize = 32;

    /// The block of `text`, which is cut to 32 bytes.
    pub(crate) fn new(text: &str) -> Self {
        let length = text.len().min(Self::SIZE);
        let mut bytes = [0; Self::SIZE];
        bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
        Self { bytes, length }
    }

    /// Appends the bytes.
    #[inline]
    pub(crate) fn push(&self, out: &mut Vec<u8>) {
        let end = out.len() + self.length;
        out.extend_from_slice(&self.bytes);
        out.truncate(end);
    }
}

/// Appends an unsigned integer.
#[inline]
pub(crate) fn push_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a signed integer.
#[inline]
pub(crate) fn push_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a float: the shortest digits that read back as the same number, `+Inf`, `-Inf` or `NaN`.
#[inline]
pub(crate) fn push_f64(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        out.extend_from_slice(b"NaN");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"+Inf" } else { b"-Inf" });
    } else if value.trunc().to_bits() == value.to_bits() && value.abs() < PLAIN_INTEGER_LIMIT {
        // The cast is exact: the value is integral and fits. A negative zero is written as 0.
        #[expect(clippy::cast_possible_truncation)]
        push_i64(out, value as i64);
    } else {
        out.extend_from_slice(ryu::Buffer::new().format_finite(value).as_bytes());
    }
}

/// The text format that a float label is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LabelStyle {
    /// Text 0.0.4, as Go's `strconv.FormatFloat(v, 'g', -1, 64)`: `1`, `0.5`, `1e+06`.
    Go,
    /// OpenMetrics' canonical numbers: the same, but integers keep a fraction: `1.0`.
    OpenMetrics,
}

/// A float as the value of an `le` or `quantile` label.
pub(crate) fn label_float(value: f64, style: LabelStyle) -> String {
    if !value.is_finite() {
        let mut out = Vec::new();
        push_f64(&mut out, value);
        return String::from_utf8_lossy(&out).into_owned();
    }
    let mut text = go_float(value);
    if style == LabelStyle::OpenMetrics && !text.contains(['.', 'e']) {
        text.push_str(".0");
    }
    text
}

/// Go's `%g` with the fewest exact digits: with an exponent below 1e-4 and from 1e6 on.
fn go_float(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value.abs());
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let leading = all.len() - all.trim_start_matches('0').len();
    let digits = all.trim_matches('0');
    // There are at most 17 digits, and at most 3 in the exponent.
    let signed = |length: usize| i32::try_from(length).unwrap_or(0);
    let point = signed(whole.len()) - signed(leading) + exponent.parse::<i32>().unwrap_or(0);
    let power = point - 1;

    let mut text = String::new();
    if value < 0.0 {
        text.push('-');
    }
    if !(-4..6).contains(&power) {
        text.push_str(&digits[..1]);
        if digits.len() > 1 {
            text.push('.');
            text.push_str(&digits[1..]);
        }
        let sign = if power < 0 { "-" } else { "+" };
        text.push_str(&["e", sign, &format!("{:02}", power.abs())].concat());
    } else if let Ok(point @ 1..) = usize::try_from(point) {
        let whole = point.min(digits.len());
        text.push_str(&digits[..whole]);
        text.extend(std::iter::repeat_n('0', point - whole));
        if digits.len() > point {
            text.push('.');
            text.push_str(&digits[point..]);
        }
    } else {
        text.push_str("0.");
        text.extend(std::iter::repeat_n('0', point.unsigned_abs() as usize));
        text.push_str(digits);
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        push_f64(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn float_labels_follow_go_and_openmetrics() {
        for (value, go, openmetrics) in [
            (0.0, "0", "0.0"),
            (1.0, "1", "1.0"),
            (0.5, "0.5", "0.5"),
            (0.0005, "0.0005", "0.0005"),
            (0.00001, "1e-05", "1e-05"),
            (0.000_012_5, "1.25e-05", "1.25e-05"),
            (10.0, "10", "10.0"),
            (100_000.0, "100000", "100000.0"),
            (1_000_000.0, "1e+06", "1e+06"),
            (1_048_576.0, "1.048576e+06", "1.048576e+06"),
            (123_456.5, "123456.5", "123456.5"),
            (1e100, "1e+100", "1e+100"),
            (-2.5, "-2.5", "-2.5"),
            (f64::INFINITY, "+Inf", "+Inf"),
        ] {
            assert_eq!(label_float(value, LabelStyle::Go), go);
            assert_eq!(label_float(value, LabelStyle::OpenMetrics), openmetrics);
        }
    }

    #[test]
    fn integers_of_every_length_are_written_in_full() {
        let mut value = 0_u64;
        while value < u64::MAX / 11 {
            for value in [value, value + 1, value.saturating_sub(1)] {
                let mut out = Vec::new();
                push_u64(&mut out, value);
                assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
            }
            value = value * 10 / 9 + 1;
        }
    }

    #[test]
    fn a_block_is_appended_without_its_padding() {
        let mut out = b"a".to_vec();
        Block::new("le=\"+Inf\"} ").push(&mut out);
        Block::new("").push(&mut out);
        assert_eq!(out, b"ale=\"+Inf\"} ");
    }

    #[test]
    fn the_longest_float_label_fits_a_block() {
        let label = label_float(-f64::MIN_POSITIVE.next_up(), LabelStyle::Go);
        assert!(format!("le=\"{label}\"}} ").len() <= Block::SIZE, "{label}");
    }

    #[test]
    fn integral_values_have_no_point_and_no_exponent() {
        for (value, expected) in [
            (0.0, "0"),
            (3.0, "3"),
            (-7.0, "-7"),
            (1e15, "1000000000000000"),
            (1e16, "1e16"),
            (0.1, "0.1"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    proptest! {
        #[test]
        fn every_float_reads_back_as_itself(value in any::<f64>()) {
            let read = text(value).parse::<f64>().unwrap();
            // Zero has lost its sign.
            let expected = if value == 0.0 { 0.0 } else { value };
            prop_assert!(read.to_bits() == expected.to_bits() || read.is_nan() && value.is_nan());
        }

        #[test]
        fn every_float_label_reads_back_as_itself(value in proptest::num::f64::NORMAL) {
            for style in [LabelStyle::Go, LabelStyle::OpenMetrics] {
                let read = label_float(value, style).parse::<f64>().unwrap();
                prop_assert_eq!(read.to_bits(), value.to_bits());
            }
        }
    }
}
