//! Finds requests and jobs that repeat themselves: one statement many times, or several that read the same rows.
//!
//! | kind | what the request or job did |
//! |---|---|
//! | `n_plus_one` | ran one statement at least `--n-plus-one` times with different values, probably in a loop |
//! | `identical` | ran it as often, and each value at least twice on average |
//! | `serial` | ran at least three different selects that are the same from `FROM` on, so that only their columns differ |
//!
//! The detector also attributes the statements of a request or job to its endpoint. A suspicion is logged once for each
//! endpoint, statement, pool and kind. The families that count suspicions are those of requests and of jobs.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet, hash_map::RandomState},
    hash::BuildHasher,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use foldhash::fast::FixedState;

use crate::{
    context::{RequestContext, StatementShapes, owner::WorkOwner},
    in_flight::method_word,
    name_numbers,
    suspicions::{SuspectKey, Suspicion, Suspicions},
};

/// The most suspicions that are logged.
const MOST_LOGGED: usize = 1024;

/// The number of different selects of the same rows that is suspicious. Two are often on purpose: a page and the count of
/// all rows.
const SERIAL_READS: usize = 3;

/// Suspects repetitions. Requests and jobs share one detector.
#[derive(Debug)]
pub struct RepetitionDetector {
    statements: Arc<dyn StatementShapes>,
    suspicions: Suspicions,
    /// Hashes of what was logged.
    logged: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

/// The kinds of repetition that a request or job is suspected of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RepetitionKinds(u8);

impl RepetitionKinds {
    fn add(&mut self, kind: Suspicion) {
        self.0 |= 1 << kind as u8;
    }

    /// Whether nothing is suspected.
    #[inline]
    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The kinds.
    pub(crate) fn iter(self) -> impl Iterator<Item = Suspicion> {
        let kinds = Suspicion::REPETITIONS.into_iter();
        kinds.filter(move |kind| self.0 & 1 << *kind as u8 != 0)
    }

    /// Whether one statement was run many times, with any values.
    pub(crate) fn has_loop(self) -> bool {
        self.iter().any(|kind| kind != Suspicion::Serial)
    }
}

/// The endpoint or job whose statements are attributed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributed<'a> {
    pub(crate) method: &'a str,
    pub(crate) endpoint: &'a str,
}

