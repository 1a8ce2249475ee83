//! Sets the labels of `vitals_build_info`: the revision of the source, the compiler and the profile.
//!
//! Nothing here fails: an unknown value is `unknown`. The revision is read from the files of the repository, so that the
//! program `git` is not needed. A published package has it in `.cargo_vcs_info.json`.
//!
//! Builds for development have no revision: otherwise each commit would compile this crate and all above it again.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

const UNKNOWN: &str = "unknown";

/// The profile of the workspace that counts instructions (`make instructions`).
const INSTRUCTIONS: &str = "instructions";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let profile = profile();
    let revision = if is_for_development(profile.as_deref()) {
        None
    } else {
        revision()
    };
    set("VITALS_REVISION", revision);
    set("VITALS_RUSTC", rustc_version());
    set("VITALS_PROFILE", profile);
}

fn set(variable: &str, value: Option<String>) {
    let value = value.unwrap_or_else(|| UNKNOWN.to_owned());
    println!("cargo::rustc-env={variable}={value}");
}

fn is_for_development(profile: Option<&str>) -> bool {
    // Cargo sets `PROFILE` to `debug` for `dev`, `test` and all profiles that inherit from them.
    profile == Some(INSTRUCTIONS) || env::var("PROFILE").is_ok_and(|kind| kind == "debug")
}

fn revision() -> Option<String> {
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR")?);
    // The repository is the one of the workspace, two directories up.
    revision_of_repository(&root.join("../..")).or_else(|| revision_of_package(&root))
}

/// The commit that is checked out in the repository of the workspace, and not in a repository around it.
fn revision_of_repository(root: &Path) -> Option<String> {
    let git = git_directory(root)?;
    let head = read_watched(&git.join("HEAD"))?;
    let Some(reference) = head.strip_prefix("ref: ") else {
        return hash(&head);
    };
    let common = common_directory(&git);
    [&git, &common]
        .into_iter()
        .find_map(|directory| read_watched(&directory.join(reference)))
        .or_else(|| packed(&common, reference))
        .and_then(|revision| hash(&revision))
}

/// `.git`, or the directory that it points to in a worktree.
fn git_directory(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let pointer = read_watched(&git)?;
    Some(root.join(pointer.strip_prefix("gitdir: ")?))
}

/// The directory with the branches: that of the repository which a worktree belongs to.
fn common_directory(git: &Path) -> PathBuf {
    match read_watched(&git.join("commondir")) {
        Some(common) => git.join(common),
        None => git.to_owned(),
    }
}

fn packed(common: &Path, reference: &str) -> Option<String> {
    let references = read_watched(&common.join("packed-refs"))?;
    references.lines().find_map(|line| {
        let (revision, name) = line.split_once(' ')?;
        (name == reference).then(|| revision.to_owned())
    })
}

/// The commit that a published package was built from.
fn revision_of_package(root: &Path) -> Option<String> {
    let origin = read_watched(&root.join(".cargo_vcs_info.json"))?;
    let (_, after) = origin.split_once("\"sha1\"")?;
    after.split('"').nth(1).and_then(hash)
}

/// The first twelve digits, if the text is a hash.
fn hash(revision: &str) -> Option<String> {
    let digits = revision.get(..40)?;
    digits
        .bytes()
        .all(|byte| byte.is_ascii_hexdigit())
        .then(|| digits[..12].to_owned())
}

/// The trimmed text of a file. Only an existing file is watched, because a missing one would cause a build each time.
fn read_watched(path: &Path) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    println!("cargo::rerun-if-changed={}", path.display());
    Some(text.trim().to_owned())
}

/// The version of the compiler, such as `1.95.0`.
fn rustc_version() -> Option<String> {
    let rustc = env::var_os("RUSTC")?;
    let output = Command::new(rustc).arg("--version").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?;
    version.split_whitespace().nth(1).map(str::to_owned)
}

/// The name of the profile, taken from the path of the output. `PROFILE` is only ever `debug` or `release`.
fn profile() -> Option<String> {
    let out = PathBuf::from(env::var_os("OUT_DIR")?);
    let name = out.ancestors().nth(3)?.file_name()?.to_str()?.to_owned();
    Some(name)
}
