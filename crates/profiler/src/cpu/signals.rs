//! Samples by signals: a timer of each thread's processor time interrupts it.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::{io, time::Duration};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use vitals_signal_sampler::SignalSampling;

use super::sampler::ThreadSampler;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::{ProfileMethod, cpu::sampler::Sample};

/// The most samples in each second of a thread's processor time. The kernel looks at the timers in its ticks, of which some
/// systems have 100 in a second. Before Linux 4.19, a `fork` that takes longer than a period begins anew until the profile ends.
pub(super) const MOST_HERTZ: u32 = 100;

/// Prepares the sampling of threads by signals.
///
/// # Errors
///
/// Returns why the system does not allow it.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) fn start(hertz: u32) -> Result<Box<dyn ThreadSampler>, String> {
    let taken = hertz.clamp(1, MOST_HERTZ);
    let period = Duration::from_secs(1) / taken;
    match SignalSampling::start(period) {
        Ok(sampling) => Ok(Box::new(Signals {
            sampling,
            period,
            note: note(hertz, taken),
        })),
        Err(error) => Err(format!(
            "Signals cannot sample the processor time: {error}."
        )),
    }
}

/// Prepares nothing: signals are for other processors.
///
/// # Errors
///
/// Always.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) fn start(_hertz: u32) -> Result<Box<dyn ThreadSampler>, String> {
    Err("Signals sample the processor time on x86-64 and aarch64 only.".to_owned())
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct Signals {
    sampling: SignalSampling,
    period: Duration,
    note: Option<String>,
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

    fn note(&self) -> Option<String> {
        self.note.clone()
    }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
fn note(wanted: u32, taken: u32) -> Option<String> {
    (taken < wanted).then(|| {
        format!(
            "Sampled {taken} times in a second of processor time instead of {wanted}: more is for perf events."
        )
    })
}
