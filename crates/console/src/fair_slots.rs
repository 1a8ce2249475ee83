//! Slots that clients share. No client has more slots than are left for all others, as with the memory for answers.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vitals_recorder::memory::client_network;

/// A number of slots. Cheap to clone; a clone shares the same slots.
#[derive(Clone, Debug)]
pub(super) struct FairSlots {
    most: usize,
    /// Slots that callers without a known address may have.
    most_unknown: usize,
    taken: Arc<Mutex<UsedFairSlots>>,
}

#[derive(Debug, Default)]
struct UsedFairSlots {
    total: usize,
    unknown: usize,
    by_client: HashMap<IpAddr, usize>,
}

impl FairSlots {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            most_unknown: most,
            taken: Arc::default(),
        }
    }

    /// Slots of which one client may have `each`, and all others together as many again.
    pub(super) fn for_each(each: usize) -> Self {
        Self {
            most_unknown: each,
            ..Self::new(each.saturating_mul(2))
        }
    }

    /// Returns a slot for this client until it is dropped. Returns `None` if all are taken, or if the client has as
    /// many as are left. A client without a slot gets one as long as there is any; a caller without a known address
    /// may take all slots.
    pub(super) fn take(&self, client: Option<IpAddr>) -> Option<FairSlot> {
        let client = client.map(client_network);
        let mut taken = self.lock();
        let left = self.most.checked_sub(taken.total + 1)?;
        if let Some(client) = client {
            let held = taken.by_client.get(&client).copied().unwrap_or_default();
            if held > 0 && held + 1 > left {
                return None;
            }
            taken.by_client.insert(client, held + 1);
        } else if taken.unknown < self.most_unknown {
            taken.unknown += 1;
        } else {
            return None;
        }
        taken.total += 1;
        Some(FairSlot {
            slots: self.clone(),
            client,
        })
    }

    fn lock(&self) -> MutexGuard<'_, UsedFairSlots> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A slot that is taken.
#[derive(Debug)]
pub(super) struct FairSlot {
    slots: FairSlots,
    client: Option<IpAddr>,
}

impl Drop for FairSlot {
    fn drop(&mut self) {
        let mut taken = self.slots.lock();
        taken.total -= 1;
        let Some(client) = self.client else {
            taken.unknown -= 1;
            return;
        };
        if let Entry::Occupied(mut held) = taken.by_client.entry(client) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::iter::from_fn;

    use super::*;

    #[allow(
        clippy::unnecessary_wraps,
        reason = "what the functions under test take"
    )]
    fn client(number: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, number]))
    }

    #[test]
    fn nobody_has_more_than_are_left_for_others() {
        let slots = FairSlots::new(200);
        let taken: Vec<Vec<FairSlot>> = (0..10)
            .map(|number| from_fn(|| slots.take(client(number))).collect())
            .collect();
        let counts: Vec<usize> = taken.iter().map(Vec::len).collect();
        assert_eq!(counts, [100, 50, 25, 12, 6, 3, 2, 1, 1, 0]);
        drop(taken);
        let taken = slots.lock();
        assert_eq!((taken.total, taken.by_client.len()), (0, 0));
    }

    #[test]
    fn a_single_place_is_for_anybody_and_one_who_is_unknown_may_have_all() {
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
