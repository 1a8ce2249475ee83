//! How many connections a listener has, in total and of each address, and who gets no slot any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use actix_vitals::http::ConnectionOutcome;
use actix_vitals::memory::{AnswerMemory, AnswerMemoryExhausted, Reservation, client_network};

/// The number of requests that a client may have under way on a connection, announced at the start. A client that
/// respects it waits by itself. Another client has its further requests refused unread (`REFUSED_STREAM`). The limit is
/// above the usual 100, for clients that send hundreds before they have received it.
pub(super) const MAX_STREAMS: u16 = 512;

/// The slots for the connections of one listener; a clone is the same slots.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots {
    shared: Arc<ConnectionSlotsInner>,
}

#[derive(Debug)]
struct ConnectionSlotsInner {
    most: usize,
    most_per_address: usize,
    memory: AnswerMemory,
    taken: Mutex<UsedSlots>,
}

#[derive(Debug, Default)]
struct UsedSlots {
    total: usize,
    by_address: HashMap<IpAddr, AddressUse>,
}

/// The slots that an address has.
#[derive(Debug, Default)]
struct AddressUse {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

impl ConnectionSlots {
    /// So many slots, and so many for an address, which may have as many requests over HTTP/2; and the memory for
    /// bodies that wait for their clients.
    pub(super) fn new(most: usize, most_per_address: usize, memory: AnswerMemory) -> Self {
        Self {
            shared: Arc::new(ConnectionSlotsInner {
                most,
                most_per_address,
                memory,
                taken: Mutex::default(),
            }),
        }
    }

    /// A slot, kept until it is dropped; or what becomes of a connection without one.
    pub(super) fn take(&self, address: IpAddr) -> Result<ConnectionSlot, ConnectionOutcome> {
        let address = client_network(address);
        let UsedSlots { total, by_address } = &mut *self.shared.taken.lock();
        if *total >= self.shared.most {
            return Err(ConnectionOutcome::RefusedTotal);
        }
        let of_address = by_address.entry(address).or_default();
        if of_address.connections >= self.shared.most_per_address {
            return Err(ConnectionOutcome::RefusedAddress);
        }
        of_address.connections += 1;
        *total += 1;
        Ok(ConnectionSlot {
            requests: Arc::clone(&of_address.requests),
            shared: Arc::clone(&self.shared),
            address,
        })
    }
}

/// A slot that is taken.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    shared: Arc<ConnectionSlotsInner>,
    address: IpAddr,
    requests: Arc<AtomicUsize>,
}

impl ConnectionSlot {
    /// Whose slot it is.
    pub(super) fn client(&self) -> Client {
        Client {
            address: self.address,
            requests: Arc::clone(&self.requests),
            most_requests: self.shared.most_per_address.max(MAX_STREAMS.into()),
            memory: self.shared.memory.clone(),
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let UsedSlots { total, by_address } = &mut *self.shared.taken.lock();
        *total -= 1;
        if let Entry::Occupied(mut of_address) = by_address.entry(self.address) {
            of_address.get_mut().connections -= 1;
            if of_address.get().connections == 0 {
                of_address.remove();
            }
        }
    }
}

/// The requests of a client that are under way over HTTP/2, on all of its connections. Cheap to clone; a clone is the
/// same client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    address: IpAddr,
    requests: Arc<AtomicUsize>,
    most_requests: usize,
    memory: AnswerMemory,
}

impl Client {
    /// Counts a request; `false` where it is one too many. Either way [`Client::end`] must follow.
    pub(super) fn begin(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed) < self.most_requests
    }

    /// A request has ended.
    pub(super) fn end(&self) {
        self.requests.fetch_sub(1, Ordering::Relaxed);
    }

    /// Reserves memory for the body of a request.
    pub(super) fn reserve(&self, bytes: usize) -> Result<Reservation, AnswerMemoryExhausted> {
        self.memory.reserve(Some(self.address), bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn no_more_places_are_given_than_there_are() {
        let slots = ConnectionSlots::new(2, 2, AnswerMemory::default());
        let first = slots.take(address("192.0.2.1")).unwrap();
        let _second = slots.take(address("192.0.2.2")).unwrap();
        let third = slots.take(address("192.0.2.3"));
        assert_eq!(third.unwrap_err(), ConnectionOutcome::RefusedTotal);
        drop(first);
        slots.take(address("192.0.2.3")).unwrap();
    }

    #[test]
    fn an_address_gets_its_share_and_no_more() {
        let slots = ConnectionSlots::new(9, 1, AnswerMemory::default());
        let first = slots.take(address("192.0.2.1")).unwrap();
        let _other = slots.take(address("192.0.2.2")).unwrap();
        let again = slots.take(address("::ffff:192.0.2.1"));
        assert_eq!(again.unwrap_err(), ConnectionOutcome::RefusedAddress);
        drop(first);
        assert_eq!(slots.shared.taken.lock().by_address.len(), 1);
        slots.take(address("192.0.2.1")).unwrap();
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let slots = ConnectionSlots::new(9, 1, AnswerMemory::default());
        let _one = slots.take(address("2001:db8:0:1::1")).unwrap();
        let again = slots.take(address("2001:db8:0:1:ffff::2"));
        assert_eq!(again.unwrap_err(), ConnectionOutcome::RefusedAddress);
        slots.take(address("2001:db8:0:2::1")).unwrap();
    }

    #[test]
    fn a_client_has_as_many_requests_as_connections_and_no_fewer_than_one_connection_has() {
        for (most_connections, most_requests) in [(1, 512), (1000, 1000)] {
            let slots = ConnectionSlots::new(5000, most_connections, AnswerMemory::default());
            let slot = slots.take(address("192.0.2.1")).unwrap();
            let other = slots.take(address("192.0.2.2")).unwrap();
            for _ in 0..most_requests {
                assert!(slot.client().begin());
            }
            assert!(!slot.client().begin());
            assert!(other.client().begin());
            slot.client().end();
            assert!(!slot.client().begin());
            slot.client().end();
            slot.client().end();
            assert!(slot.client().begin());
        }
    }
}
