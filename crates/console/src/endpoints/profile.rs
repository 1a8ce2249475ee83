//! `GET /ops/profile/cpu`, `GET /ops/profile/heap`, the profiles that are kept, and the page that shows them.
//!
//! Without `format`, a browser gets a flame graph, and everything else the pprof format: `go tool pprof` and Pyroscope need
//! no parameter but `seconds`.

use std::{
    hash::{BuildHasher as _, Hasher as _, RandomState},
    sync::{Arc, LazyLock},
    time::Duration,
};

use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder,
    http::{Method, StatusCode, header},
    web,
};
use serde::Serialize;
use vitals_profiler::{Profile, ProfileKind, flame_graph, folded, is_heap_sampled, pprof};
use vitals_recorder::{
    memory::client_of,
    problem::{FieldError, Problem},
};

use super::{
    parameters::{invalid, number, parameter, valid, whole},
    statements::rfc_3339,
    unknown_length::UnknownLength,
};
use crate::{
    dashboard::{Asset, COLOURS, slim, slim_script, slim_style},
    heavy_answers::HeavyAnswers,
    profiles::{KeptProfile, Profiles},
};

/// The longest profile, in seconds, and the default.
const MOST_SECONDS: u64 = 60;
const DEFAULT_SECONDS: u64 = 10;

/// The range of samples in a second of processor time, and the default. It is no multiple of common periods.
const LEAST_HERTZ: u32 = 10;
const MOST_HERTZ: u32 = 999;
const DEFAULT_HERTZ: u32 = 99;

/// The size that is reserved for the text of a profile, in bytes.
const ANSWER_BYTES: usize = 4 * 1024 * 1024;

/// The number of the kept profile.
const PROFILE_ID: &str = "x-profile-id";

/// The page, its style and its script.
static PAGE: LazyLock<[Asset; 3]> = LazyLock::new(|| {
    [
        Asset::new(
            "page.html",
            "text/html; charset=utf-8",
            slim(include_str!("profile/page.html")),
        ),
        Asset::new(
            "page.css",
            "text/css; charset=utf-8",
            slim_style(&[COLOURS, include_str!("profile/page.css")].concat()),
        ),
        Asset::new(
            "page.js",
            "text/javascript; charset=utf-8",
            slim_script(include_str!("profile/page.js")),
        ),
    ]
});

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Svg,
    Pprof,
    Folded,
}

impl Format {
    const ALL: [(&str, Self); 3] = [
        ("svg", Self::Svg),
        ("pprof", Self::Pprof),
        ("folded", Self::Folded),
    ];

    /// The format of a request that names none.
    fn preferred(request: &HttpRequest) -> Self {
        let accepted = request.headers().get_all(header::ACCEPT);
        let mut accepted = accepted.filter_map(|value| value.to_str().ok());
        let is_browser =
            |value: &str| value.contains("text/html") || value.contains("image/svg+xml");
        if accepted.any(is_browser) {
            Self::Svg
        } else {
            Self::Pprof
        }
    }
}

/// What `GET /ops/profile/kept` answers.
#[derive(Serialize)]
struct Listing {
    /// Whether allocations are sampled, so that there are heap profiles.
    has_heap: bool,
    running: Vec<RunningEntry>,
    profiles: Vec<KeptEntry>,
}

#[derive(Serialize)]
struct RunningEntry {
    kind: &'static str,
    elapsed_seconds: f64,
    seconds: f64,
}

#[derive(Serialize)]
struct KeptEntry {
    id: u64,
    kind: &'static str,
    /// How it was taken.
    method: &'static str,
    started: String,
    seconds: f64,
    /// The number of samples, or of live allocations.
    count: i64,
    /// Nanoseconds or bytes.
    total: i64,
    notes: Vec<String>,
}

impl From<KeptProfile> for KeptEntry {
    fn from(kept: KeptProfile) -> Self {
        let profile = &kept.profile;
        Self {
            id: kept.id,
            kind: profile.kind.label(),
            method: profile.method.label(),
            started: rfc_3339(profile.started),
            seconds: profile.duration.as_secs_f64(),
            count: profile.count(),
            total: profile.total(),
            notes: profile.notes.clone(),
        }
    }
}

