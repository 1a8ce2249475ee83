//! The threads of this process that are sampled, by perf events or by signals.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

use super::{denial, perf_events::PerfEvents, signals};
use crate::{ProfileError, ProfileMethod};

/// The most threads that are sampled.
const MOST_THREADS: usize = 1_000;

/// A sample of one thread.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) thread: u32,
    /// The moment of `CLOCK_MONOTONIC`.
    pub(super) nanoseconds: u64,
    /// How many periods of processor time it stands for.
    pub(super) periods: u32,
    /// The innermost first.
    pub(super) addresses: Vec<u64>,
}

/// A way to sample threads.
pub(super) trait ThreadSampler {
    fn method(&self) -> ProfileMethod;

    /// Nanoseconds of processor time between two samples.
    fn period(&self) -> u64;

    /// Samples a thread from now on.
    fn add(&mut self, thread: u32) -> io::Result<()>;

    /// Samples a thread no longer.
    fn remove(&mut self, thread: u32);

    /// Passes on all samples that were taken since the last call. Those of one thread are in order.
    fn read(&mut self, f: &mut dyn FnMut(Sample));

    /// Ends the sampling. What was sampled can still be read.
    fn end(&mut self);

    /// How many samples were lost.
    fn lost(&self) -> u64;

    /// What limits the profile.
    fn notes(&self) -> Vec<String>;
}

/// Samples all threads of this process but one.
pub(super) struct Sampling {
    sampler: Box<dyn ThreadSampler>,
    threads: HashMap<u32, SampledThread>,
    own: u32,
    unsampled: usize,
}

/// One thread of this process.
struct SampledThread {
    has_ended: bool,
}

impl Sampling {
    /// Starts to sample all threads but the calling one: by perf events, or else by signals.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError::Denied`] if the system allows neither.
    pub(super) fn start(hertz: u32) -> Result<Self, ProfileError> {
        let sampler: Box<dyn ThreadSampler> = match PerfEvents::start(hertz) {
            Ok(events) => Box::new(events),
            Err(error) => signals::start(hertz, &denial::of(&error))?,
        };
        Ok(Self::of(sampler))
    }

    pub(super) fn of(sampler: Box<dyn ThreadSampler>) -> Self {
        let mut sampling = Self {
            sampler,
            threads: HashMap::new(),
            own: own_thread().unwrap_or(0),
            unsampled: 0,
        };
        sampling.add_new_threads();
        sampling
    }

    pub(super) fn method(&self) -> ProfileMethod {
        self.sampler.method()
    }

    /// Nanoseconds of processor time between two samples.
    pub(super) fn period(&self) -> u64 {
        self.sampler.period()
    }

    /// Starts to sample the threads that are new. Forgets those that had ended at the last call: their samples were read
    /// since.
    pub(super) fn add_new_threads(&mut self) {
        let present = threads();
        let sampler = &mut self.sampler;
        self.threads.retain(|id, thread| {
            if thread.has_ended {
                sampler.remove(*id);
            }
            !thread.has_ended
        });
        for (id, thread) in &mut self.threads {
            thread.has_ended = !present.contains(id);
        }
        for thread in present {
            if thread == self.own || self.threads.contains_key(&thread) {
                continue;
            }
            let is_sampled = self.threads.len() < MOST_THREADS && self.sampler.add(thread).is_ok();
            // A thread that has ended meanwhile had nothing to sample.
            if !is_sampled && Path::new(&format!("/proc/self/task/{thread}")).exists() {
                self.unsampled += 1;
            }
            let has_ended = false;
            self.threads.insert(thread, SampledThread { has_ended });
        }
    }

    /// Passes on all samples that were taken since the last call.
    pub(super) fn read(&mut self, mut f: impl FnMut(Sample)) {
        self.sampler.read(&mut f);
    }

    /// Ends the sampling. What was sampled can still be read.
    pub(super) fn end(&mut self) {
        self.sampler.end();
    }

    /// What limits the profile.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = self.sampler.notes();
        let lost = self.sampler.lost();
        if lost > 0 {
            notes.push(format!("{lost} samples were lost."));
        }
        if self.unsampled > 0 {
            notes.push(format!(
                "Threads that could not be sampled: {}. They block SIGPROF, or the limit of open files, of locked memory or of pending signals is too low.",
                self.unsampled
            ));
        }
        notes
    }
}

/// The ids of all threads of this process.
fn threads() -> HashSet<u32> {
    let entries = fs::read_dir("/proc/self/task").into_iter().flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

/// The id of the calling thread.
fn own_thread() -> Option<u32> {
    let link = fs::read_link("/proc/thread-self").ok()?;
    link.file_name()?.to_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_thread_is_among_the_threads() {
        assert!(threads().contains(&own_thread().unwrap()));
    }
}
