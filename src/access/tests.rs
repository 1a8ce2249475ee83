//! Combinations of the access settings, and what may replace what while the service runs. The crate tests the file itself.

use std::fs;
use std::path::PathBuf;

use exporter_web_config::{ConfigFiles, ConfigSource as _};
use rcgen::CertifiedKey;
use tempfile::TempDir;

use super::*;

/// The bcrypt hash of `secret`, at the lowest cost.
const HASH: &str = "$2b$04$aaaaaaaaaaaaaaaaaaaaaOGY9KrC7e/pHj3EXQPxs8hKEBbvQhsvG";

const TOKEN: &str = "a-token-that-nobody-guesses";

/// A directory with `cert.pem`, its `key.pem`, `other_key.pem`, and a web configuration.
struct TestDirectory(TempDir);

impl TestDirectory {
    fn new() -> Self {
        let directory = Self(TempDir::new().unwrap());
        let CertifiedKey { cert, signing_key } = certificate();
        directory.write("cert.pem", &cert.pem());
        directory.write("key.pem", &signing_key.serialize_pem());
        let other = certificate();
        directory.write("other_key.pem", &other.signing_key.serialize_pem());
        directory
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
    }

    fn settings(&self, web_config: &str) -> AccessSettings {
        self.write("web.yml", web_config);
        AccessSettings {
            web_config: Some(self.path("web.yml")),
            ops_token_file: None,
            open_livez: false,
            tls_cert: None,
            tls_key: None,
        }
    }

    fn open(&self, web_config: &str) -> Result<OpsAccess, ConfigError> {
        OpsAccess::open(&self.settings(web_config), true)
    }
}

