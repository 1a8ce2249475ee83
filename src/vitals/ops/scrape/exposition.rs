//! An exposition on its way to the client: in pieces, as large as what they hold, so that it takes no more memory than its
//! bytes; and sent little by little, so that the event loop has time for others.

use std::{
    convert::Infallible,
    io::{self, Write},
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};
use tokio::runtime::Handle;

/// What is handed on at once: as much as the connection's buffer takes before it is written, so that it need not grow.
const SLICE: usize = 32 * 1024;

/// What is sent before others are let to the event loop. It is copied twice, which takes some hundredths of a
/// millisecond.
const TURN: usize = 2 * SLICE;

/// What was gathered.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    pieces: Vec<Bytes>,
    length: usize,
}

impl Write for Exposition {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if !piece.is_empty() {
            self.pieces.push(Bytes::copy_from_slice(piece));
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
            let pieces = mem::take(&mut self.pieces);
            runtime.spawn_blocking(move || drop(pieces));
        }
    }
}

/// An exposition that is being sent, perhaps to several at once.
pub(super) struct Body {
    exposition: Arc<Exposition>,
    /// The piece that comes next, and where in it to go on.
    piece: usize,
    offset: usize,
    /// What has been sent in this turn.
    sent: usize,
    /// The others' turn. Waking oneself would not do: the event loop serves all that are awake before it looks for others.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl Body {
    /// The body of an answer.
    pub(super) fn new(exposition: Arc<Exposition>) -> Self {
        Self {
            exposition,
            piece: 0,
            offset: 0,
            sent: 0,
            pause: None,
        }
    }

    fn next_slice(&mut self) -> Option<Bytes> {
        let piece = self.exposition.pieces.get(self.piece)?;
        let end = piece.len().min(self.offset + SLICE);
        let slice = piece.slice(self.offset..end);
        if end == piece.len() {
            (self.piece, self.offset) = (self.piece + 1, 0);
        } else {
            self.offset = end;
        }
        Some(slice)
    }
}

impl MessageBody for Body {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.exposition.length as u64)
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Infallible>>> {
        if self.sent >= TURN {
            self.sent = 0;
            self.pause = Some(Box::pin(tokio::task::yield_now()));
        }
        if let Some(pause) = &mut self.pause {
            ready!(pause.as_mut().poll(context));
            self.pause = None;
        }
        let slice = self.next_slice();
        self.sent += slice.as_ref().map_or(0, Bytes::len);
        Poll::Ready(slice.map(Ok))
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
        for body in [Body::new(Arc::clone(&exposition)), Body::new(exposition)] {
            assert_eq!(body.size(), BodySize::Sized(900_000));
            let sent = actix_web::body::to_bytes(body).await.unwrap();
            for (piece, byte) in sent.chunks(100_000).zip(0..) {
                assert!(piece.iter().all(|sent| *sent == byte));
            }
        }
    }

    #[actix_web::test]
    async fn others_are_let_to_the_event_loop_time_and_again() {
        let mut body = pin!(Body::new(of_pieces(2, 5 * TURN)));
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
