//! A scrape: one walk over everything that is exposed, written piece by piece.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::mem;
use std::sync::Arc;

use super::encoder::{Encoder, push_delimiter, push_end};
use super::exposition::{Header, HistogramReading};
use super::family::Exposed;
use super::negotiate::{Format, MediaType};

/// The size of a chunk, roughly: a step of the walk is finished once begun.
const CHUNK: usize = 64 * 1024;

/// The size of the pieces that a message is kept in until it is complete, roughly. Large, so that what they are larger
/// than that weighs little; and small enough for an allocator to have them at hand.
const PIECE: usize = 3 * CHUNK;

/// Which families a scrape is to show, as the `name[]` parameters of a request name them; all by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFilter {
    names: HashSet<String>,
}

impl NameFilter {
    /// Every family.
    pub fn all() -> Self {
        Self::default()
    }

    /// The families of these names; every family where there are none. A family goes by its name, with or without a
    /// counter's `_total`, or by that of any of its samples (`http_request_duration_seconds_bucket`): it is shown whole.
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
        self.is_all() || (self.names.iter()).any(|name| header.description.has_sample(name))
    }
}

/// An exposition in the making. The collectors have been read; first-party values are read as they are written.
pub struct Scrape {
    families: Vec<Arc<dyn Exposed>>,
    encoder: Encoder,
    reading: HistogramReading,
    /// The family that is being written, and the series to go on from.
    family: usize,
    series: usize,
    message: Message,
    /// The rest of a complete message.
    rest: VecDeque<Vec<u8>>,
    finished: bool,
}

impl Scrape {
    pub(crate) fn new(media: MediaType, created: bool, families: Vec<Arc<dyn Exposed>>) -> Self {
        Self {
            families,
            encoder: Encoder::new(media, created),
            reading: HistogramReading::default(),
            family: 0,
            series: 0,
            message: Message::default(),
            rest: VecDeque::new(),
            finished: false,
        }
    }

    /// The format that is written.
    pub fn format(&self) -> Format {
        self.encoder.format()
    }

    /// Appends a chunk of about 64 KiB to `out`, or of some 192 KiB within a large family in protobuf; whether there is
    /// more to come. The last may come together with `false`.
    ///
    /// In protobuf a family's length goes before it, so that all of it is held until it is complete.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while out.len() - before < CHUNK {
            if let Some(piece) = self.rest.pop_front() {
                if out.is_empty() {
                    // Nothing to keep: handed on as it is.
                    *out = piece;
                } else {
                    out.extend_from_slice(&piece);
                }
                continue;
            }
            let Some(family) = self.families.get(self.family) else {
                if !self.finished {
                    self.finished = true;
                    push_end(out, self.encoder.format());
                }
                return false;
            };
            let framed = self.encoder.format() == Format::Protobuf;
            let target = if framed {
                self.message.room()
            } else {
                &mut *out
            };
            let next = family.encode(self.series, &mut self.encoder, &mut self.reading, target);
            self.series = next.unwrap_or(0);
            if next.is_none() {
                self.family += 1;
                if framed {
                    self.message.complete(out, &mut self.rest);
                }
            }
        }
        true
    }
}

/// A family's message in the making.
#[derive(Default)]
struct Message {
    full: VecDeque<Vec<u8>>,
    last: Vec<u8>,
}

impl Message {
    /// Where to go on.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.last.len() >= PIECE {
            // With some room for the step that passes the size.
            let next = Vec::with_capacity(PIECE + CHUNK / 2);
            self.full.push_back(mem::replace(&mut self.last, next));
        }
        &mut self.last
    }

    /// Appends the length to `out`, and the message where it is small; the pieces of a larger one go to `rest`.
    fn complete(&mut self, out: &mut Vec<u8>, rest: &mut VecDeque<Vec<u8>>) {
        let length = self.full.iter().map(Vec::len).sum::<usize>() + self.last.len();
        if length == 0 {
            return;
        }
        push_delimiter(out, length);
        if self.full.is_empty() {
            out.append(&mut self.last);
        } else {
            rest.append(&mut self.full);
            rest.push_back(mem::take(&mut self.last));
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
