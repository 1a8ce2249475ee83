//! Encrypted listeners: the protocol that is agreed on, versions, and what an encrypted server tells of itself.

use reqwest::{Version, tls};

use crate::access::operators::{Operators, Place, client, reason, tls};
use crate::support::server::{Answer, Server};

#[tokio::test]
async fn http_2_is_agreed_on_where_it_is_not_switched_off() {
    let operators = Operators::start(&tls(&[]));
    assert!(operators.url.starts_with("https://"), "{}", operators.url);
    let answer = operators.request("/livez").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_2)
    );
    let old = operators.place.trusting().http1_only().build().unwrap();
    let answer = old
        .get(format!("{}/livez", operators.url))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.version(), Version::HTTP_11);

    let without = format!("{}http_server_config:\n  http2: false\n", tls(&[]));
    let operators = Operators::start(&without);
    let answer = operators.request("/livez").send().await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.version()),
        (200, Version::HTTP_11)
    );
}

#[tokio::test]
async fn only_the_versions_that_were_chosen_are_spoken() {
    for (line, spoken, unspoken) in [
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
        let operators = Operators::start(&tls(&[line]));
        let ask = async |version| {
            let client = operators.place.trusting();
            let client = client.min_tls_version(version).max_tls_version(version);
            let url = format!("{}/livez", operators.url);
            client.build().unwrap().get(url).send().await
        };
        assert_eq!(ask(spoken).await.unwrap().status(), 200, "{line}");
        let error = ask(unspoken).await.expect_err(line);
        assert!(
            reason(&error).contains("ProtocolVersion"),
            "{line}: {error:?}"
        );
    }
}

#[tokio::test]
async fn who_does_not_know_the_authority_does_not_connect() {
    let operators = Operators::start(&tls(&[]));
    let stranger = client().build().unwrap();
    let error = stranger
        .get(format!("{}/livez", operators.url))
        .send()
        .await;
    let reason = reason(&error.unwrap_err());
    assert!(reason.contains("UnknownIssuer"), "{reason}");
}

#[tokio::test]
async fn the_public_listener_is_encrypted_by_flags() {
    let place = Place::new();
    let [cert, key] = ["cert.pem", "key.pem"].map(|it| place.path(it).display().to_string());
    let server = Server::start_with(&["--tls-cert", &cert, "--tls-key", &key]);
    let url = server.url("/data");
    assert!(url.starts_with("https://"), "{url}");
    let client = place.trusting().build().unwrap();
    let item = serde_json::json!({"name": "Ada", "email": "ada@example.org", "message": null});
    let answer = Answer::of(client.post(&url).json(&item)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let answer = client.get(&url).send().await.unwrap();
    assert_eq!(answer.version(), Version::HTTP_2);
    let always = answer.headers()["strict-transport-security"]
        .to_str()
        .unwrap();
    assert!(always.starts_with("max-age="), "{always}");
    // Plain HTTP comes to nothing, and hurts nobody.
    let plain = url.replace("https:", "http:");
    assert!(client.get(plain).send().await.is_err());
    assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
}

#[tokio::test]
async fn by_the_names_of_opentelemetry_the_scheme_is_that_of_the_listener() {
    let place = Place::new();
    let [cert, key] = ["cert.pem", "key.pem"].map(|it| place.path(it).display().to_string());
    let flags = ["--naming", "otel", "--tls-cert", &cert, "--tls-key", &key];
    let server = Server::start_with(&flags);
    let client = place.trusting().build().unwrap();
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
async fn an_encrypted_large_answer_arrives_whole() {
    let operators = Operators::start(&tls(&[]));
    let answer = Answer::of(operators.request("/metrics")).await;
    assert!(answer.text.len() > 20_000, "{}", answer.text.len());
    let samples = crate::support::exposition::Exposition::parse(&answer.text);
    samples.expect("a well-formed exposition");
}

#[tokio::test]
async fn one_plain_listener_forbids_to_tell_a_browser_that_all_is_encrypted() {
    let operators = Operators::start(&tls(&[]));
    let answer = Answer::of(operators.request("/dashboard")).await;
    assert_eq!(answer.header("strict-transport-security"), "");
}
