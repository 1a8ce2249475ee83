//! The requests in flight, in a form that any thread can read: which they are, and what each of them does.
//!
//! Each request has a slot of atomics, owned by its worker and reused by later requests. Its worker and the threads that
//! work for it store into the slot without a lock. A reader needs nothing from these threads, so it sees what a stuck
//! worker is stuck in. A slot contains no path, header or value.

mod slot;
mod starvation;

use std::{
    cell::RefCell,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

pub use slot::METHOD_LABELS;
use slot::{InFlightSlot, SlotReading};
pub(crate) use slot::{RequestState, SlotHandle, WorkKind, method_name, method_word};
use starvation::Starvation;

use crate::{
    clock::{self, Moment},
    name_numbers, watchdog,
};

/// The most slots of all workers: about 6 MB. Requests beyond are counted, but not listed.
const MOST_SLOTS: usize = 32_768;

/// All requests in flight. Cheap to clone; clones share the requests.
#[derive(Clone, Debug, Default)]
pub struct InFlightRequests {
    shared: Arc<SharedSlots>,
}

#[derive(Debug, Default)]
struct SharedSlots {
    workers: Mutex<Vec<Weak<WorkerSlots>>>,
    /// The number of slots that exist.
    slots: AtomicUsize,
    /// The number of requests in flight that have no slot.
    unlisted: AtomicU64,
}

/// The slots of one worker and application.
#[derive(Debug)]
struct WorkerSlots {
    /// The value of the label `worker`.
    worker: Option<usize>,
    /// Locked by its worker only when it needs one more slot.
    slots: Mutex<Vec<Arc<InFlightSlot>>>,
    /// The waits of its thread for a processor.
    starvation: Starvation,
    shared: Arc<SharedSlots>,
}

impl Drop for WorkerSlots {
    fn drop(&mut self) {
        let slots = lock(&self.slots).len();
        self.shared.slots.fetch_sub(slots, Relaxed);
    }
}

/// What one request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Code of the application runs on the worker's event loop.
    EventLoop,
    /// A closure waits for a thread that may block.
    BlockingQueue,
    /// A closure runs on such a thread, outside of the database.
    BlockingThread,
    /// It waits for a connection of a pool.
    PoolWait,
    /// A query runs.
    Query,
    /// A transaction is open, and no query runs.
    Transaction,
    /// The handler or the body awaits something else.
    Awaiting,
    /// The answer waits for the client to take what was handed on.
    Sending,
    /// An unbounded answer is open.
    Streaming,
}

impl Activity {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::EventLoop => "event_loop",
            Self::BlockingQueue => "blocking_queue",
            Self::BlockingThread => "blocking_thread",
            Self::PoolWait => "pool_wait",
            Self::Query => "query",
            Self::Transaction => "transaction",
            Self::Awaiting => "awaiting",
            Self::Sending => "sending",
            Self::Streaming => "streaming",
        }
    }
}

/// One request in flight.
#[derive(Clone, Debug)]
pub struct InFlightRequest {
    /// The time since its head was parsed.
    pub age: Duration,
    /// The value of the label `method`.
    pub method: &'static str,
    /// The value of the label `endpoint`, once it is known.
    pub endpoint: Option<Arc<str>>,
    /// The id of its trace, if it has one.
    pub trace_id: Option<u128>,
    /// The value of the label `worker`.
    pub worker: Option<usize>,
    /// What it does. If it does several things at once, the one that began last.
    pub activity: Activity,
    /// How long it has done so.
    pub activity_age: Duration,
    /// How long code of this request has kept its worker's event loop busy without a pause, if it does so now. Time for
    /// which the worker waited for a processor is left out.
    pub on_event_loop: Option<Duration>,
    /// The number of the statement that runs, if it is kept.
    pub statement: Option<NonZeroU32>,
    /// Bytes of the answer's body that were handed to the connection.
    pub sent_bytes: u64,
}

/// The requests in flight at one moment.
#[derive(Clone, Debug)]
pub struct InFlightReport {
    /// The oldest requests, the oldest first.
    pub requests: Vec<InFlightRequest>,
    /// The number of all requests in flight.
    pub total: u64,
}

impl InFlightRequests {
    /// Returns the slots of a new worker, whose thread calls this.
    pub(crate) fn worker(&self, worker: Option<usize>) -> WorkerInFlight {
        let slots = Arc::new(WorkerSlots {
            worker,
            slots: Mutex::default(),
            starvation: Starvation::of_this_thread(),
            shared: Arc::clone(&self.shared),
        });
        let mut workers = lock(&self.shared.workers);
        workers.retain(|worker| worker.strong_count() > 0);
        workers.push(Arc::downgrade(&slots));
        WorkerInFlight {
            slots,
            free: RefCell::default(),
        }
    }

