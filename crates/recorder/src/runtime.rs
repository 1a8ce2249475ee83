//! The workers and their event loops, and the build that runs.
//!
//! Each worker registers with [`Runtime`], which reads the workers' values at each scrape, and measures the lag of each
//! event loop.
//!
//! Limits of the values:
//!
//! * Busy time comes from Tokio: the time between two moments when the worker's thread had nothing to do. Tokio updates it
//!   at these moments. While a loop is blocked, its blocked time is not included yet.
//! * Actix runs connections as tasks of a `LocalSet`, which Tokio does not count. So the tasks are those of the runtime, plus
//!   the connections that [`Runtime::connection`] counts. If Actix runs without a `System`, its connections are tasks of the
//!   runtime. Tasks that a handler spawns locally are never counted.
//! * The lag is the delay of ticks that are due every 100 ms. A loop that was blocked for a second observes ten ticks, each
//!   with its own delay. One tick would hide for how long the loop was blocked. Tokio's timer has a resolution of one
//!   millisecond, so an idle loop shows a lag of up to 1 ms. While a loop has nothing to do, a tick stands for a second: see
//!   `lag`.

mod lag;

use std::{
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    thread::ThreadId,
    time::Duration,
};

use lag::LastTick;
pub(crate) use lag::rouse;
use tokio::runtime::{Handle, RuntimeFlavor, RuntimeMetrics};
use vitals_registry::{
    Collector, Descriptor, Family, FamilyDescription, FamilyRows, Histogram, ReadFamily,
    RegistryBuilder, Unit,
};

const WORKERS: ReadFamily = ReadFamily::gauge(
    "runtime_workers",
    Unit::None,
    "Workers whose event loops serve requests; if there are fewer than configured, one has died.",
);
const BUSY: ReadFamily = ReadFamily::counter(
    "runtime_worker_busy_seconds_total",
    Unit::Seconds,
    "Time that each worker's event loop was busy; at a rate near 1, requests wait for it.",
)
.labels(&["worker"]);
const TASKS: ReadFamily = ReadFamily::gauge(
    "runtime_worker_tasks",
    Unit::None,
    "Tasks on each worker, including one for each connection; an uneven number means an uneven load.",
)
.labels(&["worker"]);
const BUILD: ReadFamily = ReadFamily::gauge(
    "vitals_build_info",
    Unit::None,
    "Always 1; the labels are the version and the revision of Actix Vitals, the compiler and the build profile.",
)
.labels(&["version", "revision", "rustc", "profile"]);

/// The workers of a server, and the collector of their values. Cheap to clone; clones share the workers.
#[derive(Clone, Debug)]
pub struct Runtime {
    inner: Arc<RuntimeInner>,
}

#[derive(Debug)]
struct RuntimeInner {
    lag_seconds: Family<Histogram, 0>,
    workers: Mutex<Vec<WorkerLoop>>,
}

#[derive(Debug)]
struct WorkerLoop {
    /// The lowest free number, so that a worker which replaces another has its number.
    index: usize,
    thread: ThreadId,
    metrics: RuntimeMetrics,
    tasks: Tasks,
    last_tick: Arc<LastTick>,
}

#[derive(Debug)]
enum Tasks {
    /// Tasks of a `LocalSet`: the connections that were counted.
    Local(Arc<AtomicUsize>),
    /// Tasks of the runtime, which counts them together with our probe.
    Counted,
}

impl Runtime {
    /// Declares the family of the lag. `latency_buckets` are its classic buckets: upper bounds in seconds.
    pub fn declare(registry: &mut RegistryBuilder, latency_buckets: &[f64]) -> Self {
        let lag_seconds = registry.histogram(
            Descriptor::new(
                "runtime_event_loop_lag_seconds",
                "Delay of each worker's event loop, measured by a tick every 100 ms, or every second while it is idle: the time that each request waits for its worker. Up to 1 ms is the timer's.",
                [],
            )
            .unit(Unit::Seconds),
            latency_buckets,
        );
        Self {
            inner: Arc::new(RuntimeInner {
                lag_seconds,
                workers: Mutex::default(),
            }),
        }
    }

    /// The lag of all event loops.
    pub fn lag_seconds(&self) -> &Family<Histogram, 0> {
        &self.inner.lag_seconds
    }

