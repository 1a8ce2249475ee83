//! How metrics and traces are pushed: where to, how often, and with which headers, certificates and resource attributes.
//!
//! The variables of the environment are read in `variables`. Nothing here connects or opens a file.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use ring::rand::{SecureRandom as _, SystemRandom};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::endpoint::{EndpointError, OtlpEndpoint};
use crate::message::text_attribute;
use crate::signal::Signal;
use crate::variables;

/// How often metrics are pushed.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);

/// The longest interval, the longest time of an attempt, and that of the last push. Longer ones exceed what the clock can
/// count.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// The shortest interval: a push is a whole scrape.
const LEAST_INTERVAL: Duration = Duration::from_millis(100);

/// The default of `OTEL_EXPORTER_OTLP_TIMEOUT`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The wait before the first retry.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// How metrics, and traces of kept requests, are pushed to an OTLP receiver.
///
/// ```
/// use std::time::Duration;
///
/// use vitals_otlp::OtlpSettings;
///
/// # fn main() -> Result<(), vitals_otlp::OtlpError> {
/// let settings = OtlpSettings::new("https://collector:4318")?
///     .interval(Duration::from_secs(30))
///     .service("shop", env!("CARGO_PKG_VERSION"))
///     .header("x-tenant", "42")?
///     .gzip(true);
/// assert!(format!("{settings:?}").contains("https://collector:4318"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct OtlpSettings {
    /// `None` where metrics are not pushed.
    pub(crate) metrics: Option<Transport>,
    /// `None` where traces are not pushed.
    pub(crate) traces: Option<Transport>,
    pub(crate) interval: Duration,
    pub(crate) first_backoff: Duration,
    attributes: BTreeMap<String, String>,
    /// Those of the environment, which win: they describe the deployment.
    pub(crate) deployed_attributes: BTreeMap<String, String>,
}

/// How the requests of one signal are sent.
#[derive(Clone)]
pub(crate) struct Transport {
    pub(crate) signal: Signal,
    pub(crate) endpoint: OtlpEndpoint,
    /// For one attempt.
    pub(crate) timeout: Duration,
    pub(crate) headers: HeaderMap,
    pub(crate) gzip: bool,
    pub(crate) certificate: Option<SettingPath>,
    pub(crate) client_certificate: Option<SettingPath>,
    pub(crate) client_key: Option<SettingPath>,
}

impl Transport {
    pub(crate) fn new(signal: Signal, endpoint: OtlpEndpoint) -> Self {
        Self {
            signal,
            endpoint,
            timeout: DEFAULT_TIMEOUT,
            headers: HeaderMap::new(),
            gzip: false,
            certificate: None,
            client_certificate: None,
            client_key: None,
        }
    }

    /// Sets how long one attempt may take, at most [`LONGEST_WAIT`].
    pub(crate) fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout.min(LONGEST_WAIT);
    }

    /// Adds a header that comes from this setting.
    pub(crate) fn add_header(
        &mut self,
        setting: &'static str,
        name: &str,
        value: &str,
    ) -> Result<(), OtlpError> {
        let error = |problem| OtlpError::Header { setting, problem };
        let name = HeaderName::try_from(name)
            .map_err(|_| error("its name must consist of letters, digits and -"))?;
        let is_own = [
            header::CONTENT_TYPE,
            header::CONTENT_ENCODING,
            header::CONTENT_LENGTH,
        ];
        if is_own.contains(&name) {
            return Err(error(
                "the push itself sets the type, encoding and length of the content",
            ));
        }
        let mut value = HeaderValue::try_from(value)
            .map_err(|_| error("its value must consist of visible characters and spaces"))?;
        value.set_sensitive(true);
        self.headers.insert(name, value);
        Ok(())
    }
}

/// The path of a file, and the name of the setting that it comes from.
#[derive(Clone, Debug)]
#[cfg_attr(not(feature = "tls"), allow(dead_code, reason = "TLS reads the files"))]
pub(crate) struct SettingPath {
    pub(crate) setting: &'static str,
    pub(crate) path: PathBuf,
}

impl SettingPath {
    #[cfg(feature = "tls")]
    pub(crate) fn error(&self, problem: &str) -> OtlpError {
        OtlpError::File {
            setting: self.setting,
            path: self.path.clone(),
            problem: problem.to_owned(),
        }
    }
}

