//! The public REST API: its routes, and what they have in common.
//!
//! The items' handlers are in `data`; how requests are read in `body`, `page` and `item_id`; what makes an item valid
//! in `item` and `email`; which error is told how in `problem`. It knows no SQL.

mod body;
mod data;
mod email;
mod greeting;
mod item;
mod item_id;
mod page;
mod problem;

use actix_web::web::{self, ServiceConfig};

use crate::service::store::Store;

pub(super) use self::problem::no_route;

/// What the API needs to know of the service around it.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where the items are.
    pub store: Store,
    /// Largest request body, in bytes.
    pub body_limit: usize,
    /// How deep the arrays and objects of a request's JSON may be nested.
    pub json_depth: usize,
    /// The operators' endpoints on the same listener, for the greeting to link to.
    pub operations: &'static [&'static str],
}

impl Api {
    /// Adds every route of the API, and the answer to requests that have none.
    pub fn configure(&self, routes: &mut ServiceConfig) {
        routes
            .app_data(web::Data::new(self.store.clone()))
            .app_data(body::BodyLimits {
                bytes: self.body_limit,
                depth: self.json_depth,
            })
            .app_data(greeting::Links::new(self.operations))
            .configure(greeting::configure)
            .configure(data::configure)
            .default_service(web::to(no_route));
    }
}

#[cfg(test)]
mod tests;
