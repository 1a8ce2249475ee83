//! The server: listeners, workers, wiring.
//!
//! What is served is told elsewhere: the API in `api`, the operators' endpoints by the recorders. How it ends is told in
//! `shutdown`.

use std::any::Any;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZero;
use std::thread;
use std::time::Duration;

use actix_server::{Server as Workers, ServerBuilder};
use actix_web::dev::{Extensions, HttpServiceFactory};
use actix_web::guard::fn_guard;
use actix_web::{App, rt, web};
use tokio::net::TcpSocket;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;

use super::access::{Access, Refusal};
use super::api::{self, Api, BodyLimits, Documentation};
use super::connection::{self, Drain, Reception, Screen};
use super::descriptors;
use super::exclusions;
use super::intake::Intake;
use super::ops_watch::OpsWatch;
use super::settings::{EXIT_BAD_SETTING, LimitSettings, ServerSettings, Settings};
use super::shutdown::{Serving, Shutdown, Signals};
use super::store::{OpenError, Store};
use super::supervisor;
use super::threads;
use actix_vitals::ops;
use actix_vitals::{BuildError, Vitals};

/// Connections that may wait to be accepted, of each listener.
const BACKLOG: u32 = 2048;

/// Threads that serve the operators' listener: scrapes and probes are few.
const OPS_WORKERS: usize = 1;

/// The operators' endpoints, for the greeting to link to.
const OPERATIONS: &[&str] = &[
    "/dashboard",
    "/docs",
    "/health",
    "/livez",
    "/metrics",
    "/readyz",
];

/// Why the server did not start, or did not end well; a whole sentence, without its full stop.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error("Cannot listen on {address}: {cause}")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system says.
        cause: io::Error,
    },
    /// What was configured about access is not taken.
    #[error(transparent)]
    Access(#[from] Refusal),
    /// The system does not give the process the resources that its start needs.
    #[error(
        "The start takes {count} {resource}, and the system does not allow that many ({limits}): {cause}"
    )]
    Resources {
        /// How many it takes.
        count: usize,
        /// Of what.
        resource: &'static str,
        /// What may limit it.
        limits: &'static str,
        /// What the system says.
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
    /// Threads or signal handlers could not be set up, or the accept loop broke.
    #[error("The server failed: {0}")]
    Failed(#[from] io::Error),
    /// A second signal came while requests were still in flight.
    #[error("Stopped at once by a second signal, with requests in flight")]
    Interrupted,
}

impl ServerError {
    /// The exit code to end with: a bad setting stays bad, so a supervisor need not try again.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Access(_) => EXIT_BAD_SETTING,
            _ => 1,
        }
    }
}

/// The service, with its listeners bound and its database open, ready to run.
///
/// Clients may connect from now on; they are answered once it runs.
#[derive(Debug)]
pub struct Server {
    settings: ServerSettings,
    limits: LimitSettings,
    access: Access,
    vitals: Vitals,
    ops_watch: OpsWatch,
    store: Store,
    public_listener: Listener,
    ops_listener: Option<Listener>,
    signals: Signals,
    hangups: Signal,
}

/// The service at work.
struct Started {
    signals: Signals,
    /// The workers of the public listener.
    serving: JoinHandle<io::Result<()>>,
    shutdown: Shutdown,
}

