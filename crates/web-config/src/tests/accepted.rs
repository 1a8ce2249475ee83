//! Documents that are accepted, and the meaning of their values.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::{HASH, TestDirectory, tls};
use crate::RateLimit;

#[test]
fn documents_that_exporters_accept_are_accepted() {
    let directory = TestDirectory::new();
    let clients = [
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
    ];
    let key = fs::read_to_string(directory.path("key.pem")).unwrap();
    let cert = fs::read_to_string(directory.path("cert.pem")).unwrap();
    let indented = |pem: &str| pem.trim().replace('\n', "\n    ");
    let inline = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n",
        indented(&cert),
        indented(&key)
    );
    for (text, why) in [
        (String::new(), "an empty file"),
        ("# nothing\n---\n".to_owned(), "a comment"),
        ("tls_server_config:\nbasic_auth_users:\nhttp_server_config:\n".to_owned(), "empty sections"),
        ("tls_server_config: {}\nrate_limit: {}\n".to_owned(), "empty mappings"),
        (tls(&[]), "a certificate and its key"),
        (inline, "both inline"),
        (tls(&["cert: ''", "min_version: ''"]), "empty texts, which are unset"),
        (tls(&["min_version: TLS12"]), "the default"),
        (tls(&["min_version: TLS13"]), "the newest version only"),
        (tls(&["max_version: TLS12"]), "not the newest version"),
        (tls(&["min_version: TLS12", "max_version: TLS13"]), "both versions"),
        (tls(&["cipher_suites: []"]), "no suites, which means all"),
        (tls(&["cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]"]), "a suite of TLS 1.2"),
        (tls(&["cipher_suites: [TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305]"]), "an old name of Go"),
        (
            tls(&["min_version: TLS13", "cipher_suites: [TLS_AES_256_GCM_SHA384]"]),
            "a suite of TLS 1.3",
        ),
        (tls(&["curve_preferences: [CurveP384, X25519, CurveP256]"]), "all curves"),
        (tls(&["prefer_server_cipher_suites: false"]), "the client's order of suites"),
        (tls(&["prefer_server_cipher_suites: no"]), "a boolean of YAML 1.1"),
        (tls(&["client_auth_type: NoClientCert"]), "the default"),
        (tls(&clients), "client certificates"),
        (tls(&["client_auth_type: VerifyClientCertIfGiven", "client_ca_file: ca.pem"]), "optional client certificates"),
        (
            tls(&[clients[0], clients[1], "client_allowed_sans: [a.example.org, 'spiffe://x/y']"]),
            "client certificates by name",
        ),
        ("http_server_config:\n  http2: false\n".to_owned(), "no HTTP/2"),
        (
            "http_server_config:\n  headers:\n    Content-Security-Policy: default-src 'self'\n    X-Frame-Options: deny\n    X-Content-Type-Options: nosniff\n    X-XSS-Protection: '0'\n    Strict-Transport-Security: max-age=1\n".to_owned(),
            "all headers",
        ),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: ''\n".to_owned(), "an unset header"),
        ("http_server_config:\n  headers:\n    X-XSS-Protection: 0\n".to_owned(), "a number as a text"),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: \"0\\r\\nSet-Cookie: a\"\n".to_owned(),
            "two lines, which become one",
        ),
        (format!("basic_auth_users:\n  7: {HASH}\n  true: {HASH}\n"), "names that are not texts"),
        ("rate_limit:\n  interval: 1s\n  burst: 20\n".to_owned(), "a rate limit"),
        (format!("basic_auth_users:\n  alice: {HASH}\n  bob: {HASH}\n"), "two users"),
        (format!("basic_auth_users:\n  alice: {}\n", HASH.replace("$2b", "$2y")), "htpasswd's prefix"),
    ] {
        if let Err(error) = directory.open(&text) {
            panic!("{why}: {error}\n{text}");
        }
    }
}

#[test]
fn relative_paths_are_relative_to_the_file() {
    let directory = TestDirectory::new();
    directory.open(&tls(&[])).unwrap();
    assert!(!Path::new("cert.pem").exists());
}

#[test]
fn scalars_have_the_value_that_go_yaml_reads() {
    let directory = TestDirectory::new();
    let header = |value: &str| {
        let text = format!("http_server_config:\n  headers:\n    X-XSS-Protection: {value}\n");
        let rules = directory.rules(text.as_bytes()).unwrap();
        rules.headers().first().map(|it| it.value().to_owned())
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
        let rules = directory.rules(text.as_bytes()).unwrap();
        assert_eq!(rules.rate_limit(), expected, "{text}");
    }
}

#[test]
fn a_byte_order_mark_is_not_part_of_the_document() {
    let directory = TestDirectory::new();
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
        let rules = directory.rules(&contents).unwrap();
        assert!(rules.requires_credentials(), "{why}");
    }
    for (contents, why) in [
        (
            [&b"\xff\xfe"[..], &little, b"\0"].concat(),
            "half a character",
        ),
        (little, "UTF-16 without a mark"),
        (b"# caf\xe9\n".to_vec(), "Latin-1"),
    ] {
        assert!(directory.rules(&contents).is_err(), "{why}");
    }
}
