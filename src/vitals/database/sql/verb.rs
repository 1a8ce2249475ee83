//! Which kind of statement a piece of SQL is, told from its leading words.
//!
//! Here: the [`Verb`] of a statement, the [`Operation`] it is counted under, and the [`Reader`] that finds them. Not here:
//! the normalised text of a statement, or anything that understands more of SQL than where a statement begins.
//!
//! The reader takes the text byte by byte, in as many pieces as it comes in, keeps no text, allocates nothing, and asks
//! for no more once it knows. For most statements that is the byte behind the first word. `WITH` takes it past the common
//! table expressions; `BEGIN` and its like take it to the next statement of the batch, if there is one.
//!
//! The rules, where the first word does not say it all:
//!
//! * white space, `--` and (nested) `/* */` comments, opening parentheses and empty statements are skipped;
//! * `WITH` is what the statement behind it is, whatever the expressions in it do;
//! * `VALUES` and `TABLE` are selects: they return rows and change nothing. `REPLACE` and `UPSERT` are inserts;
//! * `EXPLAIN` is `other`, with or without `ANALYZE`: it is a question about a statement, and its time is not that
//!   statement's time. So are `MERGE`, `COPY`, `PRAGMA`, `SET`, `CALL` and everything that defines the schema;
//! * transaction control is no query. A batch that opens with it (`BEGIN; INSERT …`) is what its first other statement is.

use std::fmt;

/// What a statement does, as `db_queries_total` tells it apart: the values of the label `operation`.
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
    /// Everything else: the schema, `EXPLAIN`, `MERGE`, `PRAGMA`, and what cannot be read.
    Other,
}

impl Operation {
    /// All of them, in the order of their index.
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

    /// The place of this operation in [`Operation::ALL`].
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// What a statement is: a query of some kind, or control of a transaction, which is no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// A query, counted under its operation.
    Query(Operation),
    /// `BEGIN`, `START TRANSACTION`, `COMMIT`, `END`, `ROLLBACK`, `ABORT`, `SAVEPOINT`, `RELEASE` or
    /// `PREPARE TRANSACTION`, and nothing else behind it.
    Transaction,
}

/// The verb of a statement, or of the first statement of a batch that is not transaction control.
pub fn verb(sql: &str) -> Verb {
    let mut reader = Reader::default();
    reader.read(sql);
    reader.finish()
}

/// The operation of a statement; `other` for transaction control.
pub fn operation(sql: &str) -> Operation {
    match verb(sql) {
        Verb::Query(operation) => operation,
        Verb::Transaction => Operation::Other,
    }
}

/// The longest word that can mean anything here, and then some: longer words are cut, and match nothing.
const WORD_CAPACITY: usize = 14;
/// PostgreSQL cuts identifiers at 63 bytes; a dollar quote's tag is one.
const TAG_CAPACITY: usize = 63;

/// Reads a statement piece by piece until its verb is known.
///
/// As a [`fmt::Write`] it stops whoever writes by an error as soon as it needs no more. It also stops at the binds that
/// Diesel writes behind a statement, which it never looks at.
#[derive(Debug, Default)]
pub struct Reader {
    known: Option<Verb>,
    /// A transaction was controlled by a statement before this one.
    transaction: bool,
    place: Place,
    lexeme: Lexeme,
    word: Word,
    tag: Tag,
    /// Parentheses open since the place began to count them.
    depth: u32,
}

/// How Diesel's `Display` of a query separates the statement from its binds.
pub(in crate::vitals::database) const BINDS: &str = " -- binds: ";

