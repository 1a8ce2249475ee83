//! The threads of this process that are sampled, by signals or by perf events.

use std::{
    collections::{HashMap, HashSet},
    fs, io,
    path::Path,
};

use super::{perf_events, signals};
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
    fn note(&self) -> Option<String>;
}

/// Samples all threads of this process but one.
pub(super) struct Sampling {
    sampler: Box<dyn ThreadSampler>,
    threads: HashMap<u32, SampledThread>,
    own: u32,
    /// The threads that the sampler rejected. They are tried again: a thread that starts blocks all signals for a moment.
    rejected: HashSet<u32>,
    /// Whether there were more threads than are sampled.
    has_more_threads: bool,
    /// Why the preferred way was refused.
    refusal: Option<String>,
}

/// One thread of this process.
struct SampledThread {
    has_ended: bool,
}

impl Sampling {
    /// Starts to sample all threads but the calling one: by signals, which cost less, up to the frequency that they can have, and
    /// by perf events beyond it. If the system refuses one way, the other is taken.
    ///
    /// # Errors
    ///
    /// Returns [`ProfileError::Denied`] if the system allows neither.
    pub(super) fn start(hertz: u32) -> Result<Self, ProfileError> {
        let mut ways = [signals::start, perf_events::start];
        if hertz > signals::MOST_HERTZ {
            ways.reverse();
        }
        let [preferred, other] = ways;
        let refusal = match preferred(hertz) {
            Ok(sampler) => return Ok(Self::of(sampler, None)),
            Err(refusal) => refusal,
        };
        match other(hertz) {
            Ok(sampler) => Ok(Self::of(sampler, Some(refusal))),
            Err(further) => Err(ProfileError::Denied(format!("{refusal} {further}"))),
        }
    }

    pub(super) fn of(sampler: Box<dyn ThreadSampler>, refusal: Option<String>) -> Self {
        let mut sampling = Self {
            sampler,
            threads: HashMap::new(),
            own: own_thread().unwrap_or(0),
            rejected: HashSet::new(),
            has_more_threads: false,
            refusal,
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
        self.rejected.retain(|id| present.contains(id));
        for thread in present {
            if thread == self.own || self.threads.contains_key(&thread) {
                continue;
            }
            self.has_more_threads |= self.threads.len() >= MOST_THREADS;
            if self.threads.len() >= MOST_THREADS {
                continue;
            }
            if self.sampler.add(thread).is_ok() {
                let has_ended = false;
                self.threads.insert(thread, SampledThread { has_ended });
                self.rejected.remove(&thread);
            } else if Path::new(&format!("/proc/self/task/{thread}")).exists() {
                // A thread that has ended meanwhile had nothing to sample.
                self.rejected.insert(thread);
            }
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
        let mut notes: Vec<_> = self.refusal.clone().into_iter().collect();
        notes.extend(self.sampler.note());
        let lost = self.sampler.lost();
        if lost > 0 {
            notes.push(format!("{lost} samples were lost."));
        }
        if self.has_more_threads {
            notes.push(format!(
                "At most {MOST_THREADS} threads are sampled at once; the process has more."
            ));
        }
        if !self.rejected.is_empty() {
            notes.push(format!(
                "Threads that could not be sampled: {}. They block SIGPROF, as jemalloc's own thread does, or the limit of open files, of locked memory or of pending signals is too low.",
                self.rejected.len()
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
    use std::{sync::mpsc, thread};

    use super::*;

    /// Rejects one thread for a while.
    struct Rejecting {
        thread: u32,
        times: usize,
    }

    impl ThreadSampler for Rejecting {
        fn method(&self) -> ProfileMethod {
            ProfileMethod::Signals
        }

        fn period(&self) -> u64 {
            1
        }

        fn add(&mut self, thread: u32) -> io::Result<()> {
            if thread == self.thread && self.times > 0 {
                self.times -= 1;
                return Err(io::Error::other("rejected"));
            }
            Ok(())
        }

        fn remove(&mut self, _: u32) {}

        fn read(&mut self, _: &mut dyn FnMut(Sample)) {}

        fn end(&mut self) {}

        fn lost(&self) -> u64 {
            0
        }

        fn note(&self) -> Option<String> {
            None
        }
    }

    #[test]
    fn a_thread_that_is_rejected_is_tried_again() {
        let (end, ended) = mpsc::channel::<()>();
        let (sender, id) = mpsc::channel();
        let waiting = thread::spawn(move || {
            sender.send(own_thread().unwrap()).unwrap();
            ended.recv()
        });
        let thread = id.recv().unwrap();
        let mut sampling = Sampling::of(Box::new(Rejecting { thread, times: 2 }), None);
        for has_note in [true, true, false] {
            let notes = sampling.notes();
            assert_eq!(!notes.is_empty(), has_note, "{notes:?}");
            sampling.add_new_threads();
        }
        drop(end);
        assert!(waiting.join().unwrap().is_err());
    }

    #[test]
    fn a_process_with_more_threads_than_are_sampled_is_said_to_have_them() {
        let nobody = Rejecting {
            thread: 0,
            times: 0,
        };
        let mut sampling = Sampling::of(Box::new(nobody), None);
        assert_eq!(sampling.notes(), [""; 0]);
        let has_ended = false;
        // No thread has a number of this size.
        let others = (0..MOST_THREADS).map(|id| {
            (
                u32::MAX - u32::try_from(id).unwrap(),
                SampledThread { has_ended },
            )
        });
        sampling.threads = others.collect();
        sampling.add_new_threads();
        let notes = sampling.notes();
        assert!(notes.len() == 1 && notes[0].contains("1000"), "{notes:?}");
    }

    #[test]
    fn the_own_thread_is_among_the_threads() {
        assert!(threads().contains(&own_thread().unwrap()));
    }
}
