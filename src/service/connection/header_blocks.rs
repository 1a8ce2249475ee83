//! The heads of HTTP/2's requests as they come in: a head may be spread over many frames, and must not be collected
//! before anyone knows how large it is.

/// What opens a connection, ahead of the first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;

/// The head of a frame: three bytes of length, its kind, its flags and its stream (RFC 9113, section 4.1).
const FRAME_HEAD: usize = 9;

const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Most frames that a head may go on in. An empty one costs its sender next to nothing.
const MAX_CONTINUATIONS: usize = 16;

/// Reads the heads of frames, and skips what is in them.
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
}

/// A request's head is too large, or comes in too many parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLarge;

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
        }
    }

    /// These bytes came. After a failure it is of no more use.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), TooLarge> {
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
    fn frame(&mut self) -> Result<(), TooLarge> {
        let [high, middle, low, kind, ..] = self.head;
        let length = u32::from_be_bytes([0, high, middle, low]);
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match kind {
            HEADERS => (self.bytes, self.continuations) = (length, 0),
            CONTINUATION => {
                self.bytes += length;
                self.continuations += 1;
            }
            _ => (),
        }
        self.skipped = length;
        if self.bytes > self.most_bytes || self.continuations > MAX_CONTINUATIONS {
            return Err(TooLarge);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATA: u8 = 0;

    fn frame(kind: u8, length: usize) -> Vec<u8> {
        let [.., high, middle, low] = u32::try_from(length).unwrap().to_be_bytes();
        // What is in it looks like heads of frames.
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
    fn a_head_is_measured_over_its_frames_however_they_are_cut() {
        let many = [[(HEADERS, 0)].as_slice(), &[(CONTINUATION, 0); 17]].concat();
        for (frames, expected, why) in [
            (&[(HEADERS, 100), (HEADERS, 100)][..], Ok(()), "two heads"),
            (&[(HEADERS, 50), (CONTINUATION, 50)], Ok(()), "just enough"),
            (&[(HEADERS, 101)], Err(TooLarge), "one frame"),
            (
                &[(HEADERS, 50), (CONTINUATION, 50), (CONTINUATION, 1)],
                Err(TooLarge),
                "three frames",
            ),
            (&[(DATA, 5_000), (HEADERS, 100)], Ok(()), "a body"),
            (
                &[(DATA, 5_000), (HEADERS, 101)],
                Err(TooLarge),
                "behind a body",
            ),
            (&many[..17], Ok(()), "empty ones"),
            (&many, Err(TooLarge), "too many empty ones"),
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
