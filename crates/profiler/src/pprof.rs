//! The pprof format: `perftools.profiles.Profile`, compressed with gzip. `go tool pprof` and Pyroscope read it.
//!
//! Field numbers are those of <https://github.com/google/pprof/blob/main/proto/profile.proto>.

use std::{collections::HashMap, io::Write as _, iter, time::UNIX_EPOCH};

use flate2::{Compression, write::GzEncoder};

use crate::{Profile, ProfileKind};

/// Wire types of protobuf.
const VARINT: u64 = 0;
const LENGTH: u64 = 2;

/// The number of the only mapping: the program.
const MAPPING: u64 = 1;

/// Writes a profile in the pprof format, compressed with gzip.
pub fn pprof(profile: &Profile) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    // Cannot fail: the sink is memory.
    drop(encoder.write_all(&message(profile)));
    encoder.finish().unwrap_or_default()
}

/// The message of a profile.
fn message(profile: &Profile) -> Vec<u8> {
    let mut strings = Strings::default();
    let mut out = Vec::new();
    let (count, weight, period) = match profile.kind {
        ProfileKind::Cpu => (
            ("samples", "count"),
            ("cpu", "nanoseconds"),
            ("cpu", "nanoseconds"),
        ),
        ProfileKind::Heap | ProfileKind::HeapGrowth => (
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
            ("space", "bytes"),
        ),
    };
    for sample_type in [count, weight] {
        push_message(&mut out, 1, &value_type(&mut strings, sample_type));
    }
    for stack in &profile.stacks {
        let mut sample = Vec::new();
        // The innermost frame is the first.
        let locations = stack.frames.iter().rev();
        push_packed(&mut sample, 1, locations.map(|frame| u64::from(*frame) + 1));
        let values = [stack.count, stack.weight];
        push_packed(&mut sample, 2, values.into_iter().map(i64::cast_unsigned));
        if let Some(endpoint) = &stack.endpoint {
            let mut label = Vec::new();
            push_uint(&mut label, 1, strings.index("endpoint"));
            push_uint(&mut label, 2, strings.index(endpoint));
            push_message(&mut sample, 3, &label);
        }
        push_message(&mut out, 2, &sample);
    }
    push_message(&mut out, 3, &mapping(&mut strings));
    push_functions(&mut out, &mut strings, profile);
    let started = profile
        .started
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    push_uint(&mut out, 9, nanoseconds(started));
    push_uint(&mut out, 10, nanoseconds(profile.duration));
    push_message(&mut out, 11, &value_type(&mut strings, period));
    push_uint(&mut out, 12, profile.period);
    let method = format!("Sampled by {}.", profile.method.words());
    for comment in iter::once(&method).chain(&profile.notes) {
        push_uint(&mut out, 13, strings.index(comment));
    }
    push_uint(&mut out, 14, strings.index(weight.0));
    // Last: all strings are known.
    for string in &strings.list {
        push_message(&mut out, 6, string.as_bytes());
    }
    out
}

fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn value_type(strings: &mut Strings, (kind, unit): (&str, &str)) -> Vec<u8> {
    let mut out = Vec::new();
    push_uint(&mut out, 1, strings.index(kind));
    push_uint(&mut out, 2, strings.index(unit));
    out
}

/// The program, whose functions, files, lines and inlined frames are all known. Tools then look for no symbols themselves.
fn mapping(strings: &mut Strings) -> Vec<u8> {
    let mut out = Vec::new();
    push_uint(&mut out, 1, MAPPING);
    push_uint(&mut out, 5, strings.index("program"));
    for has_symbols in 7..=10 {
        push_uint(&mut out, has_symbols, 1);
    }
    out
}

/// Appends a location for each frame, and a function for each name.
fn push_functions(out: &mut Vec<u8>, strings: &mut Strings, profile: &Profile) {
    let mut functions = HashMap::new();
    for (at, frame) in profile.frames.iter().enumerate() {
        let next = functions.len() as u64 + 1;
        let key = (&frame.function, &frame.file);
        let function = *functions.entry(key).or_insert(next);
        if function == next {
            let mut message = Vec::new();
            push_uint(&mut message, 1, function);
            // The second name, as the linker has it, is left out: tools would shorten a name that equals it.
            push_uint(&mut message, 2, strings.index(&frame.function));
            push_uint(&mut message, 4, strings.index(&frame.file));
            push_message(out, 5, &message);
        }
        let mut line = Vec::new();
        push_uint(&mut line, 1, function);
        push_uint(&mut line, 2, u64::from(frame.line));
        let mut location = Vec::new();
        push_uint(&mut location, 1, at as u64 + 1);
        push_uint(&mut location, 2, MAPPING);
        push_message(&mut location, 4, &line);
        push_message(out, 4, &location);
    }
}

/// The table of strings. The first is empty.
struct Strings {
    list: Vec<String>,
    indices: HashMap<String, u64>,
}

impl Default for Strings {
    fn default() -> Self {
        Self {
            list: vec![String::new()],
            indices: HashMap::from([(String::new(), 0)]),
        }
    }
}

impl Strings {
    fn index(&mut self, text: &str) -> u64 {
        if let Some(index) = self.indices.get(text) {
            return *index;
        }
        let index = self.list.len() as u64;
        self.list.push(text.to_owned());
        self.indices.insert(text.to_owned(), index);
        index
    }
}

fn push_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(low_bits(value) | 0x80);
        value >>= 7;
    }
    out.push(low_bits(value));
}

#[allow(clippy::cast_possible_truncation, reason = "seven bits")]
fn low_bits(value: u64) -> u8 {
    (value & 0x7f) as u8
}

/// Appends a number. Zero is the default of proto3, and is left out.
fn push_uint(out: &mut Vec<u8>, field: u64, value: u64) {
    if value != 0 {
        push_varint(out, field << 3 | VARINT);
        push_varint(out, value);
    }
}

fn push_message(out: &mut Vec<u8>, field: u64, message: &[u8]) {
    push_varint(out, field << 3 | LENGTH);
    push_varint(out, message.len() as u64);
    out.extend_from_slice(message);
}

fn push_packed(out: &mut Vec<u8>, field: u64, values: impl Iterator<Item = u64>) {
    let mut packed = Vec::new();
    for value in values {
        push_varint(&mut packed, value);
    }
    push_message(out, field, &packed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::tests::profile;

    #[test]
    fn numbers_are_written_as_protobuf_has_them() {
        let mut out = Vec::new();
        push_uint(&mut out, 1, 300);
        push_uint(&mut out, 2, 0);
        push_packed(&mut out, 3, [1, 128, i64::cast_unsigned(-1)].into_iter());
        let expected = [
            &[0x08, 0xac, 0x02, 0x1a, 13, 1, 0x80, 1][..],
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1],
        ];
        assert_eq!(out, expected.concat());
    }

    #[test]
    fn a_message_has_each_name_once() {
        let profile = profile(&[("/a", &["main", "hot"], 1), ("/a", &["main", "cold"], 2)]);
        let text = message(&profile);
        for name in [
            "main",
            "hot",
            "cold",
            "endpoint",
            "/a",
            "samples",
            "nanoseconds",
        ] {
            let bytes = name.as_bytes();
            let times = text.windows(bytes.len()).filter(|part| *part == bytes);
            // The file's name contains the first one.
            let expected = if name == "main" { 2 } else { 1 };
            assert_eq!(times.count(), expected, "{name}");
        }
        assert_eq!(&pprof(&profile)[..2], [0x1f, 0x8b], "gzip");
    }
}
