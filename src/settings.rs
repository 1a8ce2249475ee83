//! The settings of the service, from flags and environment variables.
//!
//! One struct for each area has a field for each setting: its flag, variable, default, text in `--help` and type. The area
//! is handed to the part that it is for, and `docs/SETTINGS.md` is generated from it. `values` parses the values,
//! `database_url` and `postgres_url` the address of the database. Nothing here opens, binds or reads anything.

#![allow(
    clippy::doc_markdown,
    reason = "the docs of settings are the text of --help"
)]

mod database_url;
#[cfg(feature = "postgres")]
mod postgres_url;
mod values;

use std::{
    ffi::{OsStr, OsString},
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use actix_vitals::{
    Builder, Naming, Vitals,
    ops::{LogControl, OpsSettings},
    otlp::{OtlpEndpoint, OtlpError, OtlpSettings},
};
use clap::{
    Args, Command, CommandFactory as _, FromArgMatches as _, Parser,
    builder::Resettable,
    error::{ContextKind, ErrorKind},
};

use self::values::{GIBIBYTE, KIBIBYTE, MEBIBYTE};

#[cfg(feature = "postgres")]
pub use self::postgres_url::PostgresUrl;
pub use self::{
    database_url::{DatabaseUrl, SqliteLocation},
    values::{LatencyBuckets, LogFilter, LogFormat},
};

/// The exit code of an invalid setting.
pub(super) const EXIT_BAD_SETTING: u8 = 2;

const EXAMPLES: &str = "\
Examples:
  Serve on http://127.0.0.1:8000 with the database in ./vitals.db:
      actix-vitals
  Serve the network, and the ops endpoints on an address of their own:
      actix-vitals --listen 0.0.0.0:8000 --ops-listen 127.0.0.1:9100
  Use any free port (it is printed at start) and a database in memory:
      actix-vitals --listen 127.0.0.1:0 --database-url sqlite://:memory:
  Use a PostgreSQL server, check its certificate, and take the password from PGPASSWORD or ~/.pgpass:
      actix-vitals --database-url 'postgres://vitals@db.example.org/vitals?sslmode=verify-full'
  The same by environment, as in a unit file or a container:
      VITALS_LISTEN=0.0.0.0:8000 DATABASE_URL=sqlite:///var/lib/vitals/vitals.db actix-vitals

A flag takes precedence over its variable. An empty variable counts as unset, except for DATABASE_URL. Durations are written like 500ms, 2s or 1m30s, sizes like 65536, 64KiB or 256MiB.
An invalid setting ends the program with one sentence and exit code 2, a failed start with exit code 1.";

/// What follows the list of settings in `--help`.
fn after_help() -> String {
    let absent = [
        ("PostgreSQL", cfg!(feature = "postgres")),
        ("TLS", cfg!(feature = "tls")),
    ];
    let absent = absent.iter().filter(|(_, is_built_in)| !is_built_in);
    let notes = absent.map(|(name, _)| {
        format!("\nThis program is built without {name}: a setting that needs it is not valid.")
    });
    notes.fold(EXAMPLES.to_owned(), |text, note| text + &note)
}

/// All settings, by area.
#[derive(Debug, Clone, Parser)]
#[command(name = "actix-vitals", version, about, long_about = None, after_help = after_help())]
#[command(
    about = "A REST service over a database. It measures itself, for Prometheus and OpenMetrics."
)]
pub struct Settings {
    /// Listeners, workers and shutdown.
    #[command(flatten)]
    pub server: ServerSettings,
    /// Time and resources that a client may use.
    #[command(flatten)]
    pub limits: LimitSettings,
    /// TLS, and who may use the ops endpoints.
    #[command(flatten)]
    pub access: AccessSettings,
    /// The database and the pool of connections to it.
    #[command(flatten)]
    pub database: DatabaseSettings,
    /// What is recorded, and in which detail.
    #[command(flatten)]
    pub metrics: MetricsSettings,
    /// Where metrics are pushed to, and how often.
    #[command(flatten)]
    pub push: PushSettings,
    /// What is logged, and in which form.
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

    /// Address for the ops endpoints (/metrics, /health, /livez, /readyz, /ops, /dashboard, /docs), which then leave the public one
    #[arg(long, env = "VITALS_OPS_LISTEN", value_name = "IP:PORT", value_parser = values::address)]
    pub ops_listen: Option<SocketAddr>,

