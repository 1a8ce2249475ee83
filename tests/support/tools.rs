//! Finds and runs the programs of others that some tests need. If a program is missing, the test is skipped ([`found`]).

mod found;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

pub(crate) use found::record_skip;
use found::{on_path, require};

/// Debian's `prometheus`, or `None` once the skip of `test` is recorded.
pub(crate) fn prometheus(test: &str) -> Option<PathBuf> {
    require(test, "prometheus", on_path("prometheus"))
}

/// `promtool`, or `None` once the skip of `test` is recorded.
pub(crate) fn promtool(test: &str) -> Option<PathBuf> {
    require(test, "promtool", on_path("promtool"))
}

/// A program that `scripts/go-tools.sh` built from this module, or `None` once the skip of `test` is recorded.
pub(crate) fn built(test: &str, module: &str, program: &str) -> Option<PathBuf> {
    let tools = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tools");
    let path = tools.join(module).join(program);
    let found = path.is_file().then_some(path);
    let name = format!("{module}/{program} of today (scripts/go-tools.sh)");
    require(test, &name, found)
}

/// The directory of PostgreSQL's programs, or `None` once the skip of `test` is recorded.
///
/// Debian installs them outside of the search path, by version. This returns the newest.
pub(crate) fn postgres(test: &str) -> Option<PathBuf> {
    postgres_versions(test).into_iter().next()
}

/// The directories of the programs of all versions of PostgreSQL, the newest first. None once the skip of `test` is recorded.
pub(crate) fn postgres_versions(test: &str) -> Vec<PathBuf> {
    if !has_feature(test, "postgres", cfg!(feature = "postgres")) {
        return Vec::new();
    }
    let has_all = |directory: &PathBuf| {
        ["initdb", "postgres"]
            .iter()
            .all(|program| directory.join(program).is_file())
    };
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|version| Some(version.ok()?.path()))
        .collect();
    versions.sort_by_key(|version| {
        let name = version.file_name()?.to_str()?;
        name.parse::<u32>().ok()
    });
    let versions = versions.into_iter().rev();
    let mut found: Vec<_> = versions
        .map(|version| version.join("bin"))
        .filter(has_all)
        .collect();
    if found.is_empty() {
        let in_path = on_path("initdb").and_then(|initdb| Some(initdb.parent()?.to_owned()));
        found.extend(in_path.filter(has_all));
    }
    let any = found.first().cloned();
    require(test, "PostgreSQL (initdb, postgres)", any);
    found
}

/// The server of MariaDB and the program that creates its data directory, or `None` once the skip of `test` is recorded.
///
/// Debian installs the server outside of the search path of most users.
pub(crate) fn mariadb(test: &str) -> Option<[PathBuf; 2]> {
    let aside = Path::new("/usr/sbin/mariadbd");
    let server = on_path("mariadbd").or_else(|| aside.is_file().then(|| aside.to_owned()));
    let found = server.zip(on_path("mariadb-install-db"));
    let missing = "MariaDB (mariadbd, mariadb-install-db)";
    if found.is_none() {
        require(test, missing, None);
    }
    found.map(|(server, install)| [server, install])
}

/// `pgbouncer`, or `None` once the skip of `test` is recorded.
///
/// Debian installs it outside of the search path of most users.
pub(crate) fn pgbouncer(test: &str) -> Option<PathBuf> {
    let aside = Path::new("/usr/sbin/pgbouncer");
    let found = on_path("pgbouncer").or_else(|| aside.is_file().then(|| aside.to_owned()));
    require(test, "pgbouncer", found)
}

/// A Python that has `prometheus_client`, or `None` once the skip of `test` is recorded.
///
/// `VITALS_PYTHON` sets its path. The default is the virtual environment that `make test` prepares.
pub(crate) fn python(test: &str) -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = match std::env::var_os("VITALS_PYTHON") {
        Some(named) => root.join(named),
        None => root.join(".venv/bin/python"),
    };
    let found = python.is_file().then_some(python);
    require(
        test,
        "the Python environment (.venv, or VITALS_PYTHON)",
        found,
    )
}

/// Any other program on the `PATH`, or `None` once the skip of `test` is recorded.
pub(crate) fn tool(test: &str, name: &str) -> Option<PathBuf> {
    require(test, name, on_path(name))
}

/// `unshare`, if it is allowed to create a mount namespace, or `None` once the skip of `test` is recorded.
pub(crate) fn mount_namespaces(test: &str) -> Option<PathBuf> {
    let may = |unshare: &PathBuf| {
        let tried = Command::new(unshare)
            .args(["--mount", "true"])
            .stderr(Stdio::null())
            .status();
        tried.is_ok_and(|status| status.success())
    };
    let unshare = on_path("unshare").filter(may);
    require(
        test,
        "root's right to mount namespaces (unshare --mount)",
        unshare,
    )
}

/// `setpriv`, if the tests run as root and can so be another user, or `None` once the skip of `test` is recorded.
pub(crate) fn other_users(test: &str) -> Option<PathBuf> {
    let is_root = std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    let setpriv = on_path("setpriv").filter(|_| is_root);
    require(test, "root's right to be another user (setpriv)", setpriv)
}

/// Runs a program in a directory. Panics with its output unless it succeeds.
pub(crate) fn run(tool: &Path, arguments: &[&str], directory: &Path) {
    succeed(Command::new(tool).args(arguments).current_dir(directory));
}

/// Runs a command. Panics with its output unless it succeeds.
pub(crate) fn succeed(command: &mut Command) {
    let output = command.output().expect("the program starts");
    if let Err(failure) = success(command, output) {
        panic!("{failure}");
    }
}

/// Runs a program with these bytes on its stdin and returns its stdout, or its whole output if it fails.
pub(crate) fn feed(tool: &Path, arguments: &[&str], input: &[u8]) -> Result<Vec<u8>, String> {
    let mut command = Command::new(tool);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("stdin is piped");
    // Written on another thread, so that neither side waits for the other with a full pipe.
    let output = std::thread::scope(|scope| {
        let writer = scope.spawn(move || stdin.write_all(input));
        let output = child.wait_with_output().expect("the program ends");
        // A program that rejects its input may not read all of it. Its message says more than the broken pipe.
        let _written = writer.join().expect("the writer ends");
        output
    });
    success(&command, output)
}

fn success(command: &Command, output: Output) -> Result<Vec<u8>, String> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(format!(
        "{command:?}: {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    ))
}

/// Node, once Chromium and the packages in `tests/dashboard` are there too; or `None` once the skip of `test` is recorded.
pub(crate) fn browser(test: &str) -> Option<PathBuf> {
    require(test, "chromium", on_path("chromium"))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let packages = root.join("tests/dashboard/node_modules/playwright-core");
    let found = packages.is_dir().then_some(packages);
    require(test, "tests/dashboard/node_modules (npm ci)", found)?;
    require(test, "node", on_path("node"))
}

/// The program that removes debug information. It comes with the linker.
pub(crate) fn strip(test: &str) -> Option<PathBuf> {
    require(test, "strip", on_path("strip"))
}

/// Whether the service is built with this feature. Otherwise the skip of `test` is recorded.
pub(crate) fn has_feature(test: &str, name: &str, is_built_in: bool) -> bool {
    if !is_built_in {
        record_skip(test, &format!("the feature {name} is off"));
    }
    is_built_in
}
