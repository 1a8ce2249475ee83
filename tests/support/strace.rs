//! Runs strace on a server: records the order of its system calls, or makes some of them fail.
//!
//! If strace is missing or not permitted, the test is skipped.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::tools;

/// strace, attached to all threads of a process.
#[derive(Debug)]
pub(crate) struct Tracer {
    strace: Child,
    output: PathBuf,
}

impl Tracer {
    /// Attaches to every thread of the process and writes to a file in `directory`. Returns `None` if it cannot, and then
    /// records that `test` is skipped.
    pub(crate) fn attach(
        test: &str,
        pid: u32,
        arguments: &[&str],
        directory: &Path,
    ) -> Option<Self> {
        let strace = tools::tool(test, "strace")?;
        let output = directory.join("strace");
        let mut strace = Command::new(strace)
            .args(["-f", "-y", "-ttt", "-s", "64", "-p", &pid.to_string(), "-o"])
            .arg(&output)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("strace starts");
        let mut said = BufReader::new(strace.stderr.take().expect("stderr is piped"));
        let mut line = String::new();
        while said.read_line(&mut line).is_ok_and(|read| read > 0) {
            if line.contains("attached") {
                // Reads on, so that strace never blocks on a full pipe.
                std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
                return Some(Self { strace, output });
            }
        }
        let ended = strace.wait().expect("strace can be waited for");
        assert!(
            line.contains("not permitted"),
            "strace ended with {ended}: {line}"
        );
        tools::tool(test, "the permission to trace another process")?;
        None
    }

    /// Detaches, and returns the recorded calls.
    pub(crate) fn detach(mut self) -> String {
        self.interrupt();
        let mut seen = String::new();
        std::fs::File::open(&self.output)
            .and_then(|mut file| file.read_to_string(&mut seen))
            .expect("the output of strace");
        seen
    }

    fn interrupt(&mut self) {
        let _sent = Command::new("sh")
            .args(["-c", &format!("kill -INT {}", self.strace.id())])
            .stderr(Stdio::null())
            .status();
        let _ended = self.strace.wait();
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        if self.strace.try_wait().is_ok_and(|ended| ended.is_none()) {
            self.interrupt();
        }
    }
}
