//! How the recorders of the database reach the request that a query is run for, without knowing what a request is.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use crate::registry::SpanContext;

/// The context of a request on its way to another thread; nothing, outside of any request.
pub type Carried = Option<Arc<dyn Any + Send + Sync>>;

/// What the recorders ask of whoever keeps the context of the current request. The default knows of no request.
#[derive(Clone, Copy)]
pub struct Hooks {
    /// The span of the request that this thread works for now: the exemplar of what is recorded. Called once per query, so
    /// it must be cheap.
    pub span: fn() -> Option<SpanContext>,
    /// The context to carry to the thread that runs the queries. Called on the worker.
    pub capture: fn() -> Carried,
    /// Runs the work, exactly once, with that context as the current one. Called on the blocking thread; leaves the thread
    /// without a context, even when the work panics.
    pub within: fn(Carried, &mut dyn FnMut()),
}

impl Default for Hooks {
    fn default() -> Self {
        Self {
            span: || None,
            capture: || None,
            within: |_, work| work(),
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").finish_non_exhaustive()
    }
}
