//! Changes of the files while a server runs.

use std::io;
use std::sync::{Arc, Mutex};

use rcgen::CertifiedKey;
use tracing_subscriber::fmt::MakeWriter;

use super::{HASH, TestDirectory, tls};

/// The lines of a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[test]
fn a_change_is_applied_and_a_broken_one_is_not() {
    let directory = TestDirectory::new();
    let users = format!("basic_auth_users:\n  alice: {HASH}\n");
    let web = directory.open(&users).unwrap();
    let headers = || web.current().headers().len();
    assert_eq!(web.reload(false), Ok(false), "no file has changed");
    assert_eq!(web.reload(true), Ok(true), "a reload is forced");
    assert_eq!(headers(), 0);

    let with_header =
        format!("{users}http_server_config:\n  headers:\n    X-Frame-Options: deny\n");
    directory.write("web.yml", &with_header);
    assert_eq!(web.reload(false), Ok(true));
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
        assert!(web.reload(false).is_err(), "{why}");
        assert_eq!(
            web.reload(false),
            Ok(false),
            "{why}: the error is returned once"
        );
        assert_eq!(headers(), 1, "{why}");
        assert!(web.current().requires_credentials(), "{why}");
    }

    directory.write("web.yml", &format!("{with_header}{}", tls(&[])));
    let sentence = web.reload(true).unwrap_err().to_string();
    assert!(
        sentence.ends_with("web.yml would turn TLS on or off, which needs a restart"),
        "{sentence}"
    );
    assert!(web.current().tls().is_none());
}

#[test]
fn a_changed_certificate_is_loaded_and_so_is_a_file_that_appears_late() {
    let directory = TestDirectory::new();
    let web = directory.open(&tls(&[])).unwrap();
    let in_use = || Arc::as_ptr(web.current().tls().unwrap());
    let first = in_use();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["new.example.org".to_owned()]).unwrap();
    directory.write("cert.pem", &cert.pem());
    web.reload(false).unwrap_err();
    assert_eq!(in_use(), first, "the key belongs to the old certificate");
    directory.write("key.pem", &signing_key.serialize_pem());
    assert_eq!(web.reload(false), Ok(true));
    let second = in_use();
    assert_ne!(second, first, "certificate and key belong together again");

    let elsewhere = tls(&[]).replace("cert.pem", "late.pem");
    directory.write("web.yml", &elsewhere);
    web.reload(false).unwrap_err();
    assert_eq!(in_use(), second, "the file does not exist yet");
    directory.write("late.pem", &cert.pem());
    assert_eq!(web.reload(false), Ok(true));
    assert_ne!(in_use(), second, "the file has appeared");
}

#[test]
fn client_certificates_stay_required_while_the_server_runs() {
    let directory = TestDirectory::new();
    let clients = "client_auth_type: RequireAndVerifyClientCert";
    let web = directory
        .open(&tls(&[clients, "client_ca_file: ca.pem"]))
        .unwrap();
    directory.write("web.yml", &tls(&[]));
    web.reload(true).unwrap_err();
    assert!(web.current().requires_client_certificates());
}

#[test]
fn a_warning_is_logged_once_for_each_change() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).finish();
    tracing::subscriber::with_default(subscriber, || {
        let directory = TestDirectory::new();
        let web = directory.open("rate_limit:\n  interval: 1s\n").unwrap();
        for _ in 0..3 {
            assert_eq!(web.reload(false), Ok(false));
        }
    });
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log.matches("rate_limit.burst in ").count(), 1, "{log}");
}
