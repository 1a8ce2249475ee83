//! The push: a thread that reads the registry at a fixed interval and sends what it reads.
//!
//! Metrics are cumulative, so a push that fails is not kept: the next one contains it. A push is retried until the next one
//! is due. The last push is made when the service ends.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vitals_recorder::collection::{Collection, Enter};
use vitals_registry::{Clock, Counter, Descriptor, Family, Registry, RegistryBuilder};

use crate::client::{Attempt, Client, Reason};
use crate::message::{Origin, encode};
use crate::retry::Backoff;
use crate::settings::{OtlpError, OtlpSettings};

/// The longest wait of a push for the collectors.
const MOST_PATIENCE: Duration = Duration::from_secs(5);

/// The push's own family.
#[derive(Clone, Debug)]
pub struct PushFamilies {
    pushes: Family<Counter, 1>,
}

impl PushFamilies {
    /// Declares the family. Each outcome has a series from the start.
    pub fn declare(registry: &mut RegistryBuilder) -> Self {
        let pushes = registry.counter(Descriptor::new(
            "vitals_push_total",
            "Pushes of all metrics to the OTLP receiver, by outcome: success, partial (the receiver rejected some data points), rejected (by the receiver) or failed (not delivered, after retries).",
            ["outcome"],
        ));
        for outcome in Outcome::ALL {
            pushes.series([outcome.as_str()]);
        }
        Self { pushes }
    }
}

/// How a push ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Success,
    Partial,
    Rejected,
    Failed,
}

impl Outcome {
    const ALL: [Self; 4] = [Self::Success, Self::Partial, Self::Rejected, Self::Failed];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Partial => "partial",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
        }
    }
}

/// A running push. When it is dropped, it is finished without a wait.
///
/// ```no_run
/// use std::time::{Duration, SystemTime, UNIX_EPOCH};
///
/// use vitals_otlp::{OtlpPush, OtlpSettings, PushFamilies};
/// use vitals_registry::Registry;
///
/// fn clock() -> Duration {
///     SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut registry = Registry::builder(clock);
/// let families = PushFamilies::declare(&mut registry);
/// let registry = registry.build()?;
/// let settings = OtlpSettings::new("http://collector:4318")?;
/// let push = OtlpPush::start(&settings, &registry, families, clock, None)?;
/// // At the end of the service:
/// push.finish(Duration::from_secs(5));
/// # Ok(())
/// # }
/// ```
pub struct OtlpPush {
    /// Sends the time by which the last push must be over.
    finish: Sender<Instant>,
    end: Arc<End>,
}

impl fmt::Debug for OtlpPush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpPush").finish_non_exhaustive()
    }
}

/// The end of the thread.
#[derive(Debug, Default)]
struct End {
    /// Whether the last push succeeded; `None` while the thread runs.
    last: Mutex<Option<bool>>,
    changed: Condvar,
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Option<bool>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OtlpPush {
    /// Reads the certificates and starts the thread, which makes the first push at once. `enter` is the context that
    /// collectors are read in.
    pub fn start(
        settings: &OtlpSettings,
        registry: &Registry,
        families: PushFamilies,
        clock: Clock,
        enter: Option<Enter>,
    ) -> Result<Self, OtlpError> {
        let (finish, commands) = mpsc::channel();
        let [started] = registry.read_levels(["process_start_time_seconds"]);
        let started = started.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let end = Arc::new(End::default());
        let pusher = Pusher {
            client: Client::new(settings)?,
            registry: registry.clone(),
            families,
            enter,
            origin: Origin {
                resource: settings.resource(),
                clock,
                started: started.unwrap_or_else(clock),
            },
            interval: settings.interval,
            timeout: settings.timeout,
            first_backoff: settings.first_backoff,
            commands,
            last_deadline: None,
            not_before: None,
            collection: Collection::default(),
            reported: None,
            has_reported_rejections: false,
        };
        let ending = Ending(Arc::clone(&end));
        let thread = thread::Builder::new().name("vitals-push".to_owned());
        thread
            .spawn(move || pusher.run(&ending))
            .map_err(OtlpError::Thread)?;
        Ok(Self { finish, end })
    }

    /// Pushes once more and ends the thread. Waits for at most `limit`, and returns whether the last push succeeded in that
    /// time. Blocks: within async code, call it on a thread that may block.
    ///
    /// Calling it again waits for the same last push.
    pub fn finish(&self, limit: Duration) -> bool {
        // Fails where the thread has ended.
        let _ = self.finish.send(Instant::now() + limit);
        let last = self.end.lock();
        let waited = self
            .end
            .changed
            .wait_timeout_while(last, limit, |last| last.is_none());
        let (last, _) = waited.unwrap_or_else(PoisonError::into_inner);
        last.unwrap_or(false)
    }
}

/// Announces the end of the thread, also where it panics.
struct Ending(Arc<End>);

impl Ending {
    fn announce(&self, succeeded: bool) {
        self.0.lock().get_or_insert(succeeded);
        self.0.changed.notify_all();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.announce(false);
    }
}

/// The state of the thread.
struct Pusher {
    client: Client,
    registry: Registry,
    families: PushFamilies,
    enter: Option<Enter>,
    origin: Origin,
    interval: Duration,
    timeout: Duration,
    first_backoff: Duration,
    commands: Receiver<Instant>,
    /// By when the last push must be over, once the push is to finish.
    last_deadline: Option<Instant>,
    /// When the receiver wants to be asked again.
    not_before: Option<Instant>,
    collection: Collection,
    /// The failure that was logged last, until a push succeeds.
    reported: Option<Reason>,
    has_reported_rejections: bool,
}

/// How the delivery of one request, or of a whole push, ended.
type Delivery = (Outcome, Option<Reason>);

impl Pusher {
    fn run(mut self, ending: &Ending) {
        let (origin, interval) = (self.client.origin(), self.interval);
        tracing::info!(receiver = origin, ?interval, "metrics are pushed");
        let mut next = Instant::now();
        while self.wait_until(next) {
            // Intervals that have passed during a push are left out.
            next = (next + self.interval).max(Instant::now());
            self.push(next);
            if let Some(not_before) = self.not_before.take() {
                next = next.max(not_before);
            }
        }
        let deadline = self.last_deadline.unwrap_or_else(Instant::now);
        let succeeded = self.push(deadline) == Outcome::Success;
        ending.announce(succeeded);
    }

