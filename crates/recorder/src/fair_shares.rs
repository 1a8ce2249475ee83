//! Divides a capacity among clients: no client may hold more than is left for all others. The memory for answers and the
//! slots of the ops endpoints follow this rule.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};

/// The shares of clients in one capacity. Callers without a known address count as one client, `None`.
#[derive(Debug)]
pub struct FairShares {
    capacity: usize,
    total: usize,
    by_client: HashMap<Option<IpAddr>, usize>,
}

impl FairShares {
    /// Divides this capacity.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            total: 0,
            by_client: HashMap::new(),
        }
    }

    /// The capacity.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// The sum of all shares. It may exceed the capacity after [`change`](Self::change).
    pub fn total(&self) -> usize {
        self.total
    }

    /// The share of a client.
    pub fn held(&self, client: Option<IpAddr>) -> usize {
        self.by_client.get(&client).copied().unwrap_or_default()
    }

    /// The number of clients that hold something.
    pub fn clients(&self) -> usize {
        self.by_client.len()
    }

    /// Adds `more` to a client's share, and returns whether it may have that.
    ///
    /// It may if the capacity suffices and the client's share is then not larger than what is left for others. A share of up to
    /// `minimum` only needs the capacity.
    pub fn take(&mut self, client: Option<IpAddr>, more: usize, minimum: usize) -> bool {
        let Some(left) = self.capacity.checked_sub(self.total.saturating_add(more)) else {
            return false;
        };
        let held = self.held(client).saturating_add(more);
        if held > left.max(minimum) {
            return false;
        }
        self.change(client, 0, more);
        true
    }

    /// Replaces a part of a client's share by another, even beyond the capacity.
    pub fn change(&mut self, client: Option<IpAddr>, from: usize, to: usize) {
        self.total = self.total + to - from;
        let held = self.held(client) + to - from;
        match (self.by_client.entry(client), held) {
            (Entry::Occupied(entry), 0) => {
                entry.remove();
            }
            (Entry::Vacant(_), 0) => (),
            (entry, held) => {
                entry.insert_entry(held);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(number: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, number])
    }

    #[test]
    fn a_client_holds_at_most_what_is_left_for_others() {
        let mut shares = FairShares::new(100);
        for (number, more, expected, why) in [
            (1, 51, false, "more than half"),
            (1, 50, true, "half"),
            (1, 1, false, "one more than half"),
            (2, 26, false, "more than half of the rest"),
            (2, 25, true, "half of the rest"),
            (3, usize::MAX, false, "more than a number can represent"),
        ] {
            assert_eq!(
                shares.take(Some(client(number)), more, 0),
                expected,
                "{why}"
            );
        }
        assert_eq!((shares.total(), shares.clients()), (75, 2));
        shares.change(Some(client(1)), 50, 0);
        shares.change(Some(client(2)), 25, 0);
        assert_eq!((shares.total(), shares.clients()), (0, 0));
    }

    #[test]
    fn a_share_up_to_the_minimum_only_needs_the_capacity() {
        let mut shares = FairShares::new(3);
        assert!((1..=3).all(|number| shares.take(Some(client(number)), 1, 1)));
        assert!(!shares.take(Some(client(4)), 1, 1));
        shares.change(Some(client(1)), 1, 0);
        assert!(
            !shares.take(Some(client(2)), 1, 1),
            "a second one is not fair"
        );
        assert!(shares.take(Some(client(4)), 1, 1));
    }

    #[test]
    fn a_change_may_exceed_the_capacity_and_takes_it_from_others() {
        let mut shares = FairShares::new(10);
        shares.change(Some(client(1)), 0, 15);
        assert_eq!((shares.total(), shares.held(Some(client(1)))), (15, 15));
        assert!(!shares.take(Some(client(2)), 1, 1));
    }
}
