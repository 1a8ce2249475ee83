//! The push: a thread that reads the registry and the kept requests at a fixed interval and sends what it reads.
//!
//! Metrics are cumulative, so a push that fails is not kept: the next one contains it. Traces that were not delivered are
//! sent with the next push, as long as their requests are kept. A push is retried until the next one is due. The last push is
//! made when the service ends.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use ureq::http::StatusCode;
use vitals_recorder::collection::{Collection, Enter};
use vitals_registry::{Clock, Counter, Descriptor, Family, Registry, RegistryBuilder};

use crate::client::{Attempt, Client, Reason};
use crate::message::{Origin, encode};
use crate::retry::Backoff;
use crate::settings::{LONGEST_WAIT, OtlpError, OtlpSettings, Transport};
use crate::signal::Signal;

/// The longest wait of a push for the collectors.
const MOST_PATIENCE: Duration = Duration::from_secs(5);

/// The push's own family.
#[derive(Clone, Debug)]
pub struct PushFamilies {
    pushes: Family<Counter, 2>,
}

impl PushFamilies {
    /// Declares the family. Each outcome has a series from the start.
    pub fn declare(registry: &mut RegistryBuilder) -> Self {
        let pushes = registry.counter(Descriptor::new(
            "vitals_push_total",
            "Pushes to the OTLP receiver of all metrics, or of the traces of newly kept requests, by outcome: success, partial (the receiver rejected some data points or spans), rejected (by the receiver) or failed (not delivered, after retries).",
            ["signal", "outcome"],
        ));
        for signal in Signal::ALL {
            for outcome in Outcome::ALL {
                pushes.series([signal.label(), outcome.as_str()]);
            }
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
/// let push = OtlpPush::start(&settings, &registry, &families, clock, None, None)?;
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
    /// collectors are read in. Without a source of `traces`, none are pushed.
    pub fn start(
        settings: &OtlpSettings,
        registry: &Registry,
        families: &PushFamilies,
        clock: Clock,
        enter: Option<Enter>,
        traces: Option<TraceSource>,
    ) -> Result<Self, OtlpError> {
        let channel = |transport| Channel::new(transport, families);
        let metrics = settings.metrics.as_ref().map(channel).transpose()?;
        let sent = settings.traces.as_ref().map(channel).transpose()?;
        let (finish, commands) = mpsc::channel();
        let [started] = registry.read_levels(["process_start_time_seconds"]);
        let started = started.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
        let end = Arc::new(End::default());
        let pusher = Pusher {
            metrics,
            traces: sent.zip(traces),
            registry: registry.clone(),
            enter,
            origin: Origin {
                resource: settings.resource(),
                clock,
                started: started.unwrap_or_else(clock),
            },
            interval: settings.interval,
            timer: Timer {
                commands,
                grace: settings.grace(),
                first_backoff: settings.first_backoff,
                last_deadline: None,
                not_before: None,
            },
            collection: Collection::default(),
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
        let limit = limit.min(LONGEST_WAIT);
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

/// The requests whose traces are pushed.
#[derive(Debug)]
pub struct TraceSource(pub(crate) Box<dyn Traces>);

/// Encodes traces in bounded messages, each of them once.
pub(crate) trait Traces: fmt::Debug + Send {
    /// The next message, if there is one. It is the same until [`pass`](Self::pass) is called. `all` asks for the requests
    /// that have just ended, too.
    fn next(&mut self, resource: &[KeyValue], all: bool) -> Option<Vec<u8>>;

    /// Goes on to the message after the last.
    fn pass(&mut self);
}

/// How the delivery of one request, or of a whole push, ended.
type Delivery = (Outcome, Option<Reason>);

/// The state of the thread.
struct Pusher {
    metrics: Option<Channel>,
    traces: Option<(Channel, TraceSource)>,
    registry: Registry,
    enter: Option<Enter>,
    origin: Origin,
    interval: Duration,
    timer: Timer,
    collection: Collection,
}

impl Pusher {
    fn run(mut self, ending: &Ending) {
        let interval = self.interval;
        for channel in (self.metrics.iter()).chain(self.traces.iter().map(|(traces, _)| traces)) {
            let (signal, receiver) = (channel.signal(), channel.client.origin());
            tracing::info!(receiver, ?interval, "{signal} are pushed");
        }
        let mut next = Instant::now();
        while self.timer.wait_until(next) {
            // Intervals that have passed during a push are left out.
            next = (next + self.interval).max(Instant::now());
            self.push(next, false);
            if let Some(not_before) = self.timer.not_before.take() {
                next = next.max(not_before);
            }
        }
        let deadline = self.timer.last_deadline.unwrap_or_else(Instant::now);
        let succeeded = self.push(deadline, true);
        ending.announce(succeeded);
    }

    /// Pushes metrics and traces once. Returns whether all were delivered.
    fn push(&mut self, deadline: Instant, is_last: bool) -> bool {
        let metrics = self.push_metrics(deadline);
        let traces = self.push_traces(deadline, is_last);
        [metrics, traces]
            .into_iter()
            .flatten()
            .all(|outcome| outcome == Outcome::Success)
    }

    /// Pushes all metrics, and counts that.
    fn push_metrics(&mut self, deadline: Instant) -> Option<Outcome> {
        let Self {
            metrics,
            registry,
            enter,
            origin,
            timer,
            collection,
            ..
        } = self;
        let channel = metrics.as_mut()?;
        let delivery = catch_unwind(AssertUnwindSafe(|| {
            let left = deadline.saturating_duration_since(Instant::now());
            let patience = (left / 2).min(MOST_PATIENCE);
            let collected = collection.collect(&registry.sources(), patience, enter.as_ref());
            let mut whole = (Outcome::Success, None);
            encode(registry, &collected, origin, &mut |message| {
                let delivery = channel.deliver(message, deadline, timer);
                let goes_on = matches!(delivery.0, Outcome::Success | Outcome::Partial);
                if delivery.0 != Outcome::Success {
                    whole = delivery;
                }
                goes_on
            });
            whole
        }));
        Some(channel.finish(delivery.ok()))
    }

    /// Pushes the traces of the requests that were kept since the last push, and counts that. Returns `None` where there are
    /// none.
    fn push_traces(&mut self, deadline: Instant, is_last: bool) -> Option<Outcome> {
        let Self {
            traces,
            origin,
            timer,
            ..
        } = self;
        let (channel, source) = traces.as_mut()?;
        if channel.is_closed {
            return None;
        }
        let delivery = catch_unwind(AssertUnwindSafe(|| {
            let mut whole = None;
            while let Some(message) = source.0.next(&origin.resource, is_last) {
                let delivery = channel.deliver(message, deadline, timer);
                let has_no_path = delivery.1 == Some(Reason::Status(StatusCode::NOT_FOUND));
                // A receiver of metrics alone, such as Prometheus. One that has taken traces will have the path again.
                channel.is_closed = has_no_path && !channel.has_taken;
                let is_over = has_no_path || delivery.0 == Outcome::Failed;
                if whole.is_none() || delivery.0 != Outcome::Success {
                    whole = Some(delivery);
                }
                if is_over {
                    break;
                }
                source.0.pass();
            }
            whole
        }));
        match delivery {
            Ok(whole) => whole.map(|delivery| channel.finish(Some(delivery))),
            Err(_) => Some(channel.finish(None)),
        }
    }
}

/// The way to a receiver, and what was reported of it.
struct Channel {
    client: Client,
    pushes: Family<Counter, 2>,
    /// The failure that was logged last, until a push succeeds.
    reported: Option<Reason>,
    has_reported_rejections: bool,
    /// Whether the receiver has taken a request.
    has_taken: bool,
    /// Whether the receiver has no such path, so that nothing more is sent.
    is_closed: bool,
}

impl Channel {
    fn new(transport: &Transport, families: &PushFamilies) -> Result<Self, OtlpError> {
        Ok(Self {
            client: Client::new(transport)?,
            pushes: families.pushes.clone(),
            reported: None,
            has_reported_rejections: false,
            has_taken: false,
            is_closed: false,
        })
    }

    fn signal(&self) -> &'static str {
        self.client.signal().label()
    }

    /// Sends one request until it is taken, cannot be, or the time is over.
    fn deliver(&mut self, message: Vec<u8>, deadline: Instant, timer: &mut Timer) -> Delivery {
        let Ok(body) = self.client.compress(message) else {
            return (Outcome::Failed, Some(Reason::Encoding));
        };
        let mut backoff = Backoff::new(timer.first_backoff);
        loop {
            let (reason, after) = match self.client.send(&body) {
                Attempt::Accepted { rejected: 0 } => {
                    self.has_taken = true;
                    return (Outcome::Success, None);
                }
                Attempt::Accepted { rejected } => {
                    self.report_rejections(rejected);
                    return (Outcome::Partial, None);
                }
                Attempt::Rejected(reason) => return (Outcome::Rejected, Some(reason)),
                Attempt::Failed(reason) => return (Outcome::Failed, Some(reason)),
                Attempt::Retryable { reason, after } => (reason, after),
            };
            // A receiver that asks for no wait gets one all the same.
            let pause = backoff.next();
            let again = Instant::now() + after.map_or(pause, |after| after.max(pause));
            if again >= deadline {
                // The other signal's receiver may have asked for a longer wait.
                timer.not_before = timer.not_before.max(after.map(|_| again));
                return (Outcome::Failed, Some(reason));
            }
            if !timer.wait(again) {
                return (Outcome::Failed, Some(reason));
            }
        }
    }

    /// Counts and reports how a push ended. `None` means that it panicked.
    fn finish(&mut self, delivery: Option<Delivery>) -> Outcome {
        let (outcome, reason) = delivery.unwrap_or((Outcome::Failed, Some(Reason::Encoding)));
        self.report(reason);
        self.pushes.series([self.signal(), outcome.as_str()]).inc();
        outcome
    }

    /// Logs a failure where it differs from the one before, and the end of failures.
    fn report(&mut self, reason: Option<Reason>) {
        if self.reported == reason {
            return;
        }
        let (signal, receiver) = (self.signal(), self.client.origin());
        match &reason {
            _ if self.is_closed => {
                tracing::info!(receiver, "the receiver takes no {signal}: none are pushed");
            }
            Some(reason) => tracing::warn!(receiver, %reason, "{signal} cannot be pushed"),
            None => tracing::info!(receiver, "{signal} are pushed again"),
        }
        self.reported = reason;
    }

    /// Logs, once, that the receiver rejects data points or spans. Its own log says which, and why.
    fn report_rejections(&mut self, rejected: i64) {
        if !self.has_reported_rejections {
            self.has_reported_rejections = true;
            let (signal, receiver) = (self.signal(), self.client.origin());
            tracing::warn!(
                receiver,
                rejected,
                "the receiver rejected a part of the {signal}"
            );
        }
    }
}

/// When the thread does what, and whether it is to finish.
struct Timer {
    commands: Receiver<Instant>,
    /// How long the last push may take where nobody waits for it.
    grace: Duration,
    first_backoff: Duration,
    /// By when the last push must be over, once the push is to finish.
    last_deadline: Option<Instant>,
    /// When the receiver wants to be asked again.
    not_before: Option<Instant>,
}

impl Timer {
    /// Waits. Returns false once the push is to finish.
    fn wait_until(&mut self, end: Instant) -> bool {
        if self.last_deadline.is_some() {
            return false;
        }
        let wait = end.saturating_duration_since(Instant::now());
        match self.commands.recv_timeout(wait) {
            Ok(deadline) => self.last_deadline = Some(deadline),
            Err(RecvTimeoutError::Disconnected) => {
                self.last_deadline = Some(Instant::now() + self.grace);
            }
            Err(RecvTimeoutError::Timeout) => return true,
        }
        false
    }

    /// Waits between two attempts. Returns false if the push is to finish meanwhile, unless it does already.
    fn wait(&mut self, end: Instant) -> bool {
        if self.last_deadline.is_none() {
            return self.wait_until(end);
        }
        thread::sleep(end.saturating_duration_since(Instant::now()));
        true
    }
}

#[cfg(test)]
mod tests;
