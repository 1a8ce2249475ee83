//! A YAML document as sections of fields. Each field is read once, and its path is known, so that an error names it.
//!
//! The caller knows the meaning of the fields. No value is ever part of an error. Scalars are converted as go-yaml
//! converts them to the type of a Go field, because the exporters define the format: a text field accepts an unquoted
//! number, and a number field rejects a quoted one.

use std::collections::HashMap;
use std::path::Path;
use std::str::Chars;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use crate::error::{ConfigError, FieldPath};
use crate::scalar::{self, ScalarKind};

/// The deepest nesting of a document.
const MAX_DEPTH: usize = 8;

/// The most values of a document. Values that aliases repeat count each time.
const MAX_VALUES: usize = 50_000;

/// A value of the document.
#[derive(Debug, Clone, PartialEq)]
enum YamlValue {
    Scalar(YamlScalar),
    Sequence(Vec<YamlValue>),
    Mapping(Fields),
}

/// A scalar as it is written, and its type for go-yaml.
#[derive(Debug, Clone, PartialEq)]
struct YamlScalar {
    text: String,
    kind: ScalarKind,
}

/// The names and values of a mapping, in the order of the document.
type Fields = Vec<(String, YamlValue)>;

/// A mapping whose known fields are taken out one by one. A field that is left at the end is unknown.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    at: FieldPath<'a>,
    fields: Fields,
}

impl<'a> Section<'a> {
    /// Parses the contents of a file. An empty document is a section without fields.
    pub(crate) fn parse(contents: &[u8], file: &'a Path) -> Result<Self, ConfigError> {
        let at = FieldPath::root(file);
        let text = scalar::decode(contents).map_err(|reason| at.error(reason))?;
        let mut loader = Loader {
            parser: Parser::new_from_str(&text),
            anchors: HashMap::new(),
            values: 0,
        };
        let fields = match loader.document().map_err(|error| error.at(&at))? {
            None => Vec::new(),
            Some(YamlValue::Scalar(scalar)) if scalar.kind == ScalarKind::Null => Vec::new(),
            Some(YamlValue::Mapping(fields)) => fields,
            Some(_) => return Err(at.error("must be a mapping of fields")),
        };
        Ok(Self { at, fields })
    }

