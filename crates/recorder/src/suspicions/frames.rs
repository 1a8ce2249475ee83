//! Finds the frame of the application in a stack: its file, line and function.
//!
//! A frame is the application's if its file is neither a dependency's nor the standard library's, and its function is not
//! ours. Without a file, the name of its crate decides. No path of the machine is kept: a file is named from its `src`,
//! `tests`, `examples` or `benches` on.

use std::{cell::OnceCell, collections::HashMap, fmt, path::Path, sync::Arc};

use crate::code_location::within_crate;

use super::{
    program::{Function, Program},
    stack::Stack,
};

/// The most addresses whose frames are remembered. Beyond, all are forgotten.
const MOST_ADDRESSES: usize = 4096;

/// The longest name of a function that is kept, in bytes.
const LONGEST_NAME: usize = 256;

/// The crates that run between the application and its database, or that run the application, and our own.
const FOREIGN: &str = "
    actix actix_codec actix_cors actix_files actix_http actix_identity actix_macros actix_multipart actix_router actix_rt
    actix_server actix_service actix_session actix_tls actix_utils actix_web addr2line alloc anyhow async_trait axum
    backtrace bb8 core deadpool deadpool_runtime diesel diesel_async diesel_dynamic_schema diesel_migrations futures
    futures_channel futures_core futures_executor futures_util hashbrown hyper hyper_util libsqlite3_sys local_channel log
    migrations_internals mio mobc mysql_async mysqlclient_sys native_tls opentelemetry parking_lot parking_lot_core
    pin_project pin_project_lite pq_sys proc_macro r2d2 rayon rayon_core rustls scheduled_thread_pool scoped_futures serde
    serde_json std tokio tokio_postgres tokio_rustls tokio_stream tokio_util tower tower_http tower_service tracing
    tracing_actix_web tracing_core tracing_futures tracing_subscriber
    actix_vitals exporter_web_config vitals_console vitals_otlp vitals_recorder vitals_registry
";

/// Where our own crates are in our workspace.
const OUR_DIRECTORIES: [&str; 5] = [
    "/crates/console/src/",
    "/crates/otlp/src/",
    "/crates/recorder/src/",
    "/crates/registry/src/",
    "/crates/vitals/src/",
];

/// Where cargo and rustc put dependencies and the standard library.
const FOREIGN_DIRECTORIES: [&str; 4] = [
    "/git/checkouts/",
    "/registry/src/",
    "/rustc/",
    "/rustlib/src/",
];

/// How closures end the name of a function.
const CLOSURES: [&str; 2] = ["::{{closure}}", "::{closure}"];

/// What is said in place of a function that has no name.
const NAMELESS: [(&str, &str); 3] = [
    ("{async_fn", "an async function"),
    ("{async_block", "an async block"),
    ("{closure", "a closure"),
];

/// A place in the code of the application.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CodeLocation {
    /// The file, from the directory of its crate on: `src/orders.rs`. `None` if the program was built without debug lines.
    pub file: Option<Arc<str>>,
    /// The line in the file.
    pub line: Option<u32>,
    /// The function with its modules, without closures: `shop::orders::list`.
    pub function: Arc<str>,
}

impl fmt::Display for CodeLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.file, self.line) {
            (Some(file), Some(line)) => write!(f, "{file}:{line} in {}", self.function),
            (Some(file), None) => write!(f, "{file} in {}", self.function),
            (None, _) => write!(f, "{} (built without debug lines)", self.function),
        }
    }
}

/// What an address in a stack is.
#[derive(Clone, Debug)]
enum Frame {
    Foreign,
    /// Code of the application, as far as is known.
    Application(CodeLocation),
}

/// Finds the frames of addresses, and remembers them.
#[derive(Default)]
pub(super) struct Frames {
    known: HashMap<usize, Frame>,
    /// The debug information, once it is loaded. `None` within if it cannot be.
    program: OnceCell<Option<Program>>,
}

impl Frames {
    /// Returns the innermost frame of the application that has a file, or the innermost without one.
    pub(super) fn application_frame(&mut self, stack: &Stack) -> Option<CodeLocation> {
        let mut without_file = None;
        for address in stack.addresses() {
            let Frame::Application(location) = self.frame(address) else {
                continue;
            };
            if location.file.is_some() {
                return Some(location.clone());
            }
            without_file.get_or_insert_with(|| location.clone());
        }
        without_file
    }

    fn frame(&mut self, address: usize) -> &Frame {
        if self.known.len() >= MOST_ADDRESSES && !self.known.contains_key(&address) {
            self.known.clear();
        }
        let program = &self.program;
        self.known.entry(address).or_insert_with(|| {
            let program = program.get_or_init(Program::load);
            let functions = program
                .iter()
                .flat_map(|program| program.functions(address));
            application_frame(functions.collect())
        })
    }
}

