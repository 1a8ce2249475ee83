//! One request to the receiver: headers, compression, TLS, and what its answer or its failure means.
//!
//! Whether and when a request is sent again is decided in `retry` and `push`. No error of the HTTP client is shown as it is,
//! since it may contain the URL or a header.

#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::io::{self, Write as _};
use std::time::{Duration, SystemTime};

use flate2::{Compression, write::GzEncoder};
use tracing::{
    dispatcher,
    subscriber::{NoSubscriber, with_default},
};
use ureq::{
    Agent, Body,
    http::{HeaderMap, HeaderValue, Response, StatusCode, header},
};

use crate::endpoint::OtlpEndpoint;
use crate::retry;
use crate::settings::{OtlpError, Transport};
use crate::signal::Signal;

/// The most bytes of an answer that are read.
const MOST_ANSWER: u64 = 64 * 1024;

/// Sends requests to one receiver, over connections that it keeps.
#[derive(Debug)]
pub(crate) struct Client {
    signal: Signal,
    agent: Agent,
    endpoint: OtlpEndpoint,
    headers: HeaderMap,
    compresses: bool,
}

/// How one attempt to send a request ended.
#[derive(Debug, PartialEq)]
pub(crate) enum Attempt {
    /// The receiver took the request, but for so many data points or spans.
    Accepted {
        /// The data points or spans that it did not take.
        rejected: i64,
    },
    /// The receiver will not take this request, however often it is sent.
    Rejected(Reason),
    /// Another attempt may succeed; the receiver may have said when.
    Retryable {
        reason: Reason,
        after: Option<Duration>,
    },
    /// No attempt succeeds before something is changed.
    Failed(Reason),
}

/// Why a request was not taken. It shows no URL, no header and no text of the receiver.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Reason {
    Status(StatusCode),
    Timeout,
    HostNotFound,
    Io(io::ErrorKind),
    Tls(String),
    Proxy,
    /// The answer is not HTTP, or ends too early.
    Protocol,
    /// The request could not be made.
    Encoding,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(
                f,
                "the receiver answered with the status {}",
                status.as_u16()
            ),
            Self::Timeout => f.write_str("the receiver did not answer in time"),
            Self::HostNotFound => f.write_str("the host name cannot be resolved"),
            Self::Io(kind) => write!(f, "the connection failed: {kind}"),
            Self::Tls(error) => write!(f, "the TLS handshake failed: {error}"),
            Self::Proxy => f.write_str("the proxy cannot be used"),
            Self::Protocol => f.write_str("the answer is not valid HTTP"),
            Self::Encoding => f.write_str("the message cannot be encoded"),
        }
    }
}

impl Client {
    /// Reads the certificates. Connects to nothing.
    #[cfg_attr(not(feature = "tls"), allow(clippy::unnecessary_wraps))]
    pub(crate) fn new(settings: &Transport) -> Result<Self, OtlpError> {
        let config = Agent::config_builder()
            .timeout_global(Some(settings.timeout))
            .http_status_as_error(false)
            // A redirect would send the headers to another host.
            .max_redirects(0)
            .user_agent(concat!("actix-vitals/", env!("CARGO_PKG_VERSION")));
        // Without the feature, no address begins with `https`.
        #[cfg(feature = "tls")]
        let config = if settings.endpoint.is_https() {
            config.tls_config(tls::config(settings)?)
        } else {
            config
        };
        let mut headers = HeaderMap::new();
        if let Some(authorization) = settings.endpoint.authorization() {
            headers.insert(header::AUTHORIZATION, authorization.clone());
        }
        // A header that was set wins over the credentials of the URL.
        headers.extend(settings.headers.clone());
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        headers.insert(header::CONTENT_TYPE, protobuf);
        if settings.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        Ok(Self {
            signal: settings.signal,
            agent: config.build().new_agent(),
            endpoint: settings.endpoint.clone(),
            headers,
            compresses: settings.gzip,
        })
    }

    /// What it sends.
    pub(crate) fn signal(&self) -> Signal {
        self.signal
    }

    /// Scheme, host and port of the receiver.
    pub(crate) fn origin(&self) -> &str {
        self.endpoint.origin()
    }

    /// The body of a request as it is sent.
    pub(crate) fn compress(&self, message: Vec<u8>) -> io::Result<Vec<u8>> {
        if !self.compresses {
            return Ok(message);
        }
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&message)?;
        gzip.finish()
    }

    /// Sends one request, and waits for the answer.
    pub(crate) fn send(&self, body: &[u8]) -> Attempt {
        let mut request = self.agent.post(self.endpoint.url(self.signal));
        if let Some(headers) = request.headers_mut() {
            headers.clone_from(&self.headers);
        }
        let send = || match request.send(body) {
            Ok(response) => judge_response(response, self.signal),
            Err(error) => judge_error(&error),
        };
        if !dispatcher::has_been_set() {
            // A first subscriber would end all lines of `tracing` in a log of the `log` crate.
            return send();
        }
        // At its finest level, the HTTP client logs the bytes that it sends, the headers included.
        with_default(NoSubscriber::default(), send)
    }
}

fn judge_response(mut response: Response<Body>, signal: Signal) -> Attempt {
    let status = response.status();
    if status.is_success() {
        let body = response.body_mut().with_config().limit(MOST_ANSWER);
        let answer = body.read_to_vec().unwrap_or_default();
        return Attempt::Accepted {
            rejected: signal.rejected(&answer),
        };
    }
    let reason = Reason::Status(status);
    if !retry::is_retryable(status) {
        return Attempt::Rejected(reason);
    }
    let after = response.headers().get(header::RETRY_AFTER);
    Attempt::Retryable {
        reason,
        after: after.and_then(|after| retry::retry_after(after.to_str().ok()?, SystemTime::now())),
    }
}

fn judge_error(error: &ureq::Error) -> Attempt {
    use ureq::Error;

    #[cfg(feature = "tls")]
    if let Some(error) = tls::handshake_error(error) {
        return Attempt::Failed(Reason::Tls(error));
    }
    let reason = match error {
        Error::Timeout(_) => Reason::Timeout,
        Error::HostNotFound => Reason::HostNotFound,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => Reason::Timeout,
        Error::Io(error) => Reason::Io(error.kind()),
        Error::ConnectionFailed => Reason::Io(io::ErrorKind::NotConnected),
        Error::Tls(error) => return Attempt::Failed(Reason::Tls((*error).to_owned())),
        Error::InvalidProxyUrl => return Attempt::Failed(Reason::Proxy),
        Error::ConnectProxyFailed(_) => Reason::Proxy,
        _ => Reason::Protocol,
    };
    Attempt::Retryable {
        reason,
        after: None,
    }
}
