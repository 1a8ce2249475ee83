//! The outcomes of the exporter toolkit's own test documents.
//!
//! Each row has the name of a document in `web/testdata` of <https://github.com/prometheus/exporter-toolkit> (July 2026), and
//! the settings that decide its outcome. The toolkit's outcome is in the name: `good` or `bad`.

use super::{HASH, TestDirectory, tls};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The exporters accept it, and so do we.
    Accepted,
    /// The exporters reject it, and so do we.
    Rejected,
    /// The exporters accept it, and we reject this field.
    RejectedHere(&'static str),
}

use Outcome::{Accepted, Rejected, RejectedHere};

const IF_GIVEN: &str = "client_auth_type: VerifyClientCertIfGiven";
const REQUIRED: &str = "client_auth_type: RequireAndVerifyClientCert";
const CA: &str = "client_ca_file: ca.pem";

fn certificate(cert: &str, key: &str, rest: &str) -> String {
    format!("tls_server_config:\n  {cert}\n  {key}\n{rest}")
}

fn header(line: &str) -> String {
    format!("http_server_config:\n  headers:\n    {line}\n")
}

fn documents() -> Vec<(&'static str, String, Outcome)> {
    [tls_documents(), http_documents()].concat()
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn tls_documents() -> Vec<(&'static str, String, Outcome)> {
    let client_auth = RejectedHere("tls_server_config.client_ca_file");
    vec![
        (
            "tls_config_noAuth.requireandverifyclientcert.good",
            tls(&[REQUIRED, CA]),
            Accepted,
        ),
        (
            "tls_config_noAuth.requireanyclientcert.good",
            tls(&["client_auth_type: RequireAnyClientCert"]),
            RejectedHere("tls_server_config.client_auth_type"),
        ),
        (
            "web_config_auth_clientCAs_invalid.bad",
            tls(&["client_ca_file: somefile"]),
            Rejected,
        ),
        (
            "web_config_auth_client_san.good",
            tls(&[REQUIRED, CA, "client_allowed_sans: [test3, bad]"]),
            Accepted,
        ),
        (
            "web_config_junk_key",
            "tls_server_config:\n  cert_filse: cert.pem\n".to_owned(),
            Rejected,
        ),
        (
            "web_config_noAuth.bad",
            tls(&["client_ca_file: /dev/null"]),
            Rejected,
        ),
        ("web_config_noAuth.good", tls(&[IF_GIVEN]), client_auth),
        (
            "the same, with an authority",
            tls(&[IF_GIVEN, CA]),
            Accepted,
        ),
        (
            "web_config_noAuth.good.blocking",
            tls(&[REQUIRED]),
            client_auth,
        ),
        (
            "web_config_noAuth_allCiphers.good",
            tls(&["cipher_suites: [TLS_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA]"]),
            RejectedHere("tls_server_config.cipher_suites"),
        ),
        (
            "the same, without the suites with CBC",
            tls(&[
                "cipher_suites:",
                "- TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
                "- TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                "- TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256",
                "- TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384",
                "- TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
                "- TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256",
                "- TLS_AES_128_GCM_SHA256",
                "- TLS_AES_256_GCM_SHA384",
                "- TLS_CHACHA20_POLY1305_SHA256",
            ]),
            Accepted,
        ),
        (
            "web_config_noAuth_allCurves.good",
            tls(&["curve_preferences: [CurveP256, CurveP384, CurveP521, X25519]"]),
            RejectedHere("tls_server_config.curve_preferences"),
        ),
        (
            "the same, without CurveP521",
            tls(&["curve_preferences: [CurveP256, CurveP384, X25519]"]),
            Accepted,
        ),
        (
            "web_config_noAuth_someCurves.good",
            tls(&["min_version: TLS13", "curve_preferences: [CurveP521]"]),
            RejectedHere("tls_server_config.curve_preferences"),
        ),
        (
            "web_config_noAuth_certPath_empty.bad",
            certificate("cert_file: ''", "key_file: key.pem", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_certPath_invalid.bad",
            certificate("cert_file: somefile", "key_file: key.pem", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_certPath_keyPath_empty.bad",
            certificate("cert_file: ''", "key_file: ''", "  client_auth_type: x\n"),
            Rejected,
        ),
        (
            "web_config_noAuth_certPath_keyPath_invalid.bad",
            certificate("cert_file: somefile", "key_file: somefile", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_cert_empty.bad",
            certificate("cert: ''", "key_file: key.pem", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_keyPath_empty.bad",
            certificate("cert_file: cert.pem", "key_file: ''", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_keyPath_invalid.bad",
            certificate("cert_file: cert.pem", "key_file: somefile", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_key_empty.bad",
            certificate("cert_file: cert.pem", "key: ''", ""),
            Rejected,
        ),
        (
            "web_config_noAuth_inventedCiphers.bad",
            tls(&["cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA2048]"]),
            Rejected,
        ),
        (
            "web_config_noAuth_inventedCurves.bad",
            tls(&["curve_preferences: [CurveP257]"]),
            Rejected,
        ),
        (
            "web_config_noAuth_someCiphers.good",
            tls(&[
                "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]",
                "min_version: TLS12",
                "max_version: TLS12",
            ]),
            Accepted,
        ),
        (
            "web_config_noAuth_someCiphers_noOrder.good",
            tls(&[
                "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
                "prefer_server_cipher_suites: false",
                "min_version: TLS12",
                "max_version: TLS12",
            ]),
            Accepted,
        ),
        (
            "web_config_noAuth_wrongTLSVersion.bad",
            tls(&["min_version: TLS111"]),
            Rejected,
        ),
    ]
}

fn http_documents() -> Vec<(&'static str, String, Outcome)> {
    let cost_18 = HASH.replace("$2b$04", "$2y$18");
    vec![
        ("web_config_empty", String::new(), Accepted),
        ("web_config_junk", "hWkNKCp3\nTuEjdwNS\n".to_owned(), Rejected),
        (
            "web_config_auth_user_list_invalid.bad",
            tls(&[]) + "basic_auth_users:\n  john: doe\n",
            Rejected,
        ),
        (
            "web_config_users.good",
            format!("{}basic_auth_users:\n  alice: {HASH}\n  bob: {cost_18}\n", tls(&[])),
            RejectedHere("basic_auth_users.bob"),
        ),
        (
            "web_config_users_noTLS.good",
            format!("basic_auth_users:\n  bob: {cost_18}\n"),
            RejectedHere("basic_auth_users.bob"),
        ),
        (
            "the same, without the cost of 18",
            format!("basic_auth_users:\n  alice: {HASH}\n  carol: {HASH}\n"),
            Accepted,
        ),
        (
            "the hash of the toolkit's documentation",
            "basic_auth_users:\n  alice: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n".to_owned(),
            Accepted,
        ),
        (
            "web_config_headers.good",
            [
                header("X-Frame-Options: deny"),
                "    Strict-Transport-Security: max-age=31536000; includeSubDomains\n".to_owned(),
                "    X-Content-Type-Options: nosniff\n    X-XSS-Protection: 1\n".to_owned(),
                "    Content-Security-Policy: \"default-src 'self' *.example.net\"\n".to_owned(),
            ]
            .concat(),
            Accepted,
        ),
        (
            "web_config_headers_content_type_options.bad",
            header("X-Content-Type-Options: sniff"),
            Rejected,
        ),
        (
            "web_config_headers_extra_header.bad",
            header("Content-Type: foo"),
            Rejected,
        ),
        (
            "web_config_headers_frame_options.bad",
            header("X-Frame-Options: foo"),
            Rejected,
        ),
        (
            "web_config_noAuth_noHTTP2.good",
            tls(&[
                IF_GIVEN,
                CA,
                "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384]",
                "max_version: TLS12",
            ]) + "http_server_config:\n  http2: false\n",
            Accepted,
        ),
        (
            "web_config_rate_limiter_one_second",
            "rate_limit:\n  interval: \"1s\"\n  burst: 0\n".to_owned(),
            Accepted,
        ),
        (
            "web_config_rate_limiter_nonblocking",
            "rate_limit:\n  interval: 0\n  burst: 0\n".to_owned(),
            Accepted,
        ),
    ]
}

#[test]
fn documents_of_the_exporter_toolkit_have_its_outcome_or_a_named_difference() {
    let directory = TestDirectory::new();
    for (name, text, expected) in documents() {
        match (directory.open(&text), expected) {
            (Ok(_), Accepted) | (Err(_), Rejected) => (),
            (Err(error), RejectedHere(field)) => {
                let sentence = error.to_string();
                assert!(sentence.starts_with(field), "{name}: {sentence}");
            }
            (outcome, expected) => panic!("{name}: {outcome:?}, expected {expected:?}:\n{text}"),
        }
    }
}
