//! Reads the collectors of a registry with a bounded wait: a collector that does not return costs its own rows only.
//!
//! The scrape and the push both read collectors this way. What is done with the rows is their concern.

use std::{
    collections::HashSet,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{self, Receiver, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use vitals_registry::{Collected, Source};

use crate::log_limit::LogLimit;

/// Once the patience is used up, each further collector gets this fraction of it.
const GRACE: u32 = 8;

/// Calls its argument once, in a context that collectors may use, such as that of an async runtime.
pub type Enter = Arc<dyn Fn(&mut dyn FnMut()) + Send + Sync>;

/// The names of the collectors that are being read. Between two calls of [`Collection::collect`],
/// these are the hanging ones.
#[derive(Clone, Debug, Default)]
struct Busy(Arc<Mutex<HashSet<&'static str>>>);

impl Busy {
    fn lock(&self) -> MutexGuard<'_, HashSet<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads collectors, one call at a time.
#[derive(Debug, Default)]
pub struct Collection {
    busy: Busy,
    /// Lives on between the calls, so that a scrape starts no thread. None at first, and where it was given up.
    reader: Option<CollectorThread>,
}

impl Collection {
    /// Reads all collectors, in order, and waits for `patience` at most. A collector that does not return is skipped,
    /// and later calls skip it until it has returned. Blocks.
    ///
    /// A hanging collector holds one thread, so there are never more such threads than collectors.
    pub fn collect(
        &mut self,
        sources: &[Source],
        patience: Duration,
        enter: Option<&Enter>,
    ) -> Vec<Collected> {
        let end = Instant::now() + patience;
        let mut collected = Vec::with_capacity(sources.len());
        while collected.len() < sources.len() {
            let rest = &sources[collected.len()..];
            let reader = self.reader.take();
            let reader = reader.unwrap_or_else(|| CollectorThread::start(self.busy.clone()));
            reader.read(rest, enter);
            for source in rest {
                let wait = end.saturating_duration_since(Instant::now());
                let Ok(rows) = reader.results.recv_timeout(wait.max(patience / GRACE)) else {
                    break;
                };
                debug_assert_eq!(rows.name(), source.name());
                collected.push(rows);
            }
            match sources.get(collected.len()) {
                None => self.reader = Some(reader),
                // The reader is lost until this collector returns. Another one reads the rest.
                Some(source) => collected.push(source.skip()),
            }
        }
        collected
    }
}

/// A thread that reads collectors.
#[derive(Debug)]
struct CollectorThread {
    jobs: Sender<ReadRequest>,
    results: Receiver<Collected>,
}

struct ReadRequest {
    sources: Vec<Source>,
    enter: Option<Enter>,
}

impl fmt::Debug for ReadRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ReadRequest").field(&self.sources).finish()
    }
}

impl CollectorThread {
    /// Starts the thread. Where none can be started, there are no results.
    fn start(busy: Busy) -> Self {
        let (jobs, to_do) = mpsc::channel();
        let (done, results) = mpsc::channel();
        let thread = thread::Builder::new().name("vitals-collect".to_owned());
        if let Err(error) = thread.spawn(move || work(&to_do, &busy, &done)) {
            static LINES: LogLimit = LogLimit::new();
            if let Some(line) = LINES.line() {
                let left_out = line.left_out;
                tracing::error!(%error, left_out, "no thread can be started to read the collectors");
            }
        }
        Self { jobs, results }
    }

    fn read(&self, sources: &[Source], enter: Option<&Enter>) {
        let job = ReadRequest {
            sources: sources.to_vec(),
            enter: enter.cloned(),
        };
        // Fails where there is no thread: then the results do, too.
        let _ = self.jobs.send(job);
    }
}

fn work(jobs: &Receiver<ReadRequest>, busy: &Busy, results: &Sender<Collected>) {
    for ReadRequest { sources, enter } in jobs {
        let mut is_wanted = true;
        let mut read = || is_wanted = read_all(&sources, busy, results);
        match enter {
            Some(enter) => enter(&mut read),
            None => read(),
        }
        if !is_wanted {
            return;
        }
    }
}

/// Reads each source. Returns false if a collector returned too late, and another reader has read the others: the
/// receiver is gone.
fn read_all(sources: &[Source], busy: &Busy, results: &Sender<Collected>) -> bool {
    sources.iter().all(|source| {
        let is_free = busy.lock().insert(source.name());
        let collected = if is_free {
            let collected = source.read();
            busy.lock().remove(source.name());
            collected
        } else {
            source.skip()
        };
        results.send(collected).is_ok()
    })
}