impl RepetitionDetector {
    /// Suspects requests and jobs by the numbers of runs of `statements`.
    pub fn new(statements: Arc<dyn StatementShapes>, suspicions: Suspicions) -> Self {
        Self {
            statements,
            suspicions,
            logged: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Reports those statements of a context that are new to its endpoint, which `ran` knows. Returns which repetitions the
    /// context is suspected of.
    pub(crate) fn attribute(
        &self,
        context: &RequestContext,
        to: Attributed<'_>,
        ran: &RanStatements,
    ) -> RepetitionKinds {
        let mut kinds = RepetitionKinds::default();
        for (shape, runs) in context.shapes() {
            if ran.is_first(shape) {
                self.statements.ran_by(shape, to.method, to.endpoint);
                if self.suspicions.is_on()
                    && let Some(text) = self.statements.text(shape)
                    && let Some(source) = source_of(&text)
                {
                    ran.add_read(self.hasher.hash_one(source), shape);
                }
            }
            if self.suspicions.is_repetition(runs) {
                kinds.add(self.suspect_loop(context, to, shape, runs));
            }
        }
        if ran.has_serial_reads() {
            for reads in ran.serial_reads(context) {
                kinds.add(Suspicion::Serial);
                self.suspect_serial(to, &reads);
            }
        }
        kinds
    }

    #[cold]
    fn suspect_loop(
        &self,
        context: &RequestContext,
        to: Attributed<'_>,
        shape: NonZeroU32,
        runs: u32,
    ) -> Suspicion {
        let (kind, guessed) = context.repetition(shape);
        let key = to.key(shape);
        self.suspicions.settle(guessed, key, kind);
        self.log(kind, to, key, u64::from(runs));
        kind
    }

    /// Logs serial reads once the line of one of them is known, or cannot be known.
    #[cold]
    fn suspect_serial(&self, to: Attributed<'_>, reads: &[NonZeroU32]) {
        let keys = reads.iter().map(|read| to.key(*read));
        let mut located = None;
        for key in keys {
            self.suspicions.settle(None, key, Suspicion::Serial);
            if self.suspicions.is_captured(key) {
                located.get_or_insert(key);
            } else {
                self.statements.want_location(key.statement());
            }
        }
        let key = if self.suspicions.finds_lines() {
            located
        } else {
            reads.first().map(|read| to.key(*read))
        };
        if let Some(key) = key {
            self.log(Suspicion::Serial, to, key, reads.len() as u64);
        }
    }

    /// Whether a context is suspected of a loop by now.
    pub(crate) fn suspects(&self, context: &RequestContext) -> bool {
        let mut shapes = context.shapes();
        shapes.any(|(_, runs)| self.suspicions.is_repetition(runs))
    }

    /// Logs a suspicion, unless it was logged before.
    fn log(&self, kind: Suspicion, to: Attributed<'_>, key: SuspectKey, runs: u64) {
        let shape = key.statement();
        let Some(statement) = self.statements.text(shape) else {
            return;
        };
        let pool = self.statements.pool(shape).unwrap_or_default();
        if !self.is_news((to.endpoint, &statement, &pool, kind.label())) {
            return;
        }
        let (method, endpoint) = (to.method.to_owned(), to.endpoint.to_owned());
        self.suspicions.log_with_location(Some(key), move |location| {
            let at = location.map(ToString::to_string);
            let (method, endpoint) = (&*method, &*endpoint);
            let (kind, advice) = (kind.label(), kind.advice());
            macro_rules! warn {
                ($message:literal) => {
                    tracing::warn!(kind, method, endpoint, pool, statement, runs, at, advice, $message)
                };
            }
            match kind {
                "identical" => warn!("a request or job ran one statement many times with the same values (logged once for each endpoint and statement)"),
                "serial" => warn!("a request or job ran several statements that read the same rows, one after the other (logged once for each endpoint and statement)"),
                _ => warn!("a request or job ran one statement many times: is it in a loop? (N+1; logged once for each endpoint and statement)"),
            }
        });
    }

    fn is_news(&self, suspicion: (&str, &str, &str, &str)) -> bool {
        let suspicion = self.hasher.hash_one(suspicion);
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < MOST_LOGGED && logged.insert(suspicion)
    }
}

impl Attributed<'_> {
    fn key(self, statement: NonZeroU32) -> SuspectKey {
        let owner = WorkOwner {
            method: method_word(self.method),
            name: name_numbers::number_of(self.endpoint),
            ..WorkOwner::default()
        };
        SuspectKey::new(statement, owner)
    }
}

/// What a select reads its columns from: its shape from the outermost `FROM` on. `None` for other statements, and for reads
/// of a whole table.
fn source_of(shape: &str) -> Option<&str> {
    let columns = shape.strip_prefix("SELECT ")?;
    let mut depth = 0_usize;
    let from = columns.bytes().enumerate().find_map(|(at, byte)| {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b' ' if depth == 0 && columns[at..].starts_with(" FROM ") => return Some(at),
            _ => {}
        }
        None
    })?;
    let source = &columns[from..];
    source.contains(" WHERE ").then_some(source)
}

/// The statements that one worker's requests of an endpoint, or one run of a job, have run.
#[derive(Debug, Default)]
pub(crate) struct RanStatements(RefCell<Ran>);

#[derive(Debug, Default)]
struct Ran {
    known: HashSet<NonZeroU32, FixedState>,
    /// Selects by a hash of what they read from.
    reads: HashMap<u64, Vec<NonZeroU32>>,
    /// Whether several of them read from the same.
    has_serial_reads: bool,
}

impl RanStatements {
    /// The most statements that are known. Beyond, all are forgotten, and are new again.
    const MOST: usize = 4096;

    /// Whether a statement is new.
    fn is_first(&self, shape: NonZeroU32) -> bool {
        let mut ran = self.0.borrow_mut();
        if ran.known.len() >= Self::MOST && !ran.known.contains(&shape) {
            *ran = Ran::default();
        }
        ran.known.insert(shape)
    }

    /// Adds a select that reads from this.
    #[cold]
    fn add_read(&self, source: u64, shape: NonZeroU32) {
        let mut ran = self.0.borrow_mut();
        let reads = ran.reads.entry(source).or_default();
        reads.push(shape);
        if reads.len() >= SERIAL_READS {
            ran.has_serial_reads = true;
        }
    }