/// `GET /ops/profile/cpu?seconds=10&hz=99&format=svg|pprof|folded`: where the processor time goes.
pub(crate) async fn get_cpu(
    request: HttpRequest,
    profiles: web::Data<Profiles>,
    heavy_answers: web::Data<HeavyAnswers>,
) -> Result<HttpResponse, Problem> {
    let ((seconds, hertz), format) = parameters(&request, |query, errors| {
        let seconds = seconds(query, errors);
        let hertz = parameter(query, "hz", errors, |value| {
            whole(value, &(LEAST_HERTZ..=MOST_HERTZ))
        });
        (
            seconds.unwrap_or(DEFAULT_SECONDS),
            hertz.unwrap_or(DEFAULT_HERTZ),
        )
    })?;
    if request.method() == Method::HEAD {
        return Ok(head_only(format));
    }
    let time = Duration::from_secs(seconds);
    let kept = profiles.take_cpu(time, hertz).await?;
    answer(&request, &heavy_answers, kept.id, kept.profile, format).await
}

/// `GET /ops/profile/heap?since=ID&seconds=N&format=svg|pprof|folded`: what holds the memory, or what has grown since a kept
/// profile, or what grows within so many seconds (`go tool pprof -seconds`).
pub(crate) async fn get_heap(
    request: HttpRequest,
    profiles: web::Data<Profiles>,
    heavy_answers: web::Data<HeavyAnswers>,
) -> Result<HttpResponse, Problem> {
    let ((since, seconds), format) = parameters(&request, |query, errors| {
        let since = since(query, &profiles, errors);
        let seconds = seconds(query, errors);
        if since.is_some() && seconds.is_some() {
            let message = "must not be given together with since".to_owned();
            errors.push(FieldError::new("seconds", message));
        }
        (since, seconds)
    })?;
    // Without samples, the answer is the error of `GET`.
    if request.method() == Method::HEAD && is_heap_sampled() {
        return Ok(head_only(format));
    }
    let kept = match seconds {
        Some(seconds) => {
            profiles
                .take_heap_growth(Duration::from_secs(seconds))
                .await?
        }
        None => profiles.take_heap().await?,
    };
    let profile = match since {
        Some(earlier) => Arc::new(kept.profile.since(&earlier.profile)),
        None => kept.profile,
    };
    answer(&request, &heavy_answers, kept.id, profile, format).await
}

/// `GET /ops/profile/kept`: the last ten profiles, and those that are being taken.
pub(crate) async fn list_kept(profiles: web::Data<Profiles>) -> HttpResponse {
    let running = profiles.running().into_iter();
    let running = running.filter_map(|(kind, running)| {
        let running = running?;
        Some(RunningEntry {
            kind: kind.label(),
            elapsed_seconds: running.began.elapsed().as_secs_f64(),
            seconds: running.time.as_secs_f64(),
        })
    });
    HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .json(Listing {
            has_heap: is_heap_sampled(),
            running: running.collect(),
            profiles: profiles.kept().into_iter().map(KeptEntry::from).collect(),
        })
}

/// `GET /ops/profile/kept/{id}?since=ID&format=svg|pprof|folded`: a kept profile.
pub(crate) async fn get_kept(
    request: HttpRequest,
    profiles: web::Data<Profiles>,
    heavy_answers: web::Data<HeavyAnswers>,
) -> Result<HttpResponse, Problem> {
    let (since, format) = parameters(&request, |query, errors| since(query, &profiles, errors))?;
    // The last parameter: a scope around the endpoint may have parameters of any name.
    let id = request.match_info().iter().last();
    let id = id.and_then(|(_, id)| number(id));
    let kept = id.and_then(|id| profiles.find(id)).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "No such profile is kept. The last ten are.",
        )
    })?;
    let profile = match since {
        Some(earlier) => {
            if kept.profile.kind != ProfileKind::Heap || earlier.id >= kept.id {
                let message = "must be the id of a heap profile before this one".to_owned();
                return Err(invalid(vec![FieldError::new("since", message)]));
            }
            Arc::new(kept.profile.since(&earlier.profile))
        }
        None => kept.profile,
    };
    answer(&request, &heavy_answers, kept.id, profile, format).await
}

