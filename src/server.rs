//! The server: it binds the listeners, opens the database, and runs until a signal ends it.
//!
//! The application of each listener, with its middlewares and routes, is in `listeners`. The steps of a shutdown are in
//! `shutdown`.

mod bind;
mod listeners;

use std::{io, net::SocketAddr, num::NonZero, thread};

use actix_vitals::{BuildError, Vitals};
use actix_web::rt;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::JoinHandle,
};

use self::{
    bind::BoundListener,
    listeners::{OPS_WORKERS, Parts, described_listener},
};
use super::{
    access::{ConfigError, OpsAccess},
    api, descriptors, exclusions,
    intake::Intake,
    ops_watch::OpsWatch,
    settings::{EXIT_BAD_SETTING, Settings},
    shutdown::{Shutdown, Signals},
    store::{OpenError, Store},
    supervisor, threads,
};

/// Why the server did not start, or did not stop in order. Each message is a sentence without its full stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is in use, or is none of this machine's.
    #[error("Cannot listen on {address}: {cause}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the system.
        cause: io::Error,
    },
    /// A file or setting about access is not valid.
    #[error(transparent)]
    Access(#[from] ConfigError),
    /// The system does not grant the resources that the start needs.
    #[error(
        "The start needs {count} {resource}, and the system does not allow that many ({limits}): {cause}"
    )]
    Resources {
        /// How many the start needs.
        count: usize,
        /// Their name.
        resource: &'static str,
        /// The limits to look at.
        limits: &'static str,
        /// The error of the system.
        cause: io::Error,
    },
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The metrics cannot be set up.
    #[error("The metrics cannot be set up: {0}")]
    Vitals(#[from] BuildError),
    /// The metrics of the ops endpoints cannot be registered.
    #[error("The requests of the ops endpoints cannot be recorded: {0}")]
    OpsWatch(Box<dyn std::error::Error + Send + Sync>),
    /// Threads or signal handlers could not be set up, or the accept loop failed.
    #[error("The server failed: {0}")]
    Failed(#[from] io::Error),
    /// A second signal arrived during the shutdown.
    #[error("Stopped at once by a second signal, before the shutdown was complete")]
    Interrupted,
}

impl ServerError {
    /// The exit code. That of an invalid setting differs, so that a supervisor need not try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            // What cannot be built comes from the settings of the metrics.
            Self::Access(_) | Self::Vitals(_) => EXIT_BAD_SETTING,
            _ => 1,
        }
    }
}

/// The service, with bound listeners and an open database, ready to run.
///
/// Clients may connect already. They are answered once [`run`](Self::run) is called.
#[derive(Debug)]
pub struct Server {
    parts: Parts,
    public_listener: BoundListener,
    ops_listener: Option<BoundListener>,
    signals: Signals,
    hangups: Signal,
}

/// The running service.
struct Started {
    signals: Signals,
    /// Ends by itself only when the accept loop of the public listener fails.
    public: JoinHandle<io::Result<()>>,
    shutdown: Shutdown,
}

impl Server {
    /// Checks that the process may have the file descriptors, the address space and the threads that the start needs.
    ///
    /// Without them, starting a runtime would panic. Call it before any runtime exists. Blocks for some milliseconds.
    pub fn check_resources(settings: &Settings) -> Result<(), ServerError> {
        descriptors::provide(settings);
        let ops_workers = settings.server.ops_listen.map_or(0, |_| OPS_WORKERS);
        let workers = settings.server.workers.unwrap_or_else(cores) + ops_workers;
        let count = descriptors::needed_to_start(workers);
        descriptors::probe(count).map_err(|cause| ServerError::Resources {
            count,
            resource: "file descriptors",
            limits: "ulimit -n, LimitNOFILE=",
            cause,
        })?;
        let count = threads::address_space_needed(workers);
        threads::check_address_space(count).map_err(|cause| ServerError::Resources {
            count,
            resource: "MiB of address space",
            limits: "ulimit -v, LimitAS=",
            cause,
        })?;
        let count = threads::needed(workers);
        threads::probe(count).map_err(|cause| ServerError::Resources {
            count,
            resource: "threads",
            limits: "ulimit -u, LimitNPROC=, TasksMax=",
            cause,
        })
    }

