//! The way of a connection from its acceptance to its end: the handshake, the protocol, and the limits that each must
//! keep to. What is served on it is for the application that it is given to.

mod handshake;
mod stream;

use std::any::Any;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_http::body::MessageBody;
use actix_http::error::DispatchError;
use actix_http::{Extensions, HttpService, Protocol, Request, Response};
use actix_server::ServerBuilder;
use actix_service::{
    IntoServiceFactory, Service, ServiceFactory, ServiceFactoryExt as _, fn_factory, map_config,
};
use actix_web::dev::AppConfig;
use futures_core::future::LocalBoxFuture;
use tokio::net::TcpStream;

pub(super) use self::handshake::{Handshake, Plain};
use self::stream::Stream;

/// How long a connection that is being closed may take to take its leave.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Has each worker of `server` serve the application that `app` makes on this socket.
///
/// `on_connect` is called with the stream of each connection and the data that its requests share.
pub(super) fn listen<H, C, F, I, S, B>(
    server: ServerBuilder,
    socket: TcpListener,
    handshake: H,
    on_connect: C,
    app: F,
) -> io::Result<ServerBuilder>
where
    H: Handshake,
    C: Fn(&dyn Any, &mut Extensions) + Clone + Send + 'static,
    F: Fn() -> I + Clone + Send + 'static,
    I: IntoServiceFactory<S, Request>,
    S: ServiceFactory<Request, Config = AppConfig> + 'static,
    S::Error: Into<actix_web::Error> + 'static,
    S::InitError: fmt::Debug,
    S::Response: Into<Response<B>> + 'static,
    S::Service: 'static,
    <S::Service as Service<Request>>::Future: 'static,
    B: MessageBody + 'static,
{
    let address = socket.local_addr()?;
    let shutdown = server.graceful_shutdown_signal();
    server.listen(format!("http-{address}"), socket, move || {
        let handshake = handshake.clone();
        let on_connect = on_connect.clone();
        let shutdown = shutdown.clone();
        let app = app.clone();
        fn_factory(move || {
            let handshake = handshake.clone();
            let on_connect = on_connect.clone();
            let shutdown = shutdown.clone();
            let app = app()
                .into_factory()
                .map_err(|error| error.into().error_response());
            let http = HttpService::build()
                .client_disconnect_timeout(CLOSE_TIMEOUT)
                // A client that closes its side has left, and should be noticed.
                .h1_allow_half_closed(false)
                .local_addr(address)
                .graceful_shutdown_signal(move || {
                    let shutdown = shutdown.clone();
                    async move { shutdown.notified().await }
                })
                .on_connect_ext(move |stream: &Stream<H::Stream>, data| on_connect(stream, data))
                .finish(map_config(app, |()| AppConfig::default()))
                .new_service(());
            async move {
                let http = http.await?;
                Ok::<_, ()>(Acceptor::new(handshake, http))
            }
        })
    })
}

/// What a worker does with the connections that it is given.
struct Acceptor<H, P> {
    handshake: H,
    http: Rc<P>,
}

impl<H, P> Acceptor<H, P>
where
    H: Handshake,
    P: Service<Connection<H>, Response = (), Error = DispatchError>,
{
    fn new(handshake: H, http: P) -> Self {
        Self {
            handshake,
            http: Rc::new(http),
        }
    }
}

/// What the protocols need to know of a connection.
type Connection<H> = (
    Stream<<H as Handshake>::Stream>,
    Protocol,
    Option<SocketAddr>,
);

impl<H, P> Service<TcpStream> for Acceptor<H, P>
where
    H: Handshake,
    P: Service<Connection<H>, Response = (), Error = DispatchError> + 'static,
{
    type Response = ();
    type Error = Box<dyn StdError>;
    type Future = LocalBoxFuture<'static, Result<(), Self::Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context).map_err(Into::into)
    }

    fn call(&self, socket: TcpStream) -> Self::Future {
        let handshake = self.handshake.clone();
        let http = Rc::clone(&self.http);
        Box::pin(async move {
            let peer = socket.peer_addr().ok();
            let (stream, agreed) = handshake.shake(socket).await?;
            let mut stream = Stream::new(stream);
            let protocol = match agreed {
                Some(protocol) => protocol,
                None => stream.detect_protocol().await?,
            };
            http.call((stream, protocol, peer)).await?;
            Ok(())
        })
    }
}
