//! The walk along the frame pointers of an interrupted thread.
//!
//! At a frame pointer, the stack has the frame pointer of the caller, and above it the address that the call returns to. Code
//! that was compiled without frame pointers uses the register for something else, so that the walk ends early or is wrong.
//! Nothing here may allocate, lock or panic, since it runs in a signal handler.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The size of a word of the stack, in bytes.
const WORD: u64 = 8;

/// No read crosses the border of a page: the next one may not be readable.
const PAGE: u64 = 4096;

/// The largest plausible distance between two frames, in bytes.
const LARGEST_FRAME: u64 = 1024 * 1024;

/// Addresses below are never code.
const LOWEST_CODE: u64 = 4096;

/// The bits of a return address that are the address. With pointer authentication, the others are a signature.
const ADDRESS: u64 = if cfg!(target_arch = "aarch64") {
    0xffff_ffff_ffff
} else {
    u64::MAX
};

/// The registers of an interrupted thread.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Registers {
    /// The instruction that runs.
    pub(crate) instruction: u64,
    pub(crate) frame: u64,
    /// The lowest address of the stack that is in use.
    pub(crate) stack: u64,
}

/// The part of the stack that was read last.
struct Window<'a, F> {
    words: &'a [AtomicU64],
    /// The address of the first word.
    start: u64,
    /// The number of words that could be read.
    length: u64,
    read: F,
}

impl<F: FnMut(u64, &[AtomicU64]) -> usize> Window<'_, F> {
    /// The word at an address, or `None` if it cannot be read.
    fn word(&mut self, address: u64) -> Option<u64> {
        let mut at = address.wrapping_sub(self.start).checked_div(WORD)?;
        if at >= self.length {
            let in_page = address.checked_rem(PAGE)?;
            let until_border = PAGE.checked_sub(in_page)?.checked_div(WORD)?;
            let most = self.words.len().min(usize::try_from(until_border).ok()?);
            let read = (self.read)(address, self.words.get(..most)?);
            self.start = address;
            self.length = u64::try_from(read).ok()?;
            at = 0;
        }
        if at >= self.length {
            return None;
        }
        let word = self.words.get(usize::try_from(at).ok()?)?;
        Some(word.load(Relaxed))
    }
}

/// Writes the addresses of a stack, the innermost first, and returns how many there are. `read` copies the memory at an
/// address to words, and returns how many it could read. `window` is memory for it.
pub(crate) fn walk(
    registers: Registers,
    window: &[AtomicU64],
    read: impl FnMut(u64, &[AtomicU64]) -> usize,
    addresses: &[AtomicU64],
) -> usize {
    let mut window = Window {
        words: window,
        start: 0,
        length: 0,
        read,
    };
    let mut next = Some(registers.instruction);
    let mut frame = registers.frame;
    // A caller's frame is above that of the function it calls.
    let mut lowest = registers.stack;
    let mut length = 0_usize;
    for slot in addresses {
        let Some(address) = next else {
            break;
        };
        slot.store(address, Relaxed);
        length = length.saturating_add(1);
        let distance = frame.checked_sub(lowest);
        let is_plausible = frame.is_multiple_of(WORD)
            && distance.is_some_and(|distance| distance <= LARGEST_FRAME);
        if !is_plausible {
            break;
        }
        let above = frame.saturating_add(WORD);
        let (Some(caller), Some(returns_to)) = (window.word(frame), window.word(above)) else {
            break;
        };
        let returns_to = returns_to & ADDRESS;
        next = (returns_to >= LOWEST_CODE).then_some(returns_to);
        lowest = above.saturating_add(WORD);
        frame = caller;
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Walks over a stack that begins at this address.
    fn walk_over(start: u64, stack: &[u64], registers: Registers, most: usize) -> Vec<u64> {
        let window = [const { AtomicU64::new(0) }; 4];
        let addresses: Vec<_> = (0..most).map(|_| AtomicU64::new(0)).collect();
        let read = |address: u64, words: &[AtomicU64]| {
            let from = address.wrapping_sub(start) / WORD;
            let rest = usize::try_from(from)
                .ok()
                .and_then(|from| stack.get(from..));
            let rest = rest.unwrap_or_default();
            for (word, value) in words.iter().zip(rest) {
                word.store(*value, Relaxed);
            }
            rest.len().min(words.len())
        };
        let length = walk(registers, &window, read, &addresses);
        let addresses = addresses.iter().take(length);
        addresses.map(|address| address.load(Relaxed)).collect()
    }

    const START: u64 = 0x7f00_0000_0ff0;

    fn registers(frame: u64) -> Registers {
        Registers {
            instruction: 0x40_0000,
            frame,
            stack: START,
        }
    }

    #[test]
    fn callers_are_found_from_the_innermost_to_the_outermost() {
        let at = |word: u64| START + word * WORD;
        // Two words of the innermost function, three frames, of which the second crosses a page, and the end.
        let stack = [
            0,
            0,
            at(5),
            0x40_1000,
            99,
            at(7),
            0x40_2000,
            0,
            0x40_3000,
            0x40_4000,
        ];
        let walked = walk_over(START, &stack, registers(at(2)), 10);
        assert_eq!(walked, [0x40_0000, 0x40_1000, 0x40_2000, 0x40_3000]);
        let walked = walk_over(START, &stack, registers(at(2)), 2);
        assert_eq!(walked, [0x40_0000, 0x40_1000], "there is no more room");
        assert!(walk_over(START, &stack, registers(at(2)), 0).is_empty());
    }

    #[test]
    fn a_register_that_is_no_frame_pointer_ends_the_walk() {
        let at = |word: u64| START + word * WORD;
        let stack = [at(4), 0x40_1000, at(2), 0x40_2000, at(4), 7];
        for (frame, expected, why) in [
            (0, 1, "null"),
            (START - 8, 1, "below the stack"),
            (START + 4, 1, "not aligned"),
            (START + LARGEST_FRAME + 8, 1, "too far away"),
            (u64::MAX, 1, "at the end of the memory"),
            (u64::MAX - 7, 1, "aligned, at the end of the memory"),
            (at(6), 1, "not readable"),
            (at(5), 1, "half readable"),
            (at(4), 1, "returns to no code"),
            (at(2), 2, "then a frame that does not go up"),
            (at(0), 2, "then one that returns to no code"),
        ] {
            let walked = walk_over(START, &stack, registers(frame), 10);
            assert_eq!(walked.len(), expected, "{why}: {walked:x?}");
        }
    }
}
