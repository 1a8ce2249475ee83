//! Performance monitoring built into an Actix-web and Diesel service.

pub mod registry;
pub mod service;
pub mod vitals;