    /// Whether there may be serial reads.
    fn has_serial_reads(&self) -> bool {
        self.0.borrow().has_serial_reads
    }

    /// The selects of a context that read the same rows, if they are many enough to be suspicious.
    #[cold]
    fn serial_reads(&self, context: &RequestContext) -> Vec<Vec<NonZeroU32>> {
        let shapes: HashSet<NonZeroU32> = context.shapes().map(|(shape, _)| shape).collect();
        let ran = self.0.borrow();
        let of_context = ran.reads.values().map(|reads| {
            let of_context = reads.iter().filter(|read| shapes.contains(read));
            of_context.copied().collect::<Vec<_>>()
        });
        of_context
            .filter(|reads| reads.len() >= SERIAL_READS)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suspicions::SuspicionSettings;
    use vitals_registry::Counter;

    #[derive(Debug)]
    struct NoStatements;

    impl StatementShapes for NoStatements {
        fn ran_by(&self, _: NonZeroU32, _: &str, _: &str) {}

        fn text(&self, _: NonZeroU32) -> Option<String> {
            None
        }

        fn pool(&self, _: NonZeroU32) -> Option<String> {
            None
        }

        fn want_location(&self, _: NonZeroU32) {}
    }

    fn detector(n_plus_one: u32) -> RepetitionDetector {
        let settings = SuspicionSettings {
            n_plus_one,
            ..SuspicionSettings::default()
        };
        let suspicions = Suspicions::new(settings, Arc::new(Counter::new(1)));
        RepetitionDetector::new(Arc::new(NoStatements), suspicions)
    }

    #[test]
    fn the_threshold_is_the_first_suspicious_number_and_zero_suspects_none() {
        for (threshold, runs, suspicious) in [
            (10, 9, false),
            (10, 10, true),
            (1, 1, true),
            (0, u32::MAX, false),
        ] {
            let is_suspicious = detector(threshold).suspicions.is_repetition(runs);
            assert_eq!(is_suspicious, suspicious, "{threshold} {runs}");
        }
    }

    #[test]
    fn each_endpoint_and_statement_is_logged_once_within_bounded_memory() {
        let detector = detector(10);
        let is_news = |endpoint: &str, statement: &str, pool: &str| {
            detector.is_news((endpoint, statement, pool, "n_plus_one"))
        };
        assert!(is_news("/a", "SELECT ?", "shop"));
        assert!(!is_news("/a", "SELECT ?", "shop"));
        assert!(is_news("/b", "SELECT ?", "shop"));
        assert!(is_news("/a", "SELECT ?", "audit"));
        assert!(detector.is_news(("/a", "SELECT ?", "shop", "identical")));
        for number in 0..10_000 {
            is_news("/a", &number.to_string(), "shop");
        }
        assert_eq!(detector.logged.lock().unwrap().len(), MOST_LOGGED);
    }

    #[test]
    fn a_select_reads_from_what_follows_its_columns() {
        for (shape, expected) in [
            (
                "SELECT name FROM users WHERE id = ?",
                Some(" FROM users WHERE id = ?"),
            ),
            (
                "SELECT (SELECT a FROM b WHERE c = ?), name FROM users WHERE id = ?",
                Some(" FROM users WHERE id = ?"),
            ),
            ("SELECT name FROM users", None),
            ("SELECT ?", None),
            ("UPDATE users SET name = ? WHERE id = ?", None),
            ("SELECT (", None),
        ] {
            assert_eq!(source_of(shape), expected, "{shape}");
        }
    }

    #[test]
    fn three_different_reads_of_the_same_rows_are_serial() {
        let ran = RanStatements::default();
        let context = RequestContext::default();
        for number in 1..=4 {
            let shape = NonZeroU32::new(number).unwrap();
            assert!(ran.is_first(shape));
            assert!(!ran.is_first(shape));
            ran.add_read(if number == 4 { 8 } else { 7 }, shape);
            context.count_run(shape);
            let found: Vec<_> = ran.serial_reads(&context).iter().map(Vec::len).collect();
            assert_eq!(found, if number < 3 { vec![] } else { vec![3] }, "{number}");
            assert_eq!(ran.has_serial_reads(), number >= 3);
        }
        assert!(ran.serial_reads(&RequestContext::default()).is_empty());
    }
}