    /// Waits. Returns false once the push is to finish.
    fn wait_until(&mut self, end: Instant) -> bool {
        if self.last_deadline.is_some() {
            return false;
        }
        let wait = end.saturating_duration_since(Instant::now());
        match self.commands.recv_timeout(wait) {
            Ok(deadline) => self.last_deadline = Some(deadline),
            Err(RecvTimeoutError::Disconnected) => {
                self.last_deadline = Some(Instant::now() + self.timeout);
            }
            Err(RecvTimeoutError::Timeout) => return true,
        }
        false
    }

    /// Pushes everything once, and counts that.
    fn push(&mut self, deadline: Instant) -> Outcome {
        let delivery = catch_unwind(AssertUnwindSafe(|| self.push_all(deadline)));
        let (outcome, reason) = delivery.unwrap_or((Outcome::Failed, Some(Reason::Encoding)));
        self.report(reason);
        self.families.pushes.series([outcome.as_str()]).inc();
        outcome
    }

    fn push_all(&mut self, deadline: Instant) -> Delivery {
        let left = deadline.saturating_duration_since(Instant::now());
        let patience = (left / 2).min(MOST_PATIENCE);
        let sources = self.registry.sources();
        let collected = (self.collection).collect(&sources, patience, self.enter.as_ref());
        let (registry, origin) = (self.registry.clone(), self.origin.clone());
        let mut whole = (Outcome::Success, None);
        encode(&registry, &collected, &origin, &mut |message| {
            let delivery = self.deliver(message, deadline);
            let goes_on = matches!(delivery.0, Outcome::Success | Outcome::Partial);
            if delivery.0 != Outcome::Success {
                whole = delivery;
            }
            goes_on
        });
        whole
    }

    /// Sends one request until it is taken, cannot be, or the time is over.
    fn deliver(&mut self, message: Vec<u8>, deadline: Instant) -> Delivery {
        let Ok(body) = self.client.compress(message) else {
            return (Outcome::Failed, Some(Reason::Encoding));
        };
        let mut backoff = Backoff::new(self.first_backoff);
        loop {
            let (reason, after) = match self.client.send(&body) {
                Attempt::Accepted { rejected: 0 } => return (Outcome::Success, None),
                Attempt::Accepted { rejected } => {
                    self.report_rejections(rejected);
                    return (Outcome::Partial, None);
                }
                Attempt::Rejected(reason) => return (Outcome::Rejected, Some(reason)),
                Attempt::Failed(reason) => return (Outcome::Failed, Some(reason)),
                Attempt::Retryable { reason, after } => (reason, after),
            };
            let again = Instant::now() + after.unwrap_or_else(|| backoff.next());
            if again >= deadline {
                self.not_before = after.map(|_| again);
                return (Outcome::Failed, Some(reason));
            }
            if !self.wait(again) {
                return (Outcome::Failed, Some(reason));
            }
        }
    }

    /// Waits between two attempts. Returns false if the push is to finish meanwhile, unless it does already.
    fn wait(&mut self, end: Instant) -> bool {
        if self.last_deadline.is_none() {
            return self.wait_until(end);
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
        true
    }

    /// Logs a failure where it differs from the one before, and the end of failures.
    fn report(&mut self, reason: Option<Reason>) {
        if self.reported == reason {
            return;
        }
        let receiver = self.client.origin();
        if let Some(reason) = &reason {
            tracing::warn!(receiver, %reason, "metrics cannot be pushed");
        } else {
            tracing::info!(receiver, "metrics are pushed again");
        }
        self.reported = reason;
    }

    /// Logs, once, that the receiver rejects data points. Its own log says which, and why.
    fn report_rejections(&mut self, rejected: i64) {
        if !self.has_reported_rejections {
            self.has_reported_rejections = true;
            let receiver = self.client.origin();
            tracing::warn!(
                receiver,
                rejected,
                "the receiver rejected data points of a push"
            );
        }
    }
}

#[cfg(test)]
mod tests;
