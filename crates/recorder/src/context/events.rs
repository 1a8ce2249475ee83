//! What is done for one request: its queries, waits, transactions and work on other threads, each with its time.
//!
//! Events have fixed slots: one for each of the first, and some for the longest of the later ones. Any thread stores into
//! them without a lock. Of the events that have no slot, the number and the time are counted. An event is stored when it
//! ends; of those that have begun, only the last of each kind is known.

use std::{
    num::NonZeroU32,
    sync::atomic::{
        AtomicU32, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
};

use super::access::Access;
use crate::clock::Moment;

/// The first queries of a request that have a slot each.
const FIRST_QUERIES: usize = 16;
/// The first other events of a request that have a slot each.
const FIRST_OTHERS: usize = 24;
/// The slots for the longest of the later events, in each of the two lists.
const LONGEST: usize = 8;

/// The duration of a slot that a thread replaces.
const BUSY: u64 = u64::MAX;

/// What happens in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum EventKind {
    /// A query runs.
    Query = 1,
    /// A transaction begins or ends in the database.
    TransactionControl = 2,
    /// The request waits for a connection of a pool.
    PoolWait = 3,
    /// A closure waits for a thread that may block.
    BlockingQueue = 4,
    /// A closure runs on such a thread.
    BlockingThread = 5,
    /// A transaction is open.
    Transaction = 6,
}

impl EventKind {
    pub(crate) const ALL: [Self; 6] = [
        Self::Query,
        Self::TransactionControl,
        Self::PoolWait,
        Self::BlockingQueue,
        Self::BlockingThread,
        Self::Transaction,
    ];

    const fn index(self) -> usize {
        self as usize - 1
    }
}

/// One event of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) kind: EventKind,
    /// The number of the statement of a query, if it is kept.
    pub(crate) statement: Option<NonZeroU32>,
    pub(crate) started: Moment,
    pub(crate) ended: Moment,
    /// The number of the database's error with which it ended; 0 without one.
    pub(crate) error: u8,
}

impl Event {
    #[inline]
    pub(crate) fn new(kind: EventKind, started: Moment, ended: Moment) -> Self {
        Self {
            kind,
            statement: None,
            started,
            ended,
            error: 0,
        }
    }

    /// How long it lasted.
    #[inline]
    pub(crate) fn nanoseconds(&self) -> u64 {
        let (started, ended) = (self.started.nanoseconds(), self.ended.nanoseconds());
        ended.saturating_sub(started)
    }

    /// The kind and the statement in one word. An error is added by [`Events::fail`].
    #[inline]
    fn label(&self) -> u64 {
        label(self.kind, self.statement)
    }
}

/// Events that have no slot of their own: their number and the sum of their times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) count: u64,
    pub(crate) nanoseconds: u64,
}

/// The events of one request.
#[derive(Debug)]
pub(super) struct Events {
    queries: EventSlots<FIRST_QUERIES, LONGEST>,
    others: EventSlots<FIRST_OTHERS, LONGEST>,
    /// The number of other events, as far as they have a slot of their own, and one more if there are others.
    others_ended: AtomicU32,
    /// The events without a slot, by kind. Those of queries are the difference to all queries, which their request counts.
    left_out: [LeftOutSums; EventKind::ALL.len()],
    /// When the last event of each kind began; 0 if it has ended.
    begun: [AtomicU64; EventKind::ALL.len()],
    /// The statement of the last query that has begun.
    begun_statement: AtomicU32,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            queries: EventSlots::new(),
            others: EventSlots::new(),
            others_ended: AtomicU32::new(0),
            left_out: [const { LeftOutSums::new() }; _],
            begun: [const { AtomicU64::new(0) }; _],
            begun_statement: AtomicU32::new(0),
        }
    }
}

impl Events {
    /// Notes that an event has begun.
    #[inline]
    pub(super) fn begin(&self, kind: EventKind, since: Moment) {
        self.begun[kind.index()].store(since.nanoseconds(), Relaxed);
    }

