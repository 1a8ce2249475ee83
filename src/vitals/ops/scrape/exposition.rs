//! An exposition on its way to the client: in pieces, as large as what they hold, so that it takes no more memory than its
//! bytes; and sent little by little, so that the event loop has time for others.

use std::{
    collections::VecDeque,
    convert::Infallible,
    io::{self, Write},
    pin::Pin,
    task::{Context, Poll, ready},
};

use actix_web::{
    body::{BodySize, MessageBody},
    web::Bytes,
};

/// What is sent at most before others are let to the event loop: it is copied twice, which takes less than a tenth of a
/// millisecond.
const TURN: usize = 128 * 1024;

/// What was gathered. Its clones share the bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposition {
    pieces: VecDeque<Bytes>,
    length: u64,
}

impl Exposition {
    /// The body of an answer. It gives the bytes back as they are sent.
    pub(super) fn into_body(self) -> Body {
        Body {
            rest: self,
            sent: 0,
            pause: None,
        }
    }
}

impl Write for Exposition {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if !piece.is_empty() {
            self.pieces.push_back(Bytes::copy_from_slice(piece));
            self.length += piece.len() as u64;
        }
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// An exposition that is being sent.
pub(super) struct Body {
    rest: Exposition,
    /// What has been sent in this turn.
    sent: usize,
    /// The others' turn. Waking oneself would not do: the event loop serves all that are awake before it looks for others.
    pause: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl MessageBody for Body {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        BodySize::Sized(self.rest.length)
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
        let piece = self.rest.pieces.pop_front();
        self.sent += piece.as_ref().map_or(0, Bytes::len);
        Poll::Ready(piece.map(Ok))
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::pin};

    use super::*;

    fn of_pieces(count: usize, size: usize) -> Exposition {
        let mut exposition = Exposition::default();
        for piece in 0..count {
            let byte = u8::try_from(piece % 256).unwrap();
            exposition.write_all(&vec![byte; size]).unwrap();
        }
        exposition
    }

    #[actix_web::test]
    async fn what_was_written_is_sent_to_each_and_its_length_told_before() {
        let exposition = of_pieces(9, 100_000);
        for body in [exposition.clone().into_body(), exposition.into_body()] {
            assert_eq!(body.size(), BodySize::Sized(900_000));
            let sent = actix_web::body::to_bytes(body).await.unwrap();
            for (piece, byte) in sent.chunks(100_000).zip(0..) {
                assert!(piece.iter().all(|sent| *sent == byte));
            }
        }
    }

    #[actix_web::test]
    async fn others_are_let_to_the_event_loop_time_and_again() {
        let mut body = pin!(of_pieces(40, TURN / 4).into_body());
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
        assert_eq!(turns, [vec![4; 10], vec![0]].concat());
    }
}
