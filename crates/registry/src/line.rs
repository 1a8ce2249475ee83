//! Sample lines, as text 0.0.4 and OpenMetrics both write them.

use super::exposition::Number;
use super::number::{push_f64, push_i64, push_u64};

/// Appends everything of a sample line before its value: `name_suffix{labels} `.
pub(crate) fn push_name(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    if labels.is_empty() {
        out.push(b' ');
    } else {
        out.push(b'{');
        out.extend_from_slice(labels.as_bytes());
        out.extend_from_slice(b"} ");
    }
}

/// Appends everything of a sample line that has one more label to come: `name_suffix{labels,`.
pub(crate) fn push_open(out: &mut Vec<u8>, name: &str, suffix: &str, labels: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(suffix.as_bytes());
    out.push(b'{');
    if !labels.is_empty() {
        out.extend_from_slice(labels.as_bytes());
        out.push(b',');
    }
}

/// Appends a number.
pub(crate) fn push_number(out: &mut Vec<u8>, number: Number) {
    match number {
        Number::Unsigned(value) => push_u64(out, value),
        Number::Signed(value) => push_i64(out, value),
        Number::Float(value) => push_f64(out, value),
    }
}
