//! The fields of the web configuration file: their names, their accepted values, and what is rejected.
//!
//! The format is that of
//! <https://github.com/prometheus/exporter-toolkit/blob/master/docs/web-configuration.md>. Some documents that exporters
//! accept are rejected here, because they would not do what they say. `tls` reads the section about TLS.

use std::path::Path;

use crate::document::Section;
use crate::error::{ConfigError, FieldPath};
use crate::files::ConfigFiles;
use crate::rate_limit::RateLimit;
use crate::tls::{self, TlsSettings};
use crate::users::User;

/// The headers that may be set: the name in the file, the name to send, and the accepted values. An empty list accepts all.
const HEADERS: [(&str, &str, &[&str]); 5] = [
    ("Content-Security-Policy", "content-security-policy", &[]),
    (
        "X-Frame-Options",
        "x-frame-options",
        &["deny", "sameorigin"],
    ),
    (
        "X-Content-Type-Options",
        "x-content-type-options",
        &["nosniff"],
    ),
    ("X-XSS-Protection", "x-xss-protection", &[]),
    (
        "Strict-Transport-Security",
        "strict-transport-security",
        &[],
    ),
];

/// The contents of a web configuration file.
///
/// ```
/// use std::time::Duration;
/// use exporter_web_config::{ConfigFiles, RateLimit, WebConfig};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("web.yml");
///
/// std::fs::write(&path, "rate_limit: { interval: 1s, burst: 5 }")?;
/// let config = WebConfig::read(&path, &mut ConfigFiles::new())?;
/// assert_eq!(config.rate_limit(), RateLimit::new(Duration::from_secs(1), 5));
///
/// std::fs::write(&path, "rate_limit: { interval: 1d }")?;
/// let error = WebConfig::read(&path, &mut ConfigFiles::new()).unwrap_err();
/// assert!(error.to_string().starts_with("rate_limit.interval in "));
/// assert!(error.to_string().ends_with("must be a duration, such as 500ms, 1s or 1m30s"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct WebConfig {
    pub(crate) tls: Option<TlsSettings>,
    pub(crate) headers: Vec<ResponseHeader>,
    pub(crate) users: Vec<User>,
    pub(crate) rate_limit: Option<RateLimit>,
    /// Sentences for the log, about accepted settings that are probably a mistake.
    warnings: Vec<String>,
}

/// A header that every response has.
///
/// ```
/// use exporter_web_config::{ConfigFiles, WebConfig};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("web.yml");
/// # std::fs::write(&path, "http_server_config:\n  headers:\n    X-Content-Type-Options: nosniff\n")?;
///
/// let config = WebConfig::read(&path, &mut ConfigFiles::new())?;
/// let header = &config.headers()[0];
/// assert_eq!((header.name(), header.value()), ("x-content-type-options", "nosniff"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResponseHeader {
    name: &'static str,
    value: String,
}

impl WebConfig {
    /// Reads the file at `path`, and the files that it names. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    ///
    /// The first file that cannot be read, or the first field that is unknown or has a value that is not accepted.
    pub fn read(path: &Path, files: &mut ConfigFiles) -> Result<Self, ConfigError> {
        let at = FieldPath::root(path);
        let contents = files
            .read(path)
            .map_err(|error| at.error(format!("cannot be read: {error}")))?;
        let mut document = Section::parse(&contents, path)?;
        let (http2, headers) = read_http(document.section("http_server_config")?)?;
        let directory = path.parent().unwrap_or(Path::new(""));
        let tls = tls::read(&mut document, directory, files, http2)?;
        let users = document.section("basic_auth_users")?.into_texts()?;
        let users = read_users(&document.field("basic_auth_users"), users)?;
        let mut warnings = Vec::new();
        let rate_limit = read_rate_limit(document.section("rate_limit")?, &mut warnings)?;
        document.finish()?;
        Ok(Self {
            tls,
            headers,
            users,
            rate_limit,
            warnings,
        })
    }

    /// The TLS settings; `None` if the file has none.
    pub fn tls(&self) -> Option<&TlsSettings> {
        self.tls.as_ref()
    }

    /// Removes the TLS settings, for a server that applies them to another listener than the other settings.
    pub fn take_tls(&mut self) -> Option<TlsSettings> {
        self.tls.take()
    }

    /// The headers of every response.
    pub fn headers(&self) -> &[ResponseHeader] {
        &self.headers
    }

    /// The names of the users, in the order of the file.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.users.iter().map(User::name)
    }

    /// The limit on the rate of requests; `None` if there is none.
    pub fn rate_limit(&self) -> Option<RateLimit> {
        self.rate_limit
    }

    /// Logs the warnings. The file is read often, so this waits until the rules are used.
    pub(crate) fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

impl ResponseHeader {
    /// The name, in lower case.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The value: text in UTF-8 without control characters other than tabs.
    pub fn value(&self) -> &str {
        &self.value
    }
}

fn read_http(mut section: Section<'_>) -> Result<(bool, Vec<ResponseHeader>), ConfigError> {
    let http2 = section.boolean("http2", true)?;
    let mut fields = section.section("headers")?;
    let mut headers = Vec::new();
    for (field_name, name, accepted) in HEADERS {
        if !fields.has(field_name) {
            continue;
        }
        let value = fields.text(field_name)?.unwrap_or_default();
        let field = fields.field(field_name);
        if !accepted.is_empty() && !accepted.contains(&value.as_str()) {
            return Err(field.error(format!("must be {}", accepted.join(" or "))));
        }
        // Exporters do the same. A line break would begin another header.
        let value = value.replace(['\r', '\n'], " ");
        let value = value.trim();
        if value.is_empty() {
            continue;
        }
        if !is_header_value(value) {
            return Err(field.error("must be a text without control characters"));
        }
        let value = value.to_owned();
        headers.push(ResponseHeader { name, value });
    }
    fields.finish()?;
    section.finish()?;
    Ok((http2, headers))
}

/// Whether all bytes may be part of a header's value (RFC 9110, section 5.5).
fn is_header_value(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

fn read_rate_limit(
    mut section: Section<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<RateLimit>, ConfigError> {
    let interval = section.duration("interval")?;
    let burst = u64::try_from(section.whole("burst")?).unwrap_or(0);
    let at_burst = section.field("burst");
    section.finish()?;
    let limit = RateLimit::new(interval, burst);
    if limit.is_some() && burst == 0 {
        warnings.push(format!("{at_burst} is 0: every request is answered 429"));
    }
    Ok(limit)
}

fn read_users(
    at: &FieldPath<'_>,
    entries: Vec<(String, String)>,
) -> Result<Vec<User>, ConfigError> {
    let read = |(name, hash): (String, String)| {
        // Errors contain the name. If name and hash are swapped, the hash must not be shown.
        if name.starts_with('$') {
            return Err(at.error("must map names to hashes, not hashes to names"));
        }
        if name.contains(':') || name.chars().any(char::is_control) {
            return Err(at.error(
                "must have names without colons and control characters: a client cannot send those",
            ));
        }
        let at = at.child(&name);
        User::new(name, hash).map_err(|reason| at.error(reason))
    };
    entries.into_iter().map(read).collect()
}
