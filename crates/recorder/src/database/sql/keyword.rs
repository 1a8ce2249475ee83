//! The keywords that the reader of SQL distinguishes, in any case.
//!
//! Words that matter for one property only share a variant. A word that is not here is a name, a function or a type.

/// The class of a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Keyword {
    // Begin a statement.
    Select,
    Insert,
    Replace,
    Upsert,
    Update,
    Delete,
    Merge,
    With,
    Values,
    Table,
    Explain,
    Truncate,
    Create,
    Alter,
    Drop,
    Set,
    Pragma,
    /// `BEGIN`, `COMMIT`, `END`, `ROLLBACK`, `ABORT`: they control a transaction.
    Control,
    Savepoint,
    Release,
    /// `START`, `PREPARE`: they control a transaction if `TRANSACTION` follows.
    Perhaps,
    Transaction,
    // Parts of a `WITH`.
    Recursive,
    As,
    /// `SEARCH`, `CYCLE`.
    Search,
    // These precede names or lists of names.
    From,
    Join,
    Into,
    References,
    /// `INDEX`, `VIEW`, `TRIGGER`, `COLUMN`, `CONSTRAINT`: a name follows.
    Named,
    Exists,
    On,
    To,
    Key,
    /// `UNIQUE`, `CONFLICT`: a list of names may follow.
    Listed,
    Using,
    Collate,
    // These precede operands.
    Distinct,
    In,
    Array,
    Interval,
    /// Begins a clause of a query: `WHERE`, `ORDER`, `LIMIT` and similar words.
    Clause,
    /// Joins operands, or precedes one: `AND`, `LIKE`, `CASE` and similar words.
    Operator,
    /// Precedes an operand in a clause: `BY`, `ALL`, `FOR`.
    Operand,
    /// `UNION`, `OVER`, `FILTER`, `CHECK` and similar words: a parenthesis after them is not that of a function.
    Phrase,
    /// `VALUE`, which MySQL accepts in place of `VALUES`.
    Value,
    /// `ROW`
    Row,
    /// `DEFAULT`
    Default,
    /// A constant that is written as a word: `NULL`, `TRUE`, `CURRENT_DATE`.
    Literal,
    /// `IDENTIFIED`, `PASSWORD`: a secret follows.
    Secret,
    /// None of these.
    None,
}

/// The length of the longest keyword, in bytes.
const LONGEST: usize = 17;

impl Keyword {
    /// The class of a word.
    pub(super) fn of(word: &str) -> Self {
        let mut upper = [0; LONGEST];
        let Some(upper) = upper.get_mut(..word.len()) else {
            return Self::None;
        };
        upper.copy_from_slice(word.as_bytes());
        upper.make_ascii_uppercase();
        match &*upper {
            b"SELECT" => Self::Select,
            b"INSERT" => Self::Insert,
            b"REPLACE" => Self::Replace,
            b"UPSERT" => Self::Upsert,
            b"UPDATE" => Self::Update,
            b"DELETE" => Self::Delete,
            b"MERGE" => Self::Merge,
            b"WITH" => Self::With,
            b"VALUES" => Self::Values,
            b"TABLE" => Self::Table,
            b"EXPLAIN" => Self::Explain,
            b"TRUNCATE" => Self::Truncate,
            b"CREATE" => Self::Create,
            b"ALTER" => Self::Alter,
            b"DROP" => Self::Drop,
            b"SET" => Self::Set,
            b"PRAGMA" => Self::Pragma,
            b"BEGIN" | b"COMMIT" | b"END" | b"ROLLBACK" | b"ABORT" => Self::Control,
            b"SAVEPOINT" => Self::Savepoint,
            b"RELEASE" => Self::Release,
            b"START" | b"PREPARE" => Self::Perhaps,
            b"TRANSACTION" => Self::Transaction,
            b"RECURSIVE" => Self::Recursive,
            b"AS" => Self::As,
            b"SEARCH" | b"CYCLE" => Self::Search,
            b"FROM" => Self::From,
            b"JOIN" => Self::Join,
            b"INTO" => Self::Into,
            b"REFERENCES" => Self::References,
            b"INDEX" | b"VIEW" | b"TRIGGER" | b"COLUMN" | b"CONSTRAINT" => Self::Named,
            b"EXISTS" => Self::Exists,
            b"ON" => Self::On,
            b"TO" => Self::To,
            b"KEY" => Self::Key,
            b"UNIQUE" | b"CONFLICT" => Self::Listed,
            b"USING" => Self::Using,
            b"COLLATE" => Self::Collate,
            b"DISTINCT" => Self::Distinct,
            b"IN" => Self::In,
            b"ARRAY" => Self::Array,
            b"INTERVAL" => Self::Interval,
            b"WHERE" | b"ORDER" | b"GROUP" | b"HAVING" | b"LIMIT" | b"OFFSET" | b"RETURNING" => {
                Self::Clause
            }
            b"AND" | b"OR" | b"XOR" | b"NOT" | b"BETWEEN" | b"IS" | b"LIKE" | b"ILIKE"
            | b"GLOB" | b"REGEXP" | b"RLIKE" | b"DIV" | b"ESCAPE" | b"CASE" | b"WHEN" | b"THEN"
            | b"ELSE" => Self::Operator,
            b"BY" | b"ALL" | b"FOR" => Self::Operand,
            b"UNION" | b"EXCEPT" | b"INTERSECT" | b"OVER" | b"FILTER" | b"CHECK" | b"LATERAL"
            | b"MATERIALIZED" => Self::Phrase,
            b"VALUE" => Self::Value,
            b"ROW" => Self::Row,
            b"DEFAULT" => Self::Default,
            b"NULL" | b"TRUE" | b"FALSE" | b"CURRENT_DATE" | b"CURRENT_TIME"
            | b"CURRENT_TIMESTAMP" | b"LOCALTIME" | b"LOCALTIMESTAMP" | b"CURRENT_USER"
            | b"SESSION_USER" | b"UTC_DATE" | b"UTC_TIME" | b"UTC_TIMESTAMP" => Self::Literal,
            b"IDENTIFIED" | b"PASSWORD" => Self::Secret,
            _ => Self::None,
        }
    }

    /// Whether an operand follows it, so that a sign after it belongs to the operand.
    pub(super) fn is_before_operand(self) -> bool {
        matches!(
            self,
            Self::Select
                | Self::Set
                | Self::With
                | Self::Values
                | Self::As
                | Self::From
                | Self::On
                | Self::To
                | Self::Using
                | Self::Distinct
                | Self::In
                | Self::Interval
                | Self::Clause
                | Self::Operator
                | Self::Operand
                | Self::Default
        )
    }

    /// Whether a name follows it, or may follow.
    pub(super) fn is_before_name(self) -> bool {
        matches!(
            self,
            Self::As
                | Self::From
                | Self::Into
                | Self::Join
                | Self::Update
                | Self::Table
                | Self::With
                | Self::Recursive
                | Self::References
                | Self::Named
                | Self::Exists
                | Self::On
                | Self::To
                | Self::Collate
                | Self::Savepoint
                | Self::Release
        )
    }

    /// Whether a space separates it from a parenthesis, because it is not a function.
    pub(super) fn is_before_parenthesis(self) -> bool {
        self.is_before_operand() && !matches!(self, Self::Default | Self::Interval)
            || matches!(
                self,
                Self::Join | Self::Exists | Self::Key | Self::Listed | Self::Phrase | Self::Value
            )
    }
}
