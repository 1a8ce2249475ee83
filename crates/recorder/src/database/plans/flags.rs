//! What is notable about a plan: each flag with a sentence, and the index that would serve, as advice.

use std::iter;

use super::node::PlanStep;
use super::sqlite::INDEX_CONDITION;
use crate::database::sql::Dialect;
use crate::database::sql::filters::{self, FilterColumn, StatementFilters};

/// A table with as many rows is large: reading all of it takes milliseconds.
const MANY_ROWS: f64 = 10_000.0;

/// A nested loop that looks at as many pairs of rows is slow.
const MANY_PAIRS: f64 = 1_000_000.0;

/// A filter that keeps a larger share of a table than this is served as well without an index.
const LARGE_SHARE: f64 = 0.2;

/// What PostgreSQL needs for a row that it sorts, besides its columns, in bytes.
const ROW_OVERHEAD: f64 = 24.0;

/// The most columns of an index that is advised.
const MOST_COLUMNS: usize = 4;

/// Words that PostgreSQL or SQLite does not take for the name of a table or a column without quotes.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "add", "all", "alter", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization",
    "autoincrement", "between", "binary", "both", "case", "cast", "check", "collate", "collation", "column", "commit",
    "concurrently", "constraint", "create", "cross", "current_catalog", "current_date", "current_role",
    "current_schema", "current_time", "current_timestamp", "current_user", "default", "deferrable", "delete", "desc",
    "distinct", "do", "drop", "else", "end", "escape", "except", "exists", "false", "fetch", "for", "foreign",
    "freeze", "from", "full", "grant", "group", "having", "if", "ilike", "in", "index", "initially", "inner", "insert",
    "intersect", "into", "is", "isnull", "join", "lateral", "leading", "left", "like", "limit", "localtime",
    "localtimestamp", "natural", "not", "nothing", "notnull", "null", "offset", "on", "only", "or", "order", "outer",
    "overlaps", "placing", "primary", "references", "returning", "right", "select", "session_user", "set", "similar",
    "some", "symmetric", "system_user", "table", "tablesample", "then", "to", "trailing", "transaction", "true",
    "union", "unique", "update", "user", "using", "values", "variadic", "verbose", "when", "where", "window", "with",
];

/// The kind of a [`PlanFlag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanFlagKind {
    /// All rows of a large table are read.
    SequentialScan,
    /// No index serves the filter of a large table.
    MissingIndex,
    /// A sort needs more memory than it may have, and uses the disk.
    SortOnDisk,
    /// A nested loop looks at very many pairs of rows.
    NestedLoop,
    /// SQLite sorts or groups in a temporary structure, because no index has the order.
    TemporaryBTree,
    /// SQLite builds an index for each run of the statement.
    AutomaticIndex,
}

impl PlanFlagKind {
    /// The name of the kind in JSON.
    pub const fn label(self) -> &'static str {
        match self {
            Self::SequentialScan => "sequential_scan",
            Self::MissingIndex => "missing_index",
            Self::SortOnDisk => "sort_on_disk",
            Self::NestedLoop => "nested_loop",
            Self::TemporaryBTree => "temporary_b_tree",
            Self::AutomaticIndex => "automatic_index",
        }
    }
}

/// Something notable about a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PlanFlag {
    /// What it is.
    pub kind: PlanFlagKind,
    /// What it means, in a sentence.
    pub sentence: String,
    /// What may help: a `CREATE INDEX` for a missing index.
    pub advice: Option<String>,
}

/// What the database knows about a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct TableFacts {
    pub(super) name: String,
    pub(super) rows: Option<f64>,
    /// The columns that an index of the table begins with.
    pub(super) leading_columns: Vec<String>,
}

/// What the flags of a plan follow from, besides the plan.
#[derive(Clone, Debug, Default)]
pub(super) struct PlanFacts {
    pub(super) tables: Vec<TableFacts>,
    /// PostgreSQL's `work_mem`, in bytes.
    pub(super) work_mem: Option<f64>,
}

impl PlanFacts {
    fn table(&self, name: &str) -> Option<&TableFacts> {
        self.tables.iter().find(|table| table.name == name)
    }
}

/// Sets the numbers of rows of the tables in a plan.
pub(super) fn fill_in(plan: &mut PlanStep, facts: &PlanFacts) {
    plan.visit(&mut |step| {
        let table = step.table.as_deref().and_then(|name| facts.table(name));
        step.table_rows = table.and_then(|table| table.rows);
    });
}

