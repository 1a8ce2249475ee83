//! The owner of some work: the request or job that it is for, as numbers that atomics can hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use super::{RequestContext, with_context, with_known};
use crate::{
    database::HeldSeconds,
    in_flight::{SlotHandle, method_name, method_word},
    jobs, name_numbers,
};

/// The method word of jobs.
const JOB: u64 = method_word(jobs::METHOD);
/// The method word of a request that is not listed among those in flight.
const UNLISTED: u64 = method_word("other");

/// The request or job that some work is for. The default is work outside of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkOwner {
    /// The word of the request's method, or that of jobs; 0 outside of both.
    pub(crate) method: u64,
    /// The number of the endpoint or of the job's name; 0 if it is not known.
    pub(crate) name: u32,
    /// The upper and the lower half of the trace's id; 0 without one.
    pub(crate) trace_id: [u64; 2],
}

/// The atomics that hold a [`WorkOwner`].
#[derive(Debug, Default)]
pub(crate) struct OwnerCell {
    method: AtomicU64,
    name: AtomicU32,
    trace_id: [AtomicU64; 2],
}

impl OwnerCell {
    #[inline]
    pub(crate) fn store(&self, owner: WorkOwner) {
        self.method.store(owner.method, Relaxed);
        self.name.store(owner.name, Relaxed);
        for (half, value) in self.trace_id.iter().zip(owner.trace_id) {
            half.store(value, Relaxed);
        }
    }

    /// Reads the owner. The caller detects whether it was replaced meanwhile.
    pub(crate) fn load(&self) -> WorkOwner {
        WorkOwner {
            method: self.method.load(Relaxed),
            name: self.name.load(Relaxed),
            trace_id: [0, 1].map(|half: usize| self.trace_id[half].load(Relaxed)),
        }
    }
}

/// What kind of work something is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// A request.
    Request,
    /// A background job.
    Job,
    /// Neither of the two.
    Outside,
}

impl OwnerKind {
    /// Its name in reports.
    pub fn label(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Job => "job",
            Self::Outside => "outside",
        }
    }
}

/// The request or job that some work is for, to be reported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Whether it is a request, a job or neither.
    pub kind: OwnerKind,
    /// The value of the label `method`. `None` unless it is a request.
    pub method: Option<&'static str>,
    /// The value of the label `endpoint`, or the job's name. `None` if it is not known.
    pub name: Option<Arc<str>>,
    /// The id of the request's trace, if it has one.
    pub trace_id: Option<u128>,
}

impl From<WorkOwner> for Owner {
    fn from(owner: WorkOwner) -> Self {
        let kind = match owner.method {
            0 => OwnerKind::Outside,
            JOB => OwnerKind::Job,
            _ => OwnerKind::Request,
        };
        let [upper, lower] = owner.trace_id.map(u128::from);
        let trace_id = upper << 64 | lower;
        Self {
            kind,
            method: (kind == OwnerKind::Request).then(|| method_name(owner.method)),
            name: name_numbers::name_of(owner.name),
            trace_id: (trace_id != 0).then_some(trace_id),
        }
    }
}

/// Returns the owner of what this thread does.
#[inline]
pub(crate) fn current_owner() -> WorkOwner {
    with_known(|is_some, context| {
        if !is_some {
            return WorkOwner::default();
        }
        let listed = context.and_then(RequestContext::in_flight);
        let listed = listed.and_then(SlotHandle::owner);
        listed.unwrap_or_else(|| match context.map_or(0, RequestContext::job) {
            0 => WorkOwner {
                method: UNLISTED,
                ..WorkOwner::default()
            },
            name => WorkOwner {
                method: JOB,
                name,
                ..WorkOwner::default()
            },
        })
    })
}

/// Adds the time for which this owner held a connection to its tally. Returns false if this thread works for another owner
/// or for none, or if the owner's tally is closed.
#[inline]
pub(crate) fn add_held(owner: WorkOwner, pool: &Arc<HeldSeconds>, held: Duration) -> bool {
    current_owner() == owner
        && with_context(|context| {
            context.is_some_and(|context| RequestContext::add_held(context, pool, held))
        })
}
