//! Samples by signals, where the kernel forbids perf events.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::{io, time::Duration};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use vitals_signal_sampler::{SignalSampling, StartError};

use super::sampler::ThreadSampler;
use crate::ProfileError;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::{ProfileMethod, cpu::sampler::Sample};

/// The most samples in each second of a thread's processor time. Before Linux 4.19, a `fork` that takes longer than a period
/// begins anew until the profile ends.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
const MOST_HERTZ: u32 = 100;

/// Prepares the sampling of threads by signals. `denial` is why there are no perf events.
///
/// # Errors
///
/// Returns [`ProfileError::Denied`] if the system does not allow these either.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn start(hertz: u32, denial: &str) -> Result<Box<dyn ThreadSampler>, ProfileError> {
    let taken = hertz.clamp(1, MOST_HERTZ);
    let period = Duration::from_secs(1) / taken;
    match SignalSampling::start(period) {
        Ok(sampling) => Ok(Box::new(Signals {
            sampling,
            period,
            notes: notes(hertz, taken, denial),
        })),
        Err(error) => Err(ProfileError::Denied(neither(denial, &error))),
    }
}

/// Prepares nothing: signals are for other processors.
///
/// # Errors
///
/// Always.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn start(_hertz: u32, denial: &str) -> Result<Box<dyn ThreadSampler>, ProfileError> {
    Err(ProfileError::Denied(denial.to_owned()))
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct Signals {
    sampling: SignalSampling,
    period: Duration,
    notes: Vec<String>,
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl ThreadSampler for Signals {
    fn method(&self) -> ProfileMethod {
        ProfileMethod::Signals
    }

    fn period(&self) -> u64 {
        u64::try_from(self.period.as_nanos()).unwrap_or(u64::MAX)
    }

    fn add(&mut self, thread: u32) -> io::Result<()> {
        self.sampling.add(thread)
    }

    fn remove(&mut self, thread: u32) {
        self.sampling.remove(thread);
    }

    fn read(&mut self, f: &mut dyn FnMut(Sample)) {
        self.sampling.read(|sample| {
            f(Sample {
                thread: sample.thread,
                nanoseconds: sample.nanoseconds,
                periods: sample.expirations,
                addresses: sample.addresses,
            });
        });
    }

    fn end(&mut self) {
        self.sampling.end();
    }

    fn lost(&self) -> u64 {
        self.sampling.lost()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn notes(wanted: u32, taken: u32, denial: &str) -> Vec<String> {
    let mut notes = vec![format!("Sampled by signals. {denial}")];
    if taken < wanted {
        notes.push(format!(
            "Sampled {taken} times in a second of processor time instead of {wanted}: more is for perf events."
        ));
    }
    notes
}

/// What is missing for both ways.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn neither(denial: &str, error: &StartError) -> String {
    format!("{denial} Signals cannot sample the processor time either: {error}.")
}

#[cfg(all(test, any(target_arch = "x86_64", target_arch = "aarch64")))]
mod tests {
    use super::*;

    #[test]
    fn the_notes_and_the_error_say_why_there_are_no_perf_events() {
        let denial = "The kernel forbids it. Allow it.";
        assert_eq!(
            notes(99, 99, denial),
            ["Sampled by signals. The kernel forbids it. Allow it."]
        );
        assert!(notes(999, 100, denial)[1].contains("100 times"));
        let cause = io::Error::from_raw_os_error(1);
        let call = "process_vm_readv";
        let neither = neither(denial, &StartError::Denied { call, cause });
        for part in [denial, "either: process_vm_readv fails: "] {
            assert!(neither.contains(part), "{neither}");
        }
    }
}
