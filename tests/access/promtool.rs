//! The server accepts the web configurations that `promtool check web-config` accepts, except those that would not have
//! the effect that they name.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use crate::access::ops_server::{AccessFiles, HASH};
use crate::support::{scrapers, server};

/// The expected result of a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// promtool and the server accept it.
    Accepted,
    /// promtool and the server reject it.
    Rejected,
    /// promtool accepts it, and the server rejects it for the reason in the table.
    RejectedHere,
}

use Verdict::{Accepted, Rejected, RejectedHere};

/// A user with this YAML scalar as the name.
fn user(name: &str) -> String {
    format!("basic_auth_users:\n  {name}: {HASH}\n")
}

/// A header with this YAML scalar as the value.
fn header(name: &str, value: &str) -> String {
    format!("http_server_config:\n  headers:\n    {name}: {value}\n")
}

fn xss(value: &str) -> String {
    header("X-XSS-Protection", value)
}

fn http2(value: &str) -> String {
    format!("http_server_config:\n  http2: {value}\n")
}

fn tls(line: &str) -> String {
    crate::access::ops_server::tls(&[line])
}

fn rate_limit(interval: &str, burst: &str) -> String {
    format!("rate_limit:\n  interval: {interval}\n  burst: {burst}\n")
}

#[allow(clippy::too_many_lines, reason = "a table")]
fn documents() -> Vec<(Vec<u8>, Verdict, &'static str)> {
    let alice = user("alice");
    let utf_16 = |bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
        let marked = format!("\u{feff}{alice}");
        marked.encode_utf16().flat_map(bytes).collect()
    };
    let mut rows: Vec<(Vec<u8>, Verdict, &'static str)> = vec![
        (utf_16(u16::to_le_bytes), Accepted, "little-endian UTF-16"),
        (utf_16(u16::to_be_bytes), Accepted, "big-endian UTF-16"),
        (
            utf_16(u16::to_le_bytes)[2..].to_vec(),
            Rejected,
            "UTF-16 without a mark",
        ),
        (b"# caf\xe9\n".to_vec(), Rejected, "Latin-1"),
        (b"# \0\n".to_vec(), Rejected, "a control character"),
    ];
    let texts = [
        (format!("\u{feff}{alice}"), Accepted, "a byte order mark"),
        ("\u{feff}".to_owned(), Accepted, "a byte order mark only"),
        (
            alice.replace('\n', "\r\n"),
            Accepted,
            "line ends of Windows",
        ),
        (
            format!("---\n{alice}...\n"),
            Accepted,
            "the marks of a document",
        ),
        (
            format!("{alice}---\n"),
            Accepted,
            "an empty document after it",
        ),
        (
            format!("---\n---\n{alice}"),
            RejectedHere,
            "the exporters ignore the users",
        ),
        (
            format!("{alice}---\nb: 2\n"),
            RejectedHere,
            "the exporters ignore a document",
        ),
        (String::new(), Accepted, "an empty file"),
        ("null\n".to_owned(), Accepted, "null"),
        ("''\n".to_owned(), Rejected, "a text"),
        ("5\n".to_owned(), Rejected, "a number"),
        ("- a\n".to_owned(), Rejected, "a list"),
        ("1: 2\n".to_owned(), Rejected, "an unknown field"),
        (
            "basic_auth_users:\nhttp_server_config: ~\n".to_owned(),
            Accepted,
            "null sections",
        ),
        (
            "basic_auth_users: ''\n".to_owned(),
            Rejected,
            "a text for a section",
        ),
        (
            "basic_auth_users: []\n".to_owned(),
            Rejected,
            "a list for a section",
        ),
        (user("7"), Accepted, "a number"),
        (user("-7"), Accepted, "a negative number"),
        (user("0o7"), Accepted, "octal"),
        (user("010"), Accepted, "octal of YAML 1.1"),
        (user("1.0"), Accepted, "a fraction"),
        (user("1e3"), Accepted, "an exponent"),
        (user("true"), Accepted, "a boolean"),
        (user("yes"), Accepted, "a boolean as a word"),
        (user("~"), Accepted, "nothing"),
        (user("2001-01-01"), Accepted, "a date"),
        (
            user("12:30:45"),
            RejectedHere,
            "a time: no client can send its colons",
        ),
        (user("1_000"), Accepted, "a number with an underscore"),
        (user("'7'"), Accepted, "a text"),
        (user("!!str 7"), Accepted, "a text by its tag"),
        (user("!!binary YWxpY2U="), Accepted, "a text in base64"),
        (user("[a]"), Rejected, "a list for a name"),
        (user("{a: b}"), Rejected, "a mapping for a name"),
        (
            user("'a:b'"),
            RejectedHere,
            "no client can send such a name",
        ),
        (
            user("\"a\\tb\""),
            RejectedHere,
            "no client can send such a name",
        ),
        (
            format!("{alice}  alice: {HASH}\n"),
            Rejected,
            "a name twice",
        ),
        (
            format!("{}  '7': {HASH}\n", user("7")),
            Rejected,
            "a name twice, once as a text",
        ),
        (
            format!("{}  7: {HASH}\n", user("0x7")),
            Accepted,
            "two spellings of a number",
        ),
        (
            "basic_auth_users:\n  alice:\n".to_owned(),
            Rejected,
            "no hash",
        ),
        (
            "basic_auth_users:\n  alice: 12345\n".to_owned(),
            Rejected,
            "a number for a hash",
        ),
        (
            format!("basic_auth_users:\n  a: &h {HASH}\n  b: *h\n"),
            Accepted,
            "an alias",
        ),
        (
            "basic_auth_users: *x\n".to_owned(),
            Rejected,
            "an unknown alias",
        ),
        (
            "basic_auth_users: &x\n  a: *x\n".to_owned(),
            Rejected,
            "an alias of itself",
        ),
        (
            format!("basic_auth_users:\n  <<: {{a: {HASH}}}\n"),
            Accepted,
            "a merge",
        ),
        (
            format!("basic_auth_users:\n  <<: [{{a: {HASH}}}, {{c: {HASH}}}]\n"),
            Accepted,
            "two merges",
        ),
        (
            format!("basic_auth_users:\n  a: {HASH}\n  <<: {{a: {HASH}}}\n"),
            Rejected,
            "a name twice, once by a merge",
        ),
        (
            "http_server_config:\n  <<: {http2: false}\n".to_owned(),
            Accepted,
            "a merge of settings",
        ),
        (
            "http_server_config:\n  <<: 5\n".to_owned(),
            Rejected,
            "a merge of a number",
        ),
        (
            "http_server_config:\n  '<<': {http2: false}\n".to_owned(),
            Rejected,
            "an unknown field",
        ),
        (
            format!("{{\"basic_auth_users\":{{\"a\":\"{HASH}\"}}}}\n"),
            Accepted,
            "JSON",
        ),
        (xss("0"), Accepted, "a number"),
        (xss("-1"), Accepted, "a negative number"),
        (xss("1.50"), Accepted, "a fraction"),
        (xss("0x1F"), Accepted, "hexadecimal"),
        (xss("true"), Accepted, "a boolean"),
        (xss("null"), Accepted, "nothing"),
        (xss("''"), Accepted, "an empty text"),
        (xss("2001-12-14t21:59:43.10-05:00"), Accepted, "a time"),
        (xss("!!int 0"), Accepted, "a number by its tag"),
        (xss("!!int x"), Rejected, "a text with the tag of a number"),
        (xss("!!binary '***'"), Rejected, "not base64"),
        (xss("!foo 0"), Accepted, "a custom tag"),
        (xss("[0]"), Rejected, "a list"),
        (xss("{a: 0}"), Rejected, "a mapping"),
        (xss("|\n      0\n      1"), Accepted, "two lines"),
        (xss("'é'"), Accepted, "a letter with an accent"),
        (
            header("X-Frame-Options", "deny"),
            Accepted,
            "an accepted value",
        ),
        (header("X-Frame-Options", "DENY"), Rejected, "in upper case"),
        (header("X-Frame-Options", "''"), Rejected, "an empty text"),
        (header("X-Frame-Options", ""), Rejected, "nothing"),
        (
            header("X-Content-Type-Options", "NoSniff"),
            Rejected,
            "in upper case",
        ),
        (
            header("Strict-Transport-Security", "31536000"),
            Accepted,
            "a number",
        ),
        (
            header("x-xss-protection", "0"),
            Rejected,
            "a name in lower case",
        ),
        (header("Server", "1"), Rejected, "an unknown header"),
        (http2("True"), Accepted, "a capitalized boolean"),
        (http2("yes"), Accepted, "a boolean as a word"),
        (http2("On"), Accepted, "another boolean as a word"),
        (http2("n"), Accepted, "a boolean as a letter"),
        (http2("oN"), Rejected, "a mixed-case word"),
        (http2("'true'"), Rejected, "a text"),
        (http2("!!bool 'true'"), Accepted, "a boolean by its tag"),
        (http2("!!str true"), Rejected, "a text by its tag"),
        (http2("0"), Rejected, "a number"),
        (http2(""), Accepted, "nothing"),
        (tls("min_version: TLS12"), Accepted, "a version"),
        (tls("min_version: 1.3"), Rejected, "a number for a version"),
        (
            tls("min_version: TLS10"),
            RejectedHere,
            "it is broken, and not supported",
        ),
        (
            tls("cipher_suites: TLS_AES_128_GCM_SHA256"),
            Rejected,
            "a text for a list",
        ),
        (
            tls("client_auth_type: RequestClientCert"),
            RejectedHere,
            "it verifies no certificate",
        ),
    ];
    rows.extend(texts.map(|(text, verdict, why)| (text.into_bytes(), verdict, why)));
    rows
}

