//! Starts a server as a process, drives it with `wrk`, reads its levels from procfs, and stops it when dropped.

use std::{
    env,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
    thread,
    time::Duration,
};

use procfs::process::Process;
use tempfile::TempDir;

use super::Failure;

/// A running server.
pub(crate) struct Server {
    child: Child,
    authority: String,
    /// Kept open, or the server could not write to it.
    _stdout: BufReader<ChildStdout>,
}

impl Server {
    /// Starts the release binary, or the one that `VITALS_BINARY` names, on a database in `directory`, with these further flags.
    pub(crate) fn release(directory: &TempDir, flags: &[&str]) -> Result<Self, Failure> {
        let built = env!("CARGO_BIN_EXE_actix-vitals");
        let mut command = Command::new(env::var_os("VITALS_BINARY").unwrap_or(built.into()));
        command
            .args(["--listen", "127.0.0.1:0", "--log", "error"])
            .args(flags);
        Self::start(command.current_dir(directory.path()))
    }

    /// Starts the benchmark's own service.
    pub(crate) fn own(monitoring: &str, series: usize) -> Result<Self, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        Self::start(command.args(["serve", monitoring, &series.to_string()]))
    }

    fn start(command: &mut Command) -> Result<Self, Failure> {
        let mut child = command
            .env_remove("DATABASE_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("stdout is piped")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let authority = line
            .trim()
            .strip_prefix("listening on http://")
            .ok_or("the server says where it listens")?
            .to_owned();
        Ok(Self {
            child,
            authority,
            _stdout: stdout,
        })
    }

    /// The body of what it answers to a GET; a failure unless that is a success.
    pub(crate) fn get(&self, path: &str, accept: &str) -> Result<Vec<u8>, Failure> {
        self.ask(&format!("GET {path} HTTP/1.1\r\naccept: {accept}\r\n"), "")
    }

    /// Posts JSON; a failure unless the answer is a success.
    pub(crate) fn post(&self, path: &str, json: &str) -> Result<(), Failure> {
        let head = format!(
            "POST {path} HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
            json.len()
        );
        self.ask(&head, json).map(drop)
    }

    fn ask(&self, head: &str, body: &str) -> Result<Vec<u8>, Failure> {
        let mut stream = TcpStream::connect(&self.authority)?;
        let authority = &self.authority;
        write!(
            stream,
            "{head}host: {authority}\r\nconnection: close\r\n\r\n{body}"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let end = (answer.windows(4).position(|window| window == b"\r\n\r\n"))
            .ok_or("an answer has a head")?;
        if !answer.starts_with(b"HTTP/1.1 20") {
            let said = String::from_utf8_lossy(&answer[..end]);
            return Err(format!("{head}{said}").into());
        }
        Ok(answer.split_off(end + 4))
    }

    /// The value of a series without labels, as the scrape has it.
    pub(crate) fn metric(&self, name: &str) -> Result<f64, Failure> {
        let text = String::from_utf8(self.get(&format!("/metrics?name[]={name}"), "text/plain")?)?;
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
            .ok_or_else(|| format!("there is no {name}").into())
    }

    /// Has `wrk` ask for a path as fast as it can for so many seconds, or for what a script of it says; the requests that
    /// were answered, and the seconds.
    pub(crate) fn drive(
        &self,
        path: &str,
        seconds: u64,
        script: Option<&str>,
    ) -> Result<(f64, f64), Failure> {
        let mut command = Command::new("wrk");
        command.args(["--threads", "1", "--connections", "16"]);
        command.args(["--duration", &format!("{seconds}s")]);
        if let Some(script) = script {
            command.args(["--script", script]);
        }
        let output = command
            .arg(format!("http://{}{path}", self.authority))
            .output()
            .map_err(|error| format!("wrk (Debian: apt install wrk): {error}"))?;
        let said = String::from_utf8(output.stdout)?;
        if said.contains("Non-2xx") || said.contains("Socket errors") {
            return Err(format!("not all requests were answered well:\n{said}").into());
        }
        let number = |before: &str| {
            let at = said.find(before)? + before.len();
            said[at..].split_whitespace().next()?.parse::<f64>().ok()
        };
        let rate = number("Requests/sec:").ok_or("wrk reports no rate")?;
        let requests = said.lines().find_map(|line| {
            let (count, _) = line.split_once(" requests in ")?;
            count.trim().parse::<f64>().ok()
        });
        let requests = requests.ok_or("wrk reports no number of requests")?;
        Ok((requests, requests / rate))
    }

    /// The processor time that the process has used, in seconds.
    pub(crate) fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = self.process()?.stat()?;
        Ok((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
    }

    /// The resident memory now, in bytes.
    pub(crate) fn resident(&self) -> Result<f64, Failure> {
        let status = self.process()?.status()?;
        Ok(status.vmrss.ok_or("a process has VmRSS")? as f64 * 1024.0)
    }

    /// The parts of the resident memory that are pages of files, and the process's own, in bytes.
    pub(crate) fn resident_parts(&self) -> Result<[f64; 2], Failure> {
        let status = self.process()?.status()?;
        let file = status.rssfile.ok_or("a process has RssFile")?;
        let own = status.rssanon.ok_or("a process has RssAnon")?;
        Ok([file, own].map(|kibibytes| kibibytes as f64 * 1024.0))
    }

    /// Waits until the resident memory is what it was two seconds before: until what starting up has still to do, and what
    /// the live page keeps of each series, is done. At most half a minute.
    pub(crate) fn settle(&self) -> Result<(), Failure> {
        let mut before = 0.0;
        for _ in 0..15 {
            let now = self.resident()?;
            if (now - before).abs() < 65_536.0 {
                break;
            }
            before = now;
            thread::sleep(Duration::from_secs(2));
        }
        Ok(())
    }

    /// The most memory that was resident since [the last time](Self::forget_peak), in bytes.
    pub(crate) fn peak(&self) -> Result<f64, Failure> {
        let status = self.process()?.status()?;
        Ok(status.vmhwm.ok_or("a process has VmHWM")? as f64 * 1024.0)
    }

    /// Has the peak begin anew, from what is resident now.
    pub(crate) fn forget_peak(&self) -> Result<(), Failure> {
        Ok(std::fs::write(
            format!("/proc/{}/clear_refs", self.child.id()),
            "5",
        )?)
    }

    fn process(&self) -> Result<Process, Failure> {
        Ok(Process::new(i32::try_from(self.child.id())?)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing is left to be done where it has ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
