//! `GET /openapi.json` and `GET /docs`: the description of a listener, and Swagger UI to read it with.
//!
//! `openapi` makes the description, `bundle` has the files of Swagger UI. This module has the page around them and the
//! policy that lets it load from and connect to this server only.

mod bundle;

use std::sync::Arc;

use actix_vitals::problem::Problem;
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{
        StatusCode,
        header::{
            AcceptEncoding, CACHE_CONTROL, CONTENT_SECURITY_POLICY, ContentEncoding, Encoding,
            Header as _, REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS,
        },
    },
    web::{self, Bytes, Data, Path, ServiceConfig},
};
use tokio::sync::OnceCell;

use super::{
    body::BodyLimits,
    get,
    openapi::{self, DescribedListener},
    problem::failed,
};

const PAGE: &str = include_str!("docs/index.html");
const INITIALIZER: &str = include_str!("docs/swagger-initializer.js");

/// The files of Swagger UI that the page loads, with their types.
const PARTS: [(&str, &str); 2] = [
    ("swagger-ui-bundle.js", "text/javascript"),
    ("swagger-ui.css", "text/css"),
];

/// What a browser may do with the page (<https://www.w3.org/TR/CSP3/>). Swagger UI sets styles on elements, and has icons
/// in its style sheet.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The description of a listener and, if it serves the ops endpoints, the page that shows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Documentation {
    description: Bytes,
    has_page: bool,
    parts: Arc<[Part; PARTS.len()]>,
}

/// A file of the page in both forms. Each is made when it is first requested.
#[derive(Debug, Default)]
struct Part {
    packed: OnceCell<Bytes>,
    plain: OnceCell<Bytes>,
}

impl Documentation {
    /// Describes what this listener serves, with these limits on bodies, and with the profiles if they are allowed.
    pub fn of(listener: DescribedListener, limits: BodyLimits, has_profiles: bool) -> Self {
        let description = openapi::describe(listener, limits, has_profiles);
        Self {
            description: description.to_string().into(),
            has_page: listener != DescribedListener::Public,
            parts: Arc::default(),
        }
    }

    /// Adds the routes of the description and of the page.
    pub fn configure(&self, routes: &mut ServiceConfig) {
        const ALLOW: &str = "GET, HEAD, OPTIONS";
        routes.app_data(Data::new(self.clone())).service(get(
            "/openapi.json",
            read_description,
            ALLOW,
        ));
        if self.has_page {
            routes.service(get("/docs", read_page, ALLOW)).service(get(
                "/docs/{part}",
                read_part,
                ALLOW,
            ));
        }
    }
}

async fn read_description(documentation: Data<Documentation>) -> HttpResponse {
    respond("application/json", "no-cache").body(documentation.description.clone())
}

async fn read_page() -> HttpResponse {
    respond("text/html; charset=utf-8", "no-cache").body(PAGE)
}

async fn read_part(
    request: HttpRequest,
    documentation: Data<Documentation>,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let respond = |content_type| {
        let mut response = respond(content_type, "max-age=3600");
        response.insert_header((VARY, "Accept-Encoding"));
        response
    };
    if *name == "swagger-initializer.js" {
        return Ok(respond("text/javascript").body(INITIALIZER));
    }
    let found = PARTS.iter().position(|(part, _)| *part == *name);
    let number = found
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "The page has no part of this name."))?;
    let ((name, content_type), part) = (PARTS[number], &documentation.parts[number]);
    if accepts_gzip(&request) {
        let packed = read_once(&part.packed, move || Some(bundle::find(name)?.gzip()));
        let packed = packed.await?;
        return Ok(respond(content_type)
            .insert_header(ContentEncoding::Gzip)
            .body(packed));
    }
    let plain = read_once(&part.plain, move || bundle::find(name)?.unpack()).await?;
    Ok(respond(content_type).body(plain))
}

/// The bytes in the cell. `read`, which may take some milliseconds, fills it at the first call.
async fn read_once(
    cell: &OnceCell<Bytes>,
    read: impl FnOnce() -> Option<Vec<u8>> + Send + 'static,
) -> Result<Bytes, Problem> {
    let bytes = cell.get_or_try_init(|| async {
        let read = web::block(read).await;
        read.ok().flatten().map(Bytes::from).ok_or_else(failed)
    });
    bytes.await.cloned()
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    AcceptEncoding::parse(request).is_ok_and(|accepted| {
        accepted.negotiate([Encoding::gzip()].iter()) == Some(Encoding::gzip())
    })
}

/// An answer that browsers take for nothing but its content type, and may cache as `caching` says.
fn respond(content_type: &'static str, caching: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .content_type(content_type)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((REFERRER_POLICY, "no-referrer"))
        .insert_header((CACHE_CONTROL, caching));
    response
}
