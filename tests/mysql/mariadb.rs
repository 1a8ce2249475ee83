//! A real MariaDB server, started for one test, with a directory, a port and a password of its own.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use diesel::{Connection as _, MysqlConnection};

use crate::support::keeper::{self, Keeper, PASSWORD};
use crate::support::tools;

/// A running server with one database.
#[derive(Debug)]
pub(crate) struct Mariadb {
    keeper: Keeper,
    port: u16,
    server: Child,
}

impl Mariadb {
    /// Starts the server, and waits until it accepts connections.
    pub(crate) fn start([program, install]: &[PathBuf; 2]) -> Self {
        let keeper = Keeper::start("data/pid", "KILL");
        // MariaDB drops root's rights, and must still be able to read its directory.
        std::fs::set_permissions(keeper.directory(), Permissions::from_mode(0o755))
            .expect("our directory");
        let data = keeper.directory().join("data");
        std::fs::create_dir(&data).expect("a directory in ours");
        tools::succeed(
            command(install, &data)
                .args(["--auth-root-authentication-method=normal", "--skip-test-db"]),
        );
        let setup = keeper.directory().join("setup.sql");
        let sql = format!(
            "CREATE DATABASE secrets;\n\
             CREATE USER tester@'%' IDENTIFIED BY '{PASSWORD}';\n\
             GRANT ALL ON *.* TO tester@'%';\n"
        );
        std::fs::write(&setup, sql).expect("a file in our directory");
        let port = keeper::free_port();
        let log = File::create(keeper.directory().join("log")).expect("a file in our directory");
        let option = |name: &str, file: &str| format!("--{name}={}", data.join(file).display());
        let server = command(program, &data)
            .arg(format!("--port={port}"))
            .arg(format!("--init-file={}", setup.display()))
            .arg(option("socket", "socket"))
            .arg(option("pid-file", "pid"))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve"])
            .args([
                "--innodb-buffer-pool-size=16M",
                "--innodb-flush-log-at-trx-commit=0",
            ])
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn()
            .expect("mariadbd starts");
        let started = Self {
            keeper,
            port,
            server,
        };
        started
            .keeper
            .until_accepted(|| MysqlConnection::establish(&started.url()));
        started
    }

    pub(crate) fn url(&self) -> String {
        format!("mysql://tester:{PASSWORD}@127.0.0.1:{}/secrets", self.port)
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        // The keeper removes the directory. It would take a child that is not waited for as a running server.
        let _killed = self.server.kill();
        let _ended = self.server.wait();
    }
}

/// A program of MariaDB. It refuses to run as root.
fn command(program: &Path, data: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .arg("--no-defaults")
        .arg(format!("--datadir={}", data.display()))
        .current_dir(data)
        .stdin(Stdio::null());
    if keeper::is_root() {
        command.arg("--user=nobody");
    }
    command
}
