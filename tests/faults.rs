//! What the service is built on fails under it: the disk, the file, the descriptors, the port. Each is a sentence at the
//! start or a 503 later, never a panic and never a lost write, and the service resumes when the fault goes.
//!
//! The outages of PostgreSQL are tested in `outage`, crashes in `crash`.

mod descriptors;
mod disk;
mod file;
mod log;
mod port;
mod resources;
mod settings;

use std::path::Path;
use std::process::{Command, Output};

use crate::support::{server, tools};

/// Sets a soft limit (`--fsize=4096:`) of a running process.
fn limit(prlimit: &Path, pid: u32, limit: &str) {
    let pid = pid.to_string();
    tools::run(prlimit, &["--pid", &pid, limit], Path::new("/"));
}

/// The one sentence with which a start ends that failed.
fn sentence_of(output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "more than a sentence: {stderr}");
    assert!(stderr.ends_with(".\n"), "no sentence: {stderr}");
    assert!(output.stdout.is_empty(), "it said that it listens");
    stderr
}

/// Starts the server on an SQLite database, past this process' privileges to overlook permissions, and tells with which
/// sentence that failed.
fn refusal(database: &Path) -> String {
    let start = server::command(Path::new("/"));
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        let dropped = "-dac_override,-dac_read_search";
        command.args(["--bounding-set", dropped, "--inh-caps", dropped]);
        command.arg(start.get_program());
        command
    } else {
        start
    };
    command
        .args(["--listen", "127.0.0.1:0", "--database-url"])
        .arg(format!("sqlite://{}", database.display()));
    let output = server::to_end(command);
    sentence_of(output.unwrap_or_else(|| panic!("{} was taken", database.display())))
}
