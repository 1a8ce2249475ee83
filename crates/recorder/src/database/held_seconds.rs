//! Counts how long the connections of a pool were held, by the endpoint that held them.

use std::{cell::RefCell, sync::Arc, time::Duration};

use vitals_registry::{Family, FloatCounter, Resolved};

use super::families::DatabaseFamilies;
use crate::{
    context::owner::{WorkOwner, add_held},
    name_numbers,
    naming::Naming,
};

/// The endpoint of connections that were held outside of any recorded request and job.
pub(crate) const UNATTRIBUTED: &str = "unattributed";

/// The counters of one pool.
#[derive(Debug)]
pub(crate) struct HeldSeconds {
    family: Family<FloatCounter, 2>,
    naming: Naming,
    /// A copy: the name of a closed pool is free while its counters are still known.
    pool: Arc<str>,
    unattributed: Arc<FloatCounter>,
}

impl HeldSeconds {
    pub(super) fn new(families: &DatabaseFamilies, pool: &str) -> Arc<Self> {
        let family = families.pool_held_seconds.clone();
        Arc::new(Self {
            // It exists from the start, so that the first hold is an increase.
            unattributed: family.series([pool, UNATTRIBUTED]),
            family,
            naming: families.naming,
            pool: pool.into(),
        })
    }

    /// The name of the pool.
    pub(super) fn pool(&self) -> &Arc<str> {
        &self.pool
    }

    /// Counts a hold of this owner: at the end of the request or job if this thread works for it, and now otherwise.
    #[inline]
    pub(super) fn count(self: &Arc<Self>, owner: WorkOwner, held: Duration) {
        if !add_held(owner, self, held) {
            self.add_to(owner, held);
        }
    }

    /// Counts a hold that has outlived its request or job, or that belongs to none.
    #[cold]
    fn add_to(&self, owner: WorkOwner, held: Duration) {
        match name_numbers::name_of(owner.name) {
            Some(name) => self.add(&name, held),
            None => self.unattributed(held),
        }
    }

    /// Counts a hold of an endpoint or job.
    pub(crate) fn add(&self, endpoint: &str, held: Duration) {
        let endpoint = self.naming.endpoint(endpoint);
        let series = self.family.series([&self.pool, endpoint]);
        series.add(held.as_secs_f64());
    }

    /// Counts a hold outside of any recorded request and job.
    pub(crate) fn unattributed(&self, held: Duration) {
        self.unattributed.add(held.as_secs_f64());
    }
}

/// The counters that one worker has resolved for one endpoint, so that a further request of it looks nothing up.
#[derive(Debug, Default)]
pub(crate) struct EndpointHeldSeconds(RefCell<Vec<(Arc<HeldSeconds>, Arc<FloatCounter>)>>);

impl EndpointHeldSeconds {
    /// The most pools that are kept. Beyond, all are resolved again.
    const MOST: usize = 16;

    /// Counts a hold of this endpoint.
    pub(crate) fn add(&self, pool: &Arc<HeldSeconds>, endpoint: &str, held: Duration) {
        let seconds = held.as_secs_f64();
        let mut known = self.0.borrow_mut();
        if let Some((_, counter)) = known.iter().find(|(known, _)| Arc::ptr_eq(known, pool)) {
            return counter.add(seconds);
        }
        let endpoint = pool.naming.endpoint(endpoint);
        match pool.family.try_series([&pool.pool, endpoint]) {
            Resolved::Series(counter) => {
                counter.add(seconds);
                if known.len() >= Self::MOST {
                    known.clear();
                }
                known.push((Arc::clone(pool), counter));
            }
            // Not kept: each such hold counts as a new overflow.
            Resolved::Overflow(counter) => counter.add(seconds),
        }
    }
}
