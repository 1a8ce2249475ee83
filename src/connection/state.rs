//! The state of one connection: what it waits for, and until when it may.
//!
//! The stream reports what it reads and cannot write, the watch reports which requests are in service. A connection belongs
//! to one thread, so there are no locks. Serving a request allocates nothing here, and reads the clock at its end only.

use std::{
    cell::{Cell, RefCell},
    task::Waker,
};

use actix_vitals::http::ConnectionOutcome;
use tokio::time::{Duration, Instant};

use super::{
    drain::Drain,
    header_blocks::{Excess, HeaderBlocks},
    request_extent::{BodyLength, RequestExtent},
    slots::Client,
};
use crate::settings::LimitSettings;

/// Most bytes of a body that are read while a request is in service and does not wait for them. The protocol's own buffer
/// must never be full: it would poll for room again and again, and occupy its worker.
pub(super) const MAX_BYTES_AHEAD: usize = 32 * 1024;

/// The bytes of the shortest header with its end of line. They bound the number of headers of a short head.
const SHORTEST_HEADER_BYTES: usize = 4;

/// The state of one connection.
pub(super) struct ConnectionState {
    limits: LimitSettings,
    /// Whether it is HTTP/2, with concurrent requests.
    is_multiplexed: bool,
    in_service: Cell<usize>,
    idle_since: Cell<Instant>,
    /// When the current (or first) request head started. `None` while idle.
    head_since: Cell<Option<Instant>>,
    /// The end of the request that is being read. HTTP/1 only.
    extent: Cell<RequestExtent>,
    /// The bytes of the head that is being read. HTTP/1 only.
    unclaimed_bytes: Cell<usize>,
    /// The bytes that were read while a request was in service and did not wait for them. HTTP/1 only.
    bytes_ahead: Cell<usize>,
    /// The reader, while it must not read on.
    parked: Cell<Option<Waker>>,
    /// Whether the application has dropped a body, so that the bytes read now are the rest of it.
    is_discarding: Cell<bool>,
    /// Since when the socket accepts no more bytes.
    blocked_since: Cell<Option<Instant>>,
    /// Since when each stalled answer waits for room. HTTP/2 only.
    stalled: RefCell<Vec<Option<Instant>>>,
    /// The outcome of a connection that must end, while the protocol does not know it yet.
    fault: Cell<Option<ConnectionOutcome>>,
    /// The limits on incoming frames. HTTP/2 only.
    header_blocks: Cell<HeaderBlocks>,
    /// The concurrent requests of this client, on all of its connections.
    client: Client,
    drain: Drain,
}

