//! The steps of a shutdown. No request that has begun is lost, and a last scrape can count them all.
//!
//! 1. `/readyz` answers 503, and event streams end. Everything else continues for `--drain-delay`, so that load
//!    balancers notice.
//! 2. The public listener closes. Requests in flight finish, and their answers close their connections. An idle
//!    connection stays open a little longer, because a request may be on its way.
//! 3. The ops listener closes. Its open connections may scrape a little longer: by now everything is counted.
//! 4. Metrics are pushed a last time, where they are pushed at all.
//! 5. The file of an SQLite database gets what only its log has.
//!
//! Where both share one listener, it closes last. Until the requests in flight have finished, it rejects new requests,
//! except those for the ops endpoints.

use std::{
    io,
    pin::pin,
    time::{Duration, Instant},
};

use actix_server::ServerHandle;
use actix_vitals::Vitals;
use actix_web::rt::task::spawn_blocking;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{sleep, timeout},
};

use super::{connection::Drain, intake::Intake, store::Store, supervisor};

/// How long an idle connection stays open for a request that may be on its way.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// How long the last push of metrics may take.
const LAST_PUSH: Duration = Duration::from_secs(5);

/// How long the completion of the database file may take. The supervisor's margin has room for it.
const COMPLETION: Duration = Duration::from_secs(2);

/// How long a listener may take to close: its thread has to wake up.
const CLOSING: Duration = Duration::from_millis(50);

/// The interval at which the number of requests in flight is read.
const TICK: Duration = Duration::from_millis(10);

/// Signals within this time are one. `timeout` and some supervisors signal the process and then its group, so that the process
/// gets the signal twice.
const ONE_SIGNAL: Duration = Duration::from_millis(250);

/// SIGXFSZ, which Tokio has no name for. The number is the same on every platform that Tokio supports.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// The signals that end the service.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Handled so that it does not end the process: writing to a file at its size limit then fails with an error.
    _file_size_exceeded: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            _file_size_exceeded: signal(SignalKind::from_raw(FILE_SIZE_EXCEEDED))?,
        })
    }

    /// Waits for a second signal, after the first has just come.
    pub(super) async fn again(&mut self) {
        let first = Instant::now();
        loop {
            self.next().await;
            if first.elapsed() >= ONE_SIGNAL {
                return;
            }
        }
    }

    /// Waits for the next signal and returns its name.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The handles that end one running listener.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) workers: ServerHandle,
    pub(super) drain: Drain,
}

impl Serving {
    /// Closes the listener and waits until its connections have ended.
    ///
    /// With `closes_after_answer`, each connection ends with its next answer. Without, it may be used until
    /// [`LAST_REQUEST`] has passed.
    async fn end(self, closes_after_answer: bool) {
        let mut stopped = pin!(self.workers.stop(true));
        if closes_after_answer {
            // The listener closes first, or a client whose connection ends would connect again.
            if timeout(CLOSING, &mut stopped).await.is_ok() {
                return;
            }
            self.drain.close_after_answer();
        }
        if timeout(LAST_REQUEST, &mut stopped).await.is_err() {
            self.drain.close_idle();
            stopped.await;
        }
    }
}

/// Everything that a shutdown ends.
#[derive(Debug)]
pub(super) struct Shutdown {
    pub(super) vitals: Vitals,
    /// The listener of the API.
    pub(super) public: Serving,
    /// The ops listener, if there is one.
    pub(super) ops: Option<Serving>,
    pub(super) store: Store,
    /// Counts the requests to the API that are in flight.
    pub(super) intake: Intake,
    /// How long to keep serving first.
    pub(super) delay: Duration,
    /// How long requests in flight may take after that.
    pub(super) timeout: Duration,
}

impl Shutdown {
    /// Carries out all steps.
    pub(super) async fn run(self) {
        let longest = self.delay.saturating_add(self.timeout);
        supervisor::stopping(longest.saturating_add(LAST_PUSH));
        self.vitals.drain();
        sleep(self.delay).await;
        let (limit, vitals, store) = (self.timeout, self.vitals.clone(), self.store.clone());
        let ended = timeout(limit, self.finish()).await;
        push_last(vitals.clone()).await;
        // A disk that takes longer than this leaves the log as it is, which the next start reads.
        let complete = spawn_blocking(move || store.complete_file(&vitals));
        let _completed = timeout(COMPLETION, complete).await;
        if ended.is_ok() {
            tracing::info!("stopped");
        } else {
            tracing::warn!(timeout = ?limit, "stopped with requests in flight, which took too long");
        }
    }

    async fn finish(self) {
        if self.ops.is_none() {
            self.public.drain.close_after_answer();
            self.intake.close();
            while self.intake.unanswered() > 0 {
                sleep(TICK).await;
            }
        }
        self.public.end(true).await;
        if let Some(ops) = self.ops {
            // A scraper may use its open connection until the end.
            ops.end(false).await;
        }
    }
}

/// Pushes the final metrics, where metrics are pushed.
async fn push_last(vitals: Vitals) {
    let push = spawn_blocking(move || vitals.finish_push(LAST_PUSH));
    // Queries that never return may hold every thread that the push could run on.
    let pushed = timeout(LAST_PUSH + CLOSING, push).await;
    if !matches!(pushed, Ok(Ok(true))) {
        tracing::warn!("the last push of metrics failed");
    }
}
