//! Asks real scrapers for every expression that is deployed or documented. They have the rules and scrape a server with every
//! kind of fault. Each expression returns data, from classic and from native histograms, and
//! from those that the newest Prometheus converts.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use serde_json::Value;

use crate::prometheus::load::{FRAIL, Trouble};
use crate::prometheus::{EXEMPLARS, Form, LATENCY, answers, exemplars};
use crate::support::deployment::{
    dashboard, deploy, deployed_expressions, documented_expressions, filled, label_values, panels,
    place, read, recorded, targets,
};
use crate::support::prometheus::{Prometheus, Setup, job};
use crate::support::scrapers::{self, Program, Scraper};
use crate::support::server::Server;
use crate::support::{promql, tools};

/// Expressions that stay empty here: their place, their family, and the reason. They must evaluate without an error. Remove
/// an entry when its expression returns data.
const EMPTY: &[(&str, &str, &str)] = &[
    (
        "panel Clients that left, and panics B",
        "http_request_panics_total",
        "no handler of this service panics",
    ),
    (
        "docs/RUNBOOK.md",
        "http_request_panics_total",
        "no handler of this service panics",
    ),
    (
        "panel Transaction duration p95 A",
        "db_transaction_duration_seconds",
        "this service has no transactions: each of its statements is one",
    ),
    (
        "docs/RUNBOOK.md",
        "db_transaction_duration_seconds",
        "this service has no transactions: each of its statements is one",
    ),
    (
        "panel Opening a connection A",
        "db_connection_open_seconds",
        "all connections to a file are opened before the first scrape",
    ),
    (
        "annotation Restarts",
        "process_start_time_seconds",
        "the server is not restarted",
    ),
];