/// A bound socket, and the address it got.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Tries whether the system lets the process have the file descriptors and the threads that its start takes: without
    /// them, what starts the runtimes would panic. To be called before there is any. Blocks for some milliseconds.
    pub fn check_resources(settings: &Settings) -> Result<(), ServerError> {
        descriptors::provide(settings);
        let of_operators = settings.server.ops_listen.map_or(0, |_| OPS_WORKERS);
        let workers = settings.server.workers.unwrap_or_else(cores) + of_operators;
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

    /// Binds the listeners, opens the database and runs its migrations; `vitals` will watch it.
    ///
    /// Returns `None` if SIGTERM or SIGINT comes first. The opening of the database then goes on, on a thread of its own,
    /// until the process ends.
    ///
    /// Panics outside a Tokio runtime.
    pub async fn bind(settings: Settings, vitals: Vitals) -> Result<Option<Self>, ServerError> {
        // First: from here on a signal ends the start, however long the database lets it wait.
        let mut signals = Signals::new()?;
        let hangups = signal(SignalKind::hangup())?;
        let access = Access::open(&settings.access, settings.server.ops_listen.is_some())?;
        let ops_watch = OpsWatch::register(&vitals).map_err(ServerError::OpsWatch)?;
        let public_listener = Listener::bind(settings.server.listen)?;
        let ops_listener = settings.server.ops_listen.map(Listener::bind).transpose()?;
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
        // Last: where the start fails, its sentence stands alone.
        descriptors::warn_of_shortage(&settings);
        let known = api::patterns(scope(&settings.server), body_limits(&settings.limits));
        exclusions::warn_of_unknown(&settings.metrics.exclude, &known);
        Ok(Some(Self {
            settings: settings.server,
            limits: settings.limits,
            access,
            vitals,
            ops_watch,
            store,
            public_listener,
            ops_listener,
            signals,
            hangups,
        }))
    }

    /// The address that the API is served on.
    pub fn address(&self) -> SocketAddr {
        self.public_listener.address
    }

    /// The address of the operators' endpoints, where it is another one.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops_listener.as_ref().map(|listener| listener.address)
    }

    /// Writes each address on one line, for a script to read.
    pub fn announce(&self, out: &mut impl io::Write) -> io::Result<()> {
        let scheme = self.access.public_encryption().scheme();
        writeln!(out, "listening on {scheme}://{}", self.address())?;
        if let Some(address) = self.ops_address() {
            let scheme = self.access.ops_encryption().scheme();
            writeln!(out, "ops listening on {scheme}://{address}")?;
        }
        out.flush()
    }

    /// Serves until SIGTERM or SIGINT, and then ends in order: see `shutdown`. A second signal ends it at once.
    pub async fn run(self) -> Result<(), ServerError> {
        let ops_address = self.ops_address().unwrap_or(self.address());
        self.access.warn_of_open_doors(ops_address);
        let Started {
            mut signals,
            serving,
            shutdown,
        } = self.start()?;
        rt::spawn(threads::keep_one());
        rt::spawn(supervisor::supervise(shutdown.vitals.clone()));
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "shutting down"),
            // It ends by itself only when it fails.
            ended = serving => return ended.map_err(io::Error::other)?.map_err(ServerError::from),
        }
        tokio::select! {
            () = shutdown.run() => Ok(()),
            _ = signals.next() => Err(ServerError::Interrupted),
        }
    }

    /// Starts the workers of each listener, and has an eye on the files that tell who may enter.
    fn start(self) -> io::Result<Started> {
        rt::spawn(self.access.clone().keep_current(self.hangups));
        let settings = self.settings;
        let intake = Intake::default();
        let drain = Drain::default();
        let vitals = self.vitals;
        let watched = vitals.clone();
        // Where the operators have no listener of their own, they are served on this one.
        let ops = self.ops_watch.endpoints(&vitals);
        let shared_ops = self.ops_listener.is_none().then(|| ops.clone());
        let scope = scope(&settings);
        let body_limits = body_limits(&self.limits);
        let api = Api {
            store: self.store,
            body_limits,
            answer_memory: vitals.answer_memory().clone(),
            documentation: Documentation::of(scope, body_limits),
            operations: shared_ops.as_ref().map_or(&[], |_| OPERATIONS),
        };
        let (monitor, on_connect) = (vitals.http(), vitals.on_connect());
        let connections = vitals.connections().clone();
        let access = self.access.clone();
        let taken_in = intake.clone();
        let app = move || {
            App::new()
                .configure(|routes| {
                    api.configure(routes);
                    // Last, as its scope begins like every path: who asks Actix which route a path belongs to is told
                    // of none behind it.
                    if let Some(ops) = &shared_ops {
                        routes.service(guarded(ops.clone(), &access));
                    }
                })
                .wrap(taken_in.clone())
                .wrap(Screen)
                .wrap(access.headers())
                // The outermost, so that nothing escapes it.
                .wrap(monitor.clone())
        };
        let reception = Reception {
            handshake: self.access.public_encryption(),
            limits: self.limits,
            memory: vitals.answer_memory().clone(),
            connections: Some(connections),
            drain: drain.clone(),
            on_connect,
        };
        let public = workers(&settings, settings.workers);
        let Listener {
            socket,
            address: public_address,
        } = self.public_listener;
        let public = connection::listen(public, socket, reception, app)?.run();
        let signals = self.signals;
        let started = |public: Workers, operators| Started {
            shutdown: Shutdown {
                vitals: watched,
                public: Serving {
                    workers: public.handle(),
                    drain,
                },
                operators,
                intake,
                delay: settings.drain_delay,
                timeout: settings.shutdown_timeout,
            },
            serving: rt::spawn(public),
            signals,
        };
        let Some(listener) = self.ops_listener else {
            return Ok(started(public, None));
        };
        let ops_drain = Drain::default();
        let access = self.access;
        let beside = api::Listener::Operators {
            api_scheme: access.public_encryption().scheme(),
            api_address: public_address,
        };
        let documentation = Documentation::of(beside, body_limits);
        let encryption = access.ops_encryption();
        let memory = vitals.answer_memory().clone();
        let app = move || {
            App::new()
                .configure(ops.clone())
                .configure(|routes| documentation.configure(routes))
                .default_service(web::to(api::no_route))
                .wrap(access.gate())
                .wrap(Screen)
                .wrap(access.headers())
        };
        let operators = workers(&settings, Some(OPS_WORKERS));
        let reception = Reception {
            handshake: encryption,
            limits: self.limits,
            memory,
            // Those are the operators', not the service's.
            connections: None,
            drain: ops_drain.clone(),
            on_connect: |_: &dyn Any, _: &mut Extensions| (),
        };
        let operators = connection::listen(operators, listener.socket, reception, app)?.run();
        let serving = Serving {
            workers: operators.handle(),
            drain: ops_drain,
        };
        rt::spawn(operators);
        Ok(started(public, Some(serving)))
    }
}

