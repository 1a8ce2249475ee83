//! The memory budget for bodies that wait for their clients: answers that clients have not read yet, and requests that are
//! not complete yet.
//!
//! A [`Reservation`] covers a body from before it is built until its last byte is handed to the socket, or dropped. No
//! client may hold more than is left for all others, so one client gets at most half of the budget.

use std::{
    error::Error,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use actix_web::{HttpRequest, http::StatusCode, web::Bytes};
use vitals_registry::{
    Collector, Counter, Descriptor, FamilyDescription, FamilyRows, ReadFamily, RegistryBuilder,
    Unit,
};

use crate::{fair_shares::FairShares, problem::Problem};

/// The default budget: 256 MiB.
pub const DEFAULT_ANSWER_MEMORY: usize = 256 * 1024 * 1024;

/// Bodies up to this size are not counted: the buffers of their connection are larger.
pub const UNCOUNTED_BYTES: usize = 4 * 1024;

/// The value of `Retry-After`, in seconds, when the budget is used up.
const RETRY_AFTER_SECONDS: u32 = 1;

const USED: ReadFamily = ReadFamily::gauge(
    "http_answer_memory_bytes",
    Unit::Bytes,
    "Memory of bodies that wait for their clients: answers not yet read, and requests not yet complete.",
);
const LIMIT: ReadFamily = ReadFamily::gauge(
    "http_answer_memory_limit_bytes",
    Unit::Bytes,
    "Budget for the memory of bodies that wait for their clients; one client may take half of it.",
);
/// A memory budget for bodies. Cheap to clone; clones share the budget.
#[derive(Clone, Debug)]
pub struct AnswerMemory {
    inner: Arc<AnswerMemoryInner>,
}

#[derive(Debug)]
struct AnswerMemoryInner {
    shares: Mutex<FairShares>,
    /// Counts rejected bodies, if that is recorded.
    refused: Option<Arc<Counter>>,
}

/// The budget, or this client's part of it, is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the memory for answers is used up")]
pub struct AnswerMemoryExhausted;

impl From<AnswerMemoryExhausted> for Problem {
    fn from(_: AnswerMemoryExhausted) -> Self {
        Self::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "Too many answers wait for their clients. Try again in a moment.",
        )
        .retry_after(RETRY_AFTER_SECONDS)
    }
}

impl Default for AnswerMemory {
    fn default() -> Self {
        Self::new(DEFAULT_ANSWER_MEMORY)
    }
}

impl AnswerMemory {
    /// Returns a budget of this many bytes.
    pub fn new(bytes: usize) -> Self {
        Self::counting(bytes, None)
    }

    /// Returns a budget of this many bytes that counts rejected bodies in the registry.
    pub fn declare(registry: &mut RegistryBuilder, bytes: usize) -> Self {
        let refused = registry.counter(Descriptor::new(
            "http_answer_memory_refused_total",
            "Bodies rejected with 503 because the memory for them was used up.",
            [],
        ));
        Self::counting(bytes, Some(refused.series([])))
    }

    fn counting(bytes: usize, refused: Option<Arc<Counter>>) -> Self {
        Self {
            inner: Arc::new(AnswerMemoryInner {
                shares: Mutex::new(FairShares::new(bytes)),
                refused,
            }),
        }
    }

    /// Reserves memory for a body that `client` waits for or sends. A body of up to [`UNCOUNTED_BYTES`] always succeeds.
    ///
    /// # Errors
    ///
    /// Fails, and counts a rejection, if the client would hold more than is then left for others.
    pub fn reserve(
        &self,
        client: Option<IpAddr>,
        bytes: usize,
    ) -> Result<Reservation, AnswerMemoryExhausted> {
        let mut reservation = Reservation {
            inner: Arc::clone(&self.inner),
            client: client.map(client_network),
            bytes: 0,
        };
        if bytes > UNCOUNTED_BYTES {
            reservation.grow(bytes)?;
        }
        Ok(reservation)
    }

    /// Counts a body that exists already, even beyond the budget. For a request that cannot be rejected any more.
    pub fn charge(&self, client: Option<IpAddr>, body: Vec<u8>) -> Bytes {
        let reservation = Reservation {
            inner: Arc::clone(&self.inner),
            client: client.map(client_network),
            bytes: 0,
        };
        reservation.hold(body)
    }

    /// The bytes that are reserved now.
    pub fn used(&self) -> usize {
        self.inner.lock().total()
    }
}

impl AnswerMemoryInner {
    fn lock(&self) -> MutexGuard<'_, FairShares> {
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory that is reserved for one body, until it is dropped.
#[derive(Debug)]
pub struct Reservation {
    inner: Arc<AnswerMemoryInner>,
    client: Option<IpAddr>,
    bytes: usize,
}

impl Reservation {
    /// Reserves more memory for the same body.
    ///
    /// # Errors
    ///
    /// Fails like [`AnswerMemory::reserve`]. The reservation stays as it was.
    pub fn grow(&mut self, more: usize) -> Result<(), AnswerMemoryExhausted> {
        let is_fair = self.inner.lock().take(self.client, more, 0);
        if is_fair {
            self.bytes += more;
            return Ok(());
        }
        if let Some(refused) = &self.inner.refused {
            refused.inc();
        }
        Err(AnswerMemoryExhausted)
    }

