//! `HEAD` of every path of the service, on the real server: the head is that of `GET`.

use std::collections::BTreeMap;

use actix_vitals::ops::{ENDPOINTS, OpsMethods};
use reqwest::Method;

use super::path_of;
use crate::support::server::Server;

/// Paths of the service itself, and such as do not exist or are not valid.
const OF_THE_SERVICE: [&str; 14] = [
    "/",
    "/data",
    "/data?limit=x",
    "/data/1",
    "/data/999",
    "/data/x",
    "/docs",
    "/docs/nothing",
    "/openapi.json",
    "/nothing",
    "/ops/nothing",
    "/ops/profile/cpu?seconds=x",
    "/ops/profile/cpu?seconds=1&format=folded",
    "/ops/profile/heap?format=svg",
];

/// Headers whose value differs from request to request.
const VARYING: [&str; 2] = ["date", "content-security-policy"];

/// Headers of a profile, which is taken for `GET` only.
const OF_A_PROFILE: [&str; 3] = ["content-disposition", "content-length", "x-profile-id"];

/// The status and the headers of an answer. What depends on the moment is not compared.
async fn head(server: &Server, method: Method, path: &str) -> (u16, BTreeMap<String, String>) {
    let answer = server.request(method, path).send().await.unwrap();
    let headers = answer.headers().iter().map(|(name, value)| {
        let value = value.to_str().unwrap().to_owned();
        (name.as_str().to_owned(), value)
    });
    let mut headers: BTreeMap<_, _> = headers.collect();
    for name in VARYING {
        headers.entry(name.to_owned()).and_modify(String::clear);
    }
    let is_taken = path.contains("/profile/cpu") || path.contains("/profile/heap");
    if is_taken && answer.status().is_success() {
        headers.retain(|name, _| !OF_A_PROFILE.contains(&name.as_str()));
        headers.remove("transfer-encoding");
    }
    let is_live = ["/metrics", "/ops/", "/dashboard/history"];
    if is_live.iter().any(|live| path.starts_with(live)) {
        let length = headers.entry("content-length".to_owned());
        length.and_modify(String::clear);
    }
    (answer.status().as_u16(), headers)
}

#[tokio::test]
async fn head_has_the_status_and_the_headers_of_get_on_every_path() {
    let server = Server::start_with(&["--profiling"]);
    server.create("Ada").await;
    let readable = (ENDPOINTS.iter())
        .filter(|it| matches!(it.methods(), OpsMethods::Read | OpsMethods::Stream));
    let paths = readable.map(path_of);
    for path in paths.chain(OF_THE_SERVICE.map(ToOwned::to_owned)) {
        let got = head(&server, Method::GET, &path).await;
        assert_eq!(head(&server, Method::HEAD, &path).await, got, "{path}");
    }
}
