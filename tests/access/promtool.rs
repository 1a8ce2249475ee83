//! Which web configurations are taken: those that `promtool check web-config` takes, and of them not those that would not
//! do what they say here.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use crate::access::operators::{HASH, Place};
use crate::support::{server, tools};

/// The expected result of a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    /// promtool and the server take it.
    Taken,
    /// promtool and the server refuse it.
    Refused,
    /// promtool takes it, and the server refuses it: the reason is in the table.
    RefusedHere,
}

use Verdict::{Refused, RefusedHere, Taken};

/// A user with a name that is written so.
fn user(name: &str) -> String {
    format!("basic_auth_users:\n  {name}: {HASH}\n")
}

/// A header with a value that is written so.
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
    crate::access::operators::tls(&[line])
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
        (
            utf_16(u16::to_le_bytes),
            Taken,
            "UTF-16, as Notepad once wrote",
        ),
        (utf_16(u16::to_be_bytes), Taken, "UTF-16, big end first"),
        (
            utf_16(u16::to_le_bytes)[2..].to_vec(),
            Refused,
            "UTF-16 without a mark",
        ),
        (b"# caf\xe9\n".to_vec(), Refused, "Latin-1"),
        (b"# \0\n".to_vec(), Refused, "a control character"),
    ];
    let texts = [
        (format!("\u{feff}{alice}"), Taken, "a byte order mark"),
        ("\u{feff}".to_owned(), Taken, "nothing but a mark"),
        (alice.replace('\n', "\r\n"), Taken, "lines of Windows"),
        (
            format!("---\n{alice}...\n"),
            Taken,
            "the marks of a document",
        ),
        (format!("{alice}---\n"), Taken, "an empty document after it"),
        (
            format!("---\n---\n{alice}"),
            RefusedHere,
            "the users would be ignored",
        ),
        (
            format!("{alice}---\nb: 2\n"),
            RefusedHere,
            "a document would be ignored",
        ),
        (String::new(), Taken, "nothing"),
        ("null\n".to_owned(), Taken, "null"),
        ("''\n".to_owned(), Refused, "a text"),
        ("5\n".to_owned(), Refused, "a number"),
        ("- a\n".to_owned(), Refused, "a list"),
        ("1: 2\n".to_owned(), Refused, "an unknown field"),
        (
            "basic_auth_users:\nhttp_server_config: ~\n".to_owned(),
            Taken,
            "sections of nothing",
        ),
        (
            "basic_auth_users: ''\n".to_owned(),
            Refused,
            "a section of a text",
        ),
        (
            "basic_auth_users: []\n".to_owned(),
            Refused,
            "a section of a list",
        ),
        (user("7"), Taken, "a number"),
        (user("-7"), Taken, "a negative number"),
        (user("0o7"), Taken, "octal"),
        (user("010"), Taken, "octal, as it was"),
        (user("1.0"), Taken, "a fraction"),
        (user("1e3"), Taken, "an exponent"),
        (user("true"), Taken, "a switch"),
        (user("yes"), Taken, "a switch in a word"),
        (user("~"), Taken, "nothing"),
        (user("2001-01-01"), Taken, "a date"),
        (
            user("12:30:45"),
            RefusedHere,
            "a time, whose colons nobody can send",
        ),
        (user("1_000"), Taken, "a number with a gap"),
        (user("'7'"), Taken, "a text"),
        (user("!!str 7"), Taken, "a text by its tag"),
        (user("!!binary YWxpY2U="), Taken, "a text in Base64"),
        (user("[a]"), Refused, "a list for a name"),
        (user("{a: b}"), Refused, "a mapping for a name"),
        (user("'a:b'"), RefusedHere, "nobody can send such a name"),
        (
            user("\"a\\tb\""),
            RefusedHere,
            "nobody can send such a name",
        ),
        (format!("{alice}  alice: {HASH}\n"), Refused, "a name twice"),
        (
            format!("{}  '7': {HASH}\n", user("7")),
            Refused,
            "a name twice, once as a text",
        ),
        (
            format!("{}  7: {HASH}\n", user("0x7")),
            Taken,
            "names that are written otherwise",
        ),
        (
            "basic_auth_users:\n  alice:\n".to_owned(),
            Refused,
            "no hash",
        ),
        (
            "basic_auth_users:\n  alice: 12345\n".to_owned(),
            Refused,
            "a number for a hash",
        ),
        (
            format!("basic_auth_users:\n  a: &h {HASH}\n  b: *h\n"),
            Taken,
            "an alias",
        ),
        (
            "basic_auth_users: *x\n".to_owned(),
            Refused,
            "an alias of nothing",
        ),
        (
            "basic_auth_users: &x\n  a: *x\n".to_owned(),
            Refused,
            "an alias of itself",
        ),
        (
            format!("basic_auth_users:\n  <<: {{a: {HASH}}}\n"),
            Taken,
            "a merge",
        ),
        (
            format!("basic_auth_users:\n  <<: [{{a: {HASH}}}, {{c: {HASH}}}]\n"),
            Taken,
            "two merges",
        ),
        (
            format!("basic_auth_users:\n  a: {HASH}\n  <<: {{a: {HASH}}}\n"),
            Refused,
            "twice by a merge",
        ),
        (
            "http_server_config:\n  <<: {http2: false}\n".to_owned(),
            Taken,
            "a merge of settings",
        ),
        (
            "http_server_config:\n  <<: 5\n".to_owned(),
            Refused,
            "a merge of a number",
        ),
        (
            "http_server_config:\n  '<<': {http2: false}\n".to_owned(),
            Refused,
            "an unknown field",
        ),
        (
            format!("{{\"basic_auth_users\":{{\"a\":\"{HASH}\"}}}}\n"),
            Taken,
            "JSON",
        ),
        (xss("0"), Taken, "a number"),
        (xss("-1"), Taken, "a negative number"),
        (xss("1.50"), Taken, "a fraction"),
        (xss("0x1F"), Taken, "hexadecimal"),
        (xss("true"), Taken, "a switch"),
        (xss("null"), Taken, "nothing"),
        (xss("''"), Taken, "an empty text"),
        (xss("2001-12-14t21:59:43.10-05:00"), Taken, "a time"),
        (xss("!!int 0"), Taken, "a number by its tag"),
        (xss("!!int x"), Refused, "no number, by its tag"),
        (xss("!!binary '***'"), Refused, "no Base64"),
        (xss("!foo 0"), Taken, "a tag of somebody's own"),
        (xss("[0]"), Refused, "a list"),
        (xss("{a: 0}"), Refused, "a mapping"),
        (xss("|\n      0\n      1"), Taken, "two lines"),
        (xss("'é'"), Taken, "a letter with an accent"),
        (header("X-Frame-Options", "deny"), Taken, "one of two"),
        (header("X-Frame-Options", "DENY"), Refused, "in capitals"),
        (header("X-Frame-Options", "''"), Refused, "none of two"),
        (header("X-Frame-Options", ""), Refused, "nothing"),
        (
            header("X-Content-Type-Options", "NoSniff"),
            Refused,
            "in capitals",
        ),
        (
            header("Strict-Transport-Security", "31536000"),
            Taken,
            "a number",
        ),
        (
            header("x-xss-protection", "0"),
            Refused,
            "a name in small letters",
        ),
        (header("Server", "1"), Refused, "an unknown header"),
        (http2("True"), Taken, "a switch in a capital"),
        (http2("yes"), Taken, "a word"),
        (http2("On"), Taken, "another word"),
        (http2("n"), Taken, "a letter"),
        (http2("oN"), Refused, "no word"),
        (http2("'true'"), Refused, "a text"),
        (http2("!!bool 'true'"), Taken, "a switch by its tag"),
        (http2("!!str true"), Refused, "a text by its tag"),
        (http2("0"), Refused, "a number"),
        (http2(""), Taken, "nothing"),
        (tls("min_version: TLS12"), Taken, "a version"),
        (tls("min_version: 1.3"), Refused, "a number for a version"),
        (
            tls("min_version: TLS10"),
            RefusedHere,
            "it is broken, and not spoken here",
        ),
        (
            tls("cipher_suites: TLS_AES_128_GCM_SHA256"),
            Refused,
            "a text for a list",
        ),
        (
            tls("client_auth_type: RequestClientCert"),
            RefusedHere,
            "it verifies nobody",
        ),
    ];
    rows.extend(texts.map(|(text, verdict, why)| (text.into_bytes(), verdict, why)));
    rows
}

