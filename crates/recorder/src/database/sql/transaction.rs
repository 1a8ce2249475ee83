//! Determines what a text does to the transaction of its connection, from the first words of its statements.
//!
//! It is for transactions that an application controls by hand, such as `sql_query("BEGIN")`. Diesel announces the others.

use super::keyword::Keyword;
use super::lexer::SqlToken;

/// What a text does to the transaction of its connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TransactionEffect {
    /// Nothing.
    #[default]
    None,
    /// It begins a transaction, or goes on in a new one.
    Begins,
    /// It begins a transaction of SQLite that has the write lock.
    BeginsWriting,
    /// It ends the transaction.
    Ends,
}

/// Finds the effect of a text, token by token.
#[derive(Debug, Default)]
pub(super) struct EffectFinder {
    effect: TransactionEffect,
    /// The effect before the statement that is read.
    before: TransactionEffect,
    state: EffectState,
}

/// The position of the finder in a statement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum EffectState {
    /// Before the first word.
    #[default]
    Start,
    /// After `START` or `PREPARE`, which control a transaction if `TRANSACTION` follows. The effect is that of then.
    Perhaps(TransactionEffect),
    /// In a statement that begins a transaction.
    Begin,
    /// In a statement that ends one.
    End,
    /// After `AND NO`.
    No,
    /// In any other statement.
    Other,
    /// After `CREATE`, to the end of the text: the body of a trigger contains semicolons.
    Body,
}

impl EffectFinder {
    /// Takes the next token.
    pub(super) fn push(&mut self, token: &SqlToken<'_>) {
        match (token, self.state) {
            (_, EffectState::Body) | (SqlToken::Open(_), EffectState::Start) => {}
            (SqlToken::Semicolon, _) => {
                self.state = EffectState::Start;
                self.before = self.effect;
            }
            (SqlToken::Word(text, keyword), state) => self.word(text, *keyword, state),
            (_, EffectState::Start | EffectState::Perhaps(_)) => self.state = EffectState::Other,
            _ => {}
        }
    }

    /// The effect of the whole text.
    pub(super) fn finish(&self) -> TransactionEffect {
        self.effect
    }

    fn word(&mut self, text: &str, keyword: Keyword, state: EffectState) {
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        match state {
            EffectState::Start => match keyword {
                Keyword::Control if is("BEGIN") => self.begins(),
                Keyword::Control => self.ends(),
                Keyword::Perhaps if is("START") => {
                    self.state = EffectState::Perhaps(TransactionEffect::Begins);
                }
                Keyword::Perhaps => self.state = EffectState::Perhaps(TransactionEffect::Ends),
                Keyword::Create => self.state = EffectState::Body,
                _ => self.state = EffectState::Other,
            },
            EffectState::Perhaps(effect) if keyword == Keyword::Transaction => match effect {
                TransactionEffect::Ends => self.ends(),
                _ => self.begins(),
            },
            EffectState::Perhaps(_) => self.state = EffectState::Other,
            EffectState::Begin if is("IMMEDIATE") || is("EXCLUSIVE") => {
                self.effect = TransactionEffect::BeginsWriting;
            }
            EffectState::End if is("NO") => self.state = EffectState::No,
            EffectState::End if is("CHAIN") => self.begins(),
            // `ROLLBACK TO` a savepoint, and `COMMIT PREPARED`, leave the transaction as it is.
            EffectState::End if is("TO") || is("PREPARED") => {
                self.effect = self.before;
                self.state = EffectState::Other;
            }
            _ => {}
        }
    }

    fn begins(&mut self) {
        self.effect = TransactionEffect::Begins;
        self.state = EffectState::Begin;
    }

    fn ends(&mut self) {
        self.effect = TransactionEffect::Ends;
        self.state = EffectState::End;
    }
}

#[cfg(test)]
mod tests {
    use super::TransactionEffect::{self, Begins, BeginsWriting, Ends};
    use crate::database::sql::{Dialect, read};

    #[test]
    fn the_effect_of_a_text_is_that_of_its_last_control() {
        let none = TransactionEffect::None;
        for (sql, expected, why) in [
            ("BEGIN", Begins, "a transaction"),
            (" /* x */ begin transaction read only;", Begins, "any case"),
            (
                "START TRANSACTION ISOLATION LEVEL SERIALIZABLE",
                Begins,
                "the standard's word",
            ),
            ("BEGIN IMMEDIATE", BeginsWriting, "SQLite's write lock"),
            (
                "BEGIN EXCLUSIVE TRANSACTION",
                BeginsWriting,
                "more than that",
            ),
            (
                "BEGIN; LOCK TABLE items IN ACCESS EXCLUSIVE MODE",
                Begins,
                "a batch",
            ),
            ("BEGIN; SELECT 1; COMMIT", Ends, "begun and ended"),
            ("COMMIT; BEGIN", Begins, "ended and begun"),
            ("COMMIT", Ends, "committed"),
            ("END TRANSACTION", Ends, "another word for it"),
            ("ROLLBACK", Ends, "rolled back"),
            ("ABORT", Ends, "another word for it"),
            (
                "PREPARE TRANSACTION 'x'",
                Ends,
                "it belongs to no session then",
            ),
            ("COMMIT AND CHAIN", Begins, "the next one has begun"),
            ("ROLLBACK AND NO CHAIN", Ends, "none has begun"),
            ("ROLLBACK TO SAVEPOINT x", none, "the outer one is open"),
            ("ROLLBACK WORK TO x", none, "the outer one is open"),
            ("BEGIN; ROLLBACK TO x", Begins, "the outer one is open"),
            ("COMMIT PREPARED 'x'", none, "that of another session"),
            ("SAVEPOINT x", none, "within a transaction"),
            ("RELEASE x", none, "within a transaction"),
            ("PREPARE begin AS SELECT 1", none, "a statement"),
            ("START 'x'", none, "no transaction"),
            (
                "SELECT 'BEGIN'; SELECT begin",
                none,
                "no statement begins so",
            ),
            ("DO $$ BEGIN COMMIT; END $$", none, "a body in quotes"),
            (
                "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; END",
                none,
                "a body without quotes",
            ),
            (
                "UPDATE a SET b = CASE WHEN c THEN 1 ELSE 2 END",
                none,
                "no statement begins so",
            ),
            ("", none, "nothing"),
        ] {
            let reading = read(sql, Dialect::PostgreSql);
            assert_eq!(reading.transaction, expected, "{sql}: {why}");
        }
    }
}
