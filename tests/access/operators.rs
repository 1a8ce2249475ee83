//! A server whose operators' endpoints have a listener and a web configuration of their own, and clients of theirs.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{Client, ClientBuilder, Identity, Method, RequestBuilder};
use tempfile::TempDir;

use crate::access::authority::{Authority, Certificate};
use crate::support::server::{Answer, Server};

/// `secret`, at the least cost.
pub(crate) const HASH: &str = "$2b$04$aaaaaaaaaaaaaaaaaaaaaOGY9KrC7e/pHj3EXQPxs8hKEBbvQhsvG";

/// The section of a web configuration that lets `alice` in, by `secret`.
pub(crate) fn alice() -> String {
    format!("basic_auth_users:\n  alice: {HASH}\n")
}

/// The section of a web configuration that encrypts, with these further lines.
pub(crate) fn tls(lines: &[&str]) -> String {
    let mut all = vec![
        "tls_server_config:",
        "cert_file: cert.pem",
        "key_file: key.pem",
    ];
    all.extend(lines);
    all.join("\n  ") + "\n"
}

/// A directory for the files that tell who may enter. `cert.pem`, `key.pem` and `ca.pem` are there.
pub(crate) struct Place {
    directory: TempDir,
    pub(crate) authority: Authority,
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            directory: TempDir::new().unwrap(),
            authority: Authority::new(),
        };
        place.install(&place.authority.server());
        place.write("ca.pem", place.authority.pem());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a file as a careful program does: whole, or not at all.
    pub(crate) fn write(&self, name: &str, contents: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, contents).unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// Makes a certificate the one of the server.
    pub(crate) fn install(&self, certificate: &Certificate) {
        self.write("key.pem", &certificate.key);
        self.write("cert.pem", &certificate.pem);
    }

    /// What clients of the server begin with: they trust the authority.
    pub(crate) fn trusting(&self) -> ClientBuilder {
        let authority = reqwest::Certificate::from_pem(self.authority.pem().as_bytes()).unwrap();
        client().add_root_certificate(authority)
    }

    /// A client that trusts the authority, and has this certificate.
    pub(crate) fn client_with(&self, certificate: &Certificate) -> Client {
        let both = format!("{}{}", certificate.key, certificate.pem);
        let identity = Identity::from_pem(both.as_bytes()).unwrap();
        self.trusting().identity(identity).build().unwrap()
    }
}

/// What a client begins with that trusts nobody.
pub(crate) fn client() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .pool_idle_timeout(std::time::Duration::from_secs(2))
        .timeout(std::time::Duration::from_secs(60))
}

/// A server with a listener for its operators, and a client that trusts it.
pub(crate) struct Operators {
    pub(crate) server: Server,
    pub(crate) place: Arc<Place>,
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl Operators {
    /// Starts with this web configuration.
    pub(crate) fn start(web_config: &str) -> Self {
        Self::start_in(Place::new(), web_config, &[])
    }

    /// Starts with this web configuration, and these further flags.
    pub(crate) fn start_in(place: Place, web_config: &str, flags: &[&str]) -> Self {
        place.write("web.yml", web_config);
        let path = place.path("web.yml").display().to_string();
        let mut all = vec!["--ops-listen", "127.0.0.1:0", "--web-config", &path];
        all.extend(flags);
        let mut server = Server::start_with(&all);
        let client = place.trusting().build().unwrap();
        Self {
            url: server.next_address(),
            server,
            place: Arc::new(place),
            client,
        }
    }

    /// A request for the operators' endpoints.
    pub(crate) fn request(&self, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url);
        self.client.request(Method::GET, url)
    }

    /// The status of an answer to somebody without credentials.
    pub(crate) async fn status(&self, path: &str) -> u16 {
        Answer::of(self.request(path)).await.status
    }

    /// The status of an answer to this user.
    pub(crate) async fn status_for(&self, name: &str, password: &str) -> u16 {
        let request = self.request("/metrics").basic_auth(name, Some(password));
        Answer::of(request).await.status
    }
}

/// Why a connection was not made: the whole of it, in one line.
pub(crate) fn reason(error: &reqwest::Error) -> String {
    use std::error::Error as _;

    let mut reason = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        reason = format!("{reason}: {error}");
        cause = error.source();
    }
    reason
}