    /// Changes the reservation to the body's actual size, even beyond the budget.
    pub fn settle(&mut self, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let mut shares = self.inner.lock();
        shares.change(self.client, self.bytes, bytes);
        self.bytes = bytes;
    }

    /// Converts the body into shared bytes. They keep the reservation until the last clone or slice is dropped.
    pub fn hold(mut self, mut body: Vec<u8>) -> Bytes {
        body.shrink_to_fit();
        if body.len() <= UNCOUNTED_BYTES {
            return body.into();
        }
        self.settle(body.len());
        Bytes::from_owner(ReservedBytes {
            body,
            _reservation: self,
        })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.settle(0);
    }
}

struct ReservedBytes {
    body: Vec<u8>,
    _reservation: Reservation,
}

impl AsRef<[u8]> for ReservedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

/// Returns the address of the client that sent a request, for [`AnswerMemory::reserve`].
pub fn client_of(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|address| address.ip())
}

/// Returns the address that represents all addresses of one client. An IPv6 client has a network of 64 bits.
pub fn client_network(address: IpAddr) -> IpAddr {
    const NETWORK: u128 = !(u64::MAX as u128);

    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & NETWORK).into(),
        address @ IpAddr::V4(_) => address,
    }
}

impl Collector for AnswerMemory {
    fn name(&self) -> &'static str {
        "answer_memory"
    }

    fn describe(&self) -> Vec<FamilyDescription> {
        [USED, LIMIT].iter().map(ReadFamily::describe).collect()
    }

    fn collect(&self, rows: &mut Vec<FamilyRows>) -> Result<(), Box<dyn Error + Send + Sync>> {
        rows.push(USED.single(self.used() as f64));
        rows.push(LIMIT.single(self.inner.lock().capacity() as f64));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::reading::samples;
    use vitals_registry::Registry;

    #[allow(
        clippy::unnecessary_wraps,
        reason = "the functions under test take an option"
    )]
    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn one_client_gets_half_and_the_next_half_of_the_rest() {
        let mut registry = Registry::builder(|| Duration::ZERO);
        let memory = AnswerMemory::declare(&mut registry, 1_200_000);
        let first = client("192.0.2.1");
        let half = memory.reserve(first, 600_000).unwrap();
        assert!(memory.reserve(first, 5_000).is_err());
        let second = client("192.0.2.2");
        let quarter = memory.reserve(second, 300_000).unwrap();
        assert!(memory.reserve(second, 5_000).is_err());
        let third = memory.reserve(client("192.0.2.3"), 150_000).unwrap();
        assert_eq!(memory.used(), 1_050_000);
        drop((half, quarter, third));
        assert_eq!(memory.used(), 0);
        assert_eq!(memory.inner.lock().clients(), 0);
        let refused = memory.inner.refused.as_ref().map(|refused| refused.value());
        assert_eq!(refused, Some(2));
        let levels = samples(&memory);
        let bytes = |family: &str| levels[family].to_string();
        assert_eq!(bytes("http_answer_memory_bytes"), "0");
        assert_eq!(bytes("http_answer_memory_limit_bytes"), "1200000");
    }

    #[test]
    fn a_body_keeps_its_reservation_until_its_last_slice_is_dropped() {
        let memory = AnswerMemory::new(1_000_000);
        let mut body = memory.reserve(None, 500_000).unwrap().hold(vec![7; 10_000]);
        assert_eq!(memory.used(), 10_000);
        let slice = body.split_to(100);
        drop(body);
        assert_eq!(memory.used(), 10_000);
        assert_eq!(slice, [7; 100].as_slice());
        drop(slice);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn small_bodies_are_not_counted() {
        let memory = AnswerMemory::new(1_000_000);
        let _body = memory.reserve(None, 500_000).unwrap().hold(vec![7; 4096]);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_body_that_cannot_be_rejected_is_counted_beyond_the_budget() {
        let memory = AnswerMemory::new(10_000);
        let body = memory.charge(None, vec![0; 20_000]);
        assert_eq!(memory.used(), 20_000);
        let more = memory.reserve(None, 5_000);
        assert_eq!(more.unwrap_err(), AnswerMemoryExhausted);
        drop(body);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_reservation_that_cannot_grow_stays_as_it_was() {
        let memory = AnswerMemory::new(100_000);
        let mut reservation = memory.reserve(None, 40_000).unwrap();
        assert!(reservation.grow(20_000).is_err());
        assert_eq!(memory.used(), 40_000);
        reservation.grow(10_000).unwrap();
        assert!(reservation.grow(usize::MAX).is_err());
        drop(reservation);
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn a_network_of_64_bits_is_one_client() {
        let memory = AnswerMemory::new(100_000);
        let _half = memory.reserve(client("2001:db8:0:1::1"), 50_000).unwrap();
        assert!(
            memory
                .reserve(client("2001:db8:0:1:ffff::2"), 5_000)
                .is_err()
        );
        memory.reserve(client("2001:db8:0:2::1"), 25_000).unwrap();
        assert!(memory.reserve(client("::ffff:192.0.2.1"), 25_000).is_ok());
    }
}
