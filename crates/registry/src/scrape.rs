//! A scrape: one walk over all families, written in chunks.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::encoder::{Encoder, delimiter_length, push_end, write_delimiter};
use super::exposition::{Header, HistogramReading};
use super::family::Exposed;
use super::negotiate::{Format, MediaType};

/// The size of a chunk in bytes. A chunk exceeds it by at most one step of the walk.
const CHUNK: usize = 64 * 1024;

/// The size in bytes of the pieces that hold a message until it is complete. A piece exceeds it by at most one step of the
/// walk, which is little for its size. Larger pieces would be fetched from the operating system each time.
const PIECE: usize = 3 * CHUNK;

/// Room for the step of the walk that exceeds the size of a piece.
const STEP: usize = CHUNK / 2;

/// The families that a scrape shows, as in the `name[]` parameters of a request. By default all.
///
/// ```
/// use vitals_registry::NameFilter;
///
/// assert!(NameFilter::all().is_all());
/// assert!(!NameFilter::new(["http_requests_total"]).is_all());
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NameFilter {
    names: HashSet<String>,
}

impl NameFilter {
    /// Shows every family.
    pub fn all() -> Self {
        Self::default()
    }

    /// Shows the families of these names, or every family if there are none. A name is that of a family, with or without a
    /// counter's `_total`, or that of one of its samples (`http_request_duration_seconds_bucket`). A family is shown whole.
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

/// An exposition that is being written. The collectors have been read; values of declared families are read as they are
/// written.
///
/// ```
/// use std::time::Duration;
/// use vitals_registry::{Descriptor, Format, NameFilter, Registry};
///
/// let mut registry = Registry::builder(|| Duration::ZERO);
/// registry.gauge(Descriptor::new("active", "Active now.", [])).get().set(3);
/// let registry = registry.build()?;
///
/// let mut out = Vec::new();
/// let mut scrape = registry.scrape(Format::Text, &NameFilter::new(["active"]));
/// while scrape.next_chunk(&mut out) {}
/// assert!(out.ends_with(b"# TYPE active gauge\nactive 3\n"));
/// # Ok::<(), vitals_registry::RegistryError>(())
/// ```
pub struct Scrape {
    families: Vec<Arc<dyn Exposed>>,
    encoder: Encoder,
    reading: HistogramReading,
    /// The family that is being written.
    family: usize,
    /// The series to continue from.
    series: usize,
    message: Message,
    /// The pieces of a complete message that are not returned yet.
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

    /// Appends a chunk of about 64 KiB to `out`, or of about 192 KiB within a large family in protobuf, or of as much as `out`
    /// has room for. Returns whether more follows; the last chunk may come with `false`.
    ///
    /// In protobuf a family is preceded by its length, so it is held in memory until it is complete.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while self.message.is_open || out.len() - before < CHUNK {
            if let Some(piece) = self.rest.pop_front() {
                if out.is_empty() {
                    // Nothing precedes it: the piece is moved, not copied.
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
                self.message.room(out)
            } else {
                &mut *out
            };
            let next = family.encode(self.series, &mut self.encoder, &mut self.reading, target);
            self.series = next.unwrap_or(0);
            if next.is_none() {
                self.family += 1;
            }
            match (framed, next) {
                (true, Some(_)) if self.message.pieces.is_empty() => self.message.widen(out),
                (true, None) => self.message.complete(out, &mut self.rest),
                _ => {}
            }
        }
        true
    }
}

/// The message of a family that is being written: at the end of the caller's buffer as long as that has room, then in pieces.
///
/// The length of the message precedes it and is known last. It is given one byte, and more as soon as it needs them.
#[derive(Default)]
struct Message {
    /// Whether the message has begun.
    is_open: bool,
    /// Where its length begins in the caller's buffer, and how many bytes that has.
    start: usize,
    prefix: usize,
    pieces: VecDeque<Vec<u8>>,
}

impl Message {
    /// The buffer to append to.
    fn room<'a>(&'a mut self, out: &'a mut Vec<u8>) -> &'a mut Vec<u8> {
        if !self.is_open {
            (self.is_open, self.start, self.prefix) = (true, out.len(), 1);
            out.push(0);
        }
        let has_room = out.len() - self.start < PIECE || out.capacity() - out.len() >= STEP;
        if self.pieces.is_empty() && has_room {
            return out;
        }
        if self.pieces.back().is_none_or(|last| last.len() >= PIECE) {
            self.pieces.push_back(Vec::with_capacity(PIECE + STEP));
        }
        self.pieces.back_mut().unwrap_or(out)
    }

    /// Makes room for the length so far.
    fn widen(&mut self, out: &mut Vec<u8>) {
        let begin = self.start + self.prefix;
        let written = out.len() - begin;
        let pieces = self.pieces.iter().map(Vec::len);
        let wanted = delimiter_length(written + pieces.sum::<usize>());
        if wanted > self.prefix {
            out.resize(self.start + wanted + written, 0);
            out.copy_within(begin..begin + written, self.start + wanted);
            self.prefix = wanted;
        }
    }

    /// Ends the message: writes its length, and appends its pieces to `rest`. A message without a byte is left out.
    fn complete(&mut self, out: &mut Vec<u8>, rest: &mut VecDeque<Vec<u8>>) {
        self.widen(out);
        self.is_open = false;
        let pieces = self.pieces.iter().map(Vec::len);
        let length = out.len() - self.start - self.prefix + pieces.sum::<usize>();
        if length == 0 {
            out.truncate(self.start);
        } else {
            let delimiter = &mut out[self.start..self.start + self.prefix];
            write_delimiter(delimiter, length);
            rest.append(&mut self.pieces);
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