/// Where in the statement the reader is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    /// Before the leading word.
    #[default]
    Start,
    /// Behind `START` or `PREPARE`, which control a transaction only if the word `TRANSACTION` follows.
    Transaction,
    /// In a statement that controls a transaction, looking for its end.
    Control,
    /// Behind `WITH`, where `RECURSIVE` or the first name stands.
    With,
    /// Behind `WITH RECURSIVE` or a comma, where a name stands.
    Name,
    /// Behind the name of an expression, looking for `AS`.
    As,
    /// Behind `AS`, looking for the parenthesis that opens the body.
    Body,
    /// In a body.
    Inside,
    /// Behind a body: a comma, a `SEARCH` or `CYCLE` clause, or the statement itself.
    Tail,
    /// In a `SEARCH` or `CYCLE` clause, looking for the statement.
    Clause,
}

/// What the reader is in the middle of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Lexeme {
    #[default]
    Between,
    Word,
    /// One `-`: a comment, if another follows.
    Dash,
    LineComment,
    /// One `/`: a comment, if a `*` follows.
    Slash,
    /// So many block comments deep; the byte before this one opens or closes another together with this one.
    Comment(u32, Edge),
    /// In quotes that close with this byte. A doubled one closes them and opens them again, which comes to the same.
    Quoted(u8),
    /// In `E'…'`, where a backslash escapes.
    Escaped,
    EscapedByte,
    /// Behind `$`, reading what may be the tag of a dollar quote.
    DollarTag,
    /// In a dollar quote.
    Dollar,
    /// In a dollar quote, so many bytes into what may be its closing tag.
    DollarEnd(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    None,
    Slash,
    Star,
}

/// A word in upper case, cut at its capacity.
#[derive(Debug, Default)]
struct Word {
    bytes: [u8; WORD_CAPACITY],
    length: usize,
}

impl Word {
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.bytes.get_mut(self.length) {
            *slot = byte.to_ascii_uppercase();
            self.length += 1;
        }
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

#[derive(Debug)]
struct Tag {
    bytes: [u8; TAG_CAPACITY],
    length: usize,
}

impl Default for Tag {
    fn default() -> Self {
        Self {
            bytes: [0; TAG_CAPACITY],
            length: 0,
        }
    }
}

impl Tag {
    /// Whether there was room for the byte.
    fn push(&mut self, byte: u8) -> bool {
        match self.bytes.get_mut(self.length) {
            Some(slot) => {
                *slot = byte;
                self.length += 1;
                true
            }
            None => false,
        }
    }
}

fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// What a word says where a statement begins.
enum Leading {
    Verb(Operation),
    With,
    /// Controls a transaction.
    Control,
    /// Controls a transaction if the word `TRANSACTION` follows.
    Perhaps,
    Unknown,
}

fn leading(word: &[u8]) -> Leading {
    match word {
        b"SELECT" | b"VALUES" | b"TABLE" => Leading::Verb(Operation::Select),
        b"INSERT" | b"REPLACE" | b"UPSERT" => Leading::Verb(Operation::Insert),
        b"UPDATE" => Leading::Verb(Operation::Update),
        b"DELETE" => Leading::Verb(Operation::Delete),
        b"MERGE" => Leading::Verb(Operation::Other),
        b"WITH" => Leading::With,
        b"BEGIN" | b"COMMIT" | b"END" | b"ROLLBACK" | b"ABORT" | b"SAVEPOINT" | b"RELEASE" => {
            Leading::Control
        }
        b"START" | b"PREPARE" => Leading::Perhaps,
        _ => Leading::Unknown,
    }
}

impl Reader {
    /// Reads another piece of the statement. The answer is true once the verb is known and the rest need not be read.
    pub fn read(&mut self, sql: &str) -> bool {
        for &byte in sql.as_bytes() {
            if self.known.is_some() {
                break;
            }
            self.byte(byte);
        }
        self.known.is_some()
    }

    /// The verb, now that there is no more to read.
    pub fn finish(mut self) -> Verb {
        if self.known.is_none() && self.lexeme == Lexeme::Word {
            self.end_word();
        }
        match self.known {
            Some(verb) => verb,
            None if self.transaction && matches!(self.place, Place::Start | Place::Control) => {
                Verb::Transaction
            }
            None => Verb::Query(Operation::Other),
        }
    }

