//! A YAML document as sections of fields. Each field is read once and known by its path, so that an error can name it.
//! The meaning of the fields is up to the caller; no value is ever part of a refusal.
//!
//! Scalars are read as go-yaml reads them into a field of Go's, because the format is defined by what exporters accept:
//! a text may be written as a number or a word, and a number may not be written as a text.

use std::collections::HashMap;
use std::path::Path;
use std::str::Chars;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, ScanError, TScalarStyle};

use super::refusal::{Field, Refusal};
use super::scalar::{self, Kind};

/// How deep a document may be nested.
const DEEPEST: usize = 8;

/// The most values that a document may have, including those that aliases repeat.
const MOST_VALUES: usize = 50_000;

/// A value of the document.
#[derive(Debug, Clone, PartialEq)]
enum Value {
    Scalar(Scalar),
    Sequence(Vec<Value>),
    Mapping(Fields),
}

/// A scalar as it is written, and what go-yaml takes it for.
#[derive(Debug, Clone, PartialEq)]
struct Scalar {
    text: String,
    kind: Kind,
}

/// The fields of a mapping, by their names, in the order of the document.
type Fields = Vec<(String, Value)>;

/// A mapping whose fields are taken out one by one; what is left at the end is not known.
#[derive(Debug)]
pub(super) struct Section<'a> {
    at: Field<'a>,
    fields: Fields,
}

impl<'a> Section<'a> {
    /// Reads the document in a file; an empty one is a section without fields.
    pub(super) fn parse(contents: &[u8], file: &'a Path) -> Result<Self, Refusal> {
        let at = Field::root(file);
        let text = scalar::decode(contents).map_err(|reason| at.refuse(reason))?;
        let mut loader = Loader {
            parser: Parser::new_from_str(&text),
            anchors: HashMap::new(),
            values: 0,
        };
        let fields = match loader.document().map_err(|fault| fault.refuse(&at))? {
            None => Vec::new(),
            Some(Value::Scalar(scalar)) if scalar.kind == Kind::Null => Vec::new(),
            Some(Value::Mapping(fields)) => fields,
            Some(_) => return Err(at.refuse("must be a mapping of fields")),
        };
        Ok(Self { at, fields })
    }

