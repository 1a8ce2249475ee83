//! Reads the messages of database drivers: what may be shown of them, and what they say about the server.
//!
//! A message may contain parts of the database's URL, passwords included, in quotes, in quotes of another language or in none. A
//! password may contain quotes itself. So no part of a message is shown: only phrases of this file that are in it.

/// Phrases of drivers, servers and systems, without any value. Of two that begin in the same way the longer one comes first.
///
/// Each has several words, so that none is a likely password.
const PHRASES: &[&str] = &[
    // libpq: the URL.
    "invalid port number",
    "invalid integer value",
    "invalid percent-encoded token",
    "forbidden value %00 in percent-encoded value",
    "invalid connection option",
    "invalid URI query parameter",
    "key/value separator",
    "in connection info string",
    "IPv6 host address",
    "unexpected character",
    "could not parse network address",
    "definition of service",
    // libpq and systems: the way to the server.
    "connection to server",
    "could not connect to server",
    "could not translate host name",
    "Name or service not known",
    "No address associated with hostname",
    "Temporary failure in name resolution",
    "nodename nor servname provided",
    "Connection refused",
    "Connection timed out",
    "Connection reset by peer",
    "Operation timed out",
    "timeout expired",
    "Broken pipe",
    "No route to host",
    "Network is unreachable",
    "Too many open files",
    "No such file or directory",
    "permission denied",
    "No space left on device",
    "could not receive data from server",
    "could not send data to server",
    "server closed the connection unexpectedly",
    "no connection to the server",
    "connection not open",
    "SSL SYSCALL error",
    "EOF detected",
    "SSL connection has been closed unexpectedly",
    "SSL error",
    "certificate verify failed",
    "certificate has expired",
    "server does not support SSL",
    "does not match host name",
    "root certificate file",
    "client certificate",
    "private key file",
    // PostgreSQL and its poolers.
    "password authentication failed",
    "peer authentication failed",
    "Ident authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "is not permitted to log in",
    "no such database",
    "no such user",
    "does not exist",
    "already exists",
    "sorry, too many clients already",
    "too many connections",
    "remaining connection slots are reserved",
    "no more connections allowed",
    "the database system is starting up",
    "the database system is shutting down",
    "the database system is in recovery mode",
    "the database system is not yet accepting connections",
    "the database system is not accepting connections",
    "is not currently accepting connections",
    "server login has been failing",
    "pgbouncer cannot connect to server",
    "terminating connection due to administrator command",
    "terminating connection due to idle-session timeout",
    "terminating connection due to idle-in-transaction timeout",
    "terminating connection because of crash of another server process",
    "terminating connection due to",
    "canceling statement due to statement timeout",
    "canceling statement due to lock timeout",
    "canceling statement due to user request",
    "canceling statement due to",
    "cached plan must not change result type",
    "prepared statement",
    "current transaction is aborted",
    "cannot execute",
    "read-only transaction",
    "could not extend file",
    "out of shared memory",
    "out of memory",
    "deadlock detected",
    "could not serialize access",
    "could not obtain lock",
    "unrecognized configuration parameter",
    "invalid value for parameter",
    "syntax error",
    // tokio-postgres.
    "error connecting to server",
    "error communicating with the server",
    "error performing TLS handshake",
    "timeout waiting for server",
    "unexpected message from server",
    "authentication error",
    "connection closed",
    "failed to lookup address information",
    "invalid connection string",
    "invalid configuration",
    "db error",
    // MySQL, MariaDB, their client libraries and mysql_async.
    "MySQL connection URLs must be in the form",
    "Invalid or incomplete connection URL",
    "Unknown connection URL parameter",
    "for connection URL parameter",
    "unknown ssl_mode",
    "Can't connect to local MySQL server",
    "Can't connect to local server",
    "Can't connect to MySQL server",
    "Can't connect to server",
    "Unknown MySQL server host",
    "Unknown server host",
    "Access denied for user",
    "Unknown database",
    "is not allowed to connect to this",
    "is blocked because of many connection errors",
    "max_user_connections",
    "Unknown authentication plugin",
    "Authentication plugin",
    "Server shutdown in progress",
    "MySQL server has gone away",
    "Server has gone away",
    "Lost connection to",
    "Connection to the server is closed",
    "Connection was killed",
    "Input/output error",
    "Lock wait timeout exceeded",
    "Deadlock found",
    "Query execution was interrupted",
    "Got packets out of order",
    "Packet out of order",
    "read-only option",
    // SQLite.
    "unable to open database file",
    "unable to open database",
    "file is not a database",
    "database disk image is malformed",
    "attempt to write a readonly database",
    "database is locked",
    "database table is locked",
    "database or disk is full",
    "disk I/O error",
    "no such table",
    "no such column",
    "has no column named",
    "constraint failed",
    "not authorized to use",
    // Diesel, the pools, this crate and the health check of the service.
    "its file was removed or replaced",
    "its last write failed",
    "nul byte found in provided data",
    "the pool's timeout has passed",
    "Timeout occurred while",
    "the function that opens a connection panicked",
];