    fn decide(&mut self, operation: Operation) {
        self.known = Some(Verb::Query(operation));
    }

    fn byte(&mut self, byte: u8) {
        match self.lexeme {
            Lexeme::Between => self.begin(byte),
            Lexeme::Word => self.in_word(byte),
            Lexeme::Dash if byte == b'-' => self.lexeme = Lexeme::LineComment,
            Lexeme::Slash if byte == b'*' => self.lexeme = Lexeme::Comment(1, Edge::None),
            Lexeme::Dash | Lexeme::Slash => {
                self.lexeme = Lexeme::Between;
                self.symbol();
                self.again(byte);
            }
            Lexeme::LineComment => {
                if byte == b'\n' || byte == b'\r' {
                    self.lexeme = Lexeme::Between;
                }
            }
            Lexeme::Comment(depth, edge) => self.lexeme = in_comment(depth, edge, byte),
            Lexeme::Quoted(quote) => {
                if byte == quote {
                    self.lexeme = Lexeme::Between;
                }
            }
            Lexeme::Escaped => match byte {
                b'\'' => self.lexeme = Lexeme::Between,
                b'\\' => self.lexeme = Lexeme::EscapedByte,
                _ => {}
            },
            Lexeme::EscapedByte => self.lexeme = Lexeme::Escaped,
            Lexeme::DollarTag => self.in_dollar_tag(byte),
            Lexeme::Dollar => {
                if byte == b'$' {
                    self.lexeme = Lexeme::DollarEnd(0);
                }
            }
            Lexeme::DollarEnd(matched) => self.in_dollar_end(matched, byte),
        }
    }

    /// Takes a byte that ended what came before it.
    fn again(&mut self, byte: u8) {
        if self.known.is_none() {
            self.byte(byte);
        }
    }

    fn begin(&mut self, byte: u8) {
        match byte {
            b'-' => self.lexeme = Lexeme::Dash,
            b'/' => self.lexeme = Lexeme::Slash,
            b'\'' | b'"' | b'`' => {
                self.lexeme = Lexeme::Quoted(byte);
                self.quotation();
            }
            b'$' => {
                self.tag.length = 0;
                self.lexeme = Lexeme::DollarTag;
                self.symbol();
            }
            b'(' => self.open(),
            b')' => self.close(),
            b',' => self.comma(),
            b';' => self.semicolon(),
            _ if in_word(byte) => {
                self.word.length = 0;
                self.word.push(byte);
                self.lexeme = Lexeme::Word;
            }
            _ if byte.is_ascii_whitespace() || byte == 0x0b => {}
            _ => self.symbol(),
        }
    }

    fn in_word(&mut self, byte: u8) {
        if in_word(byte) {
            self.word.push(byte);
            return;
        }
        self.lexeme = Lexeme::Between;
        if byte == b'\'' && self.word.bytes() == b"E" {
            self.symbol();
            self.lexeme = Lexeme::Escaped;
            return;
        }
        self.end_word();
        self.again(byte);
    }

    fn in_dollar_tag(&mut self, byte: u8) {
        let first = self.tag.length == 0;
        if byte == b'$' {
            self.lexeme = Lexeme::Dollar;
        } else if !in_word(byte) || (first && byte.is_ascii_digit()) || !self.tag.push(byte) {
            // A parameter such as `$1` or `$name`.
            self.lexeme = Lexeme::Between;
            self.again(byte);
        }
    }

    fn in_dollar_end(&mut self, matched: usize, byte: u8) {
        let tag = &self.tag.bytes[..self.tag.length];
        self.lexeme = match (tag.get(matched), byte) {
            (None, b'$') => Lexeme::Between,
            (Some(&expected), _) if expected == byte => Lexeme::DollarEnd(matched + 1),
            (_, b'$') => Lexeme::DollarEnd(0),
            _ => Lexeme::Dollar,
        };
    }

