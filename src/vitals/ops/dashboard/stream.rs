//! A stream of server-sent events: each is a cursor into the hub, so that a page that does not read costs nothing, and
//! one that comes back gets what it missed.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use actix_web::web::Bytes;
use futures_core::Stream;
use tokio::sync::watch;

use super::hub::{Cursor, Hub};

type News = watch::Receiver<Option<u64>>;

/// The events for one page; ends when the hub closes.
pub(super) struct Events {
    hub: Arc<Hub>,
    cursor: Cursor,
    /// Resolves to whether there may be more.
    waiting: Pin<Box<dyn Future<Output = (News, bool)>>>,
}

impl Events {
    /// The events after the tick `since`.
    pub(super) fn new(hub: Arc<Hub>, since: Option<u64>) -> Self {
        let news = hub.subscribe();
        Self {
            hub,
            cursor: Cursor::new(since),
            // What there is already comes at once.
            waiting: Box::pin(async move { (news, true) }),
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let (mut news, open) = ready!(self.waiting.as_mut().poll(context));
            if !open {
                // Polled again, it stays at its end.
                self.waiting = Box::pin(async move { (news, false) });
                return Poll::Ready(None);
            }
            self.waiting = Box::pin(async move {
                let open = news.changed().await.is_ok() && news.borrow_and_update().is_some();
                (news, open)
            });
            let this = &mut *self;
            let events = this.hub.events(&mut this.cursor);
            if !events.is_empty() {
                return Poll::Ready(Some(Ok(events.into())));
            }
        }
    }
}
