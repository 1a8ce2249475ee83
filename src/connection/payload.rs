//! The body of a request that must come in time, whatever the protocol and whoever reads it.

use std::cell::RefCell;
use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use actix_http::Payload;
use actix_http::error::PayloadError;
use actix_web::web::Bytes;
use futures_core::Stream;
use tokio::time::{Duration, Instant, Sleep, sleep_until};

use super::state::ConnectionState;
use actix_vitals::http::ConnectionOutcome;
use actix_vitals::memory::{AnswerMemoryExhausted, Reservation, UNCOUNTED_BYTES};

/// How many bytes of a body must come each second, once it has taken its time.
const LEAST_BYTES_PER_SECOND: u64 = 1024;

/// The memory that is reserved for the body of a request, once it is large enough to count. It is kept for as long as the
/// application may have the body.
pub(super) type BodyReservation = Rc<RefCell<Option<Reservation>>>;

/// A request's payload that fails with [`io::ErrorKind::TimedOut`] where it does not come in time, and with
/// [`io::ErrorKind::OutOfMemory`] where the memory for bodies is used up.
///
/// Its time begins when somebody waits for it in vain, and grows with every byte that comes.
pub(super) struct TimedPayload {
    payload: Payload,
    state: Rc<ConnectionState>,
    held: BodyReservation,
    bytes: u64,
    has_ended: bool,
    waiting: Option<BodyWait>,
}

struct BodyWait {
    since: Instant,
    timer: Pin<Box<Sleep>>,
}

impl TimedPayload {
    pub(super) fn new(payload: Payload, state: Rc<ConnectionState>, held: BodyReservation) -> Self {
        Self {
            payload,
            state,
            held,
            bytes: 0,
            has_ended: false,
            waiting: None,
        }
    }

    /// Reserves memory for this many bytes more.
    fn reserve(&mut self, more: usize) -> Result<(), AnswerMemoryExhausted> {
        self.bytes += more as u64;
        match &mut *self.held.borrow_mut() {
            Some(reservation) => reservation.grow(more),
            none if self.bytes > UNCOUNTED_BYTES as u64 => {
                let bytes = usize::try_from(self.bytes).unwrap_or(usize::MAX);
                *none = Some(self.state.client().reserve(bytes)?);
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Resolves when the body has taken too long.
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
            let earned = Duration::from_secs(self.bytes / LEAST_BYTES_PER_SECOND);
            let deadline = waiting.since + timeout + earned;
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
            self.state.fail(ConnectionOutcome::BodyTimeout);
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