    /// Worker threads that serve requests [default: the number of cores]
    // Actix supports up to 512.
    #[arg(long, env = "VITALS_WORKERS", value_name = "COUNT", allow_hyphen_values = true, value_parser = values::whole(1..=512_usize))]
    pub workers: Option<usize>,

    /// How long to keep serving at shutdown, with /readyz at 503, before the listeners close: as long as a load balancer takes to notice
    #[arg(long, env = "VITALS_DRAIN_DELAY", value_name = "DURATION", default_value = "0s", allow_hyphen_values = true, value_parser = values::duration)]
    pub drain_delay: Duration,

    /// How long requests in flight may take to finish at shutdown, after that delay
    #[arg(long, env = "VITALS_SHUTDOWN_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = values::duration)]
    pub shutdown_timeout: Duration,
}

/// Time and resources that a client may use. Each listener applies them for itself.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitSettings {
    /// How long the head of each request may take, from its first byte on, and a new connection to send its first byte; then 408
    #[arg(long, env = "VITALS_HEAD_TIMEOUT", value_name = "DURATION", default_value = "10s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub head_timeout: Duration,

    /// How long the body of a request may take; each received KiB adds a second. Then 408
    #[arg(long, env = "VITALS_BODY_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub body_timeout: Duration,

    /// How long a client may read nothing of an answer that waits for it, before the connection is closed
    #[arg(long, env = "VITALS_RESPONSE_TIMEOUT", value_name = "DURATION", default_value = "30s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub response_timeout: Duration,

    /// How long a connection may wait for its next request, before it is closed
    #[arg(long, env = "VITALS_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub idle_timeout: Duration,

    /// Maximum number of open connections; further ones are answered with 503
    #[arg(long, env = "VITALS_MAX_CONNECTIONS", value_name = "COUNT", default_value = "10000", allow_hyphen_values = true, value_parser = values::whole(1..=1_000_000_usize))]
    pub max_connections: usize,

    /// Maximum number of open connections of one address, or of one /64 network of IPv6; further ones are answered with 503
    #[arg(long, env = "VITALS_MAX_CONNECTIONS_PER_ADDRESS", value_name = "COUNT", default_value = "1000", allow_hyphen_values = true, value_parser = values::whole(1..=1_000_000_usize))]
    pub max_connections_per_address: usize,

    /// Maximum number of headers of a request; with more the answer is 431
    // The parser of HTTP/1 supports up to 96.
    #[arg(long, env = "VITALS_MAX_HEADERS", value_name = "COUNT", default_value = "96", allow_hyphen_values = true, value_parser = values::whole(1..=96_usize))]
    pub max_headers: usize,

    /// Largest head of a request, its URL included, in bytes, or with a unit: KiB; a larger one is answered with 431
    // The parser of HTTP/1 supports up to 128 KiB.
    #[arg(long, env = "VITALS_MAX_HEADER_BYTES", value_name = "SIZE", default_value = "16KiB", allow_hyphen_values = true, value_parser = values::size(KIBIBYTE..=128 * KIBIBYTE))]
    pub max_header_bytes: usize,

    /// Largest request body, in bytes, or with a unit: KiB, MiB; a larger one is answered with 413
    #[arg(long, env = "VITALS_BODY_LIMIT", value_name = "SIZE", default_value = "64KiB", allow_hyphen_values = true, value_parser = values::size(KIBIBYTE..=64 * MEBIBYTE))]
    pub body_limit: usize,

    /// How deep the arrays and objects of a request's JSON may be nested; deeper, the answer is 400
    // The parser of JSON supports up to 127.
    #[arg(long, env = "VITALS_JSON_DEPTH", value_name = "COUNT", default_value = "32", allow_hyphen_values = true, value_parser = values::whole(1..=127_usize))]
    pub json_depth: usize,

    /// Maximum memory for all bodies that wait for their clients, in bytes, or with a unit: MiB, GiB; one client gets at most half of it. A body that does not fit is answered with 503
    // One client needs 32 MiB for the history of the live page.
    #[arg(long, env = "VITALS_ANSWER_MEMORY", value_name = "SIZE", default_value = "256MiB", allow_hyphen_values = true, value_parser = values::size(32 * MEBIBYTE..=1024 * GIBIBYTE))]
    pub answer_memory: usize,
}

