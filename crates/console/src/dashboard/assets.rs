//! The embedded files of the page. They are sent without comments and needless spaces (`slim`), with an `ETag`, and with a
//! policy that lets a browser load from this server only.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::LazyLock,
};

use actix_web::{HttpRequest, HttpResponse, http::header, web::Bytes};

use super::{
    bundle::{Module, bundle},
    slim::{slim, slim_script, slim_style},
};

/// Allows the page to load its own parts and to connect to its own server, and nothing else. The page of the profiles shows graphs
/// in a frame.
/// <https://www.w3.org/TR/CSP3/>
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const SCRIPT: &str = "text/javascript; charset=utf-8";

/// A file as it is sent.
#[derive(Debug)]
pub(crate) struct Asset {
    pub(crate) name: &'static str,
    content_type: &'static str,
    etag: String,
    pub(super) body: Bytes,
}

macro_rules! source {
    ($name:literal) => {
        include_str!(concat!("assets/", $name))
    };
}

/// The colours of the pages.
pub(crate) const COLOURS: &str = source!("colours.css");

macro_rules! modules {
    ($($name:literal,)*) => {
        [$(($name, source!($name)),)*]
    };
}

/// The modules of `app.js`. Each comes after those that it imports.
const MODULES: [Module; 18] = modules! {
    "dom.js",
    "cells.js",
    "format.js",
    "histogram.js",
    "paint.js",
    "store.js",
    "stream.js",
    "table.js",
    "snapshot.js",
    "words.js",
    "dialog.js",
    "now.js",
    "pool.js",
    "kept.js",
    "causes.js",
    "statements.js",
    "chart.js",
    "app.js",
};

/// The modules of `details.js`, which the page loads when it first shows a request or a statement.
const LATER: [Module; 2] = modules! {
    "timeline.js",
    "statement.js",
};

/// All files. The page itself is the first, and what it loads later is the last.
static ASSETS: LazyLock<[Asset; 6]> = LazyLock::new(|| {
    let (script, details) = bundle(&MODULES, &LATER);
    [
        Asset::new(
            "index.html",
            "text/html; charset=utf-8",
            slim(source!("index.html")),
        ),
        Asset::new(
            "style.css",
            "text/css; charset=utf-8",
            slim_style(concat!(source!("colours.css"), source!("style.css"))),
        ),
        Asset::new("app.js", SCRIPT, slim_script(&script)),
        Asset::new("worker.js", SCRIPT, slim_script(source!("worker.js"))),
        Asset::new("icon.svg", "image/svg+xml", slim(source!("icon.svg"))),
        Asset::new("details.js", SCRIPT, slim_script(&details)),
    ]
});

/// `GET /dashboard`: the page.
pub(super) fn page(request: &HttpRequest) -> HttpResponse {
    ASSETS[0].respond(request)
}

/// The file of this name, except the page.
pub(super) fn find(name: &str) -> Option<&'static Asset> {
    ASSETS[1..].iter().find(|asset| asset.name == name)
}

impl Asset {
    pub(crate) fn new(name: &'static str, content_type: &'static str, body: String) -> Self {
        let mut hasher = DefaultHasher::new();
        body.hash(&mut hasher);
        Self {
            name,
            content_type,
            etag: format!("\"{:016x}\"", hasher.finish()),
            body: body.into(),
        }
    }

    /// Answers with the file, or with 304 if the client has it.
    pub(crate) fn respond(&self, request: &HttpRequest) -> HttpResponse {
        let known = request.headers().get_all(header::IF_NONE_MATCH);
        let is_known = known
            .filter_map(|tags| tags.to_str().ok())
            .flat_map(|tags| tags.split(','))
            .map(str::trim)
            // `*` is any representation (RFC 9110, section 13.1.2).
            .any(|tag| tag == "*" || tag.trim_start_matches("W/") == self.etag);
        let mut response = if is_known {
            HttpResponse::NotModified()
        } else {
            HttpResponse::Ok()
        };
        response
            .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::REFERRER_POLICY, "no-referrer"))
            .insert_header((header::CACHE_CONTROL, "no-cache"))
            .insert_header((header::ETAG, self.etag.as_str()));
        if is_known {
            return response.finish();
        }
        response
            .insert_header((header::CONTENT_TYPE, self.content_type))
            .body(self.body.clone())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::{super::bundle::declared, *};

    #[test]
    fn a_client_that_has_the_file_does_not_get_it_again() {
        let asset = &ASSETS[0];
        for (tags, status) in [
            (asset.etag.clone(), 304),
            (format!("\"other\", W/{}", asset.etag), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
        ] {
            let request = TestRequest::default().insert_header((header::IF_NONE_MATCH, tags));
            let answer = asset.respond(&request.to_http_request());
            assert_eq!(answer.status(), status);
        }
    }

    #[test]
    fn the_script_has_no_import_and_no_export() {
        for name in ["app.js", "details.js"] {
            let script = find(name).expect("the script");
            let text = std::str::from_utf8(&script.body).expect("text");
            for word in ["import ", "export "] {
                assert!(
                    !text.lines().any(|line| line.starts_with(word)),
                    "{name}: {word} is left over"
                );
            }
        }
        let page = std::str::from_utf8(&ASSETS[0].body).expect("text");
        assert!(!page.contains("module") && !page.contains("crossorigin"));
    }

    #[test]
    fn each_name_is_declared_by_one_module() {
        let mut known = std::collections::HashMap::new();
        for (file, source) in MODULES.into_iter().chain(LATER) {
            // A name that its scope would hide from the other modules.
            for name in source.lines().filter_map(declared) {
                assert!(
                    !["history", "location", "document"].contains(&name),
                    "{file}: {name}"
                );
                let other = known.insert(name, file);
                assert_eq!(other, None, "{file}: {name}");
            }
        }
    }

    #[test]
    fn the_page_has_at_most_75_kilobytes_and_what_it_loads_later_12() {
        let [page @ .., details] = &*ASSETS;
        assert_eq!(details.name, "details.js");
        let page: usize = page.iter().map(|asset| asset.body.len()).sum();
        assert!(page <= 75_000, "{page} bytes");
        assert!(details.body.len() <= 12_000, "{} bytes", details.body.len());
    }

    #[test]
    fn the_page_names_no_other_host_and_no_inline_style_or_script() {
        for asset in ASSETS.iter().filter(|asset| asset.name != "icon.svg") {
            let text = std::str::from_utf8(&asset.body).expect("text");
            for forbidden in [
                "http://",
                "https://",
                "style=\"",
                "onclick=\"",
                "<style",
                "innerHTML",
            ] {
                assert!(!text.contains(forbidden), "{}: {forbidden}", asset.name);
            }
        }
    }

    #[test]
    fn no_literal_has_several_lines() {
        for asset in ASSETS.iter() {
            let text = std::str::from_utf8(&asset.body).expect("text");
            for line in text.lines() {
                assert!(line.matches('`').count() % 2 == 0, "{}: {line}", asset.name);
            }
        }
    }
}
