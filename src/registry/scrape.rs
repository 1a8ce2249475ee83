//! A scrape: one walk over everything that is exposed, written piece by piece.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use super::encoder::{Encoder, push_delimiter, push_end};
use super::exposition::{Header, Reading};
use super::family::Exposed;
use super::negotiate::Format;

/// The size of a piece, roughly: a step of the walk is finished once begun.
const CHUNK: usize = 64 * 1024;

/// Which families a scrape is to show, as the `name[]` parameters of a request name them; all by default.
#[derive(Clone, Debug, Default)]
pub struct NameFilter {
    names: HashSet<String>,
}

impl NameFilter {
    /// Every family.
    pub fn all() -> Self {
        Self::default()
    }

    /// The families of these names; every family where there are none. A counter goes by its full name
    /// (`http_requests_total`) or by its name in OpenMetrics (`http_requests`).
    pub fn new(names: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            names: names.into_iter().map(Into::into).collect(),
        }
    }

    /// Whether every family is shown.
    pub fn is_all(&self) -> bool {
        self.names.is_empty()
    }

    /// Whether this family is shown.
    pub(crate) fn shows(&self, header: &Header) -> bool {
        self.is_all()
            || self.names.contains(header.name())
            || self.names.contains(header.description.base())
    }
}

/// An exposition in the making. The collectors have been read; first-party values are read as they are written.
pub struct Scrape {
    families: Vec<Arc<dyn Exposed>>,
    encoder: Encoder,
    reading: Reading,
    /// The family that is being written, and the series to go on from.
    family: usize,
    series: usize,
    /// A family's message in the making, whose length must go before it.
    message: Vec<u8>,
    finished: bool,
}

impl Scrape {
    pub(crate) fn new(format: Format, families: Vec<Arc<dyn Exposed>>) -> Self {
        Self {
            families,
            encoder: Encoder::new(format),
            reading: Reading::default(),
            family: 0,
            series: 0,
            message: Vec::new(),
            finished: false,
        }
    }

    /// The format that is written.
    pub fn format(&self) -> Format {
        self.encoder.format()
    }

    /// Appends a piece of about 64 KiB to `out`; whether there is more to come.
    ///
    /// The last piece may come together with `false`. In protobuf a family is handed over once it is complete: until
    /// then a call may append nothing, and then as much as the family takes.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> bool {
        let mut written = 0;
        while let Some(family) = self.families.get(self.family) {
            let framed = self.encoder.format() == Format::Protobuf;
            let target = if framed { &mut self.message } else { &mut *out };
            let before = target.len();
            let next = family.encode(self.series, &mut self.encoder, &mut self.reading, target);
            written += target.len() - before;
            self.series = next.unwrap_or(0);
            if next.is_none() {
                self.family += 1;
                if framed {
                    self.hand_over(out);
                }
            }
            if written >= CHUNK {
                return true;
            }
        }
        if !self.finished {
            self.finished = true;
            push_end(out, self.encoder.format());
        }
        false
    }

    /// Appends the complete message with its length before it.
    fn hand_over(&mut self, out: &mut Vec<u8>) {
        if self.message.is_empty() {
            return;
        }
        if out.is_empty() && self.message.len() > CHUNK {
            // A large message changes hands rather than being held twice.
            push_delimiter(out, self.message.len());
            self.message.splice(0..0, out.drain(..));
            std::mem::swap(out, &mut self.message);
        } else {
            push_delimiter(out, self.message.len());
            out.append(&mut self.message);
        }
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape")
            .field("format", &self.encoder.format())
            .field("families", &self.families.len())
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}