/// The flags of a plan of PostgreSQL.
pub(super) fn of_postgres(plan: &PlanStep, facts: &PlanFacts) -> Vec<PlanFlag> {
    let mut flags = Flags::new(Dialect::PostgreSql);
    postgres_step(plan, None, facts, &mut flags);
    flags.found
}

/// The flags of a plan of SQLite. `sql` is the statement.
pub(super) fn of_sqlite(plan: &PlanStep, sql: &str, facts: &PlanFacts) -> Vec<PlanFlag> {
    let filters = filters::of_statement(sql, Dialect::Sqlite);
    let mut flags = Flags::new(Dialect::Sqlite);
    sqlite_steps(&plan.steps, &filters, facts, &mut flags);
    flags.found
}

/// The flags that were found, each once.
struct Flags {
    dialect: Dialect,
    found: Vec<PlanFlag>,
}

impl Flags {
    fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            found: Vec::new(),
        }
    }

    fn add(&mut self, kind: PlanFlagKind, sentence: String, advice: Option<String>) {
        let flag = PlanFlag {
            kind,
            sentence,
            advice,
        };
        if !self.found.contains(&flag) {
            self.found.push(flag);
        }
    }

    /// A scan of a whole table, with the columns that its filter compares.
    fn scan(
        &mut self,
        table: &TableFacts,
        rows: f64,
        columns: &[FilterColumn],
        is_selective: bool,
    ) {
        let name = &table.name;
        let count = rounded(rows);
        self.add(
            PlanFlagKind::SequentialScan,
            format!("Each call reads all of about {count} rows of {name}."),
            None,
        );
        let Some(first) = columns.first().filter(|_| is_selective) else {
            return;
        };
        let is_led = |column: &&FilterColumn| table.leading_columns.contains(&column.column);
        if columns.iter().any(|column| is_led(&column)) {
            // The planner knows such an index, and has not chosen it.
            return;
        }
        let names: Vec<_> = columns
            .iter()
            .map(|column| column.column.as_str())
            .collect();
        self.add(
            PlanFlagKind::MissingIndex,
            format!(
                "No index of {name} begins with {}, which the statement filters by.",
                match names.len() {
                    1 => first.column.clone(),
                    _ => names.join(" or "),
                }
            ),
            Some(create_index(self.dialect, name, columns)),
        );
    }
}

fn postgres_step(step: &PlanStep, parent: Option<&PlanStep>, facts: &PlanFacts, flags: &mut Flags) {
    let operation = step.operation.as_str();
    if operation.starts_with("Seq Scan") || operation.starts_with("Parallel Seq Scan") {
        seq_scan(step, parent, facts, flags);
    } else if operation.starts_with("Sort") {
        sort(step, parent, facts, flags);
    } else if operation.starts_with("Nested Loop") {
        nested_loop(step, flags);
    }
    for below in &step.steps {
        postgres_step(below, Some(step), facts, flags);
    }
}

fn seq_scan(step: &PlanStep, parent: Option<&PlanStep>, facts: &PlanFacts, flags: &mut Flags) {
    let Some(table) = step.table.as_deref().and_then(|name| facts.table(name)) else {
        return;
    };
    let Some(rows) = table.rows.filter(|rows| *rows >= MANY_ROWS) else {
        return;
    };
    let filter = step.condition("Filter");
    // A limit without a filter or an order ends the scan early.
    if filter.is_none() && parent.is_some_and(|parent| parent.operation.starts_with("Limit")) {
        return;
    }
    let columns = filter.map(|filter| filters::of_condition(filter, Dialect::PostgreSql));
    let is_selective = step.rows.is_none_or(|kept| kept <= rows * LARGE_SHARE);
    flags.scan(
        table,
        rows,
        &index_columns(&columns.unwrap_or_default()),
        is_selective,
    );
}

fn sort(step: &PlanStep, parent: Option<&PlanStep>, facts: &PlanFacts, flags: &mut Flags) {
    let (Some(rows), Some(width), Some(work_mem)) = (step.rows, step.width, facts.work_mem) else {
        return;
    };
    // A limit keeps only its own rows in memory.
    let limit = parent.filter(|parent| parent.operation.starts_with("Limit"));
    let rows = limit.and_then(|limit| limit.rows).unwrap_or(rows).min(rows);
    let bytes = rows * (width + ROW_OVERHEAD);
    if bytes > work_mem {
        flags.add(
            PlanFlagKind::SortOnDisk,
            format!(
                "A sort of about {} rows needs about {} MB, more than work_mem ({} MB): it uses the disk.",
                rounded(rows),
                megabytes(bytes),
                megabytes(work_mem)
            ),
            step.condition("Sort Key").map(|key| {
                format!("An index in the order of {key}, a limit, or a larger work_mem for this statement.")
            }),
        );
    }
}

