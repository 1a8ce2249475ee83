//! The encoder of all formats: it passes families and series on to the module of the format.

use std::time::Duration;

use super::escaping::{EscapedFamily, Escaping};
use super::exposition::{Header, Labels, Value};
use super::label::is_metric_name;
use super::negotiate::{Format, MediaType};
use super::{protobuf, text};

/// Writes families in one format.
#[derive(Debug)]
pub(crate) struct Encoder {
    format: Format,
    escaping: Escaping,
    /// The current family by the escaping scheme; `None` where its names are shown as they are.
    escaped: Option<EscapedFamily>,
    /// Whether OpenMetrics shows times of creation. Protobuf always does, and text cannot.
    created: bool,
    scratch: protobuf::Scratch,
}

impl Encoder {
    pub(crate) fn new(media: MediaType, created: bool) -> Self {
        Self {
            format: media.format(),
            escaping: media.escaping(),
            escaped: None,
            created,
            scratch: protobuf::Scratch::default(),
        }
    }

    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Appends the head of a family.
    pub(crate) fn head(&mut self, out: &mut Vec<u8>, header: &Header) {
        self.escaped = (header.is_utf8 && self.escaping != Escaping::AllowUtf8)
            .then(|| EscapedFamily::new(&header.description, self.escaping));
        let header = self
            .escaped
            .as_ref()
            .map_or(header, |family| &family.header);
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
        if header.is_utf8 {
            return self.utf8_series(out, header, labels, value, created, timestamp);
        }
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

impl Encoder {
    /// Appends one series of a family with a name that not every scraper knows.
    #[inline(never)]
    fn utf8_series(
        &mut self,
        out: &mut Vec<u8>,
        header: &Header,
        labels: Labels<'_>,
        value: Value<'_>,
        created: Option<Duration>,
        timestamp: Option<i64>,
    ) {
        let (header, labels) = match &mut self.escaped {
            Some(family) => family.series(labels),
            None => (header, labels),
        };
        let created_line = created.filter(|_| self.created);
        match (self.format, is_metric_name(header.name())) {
            (Format::Text, true) => text::push_text(out, header, labels.text, value, timestamp),
            (Format::Text, false) => {
                text::push_quoted_text(out, header, labels.text, value, timestamp);
            }
            (Format::OpenMetrics, true) => {
                text::push_openmetrics(out, header, labels.text, value, created_line, timestamp);
            }
            (Format::OpenMetrics, false) => {
                let text = labels.text;
                text::push_quoted_openmetrics(out, header, text, value, created_line, timestamp);
            }
            (Format::Protobuf, _) => {
                protobuf::push_series(out, &mut self.scratch, labels, value, created, timestamp);
            }
        }
    }
}

pub(crate) use protobuf::{delimiter_length, write_delimiter};

/// Appends the end of an exposition.
pub(crate) fn push_end(out: &mut Vec<u8>, format: Format) {
    if format == Format::OpenMetrics {
        out.extend_from_slice(text::EOF);
    }
}
