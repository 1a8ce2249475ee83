//! The body of a request with a deadline and a memory reservation, for both protocols.

use std::{
    cell::RefCell,
    future::Future as _,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
};

use actix_http::{Payload, error::PayloadError};
use actix_vitals::{
    http::ConnectionOutcome,
    memory::{AnswerMemoryExhausted, Reservation, UNCOUNTED_BYTES},
};
use actix_web::web::Bytes;
use futures_core::Stream;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::state::ConnectionState;

/// How many bytes extend the deadline of a body by a second.
const LEAST_BYTES_PER_SECOND: u64 = 1024;

/// The memory reserved for the body of a request. `None` while the body is too small to count. The reservation lasts as long
/// as the application may keep the body.
pub(super) type BodyReservation = Rc<RefCell<Option<Reservation>>>;

/// A request's payload. It fails with [`io::ErrorKind::TimedOut`] after its deadline, and with
/// [`io::ErrorKind::OutOfMemory`] when the memory for bodies is exhausted.
///
/// The time starts when the application first has to wait for the body. Each received byte extends it.
pub(super) struct TimedPayload {
    payload: Payload,
    state: Rc<ConnectionState>,
    reservation: BodyReservation,
    bytes: u64,
    has_ended: bool,
    waiting: Option<BodyWait>,
}

struct BodyWait {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl TimedPayload {
    pub(super) fn new(
        payload: Payload,
        state: Rc<ConnectionState>,
        reservation: BodyReservation,
    ) -> Self {
        Self {
            payload,
            state,
            reservation,
            bytes: 0,
            has_ended: false,
            waiting: None,
        }
    }

    /// Reserves memory for more bytes.
    fn reserve(&mut self, more: usize) -> Result<(), AnswerMemoryExhausted> {
        self.bytes += more as u64;
        match &mut *self.reservation.borrow_mut() {
            Some(reservation) => reservation.grow(more),
            none if self.bytes > UNCOUNTED_BYTES as u64 => {
                let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
                *none = Some(self.state.client().reserve(bytes)?);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Whether a body that is reported as incomplete has a malformed chunk. It ends only if its client has left.
    fn is_malformed(&mut self) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        match &mut self.payload {
            Payload::H1 { payload } => Pin::new(payload).poll_next(&mut context).is_pending(),
            _ => false,
        }
    }

    /// Resolves when the deadline has passed.
    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let timeout = self.state.body_timeout();
        let waiting = self.waiting.get_or_insert_with(|| {
            let since = Instant::now();
            BodyWait {
                since,
                timer: Box::pin(sleep_until(since + timeout)),
            }
        });
        loop {
            ready!(waiting.timer.as_mut().poll(context));
            let extension = Duration::from_secs(self.bytes / LEAST_BYTES_PER_SECOND);
            let deadline = waiting.since + timeout + extension;
            if deadline <= Instant::now() {
                return Poll::Ready(());
            }
            waiting.timer.as_mut().reset(deadline);
        }
    }
}

impl Stream for TimedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Poll::Ready(part) = Pin::new(&mut self.payload).poll_next(context) else {
            self.state.body_awaited();
            ready!(self.poll_deadline(context));
            if !self.state.is_multiplexed() {
                // The next request cannot be found.
                self.state.fail(ConnectionOutcome::BodyTimeout);
            }
            let error = io::Error::from(io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(PayloadError::Io(error))));
        };
        match &part {
            Some(Ok(bytes)) => {
                if self.reserve(bytes.len()).is_err() {
                    let error = io::Error::from(io::ErrorKind::OutOfMemory);
                    return Poll::Ready(Some(Err(PayloadError::Io(error))));
                }
            }
            Some(Err(PayloadError::Incomplete(None))) if self.is_malformed() => {
                self.state.fail(ConnectionOutcome::Malformed);
                return Poll::Ready(Some(Err(PayloadError::EncodingCorrupted)));
            }
            Some(Err(_)) => (),
            None => self.has_ended = true,
        }
        Poll::Ready(part)
    }
}

impl Drop for TimedPayload {
    fn drop(&mut self) {
        if !self.has_ended {
            self.state.body_given_up();
        }
    }
}
