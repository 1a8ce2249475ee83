//! The way of a connection from its acceptance to its end: a slot, the handshake, the protocol, and the limits that it
//! must keep to all along. What is served on it is for the application that it is given to.
//!
//! - `slots`: how many connections there may be
//! - `handshake`: where an encryption plugs in
//! - `http_2`: HTTP/2, where HTTP/1 is Actix' own; `header_blocks`: the bounds on its frames as they come in
//! - `request_extent`: where a request of HTTP/1 ends, so that Actix is given one at a time
//! - `screen`: which requests do not reach the application
//! - `stream`, `watch`, `payload`: what stands under and around the protocol, and notices
//! - `state`: what that amounts to, and what is due when
//! - `served`: the protocol at work, until it ends or something is due
//! - `closing`: what a client is told last
//! - `drain`: how all of them end when the server does

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

use std::any::Any;
use std::cell::Cell;
use std::fmt;
use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::body::{BoxBody, MessageBody};
use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, KeepAlive, Protocol, Request, Response};
use actix_server::ServerBuilder;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_factory, map_config,
};
use actix_web::dev::AppConfig;
use actix_web::rt;
use futures_core::future::LocalBoxFuture;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use self::closing::CLOSE_TIMEOUT;
pub(super) use self::drain::Drain;
pub(super) use self::handshake::Handshake;
use self::handshake::NoHandshake;
pub(super) use self::screen::Screen;
use self::served::{End, Served};
use self::slots::{Client, ConnectionSlots};
use self::state::ConnectionState;
use self::stream::{ConnectionStream, FirstBytes};
use self::watch::Watch;
use super::settings::LimitSettings;
use super::threads;
use actix_vitals::http::{ConnectionMetrics, ConnectionOutcome};
use actix_vitals::memory::AnswerMemory;

/// Connections that each worker is telling at a time that there is no slot for them; further ones are told nothing.
const MAX_REFUSALS: usize = 128;

/// What the system may hold of an answer that it has not sent yet. A peer that takes nothing is noticed once that is full,
/// and one that takes less than about half of it within the timeout of a response counts as taking nothing.
const UNSENT_BYTES: u32 = 128 * 1024;

/// How the connections of a listener are received.
#[derive(Debug, Clone)]
pub(super) struct Reception<H, C> {
    /// What comes before HTTP.
    pub(super) handshake: H,
    /// What its connections must keep to.
    pub(super) limits: LimitSettings,
    /// The memory for bodies that wait for their clients.
    pub(super) memory: AnswerMemory,
    /// Where they are counted, if they are.
    pub(super) connections: Option<ConnectionMetrics>,
    /// How they are told to end.
    pub(super) drain: Drain,
    /// Called with the stream of each connection and the data that its requests share.
    pub(super) on_connect: C,
}

/// Has each worker of `server` serve the application that `app` makes on this socket.
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
    // What an application knows of its listener. Actix' own servers alone can say that one is encrypted, and its tests, by
    // this way, which is public for theirs: requests are told apart by it.
    let is_secure = !reception.handshake.is_plain();
    let config = AppConfig::__priv_test_new(is_secure, address.to_string(), address);
    let slots = ConnectionSlots::new(
        limits.max_connections,
        limits.max_connections_per_address,
        reception.memory.clone(),
    );
    server
        .max_concurrent_connections(limits.max_connections + MAX_REFUSALS)
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
                        refusals: Cell::new(0),
                    })))
                }
            })
        })
}

/// HTTP/1, as Actix speaks it.
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
        // A client that closes its side has left, and should be noticed.
        .h1_allow_half_closed(false)
        .local_addr(address)
        .graceful_shutdown_signal(move || drain.closing())
        .on_connect_ext(move |stream: &ConnectionStream<H::Stream>, data| {
            data.insert(Rc::clone(stream.state()));
            on_connect(stream, data);
        })
        .h1(fn_factory(move || ready(Ok::<_, ()>(Rc::clone(&app)))))
}

/// What Actix' HTTP/1 is given of a connection.
type Http1Connection<H> = (
    ConnectionStream<<H as Handshake>::Stream>,
    Option<SocketAddr>,
);

/// What a worker does with the connections that it is given.
struct Acceptor<H, C, P, S, B> {
    reception: Reception<H, C>,
    slots: ConnectionSlots,
    /// The connections that are being refused because all slots are taken.
    refusals: Cell<usize>,
    http_1: P,
    /// What both protocols serve.
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
    /// Gives the connection a slot and serves it, or turns it away.
    async fn receive(&self, socket: TcpStream) {
        let Ok(peer) = socket.peer_addr() else {
            // It has gone already.
            return;
        };
        let slot = match self.slots.take(peer.ip()) {
            Ok(slot) => slot,
            Err(outcome) => return self.turn_away(socket, outcome).await,
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

    async fn turn_away(&self, socket: TcpStream, outcome: ConnectionOutcome) {
        if let Some(connections) = &self.reception.connections {
            connections.refused(outcome);
        }
        if self.reception.handshake.is_plain() && self.refusals.get() < MAX_REFUSALS {
            self.refusals.set(self.refusals.get() + 1);
            closing::close_politely::<NoHandshake>(
                socket,
                &closing::closing_response(outcome, false),
            )
            .await;
            self.refusals.set(self.refusals.get() - 1);
        }
    }

    /// Serves the connection to its end, and says what became of it.
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
            // The client has left without a word.
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
            Served::new(http_2, state).await
        } else {
            let http_1 = self.http_1.call((stream, Some(peer)));
            Served::new(http_1, state).await
        };
        if let Some(stream) = returned.take() {
            close::<H>(stream, end, is_multiplexed).await;
        }
        end.outcome()
    }
}

/// Closes a stream that the protocol is done with.
async fn close<H: Handshake>(stream: H::Stream, end: End, is_multiplexed: bool) {
    match end {
        End::Limit(ConnectionOutcome::ResponseTimeout) => closing::cut::<H>(&stream),
        End::Limit(outcome) => {
            let words = closing::closing_response(outcome, is_multiplexed);
            closing::close_politely::<H>(stream, &words).await;
        }
        End::Protocol(outcome @ ConnectionOutcome::HeadersTooLarge) if is_multiplexed => {
            let words = closing::closing_response(outcome, is_multiplexed);
            closing::close_politely::<H>(stream, &words).await;
        }
        // What the protocol has answered must still arrive.
        End::Protocol(
            ConnectionOutcome::BodyTimeout
            | ConnectionOutcome::HeadersTooLarge
            | ConnectionOutcome::Malformed,
        ) => closing::close_politely::<H>(stream, &[]).await,
        End::Protocol(_) => (),
    }
}

/// Has the system notice a peer that takes nothing, or is no more: also once the last of an answer was handed to it.
fn tune(socket: &TcpStream, response_timeout: Duration) {
    let socket = SockRef::from(socket);
    let tuned = socket
        .set_tcp_user_timeout(Some(response_timeout))
        .and_then(|()| socket.set_tcp_notsent_lowat(UNSENT_BYTES));
    if let Err(error) = tuned {
        tracing::debug!(%error, "a connection's deadlines are not told to the system");
    }
}

/// What Actix gives the connections of a worker to.
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
