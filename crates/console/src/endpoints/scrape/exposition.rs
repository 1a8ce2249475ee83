//! An exposition, and the body that sends it. It is a list of pieces without spare capacity, so that it takes no more memory
//! than its bytes. It is sent in slices, so that the event loop serves other requests in between.

use std::{
    io::{self, Write},
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};
use tokio::runtime::Handle;
use vitals_recorder::memory::Reservation;

/// The size of a slice: Actix writes its buffer when it has this size, so that the buffer does not grow.
const SLICE: usize = 32 * 1024;

/// How much is sent before the body yields to the event loop. It is copied twice, which takes some hundredths of a millisecond.
const TURN: usize = 2 * SLICE;

/// The bytes of one scrape in one form.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// Empty after the exposition was given up.
    pieces: Mutex<Vec<Bytes>>,
    length: usize,
    /// The memory that is reserved for it; `None` after it was given up.
    reservation: Mutex<Option<Reservation>>,
}

impl Exposition {
    fn lock(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Attaches the reservation of its memory.
    pub(super) fn within(self, reservation: Reservation) -> Self {
        *self.lock_reservation() = Some(reservation);
        self
    }

    fn lock_reservation(&self) -> MutexGuard<'_, Option<Reservation>> {
        (self.reservation.lock()).unwrap_or_else(PoisonError::into_inner)
    }

    /// Its size in bytes.
    pub(super) fn length(&self) -> usize {
        self.length
    }

    /// Frees the memory at once. Bodies that are not sent completely fail, so that no client takes a part for the whole.
    pub(super) fn give_up(&self) {
        let pieces = mem::take(&mut *self.lock());
        drop(pieces);
        let reservation = self.lock_reservation().take();
        drop(reservation);
    }

    /// Whether its memory was freed before it was sent.
    #[cfg(test)]
    pub(super) fn is_given_up(&self) -> bool {
        self.length > 0 && self.lock().is_empty()
    }
}

/// The exposition was given up before the client had received it.
#[derive(Debug, thiserror::Error)]
#[error("the client read too slowly, and other scrapes needed the memory")]
pub(super) struct GivenUp;

impl Write for Exposition {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if !piece.is_empty() {
            self.lock().push(Bytes::copy_from_slice(piece));
            self.length += piece.len();
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Freeing much memory takes long, so a large exposition is freed on a blocking thread.
impl Drop for Exposition {
    fn drop(&mut self) {
        if self.length > TURN
            && let Ok(runtime) = Handle::try_current()
        {
            let pieces = mem::take(&mut *self.lock());
            runtime.spawn_blocking(move || drop(pieces));
        }
    }
}

/// The body of an answer. Several bodies may send one exposition.
pub(super) struct ExpositionBody {
    exposition: Arc<Exposition>,
    /// The next piece, and the position in it.
    piece: usize,
    offset: usize,
    /// Bytes sent since the last pause.
    sent: usize,
    /// Bytes that are not sent yet.
    left: usize,
    /// Yields to the event loop. Waking the own task is not enough: the event loop polls all woken tasks before it polls for I/O.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl ExpositionBody {
    /// A body that sends an exposition from its beginning.
    pub(super) fn new(exposition: Arc<Exposition>) -> Self {
        Self {
            left: exposition.length,
            exposition,
            piece: 0,
            offset: 0,
            sent: 0,
            pause: None,
        }
    }

    fn next_slice(&mut self) -> Option<Result<Bytes, GivenUp>> {
        if self.left == 0 {
            return None;
        }
        let piece = self.exposition.lock().get(self.piece).cloned();
        let Some(piece) = piece else {
            return Some(Err(GivenUp));
        };
        let end = piece.len().min(self.offset + SLICE);
        let slice = piece.slice(self.offset..end);
        if end == piece.len() {
            (self.piece, self.offset) = (self.piece + 1, 0);
        } else {
            self.offset = end;
        }
        self.left -= slice.len();
        self.sent += slice.len();
        Some(Ok(slice))
    }
}

impl MessageBody for ExpositionBody {
    type Error = GivenUp;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.exposition.length as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, GivenUp>>> {
        if self.sent >= TURN {
            self.sent = 0;
            self.pause = Some(Box::pin(tokio::task::yield_now()));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(self.next_slice())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    fn of_pieces(count: usize, size: usize) -> Arc<Exposition> {
        let mut exposition = Exposition::default();
        for piece in 0..count {
            let byte = u8::try_from(piece % 256).unwrap();
            exposition.write_all(&vec![byte; size]).unwrap();
        }
        Arc::new(exposition)
    }

    #[actix_web::test]
    async fn each_body_sends_all_bytes_and_states_their_number_before() {
        let exposition = of_pieces(9, 100_000);
        for body in [
            ExpositionBody::new(Arc::clone(&exposition)),
            ExpositionBody::new(exposition),
        ] {
            assert_eq!(body.size(), BodySize::Sized(900_000));
            let sent = actix_web::body::to_bytes(body).await.unwrap();
            for (piece, byte) in sent.chunks(100_000).zip(0..) {
                assert!(piece.iter().all(|sent| *sent == byte));
            }
        }
    }

    #[actix_web::test]
    async fn the_body_of_a_slow_client_fails_instead_of_ending_early() {
        let exposition = of_pieces(2, 100_000);
        let mut body = pin!(ExpositionBody::new(Arc::clone(&exposition)));
        let first = poll_fn(|context| body.as_mut().poll_next(context)).await;
        assert_eq!(first.unwrap().unwrap().len(), SLICE);
        exposition.give_up();
        assert!(exposition.is_given_up());
        let rest = poll_fn(|context| body.as_mut().poll_next(context)).await;
        assert!(rest.unwrap().is_err());
    }

    #[actix_web::test]
    async fn a_body_yields_to_the_event_loop_after_each_turn() {
        let mut body = pin!(ExpositionBody::new(of_pieces(2, 5 * TURN)));
        let mut turns = vec![0];
        poll_fn(|context| {
            loop {
                match body.as_mut().poll_next(context) {
                    Poll::Ready(Some(_)) => *turns.last_mut().unwrap() += 1,
                    Poll::Ready(None) => return Poll::Ready(()),
                    Poll::Pending => {
                        turns.push(0);
                        return Poll::Pending;
                    }
                }
            }
        })
        .await;
        assert_eq!(turns, [vec![TURN / SLICE; 10], vec![0]].concat());
    }
}
