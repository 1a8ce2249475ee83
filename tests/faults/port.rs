//! A port that is in use.

use tempfile::TempDir;

use crate::faults::message_of;
use crate::support::server::{Server, command, to_end};

#[test]
fn a_port_in_use_fails_the_start_before_the_database_is_touched() {
    let server = Server::start();
    let taken = server.authority();
    for flags in [
        ["--listen", taken, "--ops-listen", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0", "--ops-listen", taken],
    ] {
        let directory = TempDir::new().unwrap();
        let mut command = command(directory.path());
        command.args(flags);
        let sentence = message_of(to_end(command).expect("it ends"));
        assert!(
            sentence.contains(&format!("Cannot listen on {taken}: Address already in use")),
            "{sentence}"
        );
        assert_eq!(directory.path().read_dir().unwrap().count(), 0);
    }
}
