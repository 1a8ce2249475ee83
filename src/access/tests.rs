//! Which web configurations are taken, which are refused, and in which words; and what may replace what.

use std::fs;
use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedKey, IsCa, KeyPair};
use tempfile::TempDir;

use super::rate_limit::RateLimit;
use super::*;

/// `secret`, at the least cost.
const HASH: &str = "$2b$04$aaaaaaaaaaaaaaaaaaaaaOGY9KrC7e/pHj3EXQPxs8hKEBbvQhsvG";

const TOKEN: &str = "a-token-that-nobody-guesses";

/// A directory with `cert.pem`, `key.pem`, `other_key.pem`, `ca.pem`, `junk.pem`, and a web configuration.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        let CertifiedKey { cert, signing_key } =
            rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority_key = KeyPair::generate().unwrap();
        let authority = authority.self_signed(&authority_key).unwrap();
        place.write("cert.pem", &cert.pem());
        place.write("key.pem", &signing_key.serialize_pem());
        place.write("other_key.pem", &authority_key.serialize_pem());
        place.write("ca.pem", &authority.pem());
        place.write(
            "junk.pem",
            "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        );
        place.write("broken.pem", "-----BEGIN CERTIFICATE-----\n%%%\n");
        place.write("empty.pem", "");
        place
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, contents: &str) {
        fs::write(self.path(name), contents).unwrap();
    }

    fn settings(&self, web_config: &str) -> AccessSettings {
        self.settings_of(web_config.as_bytes())
    }

    fn settings_of(&self, web_config: &[u8]) -> AccessSettings {
        fs::write(self.path("web.yml"), web_config).unwrap();
        AccessSettings {
            web_config: Some(self.path("web.yml")),
            ops_token_file: None,
            open_livez: false,
            tls_cert: None,
            tls_key: None,
        }
    }

    fn open(&self, web_config: &str) -> Result<Access, Refusal> {
        Access::open(&self.settings(web_config), true)
    }
}

