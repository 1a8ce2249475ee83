//! Runs the check of the same name on inputs from libFuzzer: `cargo +nightly fuzz run accept`.
#![no_main]

#[path = "../checks.rs"]
mod checks;

libfuzzer_sys::fuzz_target!(|input: &[u8]| checks::accept(input));
