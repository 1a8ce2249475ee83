//! The slots for connections: they bound the number of connections of a listener, in total and for each address.

use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use actix_vitals::{
    http::ConnectionOutcome,
    memory::{AnswerMemory, AnswerMemoryExhausted, Reservation, client_network},
};
use parking_lot::Mutex;

/// How many concurrent requests a client may have on a connection of HTTP/2. The server announces it first. Requests beyond
/// it are rejected unread (`REFUSED_STREAM`). It is above the usual 100 because some clients send hundreds of requests before
/// they have received the announcement.
pub(super) const MAX_STREAMS: u16 = 512;

/// The slots of one listener. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct ConnectionSlots {
    inner: Arc<ConnectionSlotsInner>,
}

#[derive(Debug)]
struct ConnectionSlotsInner {
    most: usize,
    most_per_address: usize,
    memory: AnswerMemory,
    used: Mutex<UsedSlots>,
}

#[derive(Debug, Default)]
struct UsedSlots {
    total: usize,
    by_address: HashMap<IpAddr, AddressUse>,
}

/// The connections and requests of one address.
#[derive(Debug, Default)]
struct AddressUse {
    connections: usize,
    requests: Arc<AtomicUsize>,
}

impl ConnectionSlots {
    /// `most` slots in total and `most_per_address` for each address, which also bounds its concurrent requests over HTTP/2.
    /// Bodies of requests are reserved in `memory`.
    pub(super) fn new(most: usize, most_per_address: usize, memory: AnswerMemory) -> Self {
        Self {
            inner: Arc::new(ConnectionSlotsInner {
                most,
                most_per_address,
                memory,
                used: Mutex::default(),
            }),
        }
    }

    /// Takes a slot until it is dropped. Returns the outcome of the connection if there is none.
    pub(super) fn take(&self, address: IpAddr) -> Result<ConnectionSlot, ConnectionOutcome> {
        let address = client_network(address);
        let UsedSlots { total, by_address } = &mut *self.inner.used.lock();
        if *total >= self.inner.most {
            return Err(ConnectionOutcome::RefusedTotal);
        }
        let of_address = by_address.entry(address).or_default();
        if of_address.connections >= self.inner.most_per_address {
            return Err(ConnectionOutcome::RefusedAddress);
        }
        of_address.connections += 1;
        *total += 1;
        Ok(ConnectionSlot {
            requests: Arc::clone(&of_address.requests),
            inner: Arc::clone(&self.inner),
            address,
        })
    }
}

/// The slot of one connection.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    inner: Arc<ConnectionSlotsInner>,
    address: IpAddr,
    requests: Arc<AtomicUsize>,
}

impl ConnectionSlot {
    /// The client of the connection.
    pub(super) fn client(&self) -> Client {
        Client {
            address: self.address,
            requests: Arc::clone(&self.requests),
            most_requests: self.inner.most_per_address.max(MAX_STREAMS.into()),
            memory: self.inner.memory.clone(),
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        let UsedSlots { total, by_address } = &mut *self.inner.used.lock();
        *total -= 1;
        if let Entry::Occupied(mut of_address) = by_address.entry(self.address) {
            of_address.get_mut().connections -= 1;
            if of_address.get().connections == 0 {
                of_address.remove();
            }
        }
    }
}

/// The concurrent requests over HTTP/2 of one address, on all of its connections. Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Client {
    address: IpAddr,
    requests: Arc<AtomicUsize>,
    most_requests: usize,
    memory: AnswerMemory,
}

impl Client {
    /// Counts a request, and returns whether it is within the limit. [`Client::end`] must follow in either case.
    pub(super) fn begin(&self) -> bool {
        self.requests.fetch_add(1, Ordering::Relaxed) < self.most_requests
    }

    /// Stops counting a request.
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
    fn the_total_of_slots_is_bounded() {
        let slots = ConnectionSlots::new(2, 2, AnswerMemory::default());
        let first = slots.take(address("192.0.2.1")).unwrap();
        let _second = slots.take(address("192.0.2.2")).unwrap();
        let third = slots.take(address("192.0.2.3"));
        assert_eq!(third.unwrap_err(), ConnectionOutcome::RefusedTotal);
        drop(first);
        slots.take(address("192.0.2.3")).unwrap();
    }

    #[test]
    fn the_slots_of_an_address_are_bounded() {
        let slots = ConnectionSlots::new(9, 1, AnswerMemory::default());
        let first = slots.take(address("192.0.2.1")).unwrap();
        let _other = slots.take(address("192.0.2.2")).unwrap();
        let again = slots.take(address("::ffff:192.0.2.1"));
        assert_eq!(again.unwrap_err(), ConnectionOutcome::RefusedAddress);
        drop(first);
        assert_eq!(slots.inner.used.lock().by_address.len(), 1);
        slots.take(address("192.0.2.1")).unwrap();
    }

    #[test]
    fn an_ipv6_network_of_64_bits_counts_as_one_address() {
        let slots = ConnectionSlots::new(9, 1, AnswerMemory::default());
        let _one = slots.take(address("2001:db8:0:1::1")).unwrap();
        let again = slots.take(address("2001:db8:0:1:ffff::2"));
        assert_eq!(again.unwrap_err(), ConnectionOutcome::RefusedAddress);
        slots.take(address("2001:db8:0:2::1")).unwrap();
    }

    #[test]
    fn an_address_may_have_as_many_requests_as_connections_but_at_least_those_of_one_connection() {
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