/// TLS, and who may use the ops endpoints. The files are read again when they change, and at SIGHUP.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Access")]
pub struct AccessSettings {
    /// Web configuration of the ops endpoints, in the format of Prometheus exporters: TLS, basic authentication, headers
    #[arg(long, env = "VITALS_WEB_CONFIG", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// File with a token of at least 16 characters that opens the ops endpoints (Authorization: Bearer)
    #[arg(long, env = "VITALS_OPS_TOKEN_FILE", value_name = "FILE")]
    pub ops_token_file: Option<PathBuf>,

    /// Answer /livez without credentials, for a supervisor that has none
    #[arg(long, env = "VITALS_OPEN_LIVEZ", value_parser = values::switch)]
    pub open_livez: bool,

    /// Certificate of the public listener, in PEM, with its chain; the listener then serves HTTPS
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

    /// Maximum number of open connections to the database; with a file of SQLite, one of them is for writes
    #[arg(long, env = "VITALS_POOL_SIZE", value_name = "COUNT", default_value = "10", allow_hyphen_values = true, value_parser = values::whole(1..=10_000_u32))]
    pub pool_size: u32,

    /// How long a request may wait for a connection, a write for the lock of an SQLite file, and a statement run on PostgreSQL, before the answer is 503
    #[arg(long, env = "VITALS_POOL_TIMEOUT", value_name = "DURATION", default_value = "2s", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub pool_timeout: Duration,

    /// For how long after PostgreSQL's last answer a connection is used without a check; 0s checks each connection before each use
    #[arg(long, env = "VITALS_POOL_CHECK_AFTER", value_name = "DURATION", default_value = "500ms", allow_hyphen_values = true, value_parser = values::duration)]
    pub pool_check_after: Duration,
}

/// What is recorded, and in which detail.
#[allow(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Metrics")]
pub struct MetricsSettings {
    /// Maximum number of series of a family; label sets beyond it share one series labelled `overflow`
    #[arg(long, env = "VITALS_MAX_SERIES", value_name = "COUNT", default_value = "2000", allow_hyphen_values = true, value_parser = values::whole(1..=1_000_000_usize))]
    pub max_series: usize,

    /// Maximum number of native histogram buckets that are exposed for a series
    #[arg(long, env = "VITALS_NATIVE_BUCKETS", value_name = "COUNT", default_value = "160", allow_hyphen_values = true, value_parser = values::whole(1..=10_000_usize))]
    pub native_buckets: usize,

    /// Names of the metrics: vitals, or otel for those of OpenTelemetry's semantic conventions
    #[arg(long, env = "VITALS_NAMING", value_name = "NAMES", default_value = "vitals", value_parser = values::naming)]
    pub naming: Naming,

    /// Upper bounds of the latency histograms' classic buckets, in seconds, ascending, separated by commas [default: 0.0005,0.001,0.0025,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10; with --naming otel those of OpenTelemetry]
    #[arg(long, env = "VITALS_LATENCY_BUCKETS", value_name = "SECONDS", allow_hyphen_values = true, value_parser = values::latency_buckets)]
    pub latency_buckets: Option<LatencyBuckets>,

    /// Show in OpenMetrics when each counter and histogram began (_created); without Prometheus' feature flag created-timestamp-zero-ingestion each is stored as a series
    #[arg(long, env = "VITALS_CREATED", value_parser = values::switch)]
    pub created: bool,

    /// Labels that every series gets, such as region=eu; separated by commas
    #[arg(long = "label", env = "VITALS_LABEL", value_name = "NAME=VALUE", value_delimiter = ',', value_parser = values::label)]
    pub labels: Vec<(String, String)>,

    /// Endpoints that are not recorded, by route pattern (/data/{item_id}), or `unmatched`, or `*` for all; separated by commas
    #[arg(long, env = "VITALS_EXCLUDE", value_name = "PATTERN", value_delimiter = ',', value_parser = values::endpoint)]
    pub exclude: Vec<String>,

