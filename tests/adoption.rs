//! The library as a new user tries it. A service that was written without the library, with PostgreSQL and two scopes, is
//! monitored by at most ten added lines. Each of them is in the README, and the scrape passes the same checks as that of our
//! service. A service that uses one feature only does not build the packages of the others.
//!
//! `unmonitored.rs` and `monitored.rs` are the service before and after. Both are built as a package of their own, with the
//! versions of the project's lock file and in its target directory, so that few packages are built twice.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use reqwest::Method;
use serde_json::json;

use crate::support::conformance::{
    OUR_UNITS, foreign_readers_find_the_same, promtool_finds_no_fault,
};
use crate::support::postgres::{Cluster, PASSWORD};
use crate::support::server::{Data as _, Server};
use crate::support::settled::settled;
use crate::support::{scrapers, tools};

/// What adopting may take.
const MOST_LINES: usize = 10;

const MANIFEST: &str = include_str!("adoption/manifest.toml");
const UNMONITORED: &str = include_str!("adoption/unmonitored.rs");
const MONITORED: &str = include_str!("adoption/monitored.rs");
const README: &str = include_str!("../README.md");

/// The line that a manifest needs, as the README has it.
const DEPENDENCY: &str = r#"actix-vitals = "0.1""#;

/// The same, of what stands here.
const DEPENDENCY_HERE: &str = concat!(
    "actix-vitals = { path = \"",
    env!("CARGO_MANIFEST_DIR"),
    "/crates/vitals\" }"
);

/// What a build of the project has, so that its dependencies are built once for both.
const PROFILE: &str = "
# Not a member of the project's workspace.
[workspace]

[profile.dev]
debug = \"line-tables-only\"

[profile.dev.package.\"*\"]
debug = false
";

/// A package that takes the library without the database, and lists what it would tell.
const PARTIAL: &str = r#"
[package]
name = "partial"
version = "0.1.0"
edition = "2024"

[dependencies]
"#;

const LISTING: &str = r#"
fn main() {
    let vitals = actix_vitals::Vitals::builder().build().expect("good settings");
    for family in vitals.registry().describe() {
        println!("{}", family.name);
    }
}
"#;

/// Where the orders are.
const ORDERS: &str = "/shop/orders";

/// The lines of `after` that are not in `before`, in a shortest way from one to the other.
fn added<'a>(before: &str, after: &'a str) -> Vec<&'a str> {
    let before: Vec<&str> = before.lines().collect();
    let after: Vec<&str> = after.lines().collect();
    // How many lines the rest of both have in common, from each pair of places on.
    let mut common = vec![vec![0_usize; after.len() + 1]; before.len() + 1];
    for (i, old) in before.iter().enumerate().rev() {
        for (j, new) in after.iter().enumerate().rev() {
            common[i][j] = if old == new {
                common[i + 1][j + 1] + 1
            } else {
                common[i + 1][j].max(common[i][j + 1])
            };
        }
    }
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while j < after.len() {
        if i < before.len() && before[i] == after[j] {
            (i, j) = (i + 1, j + 1);
        } else if i < before.len() && common[i + 1][j] >= common[i][j + 1] {
            i += 1;
        } else {
            found.push(after[j]);
            j += 1;
        }
    }
    found
}

/// The package of the shop, made and built once: the program that is monitored, and the one that is not.
fn shop() -> [PathBuf; 2] {
    static BUILT: OnceLock<[PathBuf; 2]> = OnceLock::new();
    BUILT.get_or_init(build).clone()
}

fn build() -> [PathBuf; 2] {
    let mut manifest = format!("{MANIFEST}{DEPENDENCY_HERE}\n");
    // Where OpenSSL's headers are missing, the tests were built with a copy of it.
    if cfg!(feature = "vendored-openssl") {
        manifest.push_str("openssl-sys = { version = \"0.9\", features = [\"vendored\"] }\n");
    }
    let programs = [("monitored", MONITORED), ("unmonitored", UNMONITORED)];
    build_package("shop", &manifest, programs)
}

/// Builds a package of these programs outside of the project.
fn build_package<const N: usize>(
    name: &str,
    manifest: &str,
    programs: [(&str, &str); N],
) -> [PathBuf; N] {
    let package = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    write(&package.join("Cargo.toml"), &format!("{manifest}{PROFILE}"));
    for (program, source) in programs {
        write(&package.join(format!("src/bin/{program}.rs")), source);
    }
    // The versions that were tried here. What is not needed of them, cargo takes out.
    let lock = Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    fs::copy(lock, package.join("Cargo.lock")).expect("a lock file can be copied");

    let own = std::env::current_exe().expect("a path");
    // Two above `deps`, where this test is.
    let target = own.ancestors().nth(3).expect("a target directory");
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--offline", "--target-dir"])
        .arg(target)
        .current_dir(&package)
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "{name} is not built:\n{said}");
    programs.map(|(program, _)| target.join("debug").join(program))
}

/// Leaves a file alone that is what it is to be, so that it does not look new.
fn write(path: &Path, text: &str) {
    if fs::read_to_string(path).is_ok_and(|found| found == text) {
        return;
    }
    fs::create_dir_all(path.parent().expect("a directory")).expect("a directory can be made");
    fs::write(path, text).expect("a file can be written");
}

