//! The debug information of the running program: which functions are at an address.
//!
//! It is loaded from the program's file when it is first needed, and takes memory while it is loaded. Code in shared
//! libraries is not looked up: the application is in the program itself.

use std::{borrow::Cow, fs};

use addr2line::{Loader, demangle_auto};

/// The running program's file, also if another one has replaced it.
const FILE: &str = "/proc/self/exe";

/// The debug information of the program.
pub(super) struct Program {
    loader: Loader,
    /// What is added to the addresses of the file when the program is loaded.
    bias: u64,
    /// The addresses of the code in the file.
    code: std::ops::Range<u64>,
}

/// A function at an address.
#[derive(Debug)]
pub(super) struct Function {
    /// Its name with modules, or the last part of it for an inlined function without more.
    pub(super) name: String,
    pub(super) file: Option<String>,
    pub(super) line: Option<u32>,
}

impl Program {
    /// Loads the debug information. `None` on a system without `/proc`, or if the file cannot be read.
    pub(super) fn load() -> Option<Self> {
        let loader = Loader::new(FILE).ok()?;
        let code = loader.get_section_range(b".text")?;
        let name = fs::read_link(FILE).ok()?;
        // Paths may be any bytes.
        let maps = fs::read("/proc/self/maps").ok()?;
        let maps = String::from_utf8_lossy(&maps);
        let mut maps = maps.lines();
        // The first one has the lowest address.
        let first = maps.find(|map| map.ends_with(&*name.to_string_lossy()))?;
        let start = u64::from_str_radix(first.split('-').next()?, 16).ok()?;
        let code = code.begin..code.end;
        // A program that is not relocatable is loaded at the addresses of its file.
        let bias = if start < code.start { 0 } else { start };
        Some(Self { loader, bias, code })
    }

    /// The functions at a return address, the innermost first.
    pub(super) fn functions(&self, address: usize) -> Vec<Function> {
        // The call is before the address to which it returns.
        let probe = (address as u64).wrapping_sub(self.bias).wrapping_sub(1);
        if !self.code.contains(&probe) {
            return Vec::new();
        }
        let mut functions = self.inlined(probe);
        // The outermost one is in the table of symbols, by its full name.
        if let Some(symbol) = self.loader.find_symbol(probe) {
            let name = demangle_auto(Cow::Borrowed(symbol), None).into_owned();
            match functions.last_mut() {
                Some(outermost) => outermost.name = name,
                None => functions.push(Function {
                    name,
                    file: None,
                    line: None,
                }),
            }
        }
        functions
    }

    fn inlined(&self, probe: u64) -> Vec<Function> {
        let mut functions = Vec::new();
        let Ok(mut frames) = self.loader.find_frames(probe) else {
            return functions;
        };
        while let Ok(Some(frame)) = frames.next() {
            let name = frame
                .function
                .as_ref()
                .and_then(|name| name.demangle().ok());
            let location = frame.location.as_ref();
            functions.push(Function {
                name: name.map(Cow::into_owned).unwrap_or_default(),
                file: location.and_then(|location| location.file.map(str::to_owned)),
                line: location.and_then(|location| location.line),
            });
        }
        functions
    }
}

#[cfg(test)]
mod tests {
    use super::{super::stack::Stack, *};

    #[inline(never)]
    fn capture_here() -> (Stack, u32) {
        (Stack::capture(), line!())
    }

    #[test]
    fn the_functions_of_a_stack_are_found_with_their_lines() {
        let (stack, line) = capture_here();
        let program = Program::load().unwrap();
        let functions: Vec<_> = stack
            .addresses()
            .flat_map(|address| program.functions(address))
            .collect();
        let here = functions
            .iter()
            .find(|function| function.name.contains("capture_here"));
        let here = here.unwrap_or_else(|| panic!("{functions:?}"));
        assert!(
            here.name
                .ends_with("suspicions::program::tests::capture_here"),
            "{here:?}"
        );
        assert!(
            here.file
                .as_ref()
                .unwrap()
                .ends_with("suspicions/program.rs")
        );
        assert_eq!(here.line, Some(line));
    }
}
