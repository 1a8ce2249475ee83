//! Clients that are asked for a certificate, and for a name in it.

use rcgen::SanType;

use crate::access::authority::Authority;
use crate::access::operators::{Operators, tls};

const DEMANDED: &str = "client_auth_type: RequireAndVerifyClientCert";

fn host(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[tokio::test]
async fn a_client_without_a_certificate_of_the_authority_does_not_enter() {
    let operators = Operators::start(&tls(&[DEMANDED, "client_ca_file: ca.pem"]));
    let url = format!("{}/metrics", operators.url);
    let known = operators
        .place
        .authority
        .client(vec![host("a.example.org")]);
    let answer = operators.place.client_with(&known).get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200);

    let answer = operators.request("/metrics").send().await;
    answer.expect_err("no certificate");

    let forged = Authority::new().client(vec![host("a.example.org")]);
    let answer = operators.place.client_with(&forged).get(&url).send().await;
    answer.expect_err("a forged certificate");
}

#[tokio::test]
async fn a_certificate_may_be_shown_or_not_but_not_be_forged() {
    let operators = Operators::start(&tls(&[
        "client_auth_type: VerifyClientCertIfGiven",
        "client_ca_file: ca.pem",
    ]));
    let url = format!("{}/metrics", operators.url);
    assert_eq!(operators.status("/metrics").await, 200);
    let known = operators.place.authority.client(vec![]);
    let answer = operators.place.client_with(&known).get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let forged = Authority::new().client(vec![]);
    let answer = operators.place.client_with(&forged).get(&url).send().await;
    answer.expect_err("a forged certificate");
}

#[tokio::test]
async fn a_certificate_must_have_a_name_of_the_list_letter_for_letter() {
    let operators = Operators::start(&tls(&[
        DEMANDED,
        "client_ca_file: ca.pem",
        "client_allowed_sans: [prometheus.example.org, 'spiffe://example.org/p', 10.1.2.3, 'fd00::1', ops@example.org]",
    ]));
    let url = format!("{}/metrics", operators.url);
    for (names, enters, why) in [
        (vec![host("prometheus.example.org")], true, "a host"),
        (
            vec![host("other"), host("prometheus.example.org")],
            true,
            "among others",
        ),
        (
            vec![SanType::URI("spiffe://example.org/p".try_into().unwrap())],
            true,
            "a URI",
        ),
        (
            vec![SanType::IpAddress("10.1.2.3".parse().unwrap())],
            true,
            "an address",
        ),
        (
            vec![SanType::IpAddress("fd00::1".parse().unwrap())],
            true,
            "a long address",
        ),
        (
            vec![SanType::Rfc822Name("ops@example.org".try_into().unwrap())],
            true,
            "a mailbox",
        ),
        (vec![], false, "no name"),
        (vec![host("example.org")], false, "a part of a name"),
        (
            vec![host("*.example.org")],
            false,
            "a pattern is a name like any other",
        ),
        (
            vec![SanType::IpAddress("10.1.2.4".parse().unwrap())],
            false,
            "another address",
        ),
        (
            vec![SanType::URI("spiffe://example.org/p/q".try_into().unwrap())],
            false,
            "more than a URI",
        ),
    ] {
        let certificate = operators.place.authority.client(names);
        let client = operators.place.client_with(&certificate);
        let answer = client.get(&url).send().await;
        assert_eq!(answer.is_ok_and(|it| it.status() == 200), enters, "{why}");
    }
}
