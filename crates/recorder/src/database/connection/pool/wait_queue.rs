//! The callers of a pool that wait for their turn, in a bounded queue, and the threads that do their work.
//!
//! There is a turn for each connection. A caller that gets one at once does its work on a blocking thread. A thread that has
//! finished its work goes on with that of the caller that has waited longest. So no event loop and no thread has to wake up
//! between the two. After some works the thread returns to its runtime, which may have other work for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::runtime::Handle;

/// The most works that one thread does in a row.
const MOST_IN_A_ROW: usize = 64;

/// The work of one caller.
pub(super) trait Work: Send {
    /// Does the work, and keeps its result. Does not panic.
    fn perform(&mut self);

    /// Hands the result to the caller, if it is still there. Does not panic.
    fn answer(self: Box<Self>);

    /// The caller's runtime.
    fn runtime(&self) -> &Handle;
}

/// The turns of a pool, and the callers that wait for one, first come, first served.
pub(super) struct WaitQueue {
    capacity: usize,
    state: Mutex<QueueState>,
}

struct QueueState {
    /// Turns that nobody has.
    free: usize,
    /// Callers that wait. Some may not have added their work yet.
    waiting: usize,
    /// The work of waiting callers, by rising numbers.
    works: VecDeque<(u64, Box<dyn Work>)>,
    next_number: u64,
}

/// How a caller enters the queue.
pub(super) enum Entry {
    /// It has its turn at once.
    Turn(Turn),
    /// It waits.
    Waits(QueuePosition),
}

/// How the work of a caller that waits goes on.
pub(super) enum Added {
    /// The caller has its turn by now.
    Turn(Turn, Box<dyn Work>),
    /// The work will be done by a thread that finishes other work.
    Waits(QueuePosition),
}

impl WaitQueue {
    /// A queue with this many turns, in which at most `capacity` callers wait.
    pub(super) fn new(turns: usize, capacity: usize) -> Arc<Self> {
        Arc::new(Self {
            capacity,
            state: Mutex::new(QueueState {
                free: turns,
                waiting: 0,
                works: VecDeque::new(),
                next_number: 0,
            }),
        })
    }

    /// Takes a turn or, if there is none, a position; `None` if the queue is full.
    pub(super) fn enter(queue: &Arc<Self>) -> Option<Entry> {
        let mut state = queue.lock();
        if state.free > 0 {
            state.free -= 1;
            return Some(Entry::Turn(Turn::of(queue)));
        }
        if state.waiting >= queue.capacity {
            return None;
        }
        state.waiting += 1;
        Some(Entry::Waits(QueuePosition {
            queue: Arc::clone(queue),
            stage: Stage::Reserved,
        }))
    }

    /// The work of the caller that has waited longest. Without any, a turn becomes free.
    fn next(&self) -> Option<Box<dyn Work>> {
        let mut state = self.lock();
        if let Some((_, work)) = state.works.pop_front() {
            state.waiting -= 1;
            Some(work)
        } else {
            state.free += 1;
            None
        }
    }

    /// Nothing that may panic runs while this is locked.
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The turn of a caller. When it is dropped, it is that of the next caller, or free.
pub(super) struct Turn {
    queue: Arc<WaitQueue>,
    is_over: bool,
}

impl Turn {
    fn of(queue: &Arc<WaitQueue>) -> Self {
        Self {
            queue: Arc::clone(queue),
            is_over: false,
        }
    }

    /// Begins the work on a blocking thread of its runtime.
    pub(super) fn begin(self, work: Box<dyn Work>) {
        let runtime = work.runtime().clone();
        drop(runtime.spawn_blocking(move || self.perform(work)));
    }

    /// Does the work, and then that of callers that wait, until there are none or it was enough for one thread. Blocks.
    fn perform(mut self, work: Box<dyn Work>) {
        let mut next = Some(work);
        for _ in 0..MOST_IN_A_ROW {
            let Some(mut work) = next else {
                return;
            };
            {
                // The thread may be of another runtime.
                let _entered = work.runtime().clone().enter();
                work.perform();
            }
            // Before the answer: its caller may come again at once.
            next = self.queue.next();
            self.is_over = next.is_none();
            work.answer();
        }
        if let Some(work) = next {
            self.begin(work);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.is_over {
            return;
        }
        // The runtime has ended before its thread could begin. Callers of other runtimes may wait.
        while let Some(work) = self.queue.next() {
            let queue = Arc::clone(&self.queue);
            let thread = thread::Builder::new().name("database-work".to_owned());
            if thread.spawn(move || Self::of(&queue).perform(work)).is_ok() {
                return;
            }
            // Without a thread, the work was dropped, and its caller has its answer.
        }
    }
}

/// A position in the queue, until it is dropped or its work is taken.
pub(super) struct QueuePosition {
    queue: Arc<WaitQueue>,
    stage: Stage,
}

enum Stage {
    /// The work is not added yet.
    Reserved,
    /// The number of the work.
    Added(u64),
    Left,
}

impl QueuePosition {
    /// Adds the work of the caller.
    pub(super) fn add(mut self, work: Box<dyn Work>) -> Added {
        let mut state = self.queue.lock();
        if state.free > 0 {
            state.free -= 1;
            drop(state);
            return Added::Turn(Turn::of(&self.queue), work);
        }
        let number = state.next_number;
        state.next_number += 1;
        state.works.push_back((number, work));
        drop(state);
        self.stage = Stage::Added(number);
        Added::Waits(self)
    }

    /// Leaves the queue. Returns false if a thread has taken the work.
    pub(super) fn leave(&mut self) -> bool {
        let stage = std::mem::replace(&mut self.stage, Stage::Left);
        let mut queue = self.queue.lock();
        let removed = match stage {
            Stage::Reserved => None,
            Stage::Added(number) => {
                let index = (queue.works).binary_search_by_key(&number, |(number, _)| *number);
                let removed = index.ok().and_then(|index| queue.works.remove(index));
                if removed.is_none() {
                    return false;
                }
                removed
            }
            Stage::Left => return false,
        };
        queue.waiting -= 1;
        // Dropped while the queue is not locked.
        drop(queue);
        drop(removed);
        true
    }
}

impl Drop for QueuePosition {
    fn drop(&mut self) {
        self.leave();
    }
}
