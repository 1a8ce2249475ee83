//! `GET /metrics`: negotiates a format and an encoding, and writes the registry out on a blocking thread, so that no
//! event loop waits for it. Concurrent scrapes of one kind share one gathering; the number in flight is bounded.

mod exposition;

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, http::header, web};
use exposition::{Body, Exposition};
use flate2::{Compression, write::GzEncoder};
use tokio::sync::OnceCell;

use crate::{
    registry::{
        Encoding, Format, NameFilter, Registry, Scrape, negotiate_encoding, negotiate_format,
    },
    vitals::problem::Problem,
};

/// How the scrape is offered.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScrapeSettings {
    /// Most scrapes in flight at once.
    pub(super) max_in_flight: usize,
    /// Longest a scrape may take.
    pub(super) timeout: Duration,
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        Self {
            max_in_flight: 4,
            timeout: Duration::from_secs(10),
        }
    }
}

/// What a shared gathering is told apart by. A scrape with a name filter is never shared.
type Kind = (Format, Encoding);

/// The scrape's shared state: one for each registry.
pub(super) struct Scraper {
    registry: Registry,
    settings: ScrapeSettings,
    in_flight: Arc<AtomicUsize>,
    lines: Mutex<HashMap<Kind, Arc<Line>>>,
}

impl Scraper {
    pub(super) fn new(registry: Registry, settings: ScrapeSettings) -> Self {
        Self {
            registry,
            settings,
            in_flight: Arc::default(),
            lines: Mutex::default(),
        }
    }

    /// What is scraped.
    #[cfg(feature = "dashboard")]
    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    /// A place among the scrapes in flight, given back when the scrape and what it had begun are over.
    fn admit(&self) -> Option<Arc<Admission>> {
        let admitted = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let admission = Arc::new(Admission(Arc::clone(&self.in_flight)));
        (admitted < self.settings.max_in_flight).then_some(admission)
    }

    /// The exposition: gathered for this scrape and those of the same kind that wait together with it.
    async fn expose(
        &self,
        kind: Kind,
        names: Vec<String>,
        admission: Arc<Admission>,
    ) -> Result<Arc<Exposition>, Problem> {
        if !names.is_empty() {
            return self.gather(kind, NameFilter::new(names), admission).await;
        }
        let line = Arc::clone(
            self.lines
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(kind)
                .or_default(),
        );
        let shared = Arc::clone(line.lock_next().get_or_insert_default());
        // Where the scrape that gathers is given up, one of those that wait for it takes over.
        let exposition = shared
            .get_or_try_init(async || {
                // Those that arrive at the same moment join.
                tokio::task::yield_now().await;
                let _turn = line.turn.lock().await;
                // Whoever arrives from now on may have seen more than this gathering will.
                line.lock_next().take_if(|next| Arc::ptr_eq(next, &shared));
                self.gather(kind, NameFilter::all(), Arc::clone(&admission))
                    .await
            })
            .await;
        exposition.cloned()
    }

    async fn gather(
        &self,
        (format, encoding): Kind,
        names: NameFilter,
        admission: Arc<Admission>,
    ) -> Result<Arc<Exposition>, Problem> {
        let registry = self.registry.clone();
        let work = move || {
            // A collector that hangs keeps its scrape's place, also when nobody waits for it any more.
            let _admission = admission;
            encode(&registry, format, encoding, &names).map(Arc::new)
        };
        web::block(work)
            .await
            .map_err(|_| {
                Problem::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "The server is shutting down.",
                )
            })?
            .map_err(|error| {
                tracing::error!(%error, "an exposition could not be compressed");
                Problem::new(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "The exposition could not be compressed.",
                )
            })
    }
}

/// The scrapes of one kind: while one gathering is under way, all that arrive wait for the next, and share it.
///
/// None shares a gathering that began before it arrived: what a client has seen answered is in what it scrapes next.
#[derive(Default)]
struct Line {
    turn: tokio::sync::Mutex<()>,
    next: Mutex<Option<Arc<OnceCell<Arc<Exposition>>>>>,
}

impl Line {
    fn lock_next(&self) -> MutexGuard<'_, Option<Arc<OnceCell<Arc<Exposition>>>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place among the scrapes in flight.
struct Admission(Arc<AtomicUsize>);

impl Drop for Admission {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Writes the registry out, chunk by chunk through the compressor.
fn encode(
    registry: &Registry,
    format: Format,
    encoding: Encoding,
    names: &NameFilter,
) -> io::Result<Exposition> {
    let mut scrape = registry.scrape(format, names);
    let mut exposition = Exposition::default();
    match encoding {
        Encoding::Identity => pump(&mut scrape, &mut exposition)?,
        Encoding::Gzip => {
            let mut gzip = GzEncoder::new(&mut exposition, Compression::fast());
            pump(&mut scrape, &mut gzip)?;
            gzip.finish()?;
        }
        Encoding::Zstd => {
            let mut zstd = zstd::Encoder::new(&mut exposition, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            pump(&mut scrape, &mut zstd)?;
            zstd.finish()?;
        }
    }
    Ok(exposition)
}

/// Moves a scrape on, a chunk at a time.
fn pump(scrape: &mut Scrape, to: &mut impl Write) -> io::Result<()> {
    let mut chunk = Vec::new();
    loop {
        let more = scrape.next_chunk(&mut chunk);
        to.write_all(&chunk)?;
        chunk.clear();
        if !more {
            return Ok(());
        }
    }
}

/// `GET /metrics`: the exposition in the best format and encoding that the client accepts. `name[]` parameters, as
/// many as wanted, keep only the families of those names.
pub(super) async fn get_metrics(
    request: HttpRequest,
    scraper: web::Data<Scraper>,
) -> Result<HttpResponse, Problem> {
    let accept = header_values(&request, header::ACCEPT);
    let accept_encoding = header_values(&request, header::ACCEPT_ENCODING);
    let format = negotiate_format(&accept);
    let encoding = negotiate_encoding(&accept_encoding);
    let names = form_urlencoded::parse(request.query_string().as_bytes())
        .filter_map(|(key, name)| (key == "name[]").then(|| name.into_owned()))
        .collect();

    let Some(admission) = scraper.admit() else {
        let detail = format!(
            "{} scrapes are in flight already.",
            scraper.settings.max_in_flight
        );
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1));
    };
    let exposition = tokio::time::timeout(
        scraper.settings.timeout,
        scraper.expose((format, encoding), names, admission),
    )
    .await
    .map_err(|_| {
        let timeout_seconds = scraper.settings.timeout.as_secs_f64();
        let detail = format!("The scrape took longer than {timeout_seconds} seconds.");
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
    })??;

    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, format.content_type()))
        .insert_header((header::VARY, "Accept, Accept-Encoding"));
    if let Some(encoding) = encoding.content_encoding() {
        response.insert_header((header::CONTENT_ENCODING, encoding));
    }
    Ok(response.body(Body::new(exposition)))
}

/// All values of a header that may be repeated.
fn header_values(request: &HttpRequest, name: header::HeaderName) -> Vec<&[u8]> {
    request
        .headers()
        .get_all(name)
        .map(header::HeaderValue::as_bytes)
        .collect()
}
