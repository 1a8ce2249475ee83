//! Settings: what the operator may choose, from flags and environment variables.
//!
//! One struct for each area, each handed to the part that it is for. How a value is written lives in `values`, the
//! database's address in `database_url`. Nothing here opens, binds or reads anything.

#![allow(
    clippy::doc_markdown,
    reason = "the docs of settings are the text of --help"
)]

mod database_url;
mod postgres_url;
mod values;

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::Resettable;
use clap::error::{ContextKind, ErrorKind};
use clap::{Args, Command, CommandFactory as _, FromArgMatches as _, Parser};

use actix_vitals::ops::OpsSettings;
use actix_vitals::{Naming, Vitals};

pub use database_url::{DatabaseUrl, SqliteLocation};
pub use postgres_url::PostgresUrl;
pub use values::{LatencyBuckets, LogFilter, LogFormat};

/// The exit code of a bad setting.
pub(super) const EXIT_BAD_SETTING: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  Serve on http://127.0.0.1:8000 with the database in ./vitals.db:
      actix-vitals
  Serve everyone, and keep the operators' endpoints on an address of their own:
      actix-vitals --listen 0.0.0.0:8000 --ops-listen 127.0.0.1:9100
  Take any free port (it is printed at start) and forget the data at exit:
      actix-vitals --listen 127.0.0.1:0 --database-url sqlite://:memory:
  Keep the data on a PostgreSQL server, with its certificate checked, and the password in PGPASSWORD or ~/.pgpass:
      actix-vitals --database-url 'postgres://vitals@db.example.org/vitals?sslmode=verify-full'
  The same by environment, as in a unit file or a container:
      VITALS_LISTEN=0.0.0.0:8000 DATABASE_URL=sqlite:///var/lib/vitals/vitals.db actix-vitals

A flag wins over its variable; an empty variable is as good as none, except for DATABASE_URL. Durations are written like 500ms, 2s or 1m30s.
A bad setting ends the program with one sentence and exit code 2, a failed start with exit code 1.";

/// Everything that can be set, by area.
#[derive(Debug, Clone, Parser)]
#[command(name = "actix-vitals", version, about, long_about = None, after_help = EXAMPLES)]
#[command(
    about = "A REST service over a database that measures itself, for Prometheus and OpenMetrics."
)]
pub struct Settings {
    /// Listeners, workers and shutdown.
    #[command(flatten)]
    pub server: ServerSettings,
    /// What a client may take its time for, and how much it may have.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// Who may connect and enter, and over what.
    #[command(flatten)]
    pub access: AccessSettings,
    /// The database and the pool of connections to it.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// What is recorded, and how finely.
    #[command(flatten)]
    pub metrics: MetricsSettings,
    /// What is logged, and how.
    #[command(flatten)]
    pub log: LogSettings,
}

/// Listeners, workers and shutdown.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Server")]
pub struct ServerSettings {
    /// Address to serve on; port 0 takes a free one
    #[arg(long, env = "VITALS_LISTEN", value_name = "IP:PORT", default_value = "127.0.0.1:8000", value_parser = values::address)]
    pub listen: SocketAddr,

    /// Address for the operators' endpoints (/metrics, /health, /livez, /readyz, /ops, /dashboard, /docs), which then leave the public one
    #[arg(long, env = "VITALS_OPS_LISTEN", value_name = "IP:PORT", value_parser = values::address)]
    pub ops_listen: Option<SocketAddr>,

    /// Worker threads that serve requests [default: the cores]
    #[arg(long, env = "VITALS_WORKERS", value_name = "COUNT", allow_hyphen_values = true, value_parser = values::workers)]
    pub workers: Option<usize>,

    /// How long to go on serving at shutdown, with /readyz at 503, before the listeners close: as long as a load balancer takes to notice
    #[arg(long, env = "VITALS_DRAIN_DELAY", value_name = "DURATION", default_value = "0s", allow_hyphen_values = true, value_parser = values::duration)]
    pub drain_delay: Duration,

    /// How long requests in flight may take to finish at shutdown, after that
    #[arg(long, env = "VITALS_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = values::duration)]
    pub shutdown_timeout: Duration,
}