fn rate_limits() -> Vec<(Vec<u8>, Verdict, &'static str)> {
    [
        (rate_limit("1s", "5"), Taken, "the usual"),
        (rate_limit("'1s'", "5"), Taken, "a duration in quotes"),
        (rate_limit("1h2m3.5s", "5"), Taken, "several units"),
        (rate_limit("10µs", "5"), Taken, "a Greek letter"),
        (rate_limit(".5s", "5"), Taken, "no digit before the point"),
        (rate_limit("1000000", "5"), Taken, "nanoseconds"),
        (rate_limit("1.5", "5"), Taken, "a fraction of nanoseconds"),
        (rate_limit("0", "5"), Taken, "none"),
        (rate_limit("'0'", "5"), Taken, "none, in quotes"),
        (rate_limit("-1s", "5"), Taken, "none, as it is negative"),
        (rate_limit("null", "null"), Taken, "nothing"),
        (rate_limit("1d", "5"), Refused, "an unknown unit"),
        (rate_limit("'5'", "5"), Refused, "no unit"),
        (rate_limit("1 s", "5"), Refused, "a space"),
        (rate_limit("''", "5"), Refused, "an empty text"),
        (rate_limit("1:30", "5"), Refused, "a time"),
        (rate_limit("99999999h", "5"), Refused, "past any duration"),
        (rate_limit("1s", "0x10"), Taken, "hexadecimal"),
        (rate_limit("1s", "0b11"), Taken, "binary"),
        (rate_limit("1s", "1_000"), Taken, "a gap"),
        (rate_limit("1s", "1e3"), Taken, "an exponent"),
        (rate_limit("1s", "1.5"), Taken, "a fraction"),
        (rate_limit("1s", "-1"), Taken, "a negative number"),
        (rate_limit("1s", "'5'"), Refused, "a text"),
        (rate_limit("1s", "true"), Refused, "a switch"),
        (
            rate_limit("1s", "99999999999999999999"),
            Refused,
            "past any number",
        ),
        ("rate_limit: {}\n".to_owned(), Taken, "an empty mapping"),
        ("rate_limit: 5\n".to_owned(), Refused, "a number"),
        ("rate_limit: [1]\n".to_owned(), Refused, "a list"),
        (
            "rate_limit:\n  intervall: 1s\n".to_owned(),
            Refused,
            "an unknown field",
        ),
    ]
    .map(|(text, verdict, why)| (text.into_bytes(), verdict, why))
    .into()
}

