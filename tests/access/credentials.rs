//! Users with passwords, and the token.

use reqwest::header::{AUTHORIZATION, HeaderValue};

use crate::access::ops_server::{AccessFiles, HASH, OpsServer, alice, tls};
use crate::support::server::{Answer, Server};

const TOKEN: &str = "a-token-that-nobody-guesses";

/// Starts a server with a token and this web configuration.
fn with_token(web_config: &str, flags: &[&str]) -> OpsServer {
    let files = AccessFiles::new();
    files.write("token", &format!("{TOKEN}\n"));
    let token = files.path("token").display().to_string();
    let mut all = vec!["--ops-token-file", &token];
    all.extend(flags);
    OpsServer::start_in(files, web_config, &all)
}

/// The value of `Authorization` for this user and password.
fn basic(user_pass: &[u8]) -> String {
    use base64::Engine as _;

    let encoded = base64::prelude::BASE64_STANDARD.encode(user_pass);
    format!("Basic {encoded}")
}

#[tokio::test]
async fn only_the_right_password_is_accepted() {
    let ops = OpsServer::start(&alice());
    assert_eq!(ops.status_for("alice", "secret").await, 200);
    let longest = "s".repeat(72);
    let huge = "s".repeat(10_000);
    for (name, password, why) in [
        ("alice", "wrong", "a wrong password"),
        ("alice", "", "an empty password"),
        ("alice", "secret ", "a trailing space"),
        ("alice", "Secret", "another case"),
        ("bob", "secret", "an unknown user"),
        ("", "secret", "an empty name"),
        ("alice", &longest, "the longest password that bcrypt reads"),
        ("alice", &huge, "a longer password"),
        (
            "alice",
            "secret\0secret",
            "a repetition, which bcrypt would not notice",
        ),
        ("alice:secret", "", "two colons"),
    ] {
        assert_eq!(ops.status_for(name, password).await, 401, "{why}");
    }
    assert_eq!(
        ops.status_for("alice", "secret").await,
        200,
        "alice is not locked out"
    );
    assert!(
        !ops.server.stderr().contains("secret"),
        "the log contains a secret"
    );
}

#[tokio::test]
async fn malformed_credentials_are_rejected() {
    let ops = OpsServer::start(&alice());
    let right = basic(b"alice:secret");
    for (value, why) in [
        ("", "empty"),
        ("Basic", "the scheme only"),
        ("Basic ", "the scheme and a space"),
        ("Basic !!!!", "not base64"),
        (&basic(b"alice"), "no colon"),
        (&basic(b"\xff\xfe:\xff"), "not UTF-8"),
        (&right.replace("Basic", "Bearer"), "another scheme"),
        (&right.replace("Basic", "Digest"), "an unsupported scheme"),
        (&right.replace("Basic ", "Basic"), "no space"),
    ] {
        let request = ops.request("/metrics").header(AUTHORIZATION, value);
        assert_eq!(Answer::of(request).await.status, 401, "{why}");
    }
    let twice = ops
        .request("/metrics")
        .header(AUTHORIZATION, &right)
        .header(AUTHORIZATION, &right);
    assert_eq!(Answer::of(twice).await.status, 401, "two headers");
    let odd = HeaderValue::from_bytes(b"Basic \xe9").unwrap();
    let request = ops.request("/metrics").header(AUTHORIZATION, odd);
    assert_eq!(Answer::of(request).await.status, 401, "not ASCII");
    let request = ops
        .request("/metrics")
        .header(AUTHORIZATION, right.replace("Basic", "bAsIc"));
    assert_eq!(
        Answer::of(request).await.status,
        200,
        "schemes are case-insensitive"
    );
}

#[tokio::test]
async fn a_huge_header_is_rejected_and_later_requests_are_served() {
    let ops = OpsServer::start(&alice());
    let huge = "s".repeat(1 << 20);
    let request = ops.request("/metrics").basic_auth("alice", Some(huge));
    // The server may close the connection while the client still sends.
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), 431);
    }
    assert_eq!(ops.status_for("alice", "secret").await, 200);
}

#[tokio::test]
async fn the_rejection_is_a_problem_document_with_a_challenge() {
    let ops = with_token(&alice(), &[]);
    let answer = Answer::of(ops.request("/metrics")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["status"], 401);
    assert_eq!(
        answer.header("www-authenticate"),
        r#"Basic realm="operators", charset="UTF-8", Bearer realm="operators""#
    );
}

#[tokio::test]
async fn every_path_of_the_ops_listener_is_behind_the_gate() {
    let ops = OpsServer::start(&alice());
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/health",
        "/dashboard",
        "/dashboard/app.js",
        "/dashboard/stream",
        "/ops/requests",
        "/ops/errors",
        "/ops/pool",
        "/ops/requests/kept",
        "/ops/statements",
        "/docs",
        "/openapi.json",
        "/nothing",
        "/",
    ] {
        assert_eq!(ops.status(path).await, 401, "{path}");
    }
    assert_eq!(
        ops.server.get("/data").await.status,
        200,
        "the API is public"
    );
}