/// How long until everything has an answer: a round of failures takes ten seconds, a rate two scrapes, a rule one more.
const BOUND: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_expression_answers_from_the_oldest_prometheus() {
    let test = "every_expression_answers_from_the_oldest_prometheus";
    let forms = [Form::Classic, Form::Native];
    every_expression_answers(scrapers::one(test, Program::Oldest), &forms).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_expression_answers_from_the_newest_prometheus() {
    let test = "every_expression_answers_from_the_newest_prometheus";
    let forms = [Form::Classic, Form::Native, Form::Converted];
    every_expression_answers(scrapers::one(test, Program::Newest), &forms).await;
}

/// Asks a Prometheus for each form of histograms.
async fn every_expression_answers(scraper: Option<Scraper>, forms: &[Form]) {
    let Some(scraper) = scraper else {
        return;
    };
    let server = Server::start_with(FRAIL);
    let mut trouble = Trouble::start(&server).await;
    let asked = forms
        .iter()
        .map(|form| unanswered(&scraper, &server, *form));
    let unanswered = join_all(asked).await;
    assert!(trouble.lasts(), "the load ended before its time");
    all_are_answered(&unanswered.concat());
}

fn all_are_answered(unanswered: &[String]) {
    assert!(
        unanswered.is_empty(),
        "without an answer:\n\n{}",
        unanswered.join("\n\n")
    );
}

/// Returns what a Prometheus of this form with the deployed rules has not answered in time.
async fn unanswered(scraper: &Scraper, server: &Server, form: Form) -> Vec<String> {
    let prometheus = start(scraper, server, form).await;
    let reasons = ask_all(&prometheus, &prometheus, questions()).await;
    form.is_kept_by(&prometheus, LATENCY).await;
    let reasons = reasons.into_iter();
    reasons
        .map(|reason| format!("{form:?}: {reason}"))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_expression_with_classic_histograms_answers_from_victoriametrics() {
    let test = "every_expression_with_classic_histograms_answers_from_victoriametrics";
    let (Some(scraper), Some(vmalert)) = (
        scrapers::one(test, Program::VictoriaMetrics),
        tools::built(test, "victoria-metrics", "vmalert"),
    ) else {
        return;
    };
    let server = Server::start_with(FRAIL);
    let mut trouble = Trouble::start(&server).await;
    let victoria = Form::Classic.start(&scraper, &server, &[]).await;
    let vmalert = Prometheus::start_vmalert(&vmalert, &victoria, &deploy()).await;
    let mut questions = questions();
    // It keeps no exemplars.
    questions.retain(|question| !matches!(question.answer, Answer::Exemplars));
    for question in &mut questions {
        question.text = promql::classic(&question.text);
    }
    let unanswered = ask_all(&victoria, &vmalert, questions).await;
    assert!(trouble.lasts(), "the load ended before its time");
    all_are_answered(&unanswered);
}

/// Asks everything until it is answered. Returns the reasons of what is not answered in time. The rules are evaluated by
/// `evaluator`.
async fn ask_all(
    prometheus: &Prometheus,
    evaluator: &Prometheus,
    mut questions: Vec<Question>,
) -> Vec<String> {
    let deadline = Instant::now() + BOUND;
    assert!(questions.len() > 250, "only {} questions", questions.len());
    loop {
        let (mut open, mut reasons) = (Vec::new(), Vec::new());
        for question in questions {
            let asked = match question.answer {
                Answer::Health => evaluator,
                _ => prometheus,
            };
            if let Err(reason) = question.put_to(asked).await {
                reasons.push(format!("{}: {reason}", question.place));
                open.push(question);
            }
        }
        if open.is_empty() || Instant::now() > deadline {
            return reasons;
        }
        questions = open;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn start(scraper: &Scraper, server: &Server, form: Form) -> Prometheus {
    let rules =
        ["rules.yml", "alerts.yml"].map(|name| read(&deploy().join("prometheus").join(name)));
    let setup = Setup {
        jobs: &job("actix-vitals", &[server.authority()]),
        rules: &rules,
        native: form == Form::Native,
        global: form.global(),
        flags: &[EXEMPLARS],
        ..Setup::default()
    };
    Prometheus::start_set_up(scraper, &setup).await
}

/// A query and its place.
#[derive(Debug)]
struct Question {
    place: String,
    text: String,
    answer: Answer,
}

/// What counts as an answer to a query.
#[derive(Debug)]
enum Answer {
    /// Numbers.
    Data,
    /// An empty result, for this reason.
    Nothing(&'static str),
    /// Any result: an alert has no data until it fires.
    Any,
    /// Exemplars of the selected series.
    Exemplars,
    /// Values of this label.
    Values(String),
    /// An evaluation of this rule without an error.
    Health,
}

impl Question {
    fn new(place: impl Into<String>, text: impl Into<String>, answer: Answer) -> Self {
        Self {
            place: place.into(),
            text: text.into(),
            answer,
        }
    }

    /// Returns the reason and the query if there is no answer.
    async fn put_to(&self, prometheus: &Prometheus) -> Result<(), String> {
        let answered = self.is_answered(prometheus).await;
        answered.map_err(|reason| format!("{reason}\n{}", self.text))
    }

    async fn is_answered(&self, prometheus: &Prometheus) -> Result<(), String> {
        let text = self.text.as_str();
        match &self.answer {
            Answer::Data => answers(prometheus, text).await,
            Answer::Any => prometheus.query(text).await.map(drop),
            Answer::Nothing(reason) => match prometheus.query(text).await?.as_slice() {
                [] => Ok(()),
                some => Err(format!("it answers, though {reason}: {some:?}")),
            },
            Answer::Exemplars => exemplars(prometheus, text).await.map(drop),
            Answer::Values(label) => {
                let path = format!("/api/v1/label/{label}/values");
                let values = prometheus.ask(&path, &[("match[]", text)]).await?;
                some(&values).map(drop)
            }
            Answer::Health => is_healthy(prometheus, text).await,
        }
    }
}

/// The elements of a nonempty array.
fn some(array: &Value) -> Result<&[Value], String> {
    match array.as_array().map(Vec::as_slice) {
        Some([]) | None => Err("there are none".to_owned()),
        Some(elements) => Ok(elements),
    }
}

/// Checks that the rule of this name was evaluated without an error.
async fn is_healthy(prometheus: &Prometheus, name: &str) -> Result<(), String> {
    let data = prometheus.ask("/api/v1/rules", &[]).await?;
    for group in some(&data["groups"])? {
        for rule in some(&group["rules"])?
            .iter()
            .filter(|rule| rule["name"] == name)
        {
            if rule["health"] != "ok" {
                return Err(rule.to_string());
            }
        }
    }
    Ok(())
}

/// Data, unless the expression is listed as empty.
fn expected(place: &str, expression: &str) -> Answer {
    let empty = EMPTY
        .iter()
        .find(|(empty, family, _)| *empty == place && expression.contains(family));
    empty.map_or(Answer::Data, |(.., reason)| Answer::Nothing(reason))
}

fn questions() -> Vec<Question> {
    let mut questions = Vec::new();
    for (place, expression) in deployed_expressions() {
        let answer = match place.strip_prefix("prometheus/alerts.yml: ") {
            Some(alert) => {
                questions.push(Question::new(place.as_str(), alert, Answer::Health));
                Answer::Any
            }
            None => expected(&place, &expression),
        };
        questions.push(Question::new(place, expression, answer));
    }
    for name in recorded() {
        questions.push(Question::new("rules.yml", name.as_str(), Answer::Health));
        questions.push(Question::new("rules.yml", name, Answer::Data));
    }
    for (place, expression) in documented_expressions() {
        let answer = expected(&place, &expression);
        questions.push(Question::new(place, expression, answer));
    }
    let dashboard = dashboard();
    for panel in panels(&dashboard) {
        for (expression, target) in targets(panel) {
            let place = place(panel, target);
            let has_data = matches!(expected(&place, expression), Answer::Data);
            if has_data && target["exemplar"] == true {
                questions.push(Question::new(place, filled(expression), Answer::Exemplars));
            }
        }
    }
    for variable in dashboard["templating"]["list"]
        .as_array()
        .expect("variables")
    {
        if let Some(query) = variable["definition"].as_str() {
            let (selector, label) = label_values(query);
            questions.push(Question::new(
                query,
                filled(selector),
                Answer::Values(label.to_owned()),
            ));
        }
    }
    questions
}
