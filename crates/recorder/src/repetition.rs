//! The statements of a request or job are attributed to it, and one that it runs over and over raises the suspicion of a
//! loop (N+1).
//!
//! This module decides on the suspicion and logs it, once for each endpoint and statement. It is counted elsewhere.

use std::{
    collections::{HashSet, hash_map::RandomState},
    hash::BuildHasher,
    num::NonZeroU32,
    sync::{Mutex, PoisonError},
};

use super::context::{RequestContext, StatementShapes};

/// Pairs of an endpoint and a statement that are remembered as told to the log; of more than these it is not told.
const MOST_LOGGED: usize = 1024;

/// When to suspect, and who was suspected.
#[derive(Debug)]
pub struct NPlusOneDetector {
    threshold: u32,
    logged: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

impl NPlusOneDetector {
    /// Suspects a request that runs a statement at least `threshold` times; none, with 0.
    pub fn new(threshold: u32) -> Self {
        Self {
            threshold,
            logged: Mutex::default(),
            hasher: RandomState::new(),
        }
    }

    /// Attributes the statements of a context to the request or job that ran them, if that `is_new`. Returns whether
    /// one of them was run suspiciously often.
    pub fn attribute(
        &self,
        statements: &dyn StatementShapes,
        context: &RequestContext,
        method: &str,
        endpoint: &str,
        is_new: impl Fn(NonZeroU32) -> bool,
    ) -> bool {
        let mut suspected = false;
        for (shape, runs) in context.shapes() {
            if is_new(shape) {
                statements.ran_by(shape, method, endpoint);
            }
            if self.is_suspicious(runs) {
                suspected = true;
                if let Some(statement) = statements.text(shape) {
                    self.log(method, endpoint, &statement, runs);
                }
            }
        }
        suspected
    }

    /// Whether so many runs of one statement are suspicious.
    #[inline]
    fn is_suspicious(&self, runs: u32) -> bool {
        self.threshold > 0 && runs >= self.threshold
    }

    /// Tells the log, unless it was told before.
    fn log(&self, method: &str, endpoint: &str, statement: &str, runs: u32) {
        if self.is_news(endpoint, statement) {
            tracing::warn!(
                method,
                endpoint,
                statement,
                runs,
                "a request or job ran one statement many times: is it in a loop? (N+1; told once for each endpoint and statement)"
            );
        }
    }

    fn is_news(&self, endpoint: &str, statement: &str) -> bool {
        let pair = self.hasher.hash_one((endpoint, statement));
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        logged.len() < MOST_LOGGED && logged.insert(pair)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_threshold_is_the_first_suspicious_number_and_zero_suspects_nobody() {
        for (threshold, runs, suspicious) in [
            (10, 9, false),
            (10, 10, true),
            (1, 1, true),
            (0, u32::MAX, false),
        ] {
            let repetition = NPlusOneDetector::new(threshold);
            assert_eq!(
                repetition.is_suspicious(runs),
                suspicious,
                "{threshold} {runs}"
            );
        }
    }

    #[test]
    fn each_endpoint_and_statement_is_news_once_within_bounded_memory() {
        let repetition = NPlusOneDetector::new(10);
        assert!(repetition.is_news("/a", "SELECT ?"));
        assert!(!repetition.is_news("/a", "SELECT ?"));
        assert!(repetition.is_news("/b", "SELECT ?"));
        for number in 0..10_000 {
            repetition.is_news("/a", &number.to_string());
        }
        assert_eq!(repetition.logged.lock().unwrap().len(), MOST_LOGGED);
    }
}
