//! Protobuf's own encoding: tags, varints and fields of bytes.

// The wire types of <https://protobuf.dev/programming-guides/encoding/>.
pub(super) const VARINT: u32 = 0;
pub(super) const FIXED_64: u32 = 1;
pub(super) const LENGTH: u32 = 2;

/// The length of a field of one double with a tag of one byte.
pub(super) const DOUBLE_FIELD: u64 = 9;

#[inline]
pub(super) fn push_tag(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    push_varint(out, u64::from(field << 3 | wire_type));
}

#[inline]
pub(super) fn push_uint(out: &mut Vec<u8>, field: u32, value: u64) {
    push_tag(out, field, VARINT);
    push_varint(out, value);
}

#[inline]
pub(super) fn push_double(out: &mut Vec<u8>, field: u32, value: f64) {
    push_tag(out, field, FIXED_64);
    out.extend_from_slice(&value.to_le_bytes());
}

#[inline]
pub(super) fn push_bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    push_tag(out, field, LENGTH);
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends the first `length` bytes of a block. A copy of fixed length that is cut afterwards needs no call.
#[inline]
pub(super) fn push_block<const N: usize>(out: &mut Vec<u8>, block: [u8; N], length: usize) {
    let end = out.len() + length;
    out.extend_from_slice(&block);
    out.truncate(end);
}

#[inline]
pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push((value & 0x7f) as u8);
}

/// The length of a varint.
#[inline]
pub(super) fn varint_length(value: u64) -> usize {
    ((value | 1).ilog2() / 7 + 1) as usize
}

/// The length of a field of `bytes` bytes, with a tag of one byte.
#[inline]
pub(super) fn field_length(bytes: usize) -> usize {
    1 + varint_length(bytes as u64) + bytes
}

#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}
