//! The workers and their event loops, and what the program was built from.
//!
//! Here: [`Runtime`], which each worker registers with, which reads the workers' numbers when somebody looks, and which
//! measures on each of them how late its event loop comes to what is due.
//!
//! What is known of a worker, and what is not:
//!
//! * Busy time is that of Tokio: everything between two times that the worker's thread had nothing to do. It is written
//!   whenever that comes, so of a loop that is blocked now it shows the blocked time afterwards.
//! * A worker of Actix runs its connections in a `LocalSet`, of whose tasks Tokio keeps no number. Its tasks are therefore
//!   those that Tokio knows of (spawned on the runtime itself) and the connections, one task each, that are told by
//!   [`Runtime::connection`]. Where Actix runs without a `System`, its connections are tasks of the runtime and known.
//!   Tasks that a handler spawns locally are not known anywhere.
//! * The lag is that of ticks which are due every 100 ms: how long after its time each was run. A loop that was blocked for
//!   a second owes ten ticks, and each is observed with its own delay; one late tick in place of them would hide how long
//!   the loop did not turn. Tokio's timer is exact to a millisecond, so an idle loop shows up to one.

use std::error::Error;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::ThreadId;
use std::time::Duration;

use tokio::runtime::{Handle, RuntimeFlavor, RuntimeMetrics};
use tokio::time::Instant;

use vitals_registry::{
    Collector, Descriptor, Family, FamilyDescription, FamilyRows, Histogram, ReadFamily,
    RegistryBuilder, Unit,
};

/// How often a tick is due.
const TICK: Duration = Duration::from_millis(100);
/// How many ticks are observed at most when the loop turns again: those of a minute and a half.
const MAX_OWED_TICKS: u32 = 1000;

const WORKERS: ReadFamily = ReadFamily::gauge(
    "runtime_workers",
    Unit::None,
    "Workers whose event loops serve requests; fewer than configured, one has died.",
);
const BUSY: ReadFamily = ReadFamily::counter(
    "runtime_worker_busy_seconds_total",
    Unit::Seconds,
    "Time that each worker's event loop has been doing something; at a rate near 1, requests queue up behind it.",
)
.labels(&["worker"]);
const TASKS: ReadFamily = ReadFamily::gauge(
    "runtime_worker_tasks",
    Unit::None,
    "Tasks alive on each worker, one for each connection among them; unevenly spread, so is the load.",
)
.labels(&["worker"]);
const BUILD: ReadFamily = ReadFamily::gauge(
    "vitals_build_info",
    Unit::None,
    "Always 1; the labels say which version runs, from which revision of the source, and how it was compiled.",
)
.labels(&["version", "revision", "rustc", "profile"]);

/// The workers of a server; cheap to clone. It is its own collector.
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
    /// The lowest that was free: a worker that takes another's place takes its number.
    index: usize,
    thread: ThreadId,
    metrics: RuntimeMetrics,
    tasks: Tasks,
    turned: Arc<Turned>,
}

/// When a worker's event loop last turned, to the tick.
#[derive(Debug)]
struct Turned {
    start: Instant,
    /// Milliseconds after the start.
    last: AtomicU64,
}

impl Turned {
    fn now() -> Self {
        Self {
            start: Instant::now(),
            last: AtomicU64::new(0),
        }
    }

    fn renew(&self) {
        let since_start = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(since_start, Ordering::Relaxed);
    }

    fn elapsed(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.start.elapsed().saturating_sub(last)
    }
}

#[derive(Debug)]
enum Tasks {
    /// In a `LocalSet`, where connections must be told.
    Local(Arc<AtomicUsize>),
    /// In the runtime, together with our own.
    Counted,
}

impl Runtime {
    /// Declares the families, with `latency_buckets` (in seconds) for the histogram.
    pub fn declare(registry: &mut RegistryBuilder, latency_buckets: &[f64]) -> Self {
        let lag_seconds = registry.histogram(
            Descriptor::new(
                "runtime_event_loop_lag_seconds",
                "How late each worker's event loop came to a tick that was due: the wait that every request adds to its own time, up to 1 ms of it being the timer's.",
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

    /// How late the event loops are.
    pub fn lag_seconds(&self) -> &Family<Histogram, 0> {
        &self.inner.lag_seconds
    }

    /// Registers the worker whose thread this is, until its event loop ends. Called again on the same thread, it does
    /// nothing; so it does outside of a single-threaded Tokio runtime, where there is no worker.
    pub fn register_worker(&self) {
        let Ok(handle) = Handle::try_current() else {
            return;
        };
        if handle.runtime_flavor() != RuntimeFlavor::CurrentThread {
            return;
        }
        // Actix keeps its own event loop on threads with an arbiter.
        let local = actix_rt::Arbiter::try_current().is_some();
        let Some(registration) = self.register(handle.metrics(), local) else {
            return;
        };
        let probe = probe(self.inner.lag_seconds.get(), registration);
        if local {
            // Among the tasks of the connections, to wait as long as they do.
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
        // They are in the order of their index: the first gap, or the end.
        let index = workers
            .iter()
            .enumerate()
            .position(|(position, worker)| worker.index != position)
            .unwrap_or(workers.len());
        let turned = Arc::new(Turned::now());
        workers.push(WorkerLoop {
            index,
            thread,
            metrics,
            tasks: if local {
                Tasks::Local(Arc::default())
            } else {
                Tasks::Counted
            },
            turned: Arc::clone(&turned),
        });
        workers.sort_unstable_by_key(|worker| worker.index);
        Some(Registration {
            inner: Arc::downgrade(&self.inner),
            thread,
            turned,
        })
    }

    /// For how long the event loop that is stuck longest has not turned, to the tick; `None` without any worker.
    pub fn longest_stall(&self) -> Option<Duration> {
        let workers = self.inner.workers();
        workers.iter().map(|worker| worker.turned.elapsed()).max()
    }

    /// Tells of a connection that this worker serves, until the answer is dropped. To be kept with the connection, from
    /// `HttpServer::on_connect`.
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
            // The probe is one of them.
            Tasks::Counted => known.saturating_sub(1),
        }
    }
}

/// A connection being served; it counts as a task of its worker until it is dropped.
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

/// Kept by the probe, which is dropped together with the event loop of its worker.
struct Registration {
    inner: Weak<RuntimeInner>,
    thread: ThreadId,
    turned: Arc<Turned>,
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

async fn probe(lag_seconds: Arc<Histogram>, registration: Registration) {
    let mut due = Instant::now() + TICK;
    // Without anybody left to read it, there is nothing to measure.
    while registration.inner.strong_count() > 0 {
        tokio::time::sleep_until(due).await;
        registration.turned.renew();
        due = observe_ticks(&lag_seconds, due, Instant::now());
    }
}

/// Observes the tick that was due and those that have become due since; the answer is when the next one is.
fn observe_ticks(lag_seconds: &Histogram, mut due: Instant, now: Instant) -> Instant {
    for _ in 0..MAX_OWED_TICKS {
        lag_seconds.observe(now.saturating_duration_since(due).as_secs_f64());
        due += TICK;
        if due > now {
            return due;
        }
    }
    now + TICK
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
