//! Samples from the kernel (`perf_event_open`): it follows the frame pointers of a thread itself, and writes to a ring buffer.

use std::{collections::HashMap, io};

use perf_event::{Builder, Clock, SampleFlag, Sampler, events::Software};

use super::{
    denial,
    sampler::{Sample, ThreadSampler},
};
use crate::ProfileMethod;

/// The size of a thread's ring buffer, in bytes. A sample has at most about 1 KiB.
const RING_BYTES: usize = 32 * 1024;

/// The most frames of a sample: the default of `kernel.perf_event_max_stack`.
const MOST_FRAMES: u16 = 127;

/// `PERF_RECORD_LOST` and `PERF_RECORD_SAMPLE`.
const LOST: u32 = 2;
const SAMPLE: u32 = 9;

/// Addresses from here on are markers, such as `PERF_CONTEXT_USER`.
const FIRST_MARKER: u64 = u64::MAX - 4094;

/// The samplers of the threads.
struct PerfEvents {
    hertz: u32,
    /// Whether time in the kernel is sampled, with the stack of the program that called it.
    with_kernel: bool,
    samplers: HashMap<u32, Sampler>,
    lost: u64,
}

/// Prepares the sampling of threads by perf events.
///
/// # Errors
///
/// Returns what is missing and how to allow it.
pub(super) fn start(hertz: u32) -> Result<Box<dyn ThreadSampler>, String> {
    match PerfEvents::start(hertz) {
        Ok(events) => Ok(Box::new(events)),
        Err(error) => Err(denial::of(&error)),
    }
}

impl PerfEvents {
    fn start(hertz: u32) -> io::Result<Self> {
        let mut events = Self {
            hertz,
            with_kernel: true,
            samplers: HashMap::new(),
            lost: 0,
        };
        // The thread itself, to know what the kernel allows.
        if events.open(0).is_err() {
            events.with_kernel = false;
            events.open(0)?;
        }
        Ok(events)
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
}

impl ThreadSampler for PerfEvents {
    fn method(&self) -> ProfileMethod {
        ProfileMethod::PerfEvents
    }

    fn period(&self) -> u64 {
        1_000_000_000 / u64::from(self.hertz.max(1))
    }

    fn add(&mut self, thread: u32) -> io::Result<()> {
        let sampler = self.open(thread)?;
        self.samplers.insert(thread, sampler);
        Ok(())
    }

    fn remove(&mut self, thread: u32) {
        self.samplers.remove(&thread);
    }

    fn read(&mut self, f: &mut dyn FnMut(Sample)) {
        for sampler in self.samplers.values_mut() {
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

    fn end(&mut self) {
        for sampler in self.samplers.values_mut() {
            // A thread that has ended has no sampling to end.
            drop(sampler.disable());
        }
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn note(&self) -> Option<String> {
        let note = "Without the time in the kernel: kernel.perf_event_paranoid=1 or the capability CAP_PERFMON would show it.";
        (!self.with_kernel).then(|| note.to_owned())
    }
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
        periods: 1,
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
            periods: 1,
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
}
