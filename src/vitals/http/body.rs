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

use super::record::Record;

/// Counts the bytes of the request's body, if it has one, into the record.
pub(super) fn count_payload(request: &mut ServiceRequest, record: &mut Record) {
    let payload = match request.take_payload() {
        Payload::None => return,
        payload => payload,
    };
    let bytes = record.count_request_bytes();
    request.set_payload(Payload::Stream {
        payload: Box::pin(CountedPayload { payload, bytes }),
    });
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
        record: Option<Record>,
        rest: Bytes,
        panicked: bool,
    }
}

impl<B> MonitoredBody<B> {
    pub(super) fn new(body: B, record: Option<Record>) -> Self {
        Self {
            body,
            record,
            rest: Bytes::new(),
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
        if *this.panicked {
            return Poll::Ready(None);
        }
        if !this.rest.is_empty() {
            let slice = this.rest.split_to(this.rest.len().min(SLICE_BYTES));
            if let Some(record) = this.record {
                record.sent(slice.len());
            }
            return Poll::Ready(Some(Ok(slice)));
        }
        let polled = catch_unwind(AssertUnwindSafe(|| match this.record {
            Some(record) => record.within(|| this.body.poll_next(cx)),
            None => this.body.poll_next(cx),
        }));
        let Ok(polled) = polled.map_err(|payload| {
            if let Some(record) = this.record {
                record.panicked(&*payload);
            }
        }) else {
            *this.panicked = true;
            if let Some(mut record) = this.record.take() {
                record.fail();
            }
            return Poll::Ready(Some(Err("the response's body panicked".into())));
        };
        match polled {
            Poll::Pending => {
                if let Some(record) = this.record {
                    record.polled();
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(mut chunk))) => {
                if chunk.len() > SLICE_BYTES {
                    *this.rest = chunk.split_off(SLICE_BYTES);
                }
                if let Some(record) = this.record {
                    record.sent(chunk.len());
                }
                Poll::Ready(Some(Ok(chunk)))
            }
            Poll::Ready(Some(Err(error))) => {
                if let Some(mut record) = this.record.take() {
                    record.fail();
                }
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                if let Some(mut record) = this.record.take() {
                    record.complete();
                }
                Poll::Ready(None)
            }
        }
    }
}
