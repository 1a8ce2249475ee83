//! Determines the verb of a statement from its leading words.
//!
//! Contains the [`Verb`] of a statement, the [`Operation`] that it is counted under, and the finder that reads tokens until
//! the verb is known. Usually that is the first token. After `WITH` the finder skips the common table expressions; after
//! `BEGIN` and similar words it continues with the next statement of the batch, if there is one.
//!
//! The rules, where the first word does not suffice:
//!
//! * white space, `--` and (nested) `/* */` comments, opening parentheses and empty statements are skipped;
//! * `WITH` has the verb of the statement after the expressions, whatever the expressions do;
//! * `VALUES` and `TABLE` are selects: they return rows and change nothing. `REPLACE` and `UPSERT` are inserts;
//! * `EXPLAIN` is `other`, with or without `ANALYZE`: its time is not the time of the statement that it explains. So are
//!   `MERGE`, `COPY`, `PRAGMA`, `SET`, `CALL` and everything that defines the schema;
//! * transaction control is not a query. A batch that begins with it (`BEGIN; INSERT …`) has the verb of its first other
//!   statement.

use super::dialect::Dialect;
use super::keyword::Keyword;
use super::lexer::{Lexer, SqlToken};

/// The kind of a statement: the values of the label `operation` of `db_queries_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Reads rows: `SELECT`, `VALUES`, `TABLE`.
    Select,
    /// Adds rows: `INSERT`, `REPLACE`, `UPSERT`.
    Insert,
    /// Changes rows: `UPDATE`.
    Update,
    /// Removes rows: `DELETE`.
    Delete,
    /// Everything else: the schema, `EXPLAIN`, `MERGE`, `PRAGMA`, and unreadable text.
    Other,
}

impl Operation {
    /// All operations, in the order of their index.
    pub const ALL: [Self; 5] = [
        Self::Select,
        Self::Insert,
        Self::Update,
        Self::Delete,
        Self::Other,
    ];

    /// The value of the label `operation`.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }

    /// The index of this operation in [`Operation::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a statement is: a query, or transaction control, which is not a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// A query, counted under its operation.
    Query(Operation),
    /// `BEGIN`, `START TRANSACTION`, `COMMIT`, `END`, `ROLLBACK`, `ABORT`, `SAVEPOINT`, `RELEASE` or
    /// `PREPARE TRANSACTION`, without another statement after it.
    Transaction,
}

/// The verb of a statement, or of the first statement of a batch that is not transaction control.
pub fn verb(sql: &str) -> Verb {
    let mut finder = Finder::default();
    for token in Lexer::new(sql, Dialect::Unknown) {
        if finder.push(&token) {
            break;
        }
    }
    finder.finish()
}

/// The operation of a statement; `other` for transaction control.
pub fn operation(sql: &str) -> Operation {
    match verb(sql) {
        Verb::Query(operation) => operation,
        Verb::Transaction => Operation::Other,
    }
}

/// Finds the verb of a statement, token by token.
#[derive(Debug, Default)]
pub(super) struct Finder {
    known: Option<Verb>,
    /// An earlier statement of the batch controls a transaction.
    transaction: bool,
    state: FinderState,
    /// Open parentheses, in the states that count them.
    depth: u32,
}

/// The position of the finder in the statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FinderState {
    /// Before the leading word.
    #[default]
    Start,
    /// After `START` or `PREPARE`, which control a transaction only if the word `TRANSACTION` follows.
    Transaction,
    /// In a statement that controls a transaction, before its end.
    Control,
    /// After `WITH`, before `RECURSIVE` or the first name.
    With,
    /// After `WITH RECURSIVE` or a comma, before a name.
    Name,
    /// After the name of an expression, before `AS`.
    As,
    /// After `AS`, before the parenthesis that opens the body.
    Body,
    /// Within a body.
    Inside,
    /// After a body: before a comma, a `SEARCH` or `CYCLE` clause, or the statement itself.
    Tail,
    /// Within a `SEARCH` or `CYCLE` clause, before the statement.
    Clause,
}

/// The operation that a word begins.
fn operation_of(keyword: Keyword) -> Option<Operation> {
    match keyword {
        Keyword::Select | Keyword::Values | Keyword::Table => Some(Operation::Select),
        Keyword::Insert | Keyword::Replace | Keyword::Upsert => Some(Operation::Insert),
        Keyword::Update => Some(Operation::Update),
        Keyword::Delete => Some(Operation::Delete),
        Keyword::Merge => Some(Operation::Other),
        _ => None,
    }
}

