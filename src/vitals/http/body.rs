//! The two bodies of a request, counted as they pass: the request's payload, and the response's body, which carries
//! the record to its end.

use std::{
    cell::Cell,
    error::Error,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use actix_web::{
    HttpMessage,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    web::Bytes,
};
use futures_core::Stream;
use pin_project_lite::pin_project;

use super::{answer::Answer, record::Record};

/// Counts the bytes of the request's body, if it has one, into the record.
#[inline]
pub(super) fn count_payload(request: &mut ServiceRequest, record: &mut Record) {
    if !matches!(request.parts().1, Payload::None)
        && let Some(bytes) = record.count_request_bytes()
    {
        let payload = request.take_payload();
        request.set_payload(Payload::Stream {
            payload: Box::pin(CountedPayload { payload, bytes }),
        });
    }
}

/// A request's payload that adds up what is read of it.
struct CountedPayload {
    payload: Payload,
    bytes: Rc<Cell<u64>>,
}

impl Stream for CountedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(Pin::new(&mut self.payload).poll_next(cx));
        if let Some(Ok(chunk)) = &chunk {
            self.bytes.set(self.bytes.get() + chunk.len() as u64);
        }
        Poll::Ready(chunk)
    }
}

/// Most bytes that are handed on at once.
///
/// A connection asks for more when it has sent most of what it has: a body that is handed on in slices is over when its
/// last bytes are about to be sent, not when the handler has given them away.
const SLICE_BYTES: usize = 32 * 1024;

pin_project! {
    /// The body of a monitored response: passes its inner body on unchanged, and settles the request's record with
    /// its last byte, its error, its panic, or its drop.
    #[derive(Debug)]
    pub struct MonitoredBody<B> {
        #[pin]
        body: B,
        answer: Option<Answer>,
        // What of a large chunk is still to be handed on.
        rest: Option<Box<Bytes>>,
        panicked: bool,
    }
}

impl<B> MonitoredBody<B> {
    pub(super) fn new(body: B, answer: Option<Answer>) -> Self {
        Self {
            body,
            answer,
            rest: None,
            panicked: false,
        }
    }
}

impl<B> MessageBody for MonitoredBody<B>
where
    B: MessageBody,
    B::Error: Into<Box<dyn Error>>,
{
    type Error = Box<dyn Error>;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let this = self.project();
        if let Some(rest) = this.rest {
            let slice = rest.split_to(rest.len().min(SLICE_BYTES));
            if rest.is_empty() {
                *this.rest = None;
            }
            if let Some(answer) = this.answer {
                answer.sent(slice.len());
            }
            return Poll::Ready(Some(Ok(slice)));
        }
        if *this.panicked {
            return Poll::Ready(None);
        }
        let polled = catch_unwind(AssertUnwindSafe(|| match this.answer {
            Some(answer) => answer.within(|| this.body.poll_next(cx)),
            None => this.body.poll_next(cx),
        }));
        match polled {
            Ok(Poll::Ready(Some(Ok(mut chunk)))) => {
                if let Some(answer) = this.answer {
                    if chunk.len() > SLICE_BYTES {
                        *this.rest = Some(Box::new(chunk.split_off(SLICE_BYTES)));
                    }
                    answer.sent(chunk.len());
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Ok(Poll::Ready(None)) => {
                if let Some(mut answer) = this.answer.take() {
                    answer.complete();
                }
                Poll::Ready(None)
            }
            Ok(Poll::Pending) => {
                if let Some(answer) = this.answer {
                    answer.polled();
                }
                Poll::Pending
            }
            Ok(Poll::Ready(Some(Err(error)))) => {
                if let Some(mut answer) = this.answer.take() {
                    answer.fail();
                }
                Poll::Ready(Some(Err(error.into())))
            }
            Err(panic) => {
                *this.panicked = true;
                if let Some(mut answer) = this.answer.take() {
                    answer.panicked(&*panic);
                }
                Poll::Ready(Some(Err("the response's body panicked".into())))
            }
        }
    }
}
