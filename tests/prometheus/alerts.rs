//! Three faults and their alerts: a real Prometheus with the deployed alerts scrapes a server that fails, one that is slow and
//! one whose pool is exhausted. A real Alertmanager with the deployed routes notifies a receiver in this process.
//!
//! All times in the deployed files are divided by [`HASTE`], so that the test takes seconds; nothing else is changed.

use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;

use crate::prometheus::intruder::{Intruder, LOCKED, SLOWED};
use crate::prometheus::load::create_now_and_then;
use crate::prometheus::receiver::Receiver;
use crate::support::alertmanager::Alertmanager;
use crate::support::deployment::{deploy, read};
use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Program, Scraper};
use crate::support::server::Server;
use crate::support::{tools, wait};

/// The divisor of the times in the deployed files.
const HASTE: u64 = 15;

/// How long the alerts may take: twenty seconds of rates and waiting, and more on a busy machine.
const BOUND: Duration = Duration::from_secs(180);

/// The expected notifications: receiver, alert and job.
const EXPECTED: [(&str, &str, &str); 4] = [
    ("pager", "ErrorBudgetBurnFast", "actix-vitals-failing"),
    ("pager", "LatencyBudgetBurnFast", "actix-vitals-slow"),
    ("tickets", "PoolExhausted", "actix-vitals-crowded"),
    ("tickets", "PoolTimeouts", "actix-vitals-crowded"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_slowness_and_an_exhausted_pool_reach_the_receivers_of_debian() {
    let test = "errors_slowness_and_an_exhausted_pool_reach_the_receivers_of_debian";
    let (Some(prometheus), Some(alertmanager)) = (
        scrapers::one(test, Program::Oldest),
        tools::tool(test, "prometheus-alertmanager"),
    ) else {
        return;
    };
    alerts_arrive(&prometheus, &alertmanager).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_slowness_and_an_exhausted_pool_reach_the_receivers_of_today() {
    let test = "errors_slowness_and_an_exhausted_pool_reach_the_receivers_of_today";
    let (Some(prometheus), Some(alertmanager)) = (
        scrapers::one(test, Program::Newest),
        tools::built(test, "alertmanager", "alertmanager"),
    ) else {
        return;
    };
    alerts_arrive(&prometheus, &alertmanager).await;
}

async fn alerts_arrive(prometheus: &Scraper, alertmanager: &Path) {
    let receiver = Receiver::start();
    let alertmanager = Alertmanager::start(alertmanager, &routes(&receiver)).await;

    let failing = Server::start_with(&["--log=off"]);
    let slow = Server::start_with(&["--pool-timeout=60s"]);
    let crowded = Server::start_with(&["--pool-size=1", "--pool-timeout=3s", "--log=off"]);
    failing
        .data()
        .execute("ALTER TABLE items RENAME TO elsewhere");
    let _slowness = Intruder::start(&slow, SLOWED);
    let _crowding = Intruder::start(&crowded, LOCKED);
    let mut load = JoinSet::new();
    for server in [&failing, &slow, &crowded] {
        for _ in 0..4 {
            load.spawn(create_now_and_then(server.url("")));
        }
    }

    let jobs = [
        ("failing", &failing),
        ("slow", &slow),
        ("crowded", &crowded),
    ]
    .map(|(name, server)| job(&format!("actix-vitals-{name}"), &[server.authority()]));
    let rules = ["rules.yml", "alerts.yml"]
        .map(|name| hastened(&read(&deploy().join("prometheus").join(name))));
    let setup = Setup {
        jobs: &jobs.concat(),
        rules: &rules,
        alertmanager: Some(alertmanager.authority()),
        // Sends an alert again soon if it fired before Prometheus found the Alertmanager.
        flags: &["--rules.alert.resend-delay=1s"],
        ..Setup::default()
    };
    let _prometheus = Prometheus::start_set_up(prometheus, &setup).await;

    wait::until("all alerts", BOUND, async || {
        let arrived = receiver.alerts();
        let missing: Vec<_> = EXPECTED
            .iter()
            .filter(|expected| !arrived.iter().any(|alert| is_expected(alert, expected)))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{missing:?} are missing among {arrived:#?}"))
        }
    })
    .await;
    for (_, alert) in receiver.alerts() {
        tells_what_to_do(&alert);
    }
}

fn is_expected(
    (notified, alert): &(String, Value),
    (receiver, name, job): &(&str, &str, &str),
) -> bool {
    notified == receiver
        && alert["status"] == "firing"
        && alert["labels"]["alertname"] == *name
        && alert["labels"]["job"] == *job
}

/// Asserts that the texts are complete and that the section of the runbook exists.
fn tells_what_to_do(alert: &Value) {
    let annotations = &alert["annotations"];
    for text in ["summary", "description"] {
        let text = annotations[text].as_str().expect("a text");
        assert!(
            text.len() > 20 && !text.contains("{{") && !text.contains("<no value>"),
            "{text}"
        );
    }
    let link = annotations["runbook_url"].as_str().expect("a link");
    let name = alert["labels"]["alertname"].as_str().expect("a name");
    assert_eq!(link, format!("docs/RUNBOOK.md#{}", name.to_lowercase()));
}

/// The deployed routes with shorter times, and a URL for each receiver.
fn routes(receiver: &Receiver) -> String {
    let mut text = hastened(&read(&deploy().join("alertmanager/alertmanager.yml")));
    for name in ["pager", "tickets", "digest"] {
        let bare = format!("  - name: {name}\n");
        assert!(
            text.contains(&bare),
            "there is no receiver {name} without an address"
        );
        let url = receiver.url(name);
        text = text.replace(
            &bare,
            &format!("{bare}    webhook_configs: [{{url: '{url}'}}]\n"),
        );
    }
    text
}

/// Divides all durations in a text by [`HASTE`]: numbers with a unit of time that are not part of a name.
fn hastened(text: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let mut hastened = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        let shorter = milliseconds(word).map(|long| format!("{}ms", long / HASTE));
        hastened.push_str(shorter.as_deref().unwrap_or(word));
        let mut others = tail.chars();
        hastened.extend(others.next());
        rest = others.as_str();
    }
    hastened
}

/// The milliseconds of a duration such as `5m`.
fn milliseconds(word: &str) -> Option<u64> {
    let unit = match word.chars().last()? {
        's' => 1_000,
        'm' => 60_000,
        'h' => 3_600_000,
        'd' => 86_400_000,
        _ => return None,
    };
    let count: u64 = word[..word.len() - 1].parse().ok()?;
    Some(count * unit)
}

#[test]
fn haste_changes_durations_and_nothing_else() {
    let rule = "record: a:b:rate5m\nexpr: sum_over_time(a:b:rate5m[1h] offset 3h) > 14.4 # 3 % in 1d\nfor: 2m\nbucket: 0.25";
    assert_eq!(
        hastened(rule),
        "record: a:b:rate5m\nexpr: sum_over_time(a:b:rate5m[240000ms] offset 720000ms) > 14.4 # 3 % in 5760000ms\nfor: 8000ms\nbucket: 0.25"
    );
}