/// The operators' endpoints among others: where a path is one of theirs, nothing is reached but through the gate.
fn guarded<F>(ops: F, access: &Access) -> impl HttpServiceFactory + use<F>
where
    F: FnOnce(&mut web::ServiceConfig),
{
    web::scope("")
        .guard(fn_guard(|request| ops::serves(request.head().uri.path())))
        .wrap(access.gate())
        .configure(ops)
}

/// The services of the public listener.
fn scope(settings: &ServerSettings) -> api::Listener {
    match settings.ops_listen {
        Some(_) => api::Listener::Public,
        None => api::Listener::Shared,
    }
}

fn body_limits(limits: &LimitSettings) -> BodyLimits {
    BodyLimits {
        bytes: limits.body_limit,
        depth: limits.json_depth,
    }
}

/// The default number of workers of a listener, as in Actix.
fn cores() -> usize {
    thread::available_parallelism().map_or(2, NonZero::get)
}

/// Threads to serve a listener: that many, or one for each core.
fn workers(settings: &ServerSettings, count: Option<usize>) -> ServerBuilder {
    let server = ServerBuilder::new()
        .disable_signals()
        .shutdown_timeout(whole_seconds(settings.shutdown_timeout));
    match count {
        Some(count) => server.workers(count),
        None => server,
    }
}

impl Listener {
    /// Binds and listens, as Actix would, but so that the operators' listener is refused before anything else starts.
    fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        listen(address).map_err(|cause| ServerError::Listen { address, cause })
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Or a restart would have to wait for the connections of the run before to be forgotten.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let socket = socket.listen(BACKLOG)?.into_std()?;
    Ok(Listener {
        address: socket.local_addr()?,
        socket,
    })
}

/// The duration in the seconds that Actix counts in, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