/// Finds the innermost function of the application among those at one address, the innermost first. Several functions are
/// at one address if they are inlined.
fn application_frame(functions: Vec<Function>) -> Frame {
    let mut found: Option<CodeLocation> = None;
    for function in functions {
        let (name, file) = (&*function.name, function.file.as_deref().map(Path::new));
        let Some(known) = &mut found else {
            found = location(name, file, function.line);
            continue;
        };
        // The function that an inlined one is part of may have a better name.
        if clarity(name) > clarity(&known.function) && is_application(name, file) {
            known.function = without_closures(name).into();
        }
    }
    found.map_or(Frame::Foreign, Frame::Application)
}

/// How much a name says. With line tables alone, many functions are known by their last name only, and closures and
/// asynchronous functions by none.
fn clarity(function: &str) -> u8 {
    let name = function.split('<').next().unwrap_or_default();
    match name {
        "" => 2,
        _ if name.contains("::") => 2,
        _ if name.starts_with('{') || NAMELESS.iter().any(|(_, said)| name == *said) => 0,
        _ => 1,
    }
}

/// The location of a function, if it is the application's.
fn location(function: &str, file: Option<&Path>, line: Option<u32>) -> Option<CodeLocation> {
    is_application(function, file).then(|| CodeLocation {
        file: file.map(|file| within_crate(file).into()),
        line: line.filter(|_| file.is_some()),
        function: without_closures(function).into(),
    })
}

/// Whether a function is the application's.
fn is_application(function: &str, file: Option<&Path>) -> bool {
    let crates = crates_of(function);
    let mut crates = crates.iter().flatten();
    // An inlined function may have no crate in its name. Its file is known then.
    let is_unknown = crates.clone().next().is_none();
    let is_foreign = crates.all(|name| FOREIGN.split_whitespace().any(|foreign| foreign == *name));
    match file {
        Some(file) => (is_unknown || !is_foreign) && is_application_file(file),
        None => !is_unknown && !is_foreign,
    }
}

/// The crates that a function is named after: one, or two if it is of a trait that is implemented for a type.
fn crates_of(function: &str) -> [Option<&str>; 2] {
    let (of_type, of_trait) = match function.strip_prefix('<') {
        Some(implementation) => implementation
            .split_once(" as ")
            .unwrap_or((implementation, "")),
        None => (function, ""),
    };
    [of_type, of_trait].map(crate_of)
}

/// The crate of a path. `None` if it has none, as a primitive type or a function of C.
fn crate_of(path: &str) -> Option<&str> {
    let mut path = path;
    let prefixes = [
        "<", "&", "(", "[", "mut ", "dyn ", "*const ", "*mut ", "impl ",
    ];
    while let Some(rest) = prefixes.iter().find_map(|prefix| path.strip_prefix(prefix)) {
        path = rest;
    }
    let end = path.find(|byte: char| !byte.is_alphanumeric() && byte != '_')?;
    let (name, rest) = path.split_at(end);
    // Newer compilers add the hash of a crate in brackets to its name.
    let rest = match rest.strip_prefix('[') {
        Some(hash) => hash.split_once(']').map_or("", |(_, rest)| rest),
        None => rest,
    };
    (!name.is_empty() && rest.starts_with("::")).then_some(name)
}

/// Whether a file is written in Rust, and is neither a dependency's, where cargo or rustc have put it, nor ours.
fn is_application_file(file: &Path) -> bool {
    let path = file.to_string_lossy().replace('\\', "/");
    let is_vendored =
        (path.rsplit_once("/src/")).is_some_and(|(package, _)| package.contains("/vendor/"));
    // In our own workspace our crates are not where cargo puts dependencies.
    let is_ours = file!().starts_with("crates/")
        && OUR_DIRECTORIES
            .iter()
            .any(|directory| path.contains(directory));
    let is_of_a_dependency = is_vendored
        || path.starts_with("library/")
        || FOREIGN_DIRECTORIES
            .iter()
            .any(|directory| path.contains(directory));
    let is_rust = file.extension().is_some_and(|extension| extension == "rs");
    is_rust && !is_ours && !is_of_a_dependency
}

