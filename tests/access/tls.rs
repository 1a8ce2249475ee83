//! TLS of both listeners: the negotiated protocol, versions, and the responses of an encrypted listener.

use reqwest::{Version, tls};

use crate::access::ops_server::{AccessFiles, OpsServer, client, reason, tls};
use crate::support::server::{Answer, Server};

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn http_2_is_negotiated_unless_it_is_turned_off() {
    let ops = OpsServer::start(&tls(&[]));
    assert!(ops.url.starts_with("https://"), "{}", ops.url);
    let answer = ops.request("/livez").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    let old = ops.files.trusting().http1_only().build().unwrap();
    let answer = old.get(format!("{}/livez", ops.url)).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);

    let without = format!("{}http_server_config:\n  http2: false\n", tls(&[]));
    let ops = OpsServer::start(&without);
    let answer = ops.request("/livez").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_11)
    );
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn only_the_configured_tls_versions_are_accepted() {
    for (line, accepted, rejected) in [
        (
            "min_version: TLS13",
            tls::Version::TLS_1_3,
            tls::Version::TLS_1_2,
        ),
        (
            "max_version: TLS12",
            tls::Version::TLS_1_2,
            tls::Version::TLS_1_3,
        ),
    ] {
        let ops = OpsServer::start(&tls(&[line]));
        let ask = async |version| {
            let client = ops.files.trusting();
            let client = client.min_tls_version(version).max_tls_version(version);
            let url = format!("{}/livez", ops.url);
            client.build().unwrap().get(url).send().await
        };
        assert_eq!(ask(accepted).await.unwrap().status(), 200, "{line}");
        let error = ask(rejected).await.expect_err(line);
        assert!(
            reason(&error).contains("ProtocolVersion"),
            "{line}: {error:?}"
        );
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn a_client_that_does_not_trust_the_authority_does_not_connect() {
    let ops = OpsServer::start(&tls(&[]));
    let stranger = client().build().unwrap();
    let error = stranger.get(format!("{}/livez", ops.url)).send().await;
    let reason = reason(&error.unwrap_err());
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn flags_turn_on_tls_of_the_public_listener() {
    let files = AccessFiles::new();
    let [cert, key] = ["cert.pem", "key.pem"].map(|it| files.path(it).display().to_string());
    let server = Server::start_with(&["--tls-cert", &cert, "--tls-key", &key]);
    let url = server.url("/data");
    assert!(url.starts_with("https://"), "{url}");
    let client = files.trusting().build().unwrap();
    let item = serde_json::json!({"name": "Ada", "email": "ada@example.org", "message": null});
    let answer = Answer::of(client.post(&url).json(&item)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let always = answer.headers()["strict-transport-security"]
        .to_str()
        .unwrap();
    assert!(always.starts_with("max-age="), "{always}");
    // A plain HTTP request fails, and does not affect others.
    let plain = url.replace("https:", "http:");
    assert!(client.get(plain).send().await.is_err());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn with_opentelemetry_names_the_scheme_is_that_of_the_listener() {
    let files = AccessFiles::new();
    let [cert, key] = ["cert.pem", "key.pem"].map(|it| files.path(it).display().to_string());
    let flags = ["--naming", "otel", "--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&flags);
    let client = files.trusting().build().unwrap();
    for path in ["/data", "/nowhere"] {
        client.get(server.url(path)).send().await.unwrap();
    }
    let answer = Answer::of(client.get(server.url("/metrics"))).await;
    let scrape = crate::support::exposition::Exposition::parse(&answer.text).unwrap();
    for name in [
        "http_requests_total",
        "http_server_request_duration_seconds_count",
        "http_server_response_body_size_bytes_count",
        "http_server_active_requests",
    ] {
        let series = scrape.series(name);
        assert!(!series.is_empty(), "{name}");
        for (labels, _) in series {
            assert_eq!(labels["url_scheme"], "https", "{name}{labels:?}");
        }
    }
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn a_large_response_over_tls_is_complete() {
    let ops = OpsServer::start(&tls(&[]));
    let answer = Answer::of(ops.request("/metrics")).await;
    assert!(answer.text.len() > 20_000, "{}", answer.text.len());
    let samples = crate::support::exposition::Exposition::parse(&answer.text);
    samples.expect("a well-formed exposition");
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn hsts_is_not_sent_while_one_listener_is_plain() {
    let ops = OpsServer::start(&tls(&[]));
    let answer = Answer::of(ops.request("/dashboard")).await;
    assert_eq!(answer.header("strict-transport-security"), "");
}
