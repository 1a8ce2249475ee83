//! Client certificates, and the names in them.

use rcgen::SanType;

use crate::access::authority::Authority;
use crate::access::ops_server::{OpsServer, tls};

const REQUIRED: &str = "client_auth_type: RequireAndVerifyClientCert";

fn host(name: &str) -> SanType {
    SanType::DnsName(name.try_into().unwrap())
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn a_client_without_a_certificate_of_the_authority_is_rejected() {
    let ops = OpsServer::start(&tls(&[REQUIRED, "client_ca_file: ca.pem"]));
    let url = format!("{}/metrics", ops.url);
    let known = ops.files.authority.client(vec![host("a.example.org")]);
    let answer = ops.files.client_with(&known).get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200);

    let answer = ops.request("/metrics").send().await;
    answer.expect_err("a client without a certificate connects");

    let forged = Authority::new().client(vec![host("a.example.org")]);
    let answer = ops.files.client_with(&forged).get(&url).send().await;
    answer.expect_err("a forged certificate");
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn an_optional_certificate_can_be_missing_but_not_forged() {
    let ops = OpsServer::start(&tls(&[
        "client_auth_type: VerifyClientCertIfGiven",
        "client_ca_file: ca.pem",
    ]));
    let url = format!("{}/metrics", ops.url);
    assert_eq!(ops.status("/metrics").await, 200);
    let known = ops.files.authority.client(vec![]);
    let answer = ops.files.client_with(&known).get(&url).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    let forged = Authority::new().client(vec![]);
    let answer = ops.files.client_with(&forged).get(&url).send().await;
    answer.expect_err("a forged certificate");
}

#[tokio::test]
#[cfg_attr(not(feature = "tls"), ignore = "needs the feature tls")]
async fn a_certificate_must_have_exactly_a_name_of_the_list() {
    let ops = OpsServer::start(&tls(&[
        REQUIRED,
        "client_ca_file: ca.pem",
        "client_allowed_sans: [prometheus.example.org, 'spiffe://example.org/p', 10.1.2.3, 'fd00::1', ops@example.org]",
    ]));
    let url = format!("{}/metrics", ops.url);
    for (names, enters, why) in [
        (vec![host("prometheus.example.org")], true, "a host"),
        (
            vec![host("other"), host("prometheus.example.org")],
            true,
            "one of several hosts",
        ),
        (
            vec![SanType::URI("spiffe://example.org/p".try_into().unwrap())],
            true,
            "a URI",
        ),
        (
            vec![SanType::IpAddress("10.1.2.3".parse().unwrap())],
            true,
            "an IPv4 address",
        ),
        (
            vec![SanType::IpAddress("fd00::1".parse().unwrap())],
            true,
            "an IPv6 address",
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
            "a wildcard, which is compared as it is",
        ),
        (
            vec![SanType::IpAddress("10.1.2.4".parse().unwrap())],
            false,
            "another address",
        ),
        (
            vec![SanType::URI("spiffe://example.org/p/q".try_into().unwrap())],
            false,
            "a longer URI",
        ),
    ] {
        let certificate = ops.files.authority.client(names);
        let client = ops.files.client_with(&certificate);
        let answer = client.get(&url).send().await;
        assert_eq!(answer.is_ok_and(|it| it.status() == 200), enters, "{why}");
    }
}