#[tokio::test]
async fn on_a_shared_listener_only_the_ops_endpoints_are_behind_the_gate() {
    let files = AccessFiles::new();
    files.write("web.yml", &alice());
    let path = files.path("web.yml").display().to_string();
    let server = Server::start_with(&["--web-config", &path]);
    for path in ["/", "/data", "/openapi.json", "/docs"] {
        assert_eq!(server.get(path).await.status, 200, "{path}");
    }
    assert_eq!(server.get("/nothing").await.status, 404);
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/health",
        "/dashboard",
        "/dashboard/stream",
        "/ops/statements",
        "/ops/nothing",
    ] {
        assert_eq!(server.get(path).await.status, 401, "{path}");
        let request = server.request(reqwest::Method::GET, path);
        let answer = request.basic_auth("alice", Some("secret")).send().await;
        let expected = if path == "/ops/nothing" { 404 } else { 200 };
        assert_eq!(answer.unwrap().status(), expected, "{path}");
    }
}

/// Requests a path exactly as it is written. An HTTP client would normalize it.
fn status_of(authority: &str, path: &str) -> u16 {
    use std::io::{Read as _, Write as _};

    let mut socket = std::net::TcpStream::connect(authority).unwrap();
    write!(
        socket,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let status = answer.split(' ').nth(1).unwrap_or_default();
    status.parse().unwrap_or_default()
}

#[test]
fn no_spelling_of_a_path_bypasses_the_gate() {
    let files = AccessFiles::new();
    files.write("web.yml", &alice());
    let path = files.path("web.yml").display().to_string();
    let server = Server::start_with(&["--web-config", &path]);
    for path in [
        "/%6detrics",
        "/metric%73",
        "//metrics",
        "/metrics/",
        "/METRICS",
        "/./metrics",
        "/data/../metrics",
        "/metrics;a=b",
        "/metrics%3fa",
        "/ops%2fstatements",
        "http://x/metrics",
        "/%2e/metrics",
        "/metrics#a",
    ] {
        let status = status_of(server.authority(), path);
        assert!(matches!(status, 400 | 401 | 404), "{path}: {status}");
    }
}

#[tokio::test]
async fn the_token_is_accepted_beside_users() {
    for web_config in [String::new(), alice(), tls(&[])] {
        let ops = with_token(&web_config, &[]);
        let ask = async |token: &str| {
            let request = ops.request("/metrics").bearer_auth(token);
            Answer::of(request).await.status
        };
        assert_eq!(ask(TOKEN).await, 200);
        for wrong in [
            "",
            "a-token-that-nobody-guesse",
            "A-token-that-nobody-guesses",
            HASH,
        ] {
            assert_eq!(ask(wrong).await, 401, "{wrong}");
        }
        assert_eq!(ops.status("/metrics").await, 401);
        let expected = if web_config == alice() { 200 } else { 401 };
        assert_eq!(ops.status_for("alice", "secret").await, expected);
        assert!(
            !ops.server.stderr().contains(TOKEN),
            "the log contains the token"
        );
    }
}

#[tokio::test]
async fn only_liveness_can_be_exempt_from_credentials() {
    let ops = with_token("", &["--open-livez"]);
    assert_eq!(ops.status("/livez").await, 200);
    for path in ["/readyz", "/health", "/metrics", "/livez/", "/livez/x"] {
        assert_eq!(ops.status(path).await, 401, "{path}");
    }
}

#[tokio::test]
async fn a_correct_password_is_hashed_once() {
    let hash = bcrypt::hash("pass wörd", 10).unwrap();
    let ops = OpsServer::start(&format!("basic_auth_users:\n  'zoë': {hash}\n"));
    for _ in 0..200 {
        assert_eq!(ops.status_for("zoë", "pass wörd").await, 200);
    }
    assert_eq!(ops.status_for("zoë", "pass word").await, 401);
}

#[test]
fn the_start_warns_of_open_ops_endpoints_and_of_credentials_without_tls() {
    let files = AccessFiles::new();
    files.write("alice.yml", &alice());
    files.write("both.yml", &format!("{}{}", alice(), tls(&[])));
    let path = |name: &str| files.path(name).display().to_string();
    let open = "open to everyone";
    let plain = "sent without TLS";
    for (flags, warning) in [
        (vec!["--listen", "0.0.0.0:0"], Some(open)),
        (vec!["--ops-listen", "0.0.0.0:0"], Some(open)),
        (vec!["--ops-listen", "127.0.0.1:0"], None),
        (
            vec!["--listen", "0.0.0.0:0", "--ops-listen", "127.0.0.1:0"],
            None,
        ),
        (
            vec![
                "--ops-listen",
                "0.0.0.0:0",
                "--web-config",
                &path("alice.yml"),
            ],
            Some(plain),
        ),
        (
            vec![
                "--ops-listen",
                "0.0.0.0:0",
                "--web-config",
                &path("both.yml"),
            ],
            None,
        ),
    ] {
        let has_listen = flags.contains(&"--listen");
        let directory = tempfile::TempDir::new().unwrap();
        let mut command = crate::support::server::command(directory.path());
        if !has_listen {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command.args(&flags).spawn().unwrap();
        let stderr = first_lines(&mut child);
        child.kill().unwrap();
        child.wait().unwrap();
        for word in [open, plain] {
            assert_eq!(
                stderr.contains(word),
                warning == Some(word),
                "{flags:?}: {stderr}"
            );
        }
    }
}

/// Returns the log of a server until its workers run.
fn first_lines(child: &mut std::process::Child) -> String {
    use std::io::BufRead as _;

    let stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut seen = String::new();
    for line in stderr.lines().map_while(Result::ok) {
        seen += &line;
        if line.contains("starting service") {
            break;
        }
    }
    seen
}
