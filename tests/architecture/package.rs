//! What who adopts the library gets: the files of the package, and the packages that come with each feature, which the
//! README counts.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

fn cargo(arguments: &[&str]) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args(arguments)
        .arg("--offline")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {said}");
    let listed = String::from_utf8(output.stdout).expect("UTF-8");
    listed.lines().map(str::to_owned).collect()
}

/// The packages that are built with these features, this one among them.
fn tree(features: &str) -> BTreeSet<String> {
    let arguments = [
        "tree",
        "--edges=normal",
        "--prefix=none",
        // Elsewhere there are some others.
        "--target=x86_64-unknown-linux-gnu",
        "--no-default-features",
        "--features",
        features,
    ];
    let lines = cargo(&arguments);
    lines
        .iter()
        .map(|line| line.trim_end_matches(" (*)").to_owned())
        .collect()
}

/// What a package may hold: by the whole path, or by where it lies and what it is.
fn belongs(file: &str) -> bool {
    let is = |extensions: &[&str]| {
        let extension = Path::new(file).extension().and_then(|it| it.to_str());
        extension.is_some_and(|extension| extensions.contains(&extension))
    };
    match file.split_once('/') {
        None => {
            let by_cargo = [
                ".cargo_vcs_info.json",
                "Cargo.lock",
                "Cargo.toml",
                "Cargo.toml.orig",
            ];
            let by_us = [
                "build.rs",
                "CHANGELOG.md",
                "LICENSE-APACHE",
                "LICENSE-MIT",
                "README.md",
            ];
            by_cargo.contains(&file) || by_us.contains(&file)
        }
        Some(("src", _)) => is(&["rs", "html", "css", "js", "svg"]),
        Some(("migrations", _)) => is(&["sql"]),
        Some(("docs", page)) => !page.contains('/') && is(&["md"]),
        Some(("examples", program)) => !program.contains('/') && is(&["rs", "md"]),
        Some(_) => false,
    }
}

#[test]
fn a_package_holds_what_belongs_in_it_and_all_that_is_built() {
    let files = cargo(&["package", "--list", "--allow-dirty"]);
    let strange: Vec<&String> = files.iter().filter(|file| !belongs(file)).collect();
    assert!(strange.is_empty(), "{strange:?}");
    for (file, why) in [
        ("src/lib.rs", "the library"),
        ("src/main.rs", "the service"),
        ("src/vitals/ops/dashboard/assets/index.html", "the page"),
        ("src/service/api/docs/index.html", "the description's page"),
        ("examples/adopt.rs", "what one begins with"),
        ("docs/METRICS.md", "what the README leads to"),
    ] {
        assert!(files.iter().any(|found| found == file), "{file}: {why}");
    }
    let migrations = files.iter().filter(|file| file.ends_with("/up.sql"));
    assert_eq!(migrations.count() % 2, 0, "one for each database");
}

#[test]
fn requests_alone_bring_no_database_no_page_and_no_encryption() {
    let packages = tree("http");
    for unwanted in ["diesel", "r2d2", "rustls", "openssl-sys", "utoipa", "clap"] {
        let found = packages
            .iter()
            .find(|it| it.split(' ').next() == Some(unwanted));
        assert_eq!(found, None);
    }
}

#[test]
fn the_readme_counts_the_packages_of_each_feature() {
    let readme = include_str!("../../README.md");
    for (feature, features) in [
        ("none", ""),
        ("`http`", "http"),
        ("`database`", "database"),
        ("`ops`", "ops"),
        ("all three", "http,database,ops"),
        ("`dashboard`", "dashboard,database"),
        ("`jemalloc`", "jemalloc"),
        ("`service`", "service"),
    ] {
        let row = readme
            .lines()
            .find(|line| line.starts_with(&format!("| {feature} |")));
        let row = row.unwrap_or_else(|| panic!("no row for {feature}"));
        let count = tree(features).len();
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        assert_eq!(cells[4], count.to_string(), "{row}");
    }
}
