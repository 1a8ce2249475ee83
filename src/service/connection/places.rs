//! How many connections a listener has, in total and of each address, and who gets no place any more.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

use crate::vitals::http::ConnectionOutcome;

/// The places for the connections of one listener; a clone is the same places.
#[derive(Debug, Clone)]
pub(super) struct Places {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    most: usize,
    most_per_address: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Places {
    pub(super) fn new(most: usize, most_per_address: usize) -> Self {
        Self {
            shared: Arc::new(Shared {
                most,
                most_per_address,
                taken: Mutex::default(),
            }),
        }
    }

    /// A place, kept until it is dropped; or what becomes of a connection without one.
    pub(super) fn take(&self, address: IpAddr) -> Result<Place, ConnectionOutcome> {
        let address = neighbourhood(address);
        let Taken { total, by_address } = &mut *self.shared.taken.lock();
        if *total >= self.shared.most {
            return Err(ConnectionOutcome::RefusedTotal);
        }
        let of_address = by_address.entry(address).or_default();
        if *of_address >= self.shared.most_per_address {
            return Err(ConnectionOutcome::RefusedAddress);
        }
        *of_address += 1;
        *total += 1;
        Ok(Place {
            shared: Arc::clone(&self.shared),
            address,
        })
    }
}

/// A place that is taken.
#[derive(Debug)]
pub(super) struct Place {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Taken { total, by_address } = &mut *self.shared.taken.lock();
        *total -= 1;
        if let Entry::Occupied(mut of_address) = by_address.entry(self.address) {
            *of_address.get_mut() -= 1;
            if *of_address.get() == 0 {
                of_address.remove();
            }
        }
    }
}

/// The address that stands for all whose owner is the same: of IPv6, everyone has a network of 64 bits.
fn neighbourhood(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);

    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
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
        let places = Places::new(2, 2);
        let first = places.take(address("192.0.2.1")).unwrap();
        let _second = places.take(address("192.0.2.2")).unwrap();
        let third = places.take(address("192.0.2.3"));
        assert_eq!(third.unwrap_err(), ConnectionOutcome::RefusedTotal);
        drop(first);
        places.take(address("192.0.2.3")).unwrap();
    }

    #[test]
    fn an_address_gets_its_share_and_no_more() {
        let places = Places::new(9, 1);
        let first = places.take(address("192.0.2.1")).unwrap();
        let _other = places.take(address("192.0.2.2")).unwrap();
        let again = places.take(address("::ffff:192.0.2.1"));
        assert_eq!(again.unwrap_err(), ConnectionOutcome::RefusedAddress);
        drop(first);
        assert_eq!(places.shared.taken.lock().by_address.len(), 1);
        places.take(address("192.0.2.1")).unwrap();
    }

    #[test]
    fn a_network_of_64_bits_is_one_address() {
        let places = Places::new(9, 1);
        let _one = places.take(address("2001:db8:0:1::1")).unwrap();
        let again = places.take(address("2001:db8:0:1:ffff::2"));
        assert_eq!(again.unwrap_err(), ConnectionOutcome::RefusedAddress);
        places.take(address("2001:db8:0:2::1")).unwrap();
    }
}
