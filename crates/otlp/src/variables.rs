//! The standard variables of the environment for OTLP exporters.
//!
//! <https://opentelemetry.io/docs/specs/otel/protocol/exporter/>
//!
//! Each has a form for one signal alone (`OTEL_EXPORTER_OTLP_METRICS_TIMEOUT`), which wins over the general one. An empty
//! variable counts as none. No error contains a value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::Duration;

use percent_encoding::percent_decode_str;

use crate::endpoint::OtlpEndpoint;
use crate::settings::{OtlpError, OtlpSettings, SettingPath, Transport};
use crate::signal::Signal;

/// Returns the value of a variable.
type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

/// The names of a variable: for one signal alone, and the general one.
type Names = [&'static str; 2];

/// The variables of one signal.
struct SignalVariables {
    signal: Signal,
    endpoint: Names,
    protocol: Names,
    headers: Names,
    timeout: Names,
    compression: Names,
    certificate: Names,
    client_certificate: Names,
    client_key: Names,
    exporter: &'static str,
}

macro_rules! variables {
    ($signal:ident, $name:literal) => {
        SignalVariables {
            signal: Signal::$signal,
            endpoint: variables!(@names $name, "ENDPOINT"),
            protocol: variables!(@names $name, "PROTOCOL"),
            headers: variables!(@names $name, "HEADERS"),
            timeout: variables!(@names $name, "TIMEOUT"),
            compression: variables!(@names $name, "COMPRESSION"),
            certificate: variables!(@names $name, "CERTIFICATE"),
            client_certificate: variables!(@names $name, "CLIENT_CERTIFICATE"),
            client_key: variables!(@names $name, "CLIENT_KEY"),
            exporter: concat!("OTEL_", $name, "_EXPORTER"),
        }
    };
    (@names $name:literal, $suffix:literal) => {
        [
            concat!("OTEL_EXPORTER_OTLP_", $name, "_", $suffix),
            concat!("OTEL_EXPORTER_OTLP_", $suffix),
        ]
    };
}

const METRICS: SignalVariables = variables!(Metrics, "METRICS");
const TRACES: SignalVariables = variables!(Traces, "TRACES");

const DISABLED: &str = "OTEL_SDK_DISABLED";
const SERVICE_NAME: &str = "OTEL_SERVICE_NAME";
const RESOURCE_ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// The settings by the variables, for the endpoint that is given or for those that they name.
pub(crate) fn read(
    endpoint: Option<OtlpEndpoint>,
    lookup: Lookup<'_>,
) -> Result<Option<OtlpSettings>, OtlpError> {
    let metrics = match &endpoint {
        Some(endpoint) => Some(endpoint.clone()),
        None => METRICS.endpoint(lookup)?,
    };
    let metrics = metrics.map(|endpoint| METRICS.transport(endpoint, lookup));
    let traces = TRACES.endpoint_of_traces(endpoint, lookup)?;
    let traces = traces.map(|endpoint| TRACES.transport(endpoint, lookup));
    let mut settings = OtlpSettings::of(metrics.transpose()?, traces.transpose()?);
    if settings.metrics.is_none() && settings.traces.is_none() {
        return Ok(None);
    }
    if let Some(text) = value(RESOURCE_ATTRIBUTES, lookup)? {
        settings.deployed_attributes = pairs(RESOURCE_ATTRIBUTES, &text)?;
    }
    if let Some(service) = value(SERVICE_NAME, lookup)? {
        let attributes = &mut settings.deployed_attributes;
        attributes.insert("service.name".to_owned(), service);
    }
    Ok(Some(settings))
}

impl SignalVariables {
    /// How the signal is sent to this endpoint.
    fn transport(
        &self,
        endpoint: OtlpEndpoint,
        lookup: Lookup<'_>,
    ) -> Result<Transport, OtlpError> {
        let mut transport = Transport::new(self.signal, endpoint);
        if let Some((name, text)) = first(&self.headers, lookup)? {
            for (header, value) in pairs(name, &text)? {
                transport.add_header(name, &header, &value)?;
            }
        }
        if let Some((name, text)) = first(&self.timeout, lookup)? {
            transport.set_timeout(timeout(name, &text)?);
        }
        if let Some((name, text)) = first(&self.compression, lookup)? {
            transport.gzip = compression(name, &text)?;
        }
        transport.certificate = path(&self.certificate, lookup)?;
        transport.client_certificate = path(&self.client_certificate, lookup)?;
        transport.client_key = path(&self.client_key, lookup)?;
        Ok(transport)
    }

    /// The endpoint that the variables name, unless they ask for something other than a push over HTTP.
    fn endpoint(&self, lookup: Lookup<'_>) -> Result<Option<OtlpEndpoint>, OtlpError> {
        let Some((name, text)) = first(&self.endpoint, lookup)? else {
            return Ok(None);
        };
        let is_disabled =
            value(DISABLED, lookup)?.is_some_and(|text| text.eq_ignore_ascii_case("true"));
        if is_disabled || !self.is_exporter(lookup)? {
            return Ok(None);
        }
        if let Some((protocol, text)) = first(&self.protocol, lookup)?
            && text != "http/protobuf"
        {
            let signal = self.signal.label();
            tracing::warn!(
                "{signal} are not pushed: {protocol} asks for another protocol than http/protobuf, the only one supported"
            );
            return Ok(None);
        }
        let endpoint = if name == self.endpoint[0] {
            OtlpEndpoint::whole(&text)
        } else {
            text.parse()
        };
        match endpoint {
            Ok(endpoint) => Ok(Some(endpoint)),
            Err(error) => Err(OtlpError::Endpoint {
                setting: name,
                error,
            }),
        }
    }

    /// The endpoint of traces: that of their own variable, or else the one that is given, or the general one. The receiver
    /// of metrics may be one that takes no traces.
    fn endpoint_of_traces(
        &self,
        given: Option<OtlpEndpoint>,
        lookup: Lookup<'_>,
    ) -> Result<Option<OtlpEndpoint>, OtlpError> {
        if !self.is_exporter(lookup)? {
            return Ok(None);
        }
        let has_own = value(self.endpoint[0], lookup)?.is_some();
        match given {
            Some(given) if !has_own => Ok(Some(given)),
            _ => self.endpoint(lookup),
        }
    }

    /// Whether the signal is to be sent as OTLP.
    fn is_exporter(&self, lookup: Lookup<'_>) -> Result<bool, OtlpError> {
        let exporter = value(self.exporter, lookup)?;
        Ok(exporter.is_none_or(|text| text.split(',').any(|exporter| exporter.trim() == "otlp")))
    }
}

/// The value of a variable, unless it is empty.
fn value(name: &'static str, lookup: Lookup<'_>) -> Result<Option<String>, OtlpError> {
    let Some(value) = lookup(name) else {
        return Ok(None);
    };
    let value = value.into_string().map_err(|_| OtlpError::Variable {
        name,
        problem: "must be valid UTF-8",
    })?;
    let value = value.trim();
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

/// The first of these variables that has a value, with its name.
fn first(names: &Names, lookup: Lookup<'_>) -> Result<Option<(&'static str, String)>, OtlpError> {
    for name in names {
        if let Some(value) = value(name, lookup)? {
            return Ok(Some((name, value)));
        }
    }
    Ok(None)
}

fn path(names: &Names, lookup: Lookup<'_>) -> Result<Option<SettingPath>, OtlpError> {
    let found = first(names, lookup)?;
    Ok(found.map(|(setting, path)| SettingPath {
        setting,
        path: path.into(),
    }))
}

fn timeout(name: &'static str, text: &str) -> Result<Duration, OtlpError> {
    match text.parse() {
        Ok(milliseconds) if milliseconds > 0 => Ok(Duration::from_millis(milliseconds)),
        _ => Err(OtlpError::Variable {
            name,
            problem: "must be a whole number of milliseconds, at least 1",
        }),
    }
}

fn compression(name: &'static str, text: &str) -> Result<bool, OtlpError> {
    match text {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(OtlpError::Variable {
            name,
            problem: "must be gzip or none",
        }),
    }
}

/// Pairs such as `key=value,other=value`, percent-encoded.
fn pairs(name: &'static str, text: &str) -> Result<BTreeMap<String, String>, OtlpError> {
    let decode = |part: &str| {
        let part = percent_decode_str(part.trim()).decode_utf8();
        Some(part.ok()?.into_owned())
    };
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=')?;
        let (key, value) = (decode(key)?, decode(value)?);
        (!key.is_empty()).then_some((key, value))
    };
    text.split(',')
        .filter(|part| !part.trim().is_empty())
        .map(pair)
        .collect::<Option<_>>()
        .ok_or(OtlpError::Variable {
            name,
            problem: "must be pairs such as key=value,other=value, percent-encoded UTF-8",
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the settings by these variables.
    fn read_from(variables: &[(&str, &str)]) -> Result<Option<OtlpSettings>, OtlpError> {
        read_for(None, variables)
    }

    fn read_for(
        endpoint: Option<&str>,
        variables: &[(&str, &str)],
    ) -> Result<Option<OtlpSettings>, OtlpError> {
        let endpoint = endpoint.map(|endpoint| endpoint.parse().expect("a URL"));
        read(endpoint, &|name| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.into())
        })
    }

    #[test]
    fn nothing_is_pushed_unless_an_endpoint_is_named() {
        const URL: (&str, &str) = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:4318");
        for variables in [
            &[][..],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[("OTEL_EXPORTER_OTLP_TIMEOUT", "wrong")],
            &[("OTEL_EXPORTER_OTLP_HEADERS", "wrong")],
            &[URL, ("OTEL_SDK_DISABLED", "TRUE")],
            &[
                URL,
                ("OTEL_METRICS_EXPORTER", "none"),
                ("OTEL_TRACES_EXPORTER", "none"),
            ],
            &[
                URL,
                ("OTEL_METRICS_EXPORTER", "prometheus"),
                ("OTEL_TRACES_EXPORTER", "zipkin"),
            ],
            &[URL, ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[
                URL,
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
                ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ],
        ] {
            let settings = read_from(variables).expect("no error");
            assert!(settings.is_none(), "{variables:?}");
        }
        for variables in [
            &[URL][..],
            &[URL, ("OTEL_SDK_DISABLED", "false")],
            &[URL, ("OTEL_METRICS_EXPORTER", "prometheus, otlp")],
            &[URL, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")],
        ] {
            let settings = read_from(variables).expect("no error");
            assert!(settings.is_some(), "{variables:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_given_wins() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general/base");
        let metrics = (
            "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT",
            "http://metrics/whole",
        );
        let wrong = ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "wrong");
        let disabled = ("OTEL_SDK_DISABLED", "true");
        for (given, variables, url) in [
            (None, &[general][..], "http://general/base/v1/metrics"),
            (None, &[general, metrics], "http://metrics/whole"),
            (
                Some("http://given"),
                &[general, metrics],
                "http://given/v1/metrics",
            ),
            (
                Some("http://given"),
                &[wrong, disabled],
                "http://given/v1/metrics",
            ),
        ] {
            let settings = read_for(given, variables)
                .expect("no error")
                .expect("settings");
            let metrics = settings.metrics.expect("metrics are pushed");
            assert_eq!(metrics.endpoint.url(Signal::Metrics).to_string(), url);
        }
    }

    #[test]
    fn each_signal_has_its_endpoint_and_may_be_left_out() {
        let general = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://general");
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://own/x");
        let metrics = ("OTEL_METRICS_EXPORTER", "none");
        let traces = ("OTEL_TRACES_EXPORTER", "none");
        let disabled = ("OTEL_SDK_DISABLED", "true");
        for (given, variables, expected) in [
            (
                None,
                &[general][..],
                [
                    Some("http://general/v1/metrics"),
                    Some("http://general/v1/traces"),
                ],
            ),
            (None, &[own], [None, Some("http://own/x")]),
            (
                None,
                &[general, metrics],
                [None, Some("http://general/v1/traces")],
            ),
            (
                None,
                &[general, traces],
                [Some("http://general/v1/metrics"), None],
            ),
            (
                Some("http://given"),
                &[general, disabled],
                [
                    Some("http://given/v1/metrics"),
                    Some("http://given/v1/traces"),
                ],
            ),
            (
                Some("http://given"),
                &[general, own],
                [Some("http://given/v1/metrics"), Some("http://own/x")],
            ),
            (
                Some("http://given"),
                &[traces],
                [Some("http://given/v1/metrics"), None],
            ),
        ] {
            let settings = read_for(given, variables)
                .expect("no error")
                .expect("settings");
            let found = [settings.metrics, settings.traces]
                .map(|transport| transport.map(|one| one.endpoint.url(one.signal).to_string()));
            assert_eq!(
                found,
                expected.map(|url| url.map(str::to_owned)),
                "{variables:?}"
            );
        }
    }

    #[test]
    fn every_variable_is_honoured_and_that_for_metrics_wins() {
        let settings = read_for(
            Some("https://a"),
            &[
                ("OTEL_EXPORTER_OTLP_HEADERS", "x-general=1"),
                ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "X-Key=a%20b , y= 2,"),
                ("OTEL_EXPORTER_OTLP_TIMEOUT", "2500"),
                ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip"),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/ca.pem"),
                (
                    "OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE",
                    "/client.pem",
                ),
                ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "/key.pem"),
                ("OTEL_RESOURCE_ATTRIBUTES", "service.name=no,region=eu%2C1"),
                ("OTEL_SERVICE_NAME", "shop"),
            ],
        );
        let settings = settings.expect("no error").expect("settings");
        let settings = settings.service("code", "1.0").attribute("region", "code");
        let resource = format!("{:?}", settings.resource());
        let metrics = settings.metrics.expect("metrics are pushed");
        let headers: Vec<_> = (metrics.headers.iter())
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default()))
            .collect();
        assert_eq!(headers, [("x-key", "a b"), ("y", "2")]);
        assert_eq!(metrics.timeout, Duration::from_millis(2500));
        assert!(metrics.gzip);
        let path = |file: &Option<SettingPath>| file.as_ref().map(|file| file.path.clone());
        assert_eq!(path(&metrics.certificate), Some("/ca.pem".into()));
        assert_eq!(
            path(&metrics.client_certificate),
            Some("/client.pem".into())
        );
        assert_eq!(path(&metrics.client_key), Some("/key.pem".into()));
        for value in ["\"shop\"", "\"1.0\"", "\"eu,1\""] {
            assert!(resource.contains(value), "{value}: {resource}");
        }
    }

    #[test]
    fn a_bad_variable_is_named_and_its_value_is_not_shown() {
        for (name, value) in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "hunter2:4317"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://hunter2 x"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "=hunter2"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "x=hunter2%ff"),
            ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "x y=hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "hunter2"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
            ("OTEL_RESOURCE_ATTRIBUTES", "hunter2"),
        ] {
            let error = read_from(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a"), (name, value)]);
            // An endpoint of its own is looked up first.
            let error = match error {
                Err(error) => error,
                Ok(_) => read_from(&[(name, value)]).expect_err(name),
            };
            let shown = format!("{error}");
            assert!(shown.starts_with(name), "{shown}");
            assert!(!format!("{shown}{error:?}").contains("hunter2"), "{shown}");
        }
    }
}
