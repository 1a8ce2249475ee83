//! A YAML document as sections of fields, each read once and known by its path, so that what is wrong with one can be
//! told by name. What the fields mean is for their reader to say; no value is ever part of a refusal.

use std::path::Path;

use yaml_rust2::parser::{Event, Parser};
use yaml_rust2::yaml::Hash;
use yaml_rust2::{Yaml, YamlLoader};

use super::refusal::{Field, Refusal};

/// How deep a document may be nested.
const DEEPEST: usize = 8;

/// A mapping whose fields are taken out one by one; what is left at the end is not known.
#[derive(Debug)]
pub(super) struct Section<'a> {
    at: Field<'a>,
    fields: Hash,
}

impl<'a> Section<'a> {
    /// Reads the document in a file; an empty one is a section without fields.
    pub(super) fn parse(text: &str, file: &'a Path) -> Result<Self, Refusal> {
        let at = Field::root(file);
        if is_deep(text) {
            return Err(at.refuse("is nested deeper than any configuration"));
        }
        let documents = YamlLoader::load_from_str(text).map_err(|error| {
            let place = error.marker();
            let what = if error.info().contains("duplicated key") {
                "names a field twice"
            } else {
                "is not valid YAML"
            };
            let (line, column) = (place.line(), place.col() + 1);
            at.refuse(format!("{what}, at line {line}, column {column}"))
        })?;
        let mut documents = documents.into_iter();
        let fields = match (documents.next(), documents.next()) {
            (None | Some(Yaml::Null | Yaml::BadValue), None) => Hash::new(),
            (Some(Yaml::Hash(fields)), None) => fields,
            (_, None) => return Err(at.refuse("must be a mapping of fields")),
            (_, Some(_)) => return Err(at.refuse("must hold one document, not several")),
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
            None => Hash::new(),
            Some(Yaml::Hash(fields)) => fields,
            Some(_) => return Err(at.refuse("must be a mapping of fields")),
        };
        Ok(Self { at, fields })
    }

    /// A text; an empty one is as good as none.
    pub(super) fn text(&mut self, name: &str) -> Result<Option<String>, Refusal> {
        match self.take(name) {
            None => Ok(None),
            Some(Yaml::String(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(_) => Err(self.field(name).refuse("must be a text")),
        }
    }

    /// Yes or no, also in the words of YAML 1.1, which the format's own readers take.
    pub(super) fn switch(&mut self, name: &str, default: bool) -> Result<bool, Refusal> {
        let refusal = self.field(name).refuse("must be true or false");
        match self.take(name) {
            None => Ok(default),
            Some(Yaml::Boolean(value)) => Ok(value),
            Some(Yaml::String(word)) => match word.to_ascii_lowercase().as_str() {
                "yes" | "on" | "y" => Ok(true),
                "no" | "off" | "n" => Ok(false),
                _ => Err(refusal),
            },
            Some(_) => Err(refusal),
        }
    }

    /// A list of texts.
    pub(super) fn texts(&mut self, name: &str) -> Result<Vec<String>, Refusal> {
        let entries = match self.take(name) {
            None => Vec::new(),
            Some(Yaml::Array(entries)) => entries,
            Some(_) => return Err(self.field(name).refuse("must be a list")),
        };
        entries
            .into_iter()
            .map(|entry| match entry {
                Yaml::String(text) => Ok(text),
                _ => Err(self.field(name).refuse("must be a list of texts")),
            })
            .collect()
    }

    /// All fields that are left, in their order: names that the file chose, each with its text.
    pub(super) fn into_texts(mut self) -> Result<Vec<(String, String)>, Refusal> {
        let names: Vec<Yaml> = self.fields.keys().cloned().collect();
        let mut texts = Vec::with_capacity(names.len());
        for name in names {
            let Yaml::String(name) = name else {
                return Err(self.unreadable_name());
            };
            let text = self.text(&name)?.unwrap_or_default();
            texts.push((name, text));
        }
        Ok(texts)
    }

    /// Refuses what nobody has asked for.
    pub(super) fn finish(self) -> Result<(), Refusal> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(Yaml::String(name)) => Err(self.field(name).refuse("is not a known field")),
            Some(_) => Err(self.unreadable_name()),
        }
    }

    /// Whether there is nothing in it.
    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn take(&mut self, name: &str) -> Option<Yaml> {
        self.fields
            .remove(&key(name))
            .filter(|value| *value != Yaml::Null)
    }

    fn unreadable_name(&self) -> Refusal {
        let reason = "must name its fields by texts: one that looks like a number needs quotes";
        self.at.refuse(reason)
    }
}

/// Whether it goes deeper than any configuration. The loader would follow it, as deep as the stack goes and further.
fn is_deep(text: &str) -> bool {
    let mut parser = Parser::new_from_str(text);
    let mut depth = 0_usize;
    loop {
        match parser.next_token() {
            Ok((Event::SequenceStart(..) | Event::MappingStart(..), _)) => depth += 1,
            Ok((Event::SequenceEnd | Event::MappingEnd, _)) => depth = depth.saturating_sub(1),
            Ok((Event::StreamEnd, _)) | Err(_) => return false,
            Ok(_) => (),
        }
        if depth > DEEPEST {
            return true;
        }
    }
}

fn key(name: &str) -> Yaml {
    Yaml::String(name.to_owned())
}