    /// How often a request must run one statement for a loop (N+1) to be suspected; 0 turns this off
    #[arg(long, env = "VITALS_N_PLUS_ONE", value_name = "COUNT", default_value = "10", allow_hyphen_values = true, value_parser = values::whole(0..=1_000_000_u32))]
    pub n_plus_one: u32,

    /// How long a single poll of a request may keep its worker's event loop busy; longer ones are counted and logged as stalls
    #[arg(long, env = "VITALS_STALL_THRESHOLD", value_name = "DURATION", default_value = "100ms", allow_hyphen_values = true, value_parser = values::positive_duration)]
    pub stall_threshold: Duration,

    /// How long a connection may be held before the log names the request or job that has it, and the code that took it; 0s turns it off
    #[arg(long, env = "VITALS_LEAK_THRESHOLD", value_name = "DURATION", default_value = "1m", allow_hyphen_values = true, value_parser = values::duration)]
    pub leak_threshold: Duration,

    /// How long a statement may take before the log names it, with its endpoint and line of code; 0s turns it off
    #[arg(long, env = "VITALS_SLOW_QUERY", value_name = "DURATION", default_value = "500ms", allow_hyphen_values = true, value_parser = values::duration)]
    pub slow_query: Duration,

    /// Find the line of code that ran a slow or repeated statement: on or off. Its stack is captured at most once an hour for each statement and endpoint
    #[arg(long, env = "VITALS_CODE_LOCATIONS", value_name = "on|off", default_value = "on", value_parser = values::on_or_off, action = clap::ArgAction::Set)]
    pub code_locations: bool,

    /// Requests that are kept with their timelines for /ops/requests/{id}: slow, failed, suspicious and chosen ones; 0 keeps none
    #[arg(long, env = "VITALS_KEEP_REQUESTS", value_name = "COUNT", default_value = "1000", allow_hyphen_values = true, value_parser = values::whole(0..=2500_usize))]
    pub keep_requests: usize,

    /// Statements that are kept by shape for /ops/statements; further ones are counted together, as (other)
    #[arg(long, env = "VITALS_STATEMENTS", value_name = "COUNT", default_value = "1000", allow_hyphen_values = true, value_parser = values::whole(1..=100_000_usize))]
    pub statements: usize,

    /// Record the bytes that are allocated for each request (http_request_allocated_bytes)
    #[arg(long, env = "VITALS_ALLOCATED_BYTES", value_parser = values::switch)]
    pub allocated_bytes: bool,

    /// Allow profiles of the processor time and of the heap, under /ops/profile; allocations are then sampled, and the program starts itself a second time to turn that on
    #[arg(long, env = "VITALS_PROFILING", value_parser = values::switch)]
    pub profiling: bool,

    /// Ask the database for the plans of the costliest statements, on one further connection for each pool: on or off. Statements are never executed for it
    #[arg(long, env = "VITALS_PLANS", value_name = "on|off", default_value = "on", value_parser = values::on_or_off, action = clap::ArgAction::Set)]
    pub plans: bool,

    /// Report to clients how the time of their requests was spent, in the header Server-Timing
    #[arg(long, env = "VITALS_SERVER_TIMING", value_parser = values::switch)]
    pub server_timing: bool,
}

/// Where metrics and traces are pushed to, and how often.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Push")]
pub struct PushSettings {
    /// OTLP receiver to push all metrics and the traces of kept requests to, such as http://collector:4318; the other variables OTEL_EXPORTER_OTLP_… apply as well [default: OTEL_EXPORTER_OTLP_ENDPOINT; without it, no push]
    #[arg(id = "otlp_endpoint", long = "otlp-endpoint", env = "VITALS_OTLP_ENDPOINT", value_name = "URL", hide_env_values = true, value_parser = values::otlp_endpoint)]
    pub endpoint: Option<OtlpEndpoint>,

    /// How often metrics and traces are pushed
    #[arg(id = "otlp_interval", long = "otlp-interval", env = "VITALS_OTLP_INTERVAL", value_name = "DURATION", default_value = "15s", allow_hyphen_values = true, value_parser = values::push_interval)]
    pub interval: Duration,
}

