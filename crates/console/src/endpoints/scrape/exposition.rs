//! An exposition, and the body that sends it. It is a list of pieces without spare capacity, so that it takes no more memory
//! than its bytes; those of a large one may be [packed](super::packed). It is sent in slices, so that the event loop serves
//! other requests in between.

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

use super::packed::Unpacker;

/// The size of a slice: Actix writes its buffer when it has this size, so that the buffer does not grow.
const SLICE: usize = 32 * 1024;

/// How much is sent before the body yields to the event loop. It is copied twice, which takes some hundredths of a millisecond.
const TURN: usize = 2 * SLICE;

/// The bytes of one scrape in one form.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// Empty after the exposition was given up.
    pieces: Mutex<Vec<Piece>>,
    /// The number of bytes that are sent.
    length: usize,
    /// The number of bytes that the pieces take.
    held: usize,
    /// The memory that is reserved for it; `None` after it was given up.
    reservation: Mutex<Option<Reservation>>,
}

/// A part of an exposition.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    /// The number of bytes that it stands for, if it is packed.
    pub(super) unpacked: Option<usize>,
}

impl Exposition {
    fn lock(&self) -> MutexGuard<'_, Vec<Piece>> {
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

    /// The memory that it takes, in bytes.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Appends a piece.
    pub(super) fn push(&mut self, piece: Piece) {
        self.held += piece.bytes.len();
        self.length += piece.unpacked.unwrap_or(piece.bytes.len());
        self.lock().push(piece);
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

/// Why a client does not receive all of an exposition.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error("the client read too slowly, and other scrapes needed the memory")]
    GivenUp,
    #[error("a piece of the exposition cannot be unpacked")]
    Packed(#[from] io::Error),
}

impl Write for Exposition {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if !piece.is_empty() {
            self.push(Piece {
                bytes: Bytes::copy_from_slice(piece),
                unpacked: None,
            });
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
    /// The bytes of that piece if it is packed, once it has begun.
    unpacked: Option<Bytes>,
    unpacker: Unpacker,
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
            unpacked: None,
            unpacker: Unpacker::default(),
            sent: 0,
            pause: None,
        }
    }

    fn next_slice(&mut self) -> Result<Option<Bytes>, SendError> {
        if self.left == 0 {
            return Ok(None);
        }
        let piece = self.exposition.lock().get(self.piece).cloned();
        let piece = piece.ok_or(SendError::GivenUp)?;
        let bytes = match (piece.unpacked, self.unpacked.take()) {
            (None, _) => piece.bytes,
            (Some(_), Some(unpacked)) => unpacked,
            (Some(length), None) => self.unpacker.unpack(&piece.bytes, length)?,
        };
        let end = bytes.len().min(self.offset + SLICE);
        let slice = bytes.slice(self.offset..end);
        if end == bytes.len() {
            (self.piece, self.offset) = (self.piece + 1, 0);
        } else {
            self.offset = end;
            self.unpacked = piece.unpacked.map(|_| bytes);
        }
        self.left -= slice.len();
        self.sent += slice.len();
        Ok(Some(slice))
    }
}

impl MessageBody for ExpositionBody {
    type Error = SendError;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.exposition.length as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, SendError>>> {
        if self.sent >= TURN {
            self.sent = 0;
            self.pause = Some(Box::pin(tokio::task::yield_now()));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        Poll::Ready(self.next_slice().transpose())
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::{super::packed::Packer, *};

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
    async fn a_packed_exposition_is_sent_as_it_was_written_and_takes_less_memory() {
        let mut exposition = Exposition::default();
        let mut packer = Packer::new(&mut exposition);
        let chunks: Vec<_> = (0..200_u32)
            .map(|chunk| format!("a_{chunk}_total 1\n").repeat(10_000 - chunk as usize))
            .collect();
        for chunk in &chunks {
            packer.write_all(chunk.as_bytes()).unwrap();
        }
        assert!(exposition.held() < exposition.length() / 4);
        let exposition = Arc::new(exposition);
        for _ in 0..2 {
            let body = ExpositionBody::new(Arc::clone(&exposition));
            let written = chunks.concat();
            assert_eq!(body.size(), BodySize::Sized(written.len() as u64));
            let sent = actix_web::body::to_bytes(body).await.unwrap();
            assert!(sent == written);
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
