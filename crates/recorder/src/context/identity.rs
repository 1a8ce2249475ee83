//! The identity of a context, by which a caller is recognised without a share of its context.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use super::{RequestContext, with_context};

/// The identity of a context, or of none. While a context exists, no other one has its identity.
#[derive(Debug, Default)]
pub(crate) struct ContextIdentity(AtomicUsize);

fn of(context: Option<&Arc<RequestContext>>) -> usize {
    context.map_or(0, |context| Arc::as_ptr(context).addr())
}

impl ContextIdentity {
    /// Stores the identity of a context.
    pub(crate) fn store(&self, context: Option<&Arc<RequestContext>>) {
        self.0.store(of(context), Relaxed);
    }

    /// Whether this thread works for the stored context, or for none if none is stored.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        with_context(|context| self.0.load(Relaxed) == of(context))
    }
}
