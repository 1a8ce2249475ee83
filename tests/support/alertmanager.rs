//! Starts the real Alertmanager for one test.

use std::path::Path;
use std::process::Command;

use super::daemon::Daemon;

/// A running Alertmanager. Dropping it removes its data.
#[derive(Debug)]
pub(crate) struct Alertmanager(Daemon);

impl Alertmanager {
    /// Starts `binary` with this configuration, without a cluster port.
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
