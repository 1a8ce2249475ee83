//! The `actix-vitals` binary: settings in, server out.

fn main() {}