    /// Notes that an event has begun, unless one of this kind lasts.
    #[inline]
    pub(super) fn begin_unless_begun(&self, kind: EventKind, since: Moment) {
        if self.begun[kind.index()].load(Relaxed) == 0 {
            self.begin(kind, since);
        }
    }

    /// Notes that a query has begun.
    #[inline]
    pub(super) fn begin_query(&self, statement: Option<NonZeroU32>, since: Moment) {
        let statement = statement.map_or(0, NonZeroU32::get);
        self.begun_statement.store(statement, Relaxed);
        self.begin(EventKind::Query, since);
    }

    /// Notes that no event of this kind lasts any more, as far as is known.
    #[inline]
    pub(super) fn over(&self, kind: EventKind) {
        self.begun[kind.index()].store(0, Relaxed);
    }

    /// Adds a query that has ended. `number` counts the queries that ended before.
    #[inline]
    pub(super) fn add_query(&self, number: u64, query: &Event) {
        self.queries.add(number, query);
    }

    /// Adds another event that has ended.
    #[inline]
    pub(super) fn add(&self, event: &Event, access: Access) {
        self.over(event.kind);
        let mut number = self.others_ended.load(Relaxed);
        if number as usize <= FIRST_OTHERS {
            number = access.count(&self.others_ended);
        }
        if let Some((label, nanoseconds)) = self.others.add(number.into(), event)
            && let Some(sums) = self.left_out.get(index_of(label))
        {
            sums.add(nanoseconds, access);
        }
    }

    /// Notes that the last event of this kind and statement that has ended without an error has failed, if it has a slot.
    #[cold]
    pub(super) fn fail(&self, kind: EventKind, statement: Option<NonZeroU32>, error: u8) {
        let label = label(kind, statement);
        let failed = label | u64::from(error) << ERROR_SHIFT;
        match kind {
            EventKind::Query => self.queries.relabel_last(label, failed),
            _ => self.others.relabel_last(label, failed),
        }
    }

    /// Whether any event but queries has ended.
    #[inline]
    pub(super) fn has_others(&self) -> bool {
        self.others_ended.load(Relaxed) > 0
    }

    /// The events that have a slot, in no order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Event> {
        self.queries.iter().chain(self.others.iter())
    }

    /// The events of a kind other than queries that have no slot.
    pub(super) fn left_out(&self, kind: EventKind) -> LeftOut {
        self.left_out[kind.index()].read()
    }

    /// Subtracts the queries that have a slot from all queries.
    pub(super) fn without_listed_queries(&self, all: LeftOut) -> LeftOut {
        self.queries.iter().fold(all, |rest, listed| LeftOut {
            count: rest.count.saturating_sub(1),
            nanoseconds: rest.nanoseconds.saturating_sub(listed.nanoseconds()),
        })
    }

    /// The events that have begun and not ended, at most one of each kind. They are cut at `now`.
    pub(super) fn unfinished(&self, now: Moment) -> impl Iterator<Item = Event> {
        EventKind::ALL.into_iter().filter_map(move |kind| {
            let since = self.begun[kind.index()].load(Relaxed);
            let mut event = Event::new(kind, Moment::from_nanoseconds(since), now);
            if kind == EventKind::Query {
                event.statement = NonZeroU32::new(self.begun_statement.load(Relaxed));
            }
            (since != 0).then_some(event)
        })
    }

    /// Removes all events. `queries` is how many queries have ended.
    pub(super) fn clear(&mut self, queries: u64) {
        self.queries.clear(queries);
        let others = std::mem::take(self.others_ended.get_mut());
        self.others.clear(others.into());
        if others as usize > FIRST_OTHERS {
            self.left_out = [const { LeftOutSums::new() }; _];
        }
        for begun in &mut self.begun {
            *begun.get_mut() = 0;
        }
    }
}

