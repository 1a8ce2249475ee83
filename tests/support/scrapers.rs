//! The scrapers that the tests run: the oldest Prometheus that is supported (Debian's 2.42), the newest, and VictoriaMetrics.
//!
//! A test asks for a list and does the same with each. A scraper that is missing is skipped by its name, and fails the test
//! where `CI` is set. What differs between them is decided here, not in a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::tools;

/// Which program a scraper is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Prometheus 2.42, of January 2023.
    Oldest,
    /// The newest Prometheus that `scripts/go-tools.sh` builds.
    Newest,
    /// The newest VictoriaMetrics 1.x that `scripts/go-tools.sh` builds. It reads text alone, and no exemplars.
    VictoriaMetrics,
}

/// A scraper that is there.
#[derive(Debug, Clone)]
pub(crate) struct Scraper {
    pub(crate) program: Program,
    binary: PathBuf,
}

/// Both versions of Prometheus.
pub(crate) fn prometheuses(test: &str) -> Vec<Scraper> {
    of(test, &[Program::Oldest, Program::Newest])
}

/// Both versions of Prometheus, and VictoriaMetrics.
pub(crate) fn all(test: &str) -> Vec<Scraper> {
    let all = [Program::Oldest, Program::Newest, Program::VictoriaMetrics];
    of(test, &all)
}

/// One program, or `None` once the skip of `test` is recorded.
pub(crate) fn one(test: &str, program: Program) -> Option<Scraper> {
    let binary = match program {
        Program::Oldest => tools::prometheus(test)?,
        Program::Newest => tools::built(test, "prometheus", "prometheus")?,
        Program::VictoriaMetrics => tools::built(test, "victoria-metrics", "victoria-metrics")?,
    };
    Some(Scraper { program, binary })
}

fn of(test: &str, programs: &[Program]) -> Vec<Scraper> {
    let found = programs.iter().filter_map(|program| one(test, *program));
    found.collect()
}

/// The `promtool` of each Prometheus that is there.
pub(crate) fn promtools(test: &str) -> Vec<PathBuf> {
    let tools = [
        tools::promtool(test),
        tools::built(test, "prometheus", "promtool"),
    ];
    tools.into_iter().flatten().collect()
}

impl Scraper {
    /// Whether it can keep native histograms and exemplars.
    pub(crate) fn is_prometheus(&self) -> bool {
        self.program != Program::VictoriaMetrics
    }

    /// What it is called in messages.
    pub(crate) fn name(&self) -> &'static str {
        match self.program {
            Program::Oldest => "the oldest Prometheus",
            Program::Newest => "the newest Prometheus",
            Program::VictoriaMetrics => "VictoriaMetrics",
        }
    }

    /// The setting under `global` that has native histograms scraped; Prometheus 2.42 has a flag in its place.
    pub(crate) fn native_setting(&self) -> &'static str {
        match self.program {
            Program::Newest => ", scrape_native_histograms: true",
            Program::Oldest | Program::VictoriaMetrics => "",
        }
    }

    /// The command that starts it with `prometheus.yml` of its directory, with native histograms or without.
    pub(crate) fn command(&self, listen: &str, native: bool, flags: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        if self.program == Program::VictoriaMetrics {
            assert!(!native, "VictoriaMetrics scrapes no native histograms");
            command
                .args(["-promscrape.config=prometheus.yml", "-storageDataPath=data"])
                // What belongs to Prometheus' rules and alerts is ignored.
                .arg("-promscrape.config.strictParse=false")
                // Samples are found at once.
                .args(["-search.latencyOffset=0s", "-search.disableCache"])
                .arg(format!("-httpListenAddr={listen}"))
                .arg("-loggerLevel=WARN")
                .args(flags);
            return command;
        }
        command
            .args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"])
            .arg(format!("--web.listen-address={listen}"))
            .arg("--log.level=warn")
            .args(flags);
        if native && self.program == Program::Oldest {
            command.arg("--enable-feature=native-histograms");
        }
        command
    }

    /// The program itself.
    pub(crate) fn binary(&self) -> &Path {
        &self.binary
    }
}
