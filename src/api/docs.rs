//! `GET /openapi.json` and `GET /docs`: the description of a listener, and Swagger UI, which shows it.
//!
//! What is described is told in `openapi`. Swagger UI comes with its crate; here is the page around it, and the policy that
//! lets it load from, and talk to, this server only.

use std::borrow::Cow;
use std::io::Read as _;
use std::sync::Arc;

use actix_web::http::StatusCode;
use actix_web::http::header::{self, AcceptEncoding, ContentEncoding, Encoding, Header as _};
use actix_web::web::{self, Bytes, Data, Path, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse, HttpResponseBuilder};
use flate2::read::GzDecoder;
use tokio::sync::OnceCell;
use utoipa_swagger_ui::{Config, SwaggerFile};

use super::body::BodyLimits;
use super::get;
use super::openapi::{self, DescribedListener};
use super::problem::failed;
use actix_vitals::problem::Problem;

const PAGE: &str = include_str!("docs/index.html");

/// What the page loads.
const PARTS: [&str; 5] = [
    "favicon-32x32.png",
    "swagger-initializer.js",
    "swagger-ui-bundle.js",
    "swagger-ui-standalone-preset.js",
    "swagger-ui.css",
];

/// What a browser may do with the page. Swagger UI sets styles on elements, and has icons in its style sheet.
/// <https://www.w3.org/TR/CSP3/>
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The description of a listener and, where its operators are, the page that shows it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Documentation {
    description: Bytes,
    has_page: bool,
    /// The parts of the page for clients that take nothing compressed, in the order of [`PARTS`]: each is unpacked once,
    /// when it is first asked for.
    unpacked: Arc<[OnceCell<Bytes>; PARTS.len()]>,
}

impl Documentation {
    /// Describes what this listener offers, with these limits on bodies.
    pub fn of(listener: DescribedListener, limits: BodyLimits) -> Self {
        let description = openapi::describe(listener, limits);
        Self {
            description: description.to_string().into(),
            has_page: listener != DescribedListener::Public,
            unpacked: Arc::default(),
        }
    }

    /// Mounts the description, and the page.
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
    guarded("no-cache")
        .content_type("application/json")
        .body(documentation.description.clone())
}

async fn read_page() -> HttpResponse {
    guarded("no-cache")
        .content_type("text/html; charset=utf-8")
        .body(PAGE)
}

async fn read_part(
    request: HttpRequest,
    documentation: Data<Documentation>,
    name: Path<String>,
) -> Result<HttpResponse, Problem> {
    let no_part = || Problem::new(StatusCode::NOT_FOUND, "The page has no such part.");
    let number = PARTS
        .iter()
        .position(|part| *part == *name)
        .ok_or_else(no_part)?;
    let part = part(PARTS[number]).ok_or_else(no_part)?;
    let mut response = guarded("max-age=3600");
    response
        .content_type(part.content_type)
        .insert_header((header::VARY, "Accept-Encoding"));
    let body = match part.bytes {
        Cow::Borrowed(bytes) => Bytes::from_static(bytes),
        Cow::Owned(bytes) => bytes.into(),
    };
    if !part.gzpipped {
        return Ok(response.body(body));
    }
    if accepts_gzip(&request) {
        return Ok(response.insert_header(ContentEncoding::Gzip).body(body));
    }
    let unpacked = documentation.unpacked[number]
        .get_or_try_init(|| async {
            let unpacked = web::block(move || unpack(&body)).await;
            unpacked.ok().flatten().ok_or_else(failed)
        })
        .await?;
    Ok(response.body(unpacked.clone()))
}

/// A file of Swagger UI, with what it needs to know of this service.
fn part(name: &'static str) -> Option<SwaggerFile<'static>> {
    // The URL is relative to the page. A validator, and the bar on top that asks for URLs, would lead to other hosts.
    let config = Config::from("openapi.json")
        .validator_url("none")
        .use_base_layout();
    utoipa_swagger_ui::serve(name, Arc::new(config)).ok()?
}

fn accepts_gzip(request: &HttpRequest) -> bool {
    AcceptEncoding::parse(request).is_ok_and(|accepted| {
        accepted.negotiate([Encoding::gzip()].iter()) == Some(Encoding::gzip())
    })
}

fn unpack(packed: &[u8]) -> Option<Bytes> {
    let mut unpacked = Vec::new();
    GzDecoder::new(packed).read_to_end(&mut unpacked).ok()?;
    unpacked.shrink_to_fit();
    Some(unpacked.into())
}

/// An answer that may be kept for as long as this, and is taken for nothing but what it says it is.
fn guarded(caching: &'static str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((header::CACHE_CONTROL, caching));
    response
}
