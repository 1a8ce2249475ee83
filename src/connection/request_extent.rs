//! The end of a request of HTTP/1 in the bytes of its connection.
//!
//! Actix' codec keeps the method, the version and the `Connection` header of the last head that it has read, and uses them
//! for the answer that it writes next. So it must not read a head before the previous answer is written.
//!
//! This module finds the end of a head as `httparse` does. The length of the body comes from the request that Actix has made
//! of the head, so that headers are interpreted once. The chunks of a body follow the grammar of Actix' decoder.

use actix_http::{HttpMessage as _, Request, header};

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// The request has no body.
    Empty,
    /// It ends after this many bytes.
    Sized(u64),
    /// It ends with its last chunk.
    Chunked,
    /// It ends with the connection, so the request is the last one.
    Unbounded,
}

impl BodyLength {
    /// The length of the body as Actix determines it: by the same headers, in the same order.
    pub(super) fn of(request: &Request, has_body: bool) -> Self {
        if !has_body {
            return Self::Empty;
        }
        let headers = request.headers();
        if headers.contains_key(header::TRANSFER_ENCODING) {
            return Self::Chunked;
        }
        let is_web_socket = headers
            .get_all(header::UPGRADE)
            .filter_map(|value| value.to_str().ok())
            .any(|value| value.trim().eq_ignore_ascii_case("websocket"));
        if is_web_socket {
            return Self::Unbounded;
        }
        let length = headers.get(header::CONTENT_LENGTH);
        length
            .and_then(|value| value.to_str().ok()?.trim().parse().ok())
            // A body of no bytes exists only for CONNECT. The bytes after it are for the target of the connection.
            .filter(|bytes| *bytes > 0)
            .map_or(Self::Unbounded, Self::Sized)
    }
}

/// Tracks the bytes of a connection, from one request to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestExtent {
    part: RequestPart,
    is_chunked: bool,
    /// Whether the protocol must see that there are no more bytes before it gets the next request.
    must_pause: bool,
}

/// The part of the request that the next byte belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestPart {
    /// The head.
    Head { has_begun: bool, line: HeadLine },
    /// The head is complete. The protocol has not reported the length of the body yet.
    AfterHead,
    /// The body, with this many bytes left.
    Sized(u64),
    /// The body, in chunks.
    Chunked(Chunk),
    /// The request is complete.
    Whole,
    /// The body, until the end of the connection.
    Unbounded,
    /// The body is malformed.
    Malformed,
}

/// What the current line of the head contains so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadLine {
    Empty,
    CarriageReturn,
    Text,
}

/// The position in a body of chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Chunk {
    FirstDigit,
    Digits(u64),
    SpaceAfterSize(u64),
    Extension(u64),
    SizeLineFeed(u64),
    Data(u64),
    DataCarriageReturn,
    DataLineFeed,
    /// The start of a line after the last chunk.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
}

impl RequestExtent {
    pub(super) fn new() -> Self {
        Self {
            part: RequestPart::Head {
                has_begun: false,
                line: HeadLine::Empty,
            },
            is_chunked: false,
            must_pause: false,
        }
    }