fn nested_loop(step: &PlanStep, flags: &mut Flags) {
    let [outer, inner] = step.steps.as_slice() else {
        return;
    };
    let Some(outer_rows) = outer.rows else {
        return;
    };
    let (inner_rows, reads_all) = match full_scan(inner) {
        Some(scan) => (scan.table_rows.or(scan.rows), true),
        None => (inner.rows, false),
    };
    let pairs = outer_rows * inner_rows.unwrap_or(1.0).max(1.0);
    let is_slow = if reads_all {
        pairs >= MANY_PAIRS
    } else {
        outer_rows >= MANY_ROWS
    };
    if is_slow {
        let table = inner
            .table
            .as_deref()
            .or_else(|| full_scan(inner)?.table.as_deref());
        flags.add(
            PlanFlagKind::NestedLoop,
            format!(
                "For each of about {} rows, a nested loop looks into {}{}.",
                rounded(outer_rows),
                table.unwrap_or("another result"),
                if reads_all {
                    ", and reads all of it"
                } else {
                    ""
                }
            ),
            None,
        );
    }
}

/// The scan of a whole table that a step repeats, perhaps from memory.
fn full_scan(step: &PlanStep) -> Option<&PlanStep> {
    match (step.operation.as_str(), step.steps.as_slice()) {
        ("Seq Scan", _) => Some(step),
        ("Materialize", [below]) => full_scan(below),
        _ => None,
    }
}

fn sqlite_steps(
    steps: &[PlanStep],
    filters: &StatementFilters,
    facts: &PlanFacts,
    flags: &mut Flags,
) {
    let is_sorted = |step: &PlanStep| step.operation.starts_with("USE TEMP B-TREE");
    let ends_early = filters.has_limit && !steps.iter().any(is_sorted);
    // Steps of one level that read tables are the loops of a join, the outermost first.
    let mut pairs = 1.0_f64;
    let mut scans = 0;
    for step in steps {
        let operation = step.operation.as_str();
        let table = step.table.as_deref().and_then(|name| facts.table(name));
        if let Some(for_what) = operation.strip_prefix("USE TEMP B-TREE FOR ") {
            temporary_b_tree(for_what, steps, facts, flags);
        }
        if operation.contains(" AUTOMATIC ") {
            automatic_index(step, facts, flags);
        }
        let is_scan = operation.starts_with("SCAN");
        if let (true, Some(table)) = (is_scan, table)
            && let Some(rows) = table.rows
        {
            scans += 1;
            pairs *= rows.max(1.0);
            let columns = columns_of(filters, &table.name, facts);
            if rows >= MANY_ROWS && (!ends_early || !columns.is_empty()) {
                flags.scan(table, rows, &index_columns(&columns), true);
            }
            if scans > 1 && pairs >= MANY_PAIRS {
                flags.add(
                    PlanFlagKind::NestedLoop,
                    format!(
                        "A nested loop reads all of about {} rows of {} again and again.",
                        rounded(rows),
                        table.name
                    ),
                    None,
                );
            }
        }
        sqlite_steps(&step.steps, filters, facts, flags);
    }
}

fn temporary_b_tree(for_what: &str, steps: &[PlanStep], facts: &PlanFacts, flags: &mut Flags) {
    let tables = steps.iter().filter_map(|step| step.table.as_deref());
    let mut large = tables
        .filter_map(|name| facts.table(name))
        .filter(|table| table.rows.is_some_and(|rows| rows >= MANY_ROWS));
    let reads_all = |table: &TableFacts| {
        let mut steps = steps.iter();
        steps.any(|step| {
            step.table.as_deref() == Some(&table.name) && step.operation.starts_with("SCAN")
        })
    };
    if let Some(table) = large.find(|table| reads_all(table)) {
        let rows = rounded(table.rows.unwrap_or_default());
        flags.add(
            PlanFlagKind::TemporaryBTree,
            format!(
                "SQLite makes a temporary b-tree of up to {rows} rows for {for_what}, because no index has that order."
            ),
            Some(format!("An index of {} that ends with the columns of {for_what}.", table.name)),
        );
    }
}

