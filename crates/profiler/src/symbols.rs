//! Names for addresses of this process: functions, also inlined ones, with their files and lines.
//!
//! Symbols are looked up after all samples are taken, on the profile's own thread. Files are shown relative to their crate,
//! so that a profile contains no path of the machine that built the program.

use std::{collections::HashMap, fs, ptr, sync::Arc};

use crate::{Frame, profile::Stacks};

/// The most addresses that are looked up for one profile. Further ones have the name of their library only.
const MOST_LOOKUPS: usize = 50_000;

/// The longest name of a function, in bytes. Names of futures can have many kilobytes.
const LONGEST_NAME: usize = 400;

/// Folders that contain the sources of a crate.
const SOURCE_FOLDERS: [&str; 4] = ["src", "tests", "examples", "benches"];

/// What an address of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    /// The instruction that runs.
    Instruction(u64),
    /// Where a call returns to: the call is before it.
    Return(u64),
}

impl Address {
    /// The address to look up: `backtrace` takes all for those that calls return to, and looks up the byte before.
    fn lookup(self) -> u64 {
        match self {
            Self::Instruction(address) => address.saturating_add(1),
            Self::Return(address) => address,
        }
    }
}

/// Finds the frames of addresses. Each address is looked up once.
pub(crate) struct Symbols {
    /// The numbers of the frames at an address, the innermost first.
    known: HashMap<u64, Vec<u32>>,
    libraries: Vec<Library>,
}

/// A part of the memory with code.
struct Library {
    start: u64,
    end: u64,
    name: String,
}

impl Symbols {
    pub(crate) fn new() -> Self {
        // Paths may be any bytes.
        let maps = fs::read("/proc/self/maps").unwrap_or_default();
        let maps = String::from_utf8_lossy(&maps);
        Self {
            known: HashMap::new(),
            libraries: maps.lines().filter_map(library).collect(),
        }
    }

    /// Returns the numbers of the frames of a stack, the outermost first. `addresses` has the innermost first.
    pub(crate) fn frames(
        &mut self,
        addresses: impl DoubleEndedIterator<Item = Address>,
        stacks: &mut Stacks,
    ) -> Vec<u32> {
        let mut frames = Vec::new();
        for address in addresses.rev() {
            frames.extend(self.frames_at(address.lookup(), stacks).iter().rev());
        }
        frames
    }

    fn frames_at(&mut self, address: u64, stacks: &mut Stacks) -> &[u32] {
        let is_full = self.known.len() >= MOST_LOOKUPS;
        let libraries = &self.libraries;
        self.known.entry(address).or_insert_with(|| {
            let mut frames = if is_full {
                Vec::new()
            } else {
                look_up(address)
            };
            if frames.is_empty() {
                frames.push(unknown(libraries, address));
            }
            frames.iter().map(|frame| stacks.number_of(frame)).collect()
        })
    }
}

impl Drop for Symbols {
    fn drop(&mut self) {
        // The debug information that was read for the look-ups takes several megabytes.
        backtrace::clear_symbol_cache();
    }
}

/// The frames at an address, the innermost first. Several, if calls were inlined.
fn look_up(address: u64) -> Vec<Frame> {
    let mut frames = Vec::new();
    let Ok(address) = usize::try_from(address) else {
        return frames;
    };
    backtrace::resolve(ptr::without_provenance_mut(address), |symbol| {
        let Some(name) = symbol.name() else {
            return;
        };
        let file = symbol.filename().and_then(|file| file.to_str());
        frames.push(Frame {
            // The alternate form has no hash.
            function: function_name(&format!("{name:#}")),
            file: file.map_or_else(|| "".into(), |file| relative(file).into()),
            line: symbol.lineno().unwrap_or(0),
        });
    });
    frames
}

fn function_name(name: &str) -> Arc<str> {
    if name.len() <= LONGEST_NAME {
        return name.into();
    }
    let mut end = LONGEST_NAME;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &name[..end]).into()
}

/// The path of a source file, relative to its crate or to the standard library.
fn relative(file: &str) -> String {
    let parts: Vec<_> = file.split('/').collect();
    let after = |folder: &str| parts.iter().rposition(|part| *part == folder);
    // …/registry/src/index-0123456789abcdef/serde-1.0.0/src/lib.rs
    let registry = parts
        .windows(2)
        .position(|pair| pair == ["registry", "src"]);
    let checkout = parts
        .windows(2)
        .position(|pair| pair == ["git", "checkouts"]);
    let start = match (registry.or(checkout), after("library"), after("crates")) {
        (Some(at), _, _) => at + 3,
        (None, Some(at), _) | (None, None, Some(at)) => at,
        (None, None, None) => {
            let folders = SOURCE_FOLDERS.iter().filter_map(|folder| after(folder));
            folders.max().unwrap_or(parts.len() - 1)
        }
    };
    parts.get(start..).unwrap_or_default().join("/")
}

