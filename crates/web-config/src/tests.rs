//! Fixtures of the tests: a directory with certificates, keys and a web configuration file.

mod accepted;
mod exporter_toolkit;
mod rejected;
mod reload;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair};
use tempfile::TempDir;

use crate::{AccessRules, ConfigError, Reloading, WebConfigFile};

/// The bcrypt hash of `secret`, at the lowest cost.
const HASH: &str = "$2b$04$aaaaaaaaaaaaaaaaaaaaaOGY9KrC7e/pHj3EXQPxs8hKEBbvQhsvG";

/// A directory with `cert.pem`, `key.pem`, `other_key.pem`, `ca.pem`, and PEM that cannot be used.
struct TestDirectory(TempDir);

impl TestDirectory {
    fn new() -> Self {
        let directory = Self(TempDir::new().unwrap());
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = authority.self_signed(&authority_key).unwrap();
        directory.write("cert.pem", &cert.pem());
        directory.write("key.pem", &signing_key.serialize_pem());
        directory.write("other_key.pem", &authority_key.serialize_pem());
        directory.write("ca.pem", &authority.pem());
        directory.write(
            "junk.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        directory.write("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%\n");
        directory.write("empty.pem", "");
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
    }

    /// Opens a web configuration file with these contents, as a server does at its start.
    fn open(&self, contents: &str) -> Result<Reloading<WebConfigFile>, ConfigError> {
        self.write("web.yml", contents);
        Reloading::open(WebConfigFile::new(self.path("web.yml")))
    }

    fn rules(&self, contents: &[u8]) -> Result<Arc<AccessRules>, ConfigError> {
        fs::write(self.path("web.yml"), contents).unwrap();
        let web = Reloading::open(WebConfigFile::new(self.path("web.yml")))?;
        Ok(web.current())
    }
}

/// A web configuration with these lines in its TLS section, after the certificate and its key.
fn tls(lines: &[&str]) -> String {
    let mut all = vec![
        "tls_server_config:",
        "cert_file: cert.pem",
        "key_file: key.pem",
    ];
    all.extend(lines);
    all.join("\n  ") + "\n"
}