/// The number and the time of events, added by any number of threads.
///
/// Both are in one word, so that an event takes one atomic operation. A half that fills is moved on to wider words.
#[derive(Debug)]
struct LeftOutSums {
    /// The number in the upper 16 bits, the nanoseconds in the lower 48.
    word: AtomicU64,
    count: AtomicU64,
    nanoseconds: AtomicU64,
}

/// One event in the word.
const ONE: u64 = 1 << 48;
/// The highest bits of both halves. One of them is set long before a half is full.
const FILLED: u64 = 1 << 63 | 1 << 47;
/// An event that is as long as this, 68 s, would fill the word too soon.
const LONG: u64 = 1 << 36;

impl LeftOutSums {
    const fn new() -> Self {
        Self {
            word: AtomicU64::new(0),
            count: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }

    #[inline]
    fn add(&self, nanoseconds: u64, access: Access) {
        if nanoseconds >= LONG {
            self.add_wide(1, nanoseconds);
        } else if access.add(&self.word, ONE + nanoseconds) & FILLED != 0 {
            let word = self.word.swap(0, Relaxed);
            self.add_wide(word / ONE, word % ONE);
        }
    }

    #[cold]
    fn add_wide(&self, count: u64, nanoseconds: u64) {
        self.count.fetch_add(count, Relaxed);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    fn read(&self) -> LeftOut {
        let word = self.word.load(Relaxed);
        LeftOut {
            count: self.count.load(Relaxed) + word / ONE,
            nanoseconds: self.nanoseconds.load(Relaxed) + word % ONE,
        }
    }
}

/// The bits of a label before those of an error.
const ERROR_SHIFT: u32 = 40;

#[inline]
fn label(kind: EventKind, statement: Option<NonZeroU32>) -> u64 {
    u64::from(statement.map_or(0, NonZeroU32::get)) << 8 | kind as u64
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the upper bits are those of the error"
)]
fn statement_of(label: u64) -> Option<NonZeroU32> {
    NonZeroU32::new((label >> 8) as u32)
}

/// The index of the kind of an event with this label.
#[inline]
fn index_of(label: u64) -> usize {
    (label & 0xff).wrapping_sub(1) as usize
}

fn kind_of(label: u64) -> Option<EventKind> {
    EventKind::ALL.get(index_of(label)).copied()
}

/// Slots for the first events, and for the longest of the later ones.
#[derive(Debug)]
struct EventSlots<const FIRST: usize, const LONGEST: usize> {
    first: [EventSlot; FIRST],
    longest: [EventSlot; LONGEST],
    /// The duration that an event must exceed to be one of the longest.
    floor: AtomicU64,
}

/// One event. The label is 0 while the slot is free.
#[derive(Debug)]
struct EventSlot {
    label: AtomicU64,
    started: AtomicU64,
    nanoseconds: AtomicU64,
}

impl EventSlot {
    const fn new() -> Self {
        Self {
            label: AtomicU64::new(0),
            started: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }

    #[inline]
    fn store(&self, event: &Event) {
        self.started.store(event.started.nanoseconds(), Relaxed);
        self.nanoseconds.store(event.nanoseconds(), Relaxed);
        self.label.store(event.label(), Release);
    }

    fn load(&self) -> Option<Event> {
        let label = self.label.load(Acquire);
        let nanoseconds = self.nanoseconds.load(Acquire);
        let started = self.started.load(Relaxed);
        if nanoseconds == BUSY {
            return None;
        }
        Some(Event {
            kind: kind_of(label)?,
            statement: statement_of(label),
            started: Moment::from_nanoseconds(started),
            ended: Moment::from_nanoseconds(started.saturating_add(nanoseconds)),
            error: u8::try_from(label >> ERROR_SHIFT).unwrap_or(0),
        })
    }

    fn clear(&mut self) {
        *self.label.get_mut() = 0;
        *self.nanoseconds.get_mut() = 0;
    }
}

impl<const FIRST: usize, const LONGEST: usize> EventSlots<FIRST, LONGEST> {
    const fn new() -> Self {
        Self {
            first: [const { EventSlot::new() }; FIRST],
            longest: [const { EventSlot::new() }; LONGEST],
            floor: AtomicU64::new(0),
        }
    }

