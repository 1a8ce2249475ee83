//! Reads quoted text: strings, names, dollar quotes and brackets.

use super::{Dialect, Keyword, Lexer, SqlToken, begins_word, in_word};

/// The longest text that counts as a name, in bytes. PostgreSQL truncates longer names.
const LONGEST_NAME: usize = 63;

/// The longest name in brackets if the dialect is unknown, in bytes.
const LONGEST_BRACKET: usize = 128;

/// The effect of a backslash between quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Backslash {
    Literal,
    Escapes,
    /// Depends on the server's dialect and settings.
    Rule,
}

impl<'a> Lexer<'a> {
    /// Reads a string, starting at its opening quote.
    pub(super) fn string(&mut self, backslash_escapes: bool) -> SqlToken<'a> {
        let backslash = if backslash_escapes {
            Backslash::Escapes
        } else {
            Backslash::Rule
        };
        self.skip_quoted(b'\'', backslash);
        self.is_misread |= self.is_before_word();
        SqlToken::Value
    }

    /// Whether a word other than a keyword begins here, as in `'it's'`. SQL never has that after a string.
    fn is_before_word(&self) -> bool {
        let bytes = self.rest().bytes();
        let length = bytes.take_while(|byte| in_word(*byte)).count();
        length > 0 && Keyword::of(&self.rest()[..length]) == Keyword::None
    }

    /// Returns the token for a word and the quoted text after it: `E'…'`, `U&"…"`.
    pub(super) fn prefixed(&mut self, word: &str) -> Option<SqlToken<'a>> {
        let is = |prefix: &str| word.eq_ignore_ascii_case(prefix);
        match (self.peek(0), self.peek(1)) {
            (Some(b'\''), _)
                if is("E") && matches!(self.dialect, Dialect::PostgreSql | Dialect::Unknown) =>
            {
                self.string_goes_on = true;
                Some(self.string(true))
            }
            (Some(b'\''), _) if is("B") || is("X") || is("N") => Some(self.string(false)),
            // Oracle's strings with alternative quotes.
            (Some(b'\''), _) if (is("Q") || is("NQ")) && self.dialect == Dialect::Unknown => {
                self.is_unsure = true;
                Some(self.string(false))
            }
            (Some(b'&'), Some(quote @ (b'\'' | b'"')))
                if is("U") && matches!(self.dialect, Dialect::PostgreSql | Dialect::Unknown) =>
            {
                self.at += 1;
                if quote == b'"' {
                    self.skip_quoted(quote, Backslash::Literal);
                    return Some(SqlToken::Quoted("\"?\""));
                }
                let backslash = match self.dialect {
                    Dialect::PostgreSql => Backslash::Literal,
                    _ => Backslash::Rule,
                };
                self.skip_quoted(quote, backslash);
                Some(SqlToken::Value)
            }
            _ => None,
        }
    }

    /// Reads text in double quotes or backticks.
    pub(super) fn quoted_name(&mut self, quote: u8) -> SqlToken<'a> {
        let begin = self.at;
        let may_be_string =
            quote == b'"' && matches!(self.dialect, Dialect::MySql | Dialect::Unknown);
        let backslash = if may_be_string {
            Backslash::Rule
        } else {
            Backslash::Literal
        };
        self.skip_quoted(quote, backslash);
        self.name(begin)
    }

    /// Returns the token for the quoted text from `begin` to here. The token contains the text only if it looks like a name.
    fn name(&self, begin: usize) -> SqlToken<'a> {
        let text = self.text.get(begin..self.at).unwrap_or_default();
        let inside = text
            .get(1..text.len().saturating_sub(1))
            .unwrap_or_default();
        let is_name = inside.len() <= LONGEST_NAME
            && inside.bytes().next().is_some_and(begins_word)
            && inside.bytes().all(in_word);
        SqlToken::Quoted(match text.as_bytes().first() {
            _ if is_name => text,
            Some(b'`') => "`?`",
            Some(b'[') => "[?]",
            _ => "\"?\"",
        })
    }

    /// Skips to the end of the closing quote. A doubled quote does not close.
    fn skip_quoted(&mut self, quote: u8, backslash: Backslash) {
        let begin = self.at;
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            if byte == b'\\' && backslash != Backslash::Literal {
                let before = self.at;
                self.skip_while(|byte| byte == b'\\');
                let is_odd = (self.at - before) % 2 == 1;
                if self.peek(0) != Some(quote) || !is_odd {
                    continue;
                }
                let is_open = backslash == Backslash::Rule && std::mem::take(&mut self.may_differ);
                self.is_unsure |=
                    self.dialect == Dialect::Unknown || is_open && self.other_is_possible(begin);
                if backslash == Backslash::Escapes || self.backslash_escapes {
                    self.at += 1;
                }
            } else if byte != quote {
                self.at += 1;
            } else if self.peek(1) == Some(quote) {
                self.at += 2;
            } else {
                self.at += 1;
                return;
            }
        }
        self.is_misread = true;
        self.end();
    }

    /// Reads a bind (`$1`, `$name`) or a string between two equal tags (`$$…$$`, `$tag$…$tag$`).
    pub(super) fn dollar(&mut self) -> SqlToken<'a> {
        let rest = self.rest();
        let tag_length = rest[1..]
            .bytes()
            .take_while(|&byte| in_word(byte) && byte != b'$')
            .count();
        let is_numbered = rest[1..].starts_with(|first: char| first.is_ascii_digit());
        let is_closed = rest.as_bytes().get(1 + tag_length) == Some(&b'$');
        if self.dialect != Dialect::Sqlite && is_closed && !is_numbered {
            let (tag, body) = rest.split_at(tag_length + 2);
            let length = body.find(tag);
            let body = length.map_or(body, |length| &body[..length]);
            // SQLite reads the text between the tags.
            self.is_unsure |=
                self.dialect == Dialect::Unknown && body.contains(['\'', '"', '`', '[']);
            self.at += tag.len() + body.len() + length.map_or(0, |_| tag.len());
        } else {
            self.at += 1;
            self.skip_while(in_word);
        }
        SqlToken::Value
    }

    /// Reads a bracket, which quotes a name in SQLite, and opens a subscript or an array in PostgreSQL.
    pub(super) fn bracket(&mut self) -> SqlToken<'a> {
        let begin = self.at;
        let end = match self.dialect {
            Dialect::PostgreSql | Dialect::MySql => None,
            Dialect::Sqlite => Some(self.rest().find(']')),
            Dialect::Unknown => self.name_in_brackets().map(Some),
        };
        match end {
            None => {
                self.brackets = self.brackets.saturating_add(1);
                self.at += 1;
                SqlToken::Open(b'[')
            }
            Some(Some(length)) => {
                self.at += length + 1;
                self.name(begin)
            }
            Some(None) => {
                self.is_misread = true;
                self.end();
                SqlToken::Quoted("[?]")
            }
        }
    }

    /// The length of the name that this bracket quotes, if it does. For an unknown dialect.
    fn name_in_brackets(&mut self) -> Option<usize> {
        let rest = self.rest().as_bytes();
        let window = &rest[..rest.len().min(LONGEST_BRACKET)];
        let close = window.iter().position(|byte| *byte == b']');
        // PostgreSQL has a bracket only after an operand, and within another bracket.
        let quotes = (!self.after_operand || self.before_name) && self.brackets == 0;
        if quotes && close.is_some() {
            return close;
        }
        let inside = close.map_or(window, |close| &window[..close]);
        let is_even = |quote: &u8| inside.split(|byte| byte == quote).count() % 2 == 1;
        // Quotes, comments and backslashes may extend past the closing bracket in one dialect only.
        let is_clear = b"'\"`".iter().all(is_even)
            && !inside.contains(&b'\\')
            && !inside.windows(2).any(|two| two == b"--" || two == b"/*");
        self.is_unsure |= !is_clear;
        None
    }
}
