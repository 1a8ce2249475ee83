//! The slot of one request in flight: atomics that its threads store into and other threads read.
//!
//! A slot is used by one request after another. Its generation is odd while a request uses it. A reader that finds the
//! same odd generation before and after has read one request (a sequence lock). The state and the work are single words
//! that contain their beginning, so that no reader sees a state with the beginning of another one.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{
            AtomicU32, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
            fence,
        },
    },
    time::Duration,
};

use crate::{
    clock::Moment, context::owner::WorkOwner, in_flight::Activity, slot_generation::SlotGeneration,
    watchdog,
};

/// The values of the label `method`. The last is that of all other methods.
pub const METHOD_LABELS: [&str; 11] = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    OTHER_METHOD,
];
/// The method of all other requests.
const OTHER_METHOD: &str = "other";

/// Times in words are in units of 1024 ns.
const UNIT_SHIFT: u32 = 10;
/// The bits of a word that contain its kind.
const KIND_BITS: u32 = 4;
/// The bits of a word that contain its beginning, which wraps around after 208 days.
const SINCE_BITS: u32 = 44;
const SINCE_MASK: u64 = (1 << SINCE_BITS) - 1;
const KIND_MASK: u64 = (1 << KIND_BITS) - 1;
const TAG_MASK: u64 = (1 << (64 - SINCE_BITS - KIND_BITS)) - 1;
/// The bit of a kind of work that runs on the worker's own thread, and so keeps its event loop busy.
const ON_WORKER: u64 = 8;

/// A kind, its beginning and the tag of a request, in one word.
#[inline]
fn word(kind: u64, since: Moment, tag: u64) -> u64 {
    let since = (since.nanoseconds() >> UNIT_SHIFT) & SINCE_MASK;
    tag << (SINCE_BITS + KIND_BITS) | since << KIND_BITS | kind
}

/// The beginning of a word, as it is stored.
fn since(word: u64) -> u64 {
    (word >> KIND_BITS) & SINCE_MASK
}

/// The time since the beginning of a word.
pub(super) fn age(since: u64, now: Moment) -> Duration {
    let now = now.nanoseconds() >> UNIT_SHIFT;
    let units = now.wrapping_sub(since) & SINCE_MASK;
    // The clocks of two threads may differ by a little: a beginning in the future is now.
    let units = if units > SINCE_MASK / 2 { 0 } else { units };
    Duration::from_nanos(units << UNIT_SHIFT)
}

/// What the request's own task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum RequestState {
    /// It is polled.
    Polled = 1,
    /// It waits to be polled.
    Awaiting = 2,
    /// Its connection has something to send.
    Sending = 3,
    /// It is a stream that waits to be polled.
    Streaming = 4,
}

/// What is done for the request, by any thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum WorkKind {
    None = 0,
    BlockingQueue = 1,
    BlockingThread = 2,
    PoolWait = 3,
    Query = 4,
    Transaction = 5,
}

#[derive(Debug, Default)]
pub(super) struct InFlightSlot {
    generation: SlotGeneration,
    /// Nanoseconds of a [`Moment`].
    started: AtomicU64,
    /// The first eight bytes of the method's label value.
    method: AtomicU64,
    /// The number of the endpoint; 0 while it is unknown.
    endpoint: AtomicU32,
    /// The number of the statement that ran last; 0 if it is not known. Read only while the work is a query.
    statement: AtomicU32,
    trace_id: [AtomicU64; 2],
    /// A word with a [`WorkKind`] and the tag of the request that it is for.
    work: AtomicU64,
    task: TaskWords,
}

/// What the worker stores with each poll. Other threads store the work, which would take a common cache line from one
/// processor to the other and back with each query.
#[derive(Debug, Default)]
#[repr(align(64))]
struct TaskWords {
    /// A word with a [`RequestState`].
    state: AtomicU64,
    sent_bytes: AtomicU64,
    /// The state word of the last stall that was reported, so that each is reported once.
    reported: AtomicU64,
}

impl InFlightSlot {
    /// Whether a request uses the slot.
    pub(super) fn is_used(&self) -> bool {
        self.generation.is_odd()
    }

    /// Reads the slot, if a request uses it.
    pub(super) fn read(&self) -> Option<SlotReading> {
        // Three attempts: a slot that changes its request each time is used by short requests.
        (0..3).find_map(|_| self.try_read())
    }

