//! Files of the configuration as they were read: their contents, and a digest over all of them that tells whether
//! anything has changed since.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ring::digest::{Context, SHA256};

/// Largest file that is read: no certificate, key or list of users comes near.
const LARGEST: u64 = 1 << 20;

/// Reads files, and keeps a digest of what they were.
pub(super) struct Files(Context);

/// What all files were when they were read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest(Vec<u8>);

impl Files {
    pub(super) fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// The contents of a file. One that cannot be read is part of the digest, too: it may be there the next time.
    pub(super) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let contents = read(path);
        match &contents {
            Ok(contents) => {
                self.0.update(&contents.len().to_le_bytes());
                self.0.update(contents);
            }
            Err(error) => self.0.update(error.to_string().as_bytes()),
        }
        contents
    }

    /// The digest of all that was read.
    pub(super) fn digest(self) -> Digest {
        Digest(self.0.finish().as_ref().to_vec())
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(path)?
        .take(LARGEST + 1)
        .read_to_end(&mut contents)?;
    if contents.len() as u64 > LARGEST {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(contents)
}
