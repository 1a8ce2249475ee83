//! Samples the stacks of threads of this process by signals, for profiles of the processor time.
//!
//! Each sampled thread has a timer of its own processor time, which sends SIGPROF to it. The handler notes the time, follows
//! the frame pointers, and puts the addresses into a ring. It allocates nothing, takes no lock, reads no debug information,
//! and uses no thread-local variable but `errno`. It reads the stack by a system call: a wrong frame pointer is an error and not a crash.
//!
//! - `ring`: the queue from the handlers to the reader, made of atomic variables only
//! - `stack`: the walk along the frame pointers, over memory that is a parameter
//! - `system`: the system calls and the handler, and the only `unsafe` code
//!
//! ```
//! # #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use vitals_signal_sampler::SignalSampling;
//!
//! let mut sampling = SignalSampling::start(Duration::from_millis(10))?;
//! sampling.add(std::process::id())?; // The main thread.
//! let mut samples = 0;
//! sampling.read(|sample| samples += sample.expirations);
//! # Ok(())
//! # }
//! # #[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
//! # fn main() {}
//! ```
#![cfg(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
#![cfg_attr(
    test,
    allow(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used,
        reason = "a test may panic"
    )
)]

mod ring;
mod stack;
#[allow(
    unsafe_code,
    reason = "the system calls and the handler; each use is explained"
)]
mod system;

use std::{
    collections::HashMap,
    fs, io,
    sync::atomic::{
        AtomicBool, AtomicU32,
        Ordering::{Acquire, Relaxed, Release},
    },
    time::Duration,
};

use ring::Ring;
use system::Timer;

/// Where the handler puts the samples. Static, because a late signal may run the handler after a sampling has ended.
static RING: Ring = Ring::new();

/// Whether a sampling exists. Only one may exist at a time, because the ring has one reader.
static IS_ACTIVE: AtomicBool = AtomicBool::new(false);

/// The number of the active sampling, 0 if there is none. The handler ignores signals with another number.
static GENERATION: AtomicU32 = AtomicU32::new(0);

/// The number of the last sampling.
static LAST_GENERATION: AtomicU32 = AtomicU32::new(0);

/// How many threads were added to samplings since the start of the process.
static ADDED: AtomicU32 = AtomicU32::new(0);

/// Why [`SignalSampling::start`] failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another sampling exists.
    #[error("another sampling is active")]
    Active,
    /// The program or a library has a handler of its own for SIGPROF, which is left alone.
    #[error("SIGPROF has another handler")]
    Handled,
    /// The calling thread blocks SIGPROF, so that it cannot be tried whether timers are allowed.
    #[error("the thread that starts the sampling blocks SIGPROF")]
    Blocked,
    /// The system does not allow one of the system calls.
    #[error("{call} fails: {cause}")]
    Denied {
        /// The name of the system call.
        call: &'static str,
        /// Its error.
        cause: io::Error,
    },
}

/// A sample of one thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The id that the kernel gives the thread.
    pub thread: u32,
    /// The moment of `CLOCK_MONOTONIC`, in nanoseconds.
    pub nanoseconds: u64,
    /// How many times the timer expired since the last sample of the thread: the sample stands for this number of periods.
    pub expirations: u32,
    /// Innermost first: the interrupted instruction, then return addresses.
    pub addresses: Vec<u64>,
}

/// A sampling of the processor time of threads of this process. It ends when it is dropped.
///
/// The handler of SIGPROF stays, and returns at once when no sampling exists. So a late signal does not end the process, as long
/// as no other code changes the action of SIGPROF, and started programs do not inherit that SIGPROF is ignored.
///
/// A child process that was forked during a sampling and goes on without exec cannot sample.
#[derive(Debug)]
pub struct SignalSampling {
    period: Duration,
    generation: u32,
    timers: HashMap<u32, Timer>,
    lost_before: u64,
}