/// The name of a function without its closures, and without types if it has no modules, cut to a length.
fn without_closures(function: &str) -> &str {
    let mut name = function;
    while let Some(outer) = CLOSURES
        .iter()
        .find_map(|closure| name.strip_suffix(closure))
        .or_else(|| {
            let (outer, closure) = name.rsplit_once("::{closure#")?;
            closure.ends_with('}').then_some(outer)
        })
    {
        name = outer;
    }
    if clarity(name) < 2 {
        name = name.split('<').next().unwrap_or_default();
        let mut nameless = NAMELESS.iter();
        if let Some((_, said)) = nameless.find(|(kind, _)| name.starts_with(kind)) {
            name = said;
        }
    }
    let mut ends = (0..=LONGEST_NAME.min(name.len())).rev();
    let end = ends.find(|end| name.is_char_boundary(*end));
    end.map_or("", |end| &name[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "/home/me/shop/src/orders.rs";
    const REGISTRY: &str = "/home/me/.cargo/registry/src/index-0123456789abcdef/x-1.0.0/src/lib.rs";
    const STD: &str = "/rustc/59807616/library/core/src/ops/function.rs";

    /// A function, its file, whether it is the application's, and why.
    type Row = (&'static str, Option<&'static str>, bool, &'static str);

    const FUNCTIONS: &[Row] = &[
        ("shop::orders::list", Some(OWN), true, "a function"),
        ("shop::orders::list", None, true, "without debug lines"),
        (
            "shop[5af3]::orders::list",
            Some(OWN),
            true,
            "with the hash of the crate",
        ),
        (
            "<shop::Order as core::ops::Drop>::drop",
            Some(OWN),
            true,
            "a foreign trait of its own type",
        ),
        (
            "<diesel::SqliteConnection as shop::Engine>::load",
            Some(OWN),
            true,
            "its own trait of a foreign type",
        ),
        (
            "<&mut diesel::PgConnection as diesel::Connection>::load",
            None,
            false,
            "both foreign",
        ),
        (
            "<i32 as shop::Engine>::load",
            None,
            true,
            "its own trait of a primitive",
        ),
        (
            "shop::orders::list",
            Some(REGISTRY),
            false,
            "code of a dependency, named after the caller",
        ),
        (
            "sea_query::build",
            Some(REGISTRY),
            false,
            "a dependency that is not listed",
        ),
        (
            "sea_query::build",
            Some("/home/me/.cargo/git/checkouts/sea-1/a/src/lib.rs"),
            false,
            "from git",
        ),
        (
            "sea_query::build",
            Some("/home/me/shop/vendor/sea-query/src/lib.rs"),
            false,
            "vendored",
        ),
        (
            "shop::vendor::list",
            Some("/home/me/shop/src/vendor/list.rs"),
            true,
            "a module named vendor",
        ),
        (
            "core::ops::function::FnOnce::call_once",
            Some(STD),
            false,
            "the standard library",
        ),
        (
            "<alloc::boxed::Box<dyn core::any::Any> as core::ops::FnOnce<()>>::call_once",
            None,
            false,
            "both of the standard library",
        ),
        (
            "actix_web::handler::handler_service",
            None,
            false,
            "the runtime",
        ),
        (
            "vitals_recorder::suspicions::stack::Stack::capture",
            Some("/x/crates/recorder/src/suspicions/stack.rs"),
            false,
            "ours",
        ),
        (
            "<shop::Work as vitals_recorder::jobs::JobOutput>::is_failure",
            Some(OWN),
            true,
            "our trait of its own type",
        ),
        (
            "sqlite3_step",
            Some("/build/sqlite3.c"),
            false,
            "a function of C",
        ),
        ("main", None, false, "the entry"),
    ];

    #[test]
    fn the_functions_of_the_application_are_told_from_all_others() {
        for &(function, file, expected, why) in FUNCTIONS {
            let found = location(function, file.map(Path::new), Some(7));
            assert_eq!(found.is_some(), expected, "{why}: {function} in {file:?}");
            let has_line = found.is_some_and(|found| found.line.is_some());
            assert_eq!(has_line, expected && file.is_some(), "{why}");
        }
    }

    #[test]
    fn a_function_is_named_without_its_closures() {
        for (function, expected) in [
            ("shop::orders::list", "shop::orders::list"),
            (
                "shop::orders::list::{{closure}}::{{closure}}",
                "shop::orders::list",
            ),
            (
                "shop::orders::list::{closure#0}::{closure#1}",
                "shop::orders::list",
            ),
            (
                "<shop::Orders as shop::List>::list::{{closure}}",
                "<shop::Orders as shop::List>::list",
            ),
            ("list<diesel::SqliteConnection>", "list"),
            ("{async_fn#0}<shop::Order>", "an async function"),
            ("{closure#1}", "a closure"),
            ("shop::list<shop::Order>", "shop::list<shop::Order>"),
        ] {
            assert_eq!(without_closures(function), expected);
        }
        let long = "ä".repeat(LONGEST_NAME);
        assert_eq!(without_closures(&long).len(), LONGEST_NAME);
    }
}
