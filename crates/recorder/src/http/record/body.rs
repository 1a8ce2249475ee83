//! The two bodies of a request: its payload, whose bytes are counted, and the response's body, which owns the record until
//! the request is settled.

use std::{
    error::Error,
    io::ErrorKind,
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker, ready},
    thread,
};

use actix_web::{
    HttpMessage,
    body::{BodySize, MessageBody},
    dev::{Payload, ServiceRequest},
    error::PayloadError,
    web::Bytes,
};
use pin_project_lite::pin_project;

use crate::{
    context,
    http::record::{
        answered::{AnsweredRequest, SLICE_BYTES},
        open::OpenRecord,
        slot::{EnteredRequest, RequestBody},
    },
};
use futures_core::Stream;

/// Counts the bytes of the request's body, if it has one.
#[inline]
pub(in crate::http) fn watch_payload(request: &mut ServiceRequest, record: &mut OpenRecord) {
    if !matches!(request.parts().1, Payload::None)
        && let Some(body) = record.watch_body()
    {
        let payload = request.take_payload();
        request.set_payload(Payload::Stream {
            payload: Box::pin(WatchedPayload { payload, body }),
        });
    }
}

/// A request's payload that notes how many bytes were read, and whether it was cut off.
struct WatchedPayload {
    payload: Payload,
    body: Rc<RequestBody>,
}

impl Stream for WatchedPayload {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let chunk = ready!(Pin::new(&mut self.payload).poll_next(cx));
        match &chunk {
            Some(Ok(chunk)) => {
                let bytes = &self.body.bytes;
                bytes.set(bytes.get() + chunk.len() as u64);
            }
            Some(Err(error)) if is_cut(error, &mut self.payload) => self.body.is_cut.set(true),
            Some(Err(_)) | None => {}
        }
        Poll::Ready(chunk)
    }
}

/// Whether a payload failed because its client left, and not because of its contents.
#[cold]
fn is_cut(error: &PayloadError, payload: &mut Payload) -> bool {
    match (error, payload) {
        // Faults of the contents, and limits of the server or a middleware: the client is still there and gets an answer.
        (
            PayloadError::EncodingCorrupted | PayloadError::Overflow | PayloadError::UnknownLength,
            _,
        ) => false,
        (PayloadError::Io(error), _) if is_rejection(error.kind()) => false,
        // HTTP/1 reports a malformed chunk as incomplete, too. The payload ends only if the client has left.
        (PayloadError::Incomplete(None), Payload::H1 { payload }) => {
            let mut context = Context::from_waker(Waker::noop());
            matches!(Pin::new(payload).poll_next(&mut context), Poll::Ready(None))
        }
        _ => true,
    }
}

/// Whether an error of this kind comes from code on the server, and not from the connection.
fn is_rejection(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::TimedOut
            | ErrorKind::OutOfMemory
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::FileTooLarge
            | ErrorKind::QuotaExceeded
            | ErrorKind::PermissionDenied
            | ErrorKind::Unsupported
    )
}

pin_project! {
    /// The body of a monitored response. It returns its inner body unchanged, and settles the request's record at the
    /// last byte, an error, a panic or its drop.
    #[derive(Debug)]
    pub struct MonitoredBody<B> {
        #[pin]
        content: Content<B>,
        answer: AnsweredRequest,
    }

    impl<B> PinnedDrop for MonitoredBody<B> {
        #[inline]
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            if matches!(*this.content, Content::Open { .. }) && this.answer.is_recorded() {
                drop_within(this.content.as_mut(), this.answer);
            }
        }
    }
}

