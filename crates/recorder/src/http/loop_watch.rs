//! Stalls of event loops: single polls of a request that last longer than a threshold.
//!
//! The watchdog looks at the requests in flight twenty times a second, while there are any. It needs nothing from the stuck thread, so it names a
//! stall while it lasts. The worker counts the stall when it is over, and reports it if the watchdog has missed it. Time for
//! which the worker waited for a processor is no part of a stall. The stack of the stuck thread is not read: that is not
//! possible without unsafe code.

use std::{
    sync::{
        Weak,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{
    clock::{self, Moment},
    http::recorder::RequestRecorder,
    in_flight::InFlightRequest,
    log_limit::LogLimit,
    watchdog::{self, Sight},
};

/// The default threshold.
pub(super) const STALL_THRESHOLD: Duration = Duration::from_millis(100);

/// Why a report of a stall contains no stack.
pub const NO_STACK: &str = "the stack of another thread cannot be read without unsafe code, which the recorder does not contain";

/// What is known of stalls, and the limit of their log lines.
#[derive(Debug)]
pub(super) struct LoopWatch {
    threshold: Duration,
    threshold_nanoseconds: u64,
    is_started: AtomicBool,
    /// The moment of the last tick, in nanoseconds: a clock that is coarse, and costs one load.
    tick: AtomicU64,
    lines: LogLimit,
}

/// A stall to report.
#[derive(Debug)]
pub(super) struct Stall<'a> {
    pub(super) endpoint: Option<&'a str>,
    pub(super) method: &'static str,
    pub(super) trace_id: Option<u128>,
    pub(super) worker: Option<usize>,
    pub(super) seconds: f64,
    /// Whether it still lasts.
    pub(super) lasts: bool,
}

impl LoopWatch {
    /// Watches for polls of this length; for none if it is zero.
    pub(super) fn new(threshold: Duration) -> Self {
        let threshold = if threshold.is_zero() {
            Duration::MAX
        } else {
            threshold
        };
        Self {
            threshold,
            threshold_nanoseconds: u64::try_from(threshold.as_nanos()).unwrap_or(u64::MAX),
            is_started: AtomicBool::new(false),
            tick: AtomicU64::new(clock::now().nanoseconds()),
            lines: LogLimit::new(),
        }
    }

    /// How long a poll may last.
    pub(super) fn stall_threshold(&self) -> Duration {
        self.threshold
    }

    /// How long a poll may last, in nanoseconds.
    #[inline]
    pub(super) fn threshold(&self) -> u64 {
        self.threshold_nanoseconds
    }

    /// The last tick.
    #[inline]
    pub(super) fn tick(&self) -> Moment {
        Moment::from_nanoseconds(self.tick.load(Relaxed))
    }

    /// Lets the watchdog look, from the first call until the recorder is dropped.
    pub(super) fn start(&self, recorder: Weak<RequestRecorder>) {
        if self.is_started.swap(true, Relaxed) {
            return;
        }
        watchdog::watch(move || {
            let recorder = recorder.upgrade();
            recorder.map_or(Sight::Over, |recorder| recorder.loop_watch.look(&recorder))
        });
    }

    fn look(&self, recorder: &RequestRecorder) -> Sight {
        self.tick.store(clock::now().nanoseconds(), Relaxed);
        recorder.in_flight.sample_starvation();
        if recorder.in_flight.is_empty() {
            return Sight::Quiet;
        }
        for request in recorder.in_flight.new_stalls(self.threshold) {
            self.report(&Stall::of(&request));
        }
        Sight::Busy
    }

    /// Writes the log line of a stall.
    #[cold]
    pub(super) fn report(&self, stall: &Stall<'_>) {
        let Some(line) = self.lines.line() else {
            return;
        };
        let &Stall {
            endpoint,
            method,
            worker,
            seconds,
            lasts,
            ..
        } = stall;
        let trace_id = stall.trace_id.map(|id| format!("{id:032x}"));
        let left_out = line.left_out;
        let state = if lasts { "keeps" } else { "kept" };
        tracing::warn!(
            endpoint = endpoint.unwrap_or("not known yet"),
            method,
            trace_id,
            worker,
            seconds,
            left_out,
            stack = NO_STACK,
            "a request {state} the event loop of its worker busy: move blocking work to actix_vitals::block"
        );
    }
}

impl<'a> Stall<'a> {
    fn of(request: &'a InFlightRequest) -> Self {
        let lasted = request.on_event_loop.unwrap_or_default();
        Self {
            endpoint: request.endpoint.as_deref(),
            method: request.method,
            trace_id: request.trace_id,
            worker: request.worker,
            seconds: lasted.as_secs_f64(),
            lasts: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_of_zero_turns_stalls_off() {
        for (threshold, longest) in [
            (Duration::from_millis(50), 50_000_000),
            (Duration::MAX, u64::MAX),
            (Duration::ZERO, u64::MAX),
        ] {
            let watch = LoopWatch::new(threshold);
            assert_eq!(watch.threshold(), longest, "{threshold:?}");
            assert!(!watch.stall_threshold().is_zero());
        }
    }
}