fn rate_limits() -> Vec<(Vec<u8>, Verdict, &'static str)> {
    [
        (rate_limit("1s", "5"), Accepted, "a usual limit"),
        (rate_limit("'1s'", "5"), Accepted, "a duration in quotes"),
        (rate_limit("1h2m3.5s", "5"), Accepted, "several units"),
        (
            rate_limit("10µs", "5"),
            Accepted,
            "microseconds with a Greek letter",
        ),
        (
            rate_limit(".5s", "5"),
            Accepted,
            "no digit before the point",
        ),
        (rate_limit("1000000", "5"), Accepted, "nanoseconds"),
        (
            rate_limit("1.5", "5"),
            Accepted,
            "a fraction of nanoseconds",
        ),
        (rate_limit("0", "5"), Accepted, "no limit"),
        (rate_limit("'0'", "5"), Accepted, "no limit, quoted"),
        (rate_limit("-1s", "5"), Accepted, "no limit, negative"),
        (rate_limit("null", "null"), Accepted, "nothing"),
        (rate_limit("1d", "5"), Rejected, "an unknown unit"),
        (
            rate_limit("'5'", "5"),
            Rejected,
            "a number without a unit, quoted",
        ),
        (rate_limit("1 s", "5"), Rejected, "a space"),
        (rate_limit("''", "5"), Rejected, "an empty text"),
        (rate_limit("1:30", "5"), Rejected, "a time"),
        (
            rate_limit("99999999h", "5"),
            Rejected,
            "above the largest duration",
        ),
        (rate_limit("1s", "0x10"), Accepted, "hexadecimal"),
        (rate_limit("1s", "0b11"), Accepted, "binary"),
        (rate_limit("1s", "1_000"), Accepted, "an underscore"),
        (rate_limit("1s", "1e3"), Accepted, "an exponent"),
        (rate_limit("1s", "1.5"), Accepted, "a fraction"),
        (rate_limit("1s", "-1"), Accepted, "a negative number"),
        (rate_limit("1s", "'5'"), Rejected, "a text"),
        (rate_limit("1s", "true"), Rejected, "a boolean"),
        (
            rate_limit("1s", "99999999999999999999"),
            Rejected,
            "above the largest number",
        ),
        ("rate_limit: {}\n".to_owned(), Accepted, "an empty mapping"),
        ("rate_limit: 5\n".to_owned(), Rejected, "a number"),
        ("rate_limit: [1]\n".to_owned(), Rejected, "a list"),
        (
            "rate_limit:\n  intervall: 1s\n".to_owned(),
            Rejected,
            "an unknown field",
        ),
    ]
    .map(|(text, verdict, why)| (text.into_bytes(), verdict, why))
    .into()
}

