//! The server: listeners, workers, wiring, and the way from a signal to the end.
//!
//! What is served is told elsewhere: the API in `api`, the operators' endpoints by the recorders.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::web::ServiceConfig;
use actix_web::{App, HttpServer, rt};
use tokio::net::TcpSocket;
use tokio::signal::unix::{SignalKind, signal};

use super::api::Api;
use super::settings::Settings;
use super::store::{OpenError, Store};

/// Connections that may wait to be accepted, of each listener.
const BACKLOG: u32 = 2048;

/// Threads that serve the operators' listener: scrapes and probes are few.
const OPS_WORKERS: usize = 1;

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
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Threads or signal handlers could not be set up, or the accept loop broke.
    #[error("The server failed: {0}")]
    Failed(#[from] io::Error),
    /// A second signal came while requests were still in flight.
    #[error("Stopped at once by a second signal, with requests in flight")]
    Interrupted,
}

/// The service, with its listeners bound and its database open, ready to run.
///
/// Clients may connect from now on; they are answered once it runs.
#[derive(Debug)]
pub struct Server {
    settings: Settings,
    store: Store,
    public: Listener,
    ops: Option<Listener>,
}

/// A bound socket, and the address it got.
#[derive(Debug)]
struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Binds the listeners, opens the database and brings its tables up to date. Blocks.
    ///
    /// Panics outside a Tokio runtime.
    pub fn bind(settings: Settings) -> Result<Self, ServerError> {
        let public = Listener::bind(settings.server.listen)?;
        let ops = settings.server.ops_listen.map(Listener::bind).transpose()?;
        let store = Store::open(&settings.database)?;
        Ok(Self {
            settings,
            store,
            public,
            ops,
        })
    }

    /// The address that the API is served on.
    pub fn address(&self) -> SocketAddr {
        self.public.address
    }

    /// The address of the operators' endpoints, where it is another one.
    pub fn ops_address(&self) -> Option<SocketAddr> {
        self.ops.as_ref().map(|listener| listener.address)
    }

    /// Writes each address on one line, for a script to read.
    pub fn announce(&self, out: &mut impl io::Write) -> io::Result<()> {
        writeln!(out, "listening on http://{}", self.address())?;
        if let Some(address) = self.ops_address() {
            writeln!(out, "ops listening on http://{address}")?;
        }
        out.flush()
    }

    /// Serves until SIGTERM or SIGINT, then lets the requests in flight finish within the shutdown timeout.
    ///
    /// A second signal ends it at once.
    pub async fn run(self) -> Result<(), ServerError> {
        let shutdown_timeout = self.settings.server.shutdown_timeout;
        let operations = if self.ops.is_some() {
            &[][..]
        } else {
            OPERATIONS
        };
        let api = Api {
            store: self.store,
            body_limit: self.settings.server.body_limit,
            operations,
        };
        let with_ops = self.ops.is_none();
        let public = HttpServer::new(move || {
            let api = api.clone();
            App::new().configure(move |routes| {
                if with_ops {
                    configure_ops(routes);
                }
                api.configure(routes);
            })
        });
        let public = match self.settings.server.workers {
            Some(count) => public.workers(count),
            None => public,
        }
        // A client that closes its side has left, and should be noticed.
        .h1_allow_half_closed(false)
        .disable_signals()
        .shutdown_timeout(whole_seconds(shutdown_timeout))
        .listen_auto_h2c(self.public.socket)?
        .run();
        let mut servers = vec![public.handle()];
        let serving = rt::spawn(public);

        if let Some(listener) = self.ops {
            let ops = HttpServer::new(|| App::new().configure(configure_ops))
                .workers(OPS_WORKERS)
                .h1_allow_half_closed(false)
                .disable_signals()
                .shutdown_timeout(whole_seconds(shutdown_timeout))
                .listen_auto_h2c(listener.socket)?
                .run();
            servers.push(ops.handle());
            rt::spawn(ops);
        }

        let mut signals = Signals::new()?;
        tokio::select! {
            name = signals.next() => tracing::info!(signal = name, "shutting down"),
            // It ends by itself only when it fails.
            ended = serving => return ended.map_err(io::Error::other)?.map_err(ServerError::from),
        }
        tokio::select! {
            () = stop(servers) => {
                tracing::info!("stopped");
                Ok(())
            }
            _ = signals.next() => Err(ServerError::Interrupted),
        }
    }
}

/// The operators' endpoints, by path.
const OPERATIONS: &[&str] = &[];

/// Adds the operators' endpoints.
fn configure_ops(_routes: &mut ServiceConfig) {}

/// Stops the servers, one after the other: the operators' last, so that they can watch until the end.
async fn stop(servers: Vec<ServerHandle>) {
    for server in servers {
        server.stop(true).await;
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

/// The signals that ask the service to end.
struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Waits for the next, and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// The duration in the seconds that Actix counts in, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
