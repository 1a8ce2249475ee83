//! Content negotiation: the format and the encoding of a scrape's answer (RFC 9110, sections 12.5.1 and 12.5.3).
//!
//! There is always an answer: a request that cannot be satisfied gets text 0.0.4, uncompressed. The parameter `escaping` is specified in
//! <https://prometheus.io/docs/instrumenting/content_negotiation/>.

use super::escaping::Escaping;

/// An exposition format.
///
/// ```
/// use vitals_registry::{Format, negotiate_format};
///
/// let accept: &[u8] = b"application/openmetrics-text;version=1.0.0,text/plain;q=0.5";
/// assert_eq!(negotiate_format(&[accept]).format(), Format::OpenMetrics);
/// assert_eq!(negotiate_format(&[]).format(), Format::Text);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text.
    #[default]
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

impl Format {
    /// The `Content-Type` of an exposition for a client that knows nothing of escaping: text is 0.0.4.
    pub const fn content_type(self) -> &'static str {
        MediaType::of(self).content_type()
    }
}

/// A format with its version and with the scheme by which names are escaped.
///
/// ```
/// use vitals_registry::{Escaping, Format, negotiate_format};
///
/// let media = negotiate_format(&[b"text/plain;version=1.0.0;escaping=allow-utf-8"]);
/// assert_eq!((media.format(), media.escaping()), (Format::Text, Escaping::AllowUtf8));
/// assert_eq!(
///     media.content_type(),
///     "text/plain; version=1.0.0; charset=utf-8; escaping=allow-utf-8"
/// );
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MediaType {
    format: Format,
    /// Whether text is 1.0.0, where names may be quoted, and not 0.0.4.
    is_text_1: bool,
    /// `None` for a client that knows nothing of it.
    escaping: Option<Escaping>,
}

/// The content type, followed by the escaping scheme if there is one.
macro_rules! content_type {
    ($base:literal, $escaping:expr) => {
        match $escaping {
            None => $base,
            Some(Escaping::AllowUtf8) => concat!($base, "; escaping=allow-utf-8"),
            Some(Escaping::Underscores) => concat!($base, "; escaping=underscores"),
            Some(Escaping::Dots) => concat!($base, "; escaping=dots"),
            Some(Escaping::Values) => concat!($base, "; escaping=values"),
        }
    };
}

impl MediaType {
    const fn of(format: Format) -> Self {
        Self {
            format,
            is_text_1: false,
            escaping: None,
        }
    }

    /// The format.
    pub const fn format(self) -> Format {
        self.format
    }

    /// How names are escaped: by underscores for a client that asks for nothing.
    pub const fn escaping(self) -> Escaping {
        match self.escaping {
            Some(escaping) => escaping,
            None => Escaping::Underscores,
        }
    }

    /// The `Content-Type` of an exposition. It names the escaping scheme only if the client did.
    pub const fn content_type(self) -> &'static str {
        match self.format {
            Format::Text if self.is_text_1 => {
                content_type!("text/plain; version=1.0.0; charset=utf-8", self.escaping)
            }
            Format::Text => {
                content_type!("text/plain; version=0.0.4; charset=utf-8", self.escaping)
            }
            Format::OpenMetrics => content_type!(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
                self.escaping
            ),
            Format::Protobuf => content_type!(
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited",
                self.escaping
            ),
        }
    }
}

impl From<Format> for MediaType {
    fn from(format: Format) -> Self {
        Self::of(format)
    }
}

/// A content encoding.
///
/// ```
/// use vitals_registry::{Encoding, negotiate_encoding};
///
/// assert_eq!(negotiate_encoding(&[b"gzip, br"]), Encoding::Gzip);
/// assert_eq!(negotiate_encoding(&[]), Encoding::Identity);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// None.
    #[default]
    Identity,
    /// gzip (RFC 1952).
    Gzip,
    /// Zstandard (RFC 8878).
    Zstd,
}

impl Encoding {
    /// The `Content-Encoding`; `None` for the identity.
    pub const fn content_encoding(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
        }
    }
}

/// Chooses a format by the `Accept` headers of a request, each as received, with the escaping scheme that the client asks
/// for in that format.
///
/// Prometheus names the scheme beside the text formats alone. Protobuf gets it from there, so that names do not change when
/// native histograms are switched on.
///
/// The concrete type with the highest q-value wins, and the first of equals. Wildcards count only if no concrete type is
/// acceptable, and never choose a type that has `q=0`. Malformed parts are ignored. A q-value above 1, which Prometheus
/// 2.49 sends, counts as 1.
pub fn negotiate_format(accept: &[&[u8]]) -> MediaType {
    let mut refused = Vec::new();
    let mut concrete: Option<(MediaType, f32)> = None;
    let mut wildcard: Option<(&str, f32)> = None;
    let mut scheme = None;
    for (range, q) in items(accept) {
        scheme = scheme.or(range.escaping());
        if let Some(media) = media_type_of(range) {
            if q == 0.0 {
                refused.extend((!media.is_text_1).then_some(media.format));
            } else if concrete.is_none_or(|(_, best)| q > best) {
                concrete = Some((media, q));
            }
        } else if range.value.contains('*') && q > 0.0 && wildcard.is_none_or(|(_, best)| q > best)
        {
            wildcard = Some((range.value, q));
        }
    }
    if let Some((mut media, _)) = concrete {
        if media.format == Format::Protobuf {
            media.escaping = media.escaping.or(scheme);
        }
        return media;
    }
    let matching: &[Format] = match wildcard {
        Some((value, _)) if value.eq_ignore_ascii_case("application/*") => {
            &[Format::OpenMetrics, Format::Protobuf]
        }
        Some((value, _)) if value.eq_ignore_ascii_case("text/*") => &[Format::Text],
        Some(("*/*", _)) => &[Format::Text, Format::OpenMetrics, Format::Protobuf],
        _ => &[],
    };
    matching
        .iter()
        .copied()
        .find(|format| !refused.contains(format))
        .unwrap_or_default()
        .into()
}

