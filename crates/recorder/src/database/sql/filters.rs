//! The columns that a statement, or a condition of a plan, compares with values: those that an index would begin with.
//!
//! Understands what Diesel writes and what PostgreSQL shows: `a.b = $1`, `(b)::text = ANY (?)`, `b IN (…)`, `b > ?`. Of an
//! alternative (`OR`), a negation or a function it returns nothing, because an index of its columns would not serve.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::lexer::{Lexer, SqlToken};

/// A column that is compared with values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::database) struct FilterColumn {
    /// The table or its alias, where the text has it.
    pub(in crate::database) table: Option<String>,
    pub(in crate::database) column: String,
    /// Compared for equality, and not for a range.
    pub(in crate::database) is_equality: bool,
}

/// What a statement asks for, as far as it decides which index would serve.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::database) struct StatementFilters {
    /// The columns of its conditions: after `WHERE` and `ON`.
    pub(in crate::database) columns: Vec<FilterColumn>,
    /// Names after `AS`, each with the name before it. Those of tables are among them.
    pub(in crate::database) aliases: Vec<(String, String)>,
    /// It ends early.
    pub(in crate::database) has_limit: bool,
}

impl StatementFilters {
    /// The table of a name, which may be an alias.
    pub(in crate::database) fn table<'a>(&'a self, name: &'a str) -> &'a str {
        let alias = self.aliases.iter().find(|(alias, _)| alias == name);
        alias.map_or(name, |(_, table)| table)
    }
}

/// Reads a statement.
pub(in crate::database) fn of_statement(sql: &str, dialect: Dialect) -> StatementFilters {
    let mut filters = StatementFilters {
        columns: FilterReader::new(false).read(sql, dialect),
        ..StatementFilters::default()
    };
    let mut before = [None, None];
    for token in Lexer::new(sql, dialect) {
        filters.has_limit |= matches!(token, SqlToken::Word(word, Keyword::Clause) if word.eq_ignore_ascii_case("LIMIT"));
        if let [Some(name), Some(SqlToken::Word(_, Keyword::As))] = &before
            && let (Some(table), Some(alias)) = (name_of(name), name_of(&token))
        {
            filters.aliases.push((alias, table));
        }
        before = [before[1].take(), Some(token)];
    }
    filters
}

fn name_of(token: &SqlToken<'_>) -> Option<String> {
    match token {
        SqlToken::Word(word, Keyword::None) => Some((*word).to_owned()),
        SqlToken::Quoted(name) => unquoted(name),
        _ => None,
    }
}

/// The columns of a condition.
pub(in crate::database) fn of_condition(condition: &str, dialect: Dialect) -> Vec<FilterColumn> {
    FilterReader::new(true).read(condition, dialect)
}

/// What the innermost open parenthesis contains.
#[derive(Clone, Copy, Debug)]
struct FilterScope {
    /// Within a condition, not in the rest of a statement.
    is_condition: bool,
    /// Arguments of a function, or negated: nothing in it serves an index.
    is_hidden: bool,
    /// Where the columns of this scope begin, for an alternative to remove them.
    first: usize,
    has_alternative: bool,
}

/// What was read since the last operand.
#[derive(Clone, Debug, Default)]
enum FilterState {
    #[default]
    Start,
    /// A column, and perhaps its cast.
    Column(Option<String>, String),
    /// A dot after a name.
    Dot(String),
    /// A column and a comparison.
    Compared(FilterColumn),
}

struct FilterReader {
    scope: FilterScope,
    outer: Vec<FilterScope>,
    state: FilterState,
    found: Vec<FilterColumn>,
    /// The last token was `NOT`.
    is_negated: bool,
    /// The last token was `::`: the name of a type follows.
    is_cast: bool,
}

impl FilterReader {
    fn new(is_condition: bool) -> Self {
        Self {
            scope: FilterScope {
                is_condition,
                is_hidden: false,
                first: 0,
                has_alternative: false,
            },
            outer: Vec::new(),
            state: FilterState::Start,
            found: Vec::new(),
            is_negated: false,
            is_cast: false,
        }
    }

    fn read(mut self, sql: &str, dialect: Dialect) -> Vec<FilterColumn> {
        let mut tokens = Lexer::new(sql, dialect);
        while let Some(token) = tokens.next() {
            self.push(&token, tokens.next_byte());
        }
        while !self.outer.is_empty() {
            self.close();
        }
        self.end_scope();
        self.found
    }

