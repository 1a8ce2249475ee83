//! What the tests of contexts share, here and elsewhere in the crate.

use std::{sync::Arc, time::Duration};

use vitals_registry::SpanContext;

use super::{Attribution, QueryEnd, RequestContext, nanoseconds, note_query_end};
use crate::clock;

/// Adds a query that ends now.
pub(crate) fn add_query(elapsed: Duration) -> Attribution {
    let now = clock::now();
    let end = QueryEnd {
        started: now.before(elapsed),
        at: now,
        own: nanoseconds(elapsed),
        shape: None,
        in_transaction: false,
    };
    let (attribution, _) = note_query_end(&end, u32::MAX);
    attribution
}

/// Returns the context of a request that is part of a sampled trace.
pub(crate) fn of_span(span: SpanContext) -> Arc<RequestContext> {
    let mut context = Arc::default();
    RequestContext::set_span(&mut context, span);
    context
}

/// Runs a query when it is dropped.
pub(crate) struct QueryOnDrop;

impl Drop for QueryOnDrop {
    fn drop(&mut self) {
        add_query(Duration::from_millis(1));
    }
}
