//! The files of Swagger UI, read from the ZIP archive of its sources that a crate embeds.
//!
//! The archive stores each file as raw DEFLATE data with its CRC, which is a gzip stream but for the frame. So a browser
//! gets the stored bytes, and nothing is unpacked or compressed at build time. Only what this archive needs of the format
//! is read: no encryption, no archive of 4 GiB or more
//! (<https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT>, sections 4.3 and 4.4).

use std::io::Read as _;

use flate2::read::DeflateDecoder;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED as ARCHIVE;

const END_OF_DIRECTORY: &[u8] = b"PK\x05\x06";
const DIRECTORY_ENTRY: &[u8] = b"PK\x01\x02";
/// The length of a file's local header, without its name and extra fields.
const LOCAL_HEADER: usize = 30;
/// The length of a directory entry, without its name, extra fields and comment.
const ENTRY_HEADER: usize = 46;
const DEFLATED: u16 = 8;

/// The head of a gzip stream (RFC 1952): DEFLATE, no flags, no time, an unknown system.
const GZIP_HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];

/// A compressed file of the archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct File {
    deflated: &'static [u8],
    /// CRC-32 and length of the contents, as both formats end with.
    trailer: [u8; 8],
}

/// Finds a file of the distribution by its name.
pub(super) fn find(name: &str) -> Option<File> {
    let end = ARCHIVE.windows(4).rposition(|it| it == END_OF_DIRECTORY)?;
    let mut entry = ARCHIVE.get(number(ARCHIVE, end + 16)?..)?;
    while entry.starts_with(DIRECTORY_ENTRY) {
        let name_length = short(entry, 28)?.into();
        let path = entry.get(ENTRY_HEADER..)?.get(..name_length)?;
        if is_distributed(path, name) {
            return file(entry);
        }
        let rest = name_length + usize::from(short(entry, 30)?) + usize::from(short(entry, 32)?);
        entry = entry.get(ENTRY_HEADER + rest..)?;
    }
    None
}

/// Whether this is the path of a file in `dist`, the second level of the archive.
fn is_distributed(path: &[u8], name: &str) -> bool {
    let mut parts = path.split(|byte| *byte == b'/').skip(1);
    parts.next() == Some(b"dist") && parts.next() == Some(name.as_bytes()) && parts.next().is_none()
}

/// The file of a directory entry, if it is compressed.
fn file(entry: &[u8]) -> Option<File> {
    if short(entry, 10)? != DEFLATED {
        return None;
    }
    let mut trailer = [0; 8];
    trailer[..4].copy_from_slice(entry.get(16..20)?);
    trailer[4..].copy_from_slice(entry.get(24..28)?);
    let local = ARCHIVE.get(number(entry, 42)?..)?;
    let names = usize::from(short(local, 26)?) + usize::from(short(local, 28)?);
    let deflated = local.get(LOCAL_HEADER + names..)?;
    Some(File {
        deflated: deflated.get(..number(entry, 20)?)?,
        trailer,
    })
}

impl File {
    /// The file as a gzip stream.
    pub(super) fn gzip(self) -> Vec<u8> {
        [&GZIP_HEAD, self.deflated, &self.trailer].concat()
    }

    /// The contents of the file.
    pub(super) fn unpack(self) -> Option<Vec<u8>> {
        let mut contents = Vec::with_capacity(number(&self.trailer, 4)?);
        DeflateDecoder::new(self.deflated)
            .read_to_end(&mut contents)
            .ok()?;
        Some(contents)
    }
}

/// The number of 16 bits at this position.
fn short(bytes: &[u8], position: usize) -> Option<u16> {
    let bytes = bytes.get(position..)?.first_chunk()?;
    Some(u16::from_le_bytes(*bytes))
}

/// The number of 32 bits at this position.
fn number(bytes: &[u8], position: usize) -> Option<usize> {
    let bytes = bytes.get(position..)?.first_chunk()?;
    u32::from_le_bytes(*bytes).try_into().ok()
}

#[cfg(test)]
mod tests {
    use flate2::read::GzDecoder;

    use super::*;

    #[test]
    fn a_file_is_the_same_as_a_gzip_stream_and_unpacked() {
        for (name, content) in [
            ("swagger-ui-bundle.js", "SwaggerUIBundle"),
            ("swagger-ui.css", ".swagger-ui"),
        ] {
            let file = find(name).unwrap();
            let mut unpacked = String::new();
            // It checks the CRC and the length.
            let gzip = file.gzip();
            let mut gzip = GzDecoder::new(gzip.as_slice());
            gzip.read_to_string(&mut unpacked).unwrap();
            assert!(unpacked.contains(content), "{name}");
            assert_eq!(file.unpack().unwrap(), unpacked.as_bytes(), "{name}");
        }
    }

    #[test]
    fn files_outside_of_the_distribution_and_unknown_ones_are_not_found() {
        for name in ["README.md", "dist/swagger-ui.css", "nothing.js", ""] {
            assert!(find(name).is_none(), "{name}");
        }
    }
}
