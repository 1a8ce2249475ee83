//! The instrumentation of the application, to which a recorder forwards every event.

use std::fmt;

use diesel::connection::{Instrumentation, InstrumentationEvent};

/// The instrumentation of the application, if there is one.
#[derive(Default)]
pub(super) struct Forward(Option<Box<dyn Instrumentation>>);

impl Forward {
    /// Forwards events to this instrumentation.
    pub(super) fn to(instrumentation: Option<Box<dyn Instrumentation>>) -> Self {
        Self(instrumentation)
    }

    /// Whether the application has an instrumentation.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        self.0.is_some()
    }

    /// Forwards an event.
    #[inline]
    pub(super) fn hand_on(&mut self, event: InstrumentationEvent<'_>) {
        if let Some(instrumentation) = &mut self.0 {
            instrumentation.on_connection_event(event);
        }
    }
}

impl fmt::Debug for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Forward").field(&self.is_set()).finish()
    }
}
