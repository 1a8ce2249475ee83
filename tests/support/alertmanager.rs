//! The real Alertmanager, started for one test.
//!
//! Whom it tells of what stands in its configuration; what is told is for the receiver to take.

use std::path::Path;
use std::process::Command;

use super::daemon::Daemon;

/// A running Alertmanager; gone with all its data when dropped.
#[derive(Debug)]
pub(crate) struct Alertmanager(Daemon);

impl Alertmanager {
    /// Starts `binary` with this configuration, alone: without a port for others to join it.
    pub(crate) async fn start(binary: &Path, configuration: &str) -> Self {
        let command = |directory: &Path, listen: &str| {
            std::fs::write(directory.join("alertmanager.yml"), configuration)
                .expect("the configuration can be written");
            let mut command = Command::new(binary);
            command
                .args(["--config.file=alertmanager.yml", "--storage.path=data"])
                .arg(format!("--web.listen-address={listen}"))
                .arg("--cluster.listen-address=");
            command
        };
        Self(Daemon::start("Alertmanager", command).await)
    }

    /// `host:port`.
    pub(crate) fn authority(&self) -> &str {
        self.0.authority()
    }
}
