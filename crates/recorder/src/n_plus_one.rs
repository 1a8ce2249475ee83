//! Finds requests and jobs that run one statement many times, probably in a loop (N+1).
//!
//! It also attributes the statements of a request or job to its endpoint. A suspicion is logged once for each endpoint,
//! statement and pool. The families that count suspicions are those of requests and of jobs.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use crate::context::{RequestContext, StatementShapes};

/// The most suspicions that are logged.
const MOST_LOGGED: usize = 1024;

/// Suspects loops by the number of runs of one statement. Requests and jobs share one detector.
#[derive(Debug)]
pub struct NPlusOneDetector {
    statements: Arc<dyn StatementShapes>,
    threshold: u32,
    /// Hashes of the endpoints, statements and pools that were logged.
    logged: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl NPlusOneDetector {
    /// Suspects a request or job that runs one of `statements` at least `threshold` times; 0 suspects none.
    pub fn new(statements: Arc<dyn StatementShapes>, threshold: u32) -> Self {
        Self {
            statements,
            threshold,
            logged: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Reports those statements of a context that are new to `endpoint`. Returns whether the context is suspected of a
    /// loop.
    pub(crate) fn attribute(
        &self,
        context: &RequestContext,
        method: &str,
        endpoint: &str,
        is_new: impl Fn(NonZeroU32) -> bool,
    ) -> bool {
        let mut suspected = false;
        for (shape, runs) in context.shapes() {
            if is_new(shape) {
                self.statements.ran_by(shape, method, endpoint);
            }
            if self.is_suspicious(runs) {
                suspected = true;
                if let Some(statement) = self.statements.text(shape) {
                    let pool = self.statements.pool(shape).unwrap_or_default();
                    self.log(method, endpoint, (&statement, &pool), runs);
                }
            }
        }
        suspected
    }

    /// Whether a context is suspected of a loop by now.
    pub(crate) fn suspects(&self, context: &RequestContext) -> bool {
        let mut shapes = context.shapes();
        shapes.any(|(_, runs)| self.is_suspicious(runs))
    }

    /// Whether this many runs of one statement are suspicious.
    #[inline]
    fn is_suspicious(&self, runs: u32) -> bool {
        self.threshold > 0 && runs >= self.threshold
    }

    /// Logs a suspicion, unless it was logged before.
    fn log(&self, method: &str, endpoint: &str, (statement, pool): (&str, &str), runs: u32) {
        if self.is_news(endpoint, statement, pool) {
            tracing::warn!(
                method,
                endpoint,
                pool,
                statement,
                runs,
                "a request or job ran one statement many times: is it in a loop? (N+1; logged once for each endpoint and statement)"
            );
        }
    }

    fn is_news(&self, endpoint: &str, statement: &str, pool: &str) -> bool {
        let suspicion = self.hasher.hash_one((endpoint, statement, pool));
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < MOST_LOGGED && logged.insert(suspicion)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    }

    fn detector(threshold: u32) -> NPlusOneDetector {
        NPlusOneDetector::new(Arc::new(NoStatements), threshold)
    }

    #[test]
    fn the_threshold_is_the_first_suspicious_number_and_zero_suspects_none() {
        for (threshold, runs, suspicious) in [
            (10, 9, false),
            (10, 10, true),
            (1, 1, true),
            (0, u32::MAX, false),
        ] {
            let is_suspicious = detector(threshold).is_suspicious(runs);
            assert_eq!(is_suspicious, suspicious, "{threshold} {runs}");
        }
    }

    #[test]
    fn each_endpoint_and_statement_is_logged_once_within_bounded_memory() {
        let detector = detector(10);
        assert!(detector.is_news("/a", "SELECT ?", "shop"));
        assert!(!detector.is_news("/a", "SELECT ?", "shop"));
        assert!(detector.is_news("/b", "SELECT ?", "shop"));
        assert!(detector.is_news("/a", "SELECT ?", "audit"));
        for number in 0..10_000 {
            detector.is_news("/a", &number.to_string(), "shop");
        }
        assert_eq!(detector.logged.lock().unwrap().len(), MOST_LOGGED);
    }
}