    /// Returns the path of a field of this section.
    pub(crate) fn field(&self, name: &str) -> FieldPath<'a> {
        self.at.child(name)
    }

    /// Takes a section within this one. A missing section has no fields.
    pub(crate) fn section(&mut self, name: &str) -> Result<Self, ConfigError> {
        let at = self.field(name);
        let fields = match self.take(name) {
            None => Vec::new(),
            Some(YamlValue::Mapping(fields)) => fields,
            Some(_) => return Err(at.error("must be a mapping of fields")),
        };
        Ok(Self { at, fields })
    }

    /// Takes a text. An empty text is the same as a missing field.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, ConfigError> {
        match self.take(name) {
            None => Ok(None),
            Some(YamlValue::Scalar(YamlScalar { text, .. })) => {
                Ok(Some(text).filter(|it| !it.is_empty()))
            }
            Some(_) => Err(self.field(name).error("must be a text")),
        }
    }

    /// Whether the document has this field, with any value.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// Takes a boolean, also in the words of YAML 1.1. A quoted text is not one.
    pub(crate) fn boolean(&mut self, name: &str, default: bool) -> Result<bool, ConfigError> {
        match self.take(name) {
            None => Ok(default),
            Some(YamlValue::Scalar(scalar)) if scalar.kind == ScalarKind::Bool => {
                Ok(scalar::bool_of(&scalar.text).unwrap_or(default))
            }
            Some(_) => Err(self.field(name).error("must be true or false")),
        }
    }

    /// Takes a whole number. A fraction is cut.
    pub(crate) fn whole(&mut self, name: &str) -> Result<i64, ConfigError> {
        let number = match self.take(name) {
            None => Some(0),
            Some(YamlValue::Scalar(scalar)) => scalar::whole_of(&scalar.text, scalar.kind),
            Some(_) => None,
        };
        number.ok_or_else(|| self.field(name).error("must be a whole number"))
    }

    /// Takes a duration as Go writes it (`1m30s`), or a number of nanoseconds. A negative one is zero.
    pub(crate) fn duration(&mut self, name: &str) -> Result<Duration, ConfigError> {
        let nanoseconds = match self.take(name) {
            None => Some(0),
            Some(YamlValue::Scalar(scalar)) => match scalar.kind {
                ScalarKind::Text => scalar::go_duration(&scalar.text),
                kind => scalar::whole_of(&scalar.text, kind),
            },
            Some(_) => None,
        };
        let nanoseconds = nanoseconds.ok_or_else(|| {
            let reason = "must be a duration, such as 500ms, 1s or 1m30s";
            self.field(name).error(reason)
        })?;
        Ok(Duration::from_nanos(
            u64::try_from(nanoseconds).unwrap_or(0),
        ))
    }

    /// Takes a list of texts. A missing list is empty.
    #[cfg(feature = "tls")]
    pub(crate) fn texts(&mut self, name: &str) -> Result<Vec<String>, ConfigError> {
        let entries = match self.take(name) {
            None => Vec::new(),
            Some(YamlValue::Sequence(entries)) => entries,
            Some(_) => return Err(self.field(name).error("must be a list")),
        };
        entries
            .into_iter()
            .map(|entry| match entry {
                YamlValue::Scalar(scalar) => Ok(scalar.text),
                _ => Err(self.field(name).error("must be a list of texts")),
            })
            .collect()
    }

    /// Takes all fields that are left, in their order, each with its text: a mapping whose names the file chooses.
    pub(crate) fn into_texts(mut self) -> Result<Vec<(String, String)>, ConfigError> {
        let names: Vec<String> = self.fields.iter().map(|(name, _)| name.clone()).collect();
        names
            .into_iter()
            .map(|name| {
                let text = self.text(&name)?.unwrap_or_default();
                Ok((name, text))
            })
            .collect()
    }

    /// Rejects the first field that is left.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.field(name).error("is not a known field")),
        }
    }

    /// Whether no field is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn take(&mut self, name: &str) -> Option<YamlValue> {
        let position = self.fields.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.fields.remove(position);
        let is_null =
            matches!(&value, YamlValue::Scalar(scalar) if scalar.kind == ScalarKind::Null);
        (!is_null).then_some(value)
    }
}

/// An error of the document itself.
enum DocumentError {
    Syntax(ScanError),
    At(&'static str, Marker),
    Whole(&'static str),
}

impl DocumentError {
    fn at(&self, at: &FieldPath<'_>) -> ConfigError {
        let (what, marker) = match self {
            Self::Syntax(error) => ("is not valid YAML", error.marker()),
            Self::At(what, marker) => (*what, marker),
            Self::Whole(what) => return at.error(*what),
        };
        let (line, column) = (marker.line(), marker.col() + 1);
        at.error(format!("{what}, at line {line}, column {column}"))
    }
}

impl From<ScanError> for DocumentError {
    fn from(error: ScanError) -> Self {
        Self::Syntax(error)
    }
}

/// Builds the values of a document from its events.
struct Loader<'a> {
    parser: Parser<Chars<'a>>,
    /// The value of each anchor, and the number of values in it.
    anchors: HashMap<usize, (YamlValue, usize)>,
    values: usize,
}

impl Loader<'_> {
    /// Returns the only document of the stream; `None` if the stream is empty.
    ///
    /// A second document is an error. Exporters ignore it, but it may contain the users.
    fn document(&mut self) -> Result<Option<YamlValue>, DocumentError> {
        let mut document = None;
        loop {
            match self.parser.next_token()? {
                (Event::StreamEnd, _) => return Ok(document),
                (
                    Event::StreamStart | Event::DocumentStart | Event::DocumentEnd | Event::Nothing,
                    _,
                ) => {}
                (event, marker) => {
                    let value = self.value(event, marker, 0)?;
                    let is_null = matches!(&value, YamlValue::Scalar(scalar) if scalar.kind == ScalarKind::Null);
                    match &document {
                        None => document = Some(value),
                        Some(_) if is_null => {}
                        Some(_) => {
                            return Err(DocumentError::Whole(
                                "must contain one document, not several",
                            ));
                        }
                    }
                }
            }
        }
    }

