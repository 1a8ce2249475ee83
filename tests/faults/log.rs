//! The reader of the log has ended: lines are lost, requests are not.

use std::io::{BufRead as _, BufReader};

use tempfile::TempDir;

use crate::support::exposition::Exposition;
use crate::support::server::command;
use crate::support::tools;

#[tokio::test]
async fn a_log_without_a_reader_loses_lines_and_no_requests() {
    let directory = TempDir::new().unwrap();
    let mut child = command(directory.path())
        .args(["--listen", "127.0.0.1:0", "--log=trace"])
        .spawn()
        .unwrap();
    // From here on, the pipe of the log is broken.
    drop(child.stderr.take());
    let mut line = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut line).unwrap();
    let url = line.trim().strip_prefix("listening on ").unwrap();

    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    for path in ["/data", "/data/1", "/nowhere", "/livez", "/readyz"] {
        let answer = client.get(format!("{url}{path}")).send().await.unwrap();
        assert!(
            answer.status().as_u16() < 500,
            "{path}: {}",
            answer.status()
        );
    }
    let scrape = client.get(format!("{url}/metrics")).send().await.unwrap();
    let scrape = Exposition::parse(&scrape.text().await.unwrap()).unwrap();
    let panics = scrape.value("vitals_panics_total", &[]);
    assert!(panics == 0.0, "{panics} panics");

    tools::run(
        "kill".as_ref(),
        &["-TERM", &child.id().to_string()],
        directory.path(),
    );
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
