//! The thread that takes a tick each second, and the times of ticks. While nothing happens and no page is open, a tick is
//! longer, so that an idle process hardly uses a processor.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{details::Details, hub::Hub, sampler::Sampler};

/// How often the details are read while a page is open, in ticks.
const DETAILS_EVERY: u64 = 3;

/// How much longer than a second a tick is while nothing happens and no page is open.
const MORE_AT_REST: Duration = Duration::from_secs(4);

/// The state of the sampler's thread.
pub(super) struct Sampling {
    sampler: Sampler,
    hub: Arc<Hub>,
    details: Details,
    timeline: Timeline,
    /// The end of the last tick, since the start.
    sampled: Duration,
    /// The time of the last tick.
    time: u64,
    /// Whether nothing happened in the last tick.
    is_quiet: bool,
}

/// The times of ticks: the wall clock at the start plus the monotonic clock, so that setting the wall clock moves no tick. The
/// page adds the [offset](Self::offset) to the times that it shows.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    origin: Instant,
    /// The wall clock at the start, since the Unix epoch.
    started: Duration,
}

impl Timeline {
    fn starting(started: Duration) -> Self {
        Self {
            origin: Instant::now(),
            started,
        }
    }

    /// The full second that is nearest to `elapsed` after the start.
    fn time(self, elapsed: Duration) -> u64 {
        (self.started + elapsed + Duration::from_millis(500)).as_secs()
    }

    /// The time until the next full second after `last`, the time of the last tick.
    fn until_next_second(self, last: u64, elapsed: Duration) -> Duration {
        let now = self.started + elapsed;
        // A tick that is late, or whose timer fired a little early, may have the time of the next full second.
        let next = now.as_secs().max(last) + 1;
        Duration::from_secs(next).saturating_sub(now)
    }

    /// How many seconds the wall clock is ahead of the ticks. Negative if it is behind.
    fn offset(self, elapsed: Duration, wall: Duration) -> i64 {
        let (ticks, half) = (self.started + elapsed, Duration::from_millis(500));
        let seconds = |ahead: Duration| i64::try_from((ahead + half).as_secs()).unwrap_or(i64::MAX);
        match wall.checked_sub(ticks) {
            Some(ahead) => seconds(ahead),
            None => -seconds(ticks.saturating_sub(wall)),
        }
    }
}

impl Sampling {
    /// The state at the start, when the wall clock is `started`.
    pub(super) fn new(
        sampler: Sampler,
        hub: Arc<Hub>,
        details: Details,
        started: Duration,
    ) -> Self {
        Self {
            sampler,
            hub,
            details,
            timeline: Timeline::starting(started),
            sampled: Duration::ZERO,
            time: started.as_secs(),
            is_quiet: false,
        }
    }

    /// Takes ticks until the channel is closed. A message on it ends a rest, because a page is open.
    pub(super) fn run(mut self, pages: &mpsc::Receiver<()>) {
        loop {
            match pages.recv_timeout(self.until_next_tick(self.timeline.origin.elapsed())) {
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // A panic costs one tick.
                    let _counted = catch_unwind(AssertUnwindSafe(|| {
                        self.tick(self.timeline.origin.elapsed(), since_epoch());
                    }));
                }
            }
        }
        self.hub.close();
    }

    fn until_next_tick(&self, elapsed: Duration) -> Duration {
        let until_next_second = self.timeline.until_next_second(self.time, elapsed);
        if self.is_quiet && !self.hub.is_watched(self.time) {
            until_next_second + MORE_AT_REST
        } else {
            until_next_second
        }
    }

    /// Takes the tick that ends `elapsed` after the start, when the wall clock is `wall`.
    fn tick(&mut self, elapsed: Duration, wall: Duration) {
        let span = elapsed.saturating_sub(self.sampled);
        // Ticks are identified by their times, so no two may have the same.
        let time = self.timeline.time(elapsed).max(self.time + 1);
        let width = time - self.time;
        let tick = self.sampler.sample(time, width, span.as_secs_f64());
        self.sampled = elapsed;
        self.time = time;
        self.is_quiet = tick.is_quiet();
        self.hub.set_clock(self.timeline.offset(elapsed, wall));
        if time.is_multiple_of(DETAILS_EVERY) && self.hub.streams() > 0 {
            self.hub.publish_details(&self.details.read());
        }
        self.hub.publish(&tick, self.sampler.routes());
    }
}

/// The wall clock, since the Unix epoch.
pub(super) fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests;
