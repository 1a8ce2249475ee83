//! Profiles of the running process: where its processor time goes, and what holds its memory.
//!
//! - `cpu`: samples of the stacks of all threads, taken by signals or by the kernel
//! - `heap`: the live allocations that jemalloc has sampled, by call site
//! - `symbols`: names for addresses; `profile`: the stacks by name, and the difference of two profiles
//! - `flame`, `folded`, `pprof`: how a profile is written
//!
//! Nothing unwinds a stack with debug information while a sample is taken, and nothing in this crate is `unsafe`. A profile
//! contains names and lines of code, and endpoints. It contains no value, argument or text of the program.

#[cfg(all(target_os = "linux", feature = "cpu"))]
mod cpu;
mod error;
mod flame;
mod folded;
#[cfg(all(target_os = "linux", feature = "heap"))]
mod heap;
mod pprof;
mod profile;
#[cfg(all(target_os = "linux", any(feature = "cpu", feature = "heap")))]
mod symbols;
#[cfg(not(all(target_os = "linux", feature = "cpu", feature = "heap")))]
mod unavailable;

#[cfg(all(target_os = "linux", feature = "cpu"))]
pub use cpu::cpu_profile;
pub use error::ProfileError;
pub use flame::flame_graph;
pub use folded::folded;
#[cfg(all(target_os = "linux", feature = "heap"))]
pub use heap::{activate_heap_profiles, heap_growth, heap_profile, is_heap_sampled};
pub use pprof::pprof;
pub use profile::{Frame, Profile, ProfileKind, ProfileMethod, Stack, WorkSource};
#[cfg(not(all(target_os = "linux", feature = "cpu")))]
pub use unavailable::cpu_profile;
#[cfg(not(all(target_os = "linux", feature = "heap")))]
pub use unavailable::{activate_heap_profiles, heap_growth, heap_profile, is_heap_sampled};
