//! Documents that are rejected, and the field that the error names.

use super::{HASH, TestDirectory, tls};

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn the_error_names_the_field_and_shows_no_secret() {
    let directory = TestDirectory::new();
    let clients = [
        "client_auth_type: RequireAndVerifyClientCert",
        "client_ca_file: ca.pem",
    ];
    for (text, subject, why) in [
        ("- a list".to_owned(), "", "not a mapping"),
        ("a: [".to_owned(), "", "not YAML"),
        ("a: 1\n---\nb: 2\n".to_owned(), "", "two documents"),
        ("1: 2".to_owned(), "1", "an unknown field that is a number"),
        ("[a]: 2".to_owned(), "", "a field name that is a list"),
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
            "not a unit of Go",
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
            "a file that does not exist",
        ),
        (
            "tls_server_config:\n  cert_file: cert.pem\n  key_file: nowhere.pem\n".to_owned(),
            "tls_server_config.key_file",
            "a key file that does not exist",
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
            "the key of another certificate",
        ),
        (
            "tls_server_config:\n  cert_file: junk.pem\n  key_file: key.pem\n".to_owned(),
            "tls_server_config.cert_file",
            "PEM that is not a certificate",
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
            "a certificate and a certificate file",
        ),
        (
            tls(&["key: x"]),
            "tls_server_config.key_file",
            "a key and a key file",
        ),
        (
            tls(&["min_version: TLS10"]),
            "tls_server_config.min_version",
            "a broken version",
        ),
        (
            tls(&["min_version: TLS11"]),
            "tls_server_config.min_version",
            "a broken version",
        ),
        (
            tls(&["max_version: TLS11"]),
            "tls_server_config.max_version",
            "a broken version",
        ),
        (
            tls(&["min_version: '1.3'"]),
            "tls_server_config.min_version",
            "a name that Go does not use",
        ),
        (
            tls(&["min_version: 1.3"]),
            "tls_server_config.min_version",
            "a number for a text",
        ),
        (
            tls(&["min_version: SSL30"]),
            "tls_server_config.min_version",
            "an unknown version",
        ),
        (
            tls(&["min_version: TLS13", "max_version: TLS12"]),
            "tls_server_config.max_version",
            "maximum below minimum",
        ),
        (
            tls(&["cipher_suites: TLS_AES_128_GCM_SHA256"]),
            "tls_server_config.cipher_suites",
            "a text for a list",
        ),
        (
            tls(&["cipher_suites: [1]"]),
            "tls_server_config.cipher_suites",
            "a list of numbers",
        ),
        (
            tls(&["cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]"]),
            "tls_server_config.cipher_suites",
            "a weak suite",
        ),
        (
            tls(&["cipher_suites: [TLS_SNAKE_OIL]"]),
            "tls_server_config.cipher_suites",
            "an unknown name",
        ),
        (
            tls(&["cipher_suites: [TLS_AES_128_GCM_SHA256]"]),
            "tls_server_config.cipher_suites",
            "no suite of TLS 1.2",
        ),
        (
            tls(&["curve_preferences: [CurveP521]"]),
            "tls_server_config.curve_preferences",
            "a curve that is not supported",
        ),
        (
            tls(&["curve_preferences: [P256]"]),
            "tls_server_config.curve_preferences",
            "a name that Go does not use",
        ),
        (
            tls(&["prefer_server_cipher_suites: maybe"]),
            "tls_server_config.prefer_server_cipher_suites",
            "not a boolean",
        ),
        (
            tls(&["client_auth_type: RequestClientCert"]),
            "tls_server_config.client_auth_type",
            "a type that verifies no certificate",
        ),
        (
            tls(&[
                "client_auth_type: RequireAnyClientCert",
                "client_ca_file: ca.pem",
            ]),
            "tls_server_config.client_auth_type",
            "a type that verifies no certificate",
        ),
        (
            tls(&["client_auth_type: Please"]),
            "tls_server_config.client_auth_type",
            "an unknown name",
        ),
        (
            tls(&clients[..1]),
            "tls_server_config.client_ca_file",
            "no authority to verify against",
        ),
        (
            tls(&clients[1..]),
            "tls_server_config.client_ca_file",
            "an authority that verifies no certificate",
        ),
        (
            tls(&[clients[0], "client_ca_file: nowhere.pem"]),
            "tls_server_config.client_ca_file",
            "a file that does not exist",
        ),
        (
            tls(&[clients[0], "client_ca_file: key.pem"]),
            "tls_server_config.client_ca_file",
            "no certificate",
        ),
        (
            tls(&[clients[0], "client_ca_file: junk.pem"]),
            "tls_server_config.client_ca_file",
            "not a valid certificate",
        ),
        (
            tls(&[clients[0], clients[1], "client_ca: x"]),
            "tls_server_config.client_ca_file",
            "an authority and an authority file",
        ),
        (
            tls(&["client_allowed_sans: [a]"]),
            "tls_server_config.client_allowed_sans",
            "names without client certificates",
        ),
        (
            tls(&[
                "client_auth_type: VerifyClientCertIfGiven",
                clients[1],
                "client_allowed_sans: [a]",
            ]),
            "tls_server_config.client_allowed_sans",
            "names with optional certificates",
        ),
        (
            "http_server_config:\n  http3: true\n".to_owned(),
            "http_server_config.http3",
            "an unknown field",
        ),
        (
            "http_server_config:\n  http2: 2\n".to_owned(),
            "http_server_config.http2",
            "not a boolean",
        ),
        (
            "http_server_config:\n  headers:\n    Server: me\n".to_owned(),
            "http_server_config.headers.Server",
            "a header that cannot be set",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: allow\n".to_owned(),
            "http_server_config.headers.X-Frame-Options",
            "a value that is not accepted",
        ),
        (
            "http_server_config:\n  headers:\n    X-Content-Type-Options: sniff\n".to_owned(),
            "http_server_config.headers.X-Content-Type-Options",
            "a value that is not accepted",
        ),
        (
            "http_server_config:\n  headers:\n    X-Frame-Options: ''\n".to_owned(),
            "http_server_config.headers.X-Frame-Options",
            "an empty value where few are accepted",
        ),
        (
            "http_server_config:\n  headers:\n    X-XSS-Protection: \"0\\x01\"\n".to_owned(),
            "http_server_config.headers.X-XSS-Protection",
            "a control character",
        ),
        (
            "basic_auth_users: [alice]".to_owned(),
            "basic_auth_users",
            "not a mapping",
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
            "a number for a text",
        ),
        (
            format!("basic_auth_users:\n  alice: {}\n", &HASH[..59]),
            "basic_auth_users.alice",
            "a truncated hash",
        ),
        (
            format!(
                "basic_auth_users:\n  alice: {}\n",
                HASH.replace("$2b$04", "$2b$03")
            ),
            "basic_auth_users.alice",
            "a cost below the minimum",
        ),
        (
            format!(
                "basic_auth_users:\n  alice: {}\n",
                HASH.replace("$2b$04", "$2b$31")
            ),
            "basic_auth_users.alice",
            "a cost of days",
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
            "a name that no client can send",
        ),
    ] {
        let Err(error) = directory.open(&text) else {
            panic!("{why}: accepted:\n{text}");
        };
        let sentence = error.to_string();
        let file = directory.path("web.yml").display().to_string();
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
fn a_hash_given_as_a_user_name_is_not_echoed() {
    let error = TestDirectory::new().open(&format!("basic_auth_users:\n  {HASH}: alice\n"));
    let sentence = error.unwrap_err().to_string();
    assert!(!sentence.contains(HASH), "{sentence}");
}

#[test]
fn aliases_cannot_multiply_a_document() {
    let mut text = "a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..7 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.extend(["b", &level.to_string(), ": &a", &level.to_string(), " ["]);
        text.extend([&*aliases, "]\n"]);
    }
    let sentence = TestDirectory::new().open(&text).unwrap_err().to_string();
    assert!(
        sentence.ends_with("must not have more than 50000 values, aliases included"),
        "{sentence}"
    );
}

#[test]
fn a_deeply_nested_document_is_rejected_without_a_crash() {
    let directory = TestDirectory::new();
    for text in [
        "[".repeat(1 << 19),
        "{a: ".repeat(1 << 17),
        "- ".repeat(1 << 18),
    ] {
        directory.open(&text).unwrap_err();
    }
}