pin_project! {
    /// The bytes to send.
    #[project = ContentProjection]
    #[derive(Debug)]
    enum Content<B> {
        // In memory, as most bodies are: no code of the application runs, so nothing can fail.
        Whole { bytes: Bytes },
        Open { #[pin] body: B },
        // A body that is not sent. It was dropped; the head still has its size.
        Omitted { size: BodySize },
        // A body that an outer layer of the same monitoring records.
        Passed { #[pin] body: B },
    }
}

impl<B: MessageBody> MonitoredBody<B> {
    /// Returns the body of an answer to HEAD, or of a status without a body. It ends at once: Actix would poll the
    /// handler's body to its end, and an endless one for ever.
    #[inline(never)]
    pub(in crate::http) fn omitted(size: BodySize, body: B, mut answer: AnsweredRequest) -> Self {
        let entered = enter(&mut answer);
        drop(body);
        drop(entered);
        Self {
            content: Content::Omitted { size },
            answer,
        }
    }

    /// Returns a body that an outer layer of the same monitoring records.
    pub(in crate::http) fn passed(body: B) -> Self {
        Self {
            content: Content::Passed { body },
            answer: AnsweredRequest::default(),
        }
    }

    #[inline]
    pub(in crate::http) fn new(body: B, mut answer: AnsweredRequest) -> Self {
        if !matches!(body.size(), BodySize::Sized(_)) {
            return Self::open(body, answer);
        }
        match body.try_into_bytes() {
            Ok(bytes) => {
                // A small body is handed on together with the head.
                answer.begin_body(bytes.len() <= SLICE_BYTES);
                let content = Content::Whole { bytes };
                Self { content, answer }
            }
            Err(body) => Self::open(body, answer),
        }
    }

    /// Returns a body that is polled.
    #[inline(never)]
    fn open(body: B, mut answer: AnsweredRequest) -> Self {
        answer.begin_body(false);
        let content = Content::Open { body };
        Self { content, answer }
    }
}

impl<B> MessageBody for MonitoredBody<B>
where
    B: MessageBody,
    B::Error: Into<Box<dyn Error>>,
{
    type Error = Box<dyn Error>;

    #[inline]
    fn size(&self) -> BodySize {
        match &self.content {
            Content::Whole { bytes } => bytes.size(),
            Content::Open { body } | Content::Passed { body } => body.size(),
            Content::Omitted { size } => *size,
        }
    }

    #[inline]
    fn poll_next(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        let mut this = self.project();
        if let ContentProjection::Whole { bytes } = this.content.as_mut().project() {
            return Poll::Ready(next_slice(bytes, this.answer).map(Ok));
        }
        poll_open(this.content, this.answer, cx)
    }
}

/// Polls a body that is not in memory.
#[inline(never)]
fn poll_open<B>(
    mut content: Pin<&mut Content<B>>,
    answer: &mut AnsweredRequest,
    cx: &mut Context<'_>,
) -> Polled<Box<dyn Error>>
where
    B: MessageBody,
    B::Error: Into<Box<dyn Error>>,
{
    let chunk = match content.as_mut().project() {
        ContentProjection::Whole { .. } | ContentProjection::Omitted { .. } => Poll::Ready(None),
        ContentProjection::Passed { body } => {
            return body.poll_next(cx).map_err(Into::into);
        }
        ContentProjection::Open { body } => match answer.take_rest() {
            Some(rest) => Poll::Ready(Some(Ok(rest))),
            None => match poll_within(body, answer, cx) {
                Ok(polled) => polled.map_err(Into::into),
                Err(panic) => {
                    // The body must not be polled again.
                    drop_within(content.as_mut(), answer);
                    mem::take(answer).panicked(&*panic);
                    let error = "the response's body panicked";
                    return Poll::Ready(Some(Err(error.into())));
                }
            },
        },
    };
    match chunk {
        Poll::Ready(Some(Ok(chunk))) => {
            let chunk = answer.hand_on(chunk);
            answer.leave_loop(true);
            Poll::Ready(Some(Ok(chunk)))
        }
        Poll::Ready(Some(Err(_))) => {
            answer.fail();
            chunk
        }
        Poll::Ready(None) => {
            mem::take(answer).complete();
            chunk
        }
        Poll::Pending => {
            answer.polled();
            answer.leave_loop(false);
            chunk
        }
    }
}

/// Drops the body as part of its request: a query that it runs in its drop belongs to the request.
#[cold]
fn drop_within<B>(mut content: Pin<&mut Content<B>>, answer: &mut AnsweredRequest) {
    let _entered = enter(answer);
    let bytes = Bytes::new();
    content.set(Content::Whole { bytes });
}

/// Makes the request the one that this thread works for, until the result is dropped.
fn enter(answer: &mut AnsweredRequest) -> Option<EnteredRequest<'_>> {
    answer.entered_parts().map(EnteredRequest::within)
}

/// Takes the next part of a body in memory. Once it is whole, nothing is left to record.
#[inline]
fn next_slice(bytes: &mut Bytes, answer: &mut AnsweredRequest) -> Option<Bytes> {
    if bytes.is_empty() {
        mem::take(answer).complete();
        return None;
    }
    let slice = if bytes.len() > SLICE_BYTES && answer.is_recorded() {
        bytes.split_to(SLICE_BYTES)
    } else {
        mem::take(bytes)
    };
    if answer.hand_on_slice(slice.len()) {
        *answer = AnsweredRequest::default();
    } else {
        answer.leave_loop(true);
    }
    Some(slice)
}

/// What polling a body returns.
type Polled<E> = Poll<Option<Result<Bytes, E>>>;

/// Polls a body as part of its request.
fn poll_within<B: MessageBody>(
    body: Pin<&mut B>,
    answer: &mut AnsweredRequest,
    cx: &mut Context<'_>,
) -> thread::Result<Polled<B::Error>> {
    answer.enter_loop();
    catch_unwind(AssertUnwindSafe(|| match answer.entered_parts() {
        Some(parts) => {
            let _entered = EnteredRequest::within(parts);
            body.poll_next(cx)
        }
        // An excluded request: its queries are added to a context that is never read.
        None => context::within(&mut None, || body.poll_next(cx)),
    }))
}
