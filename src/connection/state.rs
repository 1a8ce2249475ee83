//! What the parts of one connection tell each other, and what follows from it: whom the connection waits for, and how
//! long it may.
//!
//! The stream tells what is read and what cannot be written, the service which requests are being served. A connection
//! lives on one thread, so nothing here is locked; while a request is served nothing is allocated, and no clock is read
//! but at its end.

use std::cell::{Cell, RefCell};
use std::task::Waker;

use tokio::time::{Duration, Instant};

use super::drain::Drain;
use super::header_blocks::{Excess, HeaderBlocks};
use super::request_extent::{BodyLength, RequestExtent};
use super::slots::Client;
use crate::settings::LimitSettings;
use actix_vitals::http::ConnectionOutcome;

/// Bytes that are read while a request is served and nobody waits for them: what a client has sent ahead. The protocol
/// must never be full: it would ask for room again and again, and keep the worker busy with nothing else.
pub(super) const MAX_BYTES_AHEAD: usize = 32 * 1024;

/// The shortest header, with its end of line: what a head of few bytes can have only few of.
const SHORTEST_HEADER_BYTES: usize = 4;

/// How often a connection that is to end with its last answer looks whether that is gone.
const DRAINING_TICK: Duration = Duration::from_millis(50);

/// What is known of a connection.
pub(super) struct ConnectionState {
    limits: LimitSettings,
    /// HTTP/2: requests stand beside each other.
    is_multiplexed: bool,
    in_service: Cell<usize>,
    idle_since: Cell<Instant>,
    /// Since when the head of a request is awaited that has begun, or that is the first.
    head_since: Cell<Option<Instant>>,
    /// Where the request ends that is being read; of HTTP/1 only.
    extent: Cell<RequestExtent>,
    /// Bytes of the head that is being read; of HTTP/1 only.
    unclaimed_bytes: Cell<usize>,
    /// Bytes that were read while a request was served, and that nobody has waited for; of HTTP/1 only.
    bytes_ahead: Cell<usize>,
    /// Who reads again once that has changed.
    parked: Cell<Option<Waker>>,
    /// Whether a body was given up, so that what is read is the rest of it.
    is_discarding: Cell<bool>,
    /// Since when the socket takes no more.
    blocked_since: Cell<Option<Instant>>,
    /// Since when each answer that the peer leaves no room for is stalled; of HTTP/2 only.
    stalled: RefCell<Vec<Option<Instant>>>,
    /// What went wrong, where it was noticed elsewhere.
    fault: Cell<Option<ConnectionOutcome>>,
    /// The heads of requests as they come in; of HTTP/2 only.
    header_blocks: Cell<HeaderBlocks>,
    /// The requests of this connection's client that are under way, on all of its connections.
    client: Client,
    is_draining: Cell<bool>,
    drain: Drain,
}

/// Why a request is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestRejection {
    /// Its head is too large.
    HeadersTooLarge,
    /// Too many requests of its client are being served.
    TooManyRequests,
}

impl ConnectionState {
    pub(super) fn new(
        limits: LimitSettings,
        is_multiplexed: bool,
        accepted: Instant,
        client: Client,
        drain: Drain,
    ) -> Self {
        Self {
            limits,
            header_blocks: Cell::new(HeaderBlocks::new(header_block_bytes(&limits))),
            client,
            is_multiplexed,
            in_service: Cell::new(0),
            idle_since: Cell::new(accepted),
            head_since: Cell::new(Some(accepted)),
            extent: Cell::new(RequestExtent::new()),
            unclaimed_bytes: Cell::new(0),
            bytes_ahead: Cell::new(0),
            parked: Cell::new(None),
            is_discarding: Cell::new(false),
            blocked_since: Cell::new(None),
            stalled: RefCell::default(),
            fault: Cell::new(None),
            is_draining: Cell::new(false),
            drain,
        }
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.is_multiplexed
    }

    /// What the headers of a request of HTTP/2 may amount to, as it counts them (RFC 9113, section 6.5.2). A head of more
    /// than [the limit](LimitSettings::max_header_bytes) is refused when it is whole; this is where its reading ends.
    pub(super) fn header_list_bytes(&self) -> u32 {
        let bytes = 2 * header_block_bytes(&self.limits);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// The client's memory for bodies.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn body_timeout(&self) -> Duration {
        self.limits.body_timeout
    }

    /// Whether enough was read that is of no use yet. The reader must then [park](Self::park).
    pub(super) fn is_full(&self) -> bool {
        if self.is_multiplexed || self.is_discarding.get() {
            return false;
        }
        match self.in_service.get() {
            0 => self.unclaimed_bytes.get() > self.limits.max_header_bytes,
            _ => self.bytes_ahead.get() >= MAX_BYTES_AHEAD,
        }
    }