impl PushSettings {
    /// The push with these settings and the standard variables of OpenTelemetry, if there is an endpoint.
    pub fn to_otlp(&self) -> Result<Option<OtlpSettings>, OtlpError> {
        let settings = OtlpSettings::from_env(self.endpoint.clone())?;
        Ok(settings.map(|settings| {
            settings
                .interval(self.interval)
                .service(crate::NAME, env!("CARGO_PKG_VERSION"))
        }))
    }
}

/// What is logged, and in which form.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Logging")]
pub struct LogSettings {
    /// Lowest level to log (off, error, warn, info, debug, trace), or levels by target: info,actix_server=warn. actix_http and h2 report what clients do wrong, as often as a client likes
    #[arg(id = "log", long = "log", env = "VITALS_LOG", value_name = "FILTER", default_value = "info,actix_http=off,h2=off", value_parser = values::log_filter)]
    pub filter: LogFilter,

    /// Form of the log, which goes to stderr: text or json
    #[arg(id = "log_format", long = "log-format", env = "VITALS_LOG_FORMAT", value_name = "FORMAT", default_value = "text", value_parser = values::log_format)]
    pub format: LogFormat,
}

/// Why the program ends after reading its settings.
#[derive(Debug)]
pub enum Stop {
    /// The text of `--help` or `--version`.
    Answer(clap::Error),
    /// A sentence about an invalid setting. It names the setting, and never contains the URL of the database.
    BadSetting(String),
}

impl Stop {
    /// Prints the answer on stdout or the sentence on stderr, and returns the exit code.
    pub fn report(&self) -> ExitCode {
        match self {
            Self::Answer(answer) => {
                // A closed stdout cannot be reported anywhere.
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
    /// The monitoring with these settings, to be built. `log` replaces the filter of the log.
    pub fn to_builder(&self, log: LogControl) -> Builder {
        let ops = OpsSettings::everything()
            .with_log(log)
            .service(crate::NAME, env!("CARGO_PKG_VERSION"))
            .documentation("docs");
        let metrics = &self.metrics;
        let ops = if metrics.profiling {
            ops.with_profiles()
        } else {
            ops
        };
        let labels = metrics.labels.iter();
        let builder = labels
            .fold(Vitals::builder(), |builder, (name, value)| {
                builder.label(name, value)
            })
            .naming(metrics.naming)
            .max_series(metrics.max_series)
            .native_buckets(metrics.native_buckets)
            .created(metrics.created)
            .exclude(&metrics.exclude)
            .n_plus_one(metrics.n_plus_one)
            .statements(metrics.statements)
            .stall_threshold(metrics.stall_threshold)
            .leak_threshold(metrics.leak_threshold)
            .slow_query(metrics.slow_query)
            .code_locations(metrics.code_locations)
            .keep_requests(metrics.keep_requests)
            .plans(metrics.plans)
            .server_timing(metrics.server_timing)
            .answer_memory(self.limits.answer_memory)
            .ops_endpoints(["/docs", "/docs/{part}", "/openapi.json"])
            .ops(ops)
            .allocated_bytes(metrics.allocated_bytes)
            .jemalloc();
        match &metrics.latency_buckets {
            Some(buckets) => builder.latency_buckets(buckets.as_slice()),
            None => builder,
        }
    }

    /// Reads flags from `arguments` (the first is the program's name), and environment variables for the flags that are not
    /// given.
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

/// The command without the variables that are empty.
///
/// `DATABASE_URL` stays, and is an error when it is empty: the service must not create a new file because the name of its
/// database is missing.
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

/// The help text with all variables, including those that are empty now.
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

/// What is wrong, in one sentence. clap's own message has several lines and quotes the value, which may be a secret.
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
        (ErrorKind::TooManyValues, Some(flag)) => {
            format!(
                "{} takes no value as a flag: its name alone turns it on.",
                with_variable(flag)
            )
        }
        (ErrorKind::UnknownArgument, Some(flag)) => {
            format!("There is no flag {flag}; --help lists all flags.")
        }
        (ErrorKind::UnknownArgument, None) => {
            "Every setting is a flag, such as --listen; --help lists all flags.".to_owned()
        }
        (ErrorKind::InvalidUtf8, _) => "A setting is not valid UTF-8.".to_owned(),
        _ => "The settings are not valid; --help lists all flags.".to_owned(),
    }
}

/// `--listen (VITALS_LISTEN)`: both, because clap does not report which of them the value came from.
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
