//! The frames of HTTP/2 as they come in. A head may be spread over many frames, and must not be collected before its
//! size is known. A body may be spread over many more: the protocol keeps some 400 bytes of each unread frame, and no
//! window limits empty frames.

/// What opens a connection, ahead of the first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// The head of a frame: three bytes of length, its kind, its flags and its stream (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The flag of the last frame of a stream.
const END_STREAM: u8 = 1;

/// Most frames that a head may go on in. An empty one costs its sender next to nothing.
const MAX_CONTINUATIONS: usize = 16;

/// A frame of a body that goes on and has fewer bytes than this is small.
const SMALL_DATA: usize = 256;

/// Most small frames that may come in excess of others.
const MAX_SMALL_DATA: usize = 1024;

/// Small frames that a request may have besides, so that many small bodies are no excess.
const SMALL_DATA_OF_REQUEST: usize = 4;

/// Reads the heads of frames, and skips their contents.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderBlocks {
    most_bytes: usize,
    /// Bytes to come that are in no frame's head.
    skipped: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
    /// Bytes of the request's head, and frames it went on in.
    bytes: usize,
    continuations: usize,
    /// Small frames of bodies, less the frames that make up for them.
    small_data: usize,
}

/// Frames that a client must not send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// A request's head is too large, or comes in too many parts.
    Head,
    /// Bodies come in too many parts.
    Data,
}

impl HeaderBlocks {
    /// Takes in a connection from its first byte on; each head may have this many bytes, as they are compressed.
    pub(super) fn new(most_bytes: usize) -> Self {
        Self {
            most_bytes,
            skipped: PREFACE,
            head: [0; FRAME_HEAD],
            filled: 0,
            bytes: 0,
            continuations: 0,
            small_data: 0,
        }
    }

    /// These bytes came. After a failure it is of no more use.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Excess> {
        loop {
            let skipped = self.skipped.min(bytes.len());
            self.skipped -= skipped;
            bytes = &bytes[skipped..];
            let taken = (FRAME_HEAD - self.filled).min(bytes.len());
            if taken == 0 {
                return Ok(());
            }
            let (taken, rest) = bytes.split_at(taken);
            self.head[self.filled..][..taken.len()].copy_from_slice(taken);
            self.filled += taken.len();
            bytes = rest;
            if self.filled < FRAME_HEAD {
                return Ok(());
            }
            self.filled = 0;
            self.frame()?;
        }
    }

    /// The head of a frame is whole.
    fn frame(&mut self) -> Result<(), Excess> {
        let [high, middle, low, kind, flags, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match kind {
            HEADERS => {
                (self.bytes, self.continuations) = (length, 0);
                self.small_data = self.small_data.saturating_sub(SMALL_DATA_OF_REQUEST);
            }
            DATA if flags & END_STREAM != 0 => (),
            DATA if length < SMALL_DATA => self.small_data += 1,
            DATA => self.small_data = self.small_data.saturating_sub(1),
            CONTINUATION => {
                self.bytes += length;
                self.continuations += 1;
            }
            _ => (),
        }
        self.skipped = length;
        if self.bytes > self.most_bytes || self.continuations > MAX_CONTINUATIONS {
            return Err(Excess::Head);
        }
        if self.small_data > MAX_SMALL_DATA {
            return Err(Excess::Data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
        // Its contents look like heads of frames.
        let content = std::iter::repeat_n(HEADERS, length);
        let head = [high, middle, low, kind, 0, 0, 0, 0, 1];
        head.into_iter().chain(content).collect()
    }

    fn connection(frames: &[(u8, usize)]) -> Vec<u8> {
        let frames = frames.iter().map(|(kind, length)| frame(*kind, *length));
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        [preface].into_iter().chain(frames).flatten().collect()
    }

    #[test]
    fn bodies_in_many_small_parts_are_an_excess_unless_others_make_up_for_them() {
        let end = || [&[0, 0, 0, DATA, END_STREAM, 0, 0, 0, 1][..], &[]].concat();
        let small = |count| connection(&vec![(DATA, 0); count]);
        let mixed = |frames: &[(u8, usize)]| connection(&frames.repeat(2000));
        for (bytes, expected, why) in [
            (small(1024), Ok(()), "as many as there may be"),
            (small(1025), Err(Excess::Data), "one more"),
            (
                mixed(&[(DATA, 255), (DATA, 256)]),
                Ok(()),
                "a large one for each",
            ),
            (
                mixed(&[(DATA, 255), (DATA, 0), (DATA, 256)]),
                Err(Excess::Data),
                "for every second",
            ),
            (
                mixed(&[(HEADERS, 9), (DATA, 9), (DATA, 0)]),
                Ok(()),
                "small bodies",
            ),
            (
                mixed(&[
                    (HEADERS, 9),
                    (DATA, 9),
                    (DATA, 9),
                    (DATA, 9),
                    (DATA, 9),
                    (DATA, 9),
                ]),
                Err(Excess::Data),
                "in five parts",
            ),
            ([small(1024), end().repeat(100)].concat(), Ok(()), "ends"),
        ] {
            for step in [7, 100, bytes.len()] {
                let mut blocks = HeaderBlocks::new(100);
                let read = bytes.chunks(step).try_for_each(|part| blocks.read(part));
                assert_eq!(read, expected, "{why}, {step} at a time");
            }
        }
    }

    #[test]
    fn a_head_is_measured_over_its_frames_however_they_are_cut() {
        let many = [[(HEADERS, 0)].as_slice(), &[(CONTINUATION, 0); 17]].concat();
        for (frames, expected, why) in [
            (&[(HEADERS, 100), (HEADERS, 100)][..], Ok(()), "two heads"),
            (&[(HEADERS, 50), (CONTINUATION, 50)], Ok(()), "just enough"),
            (&[(HEADERS, 101)], Err(Excess::Head), "one frame"),
            (
                &[(HEADERS, 50), (CONTINUATION, 50), (CONTINUATION, 1)],
                Err(Excess::Head),
                "three frames",
            ),
            (&[(DATA, 5_000), (HEADERS, 100)], Ok(()), "a body"),
            (
                &[(DATA, 5_000), (HEADERS, 101)],
                Err(Excess::Head),
                "behind a body",
            ),
            (&many[..17], Ok(()), "empty ones"),
            (&many, Err(Excess::Head), "too many empty ones"),
        ] {
            let bytes = connection(frames);
            for step in [1, 2, 7, 9, 10, 100, bytes.len()] {
                let mut blocks = HeaderBlocks::new(100);
                let read = bytes.chunks(step).try_for_each(|part| blocks.read(part));
                assert_eq!(read, expected, "{why}, {step} at a time");
            }
        }
    }
}
