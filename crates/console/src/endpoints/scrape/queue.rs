//! The queue of scrapes. They are served in rounds: one round at a time reads the collectors once, and encodes each requested
//! form once for all callers.

use std::{
    hint::black_box,
    io::{self, Write},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tokio::{runtime::Handle, sync::watch};

use super::{exposition::Exposition, exposition_memory::ExpositionMemory, packed::Packer};
use vitals_recorder::collection::{Collection, Enter};
use vitals_recorder::log_limit::LogLimit;
use vitals_recorder::memory::{AnswerMemory, AnswerMemoryExhausted};
use vitals_registry::{Collected, Encoding, Format, MediaType, NameFilter, Registry, Scrape};

/// Identifies an exposition. Callers that request the same form share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) format: MediaType,
    pub(super) encoding: Encoding,
    pub(super) names: NameFilter,
}

/// More than a round allocates. A failed allocation ends the process, so a round only begins if this much is free: the address
/// space may be limited (`ulimit -v`).
const ALLOCATED_BY_A_ROUND: usize = 32 * 1024 * 1024;

/// Whether this many bytes can be allocated. They are freed untouched.
fn can_allocate(bytes: usize) -> bool {
    let mut buffer = Vec::<u8>::new();
    let reserved = buffer.try_reserve_exact(bytes).is_ok();
    black_box(&buffer);
    reserved
}

/// Why there is no exposition.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScrapeError {
    /// No thread can be started.
    NoThread,
    /// The memory for answers is used up.
    NoMemory,
    /// The exposition could not be encoded. The log has the cause.
    Broken,
}

/// The result of a round for one form; `None` until the round is over.
type ScrapeResult = Option<Result<Arc<Exposition>, ScrapeError>>;

/// The queue of the scrapes of one registry.
pub(super) struct ScrapeQueue(Arc<ScrapeQueueInner>);

struct ScrapeQueueInner {
    registry: Registry,
    /// How long a round waits for all collectors.
    patience: Duration,
    memory: AnswerMemory,
    expositions: ExpositionMemory,
    failure_lines: LogLimit,
    next: Mutex<Next>,
    /// Signals that the next round is due, or that the queue was dropped.
    changed: Condvar,
}

/// The next round.
#[derive(Default)]
struct Next {
    /// The requested forms, each with its callers.
    waiting: Vec<WaitingScrape>,
    /// The runtime of the last caller.
    runtime: Option<Handle>,
    /// Whether the thread of the rounds runs. It ends when the [`ScrapeQueue`] is dropped.
    has_thread: bool,
    /// Whether the round may begin: callers that arrived together have joined.
    is_due: bool,
    /// Whether the queue was dropped.
    is_over: bool,
}

/// A form that callers wait for.
struct WaitingScrape {
    form: Form,
    result: watch::Sender<ScrapeResult>,
}

impl ScrapeQueue {
    /// A queue over a registry. Each round waits at most `patience` for all collectors. An exposition may be given
    /// up when it is older than `lifetime`.
    pub(super) fn new(
        registry: Registry,
        patience: Duration,
        lifetime: Duration,
        memory: AnswerMemory,
    ) -> Self {
        Self(Arc::new(ScrapeQueueInner {
            registry,
            patience,
            memory,
            expositions: ExpositionMemory::new(lifetime),
            failure_lines: LogLimit::new(),
            next: Mutex::default(),
            changed: Condvar::new(),
        }))
    }

    /// The registry that is scraped.
    pub(super) fn registry(&self) -> &Registry {
        &self.0.registry
    }

    /// Returns the exposition of the next round in this form.
    ///
    /// The current round may have read values before this call, so it cannot serve it: a scrape contains everything that was
    /// answered before it.
    pub(super) async fn expose(&self, form: Form) -> Result<Arc<Exposition>, ScrapeError> {
        if !can_allocate(ALLOCATED_BY_A_ROUND) {
            return Err(ScrapeError::NoMemory);
        }
        let mut result = self.join(form);
        // Scrapes that arrive at the same moment join this round.
        tokio::task::yield_now().await;
        self.start()?;
        match result.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(exposition)) => exposition.clone(),
            _ => Err(ScrapeError::Broken),
        }
    }

    fn join(&self, form: Form) -> watch::Receiver<ScrapeResult> {
        let mut next = self.0.lock_next();
        // Removes the forms whose callers have all given up.
        next.waiting.retain(|scrape| !scrape.result.is_closed());
        if let Some(scrape) = next.waiting.iter().find(|scrape| scrape.form == form) {
            return scrape.result.subscribe();
        }
        let (result, receiver) = watch::channel(None);
        next.waiting.push(WaitingScrape { form, result });
        receiver
    }

    /// Makes the next round begin when the current one is over.
    fn start(&self) -> Result<(), ScrapeError> {
        let mut next = self.0.lock_next();
        next.runtime = Handle::try_current().ok();
        if !next.has_thread {
            let inner = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("vitals-scrape".to_owned());
            if let Err(error) = thread.spawn(move || inner.serve_rounds()) {
                if let Some(line) = self.0.failure_lines.line() {
                    let left_out = line.left_out;
                    tracing::error!(%error, left_out, "no thread can be started for a scrape");
                }
                return Err(ScrapeError::NoThread);
            }
            next.has_thread = true;
        }
        next.is_due = !next.waiting.is_empty();
        self.0.changed.notify_one();
        Ok(())
    }
}