    fn value(
        &mut self,
        event: Event,
        marker: Marker,
        depth: usize,
    ) -> Result<YamlValue, DocumentError> {
        let before = self.values;
        self.count(1)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(text, style, tag.as_ref());
                let mismatch =
                    || DocumentError::At("has a value that does not match its tag", marker);
                (YamlValue::Scalar(scalar.ok_or_else(mismatch)?), anchor)
            }
            Event::Alias(anchor) => {
                let unknown =
                    || DocumentError::At("refers to an anchor that does not exist", marker);
                let (value, size) = self.anchors.get(&anchor).cloned().ok_or_else(unknown)?;
                self.count(size)?;
                return Ok(value);
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if depth == MAX_DEPTH => {
                return Err(DocumentError::Whole(
                    "must not be nested deeper than 8 levels",
                ));
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth + 1)?, anchor),
            Event::MappingStart(anchor, _) => {
                (YamlValue::Mapping(self.mapping(depth + 1)?), anchor)
            }
            _ => return Err(DocumentError::At("is not valid YAML", marker)),
        };
        // 0 means that there is no anchor.
        if anchor > 0 {
            let size = self.values - before;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn count(&mut self, values: usize) -> Result<(), DocumentError> {
        self.values += values;
        if self.values > MAX_VALUES {
            return Err(DocumentError::Whole(
                "must not have more than 50000 values, aliases included",
            ));
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<YamlValue, DocumentError> {
        let mut entries = Vec::new();
        loop {
            match self.parser.next_token()? {
                (Event::SequenceEnd, _) => return Ok(YamlValue::Sequence(entries)),
                (event, marker) => entries.push(self.value(event, marker, depth)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Fields, DocumentError> {
        let mut fields = Fields::new();
        loop {
            let (event, marker) = match self.parser.next_token()? {
                (Event::MappingEnd, _) => return Ok(fields),
                next => next,
            };
            let is_merge =
                matches!(&event, Event::Scalar(text, TScalarStyle::Plain, _, None) if text == "<<");
            let name = match self.value(event, marker, depth)? {
                YamlValue::Scalar(YamlScalar {
                    kind: ScalarKind::Null,
                    ..
                }) => String::new(),
                YamlValue::Scalar(YamlScalar { text, .. }) => text,
                _ => {
                    return Err(DocumentError::At(
                        "has a field whose name is not a text",
                        marker,
                    ));
                }
            };
            let (event, value_marker) = self.parser.next_token()?;
            let value = self.value(event, value_marker, depth)?;
            let added = if is_merge {
                merged(value).ok_or(DocumentError::At(
                    "merges a value that is not a mapping",
                    marker,
                ))?
            } else {
                vec![(name, value)]
            };
            for (name, value) in added {
                if fields.iter().any(|(known, _)| *known == name) {
                    return Err(DocumentError::At("has a field twice", marker));
                }
                fields.push((name, value));
            }
        }
    }
}

/// The fields that a merge key (`<<`) adds.
fn merged(value: YamlValue) -> Option<Fields> {
    match value {
        YamlValue::Mapping(fields) => Some(fields),
        YamlValue::Sequence(entries) => {
            let mut all = Fields::new();
            for entry in entries {
                let YamlValue::Mapping(fields) = entry else {
                    return None;
                };
                all.extend(fields);
            }
            Some(all)
        }
        YamlValue::Scalar(_) => None,
    }
}

/// Returns a scalar as go-yaml reads it; `None` if it does not match its tag.
fn resolve(text: String, style: TScalarStyle, tag: Option<&Tag>) -> Option<YamlScalar> {
    let core = tag.filter(|tag| tag.handle == "tag:yaml.org,2002:");
    let kind = match core.map(|tag| tag.suffix.as_str()) {
        None if style == TScalarStyle::Plain => scalar::kind_of(&text),
        None | Some("str") => ScalarKind::Text,
        Some("binary") => {
            let compact: String = text.split_ascii_whitespace().collect();
            let text = String::from_utf8(BASE64_STANDARD.decode(compact).ok()?).ok()?;
            return Some(YamlScalar {
                text,
                kind: ScalarKind::Text,
            });
        }
        Some(named) => {
            let kind = scalar::kind_of(&text);
            let is_so = match named {
                "int" => kind == ScalarKind::Int,
                "float" => matches!(kind, ScalarKind::Int | ScalarKind::Float),
                "bool" => kind == ScalarKind::Bool,
                "null" => kind == ScalarKind::Null,
                _ => true,
            };
            is_so.then_some(kind)?
        }
    };
    Some(YamlScalar { text, kind })
}
