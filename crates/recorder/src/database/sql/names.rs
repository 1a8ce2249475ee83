//! Decides where a token in double quotes is a name, and where a bare word is a value.
//!
//! In PostgreSQL double quotes always contain a name, in MySQL a string. SQLite reads such a token as a string if no column
//! has that name. In MySQL, SQLite and unknown dialects the token counts as a name only where no value is possible: after
//! `FROM`, beside a dot, in a list of columns. Everywhere else it counts as a value.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::lexer::SqlToken;

/// What the innermost parentheses around the current position contain.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope {
    /// A `SELECT` or `DELETE`, where `FROM` precedes a table, unlike in `trim('a' FROM 'b')`.
    query: bool,
    /// Assignments after `SET`.
    assignments: bool,
    /// The names of columns, or their definitions.
    columns: bool,
}

/// The state of a statement, updated with each token.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Debug)]
pub(super) struct Names {
    dialect: Dialect,
    /// The statement's first word.
    first: Option<Keyword>,
    last: LastToken,
    /// The name of a table follows, and possibly a list of columns after it.
    table_follows: bool,
    /// The next parenthesis opens a list of columns.
    columns_follow: bool,
    /// The last words were `DISTINCT FROM`: a value follows.
    is_distinct: bool,
    /// An `ALTER` after its `SET`.
    alters_setting: bool,
    /// The value of a setting follows, which may be a bare word.
    setting: bool,
    /// Behind the sign of a setting, before a comma: no name of a setting follows.
    in_value: bool,
    /// A `CREATE VIRTUAL TABLE`, whose module gets its arguments as they are written.
    is_virtual: bool,
    /// A `CREATE` or `ALTER` of a `USER` or `ROLE`.
    is_of_user: bool,
    /// Nothing in double quotes is a name from here on.
    strings_only: bool,
    /// An `ATTACH`, which accepts a bare word as a string.
    attaches: bool,
    /// A password follows, as after `IDENTIFIED BY`. Oracle writes it as a bare word, and others forget its quotes.
    password_follows: bool,
}

/// The last token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LastToken {
    Keyword(Keyword),
    Open,
    Comma,
    Dot,
    Other,
}

impl Names {
    pub(super) fn new(dialect: Dialect) -> Self {
        Self {
            dialect,
            first: None,
            last: LastToken::Other,
            table_follows: false,
            columns_follow: false,
            is_distinct: false,
            alters_setting: false,
            setting: false,
            in_value: false,
            is_virtual: false,
            is_of_user: false,
            strings_only: false,
            attaches: false,
            password_follows: false,
        }
    }

    /// Whether a token in double quotes is a name here; `next` is the byte after it.
    pub(super) fn is_name(&self, scope: Scope, next: Option<u8>) -> bool {
        if self.dialect == Dialect::PostgreSql {
            return true;
        }
        if self.strings_only {
            return false;
        }
        let is_assigned = scope.assignments && next == Some(b'=');
        next == Some(b'.')
            || match self.last {
                LastToken::Dot => true,
                LastToken::Comma => scope.columns || is_assigned,
                LastToken::Open => scope.columns,
                LastToken::Keyword(keyword) => match keyword {
                    Keyword::From => scope.query && !self.is_distinct,
                    Keyword::Set => is_assigned,
                    Keyword::On | Keyword::To | Keyword::Exists => {
                        self.is_definition() && !scope.query
                    }
                    Keyword::Update => !scope.assignments || is_assigned,
                    _ => keyword.is_before_name(),
                },
                LastToken::Other => false,
            }
    }

    /// Whether a word or a quoted name is a value nevertheless: the value of a setting, a file or a password. `next` is the
    /// byte after it.
    pub(super) fn is_bare_value(
        &self,
        token: &SqlToken<'_>,
        depth: usize,
        next: Option<u8>,
    ) -> bool {
        match token {
            SqlToken::Word(text, Keyword::None) if self.attaches => {
                !text.eq_ignore_ascii_case("DATABASE")
            }
            SqlToken::Word(_, Keyword::None) | SqlToken::Quoted(_) => {
                self.attaches || self.password_follows || self.is_value_of_setting(depth, next)
            }
            _ => false,
        }
    }

    fn is_value_of_setting(&self, depth: usize, next: Option<u8>) -> bool {
        let has_parentheses = self.is_virtual || self.first == Some(Keyword::Pragma);
        if !self.setting || depth > usize::from(has_parentheses) || next == Some(b'(') {
            return false;
        }
        // After a comma, the name of the next setting may follow, and it may have a dot.
        self.in_value || self.last != LastToken::Dot && !matches!(next, Some(b'=' | b'.' | b':'))
    }

    /// Notes that the value of a setting follows.
    fn expect_value(&mut self) {
        self.setting = true;
        self.in_value = true;
    }

    /// Notes that the next token is the name of a common table expression.
    pub(super) fn expect_table(&mut self) {
        self.table_follows = true;
    }

    /// Whether a parenthesis here opens a list of columns.
    pub(super) fn columns_follow(&self) -> bool {
        self.columns_follow
    }

    fn is_definition(&self) -> bool {
        matches!(
            self.first,
            Some(Keyword::Create | Keyword::Alter | Keyword::Drop)
        )
    }

