//! `/dashboard`: the live page, its history and its stream. Generic: it reads the families of the recorders, and
//! knows no service.
//!
//! - `sampler`: once a second, from the registry to a `tick`
//! - `ring` (with `pack`): the ticks of the last hour, in bounded memory
//! - `hub`: what all open pages share; `history`: the answers to those that begin; `stream`: what each of them is sent
//! - `details`: rows that other recorders contribute
//! - `assets`: the files of the page; `bundle`: its modules as one script
//!
//! One thread samples, however many pages are open, and none of them waits for it.

mod assets;
mod bundle;
mod details;
mod history;
mod hub;
mod pack;
mod ring;
mod sampler;
mod stream;
mod tick;

use std::{
    fmt, fs, io,
    net::IpAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::{self, Bytes},
};
use serde::Deserialize;

pub(crate) use details::Details;

use super::{fair_slots::FairSlots, heavy_answers::HeavyAnswers};
use history::{HistoryKey, compress};
use hub::{Hub, ServiceIdentity};
use ring::{HOUR, MAX_BYTES};
pub(crate) use sampler::OpsTraffic;
pub(crate) use sampler::SampledSources;
use sampler::Sampler;
use stream::Events;
use vitals_recorder::{memory::client_of, problem::Problem};
use vitals_registry::{Registry, negotiate_encoding};

/// Pages that may be open at once.
const MAX_PAGES: usize = 200;

/// How often the details are asked for while a page is open, in ticks.
const DETAILS_EVERY: u64 = 3;

/// How the page calls the service.
#[derive(Clone, Debug)]
pub(crate) struct DashboardSettings {
    /// The service's name.
    pub(super) name: String,
    /// The service's version; empty where it is not known.
    pub(super) version: String,
    /// Where its API is described, if it is.
    pub(super) documentation: Option<String>,
}

impl Default for DashboardSettings {
    fn default() -> Self {
        let program = std::env::current_exe().unwrap_or_default();
        let name = program.file_name().unwrap_or_default();
        Self {
            name: name.to_string_lossy().into_owned(),
            version: String::new(),
            documentation: None,
        }
    }
}

/// The live page and what is behind it. Cheap to clone; the sampler stops with the last clone.
#[derive(Clone)]
pub(crate) struct Dashboard {
    hub: Arc<Hub>,
    details: Details,
    heavy_answers: HeavyAnswers,
    pages: FairSlots,
    /// Dropped with the last clone, which ends the sampler's wait.
    _sampling: mpsc::SyncSender<()>,
}

impl Dashboard {
    /// Starts to sample a registry once a second, on a thread of its ops_traffic. The operator's `ops_traffic` requests are left out of
    /// the service's numbers.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub(super) fn start(
        registry: &Registry,
        sources: SampledSources,
        settings: DashboardSettings,
        ops_traffic: OpsTraffic,
        details: Details,
        heavy_answers: HeavyAnswers,
    ) -> io::Result<Self> {
        let started = since_epoch();
        let hub = Arc::new(Hub::new(
            identity(registry, settings, started),
            started.as_secs(),
        ));
        let sampling = Sampling {
            sampler: Sampler::new(registry, sources, ops_traffic),
            hub: Arc::clone(&hub),
            details: details.clone(),
            timeline: Timeline::starting(started),
            sampled: Duration::ZERO,
            time: started.as_secs(),
        };
        let (keep, stopped) = mpsc::sync_channel(0);
        thread::Builder::new()
            .name("dashboard".to_owned())
            .spawn(move || sampling.run(&stopped))?;
        Ok(Self {
            hub,
            details,
            heavy_answers,
            pages: FairSlots::new(MAX_PAGES),
            _sampling: keep,
        })
    }

    /// Returns the history, made once for all equal requests until the next tick.
    async fn history(&self, wanted: HistoryKey, client: Option<IpAddr>) -> Result<Bytes, Problem> {
        let shared = self.hub.answers.share(wanted);
        // Where the request that gathers is given up, one of those that wait for it takes over.
        let history = shared.get_or_try_init(|| {
            let (hub, details) = (Arc::clone(&self.hub), self.details.clone());
            self.heavy_answers.make(client, MAX_BYTES, move || {
                hub.publish_details(&details.read());
                let history = hub.history(wanted.since, wanted.until, wanted.step);
                compress(history, wanted.encoding).unwrap_or_default()
            })
        });
        history.await.cloned()
    }

    /// Ends the streams of all open pages, so that a server that stops need not wait for them.
    pub(super) fn close(&self) {
        self.hub.close();
    }
}

