//! The samplers of all threads, and the samples in their ring buffers.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

use perf_event::{Builder, Clock, SampleFlag, Sampler, events::Software};

use super::denial;
use crate::ProfileError;

/// The size of a thread's ring buffer, in bytes. A sample has at most about 1 KiB.
const RING_BYTES: usize = 32 * 1024;

/// The most frames of a sample: the default of `kernel.perf_event_max_stack`.
const MOST_FRAMES: u16 = 127;

/// The most threads that are sampled.
const MOST_THREADS: usize = 1_000;

/// `PERF_RECORD_LOST` and `PERF_RECORD_SAMPLE`.
const LOST: u32 = 2;
const SAMPLE: u32 = 9;

/// Addresses from here on are markers, such as `PERF_CONTEXT_USER`.
const FIRST_MARKER: u64 = u64::MAX - 4094;

/// A sample of one thread.
#[derive(Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) thread: u32,
    /// The moment of `CLOCK_MONOTONIC`.
    pub(super) nanoseconds: u64,
    /// The innermost first.
    pub(super) addresses: Vec<u64>,
}

/// One thread of this process.
struct SampledThread {
    /// `None` if it cannot be sampled.
    sampler: Option<Sampler>,
    has_ended: bool,
}

/// The samplers of all threads of this process.
pub(super) struct Sampling {
    hertz: u32,
    /// Whether time in the kernel is sampled, with the stack of the program that called it.
    with_kernel: bool,
    threads: HashMap<u32, SampledThread>,
    own: u32,
    lost: u64,
    unsampled: usize,
}

impl Sampling {
    /// Starts to sample all threads but the calling one.
    pub(super) fn start(hertz: u32) -> Result<Self, ProfileError> {
        let mut sampling = Self {
            hertz,
            with_kernel: true,
            threads: HashMap::new(),
            own: own_thread().unwrap_or(0),
            lost: 0,
            unsampled: 0,
        };
        // The thread itself, to know what the kernel allows.
        if sampling.open(0).is_err() {
            sampling.with_kernel = false;
            sampling.open(0).map_err(|error| denial::of(&error))?;
        }
        sampling.add_new_threads();
        Ok(sampling)
    }

    /// Nanoseconds of processor time between two samples.
    pub(super) fn period(&self) -> u64 {
        1_000_000_000 / u64::from(self.hertz.max(1))
    }

    fn open(&self, thread: u32) -> io::Result<Sampler> {
        let mut builder = Builder::new(Software::TASK_CLOCK);
        builder
            .any_cpu()
            .sample_period(self.period())
            .sample(SampleFlag::TID | SampleFlag::TIME | SampleFlag::CALLCHAIN)
            .clockid(Clock::MONOTONIC)
            .exclude_kernel(!self.with_kernel)
            .exclude_callchain_kernel(true)
            .sample_max_stack(MOST_FRAMES);
        if let Some(thread) = i32::try_from(thread).ok().filter(|thread| *thread > 0) {
            builder.observe_pid(thread);
        }
        let mut sampler = builder.build()?.sampled(RING_BYTES)?;
        sampler.enable()?;
        Ok(sampler)
    }

    /// Starts to sample the threads that are new. Forgets those that had ended at the last call: their samples were read
    /// since.
    pub(super) fn add_new_threads(&mut self) {
        let present = threads();
        self.threads.retain(|_, thread| !thread.has_ended);
        for (id, thread) in &mut self.threads {
            thread.has_ended = !present.contains(id);
        }
        for thread in present {
            if thread == self.own || self.threads.contains_key(&thread) {
                continue;
            }
            let sampler = if self.threads.len() < MOST_THREADS {
                self.open(thread).ok()
            } else {
                None
            };
            // A thread that has ended meanwhile had nothing to sample.
            if sampler.is_none() && Path::new(&format!("/proc/self/task/{thread}")).exists() {
                self.unsampled += 1;
            }
            let has_ended = false;
            self.threads
                .insert(thread, SampledThread { sampler, has_ended });
        }
    }

    /// Passes on all samples that were taken since the last call.
    pub(super) fn read(&mut self, mut f: impl FnMut(Sample)) {
        let threads = self.threads.values_mut();
        for sampler in threads.filter_map(|thread| thread.sampler.as_mut()) {
            while let Some(record) = sampler.next_record() {
                match record.ty() {
                    SAMPLE => {
                        if let Some(sample) = parse_sample(&record.to_contiguous()) {
                            f(sample);
                        }
                    }
                    LOST => self.lost += parse_lost(&record.to_contiguous()).unwrap_or(0),
                    _ => {}
                }
            }
        }
    }

    /// Ends the sampling. What was sampled can still be read.
    pub(super) fn end(&mut self) {
        let threads = self.threads.values_mut();
        for sampler in threads.filter_map(|thread| thread.sampler.as_mut()) {
            // A thread that has ended has no sampling to end.
            drop(sampler.disable());
        }
    }

    /// What limits the profile.
    pub(super) fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.with_kernel {
            notes.push(
                "Without the time in the kernel: kernel.perf_event_paranoid=1 or the capability CAP_PERFMON would show it."
                    .to_owned(),
            );
        }
        if self.lost > 0 {
            notes.push(format!("{} samples were lost.", self.lost));
        }
        if self.unsampled > 0 {
            notes.push(format!(
                "{} threads could not be sampled: the limits of open files or of locked memory may be too low.",
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

/// Parses the fields of `PERF_SAMPLE_TID`, `PERF_SAMPLE_TIME` and `PERF_SAMPLE_CALLCHAIN`.
fn parse_sample(record: &[u8]) -> Option<Sample> {
    let (ids, rest) = record.split_at_checked(8)?;
    let (time, rest) = rest.split_at_checked(8)?;
    let (length, rest) = rest.split_at_checked(8)?;
    let length = usize::try_from(word(length)?).ok()?;
    let chain = rest.get(..length.checked_mul(8)?)?;
    let addresses = chain.chunks_exact(8).filter_map(word);
    Some(Sample {
        thread: u32::from_ne_bytes(ids[4..].try_into().ok()?),
        nanoseconds: word(time)?,
        addresses: addresses
            .filter(|address| *address < FIRST_MARKER)
            .collect(),
    })
}

/// Parses the number of lost samples.
fn parse_lost(record: &[u8]) -> Option<u64> {
    word(record.get(8..16)?)
}

fn word(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_parsed_without_the_markers() {
        let words = [
            u64::from(41_u32) | u64::from(42_u32) << 32,
            1_234,
            4,
            u64::MAX - 511,
            0x1000,
            0x2000,
            0x3000,
        ];
        let mut record: Vec<_> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let sample = Sample {
            thread: 42,
            nanoseconds: 1_234,
            addresses: vec![0x1000, 0x2000, 0x3000],
        };
        assert_eq!(parse_sample(&record), Some(sample));
        record.pop();
        assert_eq!(parse_sample(&record), None, "it is cut");
        let lost: Vec<_> = [7_u64, 3]
            .iter()
            .flat_map(|word| word.to_ne_bytes())
            .collect();
        assert_eq!(parse_lost(&lost), Some(3));
    }

    #[test]
    fn the_own_thread_is_among_the_threads() {
        assert!(threads().contains(&own_thread().unwrap()));
    }
}