    /// The path of one of its fields.
    pub(super) fn field(&self, name: &str) -> Field<'a> {
        self.at.child(name)
    }

    /// A section within this one; one that is not there has no fields.
    pub(super) fn section(&mut self, name: &str) -> Result<Self, Refusal> {
        let at = self.field(name);
        let fields = match self.take(name) {
            None => Vec::new(),
            Some(Value::Mapping(fields)) => fields,
            Some(_) => return Err(at.refuse("must be a mapping of fields")),
        };
        Ok(Self { at, fields })
    }

    /// A text; an empty one is as good as none.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Scalar(Scalar { text, .. })) => Ok(Some(text).filter(|it| !it.is_empty())),
            Some(_) => Err(self.field(name).refuse("must be a text")),
        }
    }

    /// Whether a field exists, with any value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.fields.iter().any(|(known, _)| known == name)
    }

    /// Yes or no, also in the words of YAML 1.1. A text in quotes is neither.
    pub(super) fn switch(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        match self.take(name) {
            None => Ok(default),
            Some(Value::Scalar(scalar)) if scalar.kind == Kind::Bool => {
                Ok(scalar::bool_of(&scalar.text).unwrap_or(default))
            }
            Some(_) => Err(self.field(name).refuse("must be true or false")),
        }
    }

    /// A whole number; of others the fraction is cut.
    pub(super) fn whole(&mut self, name: &str) -> Result<i64, Refusal> {
        let number = match self.take(name) {
            None => Some(0),
            Some(Value::Scalar(scalar)) => scalar::whole_of(&scalar.text, scalar.kind),
            Some(_) => None,
        };
        number.ok_or_else(|| self.field(name).refuse("must be a whole number"))
    }

    /// A duration as Go writes it (`1m30s`), or a number of nanoseconds; one that is negative is none.
    pub(super) fn duration(&mut self, name: &str) -> Result<Duration, Refusal> {
        let nanoseconds = match self.take(name) {
            None => Some(0),
            Some(Value::Scalar(scalar)) => match scalar.kind {
                Kind::Text => scalar::go_duration(&scalar.text),
                kind => scalar::whole_of(&scalar.text, kind),
            },
            Some(_) => None,
        };
        let nanoseconds = nanoseconds.ok_or_else(|| {
            let reason = "must be a duration, such as 500ms, 1s or 1m30s";
            self.field(name).refuse(reason)
        })?;
        Ok(Duration::from_nanos(
            u64::try_from(nanoseconds).unwrap_or(0),
        ))
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let entries = match self.take(name) {
            None => Vec::new(),
            Some(Value::Sequence(entries)) => entries,
            Some(_) => return Err(self.field(name).refuse("must be a list")),
        };
        entries
            .into_iter()
            .map(|entry| match entry {
                Value::Scalar(scalar) => Ok(scalar.text),
                _ => Err(self.field(name).refuse("must be a list of texts")),
            })
            .collect()
    }

    /// All fields that are left, in their order: names that the file chose, each with its text.
    pub(super) fn into_texts(mut self) -> Result<Vec<(String, String)>, Refusal> {
        let names: Vec<String> = self.fields.iter().map(|(name, _)| name.clone()).collect();
        names
            .into_iter()
            .map(|name| {
                let text = self.text(&name)?.unwrap_or_default();
                Ok((name, text))
            })
            .collect()
    }

    /// Refuses what nobody has asked for.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.fields.first() {
            None => Ok(()),
            Some((name, _)) => Err(self.field(name).refuse("is not a known field")),
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        let position = self.fields.iter().position(|(known, _)| known == name)?;
        let (_, value) = self.fields.remove(position);
        let is_null = matches!(&value, Value::Scalar(scalar) if scalar.kind == Kind::Null);
        (!is_null).then_some(value)
    }
}

/// The fault of the document itself.
enum Fault {
    Syntax(ScanError),
    At(&'static str, Marker),
    Whole(&'static str),
}

impl Fault {
    fn refuse(&self, at: &Field<'_>) -> Refusal {
        let (what, place) = match self {
            Self::Syntax(error) => ("is not valid YAML", error.marker()),
            Self::At(what, place) => (*what, place),
            Self::Whole(what) => return at.refuse(*what),
        };
        let (line, column) = (place.line(), place.col() + 1);
        at.refuse(format!("{what}, at line {line}, column {column}"))
    }
}

impl From<ScanError> for Fault {
    fn from(error: ScanError) -> Self {
        Self::Syntax(error)
    }
}

/// Builds the values of a document from its events.
struct Loader<'a> {
    parser: Parser<Chars<'a>>,
    /// The value of each anchor, and the number of values in it.
    anchors: HashMap<usize, (Value, usize)>,
    values: usize,
}

impl Loader<'_> {
    /// Returns the only document of the stream; `None` if the stream is empty.
    ///
    /// A second document is refused, where exporters ignore it: it may have the users.
    fn document(&mut self) -> Result<Option<Value>, Fault> {
        let mut document = None;
        loop {
            match self.parser.next_token()? {
                (Event::StreamEnd, _) => return Ok(document),
                (
                    Event::StreamStart | Event::DocumentStart | Event::DocumentEnd | Event::Nothing,
                    _,
                ) => {}
                (event, place) => {
                    let value = self.value(event, place, 0)?;
                    let is_null =
                        matches!(&value, Value::Scalar(scalar) if scalar.kind == Kind::Null);
                    match &document {
                        None => document = Some(value),
                        Some(_) if is_null => {}
                        Some(_) => return Err(Fault::Whole("must hold one document, not several")),
                    }
                }
            }
        }
    }

