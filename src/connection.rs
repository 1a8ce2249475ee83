//! A connection from its acceptance to its end: it takes a slot, does the handshake, and serves requests within limits.
//!
//! - `slots`: bounds the number of connections
//! - `handshake`: the trait that an encryption implements
//! - `http_2`: serves HTTP/2 (Actix serves HTTP/1); `header_blocks`: bounds its frames while they arrive
//! - `request_extent`: finds the end of a request of HTTP/1, so that Actix gets one at a time
//! - `screen`: the middleware that answers requests which must not reach the application
//! - `stream`, `watch`, `payload`: wrappers of the socket, the application and the request's body that report to `state`
//! - `state`: what the connection waits for, and until when
//! - `served`: runs the protocol until it ends or a deadline passes
//! - `closing`: the last response, and the lingering close
//! - `drain`: ends all connections at a shutdown
//!
//! The application itself is in `server::listeners`.

mod closing;
mod drain;
mod handshake;
mod header_blocks;
mod http_2;
mod payload;
mod request_extent;
mod screen;
mod served;
mod slots;
mod state;
mod stream;
mod watch;

use std::{
    any::Any,
    cell::Cell,
    fmt,
    future::ready,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_http::{
    Extensions, HttpService, KeepAlive, Protocol, Request, Response,
    body::{BoxBody, MessageBody},
    error::DispatchError,
};
use actix_server::ServerBuilder;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_factory, map_config,
};
use actix_vitals::{
    http::{ConnectionMetrics, ConnectionOutcome},
    memory::AnswerMemory,
};
use actix_web::{dev::AppConfig, rt};
use futures_core::future::LocalBoxFuture;
use socket2::SockRef;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout_at},
};

use self::{
    closing::{CLOSE_TIMEOUT, Lingering},
    handshake::NoHandshake,
    served::{End, Served},
    slots::{Client, ConnectionSlots},
    state::ConnectionState,
    stream::{ConnectionStream, FirstBytes},
    watch::Watch,
};
use super::{settings::LimitSettings, threads};

pub(super) use self::{drain::Drain, handshake::Handshake, screen::Screen};

/// How many connections without a slot each worker answers at a time. Further ones are closed without an answer.
const MAX_REJECTIONS: usize = 128;

/// How much unsent data of an answer the system buffers. A peer that reads nothing is noticed once the buffer is full. A peer
/// that reads less than about half of it within the response timeout counts as reading nothing.
const UNSENT_BYTES: u32 = 128 * 1024;

/// How the connections of a listener are accepted.
#[derive(Debug, Clone)]
pub(super) struct Reception<H, C> {
    /// What precedes HTTP.
    pub(super) handshake: H,
    /// The limits of each connection.
    pub(super) limits: LimitSettings,
    /// The budget for bodies that wait for their clients.
    pub(super) memory: AnswerMemory,
    /// The metrics that count them, if any.
    pub(super) connections: Option<ConnectionMetrics>,
    /// Ends them at a shutdown.
    pub(super) drain: Drain,
    /// Called with the stream of each connection and the data that its requests share.
    pub(super) on_connect: C,
}

/// Makes each worker of `server` serve the application that `app` returns on this socket.
pub(super) fn listen<H, C, F, I, S, B>(
    server: ServerBuilder,
    socket: TcpListener,
    reception: Reception<H, C>,
    app: F,
) -> io::Result<ServerBuilder>
where
    H: Handshake,
    C: Fn(&dyn Any, &mut Extensions) + Clone + Send + 'static,
    F: Fn() -> I + Clone + Send + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::Future: 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let address = socket.local_addr()?;
    let limits = reception.limits;
    // Whether the listener is encrypted decides the scheme of its requests. Actix has no public constructor for that, except
    // this one for its tests (docs/decisions/own-accept-loop.md).
    let is_secure = !reception.handshake.is_plain();
    let config = AppConfig::__priv_test_new(is_secure, address.to_string(), address);
    let slots = ConnectionSlots::new(
        limits.max_connections,
        limits.max_connections_per_address,
        reception.memory.clone(),
    );
    server
        .max_concurrent_connections(limits.max_connections + MAX_REJECTIONS)
        .listen(format!("http-{address}"), socket, move || {
            let reception = reception.clone();
            let slots = slots.clone();
            let app = app.clone();
            let config = config.clone();
            fn_factory(move || {
                let config = config.clone();
                let app = app().into_factory();
                let app = app.map_err(|error| error.into().error_response());
                rt::spawn(threads::keep_one());
                let app = Watch::new(map_config(app, move |()| config.clone()));
                let app = app.new_service(());
                let (reception, slots) = (reception.clone(), slots.clone());
                async move {
                    let app = app.await.map_err(|error| {
                        tracing::error!(?error, "an application cannot be started");
                    })?;
                    let app = Rc::new(app);
                    let http_1 = http_1(&reception, address, Rc::clone(&app));
                    Ok::<_, ()>(WorkerService(Rc::new(Acceptor {
                        http_1: http_1.new_service(()).await?,
                        app,
                        reception,
                        slots,
                        rejections: Cell::new(0),
                    })))
                }
            })
        })
}