    fn push(&mut self, token: &SqlToken<'_>, next: Option<u8>) {
        let was_cast = std::mem::take(&mut self.is_cast);
        let was_negated = std::mem::take(&mut self.is_negated);
        match token {
            SqlToken::Open(_) => self.open(was_negated),
            SqlToken::Close(_) => self.close(),
            SqlToken::Cast => self.is_cast = true,
            // The rest of the name of a type.
            SqlToken::Word(..) | SqlToken::Quoted(_) if was_cast => {}
            SqlToken::Word(word, keyword) => self.word(word, *keyword, next),
            SqlToken::Quoted(name) => match unquoted(name) {
                Some(name) => self.name(name),
                None => self.state = FilterState::Start,
            },
            SqlToken::Dot => {
                self.state = match std::mem::take(&mut self.state) {
                    FilterState::Column(_, name) => FilterState::Dot(name),
                    _ => FilterState::Start,
                };
            }
            SqlToken::Operator(sign) => self.operator(sign),
            SqlToken::Value => {
                if let FilterState::Compared(column) = std::mem::take(&mut self.state) {
                    self.find(column);
                }
            }
            SqlToken::Comma | SqlToken::Semicolon | SqlToken::Ellipsis => {
                self.state = FilterState::Start;
            }
        }
    }

    fn open(&mut self, is_negated: bool) {
        // `NOT (…)`: the state before it is not a column.
        let scope = FilterScope {
            is_hidden: self.scope.is_hidden || is_negated,
            first: self.found.len(),
            has_alternative: false,
            ..self.scope
        };
        self.outer.push(std::mem::replace(&mut self.scope, scope));
    }

    fn close(&mut self) {
        let was_hidden = self.scope.is_hidden;
        self.end_scope();
        if let Some(outer) = self.outer.pop() {
            self.scope = outer;
            if was_hidden && !self.scope.is_hidden {
                self.state = FilterState::Start;
            }
        }
    }

    /// Removes the columns of an alternative.
    fn end_scope(&mut self) {
        if self.scope.has_alternative {
            self.found.truncate(self.scope.first);
        }
    }

    fn word(&mut self, word: &str, keyword: Keyword, next: Option<u8>) {
        match keyword {
            Keyword::On => self.begin_condition(true),
            Keyword::Clause => self.begin_condition(word.eq_ignore_ascii_case("WHERE")),
            Keyword::Select
            | Keyword::From
            | Keyword::Join
            | Keyword::Set
            | Keyword::Values
            | Keyword::Phrase => self.begin_condition(false),
            Keyword::Operator if word.eq_ignore_ascii_case("OR") => {
                self.scope.has_alternative |= self.scope.is_condition;
                self.state = FilterState::Start;
            }
            Keyword::Operator if word.eq_ignore_ascii_case("NOT") => {
                self.is_negated = true;
                self.state = FilterState::Start;
            }
            Keyword::Operator if word.eq_ignore_ascii_case("BETWEEN") => self.compare(false),
            Keyword::In => self.compare(true),
            // `= ANY ($1)`
            Keyword::None if word.eq_ignore_ascii_case("ANY") && next == Some(b'(') => {}
            // A function: what is in its parentheses is hidden.
            Keyword::None if next == Some(b'(') => {
                self.is_negated = true;
                self.state = FilterState::Start;
            }
            Keyword::None
            | Keyword::Value
            | Keyword::Key
            | Keyword::Named
            | Keyword::Secret
            | Keyword::Row
            | Keyword::Search
            | Keyword::Release
            | Keyword::Transaction
            | Keyword::Control
            | Keyword::Perhaps => self.name(word.to_owned()),
            _ => self.state = FilterState::Start,
        }
    }

    fn begin_condition(&mut self, is_condition: bool) {
        self.scope.is_condition = is_condition;
        self.state = FilterState::Start;
    }

    fn name(&mut self, name: String) {
        self.state = match std::mem::take(&mut self.state) {
            FilterState::Dot(table) => FilterState::Column(Some(table), name),
            _ => FilterState::Column(None, name),
        };
    }

    fn operator(&mut self, sign: &str) {
        match sign {
            "=" => self.compare(true),
            "<" | ">" | "<=" | ">=" => self.compare(false),
            // A sign before a value.
            "-" | "+" if matches!(self.state, FilterState::Compared(_)) => {}
            _ => self.state = FilterState::Start,
        }
    }

    fn compare(&mut self, is_equality: bool) {
        self.state = match std::mem::take(&mut self.state) {
            FilterState::Column(table, column) => FilterState::Compared(FilterColumn {
                table,
                column,
                is_equality,
            }),
            _ => FilterState::Start,
        };
    }