    fn value(&mut self, event: Event, place: Marker, depth: usize) -> Result<Value, Fault> {
        let before = self.values;
        self.count(1)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let scalar = resolve(text, style, tag.as_ref());
                let fault = || Fault::At("has a value that is not what its tag says", place);
                (Value::Scalar(scalar.ok_or_else(fault)?), anchor)
            }
            Event::Alias(anchor) => {
                let unknown = || Fault::At("names an anchor that is not there", place);
                let (value, size) = self.anchors.get(&anchor).cloned().ok_or_else(unknown)?;
                self.count(size)?;
                return Ok(value);
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if depth == DEEPEST => {
                return Err(Fault::Whole("is nested deeper than any configuration"));
            }
            Event::SequenceStart(anchor, _) => (self.sequence(depth + 1)?, anchor),
            Event::MappingStart(anchor, _) => (Value::Mapping(self.mapping(depth + 1)?), anchor),
            _ => return Err(Fault::At("is not valid YAML", place)),
        };
        // 0 is no anchor.
        if anchor > 0 {
            let size = self.values - before;
            self.anchors.insert(anchor, (value.clone(), size));
        }
        Ok(value)
    }

    fn count(&mut self, values: usize) -> Result<(), Fault> {
        self.values += values;
        if self.values > MOST_VALUES {
            return Err(Fault::Whole("is larger than any configuration"));
        }
        Ok(())
    }

    fn sequence(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries = Vec::new();
        loop {
            match self.parser.next_token()? {
                (Event::SequenceEnd, _) => return Ok(Value::Sequence(entries)),
                (event, place) => entries.push(self.value(event, place, depth)?),
            }
        }
    }

    fn mapping(&mut self, depth: usize) -> Result<Fields, Fault> {
        let mut fields = Fields::new();
        loop {
            let (event, place) = match self.parser.next_token()? {
                (Event::MappingEnd, _) => return Ok(fields),
                next => next,
            };
            let is_merge =
                matches!(&event, Event::Scalar(text, TScalarStyle::Plain, _, None) if text == "<<");
            let name = match self.value(event, place, depth)? {
                Value::Scalar(Scalar {
                    kind: Kind::Null, ..
                }) => String::new(),
                Value::Scalar(Scalar { text, .. }) => text,
                _ => return Err(Fault::At("has a field whose name is no text", place)),
            };
            let (event, value_place) = self.parser.next_token()?;
            let value = self.value(event, value_place, depth)?;
            let added = if is_merge {
                merged(value).ok_or(Fault::At("merges what is no mapping", place))?
            } else {
                vec![(name, value)]
            };
            for (name, value) in added {
                if fields.iter().any(|(known, _)| *known == name) {
                    return Err(Fault::At("names a field twice", place));
                }
                fields.push((name, value));
            }
        }
    }
}

/// The fields that a merge key (`<<`) adds.
fn merged(value: Value) -> Option<Fields> {
    match value {
        Value::Mapping(fields) => Some(fields),
        Value::Sequence(entries) => {
            let mut all = Fields::new();
            for entry in entries {
                let Value::Mapping(fields) = entry else {
                    return None;
                };
                all.extend(fields);
            }
            Some(all)
        }
        Value::Scalar(_) => None,
    }
}

/// Returns a scalar as go-yaml reads it; `None` if it does not fit its tag.
fn resolve(text: String, style: TScalarStyle, tag: Option<&Tag>) -> Option<Scalar> {
    let core = tag.filter(|tag| tag.handle == "tag:yaml.org,2002:");
    let kind = match core.map(|tag| tag.suffix.as_str()) {
        None if style == TScalarStyle::Plain => scalar::kind_of(&text),
        None | Some("str") => Kind::Text,
        Some("binary") => {
            let compact: String = text.split_ascii_whitespace().collect();
            let text = String::from_utf8(BASE64_STANDARD.decode(compact).ok()?).ok()?;
            return Some(Scalar {
                text,
                kind: Kind::Text,
            });
        }
        Some(named) => {
            let kind = scalar::kind_of(&text);
            let is_so = match named {
                "int" => kind == Kind::Int,
                "float" => matches!(kind, Kind::Int | Kind::Float),
                "bool" => kind == Kind::Bool,
                "null" => kind == Kind::Null,
                _ => true,
            };
            is_so.then_some(kind)?
        }
    };
    Some(Scalar { text, kind })
}
