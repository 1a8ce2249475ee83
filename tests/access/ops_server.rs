//! A server with an ops listener and a web configuration, and clients for it.

use std::path::PathBuf;
use std::sync::Arc;

use reqwest::{Client, ClientBuilder, Identity, Method, RequestBuilder};
use tempfile::TempDir;

use crate::access::authority::{Authority, Certificate};
use crate::support::server::{Answer, Server};

/// The bcrypt hash of `secret`, at the lowest cost.
pub(crate) const HASH: &str = "$2b$04$aaaaaaaaaaaaaaaaaaaaaOGY9KrC7e/pHj3EXQPxs8hKEBbvQhsvG";

/// The section of a web configuration with the user `alice`, whose password is `secret`.
pub(crate) fn alice() -> String {
    format!("basic_auth_users:\n  alice: {HASH}\n")
}

/// The TLS section of a web configuration, with these further lines.
pub(crate) fn tls(lines: &[&str]) -> String {
    let mut all = vec![
        "tls_server_config:",
        "cert_file: cert.pem",
        "key_file: key.pem",
    ];
    all.extend(lines);
    all.join("\n  ") + "\n"
}

/// A directory with the access files. It has `cert.pem`, `key.pem` and `ca.pem`.
pub(crate) struct AccessFiles {
    directory: TempDir,
    pub(crate) authority: Authority,
}

impl AccessFiles {
    pub(crate) fn new() -> Self {
        let files = Self {
            directory: TempDir::new().unwrap(),
            authority: Authority::new(),
        };
        files.install(&files.authority.server());
        files.write("ca.pem", files.authority.pem());
        files
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a file atomically.
    pub(crate) fn write(&self, name: &str, contents: &str) {
        let fresh = self.path("fresh");
        std::fs::write(&fresh, contents).unwrap();
        std::fs::rename(fresh, self.path(name)).unwrap();
    }

    /// Replaces the server's certificate and key.
    pub(crate) fn install(&self, certificate: &Certificate) {
        self.write("key.pem", &certificate.key);
        self.write("cert.pem", &certificate.pem);
    }

    /// A builder of clients that trust the authority.
    pub(crate) fn trusting(&self) -> ClientBuilder {
        let authority = reqwest::Certificate::from_pem(self.authority.pem().as_bytes()).unwrap();
        client().add_root_certificate(authority)
    }

    /// A client that trusts the authority, and presents this certificate.
    pub(crate) fn client_with(&self, certificate: &Certificate) -> Client {
        let both = format!("{}{}", certificate.key, certificate.pem);
        let identity = Identity::from_pem(both.as_bytes()).unwrap();
        self.trusting().identity(identity).build().unwrap()
    }
}

/// A builder of clients that trust no authority.
pub(crate) fn client() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .pool_idle_timeout(std::time::Duration::from_secs(2))
        .timeout(std::time::Duration::from_secs(60))
}

/// A server with an ops listener, and a client that trusts its certificate.
pub(crate) struct OpsServer {
    pub(crate) server: Server,
    pub(crate) files: Arc<AccessFiles>,
    pub(crate) url: String,
    pub(crate) client: Client,
}

impl OpsServer {
    /// Starts a server with this web configuration.
    pub(crate) fn start(web_config: &str) -> Self {
        Self::start_in(AccessFiles::new(), web_config, &[])
    }

    /// Starts a server with this web configuration and further flags.
    pub(crate) fn start_in(files: AccessFiles, web_config: &str, flags: &[&str]) -> Self {
        files.write("web.yml", web_config);
        let path = files.path("web.yml").display().to_string();
        let mut all = vec!["--ops-listen", "127.0.0.1:0", "--web-config", &path];
        all.extend(flags);
        let mut server = Server::start_with(&all);
        let client = files.trusting().build().unwrap();
        Self {
            url: server.next_address(),
            server,
            files: Arc::new(files),
            client,
        }
    }

    /// A request to the ops listener.
    pub(crate) fn request(&self, path: &str) -> RequestBuilder {
        let url = format!("{}{path}", self.url);
        self.client.request(Method::GET, url)
    }

    /// The status of a request without credentials.
    pub(crate) async fn status(&self, path: &str) -> u16 {
        Answer::of(self.request(path)).await.status
    }

    /// The status of a request of this user for `/metrics`.
    pub(crate) async fn status_for(&self, name: &str, password: &str) -> u16 {
        let request = self.request("/metrics").basic_auth(name, Some(password));
        Answer::of(request).await.status
    }
}

/// The causes of a failed connection, in one line.
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
