//! A number of slots that clients share fairly: no client has more slots than are left for all others.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use vitals_recorder::{fair_shares::FairShares, memory::client_network};

/// A number of slots. Cheap to clone; all clones share the slots.
#[derive(Clone, Debug)]
pub(super) struct FairSlots {
    /// How many slots all callers without a known address may have together.
    most_unknown: usize,
    shares: Arc<Mutex<FairShares>>,
}

impl FairSlots {
    /// This many slots.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most_unknown: most,
            shares: Arc::new(Mutex::new(FairShares::new(most))),
        }
    }

    /// Slots of which one client may have `each`, and all others together as many again.
    pub(super) fn for_each(each: usize) -> Self {
        Self {
            most_unknown: each,
            ..Self::new(each.saturating_mul(2))
        }
    }

    /// Returns a slot, or `None` if the client would have more slots than are then left for others.
    ///
    /// A client without a slot gets one if any is free. Callers without a known address are limited together only.
    pub(super) fn take(&self, client: Option<IpAddr>) -> Option<FairSlot> {
        let client = client.map(client_network);
        let mut shares = self.lock();
        let minimum = if client.is_some() {
            1
        } else {
            self.most_unknown
        };
        let is_allowed = client.is_some() || shares.held(None) < self.most_unknown;
        (is_allowed && shares.take(client, 1, minimum)).then(|| FairSlot {
            slots: self.clone(),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, FairShares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is in use until it is dropped.
#[derive(Debug)]
pub(super) struct FairSlot {
    slots: FairSlots,
    client: Option<IpAddr>,
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        self.slots.lock().change(self.client, 1, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use super::*;

    #[allow(
        clippy::unnecessary_wraps,
        reason = "the type that the functions under test take"
    )]
    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn a_client_has_at_most_as_many_slots_as_are_left_for_others() {
        let slots = FairSlots::new(200);
        let taken: Vec<Vec<FairSlot>> = (0..10)
            .map(|number| from_fn(|| slots.take(client(number))).collect())
            .collect();
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [100, 50, 25, 12, 6, 3, 2, 1, 1, 0]);
        drop(taken);
        let taken = slots.lock();
        assert_eq!((taken.total(), taken.clients()), (0, 0));
    }

    #[test]
    fn a_single_slot_is_for_any_client_and_unknown_callers_may_have_all() {
        let slots = FairSlots::new(1);
        let slot = slots.take(client(1)).unwrap();
        assert!(slots.take(client(2)).is_none());
        drop(slot);
        slots.take(client(2)).unwrap();
        let slots = FairSlots::new(5);
        assert_eq!(from_fn(|| slots.take(None)).collect::<Vec<_>>().len(), 5);
    }

    #[test]
    fn one_client_may_have_its_number_and_all_others_as_many_again() {
        let slots = FairSlots::for_each(64);
        let taken = [client(1), None, client(2)]
            .map(|client| from_fn(|| slots.take(client)).collect::<Vec<_>>());
        assert_eq!(taken.each_ref().map(Vec::len), [64, 64, 0]);
        drop(taken);
        let taken: Vec<_> = from_fn(|| slots.take(None)).collect();
        assert_eq!(taken.len(), 64);
    }
}