/// Why metrics cannot be pushed as the settings ask. It contains no credentials and no value of a header.
///
/// ```
/// use vitals_otlp::{OtlpError, OtlpSettings};
///
/// # fn main() -> Result<(), OtlpError> {
/// // `None` if neither the argument nor a variable names a receiver.
/// let settings = OtlpSettings::from_env(None)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OtlpError {
    /// The address of the receiver is not valid.
    #[error("{setting} {error}")]
    Endpoint {
        /// The variable, or `the OTLP endpoint`.
        setting: &'static str,
        /// Why it is not valid.
        error: EndpointError,
    },
    /// A variable of the environment has a value that is not accepted.
    #[error("{name} {problem}")]
    Variable {
        /// The variable.
        name: &'static str,
        /// What is wrong, and what is accepted.
        problem: &'static str,
    },
    /// A header cannot be sent.
    #[error("{setting} has a header that cannot be sent: {problem}")]
    Header {
        /// The variable, or `the OTLP push`.
        setting: &'static str,
        /// What is wrong, and what is accepted.
        problem: &'static str,
    },
    /// A file of a certificate or key cannot be used.
    #[error("{setting}: the file {} {problem}", path.display())]
    File {
        /// The variable, or the setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A client certificate without its key, or a key without its certificate.
    #[error("{0} needs the other half: a client certificate and its private key go together")]
    HalfClientCertificate(&'static str),
    /// The receiver is asked for over TLS, and nothing says which authorities to trust.
    #[error(
        "the system has no trusted certificates, which an https:// endpoint needs; OTEL_EXPORTER_OTLP_CERTIFICATE names a file of them"
    )]
    NoSystemCertificates,
    /// The system has no thread for the push.
    #[error("no thread can be started for the push: {0}")]
    Thread(io::Error),
}

impl From<EndpointError> for OtlpError {
    fn from(error: EndpointError) -> Self {
        Self::Endpoint {
            setting: "the OTLP endpoint",
            error,
        }
    }
}

impl OtlpSettings {
    /// Settings for the receiver at this base address; metrics are sent to `/v1/metrics` below it, and traces to
    /// `/v1/traces`. No variable of the environment is read.
    pub fn new(endpoint: &str) -> Result<Self, OtlpError> {
        let endpoint: OtlpEndpoint = endpoint.parse()?;
        let transport = |signal| Some(Transport::new(signal, endpoint.clone()));
        Ok(Self::of(
            transport(Signal::Metrics),
            transport(Signal::Traces),
        ))
    }

    /// Settings by the variables `OTEL_EXPORTER_OTLP_*` (and those for one signal alone, `OTEL_EXPORTER_OTLP_METRICS_*` and
    /// `OTEL_EXPORTER_OTLP_TRACES_*`), `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES`. An `endpoint` that is given wins
    /// over the variables.
    ///
    /// Returns `None` where neither says where to push to; then no variable is checked. A variable's endpoint also counts
    /// as none where `OTEL_SDK_DISABLED` is `true`, `OTEL_METRICS_EXPORTER` or `OTEL_TRACES_EXPORTER` is not `otlp`, or the
    /// protocol is not `http/protobuf`. `OTEL_TRACES_EXPORTER=none` also applies to an endpoint that is given.
    ///
    /// ```
    /// use vitals_otlp::OtlpSettings;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let endpoint = "http://collector:4318".parse()?;
    /// assert!(OtlpSettings::from_env(Some(endpoint))?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_env(endpoint: Option<OtlpEndpoint>) -> Result<Option<Self>, OtlpError> {
        variables::read(endpoint, &|name| std::env::var_os(name))
    }

    pub(crate) fn of(metrics: Option<Transport>, traces: Option<Transport>) -> Self {
        Self {
            metrics,
            traces,
            interval: DEFAULT_INTERVAL,
            first_backoff: FIRST_BACKOFF,
            attributes: BTreeMap::new(),
            deployed_attributes: BTreeMap::new(),
        }
    }

    /// Pushes no traces.
    #[must_use]
    pub fn without_traces(mut self) -> Self {
        self.traces = None;
        self
    }

    /// How often metrics and traces are pushed. Default 15 s, at least 100 ms, at most a day.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval.clamp(LEAST_INTERVAL, LONGEST_WAIT);
        self
    }

    /// How long one attempt may take, from the resolution of the host's name to the end of the answer. Default 10 s, at most
    /// a day.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        for transport in self.transports() {
            transport.set_timeout(timeout);
        }
        self
    }

    /// Sends this header with each request, instead of an earlier one of its name. Its value is never shown.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, OtlpError> {
        for transport in self.transports() {
            transport.add_header("the OTLP push", name, value)?;
        }
        Ok(self)
    }

    fn transports(&mut self) -> impl Iterator<Item = &mut Transport> {
        self.metrics.iter_mut().chain(&mut self.traces)
    }

    /// Whether requests are compressed with gzip. Default false.
    #[must_use]
    pub fn gzip(mut self, wanted: bool) -> Self {
        for transport in self.transports() {
            transport.gzip = wanted;
        }
        self
    }

    /// Trusts the authorities in this PEM file, instead of those that the system trusts. It is read when the push starts.
    #[must_use]
    pub fn certificate(mut self, path: impl Into<PathBuf>) -> Self {
        let file = SettingPath {
            setting: "the certificate of the OTLP push",
            path: path.into(),
        };
        for transport in self.transports() {
            transport.certificate = Some(file.clone());
        }
        self
    }

    /// Presents the certificate in this PEM file, with the private key in the other. They are read when the push starts.
    #[must_use]
    pub fn client_certificate(mut self, path: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        let file = |setting, path| Some(SettingPath { setting, path });
        let certificate = file("the client certificate of the OTLP push", path.into());
        let key = file("the client key of the OTLP push", key.into());
        for transport in self.transports() {
            transport.client_certificate.clone_from(&certificate);
            transport.client_key.clone_from(&key);
        }
        self
    }

    /// The name and version of the service, for the resource attributes `service.name` and `service.version`. By default the
    /// name is `unknown_service:` and the name of the program.
    #[must_use]
    pub fn service(self, name: &str, version: &str) -> Self {
        self.attribute("service.name", name)
            .attribute("service.version", version)
    }

    /// A resource attribute, which describes the whole service. A variable of the environment wins.
    ///
    /// By default `service.instance.id` is a random UUID, another one at each start.
    #[must_use]
    pub fn attribute(mut self, key: &str, value: &str) -> Self {
        self.attributes.insert(key.to_owned(), value.to_owned());
        self
    }

    /// How long the last push may take where nobody waits for it.
    pub(crate) fn grace(&self) -> Duration {
        let transports = self.metrics.iter().chain(&self.traces);
        let timeouts = transports.map(|transport| transport.timeout);
        timeouts.max().unwrap_or(DEFAULT_TIMEOUT)
    }

    /// The resource attributes.
    pub(crate) fn resource(&self) -> Vec<KeyValue> {
        let mut all = BTreeMap::from([
            ("service.name".to_owned(), default_service_name()),
            ("service.instance.id".to_owned(), random_uuid()),
        ]);
        all.extend(self.attributes.clone());
        all.extend(self.deployed_attributes.clone());
        all.iter()
            .map(|(key, value)| text_attribute(key, value))
            .collect()
    }
}