/// HTTP/1, by Actix.
fn http_1<H, C, S, B>(
    reception: &Reception<H, C>,
    address: SocketAddr,
    app: Rc<Watch<S, B>>,
) -> impl ServiceFactory<
    Http1Connection<H>,
    Config = (),
    Response = (),
    Error = DispatchError,
    InitError = (),
    Service: 'static,
> + use<H, C, S, B>
where
    H: Handshake,
    C: Fn(&dyn Any, &mut Extensions) + Clone + 'static,
    S: Service<Request> + 'static,
    S::Future: 'static,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    let on_connect = reception.on_connect.clone();
    let drain = reception.drain.clone();
    HttpService::build()
        // `state` sets all time limits.
        .keep_alive(KeepAlive::Os)
        .client_request_timeout(Duration::ZERO)
        .client_disconnect_timeout(CLOSE_TIMEOUT)
        // A client that closes its side has left. Otherwise its request would go on.
        .h1_allow_half_closed(false)
        .local_addr(address)
        .graceful_shutdown_signal(move || drain.closing())
        .on_connect_ext(move |stream: &ConnectionStream<H::Stream>, data| {
            data.insert(Rc::clone(stream.state()));
            on_connect(stream, data);
        })
        .h1(fn_factory(move || ready(Ok::<_, ()>(Rc::clone(&app)))))
}

/// The input of Actix' HTTP/1: a connection and the address of its peer.
type Http1Connection<H> = (
    ConnectionStream<<H as Handshake>::Stream>,
    Option<SocketAddr>,
);

/// Serves the connections of one worker.
struct Acceptor<H, C, P, S, B> {
    reception: Reception<H, C>,
    slots: ConnectionSlots,
    /// The number of connections that are being answered because they have no slot.
    rejections: Cell<usize>,
    http_1: P,
    /// The application, for both protocols.
    app: Rc<Watch<S, B>>,
}

impl<H, C, P, S, B> Acceptor<H, C, P, S, B>
where
    H: Handshake,
    C: Fn(&dyn Any, &mut Extensions),
    P: Service<Http1Connection<H>, Response = (), Error = DispatchError>,
    S: Service<Request>,
    S::Future: 'static,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    /// Serves the connection if it gets a slot, else rejects it.
    async fn receive(&self, socket: TcpStream) {
        let Ok(peer) = socket.peer_addr() else {
            // The client has left already.
            return;
        };
        let slot = match self.slots.take(peer.ip()) {
            Ok(slot) => slot,
            Err(outcome) => return self.reject(socket, outcome).await,
        };
        let open = self
            .reception
            .connections
            .as_ref()
            .map(ConnectionMetrics::open);
        let outcome = self.serve(socket, peer, slot.client()).await;
        drop(slot);
        if let Some(open) = open {
            open.end(outcome);
        }
    }

    async fn reject(&self, socket: TcpStream, outcome: ConnectionOutcome) {
        if let Some(connections) = &self.reception.connections {
            connections.refused(outcome);
        }
        if self.reception.handshake.is_plain() && self.rejections.get() < MAX_REJECTIONS {
            self.rejections.set(self.rejections.get() + 1);
            closing::close_politely::<NoHandshake>(
                socket,
                &closing::closing_response(outcome, false),
            )
            .await;
            self.rejections.set(self.rejections.get() - 1);
        }
    }

    /// Serves the connection to its end, and returns its outcome.
    async fn serve(
        &self,
        socket: TcpStream,
        peer: SocketAddr,
        client: Client,
    ) -> ConnectionOutcome {
        let accepted = Instant::now();
        let deadline = accepted + self.reception.limits.head_timeout;
        tune(&socket, self.reception.limits.response_timeout);
        let shaken = tokio::select! {
            shaken = timeout_at(deadline, self.reception.handshake.shake(socket)) => shaken,
            () = self.reception.drain.closing() => return ConnectionOutcome::Closed,
        };
        let Ok(Ok((mut stream, agreed))) = shaken else {
            return ConnectionOutcome::TlsError;
        };
        let mut first = FirstBytes::default();
        let detected = async {
            match agreed {
                Some(protocol) => Ok(protocol),
                None => first.detect_protocol(&mut stream).await,
            }
        };
        let detected = tokio::select! {
            detected = timeout_at(deadline, detected) => detected,
            () = self.reception.drain.closing() => return ConnectionOutcome::Closed,
        };
        let protocol = match detected {
            Ok(Ok(protocol)) => protocol,
            // The client has left before it sent anything.
            Ok(Err(_)) => return ConnectionOutcome::Closed,
            Err(_) if first.is_empty() => return ConnectionOutcome::Idle,
            Err(_) => return ConnectionOutcome::HeadTimeout,
        };

        let is_multiplexed = protocol == Protocol::Http2;
        let state = Rc::new(ConnectionState::new(
            self.reception.limits,
            is_multiplexed,
            accepted,
            client,
            self.reception.drain.clone(),
        ));
        let stream = ConnectionStream::new(stream, &first, Rc::clone(&state));
        let returned = stream.returned();
        let end = if is_multiplexed {
            let mut data = Extensions::new();
            (self.reception.on_connect)(&stream, &mut data);
            let http_2 = http_2::serve(stream, Rc::clone(&self.app), Rc::clone(&state), peer);
            Served::new(http_2, Rc::clone(&state)).await
        } else {
            let http_1 = self.http_1.call((stream, Some(peer)));
            Served::new(http_1, Rc::clone(&state)).await
        };
        if let Some(stream) = returned.take() {
            let longest = if self.reception.drain.closes_after_answer() {
                // The shutdown has a timeout of its own.
                Duration::MAX
            } else {
                self.reception.limits.response_timeout
            };
            let lingering = Lingering::new(state.idle_since(), longest);
            close::<H>(stream, end, is_multiplexed, lingering).await;
        }
        end.outcome()
    }
}

