//! Names outside of the grammar that every scraper knows: how they are shown to a scraper that allows UTF-8, and how they
//! are escaped for one that does not.
//!
//! A name within that grammar ([`is_metric_name`], [`is_label_name`]) is never escaped and never quoted, with any scheme. The escaping schemes are those of
//! <https://prometheus.io/docs/instrumenting/escaping_schemes/>.

use super::descriptor::FamilyDescription;
use super::exposition::{Header, Labels};
use super::label::{is_label_name, is_metric_name, push_pair};
use super::protobuf::push_label;
use super::visit::VisitedLabels;

/// How names that are not of the form `[a-zA-Z_:][a-zA-Z0-9_:]*` are shown: the parameter `escaping` of a media type.
///
/// ```
/// use vitals_registry::Escaping;
///
/// assert_eq!(Escaping::default().as_str(), "underscores");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Escaping {
    /// As they are, within double quotes.
    AllowUtf8,
    /// With `_` in the place of each character that is not allowed. The default, for clients that name no scheme.
    #[default]
    Underscores,
    /// As [`Underscores`](Self::Underscores), except that `.` becomes `_dot_`, and `_` and any other character become `__`.
    Dots,
    /// With the prefix `U__`, `_` doubled, and the code point of each character that is not allowed, as in `_2e_`.
    Values,
}

impl Escaping {
    /// Every scheme that changes names.
    pub(crate) const CHANGING: [Self; 3] = [Self::Underscores, Self::Dots, Self::Values];

    /// The value of the parameter.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::AllowUtf8 => "allow-utf-8",
            Self::Underscores => "underscores",
            Self::Dots => "dots",
            Self::Values => "values",
        }
    }

    /// The scheme that a value of the parameter names.
    pub(crate) fn parse(value: &str) -> Option<Self> {
        [Self::AllowUtf8, Self::Underscores, Self::Dots, Self::Values]
            .into_iter()
            .find(|scheme| scheme.as_str() == value)
    }

    /// The name of a family or sample by this scheme.
    pub(crate) fn metric_name(self, name: &str) -> String {
        self.escaped(name, is_metric_name(name), |c| c == ':')
    }

    /// The name of a label by this scheme.
    pub(crate) fn label_name(self, name: &str) -> String {
        self.escaped(name, is_label_name(name), |_| false)
    }

    fn escaped(self, name: &str, is_valid: bool, also: impl Fn(char) -> bool) -> String {
        if is_valid || self == Self::AllowUtf8 {
            return name.to_owned();
        }
        let mut out = String::with_capacity(name.len() + 8);
        if self == Self::Values {
            out.push_str("U__");
        }
        for (at, c) in name.char_indices() {
            let is_allowed = c.is_ascii_alphabetic() || (at > 0 && c.is_ascii_digit()) || also(c);
            match self {
                _ if is_allowed => out.push(c),
                Self::AllowUtf8 | Self::Underscores => out.push('_'),
                Self::Dots if c == '.' => out.push_str("_dot_"),
                Self::Values if c != '_' => out.extend(["_", &format!("{:x}", u32::from(c)), "_"]),
                Self::Dots | Self::Values => out.push_str("__"),
            }
        }
        out
    }
}

/// Whether two names of labels are the same, as they are or by a scheme.
pub(crate) fn is_same_label(a: &str, b: &str) -> bool {
    a == b
        || (!is_label_name(a) || !is_label_name(b))
            && (Escaping::CHANGING.iter())
                .any(|scheme| scheme.label_name(a) == scheme.label_name(b))
}

/// A family whose names are escaped, for one exposition.
#[derive(Debug)]
pub(crate) struct EscapedFamily {
    scheme: Escaping,
    pub(crate) header: Header,
    /// The names of the last series' labels, as they are and by the scheme. Most series of a family have the same.
    labels: Vec<(String, String)>,
    text: String,
    protobuf: Vec<u8>,
}

impl EscapedFamily {
    /// The family by a scheme that changes names.
    pub(crate) fn new(family: &FamilyDescription, scheme: Escaping) -> Self {
        Self {
            scheme,
            header: Header::new(family.escaped(scheme)),
            labels: Vec::new(),
            text: String::new(),
            protobuf: Vec::new(),
        }
    }

    /// The family's header, and the labels of one of its series by the scheme.
    pub(crate) fn series(&mut self, labels: Labels<'_>) -> (&Header, Labels<'_>) {
        self.text.clear();
        self.protobuf.clear();
        for (at, (name, value)) in VisitedLabels::new(labels.protobuf).enumerate() {
            if self.labels.get(at).is_none_or(|(known, _)| known != name) {
                self.labels.truncate(at);
                let escaped = self.scheme.label_name(name);
                self.labels.push((name.to_owned(), escaped));
            }
            let (_, name) = &self.labels[at];
            push_pair(&mut self.text, name, value);
            push_label(&mut self.protobuf, name, value);
        }
        let labels = Labels {
            text: &self.text,
            protobuf: &self.protobuf,
        };
        (&self.header, labels)
    }
}

#[cfg(test)]
mod tests;
