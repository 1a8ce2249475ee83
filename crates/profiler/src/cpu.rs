//! Processor profiles: the stacks of all threads are sampled for a time.
//!
//! A signal handler follows the frame pointers (`vitals-signal-sampler`), or the kernel does (`perf_event_open`), for more
//! samples in a second and where signals cannot be had. A broken stack crashes neither. A thread is sampled by the processor
//! time that it uses: one that waits costs nothing.

mod denial;
mod perf_events;
mod sampler;
mod signals;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use crate::{
    Profile, ProfileError, ProfileKind, Stack, WorkSource,
    profile::Stacks,
    symbols::{Address, Symbols},
};
use sampler::{Sample, Sampling};

/// How often the samples of all threads are read.
const READ_INTERVAL: Duration = Duration::from_millis(20);

/// How often new threads are looked for.
const SCAN_INTERVAL: Duration = Duration::from_millis(100);

/// The most different stacks of addresses in memory.
const MOST_STACKS: usize = 20_000;

/// The endpoint, and the addresses with the innermost first.
type RawStack = (Option<Arc<str>>, Vec<u64>);

/// Samples the processor time of all threads for `time`, at `hertz` samples in each second of processor time. Blocks until
/// then, or until `stop` is true. The calling thread itself is not sampled.
///
/// # Errors
///
/// Returns [`ProfileError::Denied`] if the system does not allow it, with what would allow it, and
/// [`ProfileError::Stopped`] if `stop` was set.
pub fn cpu_profile(
    time: Duration,
    hertz: u32,
    work: &mut dyn WorkSource,
    stop: &AtomicBool,
) -> Result<Profile, ProfileError> {
    let started = SystemTime::now();
    let began = Instant::now();
    let mut sampling = Sampling::start(hertz)?;
    let mut collected = Collected::default();
    let mut scanned = began;
    while began.elapsed() < time {
        if stop.load(Relaxed) {
            return Err(ProfileError::Stopped);
        }
        thread::sleep(READ_INTERVAL.min(time.saturating_sub(began.elapsed())));
        collected.read(&mut sampling, work);
        if scanned.elapsed() >= SCAN_INTERVAL {
            scanned = Instant::now();
            sampling.add_new_threads();
        }
    }
    let duration = began.elapsed();
    sampling.end();
    collected.read(&mut sampling, work);
    let notes = sampling.notes();
    let (method, period) = (sampling.method(), sampling.period());
    drop(sampling);
    let (frames, stacks) = collected.resolve(period);
    let mut profile = Profile {
        kind: ProfileKind::Cpu,
        method,
        started,
        duration,
        period,
        frames,
        stacks,
        notes,
    };
    profile.notes.extend(note_of_callers(&profile));
    Ok(profile)
}

/// The samples so far, by stack.
#[derive(Default)]
struct Collected {
    stacks: HashMap<RawStack, i64>,
    /// Samples beyond the most different stacks, which have no frames.
    others: i64,
}

impl Collected {
    /// Adds the samples that were taken since the last call.
    fn read(&mut self, sampling: &mut Sampling, work: &mut dyn WorkSource) {
        let mut samples = Vec::new();
        sampling.read(|sample| samples.push(sample));
        // After the samples: whatever a thread did before one of them is known.
        work.keep_up();
        for sample in samples {
            self.add(sample, work);
        }
    }

    fn add(&mut self, sample: Sample, work: &mut dyn WorkSource) {
        let endpoint = work.work_at(sample.thread, sample.nanoseconds);
        let key = (endpoint, sample.addresses);
        let periods = i64::from(sample.periods);
        if let Some(count) = self.stacks.get_mut(&key) {
            *count += periods;
        } else if self.stacks.len() < MOST_STACKS {
            self.stacks.insert(key, periods);
        } else {
            self.others += periods;
        }
    }

    /// Names the frames of all stacks.
    fn resolve(self, period: u64) -> (Vec<crate::Frame>, Vec<crate::Stack>) {
        let period = i64::try_from(period).unwrap_or(i64::MAX);
        let mut symbols = Symbols::new();
        let mut stacks = Stacks::default();
        for ((endpoint, addresses), count) in self.stacks {
            let addresses = addresses.iter().enumerate();
            let addresses = addresses.map(|(at, address)| match at {
                0 => Address::Instruction(*address),
                _ => Address::Return(*address),
            });
            let frames = symbols.frames(addresses, &mut stacks);
            stacks.add(endpoint, frames, count, count * period);
        }
        if self.others > 0 {
            stacks.add(None, Vec::new(), self.others, self.others * period);
        }
        stacks.finish()
    }
}

/// The outermost functions of Rust's threads, and of the main one.
const STARTS: [&str; 2] = ["__rust_begin_short_backtrace", "lang_start"];

/// The share of samples without a start, in percent, from which on callers are said to be missing.
const MOST_INCOMPLETE: i64 = 25;

/// The least number of samples that are judged.
const LEAST_SAMPLES: i64 = 20;

/// Says that nothing ran, or that many stacks do not reach the start of their thread.
fn note_of_callers(profile: &Profile) -> Option<String> {
    let count = profile.count();
    if count == 0 {
        return Some("Nothing ran: no thread used enough processor time for a sample.".to_owned());
    }
    let has_start = |stack: &&Stack| {
        let mut frames = profile.frames_of(stack);
        frames.any(|frame| STARTS.iter().any(|start| frame.function.contains(start)))
    };
    let complete = profile.stacks.iter().filter(has_start);
    let complete = complete.map(|stack| stack.count).sum::<i64>();
    let incomplete = 100 * (count - complete) / count;
    (count >= LEAST_SAMPLES && incomplete >= MOST_INCOMPLETE).then(|| {
        format!(
            "Callers are missing in {incomplete} % of the samples: the program, or a library, was built without frame pointers or \
             without symbols. RUSTFLAGS=\"-C force-frame-pointers=yes\" adds them."
        )
    })
}

#[cfg(test)]
mod tests;