    fn end_word(&mut self) {
        match self.place {
            Place::Start => match leading(self.word.bytes()) {
                Leading::Verb(operation) => self.decide(operation),
                Leading::With => self.place = Place::With,
                Leading::Control => self.control(),
                Leading::Perhaps => self.place = Place::Transaction,
                Leading::Unknown => self.decide(Operation::Other),
            },
            Place::Transaction => match self.word.bytes() {
                b"TRANSACTION" => self.control(),
                _ => self.decide(Operation::Other),
            },
            Place::With if self.word.bytes() == b"RECURSIVE" => self.place = Place::Name,
            // `WITH RECURSIVE AS (…)`: an expression of the name `recursive`.
            Place::Name | Place::As if self.word.bytes() == b"AS" => self.body(),
            Place::With | Place::Name => self.place = Place::As,
            Place::Tail => match (leading(self.word.bytes()), self.word.bytes()) {
                (Leading::Verb(operation), _) => self.decide(operation),
                (_, b"SEARCH" | b"CYCLE") => self.place = Place::Clause,
                _ => self.decide(Operation::Other),
            },
            Place::Clause if self.depth == 0 => {
                if let Leading::Verb(operation) = leading(self.word.bytes()) {
                    self.decide(operation);
                }
            }
            Place::Control | Place::As | Place::Body | Place::Inside | Place::Clause => {}
        }
    }

    fn control(&mut self) {
        self.transaction = true;
        self.place = Place::Control;
    }

    fn body(&mut self) {
        self.depth = 0;
        self.place = Place::Body;
    }

    fn open(&mut self) {
        match self.place {
            Place::Body => {
                self.depth = 1;
                self.place = Place::Inside;
            }
            Place::As | Place::Inside | Place::Clause => self.depth = self.depth.saturating_add(1),
            // `WITH recursive (n) AS (…)`: the name was `recursive`.
            Place::Name => self.place = Place::As,
            Place::Transaction => self.decide(Operation::Other),
            Place::Start | Place::Control | Place::With | Place::Tail => {}
        }
    }

    fn close(&mut self) {
        self.depth = self.depth.saturating_sub(1);
        match self.place {
            Place::Inside if self.depth == 0 => self.place = Place::Tail,
            Place::Transaction => self.decide(Operation::Other),
            _ => {}
        }
    }

    fn comma(&mut self) {
        match self.place {
            Place::Tail => self.place = Place::Name,
            _ => self.symbol(),
        }
    }

    fn semicolon(&mut self) {
        match self.place {
            Place::Start | Place::Inside => {}
            Place::Control => self.place = Place::Start,
            _ => self.decide(Operation::Other),
        }
    }

    /// A quotation opens: a name, where one is due.
    fn quotation(&mut self) {
        match self.place {
            Place::With | Place::Name => self.place = Place::As,
            _ => self.symbol(),
        }
    }

    /// Anything else: no statement that this reader knows begins like that.
    fn symbol(&mut self) {
        if matches!(
            self.place,
            Place::Start | Place::Transaction | Place::With | Place::Name | Place::Tail
        ) {
            self.decide(Operation::Other);
        }
    }
}

fn in_comment(depth: u32, edge: Edge, byte: u8) -> Lexeme {
    match (edge, byte) {
        (Edge::Slash, b'*') => Lexeme::Comment(depth.saturating_add(1), Edge::None),
        (Edge::Star, b'/') if depth <= 1 => Lexeme::Between,
        (Edge::Star, b'/') => Lexeme::Comment(depth - 1, Edge::None),
        (_, b'/') => Lexeme::Comment(depth, Edge::Slash),
        (_, b'*') => Lexeme::Comment(depth, Edge::Star),
        _ => Lexeme::Comment(depth, Edge::None),
    }
}

impl fmt::Write for Reader {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if piece.starts_with(BINDS) || self.read(piece) {
            Err(fmt::Error)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests;