    /// Keeps the reader until there is use for what it reads.
    pub(super) fn park(&self, reader: &Waker) {
        self.parked.set(Some(reader.clone()));
    }

    fn unpark(&self) {
        if let Some(reader) = self.parked.take() {
            reader.wake();
        }
    }

    /// Whether the protocol may be given what comes. Of HTTP/1 it is not given the next request before the answer to this
    /// one was written; the reader must then [wait](Self::await_next).
    pub(super) fn is_open(&self) -> bool {
        if self.is_multiplexed {
            return true;
        }
        let mut extent = self.extent.get();
        let is_answered = self.in_service.get() == 0 && self.blocked_since.get().is_none();
        if extent.is_whole() && is_answered && !extent.take_pause() {
            extent = RequestExtent::new();
            self.is_discarding.set(false);
        }
        self.extent.set(extent);
        extent.is_open()
    }

    /// Whether a request is being served.
    pub(super) fn is_serving(&self) -> bool {
        self.in_service.get() > 0
    }

    /// Wakes the reader, which has read of the next request, once that may be handed on.
    pub(super) fn await_next(&self, reader: &Waker) {
        let is_answered = self.in_service.get() == 0 && self.blocked_since.get().is_none();
        if self.extent.get().is_whole() && is_answered {
            reader.wake_by_ref();
        } else {
            self.park(reader);
        }
    }

    /// These bytes were read, and as many as this returns are to be handed on: those of one request. Fails where they must
    /// not reach the protocol: the head of a request is too large, or a body comes in too many parts.
    pub(super) fn read(&self, bytes: &[u8]) -> Result<usize, Excess> {
        if self.is_multiplexed {
            self.read_frames(bytes)?;
            return Ok(bytes.len());
        }
        let mut extent = self.extent.get();
        let is_head = extent.is_in_head();
        let taken = extent.take(bytes);
        self.extent.set(extent);
        let add = |count: &Cell<usize>| count.set(count.get().saturating_add(taken));
        if is_head {
            add(&self.unclaimed_bytes);
        } else if self.in_service.get() > 0 && !self.is_discarding.get() {
            add(&self.bytes_ahead);
        }
        Ok(taken)
    }

    /// Actix has read a head, and its body ends so.
    pub(super) fn body_ends(&self, body: BodyLength) {
        let mut extent = self.extent.get();
        extent.begin(body);
        self.extent.set(extent);
    }

    fn read_frames(&self, bytes: &[u8]) -> Result<(), Excess> {
        let mut blocks = self.header_blocks.get();
        let read = blocks.read(bytes);
        self.header_blocks.set(blocks);
        read.inspect_err(|excess| {
            self.fail(match excess {
                Excess::Head => ConnectionOutcome::HeadersTooLarge,
                Excess::Data => ConnectionOutcome::Malformed,
            });
        })
    }

    /// The socket took something, or had nothing to take.
    pub(super) fn wrote(&self) {
        self.blocked_since.set(None);
        if self.in_service.get() == 0 {
            self.unpark();
        }
    }