    /// Adds the event of this number. Returns the label and the time of an event that has no slot: this one, or one that it
    /// has replaced.
    #[inline]
    fn add(&self, number: u64, event: &Event) -> Option<(u64, u64)> {
        let first = usize::try_from(number).ok();
        if let Some(slot) = first.and_then(|number| self.first.get(number)) {
            slot.store(event);
            return None;
        }
        if event.nanoseconds() <= self.floor.load(Relaxed) {
            return Some((event.label(), event.nanoseconds()));
        }
        self.add_long(event)
    }

    #[cold]
    fn add_long(&self, event: &Event) -> Option<(u64, u64)> {
        let (label, nanoseconds) = (event.label(), event.nanoseconds());
        let times = self.longest.iter().map(|slot| {
            let time = slot.nanoseconds.load(Relaxed);
            (slot, time)
        });
        let shortest = times.min_by_key(|(_, time)| *time);
        let Some((slot, replaced)) = shortest.filter(|(_, time)| *time < nanoseconds) else {
            return Some((label, nanoseconds));
        };
        let claimed = (slot.nanoseconds).compare_exchange(replaced, BUSY, Acquire, Relaxed);
        if claimed.is_err() {
            // Another thread replaces the same one.
            return Some((label, nanoseconds));
        }
        let replaced_label = slot.label.swap(label, Relaxed);
        slot.started.store(event.started.nanoseconds(), Relaxed);
        slot.nanoseconds.store(nanoseconds, Release);
        let times = self.longest.iter();
        let floor = times.map(|slot| slot.nanoseconds.load(Relaxed)).min();
        self.floor.store(floor.unwrap_or(0), Relaxed);
        (replaced_label != 0).then_some((replaced_label, replaced))
    }

    fn iter(&self) -> impl Iterator<Item = Event> {
        let slots = self.first.iter().chain(&self.longest);
        slots.filter_map(EventSlot::load)
    }

    /// Replaces the label of the event with this label that began last.
    fn relabel_last(&self, label: u64, by: u64) {
        let slots = self.first.iter().chain(&self.longest);
        let labelled = slots.filter(|slot| slot.label.load(Acquire) == label);
        if let Some(last) = labelled.max_by_key(|slot| slot.started.load(Relaxed)) {
            // Another thread may replace the event meanwhile. Then the event has no slot any more.
            let _relabelled = last.label.compare_exchange(label, by, Relaxed, Relaxed);
        }
    }

