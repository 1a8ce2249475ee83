//! The public REST API: its routes, and what they have in common.
//!
//! The items' handlers are in `data`; how requests are read in `body`, `page` and `item_id`; how answers are kept within their memory in `answers`; what makes an item valid
//! in `item` and `email`; which error is told how in `problem`; the description of it all in `openapi`, and the page that
//! shows that in `docs`. It knows no SQL.

mod answers;
mod body;
mod data;
mod docs;
mod email;
mod greeting;
mod item;
mod item_id;
mod openapi;
mod page;
mod problem;

use actix_web::web::{self, ServiceConfig};

use crate::store::Store;
use actix_vitals::memory::AnswerMemory;

pub use self::body::BodyLimits;
pub use self::docs::Documentation;
pub use self::openapi::Listener;
pub(super) use self::openapi::patterns;
pub(super) use self::problem::no_route;

/// What the API needs to know of the service around it.
#[derive(Debug, Clone)]
pub struct Api {
    /// Where the items are.
    pub store: Store,
    /// How much the body of a request may hold.
    pub body_limits: BodyLimits,
    /// The memory for answers that wait for their clients.
    pub answer_memory: AnswerMemory,
    /// What is told of the API.
    pub documentation: Documentation,
    /// The operators' endpoints on the same listener, for the greeting to link to.
    pub operations: &'static [&'static str],
}

impl Api {
    /// Adds every route of the API, and the answer to requests that have none.
    pub fn configure(&self, routes: &mut ServiceConfig) {
        routes
            .app_data(web::Data::new(self.store.clone()))
            .app_data(self.body_limits)
            .app_data(self.answer_memory.clone())
            .app_data(greeting::Links::new(self.operations))
            .configure(greeting::configure)
            .configure(data::configure)
            .configure(|routes| self.documentation.configure(routes))
            .default_service(web::to(no_route));
    }
}

#[cfg(test)]
mod tests;
