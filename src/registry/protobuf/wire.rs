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

#[inline]
pub(super) fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_seven(value) | 0x80);
        value >>= 7;
    }
    out.push(low_seven(value));
}

/// Appends the lowest bytes of a word, so many: two moves, and no call.
#[inline]
pub(super) fn push_block(out: &mut Vec<u8>, word: u64, length: usize) {
    let end = out.len() + length;
    out.extend_from_slice(&word.to_le_bytes());
    out.truncate(end);
}

/// Numbers below this have a [`varint`] of at most eight bytes.
pub(super) const EIGHT_BYTES: u64 = 1 << 56;

/// The varint of a number below [`EIGHT_BYTES`], in the lowest bytes, and how many these are: without a branch on the
/// number.
#[inline]
pub(super) fn varint(value: u64) -> (u64, usize) {
    // Seven bits for each byte: parted in the middle, and each part again.
    let spread = value & 0x0fff_ffff | value << 4 & 0x0fff_ffff_0000_0000;
    let spread = spread & 0x3fff_0000_3fff | spread << 2 & 0x3fff_0000_3fff_0000;
    let spread = spread & 0x7f_007f_007f_007f | spread << 1 & 0x7f00_7f00_7f00_7f00;
    let length = varint_length(value);
    let more = 0x80_8080_8080_8080 & ((1 << (8 * (length - 1))) - 1);
    (spread | more, length)
}

/// The bits that a byte of a varint holds.
#[inline]
pub(super) fn low_seven(value: u64) -> u8 {
    (value & 0x7f) as u8
}

/// The length of a varint.
#[inline]
pub(super) fn varint_length(value: u64) -> usize {
    ((value | 1).ilog2() / 7 + 1) as usize
}

/// The length of a field of so many bytes, with a tag of one byte.
#[inline]
pub(super) fn field_length(bytes: usize) -> usize {
    1 + varint_length(bytes as u64) + bytes
}

#[inline]
pub(super) fn zigzag(value: i64) -> u64 {
    (value << 1 ^ value >> 63).cast_unsigned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_varint_in_a_word_is_the_same_as_byte_by_byte() {
        for bits in 0..56 {
            for value in [1 << bits, (1 << bits) - 1, 0x00a5_5a3c_c396_6917 >> bits] {
                let (word, length) = varint(value);
                let mut by_byte = Vec::new();
                push_varint(&mut by_byte, value);
                assert_eq!(word.to_le_bytes()[..length], by_byte, "{value:#x}");
                assert!(word.to_le_bytes()[length..].iter().all(|byte| *byte == 0));
            }
        }
    }
}
