//! The service compiled anew, against what everybody sees of the library and nothing else: that this compiles is the test.
//! A way from the service into the recorders' internals would be an error here.

#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    missing_docs,
    reason = "the service is looked at for what it names, and not run"
)]

/// What the service knows of the library's registry by these paths.
mod registry {
    pub(crate) use actix_vitals::registry::*;
}

/// What the service knows of its recorders.
mod vitals {
    pub(crate) use actix_vitals::vitals::*;
}

// Its own tests may look behind the face.
#[cfg(not(test))]
#[path = "../../src"]
mod source {
    pub(crate) mod service;
}

#[cfg(not(test))]
use source::service;

fn main() {}
