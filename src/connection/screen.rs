//! Turns away requests that must not reach the application, inside of what records requests, so that each is counted once:
//! those that their connection of HTTP/2 refuses, and those for a host that is none.
//!
//! A request of HTTP/1 that is refused ends its connection, and is counted as that: `watch` answers it.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::body::EitherBody;
use actix_web::dev::{RequestHead, Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::{StatusCode, header};
use actix_web::{Error, HttpMessage as _};
use pin_project_lite::pin_project;

use super::closing;
use super::state::RequestRejection;
use actix_vitals::problem::Problem;

/// Wrap it around each application that is passed to [`listen`](super::listen).
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Screen;

impl<S, B> Transform<S, ServiceRequest> for Screen
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = Screened<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(Screened(service)))
    }
}

/// An application behind the screen.
pub(in super::super) struct Screened<S>(S);

impl<S, B> Service<ServiceRequest> for Screened<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let refusal = request.extensions().get::<RequestRejection>().copied();
        let problem = match refusal {
            Some(refusal) => closing::problem(refusal),
            None if has_valid_host(request.head()) => {
                return Answering::Passed {
                    future: self.0.call(request),
                };
            }
            None => Problem::new(
                StatusCode::BAD_REQUEST,
                "The header Host must be a host and, if need be, a port.",
            ),
        };
        Answering::TurnedAway {
            answer: Some(request.into_response(problem.to_response())),
        }
    }
}

pin_project! {
    /// A request that was passed on, or the answer to one that was not.
    #[project = Projection]
    pub(in super::super) enum Answering<F> {
        Passed { #[pin] future: F },
        TurnedAway { answer: Option<ServiceResponse> },
    }
}

impl<F, B> Future for Answering<F>
where
    F: Future<Output = Result<ServiceResponse<B>, Error>>,
{
    type Output = Result<ServiceResponse<EitherBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projection::Passed { future } => future
                .poll(context)
                .map_ok(ServiceResponse::map_into_left_body),
            // It is not polled again.
            Projection::TurnedAway { answer } => match answer.take() {
                Some(answer) => Poll::Ready(Ok(answer.map_into_right_body())),
                None => Poll::Pending,
            },
        }
    }
}

/// Whether the request names at most one host, and names it well (RFC 9110, sections 4.2.4 and 7.2). HTTP/1.1 must name
/// one, which the protocol sees to.
fn has_valid_host(head: &RequestHead) -> bool {
    let has_userinfo = (head.uri.authority()).is_some_and(|name| name.as_str().contains('@'));
    let mut hosts = head.headers.get_all(header::HOST);
    let first = hosts.next();
    !has_userinfo && hosts.next().is_none() && first.is_none_or(|host| is_host(host.as_bytes()))
}

/// Whether this is a host, and perhaps a port (`uri-host [ ":" port ]`, RFC 9110, section 7.2). It may be empty.
fn is_host(text: &[u8]) -> bool {
    let is_in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(byte);
    let is_in_literal = |byte: &u8| is_in_name(byte) || *byte == b':';
    let (rest, is_valid) = if let Some(literal) = text.strip_prefix(b"[") {
        let Some(end) = literal.iter().position(|byte| *byte == b']') else {
            return false;
        };
        let (address, rest) = literal.split_at(end);
        let is_valid = !address.is_empty() && address.iter().all(is_in_literal);
        (&rest[1..], is_valid)
    } else {
        let end = text.iter().position(|byte| *byte == b':');
        let (name, rest) = text.split_at(end.unwrap_or(text.len()));
        (rest, name.iter().all(is_in_name) && has_whole_escapes(name))
    };
    let is_port = |port: &[u8]| port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    is_valid && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

/// Whether each `%` is followed by two hexadecimal digits.
fn has_whole_escapes(text: &[u8]) -> bool {
    let mut escapes = text.split(|byte| *byte == b'%').skip(1);
    escapes.all(|after| after.len() >= 2 && after[..2].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_perhaps_a_port() {
        for host in [
            "",
            "a",
            "a.example.org",
            "a.example.org:8000",
            "a:",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:8000",
            "a_b",
            "a%20b",
            "xn--bcher-kva.example",
            "[v1.fe80::a+en1]",
        ] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in [
            "a/b", "a/b?c", "a?c", "a#c", "a b", "a\tb", "user@a", "a:b", "a:80:80", "a:123456",
            "::1", "[::1", "::1]", "[]", "[::1]a", "[::1]:x", "http://a", "a\\b", "\"a\"", "<a>",
            "a%", "a%2", "a%zz", "ä",
        ] {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }
}
