//! Limits on the frames of HTTP/2, checked while they arrive.
//!
//! The protocol collects all frames of a head before it checks the size. It also keeps about 400 bytes for each unread frame
//! of a body, and no window limits empty frames.

/// The bytes of the preface before the first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// The bytes of a frame's head: three for the length, one for the type, one for flags, four for the stream (RFC 9113, section
/// 4.1).
const FRAME_HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// The flag of the last frame of a stream.
const END_STREAM: u8 = 1;

/// Most further frames of a head. Their total size does not limit empty ones.
const MAX_CONTINUATIONS: usize = 16;

/// A frame of a body, except the last one, with fewer bytes than this is small.
const SMALL_DATA: usize = 256;

/// Most small frames in excess of others.
const MAX_SMALL_DATA: usize = 1024;

/// Small frames that each request may have in addition, so that many small bodies are within the limit.
const SMALL_DATA_OF_REQUEST: usize = 4;

/// Parses the heads of frames and skips their contents.
#[derive(Debug, Clone, Copy)]
pub(super) struct HeaderBlocks {
    most_bytes: usize,
    /// How many of the next bytes are contents of a frame.
    skipped: usize,
    head: [u8; FRAME_HEAD],
    filled: usize,
    /// The bytes of the request's head, and its further frames.
    bytes: usize,
    continuations: usize,
    /// Small frames of bodies, minus the frames that offset them.
    small_data: usize,
}

/// The limit that a client exceeds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    /// The size or the number of frames of a request's head.
    Head,
    /// The number of small frames of bodies.
    Data,
}

impl HeaderBlocks {
    /// Starts at the first byte of a connection. Each head may have `most_bytes` compressed bytes.
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

    /// Parses received bytes. Must not be used again after an error.
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

    /// Checks the limits when the head of a frame is complete.
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
        // The contents look like heads of frames.
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
    fn many_small_frames_of_bodies_exceed_the_limit_unless_others_offset_them() {
        let end = || [&[0, 0, 0, DATA, END_STREAM, 0, 0, 0, 1][..], &[]].concat();
        let small = |count| connection(&vec![(DATA, 0); count]);
        let mixed = |frames: &[(u8, usize)]| connection(&frames.repeat(2000));
        for (bytes, expected, why) in [
            (small(1024), Ok(()), "at the limit"),
            (small(1025), Err(Excess::Data), "beyond the limit"),
            (
                mixed(&[(DATA, 255), (DATA, 256)]),
                Ok(()),
                "a large frame for each small one",
            ),
            (
                mixed(&[(DATA, 255), (DATA, 0), (DATA, 256)]),
                Err(Excess::Data),
                "a large frame for every second small one",
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
                "bodies of five frames",
            ),
            (
                [small(1024), end().repeat(100)].concat(),
                Ok(()),
                "last frames",
            ),
        ] {
            for step in [7, 100, bytes.len()] {
                let mut blocks = HeaderBlocks::new(100);
                let read = bytes.chunks(step).try_for_each(|part| blocks.read(part));
                assert_eq!(read, expected, "{why}, {step} at a time");
            }
        }
    }

    #[test]
    fn the_frames_of_a_head_are_measured_together_however_they_are_split() {
        let many = [[(HEADERS, 0)].as_slice(), &[(CONTINUATION, 0); 17]].concat();
        for (frames, expected, why) in [
            (&[(HEADERS, 100), (HEADERS, 100)][..], Ok(()), "two heads"),
            (&[(HEADERS, 50), (CONTINUATION, 50)], Ok(()), "at the limit"),
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
                "after a body",
            ),
            (&many[..17], Ok(()), "empty frames"),
            (&many, Err(Excess::Head), "too many empty frames"),
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