impl fmt::Debug for OtlpSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpSettings")
            .field("metrics", &self.metrics)
            .field("traces", &self.traces)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Without the values of headers.
impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.keys().collect();
        f.debug_struct("Transport")
            .field("endpoint", &self.endpoint)
            .field("timeout", &self.timeout)
            .field("headers", &headers)
            .field("gzip", &self.gzip)
            .finish_non_exhaustive()
    }
}

/// <https://opentelemetry.io/docs/specs/semconv/resource/#service>
fn default_service_name() -> String {
    let program = std::env::current_exe().ok();
    let program = program
        .as_deref()
        .and_then(|path| path.file_name()?.to_str());
    match program {
        Some(program) => format!("unknown_service:{program}"),
        None => "unknown_service".to_owned(),
    }
}

/// A random UUID, version 4 (RFC 9562).
fn random_uuid() -> String {
    let mut bytes = [0; 16];
    // Where the system has no random numbers, all services share one identity, but push.
    let _ = SystemRandom::new().fill(&mut bytes);
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = format!("{:032x}", u128::from_be_bytes(bytes));
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OtlpSettings {
        OtlpSettings::new("http://collector").expect("valid settings")
    }

    fn attribute(settings: &OtlpSettings, key: &str) -> String {
        let resource = settings.resource();
        let found = resource.iter().find(|attribute| attribute.key == key);
        format!("{:?}", found.map(|found| found.value.clone()))
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_rejected_without_its_value() {
        for (name, value, part) in [
            ("x y", "hunter2", "its name"),
            ("", "hunter2", "its name"),
            ("x-key", "hunter2\r\nhost: evil", "its value"),
            ("Content-Type", "hunter2", "the push itself"),
            ("content-encoding", "hunter2", "the push itself"),
        ] {
            let error = settings()
                .header(name, value)
                .expect_err("a bad header")
                .to_string();
            assert!(
                error.starts_with("the OTLP push has a header that cannot be sent: "),
                "{error}"
            );
            assert!(
                error.contains(part) && !error.contains("hunter2"),
                "{error}"
            );
        }
    }

    #[test]
    fn no_secret_is_shown() {
        let settings = OtlpSettings::new("https://ada:hunter2@collector/x?key=hunter2")
            .and_then(|settings| settings.header("x-key", "hunter2"))
            .expect("valid settings");
        let shown = format!("{settings:?} {settings:#?}");
        assert!(
            shown.contains("https://collector") && shown.contains("x-key"),
            "{shown}"
        );
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_service_has_a_name_and_an_identity_by_default() {
        let unnamed = settings();
        assert!(attribute(&unnamed, "service.name").contains("unknown_service:vitals_otlp"));
        let instance = attribute(&unnamed, "service.instance.id");
        assert_ne!(
            instance,
            attribute(&unnamed, "service.instance.id"),
            "random"
        );
        let named = settings()
            .service("shop", "1.2")
            .attribute("service.instance.id", "a");
        assert!(attribute(&named, "service.name").contains("\"shop\""));
        assert!(attribute(&named, "service.version").contains("\"1.2\""));
        assert!(attribute(&named, "service.instance.id").contains("\"a\""));
    }

    #[test]
    fn a_random_uuid_is_of_version_4() {
        let uuid = random_uuid();
        let parts: Vec<_> = uuid.split('-').map(str::len).collect();
        assert_eq!(parts, [8, 4, 4, 4, 12], "{uuid}");
        assert_eq!(&uuid[14..15], "4", "{uuid}");
        assert!("89ab".contains(&uuid[19..20]), "{uuid}");
    }
}
