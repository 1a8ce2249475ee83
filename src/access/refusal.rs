//! Why what was configured is not taken: one sentence, with the field or the flag that is at fault at its beginning.

use std::fmt;
use std::path::Path;

/// Something that was configured, and what is wrong with it. It never quotes a value that may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{subject} {reason}")]
pub struct Refusal {
    subject: String,
    reason: String,
}

impl Refusal {
    /// A refusal of `subject`; the reason reads on after it: `must be …`.
    pub(super) fn new(subject: impl Into<String>, reason: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            reason: reason.into(),
        }
    }
}

/// A field by its path from the top of its file, and that file: `tls_server_config.min_version in /etc/web.yml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Field<'a> {
    path: String,
    file: &'a Path,
}

impl<'a> Field<'a> {
    /// All of a file.
    pub(super) fn root(file: &'a Path) -> Self {
        Self {
            path: String::new(),
            file,
        }
    }

    /// A field of this one.
    pub(super) fn child(&self, name: &str) -> Self {
        let separator = if self.path.is_empty() { "" } else { "." };
        Self {
            path: format!("{}{separator}{name}", self.path),
            file: self.file,
        }
    }

    /// What is wrong with it.
    pub(super) fn refuse(&self, reason: impl Into<String>) -> Refusal {
        Refusal::new(self.to_string(), reason)
    }
}

impl fmt::Display for Field<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{} in ", self.path)?;
        }
        write!(f, "{}", self.file.display())
    }
}
