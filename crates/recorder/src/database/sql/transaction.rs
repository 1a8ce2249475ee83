//! Determines what a text does to the transaction of its connection, from the first words of its statements.
//!
//! It is for transactions that an application controls by hand, such as `sql_query("BEGIN")`. Diesel announces the others.
//! Statements in the body of a trigger or a routine have no effect. Where the end of a body is not known, nothing after it has.

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
    /// After `CREATE` or `ALTER`, before the kind of the object.
    Create,
    /// After `DEFINER`, whose value may be any word, before the kind of the object.
    Definer,
    /// In the definition of a trigger, a routine or an event. Its body may contain semicolons.
    Definition(Blocks, InDefinition),
    /// In a definition whose end is not known, to the end of the text.
    Rest,
}

/// How many blocks are open in a definition: `BEGIN … END` and `CASE … END`.
type Blocks = u32;

/// What the next token of a definition follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum InDefinition {
    /// A dot: a name follows.
    Dot,
    /// `END`, which may be that of a block or the beginning of `END IF`.
    End,
    /// Anything else.
    Other,
}

/// The kinds of objects whose definitions may have a body.
const WITH_BODY: [&str; 5] = ["TRIGGER", "FUNCTION", "PROCEDURE", "EVENT", "PACKAGE"];

/// Words between `CREATE` and such a kind.
const BEFORE_KIND: [&str; 6] = [
    "OR",
    "REPLACE",
    "TEMP",
    "TEMPORARY",
    "AGGREGATE",
    "CONSTRAINT",
];

/// What `END` ends besides the blocks that are counted.
const UNCOUNTED: [&str; 5] = ["IF", "LOOP", "WHILE", "REPEAT", "FOR"];

fn is_one_of(text: &str, words: &[&str]) -> bool {
    words.iter().any(|word| text.eq_ignore_ascii_case(word))
}

impl EffectFinder {
    /// Takes the next token.
    pub(super) fn push(&mut self, token: &SqlToken<'_>) {
        match (token, self.state) {
            (_, EffectState::Rest) | (SqlToken::Open(_), EffectState::Start) => {}
            (_, EffectState::Definition(blocks, after)) => self.definition(token, blocks, after),
            (SqlToken::Semicolon, _) => self.end_statement(),
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
                Keyword::Create | Keyword::Alter => self.state = EffectState::Create,
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
            EffectState::Create | EffectState::Definer if is_one_of(text, &WITH_BODY) => {
                self.state = EffectState::Definition(0, InDefinition::Other);
            }
            EffectState::Create if is("DEFINER") => self.state = EffectState::Definer,
            EffectState::Create if !is_one_of(text, &BEFORE_KIND) => {
                self.state = EffectState::Other;
            }
            // `ROLLBACK TO` a savepoint, and `COMMIT PREPARED`, leave the transaction as it is.
            EffectState::End if is("TO") || is("PREPARED") => {
                self.effect = self.before;
                self.state = EffectState::Other;
            }
            _ => {}
        }
    }

    /// Takes the next token of a definition.
    fn definition(&mut self, token: &SqlToken<'_>, mut blocks: Blocks, after: InDefinition) {
        let text = match token {
            SqlToken::Word(text, _) if after != InDefinition::Dot => text,
            _ => "",
        };
        let is = |word: &str| text.eq_ignore_ascii_case(word);
        let mut begins_block = is("BEGIN") || is("CASE");
        if after == InDefinition::End && !is_one_of(text, &UNCOUNTED) {
            blocks = blocks.saturating_sub(1);
            // `END CASE` has ended it.
            begins_block &= !is("CASE");
        }
        blocks = blocks.saturating_add(u32::from(begins_block));
        let is_outside = blocks == 0 && after != InDefinition::End;
        self.state = match token {
            SqlToken::Semicolon if blocks == 0 => return self.end_statement(),
            // A body of one statement that contains others.
            SqlToken::Word(..)
                if is_outside && is_one_of(text, &["THEN", "LOOP", "WHILE", "REPEAT"]) =>
            {
                EffectState::Rest
            }
            SqlToken::Word(..) if is("END") => EffectState::Definition(blocks, InDefinition::End),
            SqlToken::Dot => EffectState::Definition(blocks, InDefinition::Dot),
            _ => EffectState::Definition(blocks, InDefinition::Other),
        };
    }