    /// Returns the oldest requests that are `wanted`, at most `limit`. Locks nothing that a worker holds while it serves.
    pub fn report(
        &self,
        limit: usize,
        wanted: impl Fn(&InFlightRequest) -> bool,
    ) -> InFlightReport {
        let mut requests = Vec::new();
        self.visit(|_, _, request| {
            if wanted(&request) {
                requests.push(request);
            }
        });
        let listed = u64::try_from(requests.len()).unwrap_or(u64::MAX);
        requests.sort_by_key(|request| std::cmp::Reverse(request.age));
        requests.truncate(limit);
        InFlightReport {
            requests,
            total: listed.saturating_add(self.shared.unlisted.load(Relaxed)),
        }
    }

    /// Returns the requests that have kept an event loop busy for at least `threshold` without a pause, and marks each
    /// such stall as reported. A stall is returned once.
    pub(crate) fn new_stalls(&self, threshold: Duration) -> Vec<InFlightRequest> {
        let mut stalls = Vec::new();
        self.visit(|slot, reading, request| {
            let is_stall = request.on_event_loop.is_some_and(|busy| busy >= threshold);
            if is_stall && slot.report_stall_of(reading) {
                stalls.push(request);
            }
        });
        stalls
    }

    /// Whether no request is in flight.
    pub(crate) fn is_empty(&self) -> bool {
        self.shared.unlisted.load(Relaxed) == 0
            && (self.workers().iter())
                .all(|worker| lock(&worker.slots).iter().all(|slot| !slot.is_used()))
    }

    /// Keeps for how long each worker has waited for a processor until now.
    pub(crate) fn sample_starvation(&self) {
        for worker in self.workers() {
            worker.starvation.sample();
        }
    }

    fn workers(&self) -> Vec<Arc<WorkerSlots>> {
        let workers = lock(&self.shared.workers);
        workers.iter().filter_map(Weak::upgrade).collect()
    }

    /// Calls `f` with each request in flight and its slot.
    fn visit(&self, mut f: impl FnMut(&InFlightSlot, &SlotReading, InFlightRequest)) {
        for worker in self.workers() {
            // Copied, so that a worker which needs one more slot does not wait for `f`.
            let slots = lock(&worker.slots).clone();
            for slot in slots {
                if let Some(reading) = slot.read() {
                    f(&slot, &reading, describe(&reading, &worker));
                }
            }
        }
    }
}

fn describe(reading: &SlotReading, worker: &WorkerSlots) -> InFlightRequest {
    let now = clock::now();
    let busy = reading.loop_since().map(|since| slot::age(since, now));
    let own = |busy: Duration| {
        let starved = worker.starvation.since(now.before(busy));
        busy.saturating_sub(starved)
    };
    let (activity, since) = reading.activity();
    InFlightRequest {
        age: Duration::from_nanos(now.nanoseconds().saturating_sub(reading.started)),
        method: reading.method_name(),
        endpoint: name_numbers::name_of(reading.endpoint),
        trace_id: (reading.trace_id != 0).then_some(reading.trace_id),
        worker: worker.worker,
        activity,
        activity_age: slot::age(since, now),
        on_event_loop: busy.map(own),
        statement: reading.statement(),
        sent_bytes: reading.sent_bytes,
    }
}

/// The slots with which one worker lists its requests.
#[derive(Debug)]
pub(crate) struct WorkerInFlight {
    slots: Arc<WorkerSlots>,
    free: RefCell<Vec<Arc<InFlightSlot>>>,
}

impl WorkerInFlight {
    #[cold]
    fn new_slot(&self) -> Option<Arc<InFlightSlot>> {
        let shared = &self.slots.shared;
        if shared.slots.fetch_add(1, Relaxed) >= MOST_SLOTS {
            shared.slots.fetch_sub(1, Relaxed);
            return None;
        }
        let slot = Arc::new(InFlightSlot::default());
        lock(&self.slots.slots).push(Arc::clone(&slot));
        Some(slot)
    }

    /// Returns a slot that no request uses, or `None` if there are too many already.
    #[cold]
    pub(crate) fn take(&self) -> Option<SlotHandle> {
        let free = self.free.borrow_mut().pop();
        free.or_else(|| self.new_slot()).map(SlotHandle::new)
    }

    /// Keeps the slot of a request that has ended for a later one.
    #[cold]
    pub(crate) fn put_back(&self, slot: &SlotHandle) {
        self.free.borrow_mut().push(slot.slot());
    }

    /// How much of the time since `since` this worker waited for a processor.
    #[cold]
    pub(crate) fn starved_since(&self, since: Moment) -> Duration {
        self.slots.starvation.since(since)
    }

    /// Counts a request without a slot, until [`unlist`](Self::unlist).
    #[cold]
    pub(crate) fn count_unlisted(&self) {
        self.slots.shared.unlisted.fetch_add(1, Relaxed);
        watchdog::rouse();
    }

    /// Counts a request without a slot as ended.
    #[cold]
    pub(crate) fn unlist(&self) {
        self.slots.shared.unlisted.fetch_sub(1, Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
