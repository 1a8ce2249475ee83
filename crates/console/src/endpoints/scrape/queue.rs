//! The rounds of scrapes. One round at a time reads the collectors once, and writes each wanted form once, for all
//! callers that wait for it.

use std::hint::black_box;
use std::{
    io::{self, Write},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use flate2::{Compression, write::GzEncoder};
use tokio::{runtime::Handle, sync::watch};

use super::{exposition::Exposition, exposition_memory::ExpositionMemory};
use vitals_recorder::collection::{Collection, Enter};
use vitals_recorder::log_limit::LogLimit;
use vitals_recorder::memory::{AnswerMemory, AnswerMemoryExhausted};
use vitals_registry::{Collected, Encoding, Format, NameFilter, Registry, Scrape};

/// Identifies an exposition. Callers that want the same form share one exposition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) format: Format,
    pub(super) encoding: Encoding,
    pub(super) names: NameFilter,
}

/// What a round may allocate at once, and more. Where the system has no room for it (`ulimit -v`), the allocation would end
/// the process.
const ALLOCATED_BY_A_ROUND: usize = 32 * 1024 * 1024;

/// Whether this many bytes can be allocated now. They are freed untouched.
fn can_allocate(bytes: usize) -> bool {
    let mut room = Vec::<u8>::new();
    let reserved = room.try_reserve_exact(bytes).is_ok();
    black_box(&room);
    reserved
}

/// Why there is no exposition.
#[derive(Clone, Copy, Debug)]
pub(super) enum ScrapeError {
    /// No thread can be started.
    NoThread,
    /// The memory for answers is used up.
    NoMemory,
    /// The exposition could not be written: a fault of ours.
    Broken,
}

/// The result of a round for one form; `None` until there is one.
type ScrapeResult = Option<Result<Arc<Exposition>, ScrapeError>>;

/// The scrapes of one registry.
pub(super) struct ScrapeQueue(Arc<ScrapeQueueInner>);

struct ScrapeQueueInner {
    registry: Registry,
    /// How long a round waits for the collectors.
    patience: Duration,
    memory: AnswerMemory,
    expositions: ExpositionMemory,
    failure_lines: LogLimit,
    next: Mutex<Next>,
    /// Signals that a caller waits for the next round, or that no caller ever will.
    changed: Condvar,
}

/// The round to come.
#[derive(Default)]
struct Next {
    /// At most one entry for each caller that waits.
    wanted: Vec<WaitingScrape>,
    /// The runtime of a caller.
    runtime: Option<Handle>,
    /// Whether there is a thread for the rounds. It lives as long as the [`ScrapeQueue`].
    has_thread: bool,
    /// Whether the callers that arrived together have joined.
    is_due: bool,
    /// Whether no more scrapes will come.
    is_over: bool,
}

struct WaitingScrape {
    form: Form,
    outcome: watch::Sender<ScrapeResult>,
}

impl ScrapeQueue {
    /// ScrapeQueue over a registry. Each waits for `patience` for the collectors; an exposition may be given up once it is
    /// older than `lifetime`.
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

