//! Pieces of a large exposition, compressed while they wait to be sent. Text shrinks to a twentieth, so that an exposition of
//! very many series takes far less memory than the series themselves. The client receives it as it was: this is no content
//! encoding.

use std::io::{self, Write};

use actix_web::web::Bytes;
use zstd::{
    bulk::{Compressor, Decompressor},
    zstd_safe::compress_bound,
};

use super::exposition::{Exposition, Piece};

/// The first bytes of an exposition that stay as they are: most expositions have no more.
const PLAIN: usize = 4 << 20;

/// Speed matters, and text is compressed well at any level.
const LEVEL: i32 = 1;

/// Writes into an exposition, and compresses what comes after its first bytes.
pub(super) struct Packer<'a> {
    exposition: &'a mut Exposition,
    compressor: Option<Compressor<'static>>,
    buffer: Vec<u8>,
}

impl<'a> Packer<'a> {
    pub(super) fn new(exposition: &'a mut Exposition) -> Self {
        Self {
            exposition,
            compressor: None,
            buffer: Vec::new(),
        }
    }
}

impl Write for Packer<'_> {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        if self.exposition.length() < PLAIN {
            return self.exposition.write(piece);
        }
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            none => none.insert(Compressor::new(LEVEL)?),
        };
        self.buffer.clear();
        self.buffer.reserve(compress_bound(piece.len()));
        compressor.compress_to_buffer(piece, &mut self.buffer)?;
        self.exposition.push(Piece {
            bytes: Bytes::copy_from_slice(&self.buffer),
            unpacked: Some(piece.len()),
        });
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Brings pieces back as they were.
#[derive(Default)]
pub(super) struct Unpacker(Option<Decompressor<'static>>);

impl Unpacker {
    /// The bytes of a packed piece that stands for so many.
    pub(super) fn unpack(&mut self, packed: &[u8], length: usize) -> io::Result<Bytes> {
        let decompressor = match &mut self.0 {
            Some(decompressor) => decompressor,
            none => none.insert(Decompressor::new()?),
        };
        decompressor.decompress(packed, length).map(Bytes::from)
    }
}