/// What is shown of a message without a known phrase.
const UNKNOWN: &str = "an unknown error, whose text is not shown";

/// The most phrases that are shown of a message.
const MOST_PHRASES: usize = 6;

/// Returns the known phrases of a driver's message, in their order, so that no value is shown.
///
/// A message may quote a part of the database's URL, such as one of a password that is not percent-encoded. The phrases are
/// those that drivers and servers write in English. A message without any is `an unknown error, whose text is not shown`.
pub fn without_values(message: &str) -> String {
    let mut found = Vec::new();
    let mut rest = message;
    let mut is_in_word = false;
    while let Some(first) = rest.chars().next() {
        let phrase = (PHRASES.iter()).find(|phrase| !is_in_word && begins_with(rest, phrase));
        let length = phrase.map_or(first.len_utf8(), |phrase| phrase.len());
        if let Some(phrase) = phrase
            && !found.contains(phrase)
            && found.len() < MOST_PHRASES
        {
            found.push(*phrase);
        }
        is_in_word = phrase.is_some() || first.is_alphanumeric();
        rest = &rest[length..];
    }
    if found.is_empty() {
        return UNKNOWN.to_owned();
    }
    found.join(": ")
}

/// Whether a text begins with the words of a phrase, in upper or lower case.
fn begins_with(text: &str, phrase: &str) -> bool {
    let Some((beginning, rest)) = text.split_at_checked(phrase.len()) else {
        return false;
    };
    beginning.eq_ignore_ascii_case(phrase) && !rest.starts_with(char::is_alphanumeric)
}

/// Whether a server rejected a connection because it has as many as it accepts. Such a server is up.
///
/// Knows the messages of PostgreSQL, `PgBouncer`, MySQL and MariaDB in English, and those of PostgreSQL 15 in other languages.
pub(super) fn is_connection_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    CONNECTION_LIMITS
        .iter()
        .any(|limit| message.contains(limit))
}

