//! An invalid `Host` is rejected, and counted as a request.

use http::StatusCode;

use crate::limits::guarded::{Guarded, Raw};
use crate::limits::http_2::{get, speak};

/// Sends requests with these hosts on one connection, and returns the statuses.
async fn statuses(authority: &str, hosts: &[&str]) -> Vec<String> {
    let mut raw = Raw::to(authority).await;
    let mut statuses = Vec::new();
    for host in hosts {
        raw.send(format!("HEAD / HTTP/1.1\r\nHost: {host}\r\n\r\n"))
            .await;
        let answer = raw.read_until("\r\n\r\n").await;
        statuses.push(answer.split(' ').nth(1).unwrap_or_default().to_owned());
    }
    statuses
}

#[tokio::test]
async fn an_invalid_host_is_a_bad_request_and_is_counted_once() {
    let guarded = Guarded::start(&[]);
    let invalid = [
        "a/b?c", "a?c", "a#c", "a b", "user@a", "a:b", "a:1:2", "[::1", "\"a\"", "a\\b",
        "http://a", "a%zz",
    ];
    let good = ["", "a", "a:8000", "a.example.org:", "[::1]:80", "127.0.0.1"];
    let all = [&invalid[..], &good[..]].concat();
    for authority in [guarded.server.authority(), guarded.ops_authority()] {
        let answered = statuses(authority, &all).await;
        for (host, status) in all.iter().zip(answered) {
            let expected = if invalid.contains(host) { "400" } else { "200" };
            let is_expected = status == expected || (status == "404" && good.contains(host));
            assert!(is_expected, "{host} on {authority}: {status}");
        }
    }
    let answered = [("200".to_owned(), 6), ("400".to_owned(), 12)].into();
    assert_eq!(guarded.answered().await, answered);

    let authority = guarded.server.authority();
    let (mut requests, _connection) = speak(authority, 65_535).await;
    for (hosts, expected) in [
        (&["a/b?c"][..], StatusCode::BAD_REQUEST),
        (&["a", "b"], StatusCode::BAD_REQUEST),
        (&[authority], StatusCode::OK),
        (&[], StatusCode::OK),
    ] {
        let mut request = get(authority, "/");
        for host in hosts {
            request.headers_mut().append("host", host.parse().unwrap());
        }
        let (answer, _) = requests.send_request(request, true).unwrap();
        assert_eq!(answer.await.unwrap().status(), expected, "{hosts:?}");
    }
    let answered = [("200".to_owned(), 8), ("400".to_owned(), 14)].into();
    assert_eq!(guarded.answered().await, answered);
}
