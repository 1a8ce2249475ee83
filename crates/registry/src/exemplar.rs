//! Exemplars: the latest observation of each classic bucket with its span, and a bounded set for native histograms.
//!
//! Storing an exemplar never blocks: while another thread uses the store, a new exemplar is dropped.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The most exemplars that a native histogram keeps, as `client_golang` has it by default.
const NATIVE_LIMIT: usize = 10;

/// An exemplar of a native histogram that is older than this is replaced first, as in `client_golang`.
const NATIVE_MAX_AGE: Duration = Duration::from_secs(300);

/// The span that an observation was made in, as in W3C Trace Context. Expositions write it in lower hex.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Registry, SpanContext};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// let waits = registry.histogram(Descriptor::new("wait", "Waits.", []), &[1.0]).get();
/// let span = SpanContext { trace_id: 0xabc, span_id: 0x12 };
/// waits.observe_with(0.5, Some(&span));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// The trace's id, 32 hex digits when written.
    pub trace_id: u128,
    /// The span's id, 16 hex digits when written.
    pub span_id: u64,
}

impl SpanContext {
    /// The trace's id as 32 lower hex digits.
    pub(crate) fn trace_hex(self) -> [u8; 32] {
        hex(self.trace_id)
    }

    /// The span's id as 16 lower hex digits.
    pub(crate) fn span_hex(self) -> [u8; 16] {
        hex(u128::from(self.span_id))
    }
}

/// The lowest `N` hex digits of `value`.
fn hex<const N: usize>(mut value: u128) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(value & 15) as usize];
        value >>= 4;
    }
    digits
}

/// One observation with the span it was made in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Exemplar {
    /// The observed value.
    pub(crate) value: f64,
    /// The time of the observation since the Unix epoch.
    pub(crate) at: Duration,
    /// The span.
    pub(crate) span: SpanContext,
}

/// The exemplars of one histogram.
#[derive(Debug)]
pub(crate) struct Exemplars(Mutex<ExemplarStore>);

#[derive(Debug)]
struct ExemplarStore {
    /// The latest of each classic bucket.
    classic: Box<[Option<Exemplar>]>,
    /// Sorted by value, and chosen to be far apart.
    native: Vec<Exemplar>,
}

impl Exemplars {
    /// A store without exemplars, for `buckets` classic buckets.
    pub(crate) fn new(buckets: usize) -> Self {
        Self(Mutex::new(ExemplarStore {
            classic: vec![None; buckets].into_boxed_slice(),
            native: Vec::new(),
        }))
    }

    /// Stores `exemplar` for the classic bucket `bucket`, unless another thread uses the store.
    pub(crate) fn offer(&self, bucket: usize, exemplar: Exemplar) {
        if let Ok(mut store) = self.0.try_lock() {
            store.classic[bucket] = Some(exemplar);
            keep_spread(&mut store.native, exemplar);
        }
    }

    /// Replaces `out` with the exemplars of the classic buckets.
    pub(crate) fn read_classic(&self, out: &mut Vec<Option<Exemplar>>) {
        out.clear();
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.extend_from_slice(&store.classic);
    }

    /// Replaces `out` with the exemplars of the native buckets, in the order of their times.
    pub(crate) fn read_native(&self, out: &mut Vec<Exemplar>) {
        out.clear();
        let store = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        out.extend_from_slice(&store.native);
        drop(store);
        out.sort_by_key(|exemplar| exemplar.at);
    }
}

/// Inserts `new` into the sorted set. Beyond the limit, removes an aged one, or else the older one of the closest pair.
fn keep_spread(set: &mut Vec<Exemplar>, new: Exemplar) {
    let at = set.partition_point(|held| held.value < new.value);
    set.insert(at, new);
    if set.len() <= NATIVE_LIMIT {
        return;
    }
    let aged = (0..set.len())
        // Those of a clock that was ahead are as useless as old ones.
        .filter(|index| new.at.abs_diff(set[*index].at) > NATIVE_MAX_AGE)
        .min_by_key(|index| set[*index].at);
    let gone = aged.unwrap_or_else(|| {
        // Distances are on a logarithmic scale. Zero counts as the smallest normal number.
        let scale = |value: f64| value.max(f64::MIN_POSITIVE).log2();
        let left = (0..set.len() - 1)
            .min_by(|a, b| {
                let gap = |i: usize| scale(set[i + 1].value) - scale(set[i].value);
                gap(*a).total_cmp(&gap(*b))
            })
            .unwrap_or(0);
        if set[left].at <= set[left + 1].at {
            left
        } else {
            left + 1
        }
    });
    set.remove(gone);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exemplar(value: f64, second: u64) -> Exemplar {
        Exemplar {
            value,
            at: Duration::from_secs(second),
            span: SpanContext {
                trace_id: 1,
                span_id: 2,
            },
        }
    }

    #[test]
    fn ids_are_written_in_full_width() {
        let span = SpanContext {
            trace_id: 0xabc,
            span_id: u64::MAX,
        };
        assert_eq!(&span.trace_hex(), b"00000000000000000000000000000abc");
        assert_eq!(&span.span_hex(), b"ffffffffffffffff");
    }

    #[test]
    fn a_full_set_stays_bounded_sorted_and_spread() {
        let mut set = Vec::new();
        for second in 0..100_u32 {
            keep_spread(&mut set, exemplar(0.010 + f64::from(second) * 1e-6, 0));
        }
        for power in 0..9 {
            keep_spread(&mut set, exemplar(10_f64.powi(power - 4), 1));
        }
        assert_eq!(set.len(), NATIVE_LIMIT);
        assert!(set.is_sorted_by(|a, b| a.value <= b.value));
        assert!(set.iter().filter(|held| held.at.as_secs() == 0).count() <= 1);
    }

    #[test]
    fn an_aged_exemplar_gives_way_first() {
        let mut set = Vec::new();
        for power in 0..10 {
            keep_spread(
                &mut set,
                exemplar(2_f64.powi(power), u64::from(power != 3) * 400),
            );
        }
        keep_spread(&mut set, exemplar(2.0, 401));
        assert!(set.iter().all(|held| held.at.as_secs() > 0));
    }

    #[test]
    fn exemplars_of_a_clock_that_was_ahead_give_way_first() {
        let mut set = Vec::new();
        for power in 0..10 {
            keep_spread(&mut set, exemplar(2_f64.powi(power), 3_600));
        }
        for power in 0..10 {
            keep_spread(&mut set, exemplar(2_f64.powi(power), 60));
        }
        assert!(set.iter().all(|held| held.at.as_secs() == 60), "{set:?}");
    }

    #[test]
    fn a_store_in_use_drops_the_exemplar() {
        let store = Exemplars::new(1);
        let held = store.0.lock().unwrap();
        store.offer(0, exemplar(1.0, 1));
        drop(held);
        let mut classic = Vec::new();
        store.read_classic(&mut classic);
        assert_eq!(classic, [None]);
    }
}
