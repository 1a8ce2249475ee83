//! Limits on file descriptors, threads or memory: a start that needs more fails with an error message. A service that meets
//! a limit later continues with the resources that it has.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{self, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::faults::message_of;
use crate::support::server::{command, to_end};
use crate::support::tools;

const FLAGS: [&str; 4] = [
    "--listen=127.0.0.1:0",
    "--database-url=sqlite://:memory:",
    "--workers=2",
    "--log=warn",
];

/// The service under a limit of the shell, such as `ulimit -n 40`.
fn limited(directory: &TempDir, limit: &str) -> Command {
    let service = command(directory.path());
    let mut shell = command_like(&service, "sh");
    shell
        .args(["-c", &format!("{limit} && exec \"$@\""), "sh"])
        .arg(service.get_program())
        .args(FLAGS);
    shell
}

/// Another program with the environment and pipes of the service.
fn command_like(service: &Command, program: &str) -> Command {
    let mut command = Command::new(program);
    for (variable, value) in service.get_envs() {
        match value {
            Some(value) => command.env(variable, value),
            None => command.env_remove(variable),
        };
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn failed(output: Option<Output>, limit: &str) -> String {
    message_of(output.unwrap_or_else(|| panic!("it serves with {limit}")))
}

#[test]
fn a_start_with_too_few_descriptors_fails_with_a_message() {
    let directory = TempDir::new().unwrap();
    for limit in [
        "ulimit -n 8",
        "ulimit -n 16",
        "ulimit -n 30",
        "ulimit -n 40",
        "ulimit -n 48",
    ] {
        let sentence = failed(to_end(limited(&directory, limit)), limit);
        let expected = "actix-vitals: The start needs 48 file descriptors, and the system does not allow that many \
                        (ulimit -n, LimitNOFILE=): Too many open files (os error 24).\n";
        assert_eq!(sentence, expected, "{limit}");
    }
}

/// A program with the environment of the service, run by an unprivileged user: limits do not apply to root.
fn by_user(user: u32, program: &Command) -> Command {
    let mut command = command_like(program, "setpriv");
    command
        .args(["--clear-groups", "--bounding-set=-all", "--inh-caps=-all"])
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .arg(program.get_program())
        .args(program.get_args());
    command
}

/// The service, run by a user with this limit on threads.
fn of_a_user(directory: &TempDir, user: u32, threads: usize) -> Command {
    let service = command(directory.path());
    let mut limited = command_like(&service, "prlimit");
    limited
        .arg(format!("--nproc={threads}"))
        .arg(service.get_program())
        .args(FLAGS);
    by_user(user, &limited)
}

/// A user that runs nothing else: a limit on threads counts all threads of a user. Other processes of these tests have
/// other users.
fn user(test: u32) -> u32 {
    50_000 + process::id() % 7_000 * 2 + test
}

#[test]
fn a_start_with_too_few_threads_fails_with_a_message() {
    let test = "a_start_with_too_few_threads_fails_with_a_message";
    if tools::other_users(test).is_none() {
        return;
    }
    let directory = TempDir::new().unwrap();
    for threads in [1, 3, 8, 17] {
        let limit = format!("{threads} threads");
        let sentence = failed(to_end(of_a_user(&directory, user(0), threads)), &limit);
        let expected = "actix-vitals: The start needs 18 threads, and the system does not allow that many (ulimit -u, \
                        LimitNPROC=, TasksMax=): Resource temporarily unavailable (os error 11).\n";
        assert_eq!(sentence, expected, "{limit}");
    }
}

/// A running service, killed when dropped.
struct Running {
    child: std::process::Child,
    url: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        stdout.read_line(&mut line).unwrap();
        let Some(url) = line.trim().strip_prefix("listening on ").map(str::to_owned) else {
            let output = child.wait_with_output().unwrap();
            panic!("{}", String::from_utf8_lossy(&output.stderr));
        };
        Self { child, url }
    }

    /// Ends the service, and returns its log.
    fn end(mut self) -> String {
        self.child.kill().unwrap();
        let mut log = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut log).unwrap();
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The service may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_are_served_with_the_existing_threads() {
    let test = "requests_are_served_with_the_existing_threads";
    let Some(prlimit) = tools::tool(test, "prlimit") else {
        return;
    };
    if tools::other_users(test).is_none() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let user = user(1);
    let service = Running::start(of_a_user(&directory, user, 100));
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", service.url))
            .await
            .unwrap();
        answer.status().as_u16()
    };
    assert_eq!(get("/metrics").await, 200);
    // Workers take turns with new connections, so each of both has a thread for its queries.
    for _ in 0..4 {
        assert_eq!(get("/data").await, 200);
    }
    let mut limit = Command::new(prlimit);
    limit.args(["--pid", &service.child.id().to_string(), "--nproc=1:"]);
    let limited = by_user(user, &limit).status().unwrap();
    assert!(limited.success(), "{limited}");
    // Longer than the lifetime of an idle thread.
    let end = Instant::now() + Duration::from_secs(13);
    while Instant::now() < end {
        let both = tokio::join!(get("/data"), get("/data?limit=5"));
        assert_eq!(both, (200, 200));
        let status = get("/metrics").await;
        assert!([200, 503].contains(&status), "{status}");
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    let log = service.end();
    assert!(!log.contains("panic"), "{log}");
}

#[test]
fn a_start_with_too_little_address_space_fails_with_a_message() {
    let directory = TempDir::new().unwrap();
    for kibibytes in [200_000, 300_000, 400_000, 1_000_000] {
        let limit = format!("ulimit -v {kibibytes}");
        let sentence = failed(to_end(limited(&directory, &limit)), &limit);
        let expected = "actix-vitals: The start needs 1024 MiB of address space, and the system does not allow that many \
                        (ulimit -v, LimitAS=): out of memory.\n";
        assert_eq!(sentence, expected, "{limit}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scrape_without_address_space_is_answered_503() {
    let test = "a_scrape_without_address_space_is_answered_503";
    let Some(prlimit) = tools::tool(test, "prlimit") else {
        return;
    };
    let directory = TempDir::new().unwrap();
    let service = Running::start(limited(&directory, "true"));
    let get = async |path: &str| {
        let answer = reqwest::get(format!("{}{path}", service.url))
            .await
            .unwrap();
        answer.status().as_u16()
    };
    assert_eq!(get("/livez").await, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.child.id())).unwrap();
    let size = status.lines().find_map(|line| line.strip_prefix("VmSize:"));
    let kibibytes: u64 = size
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let limit = format!("--as={}:", (kibibytes + 4 * 1024) * 1024);
    crate::faults::limit(&prlimit, service.child.id(), &limit);
    for _ in 0..10 {
        assert_eq!((get("/metrics").await, get("/livez").await), (503, 200));
    }
    crate::faults::limit(&prlimit, service.child.id(), "--as=unlimited:");
    assert_eq!(get("/metrics").await, 200);
    let log = service.end();
    assert!(!log.contains("panic"), "{log}");
}