/// What a client may take its time for, and how much it may have. Each listener has them for itself.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// How long the head of each request may take, from its first byte on, and a new connection to send its first; then 408
    #[arg(long, env = "VITALS_HEAD_TIMEOUT", value_name = "DURATION", default_value = "10s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub head_timeout: Duration,

    /// How long the body of a request may take; each KiB that has come gives it a second more. Then 408
    #[arg(long, env = "VITALS_BODY_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub body_timeout: Duration,

    /// How long a client may take nothing of an answer that waits for it, before the connection is cut
    #[arg(long, env = "VITALS_RESPONSE_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub response_timeout: Duration,

    /// How long a connection may wait for its next request, before it is closed
    #[arg(long, env = "VITALS_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub idle_timeout: Duration,

    /// Most connections at a time; further ones are told 503
    #[arg(long, env = "VITALS_MAX_CONNECTIONS", value_name = "COUNT", default_value = "10000", allow_hyphen_values = true, value_parser = values::connections)]
    pub max_connections: usize,

    /// Most connections at a time of one address, or one /64 network of IPv6; further ones are told 503
    #[arg(long, env = "VITALS_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", default_value = "1000", allow_hyphen_values = true, value_parser = values::connections)]
    pub max_connections_per_address: usize,

    /// Most headers of a request; with more it is told 431
    #[arg(long, env = "VITALS_MAX_HEADERS", value_name = "COUNT", default_value = "96", allow_hyphen_values = true, value_parser = values::headers)]
    pub max_headers: usize,

    /// Largest head of a request, its URL included, in bytes, or with a unit: KiB; a larger one is told 431
    #[arg(long, env = "VITALS_MAX_HEADER_BYTES", value_name = "SIZE", default_value = "16KiB", allow_hyphen_values = true, value_parser = values::header_bytes)]
    pub max_header_bytes: usize,

    /// Largest request body, in bytes, or with a unit: KiB, MiB; a larger one is told 413
    #[arg(long, env = "VITALS_BODY_LIMIT", value_name = "SIZE", default_value = "64KiB", allow_hyphen_values = true, value_parser = values::body_limit)]
    pub body_limit: usize,

    /// How deep the arrays and objects of a request's JSON may be nested; deeper, it is told 400
    #[arg(long, env = "VITALS_JSON_DEPTH", value_name = "COUNT", default_value = "32", allow_hyphen_values = true, value_parser = values::json_depth)]
    pub json_depth: usize,

    /// Most memory for bodies that wait for their clients, all together, in bytes, or with a unit: MiB, GiB; one client gets half of it at most, and what finds no room is told 503
    #[arg(long, env = "VITALS_ANSWER_MEMORY", value_name = "SIZE", default_value = "256MiB", allow_hyphen_values = true, value_parser = values::answer_memory)]
    pub answer_memory: usize,
}

/// Who may connect and enter, and over what. The files are read again when they change, and at SIGHUP.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessSettings {
    /// Web configuration of the operators' endpoints, as Prometheus' exporters have it: TLS, basic authentication, headers
    #[arg(long, env = "VITALS_WEB_CONFIG", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// File with a token that opens the operators' endpoints (Authorization: Bearer)
    #[arg(long, env = "VITALS_OPS_TOKEN_FILE", value_name = "FILE")]
    pub ops_token_file: Option<PathBuf>,

    /// Answer /livez without credentials, for a supervisor that has none
    #[arg(long, env = "VITALS_OPEN_LIVEZ", value_parser = values::switch)]
    pub open_livez: bool,

    /// Certificate of the address to serve on, in PEM, with those that lead to its authority: serve HTTPS
    #[arg(long, env = "VITALS_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key of that certificate, in PEM
    #[arg(long, env = "VITALS_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
}

/// The database and the pool of connections to it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Database")]
pub struct DatabaseSettings {
    /// Where the data is: sqlite://relative.db, sqlite:///absolute.db, sqlite://:memory:, a file's path, or postgres://user:password@host:port/database
    #[arg(id = "database_url", long = "database-url", env = "DATABASE_URL", value_name = "URL", default_value = "sqlite://vitals.db", hide_env_values = true, value_parser = database_url::parse)]
    pub url: DatabaseUrl,

    /// Most connections to the database at a time
    #[arg(long, env = "VITALS_POOL_SIZE", value_name = "COUNT", default_value = "10", allow_hyphen_values = true, value_parser = values::pool_size)]
    pub pool_size: u32,

