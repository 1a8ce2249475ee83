//! The polls of one request on its worker's event loop, and what it awaits in between.
//!
//! The first polls and the longest of the later ones are kept with their times. Of all others the sums are known. Only the
//! request's own worker writes here, so nothing is atomic.

use std::time::Duration;

use crate::{clock::Moment, in_flight::RequestState};

/// The first polls that are kept one by one.
pub(in crate::http) const FIRST_POLLS: usize = 16;

/// One poll, and what the request awaits after it.
#[derive(Clone, Copy, Debug)]
pub(in crate::http) struct Poll {
    pub(in crate::http) began: Moment,
    pub(in crate::http) ended: Moment,
    pub(in crate::http) then: RequestState,
}

/// The polls of one request.
#[derive(Debug)]
pub(in crate::http) struct Polls {
    count: u32,
    first: [Poll; FIRST_POLLS],
    /// The longest poll after the first ones.
    longest: Poll,
    /// The end of the last poll.
    ended: Moment,
    /// What the request has awaited since then.
    then: RequestState,
    waits: WaitSums,
    /// The waits until the head of the answer, and its time, if a body followed it.
    head: Option<(Moment, WaitSums)>,
    pub(in crate::http) has_stalled: bool,
}

/// The time between polls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::http) struct PollWaits {
    /// For something that the handler or the body awaits.
    pub(in crate::http) awaiting: Duration,
    /// For the client.
    pub(in crate::http) sending: Duration,
}

/// The same in nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct WaitSums {
    awaiting: u64,
    sending: u64,
}

impl WaitSums {
    fn times(self) -> PollWaits {
        PollWaits {
            awaiting: Duration::from_nanos(self.awaiting),
            sending: Duration::from_nanos(self.sending),
        }
    }
}

impl Poll {
    #[inline]
    fn nanoseconds(&self) -> u64 {
        self.ended.nanoseconds_since(self.began)
    }
}

impl Polls {
    /// Returns the polls of a request that begins now.
    pub(in crate::http) fn new(now: Moment) -> Self {
        let poll = Poll {
            began: now,
            ended: now,
            then: RequestState::Awaiting,
        };
        Self {
            count: 0,
            first: [poll; FIRST_POLLS],
            longest: poll,
            ended: now,
            then: RequestState::Awaiting,
            waits: WaitSums::default(),
            head: None,
            has_stalled: false,
        }
    }

    /// Removes all polls.
    #[inline]
    pub(in crate::http) fn clear(&mut self, now: Moment) {
        self.count = 0;
        self.ended = now;
        self.waits = WaitSums::default();
        self.head = None;
        self.has_stalled = false;
    }

    /// Notes that a poll begins.
    #[inline]
    pub(in crate::http) fn begin(&mut self, now: Moment) {
        if self.count > 0 {
            self.wait_until(now);
        }
    }

    /// Notes that a poll has ended.
    #[inline]
    pub(in crate::http) fn end(&mut self, began: Moment, ended: Moment) {
        let poll = Poll {
            began,
            ended,
            then: RequestState::Awaiting,
        };
        let number = self.count as usize;
        if let Some(slot) = self.first.get_mut(number) {
            *slot = poll;
        } else if number == FIRST_POLLS || poll.nanoseconds() > self.longest.nanoseconds() {
            self.longest = poll;
        }
        self.count = self.count.saturating_add(1);
        self.ended = ended;
        self.then = RequestState::Awaiting;
    }

    /// Notes what the request awaits since the last poll.
    #[inline]
    pub(in crate::http) fn then(&mut self, state: RequestState) {
        self.then = state;
        let last = (self.count as usize).wrapping_sub(1);
        if let Some(last) = self.first.get_mut(last) {
            last.then = state;
        }
    }

    /// Notes that the head of the answer is there, and that a body follows.
    #[inline]
    pub(in crate::http) fn head(&mut self, now: Moment) {
        self.head = Some((now, self.waits));
    }

    /// Notes that the request has ended.
    #[inline]
    pub(in crate::http) fn finish(&mut self, now: Moment) {
        self.wait_until(now);
        self.ended = now;
    }

    #[inline]
    fn wait_until(&mut self, now: Moment) {
        let waited = now.nanoseconds_since(self.ended);
        match self.then {
            RequestState::Sending => self.waits.sending += waited,
            RequestState::Polled | RequestState::Awaiting | RequestState::Streaming => {
                self.waits.awaiting += waited;
            }
        }
    }

    /// The number of all polls.
    pub(in crate::http) fn count(&self) -> u32 {
        self.count
    }

    /// The first polls, in their order.
    pub(in crate::http) fn first(&self) -> &[Poll] {
        let kept = (self.count as usize).min(FIRST_POLLS);
        &self.first[..kept]
    }

    /// The longest of the polls after the first ones, if there are any.
    pub(in crate::http) fn longest_later(&self) -> Option<Poll> {
        (self.count as usize > FIRST_POLLS).then_some(self.longest)
    }

    /// When the head of the answer was there, and the waits before, if a body followed it.
    pub(in crate::http) fn before_head(&self) -> Option<(Moment, PollWaits)> {
        self.head.map(|(at, waits)| (at, waits.times()))
    }

    /// All waits between polls.
    pub(in crate::http) fn waits(&self) -> PollWaits {
        self.waits.times()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: u64) -> Moment {
        Moment::from_nanoseconds(milliseconds * 1_000_000)
    }

    fn milliseconds(of: u64) -> Duration {
        Duration::from_millis(of)
    }

    #[test]
    fn the_time_between_polls_is_counted_by_what_was_awaited() {
        let mut polls = Polls::new(at(0));
        polls.begin(at(0));
        polls.end(at(0), at(1));
        polls.then(RequestState::Awaiting);
        polls.begin(at(11));
        polls.end(at(11), at(12));
        polls.head(at(12));
        polls.then(RequestState::Sending);
        polls.begin(at(32));
        polls.end(at(32), at(33));
        polls.then(RequestState::Awaiting);
        polls.finish(at(40));
        let waits = polls.waits();
        assert_eq!(
            (waits.awaiting, waits.sending),
            (milliseconds(17), milliseconds(20))
        );
        let (head, before) = polls.before_head().unwrap();
        assert_eq!((head, before.awaiting), (at(12), milliseconds(10)));
        assert_eq!((polls.count(), polls.first().len()), (3, 3));
        assert_eq!(polls.first()[1].then, RequestState::Sending);
    }

    #[test]
    fn the_longest_of_the_later_polls_is_kept() {
        let mut polls = Polls::new(at(0));
        for number in 0..100 {
            let took = if number == 57 { 9 } else { 1 };
            polls.end(at(number * 10), at(number * 10 + took));
        }
        assert_eq!(polls.first().len(), FIRST_POLLS);
        assert_eq!(polls.longest_later().map(|poll| poll.began), Some(at(570)));
        polls.clear(at(2_000));
        assert!(polls.first().is_empty() && polls.longest_later().is_none());
    }
}
