//! How long one request or job held connections, by pool.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{RequestContext, access::Access};
use crate::database::HeldSeconds;

/// The most pools of one tally.
const MOST_POOLS: usize = 4;

/// The times that one request or job held connections. Any number of threads may add at the same time.
#[derive(Debug, Default)]
pub(super) struct HeldTally {
    pools: [HeldOfPool; MOST_POOLS],
    /// Whether the times were taken out, because the request or job is over.
    is_closed: AtomicBool,
}

/// The time of one pool.
#[derive(Debug, Default)]
struct HeldOfPool {
    pool: OnceLock<Arc<HeldSeconds>>,
    nanoseconds: AtomicU64,
}

impl HeldTally {
    /// Adds the time of one connection. Returns false if the tally is closed, or has no room for a further pool.
    fn add(&self, pool: &Arc<HeldSeconds>, held: Duration, access: Access) -> bool {
        if self.is_closed.load(Relaxed) {
            return false;
        }
        let mut entries = self.pools.iter();
        let entry = entries.find(|entry| {
            let known = entry.pool.get_or_init(|| Arc::clone(pool));
            Arc::ptr_eq(known, pool)
        });
        if let Some(entry) = entry {
            access.add(&entry.nanoseconds, super::nanoseconds(held));
        }
        entry.is_some()
    }

    /// Takes the times out, and closes the tally.
    fn take(&self) -> impl Iterator<Item = (&Arc<HeldSeconds>, Duration)> {
        self.is_closed.store(true, Relaxed);
        let used = self.pools.iter().map_while(|entry| {
            let pool = entry.pool.get()?;
            Some((pool, entry.nanoseconds.swap(0, Relaxed)))
        });
        used.filter(|(_, nanoseconds)| *nanoseconds > 0)
            .map(|(pool, nanoseconds)| (pool, Duration::from_nanos(nanoseconds)))
    }

    /// Counts what is left as unattributed: the time of a request that is not recorded.
    #[inline]
    pub(super) fn leave_unattributed(&self) {
        for (pool, held) in self.take() {
            pool.unattributed(held);
        }
    }
}

impl RequestContext {
    /// Adds the time of one connection. Returns false if the tally is closed, or has no room for a further pool.
    pub(super) fn add_held(this: &Arc<Self>, pool: &Arc<HeldSeconds>, held: Duration) -> bool {
        this.held.add(pool, held, Self::access(this))
    }

    /// Takes out the times for which connections were held, by pool, at the end of the request or job. Later ones are not
    /// added to the tally.
    pub(crate) fn take_held(&self) -> impl Iterator<Item = (&Arc<HeldSeconds>, Duration)> {
        self.held.take()
    }
}