/// Why a request is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestRejection {
    /// Its head is too large.
    HeadersTooLarge,
    /// Its client has too many requests in service.
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
            drain,
        }
    }

    pub(super) fn is_multiplexed(&self) -> bool {
        self.is_multiplexed
    }

    /// The announced limit of a request's headers, as HTTP/2 counts them (RFC 9113, section 6.5.2). It is above
    /// [the setting](LimitSettings::max_header_bytes), so that a head slightly beyond the setting is read and answered.
    pub(super) fn header_list_bytes(&self) -> u32 {
        let bytes = 2 * header_block_bytes(&self.limits);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// The client of this connection.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn body_timeout(&self) -> Duration {
        self.limits.body_timeout
    }

    /// Whether so many bytes wait for their use that the reader must [park](Self::park).
    pub(super) fn is_full(&self) -> bool {
        if self.is_multiplexed || self.is_discarding.get() {
            return false;
        }
        match self.in_service.get() {
            0 => self.unclaimed_bytes.get() > self.limits.max_header_bytes,
            _ => self.bytes_ahead.get() >= MAX_BYTES_AHEAD,
        }
    }

    /// Keeps the reader until more bytes are needed.
    pub(super) fn park(&self, reader: &Waker) {
        self.parked.set(Some(reader.clone()));
    }

    fn unpark(&self) {
        if let Some(reader) = self.parked.take() {
            reader.wake();
        }
    }

    /// Whether the protocol may get the next bytes. HTTP/1 gets the next request only when the previous answer is written.
    /// Until then the reader must [wait](Self::await_next).
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

    /// Whether a request is in service.
    pub(super) fn is_serving(&self) -> bool {
        self.in_service.get() > 0
    }

    /// Since when no request is in service and the socket has accepted all bytes, if that is so.
    pub(super) fn idle_since(&self) -> Option<Instant> {
        let is_idle = self.in_service.get() == 0 && self.blocked_since.get().is_none();
        is_idle.then(|| self.idle_since.get())
    }

    /// Wakes the reader, which has read bytes of the next request, once the protocol may get them.
    pub(super) fn await_next(&self, reader: &Waker) {
        let is_answered = self.in_service.get() == 0 && self.blocked_since.get().is_none();
        if self.extent.get().is_whole() && is_answered {
            reader.wake_by_ref();
        } else {
            self.park(reader);
        }
    }

    /// Records received bytes, and returns how many of them the protocol may get: those of one request. Fails if none may,
    /// because a limit on frames is exceeded.
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

    /// The protocol has parsed a head: the body has this length.
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

    /// The socket has accepted bytes, or there were none.
    pub(super) fn wrote(&self) {
        if self.blocked_since.take().is_some() {
            self.idle_since.set(Instant::now());
        }
        if self.in_service.get() == 0 {
            self.unpark();
        }
    }

    /// The socket accepts no bytes.
    pub(super) fn blocked(&self) {
        if self.blocked_since.get().is_none() {
            self.blocked_since.set(Some(Instant::now()));
        }
    }

    /// Puts a request in service, or rejects it. In both cases [`ConnectionState::end`] must follow.
    ///
    /// `measure` counts the headers and the bytes of the head. It is called only if they may be too many.
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

    /// Ends the service of a request, whose answer is passed on or dropped.
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

    /// The application waits for the rest of a body, so all bytes read so far are used.
    pub(super) fn body_awaited(&self) {
        self.bytes_ahead.set(0);
        self.unpark();
    }

    /// The application has dropped a body before its end.
    pub(super) fn body_given_up(&self) {
        self.is_discarding.set(true);
        self.unpark();
    }

    /// An answer has passed on a part and waits for room. Returns an index for [`ConnectionState::resume`].
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

    /// The answer that stalled with this index has room again, or is dropped.
    pub(super) fn resume(&self, index: usize) {
        if let Some(stalled) = self.stalled.borrow_mut().get_mut(index) {
            *stalled = None;
        }
    }

    /// Sets the outcome of a connection that must end soon.
    pub(super) fn fail(&self, outcome: ConnectionOutcome) {
        self.fault.set(Some(outcome));
    }

    /// The outcome that was set by [`fail`](Self::fail), if any.
    pub(super) fn fault(&self) -> Option<ConnectionOutcome> {
        self.fault.get()
    }

    /// Whether a connection of HTTP/1 must end now: it has failed, and its answer is written.
    pub(super) fn is_spent(&self) -> bool {
        self.fault.get().is_some()
            && !self.is_multiplexed
            && self.in_service.get() == 0
            && self.blocked_since.get().is_none()
    }

    /// Whether the next answer is the last of the connection.
    pub(super) fn closes_after_answer(&self) -> bool {
        self.fault.get().is_some() || self.drain.closes_after_answer()
    }

    /// Waits until idle connections must close.
    pub(super) fn closing(&self) -> impl Future<Output = ()> + use<> {
        self.drain.closing()
    }

    /// Must be called when the connection waits for its peer or for a handler. Fails if the head that is being read is too
    /// large already.
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

    /// The time of the next check, or the outcome of a connection whose deadline has passed.
    ///
    /// The next check is early enough for any deadline that starts after `now`.
    pub(super) fn check(&self, now: Instant) -> Result<Instant, ConnectionOutcome> {
        let shortest = self
            .limits
            .head_timeout
            .min(self.limits.idle_timeout)
            .min(self.limits.response_timeout);
        let next = now + shortest;
        match self.waiting() {
            Some((deadline, outcome)) if deadline <= now => Err(outcome),
            Some((deadline, _)) => Ok(next.min(deadline)),
            None => Ok(next),
        }
    }

    /// The deadline of the peer, and the outcome once it has passed. `None` while a request is in service.
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

/// Most compressed bytes of a request's head over HTTP/2. It is above the setting, so that a head slightly beyond the setting
/// is read and answered.
fn header_block_bytes(limits: &LimitSettings) -> usize {
    (2 * limits.max_header_bytes).max(32 * 1024)
}

#[cfg(test)]
mod tests;
