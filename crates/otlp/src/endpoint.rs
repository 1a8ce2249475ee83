//! The address of an OTLP receiver: how it is written, and the URLs that metrics and traces are sent to.

use std::fmt;
use std::str::FromStr;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use percent_encoding::percent_decode_str;
use ureq::http::{HeaderValue, Uri};

use crate::signal::Signal;

/// The base address of an OTLP receiver, such as `http://collector:4318`. Metrics are sent to `/v1/metrics` below it, and
/// traces to `/v1/traces`.
///
/// `user:password@` before the host is sent as basic authentication. Neither `Debug` nor an error shows it.
///
/// ```
/// use vitals_otlp::OtlpEndpoint;
///
/// let prometheus: OtlpEndpoint = "http://localhost:9090/api/v1/otlp".parse()?;
/// assert_eq!(prometheus.origin(), "http://localhost:9090");
/// assert!("localhost:4317".parse::<OtlpEndpoint>().is_err());
/// # Ok::<(), vitals_otlp::EndpointError>(())
/// ```
#[derive(Clone)]
pub struct OtlpEndpoint {
    origin: String,
    metrics: Uri,
    traces: Uri,
    authorization: Option<HeaderValue>,
}

/// Why a text is not the address of a receiver. It does not contain the text, which may hold a password.
///
/// ```
/// use vitals_otlp::{EndpointError, OtlpEndpoint};
///
/// assert_eq!("collector:4318".parse::<OtlpEndpoint>().unwrap_err(), EndpointError::Scheme);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// It does not begin with a scheme that can be used.
    #[error("must be a URL that begins with http:// or https://")]
    Scheme,
    /// It begins with https://, and TLS is not compiled in.
    #[error("must begin with http://: this program is built without TLS (feature `tls`)")]
    WithoutTls,
    /// It has no host.
    #[error("must name a host, as in http://collector:4318")]
    Host,
    /// It has a part behind `#`.
    #[error("must not have a fragment (#)")]
    Fragment,
    /// Its user name or password contains bytes that are not text.
    #[error("has a user name or password that is not valid percent-encoded UTF-8")]
    Credentials,
    /// The host, port, path or query is malformed.
    #[error("must be a valid URL: its host, port, path or query is malformed")]
    Malformed,
}

impl FromStr for OtlpEndpoint {
    type Err = EndpointError;

    fn from_str(base: &str) -> Result<Self, EndpointError> {
        Self::parse(base, |path, signal| {
            let path = path.trim_end_matches('/');
            // An address that already ends in the path of a signal is the whole one.
            let mut signals = Signal::ALL.iter();
            let base = signals.find_map(|signal| path.strip_suffix(signal.path()));
            format!("{}{}", base.unwrap_or(path), signal.path())
        })
    }
}

impl OtlpEndpoint {
    /// The whole address for a signal, which is used as it is, as in `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT`.
    pub(crate) fn whole(url: &str) -> Result<Self, EndpointError> {
        Self::parse(url, |path, _| match path {
            "" => "/".to_owned(),
            path => path.to_owned(),
        })
    }

    fn parse(text: &str, to_path: impl Fn(&str, Signal) -> String) -> Result<Self, EndpointError> {
        let (scheme, rest) = text.trim().split_once("://").ok_or(EndpointError::Scheme)?;
        let scheme = scheme.to_ascii_lowercase();
        match scheme.as_str() {
            "http" => (),
            "https" if cfg!(feature = "tls") => (),
            "https" => return Err(EndpointError::WithoutTls),
            _ => return Err(EndpointError::Scheme),
        }
        if rest.contains('#') {
            return Err(EndpointError::Fragment);
        }
        let (rest, query) = match rest.split_once('?') {
            Some((rest, query)) => (rest, format!("?{query}")),
            None => (rest, String::new()),
        };
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() || host.starts_with(':') {
            return Err(EndpointError::Host);
        }
        let origin = format!("{scheme}://{host}");
        let url = |signal| {
            let url = format!("{origin}{}{query}", to_path(path, signal));
            url.parse::<Uri>().map_err(|_| EndpointError::Malformed)
        };
        let metrics = url(Signal::Metrics)?;
        let traces = url(Signal::Traces)?;
        // An empty or impossible port is part of the authority to the parser.
        let has_port = host.rfind(':') > host.rfind(']');
        if has_port && metrics.port_u16().is_none_or(|port| port == 0) {
            return Err(EndpointError::Malformed);
        }
        Ok(Self {
            origin,
            metrics,
            traces,
            authorization: user.map(basic_authorization).transpose()?,
        })
    }

    /// Scheme, host and port: what a log may show.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Whether the connection is encrypted.
    #[cfg(feature = "tls")]
    pub(crate) fn is_https(&self) -> bool {
        self.metrics.scheme_str() == Some("https")
    }

    /// The URL to send a signal to, without credentials.
    pub(crate) fn url(&self, signal: Signal) -> &Uri {
        match signal {
            Signal::Metrics => &self.metrics,
            Signal::Traces => &self.traces,
        }
    }

