//! Points in time: the clock of a registry, and how a time is written.
//!
//! The registry has no clock of its own. The owner supplies a function, which is called for each new series and each
//! exemplar.

use std::time::Duration;

use super::number;

/// The time since the Unix epoch, supplied by the owner of a registry.
///
/// ```
/// use std::time::{SystemTime, UNIX_EPOCH};
/// use vitals_registry::{Clock, Registry};
///
/// let clock: Clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
/// let registry = Registry::builder(clock);
/// ```
pub type Clock = fn() -> Duration;

/// Appends `at` as decimal seconds, exact to the nanosecond and without trailing zeros.
pub(crate) fn push_seconds(out: &mut Vec<u8>, at: Duration) {
    number::push_u64(out, at.as_secs());
    let mut nanos = at.subsec_nanos();
    if nanos == 0 {
        return;
    }
    let mut digits = [b'0'; 9];
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + u8::try_from(nanos % 10).unwrap_or(0);
        nanos /= 10;
    }
    let length = digits
        .iter()
        .rposition(|digit| *digit != b'0')
        .map_or(0, |last| last + 1);
    out.push(b'.');
    out.extend_from_slice(&digits[..length]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_seconds_without_trailing_zeros() {
        for (at, text) in [
            (Duration::from_secs(12), "12"),
            (Duration::from_millis(12_500), "12.5"),
            (Duration::new(1, 1), "1.000000001"),
            (Duration::new(0, 20), "0.00000002"),
        ] {
            let mut out = Vec::new();
            push_seconds(&mut out, at);
            assert_eq!(out, text.as_bytes());
        }
    }
}
