//! Who may connect and enter, and over what: TLS of the listeners, credentials and headers of the operators' endpoints,
//! and the files that tell of them, read again when they change.
//!
//! - `files`, `document`, `scalar`, `refusal`: read the files, and report what is wrong with them
//! - `web_config`, `cipher`: the web configuration file of the Prometheus exporters
//! - `tls`, `client_names`, `encryption`: what rustls makes of it, and the handshake of a connection
//! - `users`, `credentials`: the users of the operators' endpoints; `hash_queue`: the order in which passwords are
//!   hashed
//! - `rate_limit`: how often they may be used
//! - `origin`, `headers`, `gate`: what each request and each answer of them must pass
//! - `terms`: all of that as it is in force

mod cipher;
mod client_names;
mod credentials;
mod document;
mod encryption;
mod files;
mod gate;
mod hash_queue;
mod headers;
mod origin;
mod rate_limit;
mod refusal;
mod scalar;
mod terms;
mod tls;
mod users;
mod web_config;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::{Error, rt};
use parking_lot::Mutex;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

pub(super) use self::encryption::Encryption;
use self::files::{Digest, Files};
use self::gate::Gate;
pub(super) use self::gate::{foreign_origin, not_operator, too_often};
pub use self::refusal::Refusal;
use self::terms::{InForce, Sources, Terms};
use super::settings::AccessSettings;

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Who may connect and enter. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub(super) struct Access {
    sources: Arc<Sources>,
    seen: Arc<Mutex<Digest>>,
    terms: Arc<InForce>,
    gate: Gate,
}

impl Access {
    /// Reads what the settings name; `is_ops_apart` where the operators' endpoints have a listener of their own. Blocks.
    pub(super) fn open(settings: &AccessSettings, is_ops_apart: bool) -> Result<Self, Refusal> {
        let sources = Sources {
            web_config: settings.web_config.clone(),
            token_file: settings.ops_token_file.clone(),
            certificate: settings.tls_cert.clone(),
            key: settings.tls_key.clone(),
            is_ops_apart,
        };
        let mut files = Files::new();
        let terms = sources.read(&mut files)?.into_terms(None)?;
        let terms = Arc::new(InForce::new(terms));
        Ok(Self {
            sources: Arc::new(sources),
            seen: Arc::new(Mutex::new(files.digest())),
            gate: Gate::new(Arc::clone(&terms), settings.open_livez),
            terms,
        })
    }

    /// The handshake of the public listener.
    pub(super) fn public_encryption(&self) -> Encryption {
        Encryption::new(Arc::clone(&self.terms), |terms| terms.public_tls.as_ref())
    }

    /// The handshake of the operators' own listener.
    pub(super) fn ops_encryption(&self) -> Encryption {
        Encryption::new(Arc::clone(&self.terms), |terms| terms.ops_tls.as_ref())
    }

    /// What stands before the operators' endpoints.
    pub(super) fn gate<S, B>(
        &self,
    ) -> impl Transform<
        S,
        ServiceRequest,
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    > + use<S, B>
    where
        S: Service<ServiceRequest, Response = ServiceResponse<B>, Error = Error> + 'static,
        B: MessageBody + 'static,
    {
        let gate = self.gate.clone();
        from_fn(move |request, next: Next<B>| gate.clone().pass(request, next))
    }

    /// The headers of every answer that does not have its own.
    pub(super) fn headers(&self) -> DefaultHeaders {
        // A browser that is told so encrypts whatever it asks of this host, whichever the port.
        let is_encrypted = self.public_encryption().is_on()
            && (!self.sources.is_ops_apart || self.ops_encryption().is_on());
        headers::careful(is_encrypted)
    }

    /// Warns of operators' endpoints at this address that are open to more than this machine.
    pub(super) fn warn_of_open_doors(&self, address: SocketAddr) {
        if is_of_this_machine(address) {
            return;
        }
        let terms = self.terms.get();
        let is_encrypted = if self.sources.is_ops_apart {
            terms.ops_tls.is_some()
        } else {
            terms.public_tls.is_some()
        };
        if terms.credentials.is_none() && !terms.demands_certificates {
            tracing::warn!(
                %address,
                "the operators' endpoints are open to everyone who can reach this address: \
                 see --web-config, --ops-token-file and --ops-listen"
            );
        } else if !is_encrypted {
            tracing::warn!(
                %address,
                "the operators' credentials come in plain sight, unless something before this address encrypts: \
                 see --web-config"
            );
        }
    }

    /// Reads the files again whenever they have changed, and at each hangup. Never ends.
    pub(super) async fn keep_current(self, mut hangups: Signal) {
        let mut looks = interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let is_asked = tokio::select! {
                _ = looks.tick() => false,
                _ = hangups.recv() => true,
            };
            let this = self.clone();
            if rt::task::spawn_blocking(move || this.look(is_asked))
                .await
                .is_err()
            {
                tracing::error!(
                    "reading the access files again came to no end; the old terms stay"
                );
            }
        }
    }

    /// Reads the files, and puts what they say into force if it is new, or if somebody has asked.
    fn look(&self, is_asked: bool) {
        let mut files = Files::new();
        let draft = self.sources.read(&mut files);
        let digest = files.digest();
        if *self.seen.lock() == digest && !is_asked {
            return;
        }
        *self.seen.lock() = digest;
        let old = self.terms.get();
        let terms = draft.and_then(|draft| draft.into_terms(Some(&old)));
        match terms.and_then(|terms| self.replace(terms)) {
            Ok(()) => tracing::info!("the access files were read again, and are in force"),
            Err(refusal) => tracing::error!(
                "the access files were read again, and refused; the old terms stay: {refusal}"
            ),
        }
    }

    fn replace(&self, terms: Terms) -> Result<(), Refusal> {
        terms.may_replace(&self.terms.get()).map_err(|what| {
            let reason = format!("{what}, which needs a restart");
            Refusal::new("What they say", reason)
        })?;
        self.terms.replace(terms);
        Ok(())
    }
}

/// Whether only this machine can reach an address: also one of IPv4 in the clothes of IPv6 (`::ffff:127.0.0.1`). The
/// wildcards `0.0.0.0` and `::` are reached from everywhere.
fn is_of_this_machine(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
