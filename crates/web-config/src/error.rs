//! The error of a configuration that cannot be used: one sentence that begins with the field or the setting.

use std::fmt;
use std::path::Path;

/// A configuration that cannot be used: the name of the field or setting, and what is wrong with it.
///
/// The sentence never contains a value that may be a secret, has one line, and does not end in a full stop.
///
/// ```
/// use exporter_web_config::ConfigError;
///
/// let error = ConfigError::new("--tls-key", "is missing: --tls-cert needs it");
/// assert_eq!(error.to_string(), "--tls-key is missing: --tls-cert needs it");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject} {reason}")]
pub struct ConfigError {
    subject: String,
    reason: String,
}

impl ConfigError {
    /// An error of `subject`. The reason continues the sentence: `must be …`.
    pub fn new(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            reason: reason.into(),
        }
    }

    /// An error of a field in a file. The field is written as its path in the document, with dots.
    ///
    /// ```
    /// use std::path::Path;
    /// use exporter_web_config::ConfigError;
    ///
    /// let file = Path::new("/etc/web.yml");
    /// let error = ConfigError::of_field(file, "rate_limit.burst", "must be at least 1");
    /// assert_eq!(error.to_string(), "rate_limit.burst in /etc/web.yml must be at least 1");
    /// ```
    pub fn of_field(file: &Path, field: &str, reason: impl Into<String>) -> Self {
        FieldPath::root(file).child(field).error(reason)
    }
}

/// The path of a field from the top of its file, and the file: `tls_server_config.min_version in /etc/web.yml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldPath<'a> {
    path: String,
    file: &'a Path,
}

impl<'a> FieldPath<'a> {
    /// The whole file.
    pub(crate) fn root(file: &'a Path) -> Self {
        Self {
            path: String::new(),
            file,
        }
    }

    /// A field of this one.
    pub(crate) fn child(&self, name: &str) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{separator}{name}", self.path),
            file: self.file,
        }
    }

    /// An error of this field.
    pub(crate) fn error(&self, reason: impl Into<String>) -> ConfigError {
        ConfigError::new(self.to_string(), reason)
    }
}

impl fmt::Display for FieldPath<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{} in ", self.path)?;
        }
        write!(f, "{}", self.file.display())
    }
}
