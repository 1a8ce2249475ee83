//! The application of each listener: its routes, its middlewares, and how its connections are received.

use std::{any::Any, io, net::SocketAddr, time::Duration};

use actix_server::{Server as Workers, ServerBuilder};
use actix_vitals::{Vitals, ops};
use actix_web::{
    App,
    dev::{Extensions, HttpServiceFactory},
    guard::fn_guard,
    rt, web,
};
use tokio::task::JoinHandle;

use super::{
    super::{
        access::OpsAccess,
        api::{self, Api, BodyLimits, Documentation},
        connection::{self, Drain, Reception, Screen},
        intake::Intake,
        ops_watch::OpsWatch,
        settings::{LimitSettings, ServerSettings},
        shutdown::Serving,
        store::Store,
    },
    bind::BoundListener,
};

/// Workers of the ops listener: scrapes and probes are few.
pub(super) const OPS_WORKERS: usize = 1;

/// What the applications of both listeners are made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) settings: ServerSettings,
    /// Whether profiles are allowed, so that they are described.
    pub(super) has_profiles: bool,
    pub(super) limits: LimitSettings,
    pub(super) access: OpsAccess,
    pub(super) ops_watch: OpsWatch,
    pub(super) vitals: Vitals,
    pub(super) store: Store,
}

/// The workers of a listener, and the handle that ends them.
type Running = (JoinHandle<io::Result<()>>, Serving);

impl Parts {
    /// Serves the API, and the ops endpoints as well unless they have a listener of their own.
    pub(super) fn serve_public(
        &self,
        listener: BoundListener,
        intake: &Intake,
    ) -> io::Result<Running> {
        let vitals = &self.vitals;
        let drain = Drain::default();
        let api = self.api();
        let ops = (self.shares_listener()).then(|| self.ops_watch.endpoints(vitals));
        let (access, intake, monitor) = (self.access.clone(), intake.clone(), vitals.http());
        let app = move || {
            App::new()
                .configure(|routes| {
                    api.configure(routes);
                    // Last: this scope matches every path, and Actix names no route behind it when it is asked which
                    // route a path belongs to.
                    if let Some(ops) = &ops {
                        routes.service(guarded(ops.clone(), &access));
                    }
                })
                .wrap(intake.clone())
                .wrap(Screen)
                .wrap(access.headers())
                // Outermost, so that it records every answer.
                .wrap(monitor.clone())
        };
        let reception = Reception {
            handshake: self.access.public_encryption(),
            limits: self.limits,
            memory: vitals.answer_memory().clone(),
            connections: Some(vitals.connections().clone()),
            drain: drain.clone(),
            on_connect: vitals.on_connect(),
        };
        let workers = workers(&self.settings, self.settings.workers);
        let workers = connection::listen(workers, listener.socket, reception, app)?;
        Ok(run(workers.run(), drain))
    }

    /// Serves the ops endpoints on their own listener, with the description of the API that is served elsewhere.
    pub(super) fn serve_ops(
        &self,
        listener: BoundListener,
        api_address: SocketAddr,
    ) -> io::Result<Running> {
        let drain = Drain::default();
        let ops = self.ops_watch.endpoints(&self.vitals);
        let access = self.access.clone();
        let described = api::DescribedListener::Ops {
            api_scheme: access.public_encryption().scheme(),
            api_address,
        };
        let documentation =
            Documentation::of(described, body_limits(&self.limits), self.has_profiles);
        let app = move || {
            App::new()
                .configure(ops.clone())
                .configure(|routes| documentation.configure(routes))
                .default_service(web::to(api::no_route))
                .wrap(access.gate())
                .wrap(Screen)
                .wrap(access.headers())
        };
        let reception = Reception {
            handshake: self.access.ops_encryption(),
            limits: self.limits,
            memory: self.vitals.answer_memory().clone(),
            // The connection metrics are about the service's clients.
            connections: None,
            drain: drain.clone(),
            on_connect: |_: &dyn Any, _: &mut Extensions| (),
        };
        let workers = workers(&self.settings, Some(OPS_WORKERS));
        let workers = connection::listen(workers, listener.socket, reception, app)?;
        Ok(run(workers.run(), drain))
    }

    fn api(&self) -> Api {
        let body_limits = body_limits(&self.limits);
        Api {
            store: self.store.clone(),
            body_limits,
            answer_memory: self.vitals.answer_memory().clone(),
            documentation: Documentation::of(
                described_listener(&self.settings),
                body_limits,
                self.has_profiles,
            ),
            has_ops: self.shares_listener(),
        }
    }

    /// Whether the ops endpoints are served on the public listener.
    fn shares_listener(&self) -> bool {
        self.settings.ops_listen.is_none()
    }
}

/// The ops endpoints among other routes. A path that belongs to them is served behind the gate only.
fn guarded<F>(ops: F, access: &OpsAccess) -> impl HttpServiceFactory + use<F>
where
    F: FnOnce(&mut web::ServiceConfig),
{
    web::scope("")
        .guard(fn_guard(|request| ops::serves(request.head().uri.path())))
        .wrap(access.gate())
        .configure(ops)
}

/// The public listener, as its description names it.
pub(super) fn described_listener(settings: &ServerSettings) -> api::DescribedListener {
    match settings.ops_listen {
        Some(_) => api::DescribedListener::Public,
        None => api::DescribedListener::Shared,
    }
}

fn body_limits(limits: &LimitSettings) -> BodyLimits {
    BodyLimits {
        bytes: limits.body_limit,
        depth: limits.json_depth,
    }
}

/// A builder for `count` worker threads; by default one for each core.
fn workers(settings: &ServerSettings, count: Option<usize>) -> ServerBuilder {
    let server = ServerBuilder::new()
        .disable_signals()
        .shutdown_timeout(whole_seconds(settings.shutdown_timeout));
    match count {
        Some(count) => server.workers(count),
        None => server,
    }
}

fn run(workers: Workers, drain: Drain) -> Running {
    let serving = Serving {
        workers: workers.handle(),
        drain,
    };
    (rt::spawn(workers), serving)
}

/// The duration in whole seconds, which Actix counts in, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}
