//! The way from a signal to the end, so that nothing that was begun is lost and the last of it can be seen.
//!
//! In order:
//!
//! 1. `/readyz` answers 503, and streams end. For `--drain-delay` all else goes on, for those who read that.
//! 2. The public listener closes. Requests in flight finish; their answers end their connections. A connection that
//!    waits for a request waits a little longer, as one may be on its way, and closes then.
//! 3. The operators' listener closes. Connections that are kept alive may scrape a little longer: now all is counted.
//!
//! Where the operators share the public listener, that closes last; until the requests in flight have finished, it turns
//! away new ones that are not the operators'.

use std::io;
use std::pin::pin;
use std::time::Duration;

use actix_server::ServerHandle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use super::connection::Drain;
use super::intake::Intake;
use super::supervisor;
use actix_vitals::Vitals;

/// How long a connection still waits for a request that may be on its way.
const LAST_REQUEST: Duration = Duration::from_millis(500);

/// How long a listener may take to close: a thread has to wake up for it.
const CLOSING: Duration = Duration::from_millis(50);

/// How often it is asked whether the requests in flight have finished.
const TICK: Duration = Duration::from_millis(10);

/// SIGXFSZ, for which Tokio has no name; the same number on every platform that it runs on.
const FILE_SIZE_EXCEEDED: i32 = 25;

/// The signals that ask the service to end.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Taken so that it does not kill: a file at its limit is an error of whoever writes to it.
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

    /// Waits for the next, and names it.
    pub(super) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// A listener that serves, and how it ends.
#[derive(Debug)]
pub(super) struct Serving {
    /// Its workers.
    pub(super) workers: ServerHandle,
    /// Its connections.
    pub(super) drain: Drain,
}

impl Serving {
    /// Closes the listener, and waits until its connections have ended. Those that take their leave end with their next
    /// answer; the others, with the last that was on its way.
    async fn end(self, with_leave: bool) {
        let mut stopped = pin!(self.workers.stop(true));
        if with_leave {
            // Or who is told to leave would come back by the listener while it closes.
            if timeout(CLOSING, &mut stopped).await.is_ok() {
                return;
            }
            self.drain.part();
        }
        if timeout(LAST_REQUEST, &mut stopped).await.is_err() {
            self.drain.close();
            stopped.await;
        }
    }
}

/// All that has to end.
#[derive(Debug)]
pub(super) struct Shutdown {
    /// What tells of it.
    pub(super) vitals: Vitals,
    /// The listener of the API.
    pub(super) public: Serving,
    /// The listener of the operators, if it is another one.
    pub(super) operators: Option<Serving>,
    /// What the API takes in.
    pub(super) intake: Intake,
    /// How long to go on serving.
    pub(super) delay: Duration,
    /// How long requests in flight may take, after that.
    pub(super) timeout: Duration,
}

impl Shutdown {
    /// Ends it all.
    pub(super) async fn run(self) {
        supervisor::stopping(self.delay.saturating_add(self.timeout));
        self.vitals.drain();
        sleep(self.delay).await;
        let limit = self.timeout;
        if timeout(limit, self.finish()).await.is_ok() {
            tracing::info!("stopped");
        } else {
            tracing::warn!(timeout = ?limit, "stopped with requests in flight, which took too long");
        }
    }

    async fn finish(self) {
        if self.operators.is_none() {
            self.public.drain.part();
            self.intake.close();
            while self.intake.unanswered() > 0 {
                sleep(TICK).await;
            }
        }
        self.public.end(true).await;
        if let Some(operators) = self.operators {
            // Whoever watches may go on to the end.
            operators.end(false).await;
        }
    }
}
