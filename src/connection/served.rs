//! Runs the protocol of a connection, with the one timer that ends it when a deadline passes.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_http::error::{DispatchError, ParseError};
use actix_vitals::http::ConnectionOutcome;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use super::state::ConnectionState;

/// How the protocol ended.
#[derive(Debug, Clone, Copy)]
pub(super) enum End {
    /// It returned.
    Protocol(ConnectionOutcome),
    /// A limit ended it.
    Limit(ConnectionOutcome),
}

impl End {
    /// The outcome of the connection.
    pub(super) fn outcome(self) -> ConnectionOutcome {
        match self {
            Self::Protocol(outcome) | Self::Limit(outcome) => outcome,
        }
    }
}

pin_project! {
    /// Resolves when the protocol has ended or a limit ends it.
    ///
    /// Requests do not reset the timer, which would cost each of them. It fires now and then and checks the deadlines.
    pub(super) struct Served<F> {
        #[pin]
        protocol: F,
        #[pin]
        timer: Sleep,
        state: Rc<ConnectionState>,
    }
}

impl<F> Served<F> {
    pub(super) fn new(protocol: F, state: Rc<ConnectionState>) -> Self {
        Self {
            protocol,
            // The first check returns the time of the next one.
            timer: sleep_until(Instant::now()),
            state,
        }
    }
}

impl<F: Future<Output = Result<(), DispatchError>>> Future for Served<F> {
    type Output = End;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let mut this = self.project();
        let mut polled = this.protocol.poll(context);
        if this.state.is_spent() {
            // The protocol would wait for the rest of the body.
            polled = Poll::Ready(Ok(()));
        }
        if let Poll::Ready(ended) = polled {
            let ended = match ended {
                Ok(()) => ConnectionOutcome::Closed,
                Err(error) => outcome_of(&error),
            };
            return Poll::Ready(End::Protocol(this.state.fault().unwrap_or(ended)));
        }
        if let Err(outcome) = this.state.settle() {
            return Poll::Ready(End::Limit(outcome));
        }
        while this.timer.as_mut().poll(context).is_ready() {
            match this.state.check(Instant::now()) {
                Ok(next) => this.timer.as_mut().reset(next),
                Err(outcome) => return Poll::Ready(End::Limit(outcome)),
            }
        }
        Poll::Pending
    }
}

fn outcome_of(error: &DispatchError) -> ConnectionOutcome {
    match error {
        // The peer did not close its side in time.
        DispatchError::DisconnectTimeout => ConnectionOutcome::Closed,
        DispatchError::Io(_) | DispatchError::Parse(ParseError::Io(_)) => ConnectionOutcome::Reset,
        DispatchError::Parse(ParseError::TooLarge) => ConnectionOutcome::HeadersTooLarge,
        DispatchError::H2(error) if error.is_io() => ConnectionOutcome::Reset,
        DispatchError::Parse(_) | DispatchError::H2(_) => ConnectionOutcome::Malformed,
        _ => ConnectionOutcome::Error,
    }
}
