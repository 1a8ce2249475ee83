//! Which format and which content encoding a scrape is answered with (RFC 9110, sections 12.5.1 and 12.5.3).
//!
//! There is always an answer: what cannot be satisfied gets text 0.0.4, uncompressed.

/// An exposition format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Format {
    /// Prometheus text 0.0.4.
    #[default]
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Length-delimited `io.prometheus.client.MetricFamily` messages.
    Protobuf,
}

impl Format {
    /// The `Content-Type` of an exposition.
    pub const fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

/// A content encoding.
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
    /// The `Content-Encoding`; none for the identity.
    pub const fn content_encoding(self) -> Option<&'static str> {
        match self {
            Encoding::Identity => None,
            Encoding::Gzip => Some("gzip"),
            Encoding::Zstd => Some("zstd"),
        }
    }
}

/// Chooses a format by the `Accept` headers of a request, each as received.
///
/// The highest q-value among the concrete types wins, the first of equals; wildcards are looked at only where no
/// concrete type is acceptable, and never yield a type that was refused with `q=0`. What is malformed is ignored; a
/// q-value above 1, which Prometheus 2.49 sends, counts as 1.
pub fn negotiate_format(accept: &[&[u8]]) -> Format {
    let mut refused = Vec::new();
    let mut concrete: Option<(Format, f32)> = None;
    let mut wildcard: Option<(&str, f32)> = None;
    for (range, q) in items(accept) {
        if let Some(format) = format_of(range) {
            if q == 0.0 {
                refused.push(format);
            } else if concrete.is_none_or(|(_, best)| q > best) {
                concrete = Some((format, q));
            }
        } else if range.value.contains('*') && q > 0.0 && wildcard.is_none_or(|(_, best)| q > best)
        {
            wildcard = Some((range.value, q));
        }
    }
    if let Some((format, _)) = concrete {
        return format;
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
}

/// Chooses an encoding by the `Accept-Encoding` headers of a request, each as received.
///
/// The highest q-value wins; among equals Zstandard before gzip before none, the cheaper first.
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
    // What is not listed is acceptable only as it is, and only if nothing better is.
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
    /// The parameters but for the malformed ones; those that stand twice come twice.
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

    fn has(self, name: &str, value: &str) -> bool {
        self.allows(name, &[value])
            && self
                .parameters()
                .any(|(found, _)| found.eq_ignore_ascii_case(name))
    }
}

/// The elements of list headers with their weights; those that are no text, or have no weight that is a number of at
/// least 0, are left out.
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

/// The parts of `text` between separators that stand outside of double quotes.
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

/// The format that a media range names, in a version that is served.
fn format_of(range: ListElement<'_>) -> Option<Format> {
    let is = |name: &str| range.value.eq_ignore_ascii_case(name);
    if is("application/openmetrics-text") {
        // Version 0.0.1 was the draft that Prometheus asks for besides, and reads 1.0.0 as.
        range
            .allows("version", &["1.0.0", "0.0.1"])
            .then_some(Format::OpenMetrics)
    } else if is("text/plain") {
        range.allows("version", &["0.0.4"]).then_some(Format::Text)
    } else if is("application/vnd.google.protobuf") {
        (range.has("proto", "io.prometheus.client.MetricFamily")
            && range.has("encoding", "delimited"))
        .then_some(Format::Protobuf)
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