/// Parts of messages of servers that have as many connections as they accept, in ASCII's lower case.
const CONNECTION_LIMITS: &[&str] = &[
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "no more connections allowed",
    "max_user_connections",
    // Chinese, French, Georgian, German, Italian.
    "已经有太多的客户",
    "已保留的连接位置",
    "的连接太多了",
    "trop de clients sont déjà connectés",
    "les emplacements de connexions restants",
    "trop de connexions pour",
    "უკვე მეტისმეტად ბევრი კლიენტია",
    "ბევრი კავშირი",
    "zu viele verbindungen",
    "die verbleibenden verbindungen",
    "troppi client già connessi",
    "i rimanenti slot di connessione",
    "troppe connessioni",
    // Japanese, Korean, Russian, Spanish, Swedish, Ukrainian.
    "現在クライアント数が多すぎます",
    "残りの接続スロット",
    "接続が多すぎます",
    "최대 동시 접속자 수를 초과",
    "남은 연결 슬롯",
    "최대 동시 접속수를 초과",
    "최대 접속수를 초과",
    "уже слишком много клиентов",
    "оставшиеся слоты подключений",
    "слишком много подключений",
    "ya tenemos demasiados clientes",
    "las conexiones restantes",
    "demasiadas conexiones para",
    "för många klienter",
    "resterande anslutningsslottar",
    "för många uppkopplingar",
    "вже забагато клієнтів",
    "слоти підключень, які залишились",
    "занадто багато підключень",
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages, and what is shown of them. Each `s3cret` is a part of a password.
    const MESSAGES: &[(&str, &str)] = &[
        ("connection refused", "Connection refused"),
        (
            "could not translate host name \"pa@s3cret\" to address: Name or service not known\n",
            "could not translate host name: Name or service not known",
        ),
        ("invalid port number: \"s3cret\"", "invalid port number"),
        ("unterminated \"s3cret", UNKNOWN),
        // An odd and an even number of quotes.
        (
            "invalid percent-encoded token: \"pa\"s3cret%zz\"",
            "invalid percent-encoded token",
        ),
        (
            "invalid percent-encoded token: \"pa\"s3cret\"s3cret%zz\"",
            "invalid percent-encoded token",
        ),
        (
            "could not translate host name \"a\"s3cret\"b\" to address: Name or service not known",
            "could not translate host name: Name or service not known",
        ),
        (
            "unexpected character \"\"\" at position 9 in URI (expected \":\" or \"/\"): \
             \"postgres://[::1]\"s3cret@\"db/shop\"",
            "unexpected character",
        ),
        // The whole URL.
        (
            "end of string reached when looking for matching \"]\" in IPv6 host address in URI: \
             \"postgres://ada:[s3cret@db/shop\"",
            "IPv6 host address",
        ),
        (
            "connection to server at \"127.0.0.1\", port 1 failed: Connection refused\n\
             \tIs the server running on that host and accepting TCP/IP connections?\n",
            "connection to server: Connection refused",
        ),
        (
            "connection to server at \"db\" (10.0.0.1), port 5432 failed: FATAL:  password \
             authentication failed for user \"ada\"\nconnection to server at \"db\" (10.0.0.1), port 5432 \
             failed: FATAL:  no pg_hba.conf entry for host \"10.0.0.2\", user \"ada\"",
            "connection to server: password authentication failed: no pg_hba.conf entry",
        ),
        // PgBouncer does not quote.
        (
            "db error: FATAL: no such database: s3cret@db",
            "db error: no such database",
        ),
        // Servers in other languages.
        (
            "connection to server at \"db\", port 5432 failed: FATAL:  Datenbank »s3cret« existiert nicht",
            "connection to server",
        ),
        ("db error: FATAL: роль \"s3cret\" не существует", "db error"),
        // MySQL quotes in another way, and has an apostrophe.
        (
            "Can't connect to MySQL server on 's3cret@db' (111)",
            "Can't connect to MySQL server",
        ),
        (
            "Access denied for user 's3cret'@'10.0.0.1' (using password: YES)",
            "Access denied for user",
        ),
        ("Unknown database 's3cret@db'", "Unknown database"),
        (
            "URL error: `Unknown connection URL parameter `s3cret''",
            "Unknown connection URL parameter",
        ),
        (
            "URL error: `Invalid value `s3cret' for connection URL parameter `pool_min''",
            "for connection URL parameter",
        ),
        // tokio-postgres.
        (
            "invalid connection string: invalid value for option `s3cret`",
            "invalid connection string",
        ),
        (
            "error connecting to server: failed to lookup address information: Name or service not known",
            "error connecting to server: failed to lookup address information: Name or service not known",
        ),
        // SQLite, and a health check of the application.
        (
            "unable to open database file",
            "unable to open database file",
        ),
        ("no such table: s3cret", "no such table"),
        ("relation \"s3cret\" does not exist", "does not exist"),
        (
            "its file was removed or replaced",
            "its file was removed or replaced",
        ),
        // A part of a word is no phrase.
        ("s3cretdb errors", UNKNOWN),
        ("db errors3cret", UNKNOWN),
        ("żółć s3cret", UNKNOWN),
        ("", UNKNOWN),
    ];

    #[test]
    fn a_server_that_is_full_is_up_in_any_language() {
        for limit in CONNECTION_LIMITS {
            assert_eq!(limit.to_ascii_lowercase(), *limit);
        }
        for (message, expected) in [
            ("FATAL:  sorry, too many clients already", true),
            (
                "connection to server at \"db\", port 5432 failed: FATAL:  tut mir leid, schon zu viele Verbindungen",
                true,
            ),
            ("FATAL:  désolé, trop de clients sont déjà connectés", true),
            (
                "User 'ada' has exceeded the 'max_user_connections' resource",
                true,
            ),
            ("FATAL:  Datenbank »shop« existiert nicht", false),
            ("Connection refused", false),
        ] {
            assert_eq!(is_connection_limit(message), expected, "{message}");
        }
    }

    #[test]
    fn no_value_of_a_message_is_shown() {
        for (message, shown) in MESSAGES {
            assert_eq!(without_values(message), *shown, "{message}");
        }
    }

    #[test]
    fn whatever_a_message_contains_only_phrases_are_shown() {
        proptest::proptest!(|(before in ".*", at in 0..PHRASES.len(), after in ".*")| {
            let shown = without_values(&format!("{before} {} {after}", PHRASES[at]));
            let is_known = |part: &str| PHRASES.contains(&part);
            proptest::prop_assert!(shown.split(": ").all(is_known), "{}", shown);
        });
    }

    #[test]
    fn a_phrase_is_found_before_shorter_ones_and_is_no_single_word() {
        for (index, phrase) in PHRASES.iter().enumerate() {
            assert_eq!(without_values(phrase), *phrase, "a shorter one comes first");
            assert!(!PHRASES[..index].contains(phrase), "{phrase} twice");
            let is_long = phrase.contains([' ', '_', '/']);
            assert!(is_long && !phrase.contains(": "), "{phrase}");
        }
    }
}