impl SignalSampling {
    /// Starts a sampling. Each added thread is sampled once in each `period` of its processor time, which the kernel counts in
    /// ticks of 1 to 10 ms. With a period of zero, no sample is taken.
    ///
    /// # Errors
    ///
    /// Returns an error while another sampling is active, if SIGPROF has another handler, and if a system call is denied.
    pub fn start(period: Duration) -> Result<Self, StartError> {
        if IS_ACTIVE.swap(true, Acquire) {
            return Err(StartError::Active);
        }
        let generation = LAST_GENERATION.fetch_add(1, Relaxed).wrapping_add(1).max(1);
        // From here on, an early return drops `sampling`, which ends it.
        let mut sampling = Self {
            period,
            generation,
            timers: HashMap::new(),
            lost_before: RING.lost(),
        };
        let denied = |call| move |cause| StartError::Denied { call, cause };
        system::check_memory_is_readable().map_err(denied("process_vm_readv"))?;
        system::install_handler()?;
        let own = system::own_thread();
        if blocks_the_signal(own).is_ok_and(|is_blocked| is_blocked) {
            return Err(StartError::Blocked);
        }
        sampling
            .add(own)
            .map_err(denied("timer_create or timer_settime"))?;
        sampling.remove(own);
        // Discards samples that an earlier sampling left.
        sampling.read(|_| ());
        GENERATION.store(generation, Relaxed);
        Ok(sampling)
    }

    /// Samples a thread of this process from now on.
    ///
    /// # Errors
    ///
    /// Returns an error if the thread has ended, if it blocks SIGPROF, or if the user may have no more timers (`ulimit -i`).
    pub fn add(&mut self, thread: u32) -> io::Result<()> {
        if blocks_the_signal(thread)? {
            return Err(io::Error::other("the thread blocks SIGPROF"));
        }
        let first = part(self.period, ADDED.fetch_add(1, Relaxed));
        let timer = Timer::start(thread, self.generation, first, self.period)?;
        self.timers.insert(thread, timer);
        Ok(())
    }

    /// Samples a thread no longer.
    pub fn remove(&mut self, thread: u32) {
        self.timers.remove(&thread);
    }

    /// Samples no thread any more. What was sampled can still be read.
    pub fn end(&mut self) {
        self.timers.clear();
    }

    /// Passes on the samples since the last call, in the order in which they were taken. Call it often: the ring has room for
    /// 512.
    pub fn read(&mut self, f: impl FnMut(Sample)) {
        RING.read(f);
    }

    /// How many samples were lost, because the ring was full or too many threads wrote to it at once.
    pub fn lost(&self) -> u64 {
        RING.lost().saturating_sub(self.lost_before)
    }
}

/// A part of a period, until the first sample of a thread. Otherwise a thread that runs for less than a period had no sample,
/// however many of them there are. Successive numbers spread evenly over the period, by the golden ratio.
fn part(period: Duration, number: u32) -> Duration {
    let parts = number.wrapping_mul(0x9E37_79B9);
    let nanoseconds = period.as_nanos().saturating_mul(u128::from(parts));
    let nanoseconds = u64::try_from(nanoseconds.wrapping_shr(u32::BITS)).unwrap_or(u64::MAX);
    // A first expiration of zero would disarm the timer.
    Duration::from_nanos(nanoseconds).max(Duration::from_nanos(1).min(period))
}

/// Whether the signal mask of a thread contains SIGPROF. The signal would stay pending, and its thread have no samples.
fn blocks_the_signal(thread: u32) -> io::Result<bool> {
    let status = fs::read(format!("/proc/self/task/{thread}/status"))?;
    // The thread's name is cut to 15 bytes, perhaps within a letter.
    let status = String::from_utf8_lossy(&status);
    let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = 1_u64.wrapping_shl(libc::SIGPROF.unsigned_abs().saturating_sub(1));
    Ok(mask.is_some_and(|mask| mask & bit != 0))
}

impl Drop for SignalSampling {
    fn drop(&mut self) {
        self.timers.clear();
        GENERATION.store(0, Relaxed);
        IS_ACTIVE.store(false, Release);
    }
}

#[cfg(test)]
mod tests;
