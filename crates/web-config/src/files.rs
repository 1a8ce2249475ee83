//! Reads configuration files, and computes a digest over all of them, by which a change is noticed.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use ring::digest::{Context, SHA256};

/// The largest file that is read. Certificates, keys and lists of users are far smaller.
const MAX_BYTES: u64 = 1 << 20;

/// Reads configuration files, and computes one digest over all of them.
///
/// [`Reloading`](crate::Reloading) compares digests to notice a change. A file that cannot be read is part of the digest
/// too: it may exist the next time.
///
/// ```
/// use exporter_web_config::{ConfigFiles, WebConfig};
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("web.yml");
/// # std::fs::write(&path, "rate_limit: { interval: 1s, burst: 5 }\n")?;
///
/// let mut files = ConfigFiles::new();
/// let config = WebConfig::read(&path, &mut files)?;
/// assert!(config.rate_limit().is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct ConfigFiles(Context);

/// The contents of all files that were read, as a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilesDigest(Vec<u8>);

impl ConfigFiles {
    /// No file has been read.
    pub fn new() -> Self {
        Self(Context::new(&SHA256))
    }

    /// Reads a file of at most 1 MiB.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
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

    pub(crate) fn digest(self) -> FilesDigest {
        FilesDigest(self.0.finish().as_ref().to_vec())
    }
}

impl Default for ConfigFiles {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ConfigFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConfigFiles").finish_non_exhaustive()
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut contents = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut contents)?;
    if contents.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("it is larger than 1 MiB"));
    }
    Ok(contents)
}