    /// Registers this thread as a worker until its event loop ends.
    ///
    /// Does nothing on a thread that is registered already, and outside of a single-threaded Tokio runtime, because there is
    /// no worker.
    pub(crate) fn register_worker(&self) {
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        if handle.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return;
        }
        // Threads with an arbiter run connections in a `LocalSet`.
        let local = actix_rt::Arbiter::try_current().is_some();
        let Some(registration) = self.register(handle.metrics(), local) else {
            return;
        };
        let probe = lag::measure(self.inner.lag_seconds.get(), registration, handle.metrics());
        if local {
            // In the same queue as the connections, so that the probe waits as long as they do.
            tokio::task::spawn_local(probe);
        } else {
            handle.spawn(probe);
        }
    }

    fn register(&self, metrics: RuntimeMetrics, local: bool) -> Option<Registration> {
        let thread = std::thread::current().id();
        let mut workers = self.inner.workers();
        if workers.iter().any(|worker| worker.thread == thread) {
            return None;
        }
        // The workers are sorted by index. Take the first gap, or the end.
        let index = workers
            .iter()
            .enumerate()
            .position(|(position, worker)| worker.index != position)
            .unwrap_or(workers.len());
        let last_tick = Arc::new(LastTick::now());
        workers.push(WorkerLoop {
            index,
            thread,
            metrics,
            tasks: if local {
                Tasks::Local(Arc::default())
            } else {
                Tasks::Counted
            },
            last_tick: Arc::clone(&last_tick),
        });
        workers.sort_unstable_by_key(|worker| worker.index);
        Some(Registration {
            inner: Arc::downgrade(&self.inner),
            thread,
            last_tick,
        })
    }

    /// The number of this thread's worker, if it is registered.
    pub(crate) fn worker_of_this_thread(&self) -> Option<usize> {
        let thread = std::thread::current().id();
        let workers = self.inner.workers();
        let worker = workers.iter().find(|worker| worker.thread == thread);
        worker.map(|worker| worker.index)
    }

    /// Returns the longest time since an event loop last ran its tick; `None` without any worker.
    pub fn longest_stall(&self) -> Option<Duration> {
        let workers = self.inner.workers();
        workers
            .iter()
            .map(|worker| worker.last_tick.elapsed())
            .max()
    }

    /// Counts a connection as a task of this worker until the returned value is dropped. Call it in
    /// `HttpServer::on_connect`, and keep the value with the connection.
    pub fn connection(&self) -> ConnectionTask {
        let thread = std::thread::current().id();
        let workers = self.inner.workers();
        let tasks = workers
            .iter()
            .find(|worker| worker.thread == thread)
            .and_then(|worker| match &worker.tasks {
                Tasks::Local(connections) => Some(Arc::clone(connections)),
                Tasks::Counted => None,
            });
        if let Some(tasks) = &tasks {
            tasks.fetch_add(1, Ordering::Relaxed);
        }
        ConnectionTask { tasks }
    }
}

impl RuntimeInner {
    fn workers(&self) -> MutexGuard<'_, Vec<WorkerLoop>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerLoop {
    fn task_count(&self) -> usize {
        let known = self.metrics.num_alive_tasks();
        match &self.tasks {
            Tasks::Local(connections) => known + connections.load(Ordering::Relaxed),
            // Without the probe itself.
            Tasks::Counted => known.saturating_sub(1),
        }
    }
}

/// A connection that counts as a task of its worker until this is dropped.
#[derive(Debug)]
pub struct ConnectionTask {
    tasks: Option<Arc<AtomicUsize>>,
}

impl Drop for ConnectionTask {
    fn drop(&mut self) {
        if let Some(tasks) = &self.tasks {
            tasks.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Unregisters the worker when it is dropped. The probe owns it, and is dropped with the worker's event loop.
struct Registration {
    inner: Weak<RuntimeInner>,
    thread: ThreadId,
    last_tick: Arc<LastTick>,
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.upgrade() {
            inner
                .workers()
                .retain(|worker| worker.thread != self.thread);
        }
    }
}

impl Collector for Runtime {
    fn name(&self) -> &'static str {
        "runtime"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        [WORKERS, BUSY, TASKS, BUILD]
            .iter()
            .map(ReadFamily::describe)
            .collect()
    }

    fn is_cheap(&self) -> bool {
        true
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        let workers: Vec<(String, Duration, usize)> = self
            .inner
            .workers()
            .iter()
            .map(|worker| {
                let busy = worker.metrics.worker_total_busy_duration(0);
                (worker.index.to_string(), busy, worker.task_count())
            })
            .collect();
        rows.push(WORKERS.single(workers.len() as f64));
        rows.push(BUILD.series([(BUILT, 1.0)]));
        if workers.is_empty() {
            return Ok(());
        }
        let busy =
            |(index, busy, _): &(String, Duration, usize)| ([index.clone()], busy.as_secs_f64());
        let tasks =
            |(index, _, tasks): &(String, Duration, usize)| ([index.clone()], *tasks as f64);
        rows.push(BUSY.series(workers.iter().map(busy)));
        rows.push(TASKS.series(workers.iter().map(tasks)));
        Ok(())
    }
}

/// The values of the labels of `vitals_build_info`.
const BUILT: [&str; 4] = [
    env!("CARGO_PKG_VERSION"),
    env!("VITALS_REVISION"),
    env!("VITALS_RUSTC"),
    env!("VITALS_PROFILE"),
];

#[cfg(test)]
mod tests;