/// Closes the stream once the protocol has ended.
async fn close<H: Handshake>(
    stream: H::Stream,
    end: End,
    is_multiplexed: bool,
    lingering: Lingering,
) {
    match end {
        End::Limit(ConnectionOutcome::ResponseTimeout) => closing::cut::<H>(&stream),
        End::Limit(outcome @ ConnectionOutcome::Idle) => {
            let response = closing::closing_response(outcome, is_multiplexed);
            closing::close_gently::<H>(stream, &response, lingering).await;
        }
        End::Limit(outcome) => {
            let response = closing::closing_response(outcome, is_multiplexed);
            closing::close_politely::<H>(stream, &response).await;
        }
        End::Protocol(outcome @ ConnectionOutcome::HeadersTooLarge) if is_multiplexed => {
            let response = closing::closing_response(outcome, is_multiplexed);
            closing::close_politely::<H>(stream, &response).await;
        }
        // The protocol has answered. That answer must still arrive.
        End::Protocol(
            ConnectionOutcome::BodyTimeout
            | ConnectionOutcome::HeadersTooLarge
            | ConnectionOutcome::Malformed,
        ) => closing::close_politely::<H>(stream, &[]).await,
        End::Protocol(ConnectionOutcome::Closed) if is_multiplexed => {
            closing::close_gently::<H>(stream, &[], lingering).await;
        }
        End::Protocol(_) => (),
    }
}

/// Makes the system notice a peer that reads nothing or has disappeared, even after it has got the last byte of an answer.
fn tune(socket: &TcpStream, response_timeout: Duration) {
    let socket = SockRef::from(socket);
    let tuned = socket
        .set_tcp_user_timeout(Some(response_timeout))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES));
    if let Err(error) = tuned {
        tracing::debug!(%error, "the system does not accept the deadlines of a connection");
    }
}

/// The service that Actix passes the connections of a worker to.
struct WorkerService<H, C, P, S, B>(Rc<Acceptor<H, C, P, S, B>>);

impl<H, C, P, S, B> Service<TcpStream> for WorkerService<H, C, P, S, B>
where
    H: Handshake,
    C: Fn(&dyn Any, &mut Extensions) + 'static,
    P: Service<Http1Connection<H>, Response = (), Error = DispatchError> + 'static,
    S: Service<Request> + 'static,
    S::Future: 'static,
    S::Error: Into<Response<BoxBody>>,
    S::Response: Into<Response<B>>,
    B: MessageBody + 'static,
{
    type Response = ();
    type Error = DispatchError;
    type Future = LocalBoxFuture<'static, Result<(), DispatchError>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), DispatchError>> {
        self.0.http_1.poll_ready(context)
    }

    fn call(&self, socket: TcpStream) -> Self::Future {
        let acceptor = Rc::clone(&self.0);
        Box::pin(async move {
            acceptor.receive(socket).await;
            Ok(())
        })
    }
}