impl fmt::Debug for Dashboard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dashboard")
            .field("streams", &self.hub.streams())
            .finish_non_exhaustive()
    }
}

/// What the sampler's thread holds.
struct Sampling {
    sampler: Sampler,
    hub: Arc<Hub>,
    details: Details,
    timeline: Timeline,
    /// When the last tick ended, since the start.
    sampled: Duration,
    /// The time of the last tick.
    time: u64,
}

/// The times of ticks: the wall clock's time at the start, and from then on the seconds of the monotonic clock. A wall clock
/// that is set moves no tick. The page adds the [offset](Self::offset) to the times that it shows.
#[derive(Clone, Copy, Debug)]
struct Timeline {
    origin: Instant,
    /// The wall clock at the origin, since the Unix epoch.
    started: Duration,
}

impl Timeline {
    fn starting(started: Duration) -> Self {
        Self {
            origin: Instant::now(),
            started,
        }
    }

    /// The nearest full second, so long after the start.
    fn time(self, elapsed: Duration) -> u64 {
        (self.started + elapsed + Duration::from_millis(500)).as_secs()
    }

    /// How long it is to the next full second.
    fn until_next_second(self, elapsed: Duration) -> Duration {
        let into = Duration::from_nanos((self.started + elapsed).subsec_nanos().into());
        // Just after a full second, the timer has come a little early or on time: that second is over.
        let left = Duration::from_secs(1).saturating_sub(into);
        if left < Duration::from_millis(100) {
            left + Duration::from_secs(1)
        } else {
            left
        }
    }

    /// How many seconds the wall clock is ahead of the ticks, since it was set; negative, how many it is behind.
    fn offset(self, elapsed: Duration, wall: Duration) -> i64 {
        let (ticks, half) = (self.started + elapsed, Duration::from_millis(500));
        let seconds = |ahead: Duration| i64::try_from((ahead + half).as_secs()).unwrap_or(i64::MAX);
        match wall.checked_sub(ticks) {
            Some(ahead) => seconds(ahead),
            None => -seconds(ticks.saturating_sub(wall)),
        }
    }
}

impl Sampling {
    fn run(mut self, stopped: &mpsc::Receiver<()>) {
        // Nothing is ever sent: the channel is either open or not.
        while stopped.recv_timeout(self.until_next_second()) == Err(RecvTimeoutError::Timeout) {
            // Whatever it meets costs that second; pages are open for the next.
            let _counted = catch_unwind(AssertUnwindSafe(|| {
                self.tick(self.timeline.origin.elapsed(), since_epoch());
            }));
        }
        self.hub.close();
    }

    fn until_next_second(&self) -> Duration {
        self.timeline
            .until_next_second(self.timeline.origin.elapsed())
    }