impl Drop for ScrapeQueue {
    fn drop(&mut self) {
        self.0.lock_next().is_over = true;
        self.0.changed.notify_one();
    }
}

impl ScrapeQueueInner {
    fn lock_next(&self) -> MutexGuard<'_, Next> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Serves one round after the other, until the queue is dropped.
    fn serve_rounds(&self) {
        let mut collection = Collection::default();
        while let Some((scrapes, runtime)) = self.next_round() {
            // A panic ends only this round. Its callers get an error.
            let round = AssertUnwindSafe(|| self.serve(scrapes, &mut collection, runtime.as_ref()));
            if catch_unwind(round).is_err()
                && let Some(line) = self.failure_lines.line()
            {
                tracing::error!(left_out = line.left_out, "a scrape panicked");
            }
        }
    }

    /// Waits for the next round. Returns `None` when the queue is dropped.
    fn next_round(&self) -> Option<(Vec<WaitingScrape>, Option<Handle>)> {
        let next = self.lock_next();
        let mut next = self
            .changed
            .wait_while(next, |next| !next.is_due && !next.is_over)
            .unwrap_or_else(PoisonError::into_inner);
        if next.is_over {
            return None;
        }
        next.is_due = false;
        Some((mem::take(&mut next.waiting), next.runtime.take()))
    }

    /// Serves one round.
    fn serve(
        &self,
        mut scrapes: Vec<WaitingScrape>,
        collection: &mut Collection,
        runtime: Option<&Handle>,
    ) {
        let sources = self.registry.sources();
        // A collector may use the runtime of the worker that received the scrape.
        let enter = runtime.cloned().map(|runtime| -> Enter {
            Arc::new(move |read| {
                let _context = runtime.enter();
                read();
            })
        });
        let collected = collection.collect(&sources, self.patience, enter.as_ref());
        // Whole expositions first: they have few forms, but filters may have many.
        scrapes.sort_by_key(|scrape| !scrape.form.names.is_all());
        for WaitingScrape { form, result } in scrapes {
            self.expositions.wait(|| result.is_closed());
            if result.is_closed() {
                continue;
            }
            let exposition = self.expose(&form, &collected).map(Arc::new);
            if let Ok(exposition) = &exposition {
                self.expositions.add(exposition);
            }
            result.send_replace(Some(exposition));
        }
    }
}

impl ScrapeQueueInner {
    /// Encodes one exposition, and reserves its memory. The reservation belongs to no client, because several may share the
    /// exposition.
    fn expose(&self, form: &Form, collected: &[Collected]) -> Result<Exposition, ScrapeError> {
        let exposition = encode(&self.registry, form, collected).map_err(|error| {
            if let Some(line) = self.failure_lines.line() {
                let left_out = line.left_out;
                tracing::error!(%error, left_out, "an exposition could not be compressed");
            }
            ScrapeError::Broken
        })?;
        let reservation = self.memory.reserve(None, exposition.held());
        let reservation = reservation.map_err(|AnswerMemoryExhausted| ScrapeError::NoMemory)?;
        Ok(exposition.within(reservation))
    }
}

/// Encodes the registry, chunk by chunk through the compressor.
fn encode(registry: &Registry, form: &Form, collected: &[Collected]) -> io::Result<Exposition> {
    let mut scrape = registry.scrape_collected(form.format, &form.names, collected);
    let mut exposition = Exposition::default();
    match form.encoding {
        // A family in protobuf is held as a whole before, which takes as much.
        Encoding::Identity if scrape.format() == Format::Protobuf => {
            pump(&mut scrape, &mut exposition)?;
        }
        Encoding::Identity => pump(&mut scrape, &mut Packer::new(&mut exposition))?,
        Encoding::Gzip => {
            let mut gzip = GzEncoder::new(&mut exposition, Compression::fast());
            pump(&mut scrape, &mut gzip)?;
            gzip.finish()?;
        }
        Encoding::Zstd => {
            let mut zstd = zstd::Encoder::new(&mut exposition, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            pump(&mut scrape, &mut zstd)?;
            zstd.finish()?;
        }
    }
    Ok(exposition)
}

/// Writes all chunks of a scrape.
fn pump(scrape: &mut Scrape, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        let more = scrape.next_chunk(&mut chunk);
        to.write_all(&chunk)?;
        chunk.clear();
        if !more {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