/// A web configuration with these lines in its section on TLS, after the certificate and its key.
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
fn what_can_be_meant_is_taken() {
    let place = Place::new();
    let clients = [
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
    ];
    let key = fs::read_to_string(place.path("key.pem")).unwrap();
    let cert = fs::read_to_string(place.path("cert.pem")).unwrap();
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let inline = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n",
        indented(&cert),
        indented(&key)
    );
    for (text, why) in [
        (String::new(), "nothing at all"),
        ("# nothing\n---\n".to_owned(), "a comment"),
        ("tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n".to_owned(), "empty sections"),
        ("tls_server_config: {}\nrate_limit: {}\n".to_owned(), "empty mappings"),
        (tls(&[]), "a certificate and its key"),
        (inline, "the same, in the document"),
        (tls(&["cert: ''", "min_version: ''"]), "an empty text is as good as none"),
        (tls(&["min_version: TLS12"]), "the default"),
        (tls(&["min_version: TLS13"]), "the newest only"),
        (tls(&["max_version: TLS12"]), "not the newest"),
        (tls(&["min_version: TLS12", "max_version: TLS13"]), "both"),
        (tls(&["cipher_suites: []"]), "all"),
        (tls(&["cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"]), "one of TLS 1.2"),
        (tls(&["cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305]"]), "Go's short name"),
        (
            tls(&["min_version: TLS13", "cipher_suites: [TLS_AES_256_GCM_SHA384]"]),
            "one of TLS 1.3",
        ),
        (tls(&["curve_preferences: [CurveP384, X25519, CurveP256]"]), "all curves"),
        (tls(&["prefer_server_cipher_suites: false"]), "the client's order"),
        (tls(&["prefer_server_cipher_suites: no"]), "in a word of YAML 1.1"),
        (tls(&["client_auth_type: NoClientCert"]), "the default"),
        (tls(&clients), "clients with certificates"),
        (tls(&["client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem"]), "if given"),
        (
            tls(&[clients[0], clients[1], "client_allowed_sans: [a.example.org, 'spiffe://x/y']"]),
            "clients by name",
        ),
        ("http_server_config:\n  http2: false\n".to_owned(), "no HTTP/2"),
        (
            "http_server_config:\n  headers:\n    Content-Security-Policy: default-src 'self'\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    X-XSS-Protection: '0'\n    Strict-Transport-Security: max-age=1\n".to_owned(),
            "all headers",
        ),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: ''\n".to_owned(), "unset"),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: 0\n".to_owned(), "a number"),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: \"0\\r\\nSet-Cookie: a\"\n".to_owned(),
            "two lines, which become one",
        ),
        (format!("basic_auth_users:\n  7: {HASH}\n  true: {HASH}\n"), "names that are no texts"),
        ("rate_limit:\n  interval: 1s\n  burst: 20\n".to_owned(), "a rate limit"),
        (format!("basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\n"), "two users"),
        (format!("basic_auth_users:\n  alice: {}\n", HASH.replace("$2b", "$2y")), "htpasswd's prefix"),
    ] {
        if let Err(refusal) = place.open(&text) {
            panic!("{why}: {refusal}\n{text}");
        }
    }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn what_cannot_be_meant_is_refused_by_name() {
    let place = Place::new();
    let clients = [
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
    ];
    for (text, subject, why) in [
        ("- a list".to_owned(), "", "no mapping"),
        ("a: [".to_owned(), "", "no YAML"),
        ("a: 1\n---\nb: 2\n".to_owned(), "", "two documents"),
        ("1: 2".to_owned(), "1", "an unknown field that is a number"),
        ("[a]: 2".to_owned(), "", "a field that is no text"),
        (
            "basic_auth_users: {}\nbasic_auth_users: {}\n".to_owned(),
            "",
            "a field twice",
        ),
        (
            "tls_config: {}".to_owned(),
            "tls_config",
            "an unknown field",
        ),
        (
            "rate_limit:\n  interval: 1d\n".to_owned(),
            "rate_limit.interval",
            "no unit of Go's",
        ),
        (
            "rate_limit:\n  burst: '5'\n".to_owned(),
            "rate_limit.burst",
            "a text for a number",
        ),
        (
            "rate_limit:\n  intervall: 1s\n".to_owned(),
            "rate_limit.intervall",
            "an unknown field",
        ),
        (
            "tls_server_config: yes please".to_owned(),
            "tls_server_config",
            "a text for a section",
        ),
        (
            tls(&["cert_fil: x"]),
            "tls_server_config.cert_fil",
            "an unknown field in a section",
        ),
        (
            "tls_server_config:\n  min_version: TLS12\n".to_owned(),
            "tls_server_config.cert_file",
            "no certificate",
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n".to_owned(),
            "tls_server_config.key_file",
            "no key",
        ),
        (
            "tls_server_config:\n  cert_file: nowhere.pem\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "a file that is not there",
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: nowhere.pem\n".to_owned(),
            "tls_server_config.key_file",
            "a key that is not there",
        ),
        (
            "tls_server_config:\n  cert_file: key.pem\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "a key for a certificate",
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: cert.pem\n".to_owned(),
            "tls_server_config.key_file",
            "a certificate for a key",
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: other_key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "the key of another",
        ),
        (
            "tls_server_config:\n  cert_file: junk.pem\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "PEM of nothing",
        ),
        (
            "tls_server_config:\n  cert_file: broken.pem\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "broken PEM",
        ),
        (
            "tls_server_config:\n  cert_file: empty.pem\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "an empty file",
        ),
        (
            "tls_server_config:\n  cert_file: .\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "a directory",
        ),
        (
            "tls_server_config:\n  cert_file: [cert.pem]\n".to_owned(),
            "tls_server_config.cert_file",
            "a list for a text",
        ),
        (
            tls(&["cert: x"]),
            "tls_server_config.cert_file",
            "two certificates",
        ),
        (tls(&["key: x"]), "tls_server_config.key_file", "two keys"),
        (
            tls(&["min_version: TLS10"]),
            "tls_server_config.min_version",
            "broken",
        ),
        (
            tls(&["min_version: TLS11"]),
            "tls_server_config.min_version",
            "broken",
        ),
        (
            tls(&["max_version: TLS11"]),
            "tls_server_config.max_version",
            "broken",
        ),
        (
            tls(&["min_version: '1.3'"]),
            "tls_server_config.min_version",
            "not its name",
        ),
        (
            tls(&["min_version: 1.3"]),
            "tls_server_config.min_version",
            "no text",
        ),
        (
            tls(&["min_version: SSL30"]),
            "tls_server_config.min_version",
            "long gone",
        ),
        (
            tls(&["min_version: TLS13", "max_version: TLS12"]),
            "tls_server_config.max_version",
            "the wrong way round",
        ),
        (
            tls(&["cipher_suites: TLS_AES_128_GCM_SHA256"]),
            "tls_server_config.cipher_suites",
            "no list",
        ),
        (
            tls(&["cipher_suites: [1]"]),
            "tls_server_config.cipher_suites",
            "no texts",
        ),
        (
            tls(&["cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"]),
            "tls_server_config.cipher_suites",
            "weak",
        ),
        (
            tls(&["cipher_suites: [TLS_SNAKE_OIL]"]),
            "tls_server_config.cipher_suites",
            "unknown",
        ),
        (
            tls(&["cipher_suites: [TLS_AES_128_GCM_SHA256]"]),
            "tls_server_config.cipher_suites",
            "none of TLS 1.2",
        ),
        (
            tls(&["curve_preferences: [CurveP521]"]),
            "tls_server_config.curve_preferences",
            "not spoken",
        ),
        (
            tls(&["curve_preferences: [P256]"]),
            "tls_server_config.curve_preferences",
            "not its name",
        ),
        (
            tls(&["prefer_server_cipher_suites: maybe"]),
            "tls_server_config.prefer_server_cipher_suites",
            "no switch",
        ),
        (
            tls(&["client_auth_type: RequestClientCert"]),
            "tls_server_config.client_auth_type",
            "verifies nobody",
        ),
        (
            tls(&[
                "client_auth_type: RequireAnyClientCert",
                "client_ca_file: ca.pem",
            ]),
            "tls_server_config.client_auth_type",
            "verifies nobody",
        ),
        (
            tls(&["client_auth_type: Please"]),
            "tls_server_config.client_auth_type",
            "unknown",
        ),
        (
            tls(&clients[..1]),
            "tls_server_config.client_ca_file",
            "nothing to verify against",
        ),
        (
            tls(&clients[1..]),
            "tls_server_config.client_ca_file",
            "nobody to verify",
        ),
        (
            tls(&[clients[0], "client_ca_file: nowhere.pem"]),
            "tls_server_config.client_ca_file",
            "not there",
        ),
        (
            tls(&[clients[0], "client_ca_file: key.pem"]),
            "tls_server_config.client_ca_file",
            "no certificate",
        ),
        (
            tls(&[clients[0], "client_ca_file: junk.pem"]),
            "tls_server_config.client_ca_file",
            "no valid one",
        ),
        (
            tls(&[clients[0], clients[1], "client_ca: x"]),
            "tls_server_config.client_ca_file",
            "two",
        ),
        (
            tls(&["client_allowed_sans: [a]"]),
            "tls_server_config.client_allowed_sans",
            "nobody to name",
        ),
        (
            tls(&[
                "client_auth_type: VerifyClientCertIfGiven",
                clients[1],
                "client_allowed_sans: [a]",
            ]),
            "tls_server_config.client_allowed_sans",
            "names of nobody",
        ),
        (
            "http_server_config:\n  http3: true\n".to_owned(),
            "http_server_config.http3",
            "an unknown field",
        ),
        (
            "http_server_config:\n  http2: 2\n".to_owned(),
            "http_server_config.http2",
            "no switch",
        ),
        (
            "http_server_config:\n  headers:\n    Server: me\n".to_owned(),
            "http_server_config.headers.Server",
            "no header that may be set",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n".to_owned(),
            "http_server_config.headers.X-Frame-Options",
            "a value that it cannot have",
        ),
        (
            "http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n".to_owned(),
            "http_server_config.headers.X-Content-Type-Options",
            "a value that it cannot have",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: ''\n".to_owned(),
            "http_server_config.headers.X-Frame-Options",
            "no value",
        ),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: \"0\\x01\"\n".to_owned(),
            "http_server_config.headers.X-XSS-Protection",
            "a control character",
        ),
        (
            "basic_auth_users: [alice]".to_owned(),
            "basic_auth_users",
            "no mapping",
        ),
        (
            "basic_auth_users:\n  alice:\n".to_owned(),
            "basic_auth_users.alice",
            "no hash",
        ),
        (
            "basic_auth_users:\n  alice: secret\n".to_owned(),
            "basic_auth_users.alice",
            "no hash",
        ),
        (
            "basic_auth_users:\n  alice: 12345\n".to_owned(),
            "basic_auth_users.alice",
            "no text",
        ),
        (
            format!("basic_auth_users:\n  alice: {}\n", &HASH[..59]),
            "basic_auth_users.alice",
            "a hash that is cut",
        ),
        (
            format!(
                "basic_auth_users:\n  alice: {}\n",
                HASH.replace("$2b$04", "$2b$03")
            ),
            "basic_auth_users.alice",
            "no such cost",
        ),
        (
            format!(
                "basic_auth_users:\n  alice: {}\n",
                HASH.replace("$2b$04", "$2b$31")
            ),
            "basic_auth_users.alice",
            "days of work",
        ),
        (
            format!(
                "basic_auth_users:\n  alice: {}\n",
                HASH.replace("$2b", "$1")
            ),
            "basic_auth_users.alice",
            "MD5",
        ),
        (
            format!("basic_auth_users:\n  'a:b': {HASH}\n"),
            "basic_auth_users",
            "a name that cannot be sent",
        ),
    ] {
        let Err(refusal) = place.open(&text) else {
            panic!("{why}: taken:\n{text}");
        };
        let sentence = refusal.to_string();
        let file = place.path("web.yml").display().to_string();
        let beginning = match subject {
            "" => file,
            subject => format!("{subject} in {file} "),
        };
        assert!(sentence.starts_with(&beginning), "{why}: {sentence}");
        assert_eq!(sentence.lines().count(), 1, "{why}: {sentence}");
        assert!(!sentence.ends_with('.'), "{why}: {sentence}");
        for secret in ["secret", "12345", "$2b", "$1", "BEGIN"] {
            assert!(!sentence.contains(secret), "{why}: {sentence}");
        }
    }
}