    /// How long a request waits for a connection, and PostgreSQL works on a statement, before the answer is 503
    #[arg(long, env = "VITALS_POOL_TIMEOUT", value_name = "DURATION", default_value = "2s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub pool_timeout: Duration,
}

/// What is recorded, and how finely.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Most series of a family; label sets beyond it share one series labelled `overflow`
    #[arg(long, env = "VITALS_MAX_SERIES", value_name = "COUNT", default_value = "2000", allow_hyphen_values = true, value_parser = values::max_series)]
    pub max_series: usize,

    /// Most native histogram buckets exposed for a series
    #[arg(long, env = "VITALS_NATIVE_BUCKETS", value_name = "COUNT", default_value = "160", allow_hyphen_values = true, value_parser = values::native_buckets)]
    pub native_buckets: usize,

    /// Names of the metrics: vitals, or otel for those of OpenTelemetry's semantic conventions
    #[arg(long, env = "VITALS_NAMING", value_name = "NAMES", default_value = "vitals", value_parser = values::naming)]
    pub naming: Naming,

    /// Upper bounds of the latency histograms' classic buckets, in seconds, rising, separated by commas [default: 0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10, or those of OpenTelemetry by its names]
    #[arg(long, env = "VITALS_LATENCY_BUCKETS", value_name = "SECONDS", allow_hyphen_values = true, value_parser = values::latency_buckets)]
    pub latency_buckets: Option<LatencyBuckets>,

    /// Show in OpenMetrics when each counter and histogram began (_created); without Prometheus' feature flag created-timestamp-zero-ingestion each is stored as a series
    #[arg(long, env = "VITALS_CREATED", value_parser = values::switch)]
    pub created: bool,

    /// Endpoints that are not recorded, by route pattern (/data/{item_id}), or `unmatched`, or `*` for all; separated by commas
    #[arg(long, env = "VITALS_EXCLUDE", value_name = "PATTERN", value_delimiter = ',', value_parser = values::endpoint)]
    pub exclude: Vec<String>,

    /// How often a request must run one statement to be suspected of doing so in a loop; 0 suspects none
    #[arg(long, env = "VITALS_N_PLUS_ONE", value_name = "COUNT", default_value = "10", allow_hyphen_values = true, value_parser = values::n_plus_one)]
    pub n_plus_one: u32,

    /// Statements that are kept by shape for /ops/statements; further ones are counted together, as (other)
    #[arg(long, env = "VITALS_STATEMENTS", value_name = "COUNT", default_value = "1000", allow_hyphen_values = true, value_parser = values::statements)]
    pub statements: usize,

    /// Tell clients where the time of their requests went, in the header Server-Timing
    #[arg(long, env = "VITALS_SERVER_TIMING", value_parser = values::switch)]
    pub server_timing: bool,
}

impl MetricsSettings {
    /// The monitoring that these settings ask for, to be built.
    pub fn to_builder(&self) -> actix_vitals::Builder {
        let ops = OpsSettings::everything()
            .service(crate::NAME, env!("CARGO_PKG_VERSION"))
            .documentation("docs");
        let builder = Vitals::builder()
            .naming(self.naming)
            .max_series(self.max_series)
            .native_buckets(self.native_buckets)
            .created(self.created)
            .exclude(&self.exclude)
            .ops_endpoints(["/docs", "/docs/{part}", "/openapi.json"])
            .n_plus_one(self.n_plus_one)
            .statements(self.statements)
            .server_timing(self.server_timing)
            .ops(ops);
        match &self.latency_buckets {
            Some(buckets) => builder.latency_buckets(buckets.as_slice()),
            None => builder,
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogSettings {
    /// Least level to log (off, error, warn, info, debug, trace), or levels by target: info,actix_server=warn. actix_http and h2 report what clients do wrong, as often as a client likes
    #[arg(id = "log", long = "log", env = "VITALS_LOG", value_name = "FILTER", default_value = "info,actix_http=off,h2=off", value_parser = values::log_filter)]
    pub filter: LogFilter,

    /// Form of the log, which goes to stderr: text or json
    #[arg(id = "log_format", long = "log-format", env = "VITALS_LOG_FORMAT", value_name = "FORMAT", default_value = "text", value_parser = values::log_format)]
    pub format: LogFormat,
}

/// Why the program does not go on past its settings.
#[derive(Debug)]
pub enum Stop {
    /// Help or version was asked for.
    Answer(clap::Error),
    /// A setting is bad; the sentence names it, and never holds the database's URL.
    BadSetting(String),
}

impl Stop {
    /// Prints the answer on stdout or the sentence on stderr, and gives the exit code that belongs to it.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Answer(answer) => {
                // Nobody is left to be told that stdout is closed.
                drop(answer.print());
                ExitCode::SUCCESS
            }
            Self::BadSetting(sentence) => {
                drop(writeln!(std::io::stderr(), "actix-vitals: {sentence}"));
                ExitCode::from(EXIT_BAD_SETTING)
            }
        }
    }
}

