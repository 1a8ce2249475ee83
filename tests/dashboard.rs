//! The live page and the page about the API, in a real browser against the real binary. Each test here runs one file in
//! `dashboard/` with Node. The assertions are in those files.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;

use actix_cors::Cors;
use actix_vitals::{Vitals, ops::OpsSettings};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::middleware::{Next, from_fn};
use actix_web::{App, HttpResponse, HttpServer};

use crate::support::{example::example, tools};

fn run(theme: &str) {
    run_with(theme, &[]);
}

/// Runs a file that needs the program of the example `why`.
fn run_with_shop(theme: &str) {
    run_with(theme, &[("VITALS_WHY", &example("why").to_string_lossy())]);
}

/// Runs a file with more variables in its environment.
fn run_with(theme: &str, variables: &[(&str, &str)]) {
    let test = format!("the browser test of {theme}");
    let (Some(node), Some(python)) = (tools::browser(&test), tools::python(&test)) else {
        return;
    };
    let file =
        Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/dashboard/{theme}.test.mjs"));
    let output = Command::new(node)
        // Ends even if a failed test leaves something open. The time is that of the whole file.
        .args(["--test", "--test-reporter=spec", "--test-force-exit"])
        .arg("--test-timeout=600000")
        .arg(file)
        .env("VITALS_PYTHON", python)
        .env("VITALS_BINARY", env!("CARGO_BIN_EXE_actix-vitals"))
        .envs(variables.iter().copied())
        .output()
        .expect("node starts");
    println!("{}", String::from_utf8_lossy(&output.stdout));
    assert!(
        output.status.success(),
        "{theme}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Serves the ops endpoints behind the middlewares of a whole application: credentials, and CORS for one other origin.
/// Returns the URL. Serves until the process ends.
fn serve_behind_middlewares() -> String {
    let (send, address) = mpsc::channel();
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async move {
            let vitals = Vitals::builder().ops(OpsSettings::everything()).build();
            let vitals = vitals.expect("these settings build");
            let server = HttpServer::new(move || {
                let cors = Cors::default().allowed_origin("https://shop.example");
                App::new()
                    .configure(vitals.ops())
                    .wrap(cors.block_on_origin_mismatch(true))
                    .wrap(from_fn(authenticate))
            });
            let server = server.workers(1).disable_signals();
            let server = server.bind("127.0.0.1:0").expect("a port");
            send.send(server.addrs()[0]).expect("a reader");
            server.run().await.expect("it serves");
        });
    });
    format!("http://{}", address.recv().expect("an address"))
}

/// Accepts `ada` with the password `s3cret`.
async fn authenticate(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let given = request.headers().get("authorization");
    if given.is_some_and(|given| given == "Basic YWRhOnMzY3JldA==") {
        return Ok(next.call(request).await?.map_into_boxed_body());
    }
    let mut answer = HttpResponse::Unauthorized();
    answer.insert_header(("www-authenticate", "Basic realm=\"shop\""));
    Ok(request.into_response(answer.finish()))
}

#[test]
fn the_page_works_behind_an_applications_middlewares_or_says_what_is_wrong() {
    run_with(
        "middlewares",
        &[("VITALS_URL", &serve_behind_middlewares())],
    );
}

#[test]
fn the_page_loads_from_its_own_server_alone() {
    run("page");
}

#[test]
fn its_numbers_are_those_of_the_scrape() {
    run("numbers");
}

#[test]
fn it_lists_requests_that_failed() {
    run("faults");
}

#[test]
fn it_leads_from_statements_to_their_last_hour_and_their_requests() {
    run_with_shop("statements");
}

#[test]
fn its_controls_work_by_mouse_and_keyboard() {
    run("controls");
}

#[test]
fn it_goes_on_after_a_restart_and_after_sleep() {
    run("continuity");
}

#[test]
fn it_is_accessible_and_nothing_overlaps() {
    run("access");
}

#[test]
fn the_page_of_the_profiles_takes_and_shows_them() {
    run("profiles");
}

#[test]
fn the_page_about_the_api_works_under_its_policy() {
    run("docs");
}

#[test]
fn it_shows_what_runs_right_now() {
    run_with_shop("now");
}

#[test]
fn its_heap_stays_small() {
    run("memory");
}

#[test]
fn it_leads_from_an_endpoint_to_the_timeline_of_a_request() {
    run_with_shop("kept");
}
