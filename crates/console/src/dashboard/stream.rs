//! Streams of server-sent events. Each is a cursor into the hub: a page that does not read uses no memory, and a page that
//! comes back gets the ticks that it missed.

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
use crate::fair_slots::FairSlot;

type News = watch::Receiver<Option<u64>>;

/// Resolves when there is a new tick, or when the hub closes. The value is `true` if more may follow.
type NextEvents = Pin<Box<dyn Future<Output = (News, bool)>>>;

fn wait(mut news: News) -> NextEvents {
    Box::pin(async move {
        let open = news.changed().await.is_ok() && news.borrow_and_update().is_some();
        (news, open)
    })
}

/// The events of one page. Ends when the hub closes.
pub(super) struct Events {
    hub: Arc<Hub>,
    cursor: Cursor,
    waiting: NextEvents,
    _slot: FairSlot,
}

impl Events {
    /// The events after the tick `since`. The slot is kept until the stream is dropped.
    pub(super) fn new(hub: Arc<Hub>, slot: FairSlot, since: Option<u64>) -> Self {
        Self {
            waiting: wait(hub.subscribe()),
            hub,
            cursor: Cursor::new(since),
            _slot: slot,
        }
    }
}

impl Stream for Events {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let this = &mut *self;
            if let Some(event) = this.hub.next(&mut this.cursor) {
                return Poll::Ready(Some(Ok(event)));
            }
            let (news, open) = ready!(this.waiting.as_mut().poll(context));
            this.waiting = wait(news);
            if !open {
                return Poll::Ready(None);
            }
        }
    }
}
