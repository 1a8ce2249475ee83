//! What a listener offers, described as OpenAPI 3.1.
//!
//! - `items`, `operations`: the paths, by whom they are for
//! - `refusals`: the answers that are problem documents; `schemas`: the JSON, with the limits that validation enforces
//!
//! Limits are never written down twice: they are the constants of the code that enforces them. `docs` serves it.

mod items;
mod operations;
mod refusals;
mod schemas;

use std::net::SocketAddr;

use utoipa::openapi::tag::TagBuilder;
use utoipa::openapi::{
    Components, Info, InfoBuilder, LicenseBuilder, OpenApi, OpenApiBuilder, PathItem, Paths,
    ServerBuilder,
};

use self::refusals::{Refusal, refuse_others};
use super::body::BodyLimits;
use actix_vitals::ops;

const DESCRIPTION: &str = "A REST service over a database that measures itself, for Prometheus and OpenMetrics.

Every error is a problem document ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)). A path that is not described is \
answered with 404. Every path answers `OPTIONS`; every one with `GET` answers `HEAD`, too; any other method is answered \
with 405. Both 405 and `OPTIONS` list the methods in `Allow`. A request may also be refused before it reaches its path: \
with 408 or 431 where its head is too slow or too large, with 503 where there are too many connections. Where operators \
have to say who they are, their endpoints answer others with 401, pages of other origins with 403, and requests past a \
rate limit with 429.";

/// The resources that a page loads by itself: routes, but no part of the API.
const PARTS_OF_PAGES: [&str; 4] = [
    "/dashboard/history",
    "/dashboard/stream",
    "/dashboard/{part}",
    "/docs/{part}",
];

/// A listener, by what is served on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// The API and the operators' endpoints.
    Shared,
    /// The API alone: operators have a listener of their own.
    Public,
    /// The operators' endpoints alone. The API, served elsewhere, is described for people to read.
    Operators {
        /// `http` or `https`.
        api_scheme: &'static str,
        /// Where the API is served.
        api_address: SocketAddr,
    },
}

/// The patterns of all routes that are recorded where the API is served.
pub(crate) fn patterns(listener: Listener, limits: BodyLimits) -> Vec<String> {
    let described = describe(listener, limits).paths.paths;
    let mut patterns: Vec<String> = described.into_keys().collect();
    if listener != Listener::Public {
        patterns.extend(PARTS_OF_PAGES.map(str::to_owned));
    }
    patterns
}

/// Describes what this listener offers, with these limits on bodies.
pub(super) fn describe(listener: Listener, limits: BodyLimits) -> OpenApi {
    let mut paths = Paths::new();
    let elsewhere = match listener {
        Listener::Operators {
            api_scheme,
            api_address,
        } => Some(format!("{api_scheme}://{api_address}")),
        Listener::Shared | Listener::Public => None,
    };
    for (path, item) in items::paths(limits) {
        paths
            .paths
            .insert(path.to_owned(), at(item, elsewhere.as_deref()));
    }
    let operations = match listener {
        Listener::Public => vec![operations::description()],
        Listener::Shared | Listener::Operators { .. } => operations::paths(),
    };
    for (path, item) in operations {
        // A listener of the operators is theirs as a whole.
        let is_guarded = elsewhere.is_some() || ops::serves(path);
        let item = if is_guarded {
            refuse_others(item)
        } else {
            item
        };
        paths.paths.insert(path.to_owned(), item);
    }
    OpenApiBuilder::new()
        .info(info())
        .paths(paths)
        .components(Some(components(limits)))
        .tags(Some([
            tag(items::TAG, "The items: what the service is for."),
            tag(
                operations::TAG,
                "For operators: the scrape, health, the statements that cost most, and pages.",
            ),
        ]))
        .build()
}

/// The paths as they are, or as they are found on another address.
fn at(mut item: PathItem, elsewhere: Option<&str>) -> PathItem {
    item.servers = elsewhere.map(|url| {
        vec![
            ServerBuilder::new()
                .url(url)
                .description(Some("The public listener."))
                .build(),
        ]
    });
    item
}

fn info() -> Info {
    InfoBuilder::new()
        .title("Actix Vitals")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(
            LicenseBuilder::new()
                .name(env!("CARGO_PKG_LICENSE"))
                .identifier(Some(env!("CARGO_PKG_LICENSE")))
                .build(),
        ))
        .build()
}

fn components(limits: BodyLimits) -> Components {
    let mut components = Components::new();
    for (name, schema) in schemas::all() {
        components.schemas.insert(name.to_owned(), schema);
    }
    for refusal in Refusal::ALL {
        components
            .responses
            .insert(refusal.name().to_owned(), refusal.response(limits).into());
    }
    components
}

fn tag(name: &str, description: &str) -> utoipa::openapi::Tag {
    TagBuilder::new()
        .name(name)
        .description(Some(description))
        .build()
}

#[cfg(test)]
mod tests;