    /// Takes the bytes that belong to this request, and returns their number.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += match self.part {
                RequestPart::Head { has_begun, line } => self.take_head(has_begun, line, rest),
                RequestPart::Sized(left) => self.take_sized(left, rest),
                RequestPart::Chunked(chunk) => self.take_chunked(chunk, rest),
                RequestPart::Unbounded => rest.len(),
                RequestPart::AfterHead | RequestPart::Whole | RequestPart::Malformed => {
                    return taken;
                }
            };
        }
        taken
    }

    /// Takes a line of a head, or as much of it as has arrived.
    fn take_head(&mut self, has_begun: bool, line: HeadLine, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = match (line, &bytes[..end.unwrap_or(bytes.len())]) {
            (line, []) => line,
            (HeadLine::Empty, [b'\r']) => HeadLine::CarriageReturn,
            _ => HeadLine::Text,
        };
        let Some(end) = end else {
            self.part = RequestPart::Head { has_begun, line };
            return bytes.len();
        };
        // Empty lines before a head are ignored (RFC 9112, section 2.2).
        self.part = match line {
            HeadLine::Empty | HeadLine::CarriageReturn if has_begun => RequestPart::AfterHead,
            _ => RequestPart::Head {
                has_begun: has_begun || line == HeadLine::Text,
                line: HeadLine::Empty,
            },
        };
        end + 1
    }

    fn take_sized(&mut self, left: u64, bytes: &[u8]) -> usize {
        let (taken, left) = take_up_to(left, bytes);
        if left == 0 {
            self.complete();
        } else {
            self.part = RequestPart::Sized(left);
        }
        taken
    }

    fn take_chunked(&mut self, chunk: Chunk, bytes: &[u8]) -> usize {
        let (taken, next) = match (chunk, bytes) {
            (Chunk::Data(left), bytes) => {
                let (taken, left) = take_up_to(left, bytes);
                let next = match left {
                    0 => Chunk::DataCarriageReturn,
                    left => Chunk::Data(left),
                };
                (taken, Some(next))
            }
            (Chunk::LastLineFeed, [b'\n', ..]) => {
                self.complete();
                return 1;
            }
            (chunk, [byte, ..]) => (1, chunk.next(*byte)),
            (chunk, []) => (0, Some(chunk)),
        };
        self.part = next.map_or(RequestPart::Malformed, RequestPart::Chunked);
        taken
    }

    /// Ends the request after the last byte of its body. The protocol must see that end before the next request.
    fn complete(&mut self) {
        self.part = RequestPart::Whole;
        self.must_pause = true;
    }

    /// The protocol has parsed the head: the body has this length.
    pub(super) fn begin(&mut self, body: BodyLength) {
        self.is_chunked = body == BodyLength::Chunked;
        self.part = match (self.part, body) {
            (RequestPart::AfterHead, BodyLength::Empty | BodyLength::Sized(0)) => {
                RequestPart::Whole
            }
            (RequestPart::AfterHead, BodyLength::Sized(bytes)) => RequestPart::Sized(bytes),
            (RequestPart::AfterHead, BodyLength::Chunked) => {
                RequestPart::Chunked(Chunk::FirstDigit)
            }
            // The protocol has found another end of the head. No byte after it may be taken for a request.
            _ => RequestPart::Unbounded,
        };
    }

    /// The request is answered.
    pub(super) fn end(&mut self) {
        if let RequestPart::Sized(_) = self.part {
            // The protocol closes the connection instead of reading the rest.
            self.part = RequestPart::Unbounded;
        }
        // The protocol may still have to discard chunks that it has got.
        self.must_pause |= self.is_chunked;
    }

    /// Whether the next byte belongs to the next request.
    pub(super) fn is_whole(&self) -> bool {
        self.part == RequestPart::Whole
    }

    /// Whether the next byte belongs to this request, so that the protocol may get it.
    pub(super) fn is_open(&self) -> bool {
        !matches!(
            self.part,
            RequestPart::AfterHead | RequestPart::Whole | RequestPart::Malformed
        )
    }

    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.part, RequestPart::Head { .. })
    }

    /// Whether the protocol must see that there are no more bytes. Returns true once.
    pub(super) fn take_pause(&mut self) -> bool {
        std::mem::take(&mut self.must_pause)
    }
}

/// How many of the remaining bytes are here, and how many remain.
fn take_up_to(left: u64, bytes: &[u8]) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (taken, left - taken as u64)
}

impl Chunk {
    /// The position after this byte. `None` if the byte is not allowed here.
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::FirstDigit, byte) => Self::Digits(digit(byte)?),
            (Self::Digits(size) | Self::SpaceAfterSize(size), b' ' | b'\t') => {
                Self::SpaceAfterSize(size)
            }
            (Self::Digits(size) | Self::SpaceAfterSize(size), b';') => Self::Extension(size),
            (Self::Digits(size) | Self::SpaceAfterSize(size) | Self::Extension(size), b'\r') => {
                Self::SizeLineFeed(size)
            }
            (Self::Digits(size), byte) => {
                Self::Digits(size.checked_mul(16)?.checked_add(digit(byte)?)?)
            }
            (Self::Extension(_), 0x00..=0x08 | 0x0a..=0x1f | 0x7f) => return None,
            (Self::Extension(size), _) => Self::Extension(size),
            (Self::SizeLineFeed(0) | Self::TrailerLineFeed, b'\n') => Self::TrailerStart,
            (Self::SizeLineFeed(size), b'\n') => Self::Data(size),
            (Self::DataCarriageReturn, b'\r') => Self::DataLineFeed,
            (Self::DataLineFeed, b'\n') => Self::FirstDigit,
            (Self::TrailerStart, b'\r') => Self::LastLineFeed,
            (Self::Trailer, b'\r') => Self::TrailerLineFeed,
            (Self::TrailerStart | Self::Trailer, _) => Self::Trailer,
            _ => return None,
        })
    }
}

fn digit(byte: u8) -> Option<u64> {
    char::from(byte).to_digit(16).map(u64::from)
}

#[cfg(test)]
mod tests;