    /// The header that presents the user name and password.
    pub(crate) fn authorization(&self) -> Option<&HeaderValue> {
        self.authorization.as_ref()
    }
}

impl fmt::Debug for OtlpEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OtlpEndpoint").field(&self.origin).finish()
    }
}

/// The header for `user:password` as a URL has them, percent-encoded.
fn basic_authorization(user: &str) -> Result<HeaderValue, EndpointError> {
    let (name, password) = user.split_once(':').unwrap_or((user, ""));
    let decode = |text| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded.map_err(|_| EndpointError::Credentials)
    };
    let pair = format!("{}:{}", decode(name)?, decode(password)?);
    let value = format!("Basic {}", BASE64_STANDARD.encode(pair));
    let mut value = HeaderValue::try_from(value).map_err(|_| EndpointError::Credentials)?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_sent_beside_metrics() {
        for (base, url) in [
            ("http://collector:4318", "http://collector:4318/v1/traces"),
            (
                "http://a/otlp/v1/metrics?k=1",
                "http://a/otlp/v1/traces?k=1",
            ),
            ("http://a/otlp/v1/traces/", "http://a/otlp/v1/traces"),
        ] {
            let endpoint: OtlpEndpoint = base.parse().expect("a URL");
            assert_eq!(endpoint.url(Signal::Traces).to_string(), url, "{base}");
            let metrics = url.replace("/v1/traces", "/v1/metrics");
            assert_eq!(endpoint.url(Signal::Metrics).to_string(), metrics);
        }
    }

    #[test]
    fn metrics_are_sent_below_the_base_address() {
        for (base, url, why) in [
            (
                "http://collector:4318",
                "http://collector:4318/v1/metrics",
                "no path",
            ),
            (
                "http://collector:4318/",
                "http://collector:4318/v1/metrics",
                "a slash",
            ),
            (
                "HTTPS://collector",
                "https://collector/v1/metrics",
                "a scheme in capitals",
            ),
            (
                "http://prometheus:9090/api/v1/otlp/",
                "http://prometheus:9090/api/v1/otlp/v1/metrics",
                "a path of its own",
            ),
            (
                "http://a/otlp/v1/metrics",
                "http://a/otlp/v1/metrics",
                "the whole address",
            ),
            (
                "http://a/x?key=1",
                "http://a/x/v1/metrics?key=1",
                "a query stays behind",
            ),
            (
                "http://a?key=1",
                "http://a/v1/metrics?key=1",
                "a query without a path",
            ),
            (
                " http://[::1]:4318 ",
                "http://[::1]:4318/v1/metrics",
                "an IPv6 address, and spaces",
            ),
            (
                "http://user:p%40ss@a",
                "http://a/v1/metrics",
                "credentials are taken out",
            ),
        ] {
            let endpoint: OtlpEndpoint = base.parse().expect(why);
            assert_eq!(endpoint.url(Signal::Metrics).to_string(), url, "{why}");
        }
    }

    #[test]
    fn the_address_for_metrics_is_used_as_it_is() {
        for (url, sent_to) in [
            ("http://a", "http://a/"),
            ("http://a/custom/", "http://a/custom/"),
            ("https://a/x?y=z", "https://a/x?y=z"),
        ] {
            let endpoint = OtlpEndpoint::whole(url).expect("a URL");
            assert_eq!(endpoint.url(Signal::Metrics).to_string(), sent_to);
        }
    }

    #[test]
    fn a_bad_address_is_rejected_without_being_echoed() {
        for (text, error) in [
            ("", EndpointError::Scheme),
            ("collector:4317", EndpointError::Scheme),
            ("grpc://collector:4317", EndpointError::Scheme),
            ("http:/collector", EndpointError::Scheme),
            ("http://", EndpointError::Host),
            ("http://:4318", EndpointError::Host),
            ("http://user:hunter2@", EndpointError::Host),
            ("http://user:hunter2@/path", EndpointError::Host),
            ("http://a/#b", EndpointError::Fragment),
            ("http://a:hunter2", EndpointError::Malformed),
            ("http://a:99999", EndpointError::Malformed),
            ("http://a:", EndpointError::Malformed),
            ("http://a:0", EndpointError::Malformed),
            ("http://a b", EndpointError::Malformed),
            ("http://hunter2%ff:x@a", EndpointError::Credentials),
        ] {
            let found = text.parse::<OtlpEndpoint>().expect_err(text);
            assert_eq!(found, error, "{text}");
            assert!(!format!("{found} {found:?}").contains("hunter2"));
        }
    }

    #[test]
    fn credentials_become_a_header_and_are_never_shown() {
        let endpoint: OtlpEndpoint = "https://ada:p%40ss%3a@a:4318/x?token=hunter2"
            .parse()
            .expect("a URL");
        let header = endpoint.authorization().expect("a header");
        assert_eq!(header.as_bytes(), b"Basic YWRhOnBAc3M6");
        assert!(header.is_sensitive());
        assert_eq!(format!("{endpoint:?}"), "OtlpEndpoint(\"https://a:4318\")");
    }
}