    fn end_statement(&mut self) {
        self.state = EffectState::Start;
        self.before = self.effect;
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
            (
                "BEGIN; CREATE TABLE b (id INTEGER); INSERT INTO b SELECT id FROM a; DROP TABLE a; COMMIT",
                Ends,
                "SQLite's procedure for a change of a table",
            ),
            (
                "CREATE TEMP TABLE b AS SELECT 1; BEGIN",
                Begins,
                "after a table",
            ),
            (
                "BEGIN; CREATE OR REPLACE VIEW trigger AS SELECT 1; COMMIT",
                Ends,
                "the name of a view",
            ),
            (
                "BEGIN; CREATE UNIQUE INDEX function ON a (b); ROLLBACK",
                Ends,
                "the name of an index",
            ),
        ] {
            let reading = read(sql, Dialect::PostgreSql);
            assert_eq!(reading.transaction, expected, "{sql}: {why}");
        }
    }

    #[test]
    fn a_body_has_no_effect_and_statements_after_it_have() {
        for (create, why) in [
            (
                "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END",
                "SQLite",
            ),
            (
                "CREATE TEMP TRIGGER IF NOT EXISTS t UPDATE OF b ON a WHEN CASE WHEN new.b THEN 1 ELSE 0 END \
                 BEGIN SELECT CASE new.end WHEN 1 THEN raise(ABORT, 'x') END; UPDATE c SET d = old.begin; END",
                "CASE before and in the body, and columns with such names",
            ),
            (
                "CREATE OR REPLACE FUNCTION f() RETURNS trigger AS $$ BEGIN COMMIT; END $$ LANGUAGE plpgsql",
                "a body in dollar quotes",
            ),
            (
                "CREATE PROCEDURE p() LANGUAGE sql BEGIN ATOMIC INSERT INTO a VALUES (1); SELECT CASE WHEN b THEN 1 END FROM a; END",
                "PostgreSQL's body without quotes",
            ),
            (
                "CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql RETURN a + 1",
                "an expression",
            ),
            (
                "CREATE CONSTRAINT TRIGGER t AFTER INSERT ON a FOR EACH ROW EXECUTE FUNCTION f()",
                "PostgreSQL's triggers have no body",
            ),
            (
                "CREATE EVENT TRIGGER t ON ddl_command_end EXECUTE FUNCTION f()",
                "the same",
            ),
            (
                "CREATE DEFINER = root@localhost PROCEDURE p() BEGIN IF a THEN COMMIT; ELSE ROLLBACK; END IF; \
                 CASE a WHEN 1 THEN COMMIT; END CASE; l: LOOP BEGIN COMMIT; END; LEAVE l; END LOOP l; \
                 WHILE a DO COMMIT; END WHILE; REPEAT COMMIT; UNTIL a END REPEAT; END",
                "MySQL's blocks",
            ),
            (
                "CREATE DEFINER = `a`@`b` TRIGGER t BEFORE INSERT ON a FOR EACH ROW SET NEW.b = IF(NEW.b, 1, 2)",
                "one statement",
            ),
            (
                "CREATE EVENT e ON SCHEDULE EVERY 1 DAY DO BEGIN COMMIT; END",
                "MySQL's events",
            ),
            (
                "ALTER DEFINER = CURRENT_USER() EVENT e DO BEGIN COMMIT; END",
                "a changed body",
            ),
            (
                "CREATE AGGREGATE FUNCTION f RETURNS INTEGER SONAME 'x.so'",
                "no body",
            ),
        ] {
            for dialect in [
                Dialect::Sqlite,
                Dialect::PostgreSql,
                Dialect::MySql,
                Dialect::Unknown,
            ] {
                if dialect == Dialect::MySql && create.contains('$') {
                    // It has no dollar quotes.
                    continue;
                }
                let effect = |sql: String| read(&sql, dialect).transaction;
                let begun = effect(format!("BEGIN; {create}"));
                assert_eq!(begun, Begins, "{create}: {why}, {dialect:?}");
                let ended = effect(format!("BEGIN; {create}; COMMIT;"));
                assert_eq!(ended, Ends, "{create}: {why}, {dialect:?}");
                let again = effect(format!("{create}; BEGIN; {create};\n{create}"));
                assert_eq!(again, Begins, "{create}: {why}, {dialect:?}");
            }
        }
    }

    #[test]
    fn a_body_whose_end_is_not_known_has_no_effect() {
        for create in [
            "CREATE PROCEDURE p() IF a THEN COMMIT; END IF",
            "CREATE PROCEDURE p() l: LOOP COMMIT; END LOOP",
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; COMMIT",
        ] {
            let reading = read(create, Dialect::MySql);
            assert_eq!(reading.transaction, TransactionEffect::None, "{create}");
        }
    }
}