    fn try_read(&self) -> Option<SlotReading> {
        self.generation.read(|generation| {
            let work = self.work.load(Acquire);
            let reading = SlotReading {
                started: self.started.load(Relaxed),
                method: self.method.load(Relaxed),
                endpoint: self.endpoint.load(Relaxed),
                statement: self.statement.load(Acquire),
                trace_id: u128::from(self.trace_id[0].load(Relaxed)) << 64
                    | u128::from(self.trace_id[1].load(Relaxed)),
                state: self.task.state.load(Relaxed),
                work: if work >> (SINCE_BITS + KIND_BITS) == tag(generation) {
                    work
                } else {
                    // Late work for an earlier request.
                    0
                },
                sent_bytes: self.task.sent_bytes.load(Relaxed),
            };
            (self.work.load(Relaxed) == work).then_some(reading)
        })
    }

    /// Marks the stall of the poll that a reader has found as reported. Returns false if it was reported before.
    pub(super) fn report_stall_of(&self, reading: &SlotReading) -> bool {
        self.report_stall(reading.state)
    }

    /// Marks the stall that this state began as reported. Returns false if it was reported before.
    fn report_stall(&self, state: u64) -> bool {
        self.task.reported.swap(state, Relaxed) != state
    }
}

/// The tag of a generation, by which work for an earlier request is recognised.
#[inline]
fn tag(generation: u64) -> u64 {
    (generation >> 1) & TAG_MASK
}

/// What a reader found in a slot.
#[derive(Clone, Copy, Debug)]
pub(super) struct SlotReading {
    pub(super) started: u64,
    method: u64,
    pub(super) endpoint: u32,
    statement: u32,
    pub(super) trace_id: u128,
    state: u64,
    work: u64,
    pub(super) sent_bytes: u64,
}

impl SlotReading {
    pub(super) fn method_name(&self) -> &'static str {
        method_name(self.method)
    }

    fn is_polled(&self) -> bool {
        self.state & KIND_MASK == RequestState::Polled as u64
    }

    /// When the present poll began, if there is one.
    pub(super) fn loop_since(&self) -> Option<u64> {
        self.is_polled().then(|| since(self.state))
    }

    /// What the request does, and since when.
    pub(super) fn activity(&self) -> (Activity, u64) {
        let kind = self.work & KIND_MASK;
        // While the loop is busy, only work on the loop's own thread says in what.
        if !self.is_polled() || kind & ON_WORKER != 0 {
            let work = match kind & !ON_WORKER {
                1 => Some(Activity::BlockingQueue),
                2 => Some(Activity::BlockingThread),
                3 => Some(Activity::PoolWait),
                4 => Some(Activity::Query),
                5 => Some(Activity::Transaction),
                _ => None,
            };
            if let Some(work) = work {
                return (work, since(self.work));
            }
        }
        let state = match self.state & KIND_MASK {
            1 => Activity::EventLoop,
            3 => Activity::Sending,
            4 => Activity::Streaming,
            _ => Activity::Awaiting,
        };
        (state, since(self.state))
    }

    /// The statement of the query that runs, if one does.
    pub(super) fn statement(&self) -> Option<NonZeroU32> {
        let (activity, _) = self.activity();
        (activity == Activity::Query)
            .then(|| NonZeroU32::new(self.statement))
            .flatten()
    }
}

/// The method with this word.
pub(crate) fn method_name(word: u64) -> &'static str {
    let mut methods = METHOD_LABELS.iter();
    methods
        .find(|method| method_word(method) == word)
        .unwrap_or(&OTHER_METHOD)
}

/// The first eight bytes of a method's label value.
pub(crate) const fn method_word(method: &str) -> u64 {
    let (method, mut bytes) = (method.as_bytes(), [0; 8]);
    let mut at = 0;
    while at < method.len() && at < bytes.len() {
        bytes[at] = method[at];
        at += 1;
    }
    u64::from_le_bytes(bytes)
}

/// The upper and the lower half of a number.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the rest is the other half"
)]
fn halves(number: u128) -> [u64; 2] {
    [(number >> 64) as u64, number as u64]
}

/// A slot together with the request that it is used for. Once another request uses the slot, what this handle stores is
/// ignored.
#[derive(Debug)]
pub(crate) struct SlotHandle {
    slot: Arc<InFlightSlot>,
    /// The generation of the slot while the request uses it. Only the worker stores it.
    generation: AtomicU64,
}

