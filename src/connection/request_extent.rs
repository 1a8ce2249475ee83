//! Where a request of HTTP/1 ends in the bytes of its connection.
//!
//! Actix' codec keeps the method, the version and the `Connection` header of the head that it has read last, and uses them
//! for the answer that it writes next. It must not see a head before the answer to the one before is written.
//!
//! The end of a head is found here, as `httparse` finds it. What follows a head is taken from the request that Actix made of
//! it, so that there is one reading of its headers. The chunks of a body are followed with the grammar of Actix' decoder.

use actix_http::{HttpMessage as _, Request, header};

/// How the body of a request ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BodyLength {
    /// There is no body.
    Empty,
    /// After this many bytes.
    Sized(u64),
    /// With its last chunk.
    Chunked,
    /// With the connection: the request is the last one.
    Unbounded,
}

impl BodyLength {
    /// The body as Actix reads it: it has decided by the same headers, in the same order.
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
            // Only CONNECT has a body of no bytes: what follows is for the target that it connects to.
            .filter(|bytes| *bytes > 0)
            .map_or(Self::Unbounded, Self::Sized)
    }
}

/// Follows the bytes of a connection, from one request to the next.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestExtent {
    position: RequestPart,
    is_chunked: bool,
    /// Whether the protocol has not yet seen that nothing follows for now.
    must_pause: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RequestPart {
    /// In a head.
    Head {
        has_begun: bool,
        line: HeadLine,
    },
    /// A head is whole, and the protocol has not said how its body ends.
    AfterHead,
    /// In a body, with this many bytes to come.
    Sized(u64),
    Chunked(Chunk),
    /// All of the request was read.
    Whole,
    /// The body goes on to the end of the connection.
    Unbounded,
    /// The body is malformed.
    Malformed,
}

/// The part of a head's line that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HeadLine {
    Empty,
    CarriageReturn,
    Text,
}

/// Where the reader is in a body of chunks.
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
    /// At the start of a line behind the last chunk.
    TrailerStart,
    Trailer,
    TrailerLineFeed,
    LastLineFeed,
}

impl RequestExtent {
    pub(super) fn new() -> Self {
        Self {
            position: RequestPart::Head {
                has_begun: false,
                line: HeadLine::Empty,
            },
            is_chunked: false,
            must_pause: false,
        }
    }

    /// Takes the bytes that belong to this request, and returns how many those are.
    pub(super) fn take(&mut self, bytes: &[u8]) -> usize {
        let mut taken = 0;
        while let Some(rest) = bytes.get(taken..).filter(|rest| !rest.is_empty()) {
            taken += match self.position {
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

    /// Takes a line of a head, or the part of it that has come.
    fn take_head(&mut self, has_begun: bool, line: HeadLine, bytes: &[u8]) -> usize {
        let end = bytes.iter().position(|byte| *byte == b'\n');
        let line = match (line, &bytes[..end.unwrap_or(bytes.len())]) {
            (line, []) => line,
            (HeadLine::Empty, [b'\r']) => HeadLine::CarriageReturn,
            _ => HeadLine::Text,
        };
        let Some(end) = end else {
            self.position = RequestPart::Head { has_begun, line };
            return bytes.len();
        };
        // Empty lines ahead of a head are skipped (RFC 9112, section 2.2).
        self.position = match line {
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
            self.position = RequestPart::Sized(left);
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
        self.position = next.map_or(RequestPart::Malformed, RequestPart::Chunked);
        taken
    }

    /// The last byte of a body was read: the protocol sees the end of the request before anything else.
    fn complete(&mut self) {
        self.position = RequestPart::Whole;
        self.must_pause = true;
    }

    /// The protocol has read the head, and its body ends so.
    pub(super) fn begin(&mut self, body: BodyLength) {
        self.is_chunked = body == BodyLength::Chunked;
        self.position = match (self.position, body) {
            (RequestPart::AfterHead, BodyLength::Empty | BodyLength::Sized(0)) => {
                RequestPart::Whole
            }
            (RequestPart::AfterHead, BodyLength::Sized(bytes)) => RequestPart::Sized(bytes),
            (RequestPart::AfterHead, BodyLength::Chunked) => {
                RequestPart::Chunked(Chunk::FirstDigit)
            }
            // The protocol found the end of the head elsewhere: no byte behind it may count as a request.
            _ => RequestPart::Unbounded,
        };
    }

    /// The request was answered.
    pub(super) fn end(&mut self) {
        if let RequestPart::Sized(_) = self.position {
            // The protocol closes the connection rather than read the rest.
            self.position = RequestPart::Unbounded;
        }
        // The protocol may still have to read unwanted chunks that it was given.
        self.must_pause |= self.is_chunked;
    }

    /// Whether what follows is the next request, for which the protocol is ready where it has answered this one.
    pub(super) fn is_whole(&self) -> bool {
        self.position == RequestPart::Whole
    }

    /// Whether bytes may be passed on, because they belong to the request that is being read.
    pub(super) fn is_open(&self) -> bool {
        !matches!(
            self.position,
            RequestPart::AfterHead | RequestPart::Whole | RequestPart::Malformed
        )
    }

    pub(super) fn is_in_head(&self) -> bool {
        matches!(self.position, RequestPart::Head { .. })
    }

    /// Whether the protocol must first see once that there are no more bytes.
    pub(super) fn take_pause(&mut self) -> bool {
        std::mem::take(&mut self.must_pause)
    }
}

/// Returns how many of the bytes that are left have come, and how many have not.
fn take_up_to(left: u64, bytes: &[u8]) -> (usize, u64) {
    let taken = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
    (taken, left - taken as u64)
}

impl Chunk {
    /// The reader's position after this byte; `None` if the byte is not allowed here.
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