    /// One tick, so long after the start, when the wall clock shows `wall`.
    fn tick(&mut self, elapsed: Duration, wall: Duration) {
        let span = elapsed.saturating_sub(self.sampled);
        // Ticks are identified by their times.
        let time = self.timeline.time(elapsed).max(self.time + 1);
        let width = time - self.time;
        let tick = self.sampler.sample(time, width, span.as_secs_f64());
        self.sampled = elapsed;
        self.time = time;
        self.hub.set_clock(self.timeline.offset(elapsed, wall));
        if time.is_multiple_of(DETAILS_EVERY) && self.hub.streams() > 0 {
            self.hub.publish_details(&self.details.read());
        }
        self.hub.publish(&tick, self.sampler.routes());
    }
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

fn identity(registry: &Registry, settings: DashboardSettings, now: Duration) -> ServiceIdentity {
    let pid = std::process::id();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    let [started] = registry.read_levels(["process_start_time_seconds"]);
    ServiceIdentity {
        id: format!("{pid}-{}", now.as_nanos()),
        name: settings.name,
        version: settings.version,
        documentation: settings.documentation,
        host: if host.is_empty() { "this host" } else { host }.to_owned(),
        pid,
        cores: thread::available_parallelism().map_or(1, usize::from),
        started: started.unwrap_or(now.as_secs_f64()),
    }
}

/// `GET /dashboard`: the page.
pub(crate) async fn get_page(request: HttpRequest) -> HttpResponse {
    assets::page(&request)
}

/// `GET /dashboard/{asset}`: the page's parts.
pub(crate) async fn get_asset(request: HttpRequest) -> Result<HttpResponse, Problem> {
    // The last parameter: a scope that the page is mounted in may have others, of any name.
    let name = request.match_info().iter().last().map(|(_, name)| name);
    let asset = name
        .and_then(assets::find)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "The dashboard has no such part."))?;
    Ok(asset.respond(&request))
}

/// Which ticks are wanted: those after `since`, up to `until`, merged to `step` seconds.
#[derive(Deserialize)]
pub(crate) struct HistoryQuery {
    /// Seconds since the Unix epoch; negative, seconds before the last tick. By default all there are.
    #[serde(default)]
    since: i64,
    until: Option<u64>,
    #[serde(default = "one")]
    step: u64,
}

fn one() -> u64 {
    1
}

/// `GET /dashboard/history`: what the page paints first.
pub(crate) async fn get_history(
    request: HttpRequest,
    dashboard: web::Data<Dashboard>,
    query: Result<web::Query<HistoryQuery>, actix_web::Error>,
) -> Result<HttpResponse, Problem> {
    let query = query.ok().filter(|query| (1..=HOUR).contains(&query.step));
    let Some(query) = query else {
        let detail = "`since` and `until` must be whole seconds, and `step` 1 to 3600.";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    };
    let accept_encoding =
        (request.headers().get_all(header::ACCEPT_ENCODING)).map(header::HeaderValue::as_bytes);
    let encoding = negotiate_encoding(&accept_encoding.collect::<Vec<_>>());
    let wanted = HistoryKey {
        since: query.since,
        until: query.until,
        step: query.step,
        encoding,
    };
    let history = dashboard.history(wanted, client_of(&request)).await?;
    let mut answer = HttpResponse::Ok();
    answer
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((header::VARY, "Accept-Encoding"))
        .content_type("application/json");
    if let Some(encoding) = encoding.content_encoding() {
        answer.insert_header((header::CONTENT_ENCODING, encoding));
    }
    Ok(answer.body(history))
}

/// Where a stream that has no `Last-Event-ID` goes on.
#[derive(Deserialize)]
pub(crate) struct StreamQuery {
    since: Option<u64>,
}

/// `GET /dashboard/stream`: one event a second, for as long as the page is open.
pub(crate) async fn get_stream(
    request: HttpRequest,
    dashboard: web::Data<Dashboard>,
    query: Option<web::Query<StreamQuery>>,
) -> Result<HttpResponse, Problem> {
    if dashboard.hub.is_closed() {
        return Err(shutting_down());
    }
    let last = request.headers().get("last-event-id");
    let last = last.and_then(|id| id.to_str().ok()?.parse().ok());
    let since = last.or_else(|| query.and_then(|query| query.since));
    let Some(slot) = dashboard.pages.take(client_of(&request)) else {
        let detail = "Too many pages are open already.";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(10));
    };
    Ok(HttpResponse::Ok()
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // A proxy in between must not wait for the stream's end.
        .insert_header(("x-accel-buffering", "no"))
        .content_type("text/event-stream")
        .streaming(Events::new(Arc::clone(&dashboard.hub), slot, since)))
}

fn shutting_down() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "The server is shutting down.",
    )
    .retry_after(1)
}

#[cfg(test)]
mod tests;