impl Settings {
    /// Reads flags from `arguments` (the first is the program's name), and variables for the flags not given.
    pub fn load<I>(arguments: I) -> Result<Self, Stop>
    where
        I: IntoIterator,
        I::Item: Into<OsString> + Clone,
    {
        let arguments: Vec<OsString> = arguments.into_iter().map(Into::into).collect();
        let is_empty =
            |variable: &OsStr| std::env::var_os(variable).is_some_and(|value| value.is_empty());
        without_variables(Self::command(), is_empty)
            .try_get_matches_from(&arguments)
            .and_then(|matches| Self::from_arg_matches(&matches))
            .map_err(|error| match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Stop::Answer(with_every_variable(&arguments).unwrap_or(error))
                }
                _ => Stop::BadSetting(sentence(&error)),
            })
    }
}

/// The command as it is without those variables that are empty.
///
/// The database's stays: a service must not begin with a new file where somebody meant to name its database.
fn without_variables(command: Command, is_empty: impl Fn(&OsStr) -> bool) -> Command {
    command.mut_args(|argument| {
        let ignored =
            argument.get_id() != "database_url" && argument.get_env().is_some_and(&is_empty);
        if ignored {
            argument.env(Resettable::Reset)
        } else {
            argument
        }
    })
}

/// Help that names every variable, also those that are empty now.
fn with_every_variable(arguments: &[OsString]) -> Option<clap::Error> {
    Settings::command()
        .try_get_matches_from(arguments)
        .err()
        .filter(|error| {
            matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            )
        })
}

/// What is wrong, in one sentence. clap's own message has several lines, and quotes the value, which may be a secret.
fn sentence(error: &clap::Error) -> String {
    use std::error::Error as _;

    let argument = error
        .get(ContextKind::InvalidArg)
        .map(ToString::to_string)
        .unwrap_or_default();
    let flag = argument
        .split([' ', '='])
        .next()
        .filter(|flag| flag.starts_with('-'));
    match (error.kind(), flag) {
        (ErrorKind::ValueValidation, Some(flag)) => {
            let reason = error
                .source()
                .map_or_else(|| "is not valid".to_owned(), ToString::to_string);
            format!("{} {reason}.", with_variable(flag))
        }
        (ErrorKind::InvalidValue, Some(flag)) => {
            format!("{} needs a value.", with_variable(flag))
        }
        (ErrorKind::ArgumentConflict, Some(flag)) => {
            format!("{} is given more than once.", with_variable(flag))
        }
        (ErrorKind::UnknownArgument, Some(flag)) => {
            format!("There is no flag {flag}; --help lists those there are.")
        }
        (ErrorKind::UnknownArgument, None) => {
            "Every setting is a flag, such as --listen; --help lists them.".to_owned()
        }
        (ErrorKind::InvalidUtf8, _) => "A setting is not valid UTF-8.".to_owned(),
        _ => "The settings cannot be understood; --help lists them.".to_owned(),
    }
}

/// `--listen (VITALS_LISTEN)`: clap does not say which of the two the value came from.
fn with_variable(flag: &str) -> String {
    let command = Settings::command();
    let variable = command
        .get_arguments()
        .find(|argument| argument.get_long() == flag.strip_prefix("--"))
        .and_then(|argument| argument.get_env())
        .map(|variable| variable.to_string_lossy().into_owned());
    match variable {
        Some(variable) => format!("{flag} ({variable})"),
        None => flag.to_owned(),
    }
}

#[cfg(test)]
mod tests;
