//! Access to the service: TLS of both listeners, and the credentials, rate limit and headers of the ops endpoints.
//!
//! The `exporter-web-config` crate reads the files and checks credentials. This module connects it to Actix and to the
//! settings of the service:
//!
//! - `terms`: the rules of all files together, and their reload
//! - `encryption`: the TLS handshake of a connection
//! - `gate`: the checks before the ops endpoints; `origin` is the one against pages of other origins
//! - `headers`: the security headers of every response

mod encryption;
mod gate;
mod headers;
mod origin;
mod terms;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::middleware::{DefaultHeaders, Next, from_fn};
use actix_web::{Error, rt};
use exporter_web_config::Reloading;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

pub use exporter_web_config::ConfigError;

pub(super) use self::encryption::Encryption;
use self::gate::Gate;
pub(super) use self::gate::{foreign_origin, not_operator, too_often};
use self::terms::TermFiles;
use super::settings::AccessSettings;

/// How often the files are checked for changes.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The access rules of the service. A clone is the same rules.
#[derive(Debug, Clone)]
pub(super) struct OpsAccess {
    terms: Arc<Reloading<TermFiles>>,
    gate: Gate,
}

impl OpsAccess {
    /// Reads the files that the settings name. Blocks.
    ///
    /// `has_ops_listener` is whether the ops endpoints have a listener of their own.
    pub(super) fn open(
        settings: &AccessSettings,
        has_ops_listener: bool,
    ) -> Result<Self, ConfigError> {
        let files = TermFiles {
            web_config: settings.web_config.clone(),
            token_file: settings.ops_token_file.clone(),
            certificate: settings.tls_cert.clone(),
            key: settings.tls_key.clone(),
            has_ops_listener,
        };
        let terms = Arc::new(Reloading::open(files)?);
        Ok(Self {
            gate: Gate::new(Arc::clone(&terms), settings.open_livez),
            terms,
        })
    }

    /// The TLS handshake of the public listener.
    pub(super) fn public_encryption(&self) -> Encryption {
        Encryption::new(Arc::clone(&self.terms), |terms| terms.public_tls.as_ref())
    }

    /// The TLS handshake of the ops listener.
    pub(super) fn ops_encryption(&self) -> Encryption {
        Encryption::new(Arc::clone(&self.terms), |terms| terms.ops.tls())
    }

    /// The middleware before the ops endpoints.
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

    /// The security headers of every response that does not set them itself.
    pub(super) fn headers(&self) -> DefaultHeaders {
        // Browsers apply `Strict-Transport-Security` to all ports of a host.
        let is_encrypted = self.public_encryption().is_on()
            && (!self.terms.source().has_ops_listener || self.ops_encryption().is_on());
        headers::security_headers(is_encrypted)
    }

    /// Warns if other machines can reach the ops endpoints at this address without credentials, or without TLS.
    pub(super) fn warn_of_open_ops(&self, address: SocketAddr) {
        if is_loopback(address) {
            return;
        }
        let terms = self.terms.current();
        let is_encrypted = if self.terms.source().has_ops_listener {
            terms.ops.tls().is_some()
        } else {
            terms.public_tls.is_some()
        };
        if !terms.ops.requires_credentials() && !terms.ops.requires_client_certificates() {
            tracing::warn!(
                %address,
                "the ops endpoints are open to everyone who can reach this address: \
                 see --web-config, --ops-token-file and --ops-listen"
            );
        } else if !is_encrypted {
            tracing::warn!(
                %address,
                "the credentials of the ops endpoints are sent without TLS, unless a proxy before this address encrypts: \
                 see --web-config"
            );
        }
    }

    /// Reloads the files when they change, and at each SIGHUP. Never returns.
    pub(super) async fn keep_current(self, mut hangups: Signal) {
        let mut checks = interval(CHECK_INTERVAL);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let has_files = self.terms.source().exist();
        loop {
            let is_forced = tokio::select! {
                _ = checks.tick(), if has_files => false,
                _ = hangups.recv() => true,
            };
            let this = self.clone();
            if rt::task::spawn_blocking(move || this.reload(is_forced))
                .await
                .is_err()
            {
                tracing::error!(
                    "the reload of the access files panicked; the old ones stay in use"
                );
            }
        }
    }

    /// Reloads the files if they have changed, or if it is forced.
    fn reload(&self, is_forced: bool) {
        match self.terms.reload(is_forced) {
            Ok(false) => (),
            Ok(true) => tracing::info!("the access files were reloaded"),
            Err(error) => tracing::error!(
                "the access files were not reloaded, and the old ones stay in use: {error}"
            ),
        }
    }
}

/// Whether only this machine reaches an address, also one of IPv4 mapped to IPv6 (`::ffff:127.0.0.1`). The wildcards
/// `0.0.0.0` and `::` are reached from everywhere.
fn is_loopback(address: SocketAddr) -> bool {
    address.ip().to_canonical().is_loopback()
}

#[cfg(test)]
mod tests;