/// Whether `promtool check web-config` accepts a file.
fn promtool_accepts(promtool: &Path, file: &Path) -> bool {
    let checked = Command::new(promtool)
        .args(["check", "web-config"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    checked.expect("promtool starts").success()
}

/// Whether the server starts with a file.
fn server_accepts(file: &Path) -> bool {
    let directory = tempfile::TempDir::new().unwrap();
    let mut command = server::command(directory.path());
    command
        .args(["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"])
        .args(["--database-url", ":memory:", "--web-config"])
        .arg(file)
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut first = String::new();
    let output = child.stdout.take().unwrap();
    BufReader::new(output).read_line(&mut first).unwrap();
    let accepts = first.starts_with("listening on ");
    if accepts {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(accepts || status.code() == Some(2), "{status}");
    accepts
}

#[test]
fn the_server_accepts_what_promtool_accepts() {
    let files = AccessFiles::new();
    files.write("known.yml", &rate_limit("1s", "1"));
    let promtools: Vec<Promtool> = scrapers::promtools("the_server_accepts_what_promtool_accepts")
        .into_iter()
        .map(|path| Promtool {
            // Older versions of promtool do not know rate limits.
            knows_limits: promtool_accepts(&path, &files.path("known.yml")),
            path,
        })
        .collect();
    let compared = documents().into_iter().map(|row| (row, false));
    let limits = rate_limits().into_iter().map(|row| (row, true));
    let rows: Vec<_> = compared.chain(limits).collect();
    let mut differences: Vec<String> = Vec::new();
    for rows in rows.chunks(4) {
        let found = thread::scope(|scope| {
            let (files, promtools) = (&files, &promtools);
            let checks: Vec<_> = (rows.iter().enumerate())
                .map(|(number, ((contents, verdict, why), has_limit))| {
                    scope.spawn(move || {
                        let file = files.path(&format!("{number}.yml"));
                        std::fs::write(&file, contents).unwrap();
                        let ours = server_accepts(&file);
                        let theirs: Vec<bool> = (promtools.iter())
                            .filter(|promtool| promtool.knows_limits || !has_limit)
                            .map(|promtool| promtool_accepts(&promtool.path, &file))
                            .collect();
                        let expected = (*verdict == Accepted, *verdict != Rejected);
                        let is_right =
                            ours == expected.0 && theirs.iter().all(|it| *it == expected.1);
                        let shown = String::from_utf8_lossy(contents);
                        (!is_right).then(|| format!("{why}: {ours}, promtool {theirs:?}:\n{shown}"))
                    })
                })
                .collect();
            let ends = checks.into_iter().map(|check| check.join().unwrap());
            ends.flatten().collect::<Vec<_>>()
        });
        differences.extend(found);
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

/// A version of promtool.
struct Promtool {
    path: PathBuf,
    knows_limits: bool,
}
