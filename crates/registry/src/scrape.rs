//! A scrape: one walk over all families, written in chunks.

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::mem;
use std::sync::Arc;

use super::encoder::{Encoder, push_delimiter, push_end};
use super::exposition::{Header, HistogramReading};
use super::family::Exposed;
use super::negotiate::{Format, MediaType};

/// The size of a chunk in bytes. A chunk exceeds it by at most one step of the walk.
const CHUNK: usize = 64 * 1024;

/// The size in bytes of the pieces that hold a message until it is complete. A piece exceeds it by at most one step of the
/// walk, which is little for its size. Larger pieces would be fetched from the operating system each time.
const PIECE: usize = 3 * CHUNK;

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

    /// Appends a chunk of about 64 KiB to `out`, or of about 192 KiB within a large family in protobuf. Returns whether more
    /// follows; the last chunk may come with `false`.
    ///
    /// In protobuf a family is preceded by its length, so it is held in memory until it is complete.
    pub fn next_chunk(&mut self, out: &mut Vec<u8>) -> bool {
        let before = out.len();
        while out.len() - before < CHUNK {
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

/// The message of a family that is being written.
#[derive(Default)]
struct Message {
    full: VecDeque<Vec<u8>>,
    last: Vec<u8>,
}

impl Message {
    /// The piece to append to.
    fn room(&mut self) -> &mut Vec<u8> {
        if self.last.len() >= PIECE {
            // With room for the step that exceeds the size.
            let next = Vec::with_capacity(PIECE + CHUNK / 2);
            self.full.push_back(mem::replace(&mut self.last, next));
        }
        &mut self.last
    }

    /// Appends the length to `out`, and a small message. The pieces of a larger one are appended to `rest`.
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
