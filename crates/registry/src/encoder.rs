//! One encoder for all formats: the place where a format is told apart from the others.

use std::time::Duration;

use super::exposition::{Header, Labels, Value};
use super::negotiate::Format;
use super::{protobuf, text};

/// Writes families in one format.
#[derive(Debug)]
pub(crate) struct Encoder {
    format: Format,
    /// Whether OpenMetrics shows when series were created. Protobuf always does, text cannot.
    created: bool,
    scratch: protobuf::Scratch,
}

impl Encoder {
    pub(crate) fn new(format: Format, created: bool) -> Self {
        Self {
            format,
            created,
            scratch: protobuf::Scratch::default(),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Appends what precedes a family's series.
    pub(crate) fn head(&self, out: &mut Vec<u8>, header: &Header) {
        match self.format {
            Format::Text => out.extend_from_slice(header.text.as_bytes()),
            Format::OpenMetrics => out.extend_from_slice(header.openmetrics.as_bytes()),
            Format::Protobuf => protobuf::push_head(out, &header.description),
        }
    }

    /// Appends one series; `timestamp` is in milliseconds since the Unix epoch.
    #[inline]
    pub(crate) fn series(
        &mut self,
        out: &mut Vec<u8>,
        header: &Header,
        labels: Labels<'_>,
        value: Value<'_>,
        created: Option<Duration>,
        timestamp: Option<i64>,
    ) {
        match self.format {
            Format::Text => text::push_text(out, header, labels.text, value, timestamp),
            Format::OpenMetrics => {
                let created = created.filter(|_| self.created);
                text::push_openmetrics(out, header, labels.text, value, created, timestamp);
            }
            Format::Protobuf => {
                protobuf::push_series(out, &mut self.scratch, labels, value, created, timestamp);
            }
        }
    }
}

/// Appends what frames a family's output once it is complete: the length before it, in protobuf.
pub(crate) fn push_delimiter(out: &mut Vec<u8>, length: usize) {
    protobuf::push_delimiter(out, length);
}

/// Appends what ends an exposition.
pub(crate) fn push_end(out: &mut Vec<u8>, format: Format) {
    if format == Format::OpenMetrics {
        out.extend_from_slice(text::EOF);
    }
}