impl SlotHandle {
    pub(super) fn new(slot: Arc<InFlightSlot>) -> Self {
        Self {
            slot,
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn slot(&self) -> Arc<InFlightSlot> {
        Arc::clone(&self.slot)
    }

    /// Another handle of the same slot and request. This one stays with the request, the other one can begin the next.
    pub(crate) fn another(&self) -> Self {
        Self {
            slot: self.slot(),
            generation: AtomicU64::new(self.generation.load(Relaxed)),
        }
    }

    /// Sets the method of the requests that begin from now on. Most requests have the method of the last one.
    #[cold]
    pub(crate) fn set_method(&self, method: &'static str) {
        // As in `begin`: a reader that sees the method also sees that the last request has ended.
        fence(Release);
        self.slot.method.store(method_word(method), Relaxed);
    }

    /// Begins a request to the endpoint with this number, which is polled since `started`.
    #[inline]
    pub(crate) fn begin(&self, endpoint: u32, started: Moment, trace_id: u128) {
        let slot = &*self.slot;
        slot.generation.begin(|generation| {
            self.generation.store(generation, Relaxed);
            slot.started.store(started.nanoseconds(), Relaxed);
            slot.endpoint.store(endpoint, Relaxed);
            for (half, value) in slot.trace_id.iter().zip(halves(trace_id)) {
                half.store(value, Relaxed);
            }
            let state = word(RequestState::Polled as u64, started, 0);
            slot.task.state.store(state, Relaxed);
            slot.work.store(0, Relaxed);
            slot.task.sent_bytes.store(0, Relaxed);
        });
        watchdog::rouse();
    }

    /// The generation of the request, if the slot is still used for it. If the slot changes its request right now, the tag
    /// of what is stored reveals it.
    #[inline]
    fn current(&self) -> Option<u64> {
        let generation = self.generation.load(Relaxed);
        (self.slot.generation.get() == generation).then_some(generation)
    }

    /// The request as the owner of work; `None` if the slot is no longer used for it.
    #[inline]
    pub(crate) fn owner(&self) -> Option<WorkOwner> {
        let slot = &*self.slot;
        self.current().map(|_| WorkOwner {
            method: slot.method.load(Relaxed),
            name: slot.endpoint.load(Relaxed),
            trace_id: [0, 1].map(|half: usize| slot.trace_id[half].load(Relaxed)),
        })
    }

    /// Ends the request.
    #[inline]
    pub(crate) fn end(&self) {
        self.slot.generation.end();
    }

    /// The number of the endpoint; 0 if it is not known, or if the slot is no longer used for the request.
    pub(crate) fn endpoint(&self) -> u32 {
        self.current()
            .map_or(0, |_| self.slot.endpoint.load(Relaxed))
    }

    /// Sets the number of the endpoint.
    #[inline]
    pub(crate) fn set_endpoint(&self, number: u32) {
        self.slot.endpoint.store(number, Relaxed);
    }

    /// Sets what the request's task does.
    #[inline]
    pub(crate) fn set_state(&self, state: RequestState, since: Moment) {
        (self.slot.task.state).store(word(state as u64, since, 0), Relaxed);
    }

    /// Sets the number of bytes that were handed to the connection.
    #[inline]
    pub(crate) fn set_sent_bytes(&self, bytes: u64) {
        self.slot.task.sent_bytes.store(bytes, Relaxed);
    }

    /// Sets what is done for the request. `on_worker` is whether its worker's thread does it.
    #[inline]
    pub(crate) fn set_work(&self, work: WorkKind, since: Moment, on_worker: bool) {
        if let Some(generation) = self.current() {
            self.store_work(generation, work, since, on_worker);
        }
    }

    /// Sets that a query runs, with the number of its statement if that is known.
    #[inline]
    pub(crate) fn set_query(&self, statement: Option<NonZeroU32>, since: Moment, on_worker: bool) {
        if let Some(generation) = self.current() {
            let statement = statement.map_or(0, NonZeroU32::get);
            self.slot.statement.store(statement, Release);
            self.store_work(generation, WorkKind::Query, since, on_worker);
        }
    }

    #[inline]
    fn store_work(&self, generation: u64, work: WorkKind, since: Moment, on_worker: bool) {
        let kind = work as u64 | if on_worker { ON_WORKER } else { 0 };
        let work = word(kind, since, tag(generation));
        self.slot.work.store(work, Release);
    }

    /// Marks the stall of the present poll, which began at `since`, as reported. Returns false if it was reported before.
    #[cold]
    pub(crate) fn report_stall(&self, since: Moment) -> bool {
        (self.slot).report_stall(word(RequestState::Polled as u64, since, 0))
    }
}
