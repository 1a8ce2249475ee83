//! Faults of the disk, the database file, the descriptors and the port.
//!
//! Each is an error message at the start or a 503 later, never a panic or a lost write. The service recovers when the fault
//! ends. `outage` tests outages of PostgreSQL, `crash` tests crashes.

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

/// The error message of a start that failed.
fn message_of(output: Output) -> String {
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "more than one line: {stderr}");
    assert!(stderr.ends_with(".\n"), "not a sentence: {stderr}");
    assert!(output.stdout.is_empty(), "it reported that it listens");
    stderr
}

/// Starts the server on an SQLite database, without the privilege to ignore file permissions. Returns the error message.
fn start_error(database: &Path) -> String {
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
    message_of(output.unwrap_or_else(|| panic!("the server started on {}", database.display())))
}