/// Chooses an encoding by the `Accept-Encoding` headers of a request, each as received.
///
/// The highest q-value wins. Among equals, Zstandard comes before gzip and gzip before none: the cheaper first.
pub fn negotiate_encoding(accept_encoding: &[&[u8]]) -> Encoding {
    let mut zstd = None;
    let mut gzip = None;
    let mut identity = None;
    let mut rest = None;
    for (item, q) in items(accept_encoding) {
        let named = |names: &[&str]| {
            names
                .iter()
                .any(|name| item.value.eq_ignore_ascii_case(name))
        };
        let slot = if named(&["zstd"]) {
            &mut zstd
        } else if named(&["gzip", "x-gzip"]) {
            &mut gzip
        } else if named(&["identity"]) {
            &mut identity
        } else if named(&["*"]) {
            &mut rest
        } else {
            continue;
        };
        *slot = Some(slot.map_or(q, |known: f32| known.max(q)));
    }
    // The identity is acceptable without being listed, but comes last.
    let plain = identity.unwrap_or(0.0);
    let [zstd, gzip] = [zstd, gzip].map(|q| q.or(rest).unwrap_or(0.0));
    if zstd > 0.0 && zstd >= gzip && zstd >= plain {
        Encoding::Zstd
    } else if gzip > 0.0 && gzip >= plain {
        Encoding::Gzip
    } else {
        Encoding::Identity
    }
}

/// One element of a list header, without its weight.
#[derive(Clone, Copy)]
struct ListElement<'a> {
    value: &'a str,
    parameters: &'a str,
}

impl<'a> ListElement<'a> {
    /// The parameters without malformed ones. A parameter that is given twice comes twice.
    fn parameters(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        split_unquoted(self.parameters.as_bytes(), b';')
            .filter_map(|parameter| std::str::from_utf8(parameter).ok()?.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim().trim_matches('"')))
    }

    /// Whether every parameter of this name, if there is any, has one of `values`.
    fn allows(self, name: &str, values: &[&str]) -> bool {
        self.parameters()
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .all(|(_, value)| values.iter().any(|one| value.eq_ignore_ascii_case(one)))
    }

    /// The last escaping scheme that is known.
    fn escaping(self) -> Option<Escaping> {
        let schemes = self.parameters().filter_map(|(name, value)| {
            let is_scheme = name.eq_ignore_ascii_case("escaping");
            is_scheme.then(|| Escaping::parse(value)).flatten()
        });
        schemes.last()
    }

    fn has(self, name: &str, value: &str) -> bool {
        self.allows(name, &[value])
            && self
                .parameters()
                .any(|(found, _)| found.eq_ignore_ascii_case(name))
    }
}

/// The elements of list headers with their weights. An element that is not text, or whose weight is not a number of at
/// least 0, is left out.
fn items<'a>(headers: &'a [&'a [u8]]) -> impl Iterator<Item = (ListElement<'a>, f32)> {
    headers
        .iter()
        .flat_map(|header| split_unquoted(header, b','))
        .filter_map(|element| {
            let element = std::str::from_utf8(element).ok()?;
            let (value, parameters) = element.split_once(';').unwrap_or((element, ""));
            let item = ListElement {
                value: value.trim(),
                parameters,
            };
            let mut weights = item
                .parameters()
                .filter(|(name, _)| name.eq_ignore_ascii_case("q"));
            let q = match weights.next() {
                None => 1.0,
                Some((_, weight)) => weight.parse::<f32>().ok().filter(|q| *q >= 0.0)?.min(1.0),
            };
            (!item.value.is_empty()).then_some((item, q))
        })
}

/// The parts of `text` between separators. A separator within double quotes does not count.
fn split_unquoted(text: &[u8], separator: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let mut quoted = false;
        let mut escaped = false;
        let end = text.iter().position(|&byte| {
            let ends = byte == separator && !quoted;
            if byte == b'"' && !escaped {
                quoted = !quoted;
            }
            escaped = byte == b'\\' && quoted && !escaped;
            ends
        });
        rest = end.map(|end| &text[end + 1..]);
        Some(end.map_or(text, |end| &text[..end]))
    })
}

/// The media type that a range names, in a version that is served.
fn media_type_of(range: ListElement<'_>) -> Option<MediaType> {
    let is = |name: &str| range.value.eq_ignore_ascii_case(name);
    let mut media = MediaType {
        escaping: range.escaping(),
        ..MediaType::default()
    };
    if is("application/openmetrics-text") {
        // Version 0.0.1 was a draft. Prometheus accepts it too, and reads it as 1.0.0.
        media.format = Format::OpenMetrics;
        return range
            .allows("version", &["1.0.0", "0.0.1"])
            .then_some(media);
    }
    if is("text/plain") {
        media.is_text_1 = range.has("version", "1.0.0");
        if !media.is_text_1 && media.escaping == Some(Escaping::AllowUtf8) {
            // No name is quoted in 0.0.4.
            media.escaping = Some(Escaping::Underscores);
        }
        return (media.is_text_1 || range.allows("version", &["0.0.4"])).then_some(media);
    }
    media.format = Format::Protobuf;
    (is("application/vnd.google.protobuf")
        && range.has("proto", "io.prometheus.client.MetricFamily")
        && range.has("encoding", "delimited"))
    .then_some(media)
}

#[cfg(test)]
mod tests;