/// Starts one of the programs on a database of its own.
fn start(program: &Path, cluster: &Arc<Cluster>) -> Server {
    let database = cluster.database();
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("DATABASE_URL", database.url())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    Server::of(command, database)
}

async fn order(server: &Server, name: &str) -> i64 {
    let body = json!({"name": name, "email": "ada@example.com"});
    let answer = server.send(Method::POST, ORDERS, &body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["id"].as_i64().expect("an integer id")
}

#[test]
fn a_service_is_monitored_in_ten_lines_that_stand_in_the_readme() {
    let mut lines = added(UNMONITORED, MONITORED);
    lines.push(DEPENDENCY);
    let readme: Vec<&str> = README.lines().map(str::trim).collect();
    for line in &lines {
        assert!(readme.contains(&line.trim()), "not in the README: {line}");
    }
    println!("{} lines:\n{}", lines.len(), lines.join("\n"));
    assert!(lines.len() <= MOST_LINES, "{} lines", lines.len());
}

#[test]
fn the_lines_that_were_added_are_counted() {
    assert_eq!(added("a\nb\nc", "a\nx\nc\ny"), ["x", "y"]);
    assert_eq!(added("a\nb", "b"), [""; 0]);
    assert_eq!(added("", "a"), ["a"]);
}

#[test]
fn without_a_database_nothing_is_told_of_one() {
    let options = "default-features = false, features = [\"ops\"] }";
    let dependency = DEPENDENCY_HERE.replace('}', &format!(", {options}"));
    let [listing] = build_package(
        "partial",
        &format!("{PARTIAL}{dependency}\n"),
        [("listing", LISTING)],
    );
    let listed = Command::new(listing).output().expect("the program starts");
    let listed = String::from_utf8(listed.stdout).expect("names");
    let names: BTreeSet<&str> = listed.lines().collect();
    assert!(names.contains("http_requests_total"), "{names:?}");
    for name in names {
        let is_of_database = name.contains("db_") || name.contains("n_plus_one");
        assert!(!is_of_database, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_written_from_nothing_tells_what_it_does() {
    let test = "a_service_written_from_nothing_tells_what_it_does";
    let Some(programs) = tools::postgres(test) else {
        return;
    };
    let [monitored, unmonitored] = shop();
    let cluster = Cluster::shared(&programs);
    let bare = start(&unmonitored, &cluster);
    order(&bare, "Ada").await;
    assert_eq!(bare.get("/metrics").await.status, 404);

    let server = start(&monitored, &cluster);
    for _ in 0..3 {
        let id = order(&server, "Ada").await;
        assert_eq!(server.get(&format!("{ORDERS}/{id}")).await.status, 200);
        let deleted = server.delete(&format!("/office/orders/{id}")).await;
        assert_eq!(deleted.status, 204);
        assert_eq!(server.get(&format!("{ORDERS}/{id}")).await.status, 404);
    }
    let scrape = settled(&server).await;
    for (method, endpoint, status) in [
        ("POST", "/shop/orders", "201"),
        ("GET", "/shop/orders/{id}", "200"),
        ("GET", "/shop/orders/{id}", "404"),
        ("DELETE", "/office/orders/{id}", "204"),
    ] {
        let labels = [
            ("method", method),
            ("endpoint", endpoint),
            ("http_status", status),
        ];
        assert_eq!(
            scrape.value("http_requests_total", &labels),
            3.0,
            "{labels:?}"
        );
    }
    for (operation, count) in [("insert", 3.0), ("select", 6.0), ("delete", 3.0)] {
        let queries = scrape.value("db_queries_total", &[("operation", operation)]);
        assert_eq!(queries, count, "{operation}");
    }
    let of_reads = [("method", "GET"), ("endpoint", "/shop/orders/{id}")];
    assert_eq!(
        scrape.value("http_request_db_queries_sum", &of_reads),
        6.0,
        "each query is attributed to the request that made it"
    );
    assert_eq!(
        scrape.value("db_pool_max_connections", &[("pool", "default")]),
        10.0
    );
    assert_eq!(server.get("/readyz").await.status, 200, "the pool answers");
    for path in ["/ops/statements", "/ops/statements/reset", "/dashboard"] {
        assert_eq!(server.get(path).await.status, 404, "{path} is a choice");
    }
    let scraped = server.get("/metrics").await.text;
    assert!(!scraped.contains(PASSWORD), "{scraped}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_hostile_traffic_its_scrape_passes_what_ours_must_pass() {
    let test = "after_hostile_traffic_its_scrape_passes_what_ours_must_pass";
    let (Some(programs), Some(python)) = (tools::postgres(test), tools::python(test)) else {
        return;
    };
    let [monitored, _] = shop();
    let server = start(&monitored, &Cluster::shared(&programs));
    for promtool in scrapers::promtools(test) {
        promtool_finds_no_fault(&promtool, &server, ORDERS)
            .await
            .unwrap();
    }
    foreign_readers_find_the_same(&python, &server, ORDERS, OUR_UNITS).await;
}