#[test]
fn a_hash_in_the_place_of_a_name_is_not_told() {
    let refusal = Place::new().open(&format!("basic_auth_users:\n  {HASH}: alice\n"));
    let sentence = refusal.unwrap_err().to_string();
    assert!(!sentence.contains(HASH), "{sentence}");
}

#[test]
fn a_listener_for_all_is_encrypted_once_and_asks_the_public_for_no_certificate() {
    let place = Place::new();
    let mut settings = place.settings(&tls(&[]));
    let open = |settings: &AccessSettings| Access::open(settings, false);
    let access = open(&settings).unwrap();
    assert_eq!(access.public_encryption().scheme(), "https");

    (settings.tls_cert, settings.tls_key) =
        (Some(place.path("cert.pem")), Some(place.path("key.pem")));
    let sentence = open(&settings).unwrap_err().to_string();
    assert!(sentence.contains("beside --tls-cert"), "{sentence}");

    let settings = place.settings(&tls(&[
        "client_auth_type: VerifyClientCertIfGiven",
        "client_ca_file: ca.pem",
    ]));
    let sentence = open(&settings).unwrap_err().to_string();
    assert!(sentence.contains("client_auth_type"), "{sentence}");
}

#[test]
fn the_public_listener_needs_both_a_certificate_and_its_key() {
    let place = Place::new();
    let mut settings = place.settings("");
    settings.web_config = None;
    settings.tls_cert = Some(place.path("cert.pem"));
    let sentence = Access::open(&settings, true).unwrap_err().to_string();
    assert!(
        sentence.starts_with("--tls-key (VITALS_TLS_KEY) is missing"),
        "{sentence}"
    );
    settings.tls_key = Some(place.path("other_key.pem"));
    let sentence = Access::open(&settings, true).unwrap_err().to_string();
    assert!(
        sentence.starts_with("--tls-cert (VITALS_TLS_CERT) "),
        "{sentence}"
    );
    settings.tls_key = Some(place.path("key.pem"));
    let access = Access::open(&settings, true).unwrap();
    let schemes = [access.public_encryption(), access.ops_encryption()].map(|it| it.scheme());
    assert_eq!(schemes, ["https", "http"]);
}

