//! Users with passwords, and whoever has the token.

use reqwest::header::{AUTHORIZATION, HeaderValue};

use crate::access::operators::{HASH, Operators, Place, alice, tls};
use crate::support::server::{Answer, Server};

const TOKEN: &str = "a-token-that-nobody-guesses";

/// Starts a server that has a token, besides this web configuration.
fn with_token(web_config: &str, flags: &[&str]) -> Operators {
    let place = Place::new();
    place.write("token", &format!("{TOKEN}\n"));
    let token = place.path("token").display().to_string();
    let mut all = vec!["--ops-token-file", &token];
    all.extend(flags);
    Operators::start_in(place, web_config, &all)
}

/// `Basic`, and this in base64.
fn basic(user_pass: &[u8]) -> String {
    use base64::Engine as _;

    let encoded = base64::prelude::BASE64_STANDARD.encode(user_pass);
    format!("Basic {encoded}")
}

#[tokio::test]
async fn nothing_but_the_right_password_opens() {
    let operators = Operators::start(&alice());
    assert_eq!(operators.status_for("alice", "secret").await, 200);
    let longest = "s".repeat(72);
    let huge = "s".repeat(10_000);
    for (name, password, why) in [
        ("alice", "wrong", "a wrong one"),
        ("alice", "", "none"),
        ("alice", "secret ", "a letter more"),
        ("alice", "Secret", "another letter"),
        ("bob", "secret", "an unknown user"),
        ("", "secret", "no name"),
        ("alice", &longest, "as long as any"),
        ("alice", &huge, "longer than any"),
        (
            "alice",
            "secret\0secret",
            "a repetition that bcrypt does not see",
        ),
        ("alice:secret", "", "two colons"),
    ] {
        assert_eq!(operators.status_for(name, password).await, 401, "{why}");
    }
    assert_eq!(operators.status_for("alice", "secret").await, 200, "still");
    assert!(
        !operators.server.stderr().contains("secret"),
        "a secret in the log"
    );
}

#[tokio::test]
async fn what_is_no_credential_is_refused() {
    let operators = Operators::start(&alice());
    let right = basic(b"alice:secret");
    for (value, why) in [
        ("", "empty"),
        ("Basic", "no more than the scheme"),
        ("Basic ", "nothing after it"),
        ("Basic !!!!", "no base64"),
        (&basic(b"alice"), "no colon"),
        (&basic(b"\xff\xfe:\xff"), "no text"),
        (&right.replace("Basic", "Bearer"), "another scheme"),
        (&right.replace("Basic", "Digest"), "a scheme of nobody's"),
        (&right.replace("Basic ", "Basic"), "no space"),
    ] {
        let request = operators.request("/metrics").header(AUTHORIZATION, value);
        assert_eq!(Answer::of(request).await.status, 401, "{why}");
    }
    let twice = operators
        .request("/metrics")
        .header(AUTHORIZATION, &right)
        .header(AUTHORIZATION, &right);
    assert_eq!(Answer::of(twice).await.status, 401, "two of them");
    let odd = HeaderValue::from_bytes(b"Basic \xe9").unwrap();
    let request = operators.request("/metrics").header(AUTHORIZATION, odd);
    assert_eq!(Answer::of(request).await.status, 401, "no ASCII");
    let request = operators
        .request("/metrics")
        .header(AUTHORIZATION, right.replace("Basic", "bAsIc"));
    assert_eq!(
        Answer::of(request).await.status,
        200,
        "schemes have no case"
    );
}

#[tokio::test]
async fn a_header_beyond_all_measure_is_refused_and_nothing_breaks() {
    let operators = Operators::start(&alice());
    let huge = "s".repeat(1 << 20);
    let request = operators
        .request("/metrics")
        .basic_auth("alice", Some(huge));
    // It may be cut off while it still speaks.
    if let Ok(answer) = request.send().await {
        assert_eq!(answer.status(), 431);
    }
    assert_eq!(operators.status_for("alice", "secret").await, 200);
}

#[tokio::test]
async fn the_refusal_is_a_problem_that_names_the_way_in() {
    let operators = with_token(&alice(), &[]);
    let answer = Answer::of(operators.request("/metrics")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["status"], 401);
    assert_eq!(
        answer.header("www-authenticate"),
        r#"Basic realm="operators", charset="UTF-8", Bearer realm="operators""#
    );
}

#[tokio::test]
async fn every_path_of_the_operators_listener_is_behind_the_gate() {
    let operators = Operators::start(&alice());
    for path in [
        "/metrics",
        "/livez",
        "/readyz",
        "/health",
        "/dashboard",
        "/dashboard/app.js",
        "/dashboard/stream",
        "/ops/statements",
        "/docs",
        "/openapi.json",
        "/nothing",
        "/",
    ] {
        assert_eq!(operators.status(path).await, 401, "{path}");
    }
    assert_eq!(
        operators.server.get("/data").await.status,
        200,
        "the API is public"
    );
}

#[tokio::test]
async fn on_a_listener_for_all_the_gate_stands_before_the_operators_endpoints_alone() {
    let place = Place::new();
    place.write("web.yml", &alice());
    let path = place.path("web.yml").display().to_string();
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

/// Asks for a path exactly as it is written, which an HTTP client would not.
fn ask(authority: &str, path: &str) -> u16 {
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
fn no_other_spelling_of_a_path_leads_past_the_gate() {
    let place = Place::new();
    place.write("web.yml", &alice());
    let path = place.path("web.yml").display().to_string();
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
        let status = ask(server.authority(), path);
        assert!(matches!(status, 400 | 401 | 404), "{path}: {status}");
    }
}

#[tokio::test]
async fn a_token_opens_too_where_there_is_one() {
    for web_config in [String::new(), alice(), tls(&[])] {
        let operators = with_token(&web_config, &[]);
        let ask = async |token: &str| {
            let request = operators.request("/metrics").bearer_auth(token);
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
        assert_eq!(operators.status("/metrics").await, 401);
        let expected = if web_config == alice() { 200 } else { 401 };
        assert_eq!(operators.status_for("alice", "secret").await, expected);
        assert!(
            !operators.server.stderr().contains(TOKEN),
            "a token in the log"
        );
    }
}

#[tokio::test]
async fn liveness_may_be_left_open_and_nothing_else() {
    let operators = with_token("", &["--open-livez"]);
    assert_eq!(operators.status("/livez").await, 200);
    for path in ["/readyz", "/health", "/metrics", "/livez/", "/livez/x"] {
        assert_eq!(operators.status(path).await, 401, "{path}");
    }
}

#[tokio::test]
async fn a_hash_of_the_usual_cost_opens_after_its_work_and_then_at_once() {
    let hash = bcrypt::hash("pass wörd", 10).unwrap();
    let operators = Operators::start(&format!("basic_auth_users:\n  'zoë': {hash}\n"));
    for _ in 0..200 {
        assert_eq!(operators.status_for("zoë", "pass wörd").await, 200);
    }
    assert_eq!(operators.status_for("zoë", "pass word").await, 401);
}

#[test]
fn open_doors_and_plain_credentials_are_warned_of_at_the_start() {
    let place = Place::new();
    place.write("alice.yml", &alice());
    place.write("both.yml", &format!("{}{}", alice(), tls(&[])));
    let path = |name: &str| place.path(name).display().to_string();
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
        let listens_anyhow = flags.contains(&"--listen");
        let directory = tempfile::TempDir::new().unwrap();
        let mut command = crate::support::server::command(directory.path());
        if !listens_anyhow {
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

/// What a server logs until its workers run.
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
