//! An exposition on its way to the client: in pieces, as large as what they hold, so that it takes no more memory than its
//! bytes; and sent little by little, so that the event loop has time for others.

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

/// What is handed on at once: as much as the connection's buffer takes before it is written, so that it need not grow.
const SLICE: usize = 32 * 1024;

/// What is sent before others are let to the event loop. It is copied twice, which takes some hundredths of a
/// millisecond.
const TURN: usize = 2 * SLICE;

/// What was gathered.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// Empty once the exposition is given up.
    pieces: Mutex<Vec<Bytes>>,
    length: usize,
    /// The memory that is reserved for it; `None` once it is given up.
    reservation: Mutex<Option<Reservation>>,
}

impl Exposition {
    fn lock(&self) -> MutexGuard<'_, Vec<Bytes>> {
        self.pieces.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The same, with memory reserved for it.
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

    /// Frees the memory at once. Bodies that are not sent by now fail, so that no client takes a part for the whole.
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

/// The exposition was given up before the client had taken it.
#[derive(Debug, thiserror::Error)]
#[error("the client took too long, and others needed the memory")]
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

/// To give much memory back takes long: the event loop does not wait for that either.
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

/// An exposition that is being sent, perhaps to several at once.
pub(super) struct ExpositionBody {
    exposition: Arc<Exposition>,
    /// The piece that comes next, and where in it to go on.
    piece: usize,
    offset: usize,
    /// What has been sent in this turn.
    sent: usize,
    /// The part that was not sent yet.
    left: usize,
    /// The others' turn. Waking oneself would not do: the event loop serves all that are awake before it looks for others.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl ExpositionBody {
    /// The body of an answer.
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
    async fn what_was_written_is_sent_to_each_and_its_length_told_before() {
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
    async fn a_client_that_takes_too_long_gets_an_error_and_no_part_for_the_whole() {
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
    async fn others_are_let_to_the_event_loop_time_and_again() {
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
