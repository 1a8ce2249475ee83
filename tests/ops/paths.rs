//! A service in a directory whose name is no UTF-8. The kernel writes such a name into the maps of the process as it is.

use std::{ffi::OsStr, fs, os::unix::ffi::OsStrExt as _};

use tempfile::TempDir;

use crate::support::server::Server;

#[tokio::test]
async fn a_service_in_a_directory_of_any_name_has_profiles_of_the_heap() {
    let parent = TempDir::new().unwrap();
    let directory = parent.path().join(OsStr::from_bytes(b"d\xe9p\xf4t"));
    fs::create_dir(&directory).unwrap();
    let program = directory.join("service");
    fs::copy(env!("CARGO_BIN_EXE_actix-vitals"), &program).unwrap();
    let server = Server::start_copy(&program, &["--profiling"]);
    let profile = server.get("/ops/profile/heap?format=folded").await;
    assert_eq!(profile.status, 200, "{}", profile.text);
}
