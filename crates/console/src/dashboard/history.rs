//! The cache of histories: each is made and compressed once for all pages that request the same within a tick.

use std::{
    io::{self, Write as _},
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::web::Bytes;
use flate2::{Compression, write::GzEncoder};
use tokio::sync::OnceCell;
use vitals_registry::Encoding;

/// Answers that are kept until the next tick.
const MOST_KEPT: usize = 16;

/// Identifies a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HistoryKey {
    /// Ticks after this time. A negative value counts seconds back from the last tick.
    pub(super) since: i64,
    /// Ticks up to this time.
    pub(super) until: Option<u64>,
    /// The number of seconds that ticks are merged to.
    pub(super) step: u64,
    /// The compression.
    pub(super) encoding: Encoding,
}

/// A history that exists or is being made.
pub(super) type SharedHistory = Arc<OnceCell<Bytes>>;

/// The histories that were requested since the last tick.
#[derive(Debug, Default)]
pub(super) struct HistoryCache(Mutex<Vec<(HistoryKey, SharedHistory)>>);

impl HistoryCache {
    /// Returns the history that all callers with the same key share until the next tick.
    pub(super) fn share(&self, key: HistoryKey) -> SharedHistory {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, shared)) = kept.iter().find(|(other, _)| *other == key) {
            return Arc::clone(shared);
        }
        if kept.len() == MOST_KEPT {
            kept.remove(0);
        }
        let shared = SharedHistory::default();
        kept.push((key, Arc::clone(&shared)));
        shared
    }

    /// Removes all histories: there is a new tick.
    pub(super) fn forget(&self) {
        let kept = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        drop(kept);
    }
}

/// Compresses the text.
pub(super) fn compress(text: Vec<u8>, encoding: Encoding) -> io::Result<Vec<u8>> {
    match encoding {
        Encoding::Identity => Ok(text),
        Encoding::Gzip => {
            let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
            gzip.write_all(&text)?;
            gzip.finish()
        }
        Encoding::Zstd => zstd::encode_all(text.as_slice(), zstd::DEFAULT_COMPRESSION_LEVEL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(since: i64) -> HistoryKey {
        HistoryKey {
            since,
            until: None,
            step: 1,
            encoding: Encoding::Identity,
        }
    }

    #[tokio::test]
    async fn a_history_is_made_once_for_equal_requests_until_the_next_tick() {
        let answers = HistoryCache::default();
        let count = std::cell::Cell::new(0);
        let get = async |since| {
            let shared = answers.share(key(since));
            let make = async || {
                count.set(count.get() + 1);
                tokio::task::yield_now().await;
                Bytes::from(vec![0; 100])
            };
            shared.get_or_init(make).await.clone()
        };
        let (first, second, other) = tokio::join!(get(1), get(1), get(2));
        assert_eq!(first.as_ptr(), second.as_ptr());
        assert_ne!(first.as_ptr(), other.as_ptr());
        assert_eq!(get(1).await.as_ptr(), first.as_ptr());
        assert_eq!(count.get(), 2);
        answers.forget();
        get(1).await;
        assert_eq!(count.get(), 3);
    }

    #[test]
    fn at_most_16_histories_are_kept() {
        let answers = HistoryCache::default();
        let first = answers.share(key(0));
        for since in 1..100 {
            answers.share(key(since));
        }
        assert_eq!(answers.0.lock().unwrap().len(), MOST_KEPT);
        assert!(!Arc::ptr_eq(&first, &answers.share(key(0))));
    }
}
