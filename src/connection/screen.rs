//! The middleware that answers requests which must not reach the application: those that the limits of their HTTP/2
//! connection reject, and those with an invalid `Host`.
//!
//! It is inside the monitor, so that each of them is counted once. A request of HTTP/1 that a limit rejects ends its
//! connection and is counted there: `watch` answers it.

use std::{
    future::{Ready, ready},
    task::{Context, Poll},
};

use actix_vitals::problem::Problem;
use actix_web::{
    Error, HttpMessage as _,
    body::EitherBody,
    dev::{RequestHead, Service, ServiceRequest, ServiceResponse, Transform},
    http::{StatusCode, header},
};

use super::{super::early_answer::EarlyAnswer, closing, state::RequestRejection};

/// Wrap it around each application that is passed to [`listen`](super::listen).
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Screen;

impl<S, B> Transform<S, ServiceRequest> for Screen
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Transform = ScreenService<S>;
    type InitError = ();
    type Future = Ready<Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        ready(Ok(ScreenService(service)))
    }
}

/// The application of one worker behind the screen.
pub(in super::super) struct ScreenService<S>(S);

impl<S, B> Service<ServiceRequest> for ScreenService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error>,
{
    type Response = ServiceResponse<EitherBody<B>>;
    type Error = Error;
    type Future = EarlyAnswer<S::Future, ()>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.0.poll_ready(context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        let rejection = request.extensions().get::<RequestRejection>().copied();
        let problem = match rejection {
            Some(rejection) => closing::problem(rejection),
            None if has_valid_host(request.head()) => {
                return EarlyAnswer::passed(self.0.call(request), ());
            }
            None => Problem::new(
                StatusCode::BAD_REQUEST,
                "The header Host must be a host, optionally with a port.",
            ),
        };
        EarlyAnswer::answered(request, problem.to_response())
    }
}

/// Whether the request has at most one host, in a valid form and without userinfo (RFC 9110, sections 4.2.4 and 7.2).
/// Actix rejects requests of HTTP/1.1 without any.
fn has_valid_host(head: &RequestHead) -> bool {
    let has_userinfo = (head.uri.authority()).is_some_and(|name| name.as_str().contains('@'));
    let mut hosts = head.headers.get_all(header::HOST);
    let first = hosts.next();
    !has_userinfo && hosts.next().is_none() && first.is_none_or(|host| is_host(host.as_bytes()))
}

/// Whether the text is `uri-host [ ":" port ]` (RFC 9110, section 7.2), which may be empty.
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
    fn a_host_is_a_name_or_an_address_optionally_with_a_port() {
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
