//! The REST API: its routes, and what the handlers share.
//!
//! - `data`: the handlers of items; `item`, `email`: what makes an item valid
//! - `body`, `page`, `item_id`: extractors
//! - `answers`, `item_json`: JSON answers within the answer memory; `problem`: errors as problem documents
//! - `openapi`, `docs`: the description of the API, and the page that shows it
//!
//! It contains no SQL: that is in `store`.

mod answers;
mod body;
mod data;
mod docs;
mod email;
mod greeting;
mod item;
mod item_id;
mod item_json;
mod openapi;
mod page;
mod problem;

use actix_vitals::{memory::AnswerMemory, methods::other_methods};
use actix_web::{
    FromRequest, Handler, Resource, Responder,
    web::{self, Data, ServiceConfig},
};

use self::data::{create_item, delete_item, list_items, read_item, replace_item};
use crate::store::Store;

pub use self::{body::BodyLimits, docs::Documentation, openapi::DescribedListener};
pub(super) use self::{openapi::patterns, problem::no_route};

/// What the API needs from the service around it.
#[derive(Debug, Clone)]
pub struct Api {
    /// The items.
    pub store: Store,
    /// The limits on request bodies.
    pub body_limits: BodyLimits,
    /// The budget for bodies that wait for their clients.
    pub answer_memory: AnswerMemory,
    /// The description of the API.
    pub documentation: Documentation,
    /// Whether the ops endpoints are on the same listener, for the greeting to link to.
    pub has_ops: bool,
}

impl Api {
    /// Adds every route of the API, and the answer to requests that match none.
    pub fn configure(&self, routes: &mut ServiceConfig) {
        routes
            .app_data(Data::new(self.store.clone()))
            .app_data(self.body_limits)
            .app_data(self.answer_memory.clone())
            .app_data(greeting::Links::new(self.has_ops))
            .service(get("/", greeting::read_greeting, "GET, HEAD, OPTIONS"))
            .service(
                get("/data", list_items, "GET, HEAD, OPTIONS, POST")
                    .route(web::post().to(create_item)),
            )
            .service(
                get(
                    "/data/{item_id}",
                    read_item,
                    "DELETE, GET, HEAD, OPTIONS, PUT",
                )
                .route(web::put().to(replace_item))
                .route(web::delete().to(delete_item)),
            )
            .configure(|routes| self.documentation.configure(routes))
            .default_service(web::to(no_route));
    }
}

/// A resource that answers `GET` and `HEAD` with `handler`, and names its methods, `allow`, to other requests.
fn get<F, Args>(path: &str, handler: F, allow: &'static str) -> Resource
where
    F: Handler<Args, Output: Responder + 'static> + Clone,
    Args: FromRequest + 'static,
{
    web::resource(path)
        .route(web::get().to(handler.clone()))
        .route(web::head().to(handler))
        .default_service(other_methods(allow))
}

#[cfg(test)]
mod tests;