    /// Processes a token in `scope`. An opening parenthesis is in the scope that it opens.
    pub(super) fn push(&mut self, token: &SqlToken<'_>, scope: &mut Scope) {
        if self.first.is_none() && !matches!(token, SqlToken::Open(_) | SqlToken::Semicolon) {
            let (text, first) = match token {
                SqlToken::Word(text, keyword) => (*text, *keyword),
                _ => ("", Keyword::None),
            };
            self.first = Some(first);
            self.attaches = text.eq_ignore_ascii_case("ATTACH");
            self.strings_only = !begins_with_names(first);
        }
        self.password_follows = match token {
            SqlToken::Word(_, Keyword::Operand) => {
                self.last == LastToken::Keyword(Keyword::Secret) || self.has_password()
            }
            SqlToken::Word(_, Keyword::As | Keyword::Using) => self.has_password(),
            SqlToken::Word(text, Keyword::Secret) => {
                self.is_of_user && text.eq_ignore_ascii_case("PASSWORD")
            }
            _ => false,
        };
        let last = match token {
            SqlToken::Word(text, keyword) => {
                self.word(*keyword, scope);
                if *keyword == Keyword::None {
                    self.plain_word(text);
                }
                match keyword {
                    Keyword::None => LastToken::Other,
                    keyword => LastToken::Keyword(*keyword),
                }
            }
            SqlToken::Open(_) => {
                scope.columns = std::mem::take(&mut self.columns_follow)
                    || matches!(
                        self.last,
                        LastToken::Keyword(Keyword::Key | Keyword::Listed | Keyword::Using)
                    );
                if self.first == Some(Keyword::Pragma) {
                    self.expect_value();
                }
                LastToken::Open
            }
            SqlToken::Comma => {
                self.in_value = false;
                self.setting &= !self.is_virtual;
                LastToken::Comma
            }
            SqlToken::Dot => LastToken::Dot,
            SqlToken::Semicolon => {
                *self = Self::new(self.dialect);
                *scope = Scope::default();
                LastToken::Other
            }
            SqlToken::Operator(sign) => {
                if matches!(*sign, "=" | ":=") && (self.is_virtual || self.is_setting()) {
                    self.expect_value();
                }
                LastToken::Other
            }
            _ => LastToken::Other,
        };
        match token {
            SqlToken::Quoted(_) | SqlToken::Word(_, Keyword::None) => {
                self.columns_follow |= self.table_follows;
            }
            SqlToken::Word(..) | SqlToken::Dot => {}
            _ => {
                self.table_follows = false;
                self.columns_follow = false;
            }
        }
        self.last = last;
    }

    fn word(&mut self, keyword: Keyword, scope: &mut Scope) {
        self.is_distinct =
            keyword == Keyword::From && self.last == LastToken::Keyword(Keyword::Distinct);
        match keyword {
            Keyword::None | Keyword::Recursive | Keyword::Operator => {}
            _ => {
                self.columns_follow = false;
                self.table_follows = match keyword {
                    Keyword::Into | Keyword::References | Keyword::Table | Keyword::With => true,
                    Keyword::On | Keyword::Exists => self.is_definition() && !scope.query,
                    _ => false,
                };
            }
        }
        match keyword {
            Keyword::Select | Keyword::Delete => {
                scope.query = true;
                scope.columns = false;
                scope.assignments = false;
            }
            Keyword::Values | Keyword::Value | Keyword::With | Keyword::Table => {
                scope.columns = false;
            }
            Keyword::Set => {
                scope.assignments = !self.is_definition();
                self.alters_setting = self.first == Some(Keyword::Alter);
            }
            // `ON DUPLICATE KEY UPDATE`
            Keyword::Update if self.last == LastToken::Keyword(Keyword::Key) => {
                scope.assignments = true;
            }
            Keyword::Clause | Keyword::From => scope.assignments = false,
            Keyword::To if self.is_setting() => self.expect_value(),
            // `ALTER COLUMN` ends the value of a setting.
            Keyword::Named => {
                self.setting = false;
                self.in_value = false;
            }
            Keyword::Secret => self.strings_only = true,
            _ => {}
        }
    }

    /// Processes a word that is no keyword.
    fn plain_word(&mut self, text: &str) {
        let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
        match self.last {
            // `CREATE OR REPLACE USER`
            LastToken::Keyword(Keyword::Create | Keyword::Alter | Keyword::Replace)
                if self.is_definition() =>
            {
                self.is_of_user = is(&["USER", "ROLE"]);
                self.is_virtual = is(&["VIRTUAL"]);
            }
            // Settings without a sign before their value.
            _ if self.first == Some(Keyword::Set)
                && !self.setting
                && is(&["ROLE", "AUTHORIZATION", "ZONE"]) =>
            {
                self.expect_value();
            }
            _ => {}
        }
    }

    /// Whether the statement is of a user, and `IDENTIFIED` or `PASSWORD` has been read.
    fn has_password(&self) -> bool {
        self.is_of_user && self.strings_only
    }

    /// Whether the statement changes settings.
    fn is_setting(&self) -> bool {
        match self.first {
            Some(Keyword::Set | Keyword::Pragma) => true,
            _ => self.alters_setting,
        }
    }
}

/// Whether double quotes may contain names in a statement that begins with this word. In all others, such as `ATTACH`
/// and `GRANT`, they may contain anything.
fn begins_with_names(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::Select
            | Keyword::Insert
            | Keyword::Replace
            | Keyword::Upsert
            | Keyword::Update
            | Keyword::Delete
            | Keyword::Merge
            | Keyword::With
            | Keyword::Values
            | Keyword::Table
            | Keyword::Explain
            | Keyword::Truncate
            | Keyword::Create
            | Keyword::Alter
            | Keyword::Drop
            | Keyword::Savepoint
            | Keyword::Release
            | Keyword::Control
    )
}