fn automatic_index(step: &PlanStep, facts: &PlanFacts, flags: &mut Flags) {
    let compared = step.condition(INDEX_CONDITION).unwrap_or_default();
    let compared = compared.split(" AND ");
    let columns: Vec<_> = compared
        .filter_map(|column| Some(column.split_once(['=', '<', '>'])?.0.trim()))
        .filter(|column| !column.is_empty())
        .map(|column| FilterColumn {
            table: None,
            column: column.to_owned(),
            is_equality: true,
        })
        .collect();
    let table = step.table.as_deref().unwrap_or("a table");
    let is_table = facts.table(table).is_some_and(|table| table.rows.is_some());
    let dialect = flags.dialect;
    flags.add(
        PlanFlagKind::AutomaticIndex,
        format!(
            "SQLite builds an index of {table} for each call, because there is none that serves."
        ),
        // A subquery can have no index, and has no rows of its own.
        (is_table && !columns.is_empty()).then(|| create_index(dialect, table, &columns)),
    );
}

/// The columns of a statement that belong to a table.
fn columns_of(filters: &StatementFilters, table: &str, facts: &PlanFacts) -> Vec<FilterColumn> {
    let is_only = facts.tables.len() == 1;
    let columns = filters.columns.iter();
    columns
        .filter(|column| match &column.table {
            Some(name) => filters.table(name) == table,
            None => is_only,
        })
        .cloned()
        .collect()
}

/// The columns of an index for a filter: those that are compared for equality, then one that is compared for a range.
fn index_columns(columns: &[FilterColumn]) -> Vec<FilterColumn> {
    let equal = columns.iter().filter(|column| column.is_equality);
    let range = columns.iter().find(|column| !column.is_equality);
    let mut chosen: Vec<FilterColumn> = Vec::new();
    for column in equal.chain(range) {
        if !chosen.iter().any(|other| other.column == column.column) {
            chosen.push(column.clone());
        }
    }
    chosen.truncate(MOST_COLUMNS);
    chosen
}

/// The statement that creates an index. SQLite wants a name; it gets the one that PostgreSQL would choose.
fn create_index(dialect: Dialect, table: &str, columns: &[FilterColumn]) -> String {
    let names = columns.iter().map(|column| column.column.as_str());
    let quoted_names: Vec<_> = names.clone().map(quoted).collect();
    let name = if dialect == Dialect::PostgreSql {
        String::new()
    } else {
        let name: Vec<_> = iter::once(table).chain(names).chain(["idx"]).collect();
        format!("{} ", quoted(&name.join("_")))
    };
    format!(
        "CREATE INDEX {name}ON {} ({})",
        quoted(table),
        quoted_names.join(", ")
    )
}

/// A name in quotes, unless it needs none.
fn quoted(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.bytes().all(is_plain)
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && !RESERVED.contains(&name)
    {
        name.to_owned()
    } else {
        format!("\"{}\"", name.replace('"', "\"\""))
    }
}

/// A number of rows with two digits that count: `12,000`, `1,300,000`.
fn rounded(rows: f64) -> String {
    let rows = rows.max(0.0);
    let unit = 10_f64.powf((rows.max(1.0).log10().floor() - 1.0).max(0.0));
    let digits = format!("{:.0}", (rows / unit).round() * unit);
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn megabytes(bytes: f64) -> String {
    let megabytes = bytes / 1024.0 / 1024.0;
    if megabytes < 10.0 {
        format!("{megabytes:.1}")
    } else {
        format!("{megabytes:.0}")
    }
}

#[cfg(test)]
mod tests {
    use diesel::connection::SimpleConnection as _;
    use diesel::prelude::*;

    use super::*;

    #[test]
    fn sqlite_accepts_the_advice_for_any_names() {
        let others = ["items", "Kind", "two words", "1st", "a\"b", "é"];
        for name in RESERVED.iter().copied().chain(others) {
            let mut connection = SqliteConnection::establish(":memory:").unwrap();
            let doubled = name.replace('"', "\"\"");
            let create = format!("CREATE TABLE \"{doubled}\" (\"{doubled}\" TEXT, other TEXT)");
            connection.batch_execute(&create).unwrap();
            let column = |column: &str| FilterColumn {
                table: None,
                column: column.to_owned(),
                is_equality: true,
            };
            let advice = create_index(Dialect::Sqlite, name, &[column(name), column("other")]);
            connection.batch_execute(&advice).expect(&advice);
        }
    }
}