    fn find(&mut self, column: FilterColumn) {
        let is_useful = self.scope.is_condition && !self.scope.is_hidden;
        if is_useful && !self.found.contains(&column) {
            self.found.push(column);
        }
    }
}

/// The name within quotes. `None` if it has quotes itself.
fn unquoted(quoted: &str) -> Option<String> {
    let mut characters = quoted.chars();
    characters.next()?;
    characters.next_back()?;
    let name = characters.as_str();
    (!name.contains(['"', '`', '[', ']'])).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The columns in the form `table.column` or `column`, and `>` after those that are compared for a range.
    fn shown(columns: Vec<FilterColumn>) -> Vec<String> {
        columns
            .into_iter()
            .map(|found| {
                let table = found.table.map(|table| format!("{table}."));
                let range = if found.is_equality { "" } else { ">" };
                format!("{}{}{range}", table.unwrap_or_default(), found.column)
            })
            .collect()
    }

    #[test]
    fn the_columns_of_a_statement_are_found() {
        for (sql, dialect, expected) in [
            (
                "SELECT `items`.`id` FROM `items` WHERE (`items`.`name` = ?) LIMIT ?",
                Dialect::Sqlite,
                &["items.name"] as &[_],
            ),
            (
                r#"SELECT "a"."id" FROM "a" INNER JOIN "b" ON ("a"."b_id" = "b"."id") WHERE (("a"."x" = $1) AND ("b"."y" > $2))"#,
                Dialect::PostgreSql,
                &["a.x", "b.y>"],
            ),
            (
                "UPDATE t SET a = ?, b = ? WHERE c = ? AND d IN (?, ?)",
                Dialect::Sqlite,
                &["c", "d"],
            ),
            ("SELECT a FROM t WHERE a = ? OR b = ?", Dialect::Sqlite, &[]),
            (
                "SELECT a FROM t WHERE c = ? AND (a = ? OR b = ?)",
                Dialect::Sqlite,
                &["c"],
            ),
            (
                "SELECT a FROM t WHERE NOT (a = ?) AND lower(b) = ? AND c = ?",
                Dialect::Sqlite,
                &["c"],
            ),
            (
                "SELECT a FROM t WHERE a BETWEEN ? AND ? ORDER BY b",
                Dialect::Sqlite,
                &["a>"],
            ),
            (
                "SELECT a FROM t WHERE a IN (SELECT b FROM u WHERE c = ?) AND d = ?",
                Dialect::Sqlite,
                &["c", "d"],
            ),
            ("SELECT a FROM t WHERE a LIKE ?", Dialect::Sqlite, &[]),
            ("DELETE FROM t WHERE a <> ?", Dialect::Sqlite, &[]),
            ("SELECT a = ? FROM t", Dialect::Sqlite, &[]),
            ("INSERT INTO t (a) VALUES (?)", Dialect::Sqlite, &[]),
        ] {
            assert_eq!(shown(of_statement(sql, dialect).columns), expected, "{sql}");
        }
    }

    #[test]
    fn aliases_and_limits_are_found() {
        let filters = of_statement(
            "SELECT u.a FROM `items` AS `u` JOIN t AS v ON u.a = v.b LIMIT ?",
            Dialect::Sqlite,
        );
        assert_eq!(
            ["u", "v", "w"].map(|name| filters.table(name)),
            ["items", "t", "w"]
        );
        assert!(filters.has_limit);
        assert!(!of_statement("SELECT a FROM t", Dialect::Sqlite).has_limit);
    }

    #[test]
    fn the_columns_of_a_condition_are_found() {
        for (condition, expected) in [
            ("(name = ?)", &["name"] as &[_]),
            ("((name)::text = ?)", &["name"]),
            ("((name)::text = (?)::text)", &["name"]),
            (
                r#"(("Name" = ?) AND (created_at >= ?))"#,
                &["Name", "created_at>"],
            ),
            ("(id = ANY (?))", &["id"]),
            ("((a = ?) OR (b = ?))", &[]),
            ("(lower(name) = ?)", &[]),
            ("(a = b)", &[]),
            ("(NOT is_done)", &[]),
            ("(deleted_at IS NULL)", &[]),
            ("(value = ?)", &["value"]),
        ] {
            let found = of_condition(condition, Dialect::PostgreSql);
            assert_eq!(shown(found), expected, "{condition}");
        }
    }
}
