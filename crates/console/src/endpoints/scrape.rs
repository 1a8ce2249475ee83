//! `GET /metrics`: negotiates a format and an encoding, and waits for the exposition. Separate threads read the registry and
//! encode it, so that no event loop waits. Scrapes that coincide share that work. How many wait, and how long, is bounded.

mod exposition;
mod exposition_memory;
mod packed;
mod queue;

use std::time::Duration;

use actix_web::{
    HttpRequest, HttpResponse,
    http::{
        StatusCode,
        header::{self, HeaderMap},
    },
    web,
};
use exposition::ExpositionBody;
use queue::{Form, ScrapeError, ScrapeQueue};

use crate::fair_slots::FairSlots;
use vitals_recorder::{
    memory::{AnswerMemory, AnswerMemoryExhausted, client_of},
    problem::Problem,
};
use vitals_registry::{NameFilter, Registry, negotiate_encoding, negotiate_format};

/// The header in which Prometheus sends its timeout for this scrape.
const PROMETHEUS_TIMEOUT: &str = "x-prometheus-scrape-timeout-seconds";

/// The longest wait that a client may request.
const LONGEST_WAIT: Duration = Duration::from_secs(120);

/// The longest timeout that can be set: a longer one is shortened to this, because a clock may not represent its end.
const MOST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A scrape gives up this much earlier than the client, so that the answer arrives in time. For waits under five seconds it
/// is a tenth of the wait.
const MARGIN: Duration = Duration::from_millis(500);

/// The settings of the scrape.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ScrapeSettings {
    /// How many scrapes of one client may wait at once.
    pub(crate) max_waiting: usize,
    /// The wait of a client that sends no timeout.
    pub(crate) timeout: Duration,
}

impl Default for ScrapeSettings {
    fn default() -> Self {
        Self {
            max_waiting: 64,
            timeout: Duration::from_secs(10),
        }
    }
}

/// The state of the scrape: one for each registry.
pub(crate) struct Scraper {
    settings: ScrapeSettings,
    waiting: FairSlots,
    queue: ScrapeQueue,
}

impl Scraper {
    pub(crate) fn new(
        registry: Registry,
        mut settings: ScrapeSettings,
        memory: AnswerMemory,
    ) -> Self {
        settings.timeout = settings.timeout.min(MOST_TIMEOUT);
        // If a collector hangs, each caller still has half of its time.
        let patience = settings.timeout / 2;
        Self {
            waiting: FairSlots::for_each(settings.max_waiting),
            settings,
            queue: ScrapeQueue::new(registry, patience, settings.timeout, memory),
        }
    }

    /// The registry that is scraped.
    pub(crate) fn registry(&self) -> &Registry {
        self.queue.registry()
    }
}

/// How long a scrape waits: a little less than the timeout that the client sends, or else `otherwise`.
fn wait_of(headers: &HeaderMap, otherwise: Duration) -> Duration {
    let value = headers.get(PROMETHEUS_TIMEOUT);
    let seconds = value.and_then(|value| value.to_str().ok()?.trim().parse::<f64>().ok());
    let requested = seconds.filter(|seconds| *seconds > 0.0 && seconds.is_finite());
    let Some(requested) = requested else {
        return otherwise;
    };
    let wait = Duration::from_secs_f64(requested.min(LONGEST_WAIT.as_secs_f64()));
    wait.saturating_sub(MARGIN.min(wait / 10))
}

/// `GET /metrics`: the exposition in the best format and encoding that the client accepts. Parameters
/// `name[]` select the families of these names.
pub(crate) async fn get_metrics(
    request: HttpRequest,
    scraper: web::Data<Scraper>,
) -> Result<HttpResponse, Problem> {
    let accept = header_values(&request, header::ACCEPT);
    let accept_encoding = header_values(&request, header::ACCEPT_ENCODING);
    let format = negotiate_format(&accept);
    let encoding = negotiate_encoding(&accept_encoding);
    let names = form_urlencoded::parse(request.query_string().as_bytes())
        .filter_map(|(key, name)| (key == "name[]").then(|| name.into_owned()));
    let form = Form {
        format,
        encoding,
        names: NameFilter::new(names),
    };
    let Some(_waiting) = scraper.waiting.take(client_of(&request)) else {
        return Err(unavailable(
            "Too many scrapes are waiting already.".to_owned(),
        ));
    };
    let wait = wait_of(request.headers(), scraper.settings.timeout);
    let exposition = tokio::time::timeout(wait, scraper.queue.expose(form))
        .await
        .map_err(|_| {
            let seconds = wait.as_secs_f64();
            unavailable(format!("The scrape took longer than {seconds} seconds."))
        })?
        .map_err(|failure| match failure {
            ScrapeError::NoThread => unavailable("No thread can be started.".to_owned()),
            ScrapeError::NoMemory => AnswerMemoryExhausted.into(),
            ScrapeError::Broken => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The exposition could not be written.",
            ),
        })?;

    let mut response = HttpResponse::Ok();
    response
        .insert_header((header::CONTENT_TYPE, format.content_type()))
        .insert_header((header::VARY, "Accept, Accept-Encoding"));
    if let Some(encoding) = encoding.content_encoding() {
        response.insert_header((header::CONTENT_ENCODING, encoding));
    }
    Ok(response.body(ExpositionBody::new(exposition)))
}

fn unavailable(detail: String) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(1)
}

/// All values of a header that may occur several times.
fn header_values(request: &HttpRequest, name: header::HeaderName) -> Vec<&[u8]> {
    request
        .headers()
        .get_all(name)
        .map(header::HeaderValue::as_bytes)
        .collect()
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_scrape_waits_a_little_less_than_prometheus_does() {
        let otherwise = Duration::from_secs(7);
        for (said, seconds, why) in [
            ("10", 9.5, "the default of Prometheus"),
            ("2.5", 2.25, "a short wait keeps nine tenths"),
            ("0.1", 0.09, "a very short one too"),
            (" 60 ", 59.5, "spaces"),
            ("1e9", 119.5, "the longest wait"),
            ("", 7.0, "nothing"),
            ("soon", 7.0, "no number"),
            ("0", 7.0, "no time at all"),
            ("-1", 7.0, "negative"),
            ("NaN", 7.0, "not a number"),
            ("inf", 7.0, "not finite"),
        ] {
            let mut headers = HeaderMap::new();
            let name = HeaderName::from_static(PROMETHEUS_TIMEOUT);
            headers.insert(name, HeaderValue::from_str(said).expect("a value"));
            let wait = wait_of(&headers, otherwise).as_secs_f64();
            assert!((wait - seconds).abs() < 1e-9, "{why}: {wait}");
        }
        assert_eq!(wait_of(&HeaderMap::new(), otherwise), otherwise);
    }
}