/// `GET /ops/profile`: the page.
pub(crate) async fn get_page(request: HttpRequest) -> HttpResponse {
    PAGE[0].respond(&request)
}

/// `GET /ops/profile/{part}`: its script and its style.
pub(crate) async fn get_part(request: HttpRequest) -> Result<HttpResponse, Problem> {
    let name = request.match_info().iter().last().map(|(_, name)| name);
    let part = PAGE[1..].iter().find(|part| Some(part.name) == name);
    let part =
        part.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "The page has no such part."))?;
    Ok(part.respond(&request))
}

/// Reads parameters, and the format. All that are not valid are one error.
fn parameters<T>(
    request: &HttpRequest,
    read: impl FnOnce(&str, &mut Vec<FieldError>) -> T,
) -> Result<(T, Format), Problem> {
    let mut errors = Vec::new();
    let values = read(request.query_string(), &mut errors);
    let format = format(request, &mut errors);
    valid((values, format), errors)
}

/// The answer to `HEAD`. No profile is taken for it, so it has no length and no number.
fn head_only(format: Format) -> HttpResponse {
    begin(format, &nonce()).body(UnknownLength)
}

/// The head of an answer, without what depends on the profile.
fn begin(format: Format, nonce: &str) -> HttpResponseBuilder {
    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"));
    match format {
        Format::Svg => {
            // The graph may run its own script and nothing else, and only this server may show it in a frame.
            let policy = format!(
                "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
            );
            response
                .insert_header((header::CONTENT_SECURITY_POLICY, policy))
                .insert_header((header::REFERRER_POLICY, "no-referrer"))
                .content_type("image/svg+xml")
        }
        Format::Pprof => response.content_type("application/octet-stream"),
        Format::Folded => response.content_type("text/plain; charset=utf-8"),
    };
    response
}

fn format(request: &HttpRequest, errors: &mut Vec<FieldError>) -> Format {
    let format = parameter(request.query_string(), "format", errors, |value| {
        let format = Format::ALL.iter().find(|(name, _)| *name == value);
        let format = format.map(|(_, format)| *format);
        format.ok_or_else(|| "must be svg, pprof or folded".to_owned())
    });
    format.unwrap_or_else(|| Format::preferred(request))
}

/// How long a profile takes.
fn seconds(query: &str, errors: &mut Vec<FieldError>) -> Option<u64> {
    parameter(query, "seconds", errors, |value| {
        whole(value, &(1..=MOST_SECONDS))
    })
}

/// The earlier heap profile that `since` names.
fn since(query: &str, profiles: &Profiles, errors: &mut Vec<FieldError>) -> Option<KeptProfile> {
    parameter(query, "since", errors, |value| {
        let kept = number(value).and_then(|id| profiles.find(id));
        let kept = kept.filter(|kept| kept.profile.kind == ProfileKind::Heap);
        kept.ok_or_else(|| "must be the id of a heap profile that is kept".to_owned())
    })
}

async fn answer(
    request: &HttpRequest,
    heavy_answers: &HeavyAnswers,
    id: u64,
    profile: Arc<Profile>,
    format: Format,
) -> Result<HttpResponse, Problem> {
    let nonce = nonce();
    let mut response = begin(format, &nonce);
    response.insert_header((PROFILE_ID, id));
    if format == Format::Pprof {
        let kind = profile.kind.label();
        let file = format!("attachment; filename=\"{kind}-{id}.pb.gz\"");
        response.insert_header((header::CONTENT_DISPOSITION, file));
    }
    let text = heavy_answers.make(client_of(request), ANSWER_BYTES, move || match format {
        Format::Svg => flame_graph(&profile, &nonce, COLOURS).into_bytes(),
        Format::Pprof => pprof(&profile),
        Format::Folded => folded(&profile).into_bytes(),
    });
    Ok(response.body(text.await?))
}

/// A number that nobody can guess, in hexadecimal.
fn nonce() -> String {
    // Each has random keys.
    let number = || RandomState::new().build_hasher().finish();
    format!("{:016x}{:016x}", number(), number())
}
