//! Determines whether a text may write although its verb is that of a read, or of transaction control.
//!
//! It may, if it has the word of a data-modifying statement anywhere, an `INTO`, or a later statement that is no `SELECT`. The
//! effects of functions are not known. A column that is called `update` may be taken for a write, and never the reverse.

use super::keyword::Keyword;
use super::lexer::SqlToken;

/// Finds writes, token by token.
#[derive(Debug, Default)]
pub(super) struct WriteFinder {
    writes: bool,
    /// A statement has begun that does not control a transaction.
    has_query: bool,
    position: Position,
}

/// What the next token follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Position {
    /// Nothing, or the end of a statement.
    #[default]
    Start,
    /// A word that controls a transaction, in its statement.
    Control,
    /// `FOR`
    For,
    /// `FOR NO`
    ForNo,
    /// `FOR NO KEY`
    ForNoKey,
    /// Anything else.
    Within,
}

impl WriteFinder {
    /// Takes the next token.
    pub(super) fn push(&mut self, token: &SqlToken<'_>) {
        self.position = match (token, self.position) {
            (SqlToken::Semicolon, _) | (SqlToken::Open(_), Position::Start) => Position::Start,
            (SqlToken::Word(text, keyword), before) => {
                self.writes |= self.is_write(text, *keyword);
                after_word(text, *keyword, before)
            }
            (_, Position::Control) => Position::Control,
            _ => Position::Within,
        };
    }

    /// Whether the whole text may write, if its verb reads or controls a transaction.
    pub(super) fn finish(&self) -> bool {
        self.writes
    }

    fn is_write(&mut self, text: &str, keyword: Keyword) -> bool {
        match (self.position, keyword) {
            (Position::Start, _) => self.is_written_by_statement(text, keyword),
            // They lock rows until the transaction ends.
            (Position::For | Position::ForNoKey, Keyword::Update) => false,
            // A common table expression may have a `WITH` of its own. Some databases need no semicolon.
            (
                _,
                Keyword::Insert
                | Keyword::Update
                | Keyword::Delete
                | Keyword::Merge
                | Keyword::Into,
            ) => true,
            // MariaDB's `BEGIN NOT ATOMIC` begins a block of statements.
            (Position::Control, _) => text.eq_ignore_ascii_case("ATOMIC"),
            _ => false,
        }
    }

    /// Whether a statement that begins with this word may write, beyond what the verb of the text says.
    fn is_written_by_statement(&mut self, text: &str, keyword: Keyword) -> bool {
        let is_first = !self.has_query;
        match keyword {
            Keyword::Control | Keyword::Savepoint | Keyword::Release => false,
            Keyword::Select | Keyword::Values | Keyword::Table => {
                self.has_query = true;
                false
            }
            // A prepared transaction outlives the connection.
            Keyword::Perhaps if is_first => !text.eq_ignore_ascii_case("START"),
            // The verb of the text is that of what follows.
            Keyword::With if is_first => {
                self.has_query = true;
                false
            }
            _ => true,
        }
    }
}

/// What the next token follows, after a word.
fn after_word(text: &str, keyword: Keyword, before: Position) -> Position {
    match (before, keyword) {
        (Position::Start, Keyword::Control) | (Position::Control, _) => Position::Control,
        (Position::For, _) if text.eq_ignore_ascii_case("NO") => Position::ForNo,
        (Position::ForNo, Keyword::Key) => Position::ForNoKey,
        _ if text.eq_ignore_ascii_case("FOR") => Position::For,
        _ => Position::Within,
    }
}

#[cfg(test)]
mod tests;