/// The frame of an address without a symbol: its library.
fn unknown(libraries: &[Library], address: u64) -> Frame {
    let mut libraries = libraries.iter();
    let library = libraries.find(|library| (library.start..library.end).contains(&address));
    let name = library.map_or("unknown", |library| library.name.as_str());
    Frame {
        function: format!("[{name}]").into(),
        ..Frame::default()
    }
}

/// Parses a line of `/proc/self/maps`, such as `7f…-7f… r-xp 00000000 08:01 1234  /usr/lib/libc.so.6`.
fn library(line: &str) -> Option<Library> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_code = fields.next()?.contains('x');
    let path = fields.nth(3)?;
    let name = path.rsplit('/').next()?.trim_matches(['[', ']']);
    is_code.then(|| {
        Some(Library {
            start: u64::from_str_radix(start, 16).ok()?,
            end: u64::from_str_radix(end, 16).ok()?,
            name: name.to_owned(),
        })
    })?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[inline(never)]
    fn a_function_with_a_name() -> u32 {
        std::hint::black_box(7)
    }

    #[test]
    fn an_address_has_its_function_its_file_and_its_line() {
        let mut stacks = Stacks::default();
        let mut symbols = Symbols::new();
        let address = (a_function_with_a_name as fn() -> u32) as usize as u64;
        let frames = symbols.frames([Address::Instruction(address)].into_iter(), &mut stacks);
        drop(symbols);
        stacks.add(None, frames, 1, 1);
        let (frames, _) = stacks.finish();
        let frame = frames.last().unwrap();
        assert!(
            frame.function.ends_with("::a_function_with_a_name"),
            "{frame:?}"
        );
        assert_eq!(&*frame.file, "crates/profiler/src/symbols.rs");
        assert!(frame.line > 100, "{frame:?}");
    }

    #[test]
    fn an_address_without_a_symbol_has_its_library() {
        let libraries = [
            "00400000-00500000 r-xp 00000000 fe:00 123    /opt/app/libthing.so",
            "00500000-00600000 rw-p 00000000 fe:00 123    /opt/app/libthing.so",
            "00600000-00700000 r-xp 00000000 00:00 0      [vdso]",
            "00700000-00800000 r-xp 00000000 00:00 0",
        ];
        let libraries: Vec<_> = libraries.into_iter().filter_map(library).collect();
        for (address, expected) in [
            (0x0040_0010, "[libthing.so]"),
            (0x0050_0010, "[unknown]"),
            (0x0060_0010, "[vdso]"),
            (0x0070_0010, "[unknown]"),
        ] {
            assert_eq!(&*unknown(&libraries, address).function, expected);
        }
    }

    #[test]
    fn a_file_is_shown_without_the_folders_of_the_machine() {
        let registry = "/home/ann/.cargo/registry/src/index-0123456789abcdef";
        for (file, expected) in [
            (
                format!("{registry}/serde-1.0.2/src/lib.rs"),
                "serde-1.0.2/src/lib.rs",
            ),
            (format!("{registry}/x-sys-0.3.0/x/x.c"), "x-sys-0.3.0/x/x.c"),
            (
                "/rustc/01f6ddf7588f/library/std/src/thread/mod.rs".to_owned(),
                "library/std/src/thread/mod.rs",
            ),
            (
                "/home/ann/shop/crates/cart/src/lib.rs".to_owned(),
                "crates/cart/src/lib.rs",
            ),
            (
                "/home/ann/src/shop/src/orders/list.rs".to_owned(),
                "src/orders/list.rs",
            ),
            ("/home/ann/shop/tests/a.rs".to_owned(), "tests/a.rs"),
            ("./posix/libc.c".to_owned(), "libc.c"),
            ("libc.c".to_owned(), "libc.c"),
            (String::new(), ""),
        ] {
            assert_eq!(relative(&file), expected);
        }
    }

    #[test]
    fn a_long_name_is_cut() {
        let name = function_name(&"ä".repeat(LONGEST_NAME));
        assert!(name.len() <= LONGEST_NAME + '…'.len_utf8());
        assert_eq!(&*function_name("short"), "short");
    }
}