    /// Clears the slots that `used` events may have taken.
    fn clear(&mut self, used: u64) {
        let first = usize::try_from(used).unwrap_or(usize::MAX).min(FIRST);
        self.first[..first].iter_mut().for_each(EventSlot::clear);
        if used > FIRST as u64 {
            self.longest.iter_mut().for_each(EventSlot::clear);
            *self.floor.get_mut() = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(nanoseconds: u64) -> Moment {
        Moment::from_nanoseconds(nanoseconds)
    }

    fn query(started: u64, took: u64) -> Event {
        Event {
            statement: NonZeroU32::new(7),
            ..Event::new(EventKind::Query, moment(started), moment(started + took))
        }
    }

    fn times(events: &Events) -> Vec<u64> {
        let mut times: Vec<_> = events.iter().map(|event| event.nanoseconds()).collect();
        times.sort_unstable();
        times
    }

    #[test]
    fn the_first_and_the_longest_have_slots_and_the_rest_is_counted() {
        let mut events = Events::default();
        let took = |number: u64| if number < 16 { 1 } else { number * 10 };
        for round in 0..2 {
            for number in 0..100 {
                // In an order in which short and long ones alternate.
                let took = took(if number < 16 {
                    number
                } else {
                    16 + (number * 37) % 84
                });
                events.add_query(number, &query(1_000 * number, took));
            }
            let expected: Vec<u64> = (0..16).map(|_| 1).chain((92..100).map(took)).collect();
            assert_eq!(times(&events), expected, "round {round}");
            let all = LeftOut {
                count: 100,
                nanoseconds: (0..100).map(took).sum(),
            };
            let rest = events.without_listed_queries(all);
            let sum: u64 = (16..92).map(took).sum();
            assert_eq!((rest.count, rest.nanoseconds), (76, sum));
            assert!(
                events
                    .iter()
                    .all(|event| event.statement == NonZeroU32::new(7))
            );
            events.clear(100);
            assert!(times(&events).is_empty(), "a cleared list is used again");
            assert_eq!(events.without_listed_queries(all), all);
        }
    }

    #[test]
    fn sums_of_any_size_are_exact() {
        for (count, took) in [
            (3, 0),
            (100_000, 7),
            (3, LONG - 1),
            (5_000, LONG - 1),
            (3, LONG),
            (9, 1 << 50),
        ] {
            for access in [Access::Sole, Access::Shared] {
                let sums = LeftOutSums::new();
                (0..count).for_each(|_| sums.add(took, access));
                let read = sums.read();
                assert_eq!((read.count, read.nanoseconds), (count, count * took));
            }
        }
    }

    #[test]
    fn what_has_begun_is_known_until_it_ends() {
        let events = Events::default();
        events.begin_query(NonZeroU32::new(3), moment(5));
        events.begin(EventKind::BlockingThread, moment(4));
        let unfinished: Vec<_> = events.unfinished(moment(9)).collect();
        let thread = Event::new(EventKind::BlockingThread, moment(4), moment(9));
        let query = Event {
            statement: NonZeroU32::new(3),
            ..Event::new(EventKind::Query, moment(5), moment(9))
        };
        assert_eq!(unfinished, [query, thread]);
        events.over(EventKind::Query);
        events.add(&thread, Access::Sole);
        assert_eq!(events.unfinished(moment(9)).count(), 0);
        assert_eq!(events.iter().collect::<Vec<_>>(), [thread]);
    }

    #[test]
    fn an_error_belongs_to_the_last_event_of_its_statement() {
        let events = Events::default();
        let other = Event {
            statement: NonZeroU32::new(9),
            ..query(30, 1)
        };
        for (number, event) in [query(10, 1), query(20, 1), other].iter().enumerate() {
            events.add_query(number as u64, event);
        }
        events.add(
            &Event::new(EventKind::TransactionControl, moment(40), moment(41)),
            Access::Sole,
        );
        events.fail(EventKind::Query, NonZeroU32::new(7), 3);
        events.fail(EventKind::TransactionControl, None, 4);
        events.fail(EventKind::Query, NonZeroU32::new(8), 5);
        let errors: Vec<_> = events.iter().map(|event| event.error).collect();
        assert_eq!(errors, [0, 3, 0, 4]);
        let statements: Vec<_> = events.iter().map(|event| event.statement).collect();
        assert_eq!(statements, [7, 7, 9, 0].map(NonZeroU32::new));
        events.fail(EventKind::Query, NonZeroU32::new(7), 6);
        let errors: Vec<_> = events.iter().map(|event| event.error).collect();
        assert_eq!(errors, [6, 3, 0, 4], "an event has one error");
    }

    #[test]
    fn threads_that_add_together_lose_no_time() {
        let events = Events::default();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let events = &events;
                scope.spawn(move || {
                    for number in 0..5_000 {
                        let took = 1 + (number * 7_919 + thread) % 1_000;
                        let event = Event::new(EventKind::PoolWait, moment(1), moment(1 + took));
                        events.add(&event, Access::Shared);
                    }
                });
            }
        });
        let rest = events.left_out(EventKind::PoolWait);
        let kept = times(&events);
        assert_eq!(rest.count + kept.len() as u64, 20_000);
        let expected: u64 = (0..4)
            .flat_map(|thread| (0..5_000).map(move |number| 1 + (number * 7_919 + thread) % 1_000))
            .sum();
        assert_eq!(rest.nanoseconds + kept.iter().sum::<u64>(), expected);
    }
}