    /// The exposition of the next round in this form.
    ///
    /// A round that is under way does not count, as it may have read values before this call: a client finds in its
    /// scrape what was answered before.
    pub(super) async fn expose(&self, form: Form) -> Result<Arc<Exposition>, ScrapeError> {
        if !can_allocate(ALLOCATED_BY_A_ROUND) {
            return Err(ScrapeError::NoMemory);
        }
        let mut outcome = self.join(form);
        // Those that arrive at the same moment join this round.
        tokio::task::yield_now().await;
        self.start()?;
        match outcome.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(result)) => result.clone(),
            _ => Err(ScrapeError::Broken),
        }
    }

    fn join(&self, form: Form) -> watch::Receiver<ScrapeResult> {
        let mut next = self.0.lock_next();
        // Callers that have given up leave nothing behind.
        next.wanted.retain(|wanted| !wanted.outcome.is_closed());
        if let Some(wanted) = next.wanted.iter().find(|wanted| wanted.form == form) {
            return wanted.outcome.subscribe();
        }
        let (outcome, receiver) = watch::channel(None);
        next.wanted.push(WaitingScrape { form, outcome });
        receiver
    }

    /// Lets the next round begin as soon as the one under way is over.
    fn start(&self) -> Result<(), ScrapeError> {
        let mut next = self.0.lock_next();
        next.runtime = Handle::try_current().ok();
        if !next.has_thread {
            let inner = Arc::clone(&self.0);
            let thread = thread::Builder::new().name("vitals-scrape".to_owned());
            if let Err(error) = thread.spawn(move || inner.work()) {
                if let Some(line) = self.0.failure_lines.line() {
                    let left_out = line.left_out;
                    tracing::error!(%error, left_out, "no thread can be started for a scrape");
                }
                return Err(ScrapeError::NoThread);
            }
            next.has_thread = true;
        }
        next.is_due = !next.wanted.is_empty();
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

    /// Works on one round after the other.
    fn work(&self) {
        let mut collection = Collection::default();
        while let Some((wanted, runtime)) = self.next_round() {
            // A panic ends this round, whose callers get an error, and no later one.
            let round = AssertUnwindSafe(|| self.serve(wanted, &mut collection, runtime.as_ref()));
            if catch_unwind(round).is_err()
                && let Some(line) = self.failure_lines.line()
            {
                tracing::error!(left_out = line.left_out, "a scrape panicked");
            }
        }
    }

    /// Waits until a caller wants a round. Returns `None` when no caller ever will.
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
        Some((mem::take(&mut next.wanted), next.runtime.take()))
    }

    /// One round.
    fn serve(
        &self,
        mut wanted: Vec<WaitingScrape>,
        collection: &mut Collection,
        runtime: Option<&Handle>,
    ) {
        let sources = self.registry.sources();
        // A collector may use the runtime of the worker that the scrape came to.
        let enter = runtime.cloned().map(|runtime| -> Enter {
            Arc::new(move |read| {
                let _context = runtime.enter();
                read();
            })
        });
        let collected = collection.collect(&sources, self.patience, enter.as_ref());
        // Whole expositions first: there are few forms of them, while filters may be many.
        wanted.sort_by_key(|wanted| !wanted.form.names.is_all());
        for WaitingScrape { form, outcome } in wanted {
            self.expositions.wait(|| outcome.is_closed());
            if outcome.is_closed() {
                continue;
            }
            let result = self.expose(&form, &collected).map(Arc::new);
            if let Ok(exposition) = &result {
                self.expositions.enter(exposition);
            }
            outcome.send_replace(Some(result));
        }
    }
}

impl ScrapeQueueInner {
    /// One exposition, counted among the answers that wait for their clients: no one client's, as several may share it.
    fn expose(&self, form: &Form, collected: &[Collected]) -> Result<Exposition, ScrapeError> {
        let exposition = encode(&self.registry, form, collected).map_err(|error| {
            if let Some(line) = self.failure_lines.line() {
                let left_out = line.left_out;
                tracing::error!(%error, left_out, "an exposition could not be compressed");
            }
            ScrapeError::Broken
        })?;
        let reservation = self.memory.reserve(None, exposition.length());
        let reservation = reservation.map_err(|AnswerMemoryExhausted| ScrapeError::NoMemory)?;
        Ok(exposition.within(reservation))
    }
}

/// Writes the registry out, chunk by chunk through the compressor.
fn encode(registry: &Registry, form: &Form, collected: &[Collected]) -> io::Result<Exposition> {
    let mut scrape = registry.scrape_collected(form.format, &form.names, collected);
    let mut exposition = Exposition::default();
    match form.encoding {
        Encoding::Identity => pump(&mut scrape, &mut exposition)?,
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

/// Moves a scrape on, a chunk at a time.
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