    /// Binds the listeners, opens the database, which `vitals` will watch, and runs its migrations.
    ///
    /// Returns `None` if SIGTERM or SIGINT arrives first. Opening the database then continues on a thread of its own
    /// until the process ends.
    ///
    /// # Panics
    ///
    /// Outside a Tokio runtime.
    pub async fn bind(settings: Settings, vitals: Vitals) -> Result<Option<Self>, ServerError> {
        // First, so that a signal ends the start even while the database keeps it waiting.
        let mut signals = Signals::new()?;
        let hangups = signal(SignalKind::hangup())?;
        let access = OpsAccess::open(&settings.access, settings.server.ops_listen.is_some())?;
        let ops_watch = OpsWatch::register(&vitals).map_err(ServerError::OpsWatch)?;
        let public_listener = BoundListener::bind(settings.server.listen)?;
        let ops_listener = settings
            .server
            .ops_listen
            .map(BoundListener::bind)
            .transpose()?;
        let opening = {
            let (database, vitals) = (settings.database.clone(), vitals.clone());
            rt::task::spawn_blocking(move || Store::open(&database, &vitals))
        };
        let store = tokio::select! {
            opened = opening => opened.map_err(io::Error::other)??,
            name = signals.next() => {
                tracing::info!(signal = name, "stopped before the service was ready");
                return Ok(None);
            }
        };
        // Last, so that the error of a failed start is the only line.
        descriptors::warn_of_shortage(&settings);
        let known = api::patterns(described_listener(&settings.server));
        exclusions::warn_of_unknown(&settings.metrics.exclude, &known);
        Ok(Some(Self {
            parts: Parts {
                settings: settings.server,
                has_profiles: settings.metrics.profiling,
                limits: settings.limits,
                access,
                ops_watch,
                vitals,
                store,
            },
            public_listener,
            ops_listener,
            signals,
            hangups,
        }))
    }

    /// The address of the API.
    pub fn address(&self) -> SocketAddr {
        self.public_listener.address
    }

    /// The address of the ops listener, if there is one.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_listener.as_ref().map(|listener| listener.address)
    }

    /// Writes each address on one line, for scripts to read.
    pub fn announce(&self, out: &mut impl io::Write) -> io::Result<()> {
        let access = &self.parts.access;
        let scheme = access.public_encryption().scheme();
        writeln!(out, "listening on {scheme}://{}", self.address())?;
        if let Some(address) = self.ops_address() {
            let scheme = access.ops_encryption().scheme();
            writeln!(out, "ops listening on {scheme}://{address}")?;
        }
        out.flush()
    }

    /// Serves until SIGTERM or SIGINT, then shuts down in order (see `shutdown`). A second signal ends it at once.
    pub async fn run(self) -> Result<(), ServerError> {
        let ops_address = self.ops_address().unwrap_or(self.address());
        self.parts.access.warn_of_open_ops(ops_address);
        let Started {
            mut signals,
            public,
            shutdown,
        } = self.start()?;
        rt::spawn(threads::keep_one());
        rt::spawn(supervisor::supervise(shutdown.vitals.clone()));
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "shutting down"),
            ended = public => return ended.map_err(io::Error::other)?.map_err(ServerError::from),
        }
        tokio::select! {
            () = shutdown.run() => Ok(()),
            () = signals.again() => Err(ServerError::Interrupted),
        }
    }

    /// Starts the workers of each listener, and the task that reads changed access files again.
    fn start(self) -> io::Result<Started> {
        let parts = self.parts;
        rt::spawn(parts.access.clone().keep_current(self.hangups));
        let intake = Intake::default();
        let api_address = self.public_listener.address;
        let (public, serving) = parts.serve_public(self.public_listener, &intake)?;
        let ops = match self.ops_listener {
            Some(listener) => Some(parts.serve_ops(listener, api_address)?.1),
            None => None,
        };
        Ok(Started {
            signals: self.signals,
            public,
            shutdown: Shutdown {
                vitals: parts.vitals,
                store: parts.store,
                public: serving,
                ops,
                intake,
                delay: parts.settings.drain_delay,
                timeout: parts.settings.shutdown_timeout,
            },
        })
    }
}

/// The default number of workers of a listener, as in Actix.
fn cores() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}