#[test]
fn a_token_that_could_be_guessed_or_not_be_sent_is_refused() {
    let place = Place::new();
    let mut settings = place.settings("");
    settings.ops_token_file = Some(place.path("token"));
    for (contents, why) in [
        ("", "nothing"),
        ("fifteen-letters", "too short"),
        ("two words of more than enough letters", "spaces"),
        (
            "lignes-séparées-par-des-accents",
            "letters that no header carries",
        ),
    ] {
        place.write("token", contents);
        let sentence = Access::open(&settings, true).unwrap_err().to_string();
        assert!(
            sentence.starts_with("--ops-token-file (VITALS_OPS_TOKEN_FILE) "),
            "{why}: {sentence}"
        );
        assert!(
            contents.is_empty() || !sentence.contains(contents),
            "{why}: {sentence}"
        );
    }
    place.write("token", &format!("{TOKEN}\n"));
    assert!(
        Access::open(&settings, true).is_ok(),
        "a line end is not part of it"
    );
}

#[test]
fn no_secret_shows_in_debug_output() {
    let place = Place::new();
    let mut settings = place.settings(&format!("{}basic_auth_users:\n  alice: {HASH}\n", tls(&[])));
    settings.ops_token_file = Some(place.path("token"));
    place.write("token", TOKEN);
    let access = Access::open(&settings, true).unwrap();
    let mut files = Files::new();
    let draft = access.sources.read(&mut files).unwrap();
    let shown = format!("{access:?} {draft:?}");
    let key = fs::read_to_string(place.path("key.pem")).unwrap();
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
fn what_has_changed_comes_into_force_and_what_is_broken_does_not() {
    let place = Place::new();
    let access = place
        .open(&format!("basic_auth_users:\n  alice: {HASH}\n"))
        .unwrap();
    let headers = || access.terms.get().headers.len();
    access.look(false);
    assert_eq!(headers(), 0, "nothing has changed");

    let with_header = format!(
        "basic_auth_users:\n  alice: {HASH}\nhttp_server_config:\n  headers:\n    X-Frame-Options: deny\n"
    );
    place.write("web.yml", &with_header);
    access.look(false);
    assert_eq!(headers(), 1, "it has changed");

    for (text, why) in [
        ("basic_auth_users: {", "broken"),
        ("", "cut short: nobody would be asked any more"),
        (
            "http_server_config:\n  http2: true\n",
            "users that are gone",
        ),
    ] {
        place.write("web.yml", text);
        access.look(false);
        assert_eq!(headers(), 1, "{why}");
        assert!(access.terms.get().credentials.is_some(), "{why}");
    }
    let encrypted = format!("{with_header}{}", tls(&[]));
    place.write("web.yml", &encrypted);
    access.look(true);
    assert_eq!(
        access.ops_encryption().scheme(),
        "http",
        "it was announced so"
    );
}

#[test]
fn a_certificate_that_changes_is_read_again_and_a_file_that_comes_late_too() {
    let place = Place::new();
    let access = place.open(&tls(&[])).unwrap();
    let in_force = || Arc::as_ptr(access.terms.get().ops_tls.as_ref().unwrap());
    let first = in_force();
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(vec!["new.example.org".to_owned()]).unwrap();
    place.write("cert.pem", &cert.pem());
    access.look(false);
    assert_eq!(in_force(), first, "the key is that of the old one");
    place.write("key.pem", &signing_key.serialize_pem());
    access.look(false);
    let second = in_force();
    assert_ne!(second, first, "now it is the new one's");

    let elsewhere = tls(&[]).replace("cert.pem", "late.pem");
    place.write("web.yml", &elsewhere);
    access.look(false);
    assert_eq!(in_force(), second, "it is not there yet");
    place.write("late.pem", &cert.pem());
    access.look(false);
    assert_ne!(in_force(), second, "it has come");
}

#[test]
fn certificates_of_clients_cannot_be_waived_while_the_server_runs() {
    let place = Place::new();
    let clients = "client_auth_type: RequireAndVerifyClientCert";
    let access = place
        .open(&tls(&[clients, "client_ca_file: ca.pem"]))
        .unwrap();
    place.write("web.yml", &tls(&[]));
    access.look(true);
    assert!(access.terms.get().demands_certificates);
}

#[test]
fn a_relative_path_is_relative_to_its_file() {
    let place = Place::new();
    let text = fs::read_to_string(place.settings(&tls(&[])).web_config.unwrap()).unwrap();
    assert!(text.contains("cert_file: cert.pem") && !Path::new("cert.pem").exists());
    place.open(&text).unwrap();
}

#[test]
fn scalars_mean_what_they_are_written_as() {
    let place = Place::new();
    let read = |text: &[u8]| {
        let access = Access::open(&place.settings_of(text), true).unwrap();
        access.terms.get()
    };
    let header = |value: &str| {
        let text = format!("http_server_config:\n  headers:\n    X-XSS-Protection: {value}\n");
        let terms = read(text.as_bytes());
        terms.headers.first().map(|(_, value)| value.clone())
    };
    for (written, sent) in [
        ("0", "0"),
        ("1.50", "1.50"),
        ("0x1F", "0x1F"),
        ("010", "010"),
        ("Yes", "Yes"),
        ("'0'", "0"),
        ("2001-12-14", "2001-12-14"),
        ("!!binary aGVsbG8=", "hello"),
        ("|\n      1;\n      mode=block", "1; mode=block"),
        ("\"0\\r\\nSet-Cookie: a\"", "0  Set-Cookie: a"),
    ] {
        assert_eq!(header(written).unwrap(), sent, "{written}");
    }
    for unset in ["", "''", "~", "null"] {
        assert_eq!(header(unset), None, "{unset}");
    }
    for (interval, burst, expected) in [
        ("1s", "5", Some((Duration::from_secs(1), 5))),
        (
            "1h2m3.5s",
            "0x10",
            Some((Duration::from_millis(3_723_500), 16)),
        ),
        ("1000000", "1.9", Some((Duration::from_millis(1), 1))),
        ("10µs", "010", Some((Duration::from_micros(10), 8))),
        ("1s", "-1", Some((Duration::from_secs(1), 0))),
        ("-1s", "5", None),
        ("0", "5", None),
        ("", "5", None),
    ] {
        let text = format!("rate_limit:\n  interval: {interval}\n  burst: {burst}\n");
        let expected = expected.and_then(|(interval, burst)| RateLimit::new(interval, burst));
        assert_eq!(read(text.as_bytes()).rate_limit, expected, "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_document() {
    let place = Place::new();
    let text = format!("basic_auth_users:\n  alice: {HASH}\n");
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
    for (contents, why) in [
        ([&b"\xef\xbb\xbf"[..], text.as_bytes()].concat(), "UTF-8"),
        (
            [&b"\xff\xfe"[..], &little].concat(),
            "UTF-16, little end first",
        ),
        ([&b"\xfe\xff"[..], &big].concat(), "UTF-16, big end first"),
    ] {
        let access = Access::open(&place.settings_of(&contents), true).unwrap();
        assert!(access.terms.get().credentials.is_some(), "{why}");
    }
    for (contents, why) in [
        (
            [&b"\xff\xfe"[..], &little, b"\0"].concat(),
            "half a character",
        ),
        (little, "UTF-16 without a mark"),
        (b"# caf\xe9\n".to_vec(), "Latin-1"),
    ] {
        assert!(
            Access::open(&place.settings_of(&contents), true).is_err(),
            "{why}"
        );
    }
}

#[test]
fn aliases_cannot_make_much_of_little() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..7 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.extend(["b", &level.to_string(), ": &a", &level.to_string(), " ["]);
        text.extend([&*aliases, "]\n"]);
    }
    let sentence = Place::new().open(&text).unwrap_err().to_string();
    assert!(
        sentence.ends_with("is larger than any configuration"),
        "{sentence}"
    );
}

#[test]
fn only_addresses_of_this_machine_need_no_credentials() {
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
        let found = is_of_this_machine(address.parse().unwrap());
        assert_eq!(found, expected, "{address}");
    }
}

#[test]
fn a_file_of_nothing_but_brackets_is_refused_and_no_more() {
    let place = Place::new();
    for text in [
        "[".repeat(1 << 19),
        "{a: ".repeat(1 << 17),
        "- ".repeat(1 << 18),
    ] {
        place.open(&text).unwrap_err();
    }
}
