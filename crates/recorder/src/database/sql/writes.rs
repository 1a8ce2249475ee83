//! Determines whether a text may write although its verb is that of a read.
//!
//! It may, if it has a data-modifying expression in its `WITH`, an `INTO`, or a later statement that is no `SELECT`. The
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
    /// An opening parenthesis, such as that of a common table expression.
    Open,
    /// Anything else.
    Within,
}

impl WriteFinder {
    /// Takes the next token.
    pub(super) fn push(&mut self, token: &SqlToken<'_>) {
        self.position = match token {
            SqlToken::Semicolon => Position::Start,
            SqlToken::Open(_) if self.position == Position::Start => Position::Start,
            SqlToken::Open(_) => Position::Open,
            SqlToken::Word(_, keyword) => {
                self.writes |= self.is_write(*keyword);
                Position::Within
            }
            _ => Position::Within,
        };
    }

    /// Whether the whole text may write, if its verb reads.
    pub(super) fn finish(&self) -> bool {
        self.writes
    }

    fn is_write(&mut self, keyword: Keyword) -> bool {
        match self.position {
            Position::Start => self.is_written_by_statement(keyword),
            Position::Open => matches!(
                keyword,
                Keyword::Insert | Keyword::Update | Keyword::Delete | Keyword::Merge
            ),
            Position::Within => keyword == Keyword::Into,
        }
    }

    /// Whether a statement that begins with this word may write, beyond what the verb of the text says.
    fn is_written_by_statement(&mut self, keyword: Keyword) -> bool {
        let is_first = !self.has_query;
        match keyword {
            Keyword::Control | Keyword::Savepoint | Keyword::Release => false,
            Keyword::Select | Keyword::Values | Keyword::Table => {
                self.has_query = true;
                false
            }
            // The verb of the text is that of what follows.
            Keyword::Perhaps if is_first => false,
            Keyword::With if is_first => {
                self.has_query = true;
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::database::sql::{Dialect, read};

    #[test]
    fn a_text_may_write_although_its_verb_reads() {
        for (sql, expected, why) in [
            ("SELECT 1", false, "a read"),
            ("VALUES (1), (2)", false, "a read"),
            ("(SELECT 1) UNION (SELECT 2)", false, "reads"),
            ("WITH x AS (SELECT 1) SELECT * FROM x", false, "a read"),
            (
                "SELECT id FROM items FOR UPDATE",
                false,
                "locks end with the connection",
            ),
            ("SELECT id FROM items FOR NO KEY UPDATE", false, "the same"),
            (
                "SELECT replace(name, 'a', 'b') FROM items",
                false,
                "a function",
            ),
            (
                "SELECT (replace(name, 'a', 'b')) FROM items",
                false,
                "the same",
            ),
            ("SELECT '(DELETE FROM items)'", false, "a literal"),
            ("SELECT 1; SELECT 2;", false, "several reads"),
            ("BEGIN; SELECT 1; COMMIT", false, "a transaction that reads"),
            ("START TRANSACTION; SELECT 1", false, "the same"),
            (
                "BEGIN; WITH x AS (SELECT 1) SELECT * FROM x",
                false,
                "the same",
            ),
            (
                "WITH x AS (INSERT INTO items VALUES (1) RETURNING id) SELECT id FROM x",
                true,
                "PostgreSQL's insert",
            ),
            (
                "with x as (select 1), y (id) as not materialized (\n/* z */ update items set id = 1 returning id) select 1",
                true,
                "a later expression",
            ),
            (
                "WITH x AS (DELETE FROM items RETURNING id) TABLE x",
                true,
                "PostgreSQL's delete",
            ),
            (
                "WITH x AS (MERGE INTO items USING more ON true WHEN MATCHED THEN DELETE RETURNING 1) SELECT 1",
                true,
                "PostgreSQL's merge",
            ),
            ("SELECT id INTO copies FROM items", true, "a new table"),
            ("SELECT id FROM items INTO OUTFILE '/x'", true, "a file"),
            ("SELECT 1; DELETE FROM items", true, "a batch"),
            (
                "BEGIN; SELECT 1; DELETE FROM items; COMMIT",
                true,
                "a batch",
            ),
            (
                "SELECT 1; WITH x AS (SELECT 1) DELETE FROM items",
                true,
                "its verb is not read",
            ),
            ("SELECT 1; CALL work()", true, "not known to read"),
            (
                "SELECT 1; PREPARE TRANSACTION 'x'",
                true,
                "it outlives the connection",
            ),
        ] {
            for dialect in [Dialect::PostgreSql, Dialect::Unknown] {
                assert_eq!(read(sql, dialect).writes, expected, "{sql}: {why}");
            }
        }
    }

    #[test]
    fn explained_and_called_statements_are_no_reads_by_their_verb() {
        use crate::database::sql::{Operation, Verb};

        for sql in [
            "EXPLAIN ANALYZE INSERT INTO items VALUES (1)",
            "CALL work()",
            "PRAGMA user_version = 1",
            "WITH x AS (SELECT 1) DELETE FROM items",
            "COPY items FROM STDIN",
        ] {
            let verb = read(sql, Dialect::Unknown).verb;
            assert!(
                matches!(verb, Verb::Query(operation) if operation != Operation::Select),
                "{sql}"
            );
        }
    }
}