fn certificate() -> CertifiedKey<rcgen::KeyPair> {
    rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap()
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

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
fn a_shared_listener_has_one_certificate_and_asks_for_none_of_clients() {
    let directory = TestDirectory::new();
    let mut settings = directory.settings(&tls(&[]));
    let open = |settings: &AccessSettings| OpsAccess::open(settings, false);
    let access = open(&settings).unwrap();
    assert_eq!(access.public_encryption().scheme(), "https");

    (settings.tls_cert, settings.tls_key) = (
        Some(directory.path("cert.pem")),
        Some(directory.path("key.pem")),
    );
    let sentence = open(&settings).unwrap_err().to_string();
    assert!(
        sentence.starts_with("tls_server_config in ")
            && sentence.contains("must not be set together with --tls-cert"),
        "{sentence}"
    );

    let settings = directory.settings(&tls(&[
        "client_auth_type: VerifyClientCertIfGiven",
        "client_ca_file: cert.pem",
    ]));
    let sentence = open(&settings).unwrap_err().to_string();
    assert!(sentence.contains("client_auth_type"), "{sentence}");
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
fn the_public_listener_needs_both_a_certificate_and_its_key() {
    let directory = TestDirectory::new();
    let mut settings = directory.settings("");
    settings.web_config = None;
    settings.tls_cert = Some(directory.path("cert.pem"));
    let sentence = OpsAccess::open(&settings, true).unwrap_err().to_string();
    assert!(
        sentence.starts_with("--tls-key (VITALS_TLS_KEY) is missing"),
        "{sentence}"
    );
    settings.tls_key = Some(directory.path("other_key.pem"));
    let sentence = OpsAccess::open(&settings, true).unwrap_err().to_string();
    assert!(
        sentence.starts_with("--tls-cert (VITALS_TLS_CERT) "),
        "{sentence}"
    );
    settings.tls_key = Some(directory.path("key.pem"));
    let access = OpsAccess::open(&settings, true).unwrap();
    let schemes = [access.public_encryption(), access.ops_encryption()].map(|it| it.scheme());
    assert_eq!(schemes, ["https", "http"]);
}

#[test]
fn a_token_that_can_be_guessed_or_not_be_sent_is_rejected() {
    let directory = TestDirectory::new();
    let mut settings = directory.settings("");
    settings.ops_token_file = Some(directory.path("token"));
    for (contents, why) in [
        ("", "empty"),
        ("fifteen-letters", "too short"),
        ("two words of more than enough letters", "spaces"),
        (
            "lignes-séparées-par-des-accents",
            "letters that no header can contain",
        ),
    ] {
        directory.write("token", contents);
        let sentence = OpsAccess::open(&settings, true).unwrap_err().to_string();
        assert!(
            sentence.starts_with("--ops-token-file (VITALS_OPS_TOKEN_FILE) "),
            "{why}: {sentence}"
        );
        assert!(
            contents.is_empty() || !sentence.contains(contents),
            "{why}: {sentence}"
        );
    }
    directory.write("token", &format!("{TOKEN}\n"));
    assert!(
        OpsAccess::open(&settings, true).is_ok(),
        "a line end is not part of it"
    );
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
fn debug_output_shows_no_secret() {
    let directory = TestDirectory::new();
    let users = format!("basic_auth_users:\n  alice: {HASH}\n");
    let mut settings = directory.settings(&format!("{}{users}", tls(&[])));
    settings.ops_token_file = Some(directory.path("token"));
    directory.write("token", TOKEN);
    let access = OpsAccess::open(&settings, true).unwrap();
    let draft = access.terms.source().read(&mut ConfigFiles::new()).unwrap();
    let shown = format!("{access:?} {draft:?}");
    let key = fs::read_to_string(directory.path("key.pem")).unwrap();
    let key = key.lines().nth(1).unwrap();
    for secret in [HASH, TOKEN, key] {
        assert!(!shown.contains(secret), "{shown}");
        assert!(
            !shown.contains(&format!("{:?}", secret.as_bytes())),
            "{shown}"
        );
    }
}

#[test]
fn a_change_is_applied_and_a_broken_one_is_not() {
    let directory = TestDirectory::new();
    let users = format!("basic_auth_users:\n  alice: {HASH}\n");
    let access = directory.open(&users).unwrap();
    let headers = || access.terms.current().headers.len();
    access.reload(false);
    assert_eq!(headers(), 0, "no file has changed");

    let with_header =
        format!("{users}http_server_config:\n  headers:\n    X-Frame-Options: deny\n");
    directory.write("web.yml", &with_header);
    access.reload(false);
    assert_eq!(headers(), 1, "the header was added");

    for (text, why) in [
        ("basic_auth_users: {", "not YAML"),
        (
            "",
            "a truncated file, which would require no credentials any more",
        ),
        ("http_server_config:\n  http2: true\n", "no users any more"),
    ] {
        directory.write("web.yml", text);
        access.reload(false);
        assert_eq!(headers(), 1, "{why}");
        assert!(access.terms.current().ops.requires_credentials(), "{why}");
    }
    directory.write("web.yml", &format!("{with_header}{}", tls(&[])));
    access.reload(true);
    let scheme = access.ops_encryption().scheme();
    assert_eq!(scheme, "http", "the scheme does not change");
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
fn the_certificate_of_the_public_listener_is_reloaded_and_stays() {
    let directory = TestDirectory::new();
    let mut settings = directory.settings("");
    settings.tls_cert = Some(directory.path("cert.pem"));
    settings.tls_key = Some(directory.path("key.pem"));
    let access = OpsAccess::open(&settings, true).unwrap();
    let in_use = || Arc::as_ptr(access.terms.current().public_tls.as_ref().unwrap());
    let first = in_use();
    let CertifiedKey { cert, signing_key } = certificate();
    directory.write("cert.pem", &cert.pem());
    access.reload(false);
    assert_eq!(in_use(), first, "the key belongs to the old certificate");
    directory.write("key.pem", &signing_key.serialize_pem());
    access.reload(false);
    assert_ne!(in_use(), first, "certificate and key belong together again");
}

#[test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
fn a_shared_listener_keeps_tls_while_the_service_runs() {
    let directory = TestDirectory::new();
    let access = OpsAccess::open(&directory.settings(&tls(&[])), false).unwrap();
    directory.write("web.yml", "");
    access.reload(false);
    assert_eq!(access.public_encryption().scheme(), "https");
}

#[test]
fn only_loopback_addresses_need_no_credentials() {
    for (address, expected) in [
        ("127.0.0.1:1", true),
        ("127.8.0.1:1", true),
        ("[::1]:1", true),
        ("[::ffff:127.0.0.1]:1", true),
        ("0.0.0.0:1", false),
        ("[::]:1", false),
        ("[::ffff:0.0.0.0]:1", false),
        ("[::ffff:10.0.0.1]:1", false),
        ("10.0.0.1:1", false),
        ("[fe80::1]:1", false),
    ] {
        let found = is_loopback(address.parse().unwrap());
        assert_eq!(found, expected, "{address}");
    }
}

#[cfg(not(feature = "tls"))]
#[test]
fn without_tls_its_settings_are_rejected_with_the_reason() {
    let directory = TestDirectory::new();
    let open = |settings: &AccessSettings| {
        let sentence = OpsAccess::open(settings, true).unwrap_err().to_string();
        assert!(
            sentence.contains("built without it (feature `tls`)"),
            "{sentence}"
        );
        sentence
    };
    let sentence = open(&directory.settings(&tls(&[])));
    assert!(sentence.starts_with("tls_server_config in "), "{sentence}");
    let mut settings = directory.settings("");
    settings.tls_cert = Some(directory.path("cert.pem"));
    settings.tls_key = Some(directory.path("key.pem"));
    let sentence = open(&settings);
    assert!(
        sentence.starts_with("--tls-cert (VITALS_TLS_CERT) "),
        "{sentence}"
    );
}
