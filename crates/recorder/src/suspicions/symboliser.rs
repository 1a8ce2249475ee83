//! The thread that symbolises captured stacks, and writes the log lines that wait for that.
//!
//! A first look-up takes 150 to 400 ms and memory for the debug information. The thread starts with a task, and ends when
//! it had none for ten seconds; then the memory is free again. One thread serves all monitorings of a process.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use super::frames::Frames;

/// The most tasks that wait.
const MOST_TASKS: usize = 1024;

/// How long the thread waits for a task before it ends.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the thread does next.
pub(super) type Task = Box<dyn FnOnce(&mut Frames) + Send>;

static TASKS: Mutex<Tasks> = Mutex::new(Tasks {
    waiting: VecDeque::new(),
    is_served: false,
});
static ADDED: Condvar = Condvar::new();

struct Tasks {
    waiting: VecDeque<Task>,
    /// Whether the thread runs.
    is_served: bool,
}

fn lock() -> MutexGuard<'static, Tasks> {
    TASKS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a task on the thread, in the order in which tasks are added. Returns it if too many wait, or if the thread cannot be
/// started.
pub(super) fn run_later(task: Task) -> Result<(), Task> {
    let mut tasks = lock();
    if tasks.waiting.len() >= MOST_TASKS {
        return Err(task);
    }
    if !tasks.is_served {
        let name = "vitals-lines".to_owned();
        if thread::Builder::new().name(name).spawn(serve).is_err() {
            return Err(task);
        }
        tasks.is_served = true;
    }
    tasks.waiting.push_back(task);
    ADDED.notify_one();
    Ok(())
}

fn serve() {
    let mut frames = Frames::default();
    while let Some(task) = next() {
        // A task that panics has logged nothing. The others must not wait for it.
        drop(catch_unwind(AssertUnwindSafe(|| task(&mut frames))));
    }
}

/// Waits for a task. `None` if there was none for some time: the thread ends.
fn next() -> Option<Task> {
    let is_idle = |tasks: &mut Tasks| tasks.waiting.is_empty();
    let waited = ADDED.wait_timeout_while(lock(), PATIENCE, is_idle);
    let (mut tasks, _) = waited.unwrap_or_else(PoisonError::into_inner);
    let next = tasks.waiting.pop_front();
    tasks.is_served = next.is_some();
    next
}
