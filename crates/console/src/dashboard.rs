//! `/dashboard`: the live page, its history and its stream. It reads the families of the recorders, so it works for any service.
//!
//! - `sampling`: the thread that takes a `tick` each second, or fewer at rest; `sampler`: reads the families
//! - `ring` (with `pack`): the ticks of the last hour, in bounded memory
//! - `hub`: the state that all open pages share; `history`: the cache of histories; `stream`: the events of one page
//! - `details`: the rows of single requests
//! - `handlers`: the endpoints; `assets`: the files of the page; `bundle`: its modules as one script; `slim`: fewer bytes
//!
//! One thread samples for all open pages, and no page waits for it.

mod assets;
mod bundle;
mod details;
mod handlers;
mod history;
mod hub;
mod pack;
mod ring;
mod sampler;
mod sampling;
mod slim;
mod stream;
mod tick;

use std::{
    fmt, fs, io,
    net::IpAddr,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use actix_web::web::Bytes;
use vitals_recorder::problem::Problem;
use vitals_registry::Registry;

pub(crate) use assets::{Asset, COLOURS};
pub(crate) use details::Details;
pub(crate) use handlers::{get_asset, get_history, get_page, get_stream};
pub(crate) use sampler::{OpsTraffic, SampledSources};
pub(crate) use slim::{slim, slim_script, slim_style};

use crate::{fair_slots::FairSlots, heavy_answers::HeavyAnswers};
use history::{HistoryKey, compress};
use hub::{Hub, ServiceIdentity};
use ring::MAX_BYTES;
use sampler::Sampler;
use sampling::{Sampling, since_epoch};

/// How many pages may be open at once.
const MAX_PAGES: usize = 200;

/// The service, as the page shows it.
#[derive(Clone, Debug)]
pub(crate) struct DashboardSettings {
    /// The service's name.
    pub(super) name: String,
    /// The service's version; empty if it is not known.
    pub(super) version: String,
    /// The URL of the service's API documentation.
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

/// The live page and its state. Cheap to clone; the sampler stops when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Dashboard {
    hub: Arc<Hub>,
    details: Details,
    heavy_answers: HeavyAnswers,
    pages: FairSlots,
    /// Ends a rest of the sampler. Closes its channel when the last clone is dropped.
    sampling: mpsc::SyncSender<()>,
}

impl Dashboard {
    /// Starts the thread that samples a registry once a second, or less often at rest. Leaves out `ops_traffic`. `ops` are the paths of the ops
    /// endpoints that exist besides the page.
    ///
    /// # Errors
    ///
    /// Fails if no thread can be started.
    pub(super) fn start(
        registry: &Registry,
        sources: SampledSources,
        settings: DashboardSettings,
        ops: Vec<&'static str>,
        ops_traffic: OpsTraffic,
        details: Details,
        heavy_answers: HeavyAnswers,
    ) -> io::Result<Self> {
        let started = since_epoch();
        let hub = Arc::new(Hub::new(
            identity(registry, settings, ops, started),
            started.as_secs(),
        ));
        let sampler = Sampler::new(registry, sources, ops_traffic);
        let sampling = Sampling::new(sampler, Arc::clone(&hub), details.clone(), started);
        let (sampling_pages, pages) = mpsc::sync_channel(1);
        thread::Builder::new()
            .name("dashboard".to_owned())
            .spawn(move || sampling.run(&pages))?;
        Ok(Self {
            hub,
            details,
            heavy_answers,
            pages: FairSlots::new(MAX_PAGES),
            sampling: sampling_pages,
        })
    }

    /// Returns a history. It is made once for all requests with the same key until the next tick.
    async fn history(&self, key: HistoryKey, client: Option<IpAddr>) -> Result<Bytes, Problem> {
        let shared = self.hub.histories.share(key);
        // If the request that makes the history is dropped, one that waits for it takes over.
        let history = shared.get_or_try_init(|| {
            let (hub, details) = (Arc::clone(&self.hub), self.details.clone());
            self.heavy_answers.make(client, MAX_BYTES, move || {
                hub.publish_details(&details.read());
                let history = hub.history(key.since, key.until, key.step);
                compress(history, key.encoding).unwrap_or_default()
            })
        });
        let history = history.await.cloned();
        self.wake();
        history
    }

    /// Lets the sampler take a tick each second, because a page is open.
    fn wake(&self) {
        // Where the channel is full, the sampler wakes up anyhow.
        let _sent = self.sampling.try_send(());
    }

    /// Ends the streams of all open pages, so that a server that stops does not wait for them.
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

fn identity(
    registry: &Registry,
    settings: DashboardSettings,
    ops: Vec<&'static str>,
    now: Duration,
) -> ServiceIdentity {
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
        ops,
    }
}