    /// The socket takes nothing.
    pub(super) fn blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(Instant::now()));
        }
    }

    /// A request begins, unless it is refused; whatever the answer, [`ConnectionState::end`] must follow.
    ///
    /// `measure` counts the headers and the bytes of its head, and is called only where they may be too many.
    pub(super) fn begin(
        &self,
        measure: impl FnOnce() -> (usize, usize),
    ) -> Result<(), RequestRejection> {
        let head_bytes = self.unclaimed_bytes.get();
        let in_service = self.in_service.get();
        self.in_service.set(in_service + 1);
        self.head_since.set(None);
        self.is_discarding.set(false);
        self.unpark();
        self.unclaimed_bytes.set(0);
        if self.is_multiplexed && !self.client.begin() {
            return Err(RequestRejection::TooManyRequests);
        }
        let LimitSettings {
            max_headers,
            max_header_bytes,
            ..
        } = self.limits;
        let is_small = head_bytes <= max_header_bytes.min(max_headers * SHORTEST_HEADER_BYTES);
        if is_small && !self.is_multiplexed {
            return Ok(());
        }
        let (headers, bytes) = measure();
        if headers > max_headers || bytes > max_header_bytes {
            if !self.is_multiplexed {
                self.fault.set(Some(ConnectionOutcome::HeadersTooLarge));
            }
            return Err(RequestRejection::HeadersTooLarge);
        }
        Ok(())
    }

    /// A request has ended: its answer was handed on, or it was dropped.
    pub(super) fn end(&self) {
        let left = self.in_service.get().saturating_sub(1);
        self.in_service.set(left);
        if self.is_multiplexed {
            self.client.end();
        }
        if left == 0 {
            self.idle_since.set(Instant::now());
        }
        if !self.is_multiplexed {
            let mut extent = self.extent.get();
            extent.end();
            self.extent.set(extent);
            self.unpark();
        }
    }

    /// Somebody waits for the rest of a body: all that was read of it was of use.
    pub(super) fn body_awaited(&self) {
        self.bytes_ahead.set(0);
        self.unpark();
    }

    /// Nobody wants the rest of a body.
    pub(super) fn body_given_up(&self) {
        self.is_discarding.set(true);
        self.unpark();
    }

    /// An answer has handed on a part, and waits for room. To be taken back with [`ConnectionState::resume`].
    pub(super) fn stall(&self) -> usize {
        let mut stalled = self.stalled.borrow_mut();
        let now = Some(Instant::now());
        if let Some(free) = stalled.iter().position(Option::is_none) {
            stalled[free] = now;
            return free;
        }
        stalled.push(now);
        stalled.len() - 1
    }

    /// The answer that stalled here has been given room, or is gone.
    pub(super) fn resume(&self, place: usize) {
        if let Some(stalled) = self.stalled.borrow_mut().get_mut(place) {
            *stalled = None;
        }
    }

    /// Something that the connection must not outlive by much.
    pub(super) fn fail(&self, outcome: ConnectionOutcome) {
        self.fault.set(Some(outcome));
    }

    /// What went wrong, if anything did that was noticed while the protocol went on.
    pub(super) fn fault(&self) -> Option<ConnectionOutcome> {
        self.fault.get()
    }

    /// Whether something went wrong that HTTP/1 cannot go on after, and its answer is written.
    pub(super) fn is_spent(&self) -> bool {
        self.fault.get().is_some()
            && !self.is_multiplexed
            && self.in_service.get() == 0
            && self.blocked_since.get().is_none()
    }

    /// Whether the connection is to end with its next answer.
    pub(super) fn closes_after_answer(&self) -> bool {
        self.drain.closes_after_answer()
    }

    /// Waits until the connection is to wait for no further request.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + use<> {
        self.drain.closing()
    }

    /// From now on the connection ends with its last answer.
    pub(super) fn drain(&self) {
        self.is_draining.set(true);
    }

    /// To be called when nothing can go on without the peer or a request's handler. Fails where the head that is being
    /// read is too large already.
    pub(super) fn settle(&self) -> Result<(), ConnectionOutcome> {
        if self.in_service.get() > 0 {
            return Ok(());
        }
        let unclaimed = self.unclaimed_bytes.get();
        if self.bytes_ahead.take() > 0 {
            self.unpark();
        }
        if unclaimed == 0 {
            return Ok(());
        }
        if unclaimed > self.limits.max_header_bytes {
            return Err(ConnectionOutcome::HeadersTooLarge);
        }
        if self.head_since.get().is_none() {
            self.head_since.set(Some(Instant::now()));
        }
        Ok(())
    }

    /// When to ask again, or what becomes of the connection now that it has waited too long.
    ///
    /// No deadline that begins after `now` can be missed by asking when the answer says.
    pub(super) fn check(&self, now: Instant) -> Result<Instant, ConnectionOutcome> {
        let shortest = self
            .limits
            .head_timeout
            .min(self.limits.idle_timeout)
            .min(self.limits.response_timeout);
        let next = now + shortest;
        if self.is_draining.get() {
            return match self.in_service.get() {
                0 => Err(ConnectionOutcome::Closed),
                _ => Ok(now + DRAINING_TICK.min(shortest)),
            };
        }
        match self.waiting() {
            Some((deadline, outcome)) if deadline <= now => Err(outcome),
            Some((deadline, _)) => Ok(next.min(deadline)),
            None => Ok(next),
        }
    }

    /// Until when the peer may keep the connection waiting, and what for; `None` while a request is being served.
    fn waiting(&self) -> Option<(Instant, ConnectionOutcome)> {
        let stalled = self.stalled.borrow().iter().flatten().min().copied();
        if let Some(since) = self.blocked_since.get().or(stalled) {
            let deadline = since + self.limits.response_timeout;
            return Some((deadline, ConnectionOutcome::ResponseTimeout));
        }
        if self.in_service.get() > 0 {
            return None;
        }
        Some(match self.head_since.get() {
            Some(since) => (
                since + self.limits.head_timeout,
                ConnectionOutcome::HeadTimeout,
            ),
            None => (
                self.idle_since.get() + self.limits.idle_timeout,
                ConnectionOutcome::Idle,
            ),
        })
    }
}

/// What the head of a request of HTTP/2 may take on the wire, compressed: more than a head of the largest size does, so
/// that one which is a little too large gets an answer.
fn header_block_bytes(limits: &LimitSettings) -> usize {
    (2 * limits.max_header_bytes).max(32 * 1024)
}

#[cfg(test)]
mod tests;