/// Whether `promtool check web-config` takes a file.
fn promtool_takes(promtool: &Path, file: &Path) -> bool {
    let checked = Command::new(promtool)
        .args(["check", "web-config"])
        .arg(file)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    checked.expect("promtool starts").success()
}

/// Whether the server starts with a file.
fn server_takes(file: &Path) -> bool {
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
    let takes = first.starts_with("listening on ");
    if takes {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap();
    assert!(takes || status.code() == Some(2), "{status}");
    takes
}

#[test]
fn the_server_takes_what_promtool_takes() {
    let test = "the_server_takes_what_promtool_takes";
    let promtool = tools::promtool(test);
    let place = Place::new();
    place.write("known.yml", &rate_limit("1s", "1"));
    // Older ones do not know of rate limits.
    let knows_limits =
        (promtool.as_ref()).is_some_and(|it| promtool_takes(it, &place.path("known.yml")));
    let compared = documents().into_iter().map(|row| (row, promtool.is_some()));
    let limits = rate_limits().into_iter().map(|row| (row, knows_limits));
    let rows: Vec<_> = compared.chain(limits).collect();
    let mut differences: Vec<String> = Vec::new();
    for rows in rows.chunks(4) {
        let found = thread::scope(|scope| {
            let place = &place;
            let promtool = promtool.as_ref();
            let checks: Vec<_> = (rows.iter().enumerate())
                .map(|(number, ((contents, verdict, why), is_compared))| {
                    scope.spawn(move || {
                        let file = place.path(&format!("{number}.yml"));
                        std::fs::write(&file, contents).unwrap();
                        let ours = server_takes(&file);
                        let theirs = promtool.filter(|_| *is_compared);
                        let theirs = theirs.map(|it| promtool_takes(it, &file));
                        let expected = (*verdict == Taken, *verdict != Refused);
                        let is_right =
                            ours == expected.0 && theirs.is_none_or(|it| it == expected.1);
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