impl Finder {
    /// Takes the next token. Returns true once the verb is known.
    pub(super) fn push(&mut self, token: &SqlToken<'_>) -> bool {
        if self.known.is_none() {
            match token {
                SqlToken::Word(_, keyword) => self.word(*keyword),
                SqlToken::Quoted(_) | SqlToken::Value => self.quotation(),
                SqlToken::Open(b'(') => self.open(),
                SqlToken::Close(b')') => self.close(),
                SqlToken::Comma if self.state == FinderState::Tail => {
                    self.state = FinderState::Name;
                }
                SqlToken::Semicolon => self.semicolon(),
                _ => self.symbol(),
            }
        }
        self.known.is_some()
    }

    /// Whether the next token is the name of a common table expression.
    pub(super) fn expects_name(&self) -> bool {
        self.known.is_none() && matches!(self.state, FinderState::With | FinderState::Name)
    }

    /// The verb, at the end of the text.
    pub(super) fn finish(&self) -> Verb {
        match self.known {
            Some(verb) => verb,
            None if self.transaction
                && matches!(self.state, FinderState::Start | FinderState::Control) =>
            {
                Verb::Transaction
            }
            None => Verb::Query(Operation::Other),
        }
    }

    fn decide(&mut self, operation: Operation) {
        self.known = Some(Verb::Query(operation));
    }

    fn word(&mut self, keyword: Keyword) {
        match self.state {
            FinderState::Start => match (keyword, operation_of(keyword)) {
                (_, Some(operation)) => self.decide(operation),
                (Keyword::With, _) => self.state = FinderState::With,
                (Keyword::Control | Keyword::Savepoint | Keyword::Release, _) => self.control(),
                (Keyword::Perhaps, _) => self.state = FinderState::Transaction,
                _ => self.decide(Operation::Other),
            },
            FinderState::Transaction if keyword == Keyword::Transaction => self.control(),
            FinderState::Transaction => self.decide(Operation::Other),
            FinderState::With if keyword == Keyword::Recursive => self.state = FinderState::Name,
            // `WITH RECURSIVE AS (…)`: an expression with the name `recursive`.
            FinderState::Name | FinderState::As if keyword == Keyword::As => self.body(),
            FinderState::With | FinderState::Name => self.state = FinderState::As,
            FinderState::Tail => match operation_of(keyword) {
                Some(operation) => self.decide(operation),
                None if keyword == Keyword::Search => self.state = FinderState::Clause,
                None => self.decide(Operation::Other),
            },
            FinderState::Clause if self.depth == 0 => {
                if let Some(operation) = operation_of(keyword) {
                    self.decide(operation);
                }
            }
            FinderState::Control
            | FinderState::As
            | FinderState::Body
            | FinderState::Inside
            | FinderState::Clause => {}
        }
    }

    fn control(&mut self) {
        self.transaction = true;
        self.state = FinderState::Control;
    }

    fn body(&mut self) {
        self.depth = 0;
        self.state = FinderState::Body;
    }

    fn open(&mut self) {
        match self.state {
            FinderState::Body => {
                self.depth = 1;
                self.state = FinderState::Inside;
            }
            FinderState::As | FinderState::Inside | FinderState::Clause => {
                self.depth = self.depth.saturating_add(1);
            }
            // `WITH recursive (n) AS (…)`: the name was `recursive`.
            FinderState::Name => self.state = FinderState::As,
            FinderState::Transaction => self.decide(Operation::Other),
            FinderState::Start | FinderState::Control | FinderState::With | FinderState::Tail => {}
        }
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        match self.state {
            FinderState::Inside if self.depth == 0 => self.state = FinderState::Tail,
            FinderState::Transaction => self.decide(Operation::Other),
            _ => {}
        }
    }

    fn semicolon(&mut self) {
        match self.state {
            FinderState::Start | FinderState::Inside => {}
            FinderState::Control => self.state = FinderState::Start,
            _ => self.decide(Operation::Other),
        }
    }

    /// A token in quotes: a name, where one is expected.
    fn quotation(&mut self) {
        match self.state {
            FinderState::With | FinderState::Name => self.state = FinderState::As,
            _ => self.symbol(),
        }
    }

    /// Any other token: no known statement begins like that.
    fn symbol(&mut self) {
        if matches!(
            self.state,
            FinderState::Start
                | FinderState::Transaction
                | FinderState::With
                | FinderState::Name
                | FinderState::Tail
        ) {
            self.decide(Operation::Other);
        }
    }
}

#[cfg(test)]
mod tests;
