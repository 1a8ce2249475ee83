//! Splits a statement into tokens: values, and everything around them.
//!
//! The lexer accepts any text, and no token contains the text of a value. The module `space` skips the space between
//! tokens; `quoted` reads quoted text; `placeholders` finds texts without literals.
//!
//! Some text means different things in different dialects. If the dialect is unknown, the lexer is *unsure* from there on:
//! it continues by the most common rule, and the rest must not be shown. It is also unsure if a setting of the server
//! decides whether a backslash escapes, and the text can be read to its end both ways.
//!
//! A text is *misread* if it ends within quotes, or contains characters that SQL has only within quotes. Strings and the
//! text between them may then be swapped.

mod placeholders;
mod quoted;
mod space;

use super::dialect::Dialect;
use super::keyword::Keyword;

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SqlToken<'a> {
    /// A literal or a placeholder.
    Value,
    /// A keyword, a name, a function or a type.
    Word(&'a str, Keyword),
    /// Text in quotes other than single ones, with its quotes. It may still be a string: see `names`.
    Quoted(&'a str),
    /// `(` or `[`.
    Open(u8),
    /// `)` or `]`.
    Close(u8),
    Comma,
    Semicolon,
    Dot,
    /// `::`
    Cast,
    /// `...`: elements like the preceding one are left out.
    Ellipsis,
    Operator(&'a str),
}

impl SqlToken<'_> {
    /// Its text in a shape.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Value => "?",
            Self::Word(text, _) | Self::Quoted(text) | Self::Operator(text) => text,
            Self::Open(b'(') => "(",
            Self::Open(_) => "[",
            Self::Close(b')') => ")",
            Self::Close(_) => "]",
            Self::Comma => ",",
            Self::Semicolon => ";",
            Self::Dot => ".",
            Self::Cast => "::",
            Self::Ellipsis => "...",
        }
    }

    /// Whether an operand can end with it, so that a sign after it is an operator between two operands.
    pub(super) fn ends_operand(&self) -> bool {
        match self {
            Self::Value | Self::Quoted(_) | Self::Close(_) => true,
            Self::Word(_, keyword) => !keyword.is_before_operand(),
            _ => false,
        }
    }
}

/// Reads a text token by token.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    /// A backslash in a string escapes what follows it.
    backslash_escapes: bool,
    /// A setting of the server may invert `backslash_escapes`.
    may_differ: bool,
    /// The last token ends an operand.
    after_operand: bool,
    /// The last token is a word before a name.
    before_name: bool,
    /// How many brackets are open.
    brackets: u32,
    /// Within a comment whose content MySQL executes.
    in_executed_comment: bool,
    /// The last token was a string in which a backslash escapes. It also escapes in a string that continues it after white
    /// space.
    string_goes_on: bool,
    is_unsure: bool,
    is_misread: bool,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str, dialect: Dialect) -> Self {
        // SQLite ends the text at the first NUL.
        let text = match dialect {
            Dialect::Sqlite | Dialect::Unknown => text.split('\0').next().unwrap_or_default(),
            Dialect::PostgreSql | Dialect::MySql => text,
        };
        Self {
            text,
            at: 0,
            dialect,
            backslash_escapes: dialect == Dialect::MySql,
            // `standard_conforming_strings` may be off, or `NO_BACKSLASH_ESCAPES` on.
            may_differ: matches!(dialect, Dialect::PostgreSql | Dialect::MySql),
            after_operand: false,
            before_name: false,
            brackets: 0,
            in_executed_comment: false,
            string_goes_on: false,
            is_unsure: false,
            is_misread: false,
        }
    }

    /// Whether the last token, and all that follow, may have another meaning.
    pub(super) fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    /// Whether strings and the text between them may be swapped.
    pub(super) fn is_misread(&self) -> bool {
        self.is_misread
    }

    /// The next byte that is neither white space nor part of a comment; a dot only if a name can follow it.
    pub(super) fn next_byte(&self) -> Option<u8> {
        let bytes_from = |at| {
            let rest = self.text.as_bytes().get(at..).unwrap_or_default();
            rest.iter().copied().filter(|byte| !is_space(*byte))
        };
        let mut bytes = bytes_from(self.at);
        let mut next = bytes.next()?;
        if matches!(next, b'-' | b'/' | b'#') {
            // This may be a comment.
            let mut ahead = self.clone();
            ahead.skip_space();
            if ahead.is_unsure {
                return None;
            }
            bytes = bytes_from(ahead.at);
            next = bytes.next()?;
        }
        let mut is_before_name = || match bytes.next() {
            // The ellipsis of a shape that was cut after the dot.
            Some(b'.') => bytes.next() == Some(b'.') && bytes.next() == Some(b'.'),
            behind => behind.is_some_and(|byte| begins_word(byte) || b"\"`[*?".contains(&byte)),
        };
        (next != b'.' || is_before_name()).then_some(next)
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    /// Skips the bytes for which `f` returns true.
    fn skip_while(&mut self, f: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&f) {
            self.at += 1;
        }
    }

    /// Moves to the end of the text.
    fn end(&mut self) {
        self.at = self.text.len();
    }

    /// Whether the text from `begin` on can be read to its end with the other meaning of a backslash.
    fn other_is_possible(&self, begin: usize) -> bool {
        let mut other = self.clone();
        other.at = begin;
        other.backslash_escapes = !self.backslash_escapes;
        other.may_differ = false;
        while !other.is_misread && other.next().is_some() {}
        !other.is_misread
    }

    fn token(&mut self, byte: u8) -> SqlToken<'a> {
        let goes_on = std::mem::take(&mut self.string_goes_on);
        match byte {
            b'\'' => {
                self.string_goes_on = goes_on;
                self.string(goes_on)
            }
            b'"' => self.quoted_name(b'"'),
            b'`' if self.dialect != Dialect::PostgreSql => self.quoted_name(b'`'),
            b'0'..=b'9' => self.number(),
            b'.' => self.dot(),
            b'$' if self.dialect == Dialect::MySql => self.word(),
            b'$' => self.dollar(),
            b'?' => {
                self.at += 1;
                self.skip_while(|byte| byte.is_ascii_digit());
                SqlToken::Value
            }
            b':' | b'@' if self.peek(1).is_some_and(begins_word) && self.may_bind() => {
                self.at += 1;
                self.skip_while(in_word);
                SqlToken::Value
            }
            b':' if self.peek(1) == Some(b':') => self.sign(2, SqlToken::Cast),
            b'[' => self.bracket(),
            b'(' => self.sign(1, SqlToken::Open(byte)),
            b')' => self.sign(1, SqlToken::Close(byte)),
            b']' => {
                self.brackets = self.brackets.saturating_sub(1);
                self.sign(1, SqlToken::Close(byte))
            }
            b',' => self.sign(1, SqlToken::Comma),
            b';' => self.sign(1, SqlToken::Semicolon),
            _ if begins_word(byte) => self.word(),
            _ => self.operator(byte),
        }
    }

    /// Whether a sign here begins the name of a bind, and is not part of an operator such as `@@` or `@>`.
    fn may_bind(&self) -> bool {
        let before = self.at.checked_sub(1).and_then(|before| {
            let bytes = self.text.as_bytes();
            bytes.get(before)
        });
        // PostgreSQL makes one operator of several signs; elsewhere `=@a` is a comparison with a variable.
        let signs: &[u8] = match self.dialect {
            Dialect::PostgreSql | Dialect::Unknown => b"@#:<>=~!&|*/%^+-",
            Dialect::MySql | Dialect::Sqlite => b"@:",
        };
        !before.is_some_and(|byte| signs.contains(byte)) && !self.after_operand
    }

    fn sign(&mut self, length: usize, token: SqlToken<'a>) -> SqlToken<'a> {
        self.at += length;
        token
    }

    fn number(&mut self) -> SqlToken<'a> {
        let is_hexadecimal = matches!(self.peek(1), Some(b'x' | b'X'));
        while let Some(byte) = self.peek(0) {
            let exponent = matches!(byte, b'e' | b'E') && !is_hexadecimal;
            if exponent && matches!(self.peek(1), Some(b'+' | b'-')) {
                self.at += 2;
            } else if in_word(byte) || byte == b'.' {
                self.at += 1;
            } else {
                break;
            }
        }
        SqlToken::Value
    }

    fn dot(&mut self) -> SqlToken<'a> {
        if self.rest().starts_with("...") {
            return self.sign(3, SqlToken::Ellipsis);
        }
        let begins_number = self.peek(1).is_some_and(|byte| byte.is_ascii_digit());
        if begins_number && !self.after_operand {
            return self.number();
        }
        self.sign(1, SqlToken::Dot)
    }

    fn word(&mut self) -> SqlToken<'a> {
        let begin = self.at;
        self.skip_while(in_word);
        let word = &self.text[begin..self.at];
        self.is_misread |= !word.is_ascii() && word.contains(is_typographic);
        if let Some(token) = self.prefixed(word) {
            return token;
        }
        SqlToken::Word(word, Keyword::of(word))
    }

    fn operator(&mut self, byte: u8) -> SqlToken<'a> {
        let begin = self.at;
        self.at += 1;
        match byte {
            // SQL has these only within quotes and comments.
            b'\\' => self.is_misread = true,
            b'*' if self.peek(0) == Some(b'/') => self.is_misread = true,
            // In MySQL a comment begins here.
            b'#' if self.dialect == Dialect::Unknown => self.is_unsure = true,
            _ => {}
        }
        let is_long = in_long_operator(byte)
            || (byte == b'-' && self.peek(0) == Some(b'>'))
            || (self.dialect == Dialect::PostgreSql && matches!(byte, b'@' | b'#'));
        if is_long {
            let joins = |byte| {
                in_long_operator(byte)
                    || (self.dialect == Dialect::PostgreSql && matches!(byte, b'@' | b'#'))
            };
            while self.peek(0).is_some_and(joins) {
                self.at += 1;
            }
        }
        // PostgreSQL's `~*`
        let is_match = self.dialect == Dialect::PostgreSql && self.text[..self.at].ends_with('~');
        if is_match && self.peek(0) == Some(b'*') {
            self.at += 1;
        }
        SqlToken::Operator(&self.text[begin..self.at])
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = SqlToken<'a>;

    fn next(&mut self) -> Option<SqlToken<'a>> {
        self.skip_space();
        let byte = self.peek(0)?;
        let begin = self.at;
        let token = self.token(byte);
        self.at = self.at.min(self.text.len());
        if self.in_executed_comment && self.text[begin..self.at].contains("*/") {
            // For a server that skips this comment, it ends here.
            self.is_unsure = true;
        }
        self.after_operand = token.ends_operand();
        self.before_name = matches!(token, SqlToken::Word(_, keyword) if keyword.is_before_name());
        Some(token)
    }
}

fn is_space(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte.is_ascii_control()
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Whether text processors write this character in place of quotes, dashes and spaces. Databases read it as part of a name.
fn is_typographic(character: char) -> bool {
    matches!(
        character,
        '\u{80}'..='\u{a0}' | '´' | '«' | '»'
            // Without the two joiners, which are part of words.
            | '\u{2000}'..='\u{200b}' | '\u{200e}'..='\u{206f}'
            | '\u{3000}' | '\u{3008}'..='\u{301f}' | '\u{feff}' | '\u{ff02}' | '\u{ff07}'
    )
}

fn in_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// Whether operators of several characters contain this byte: `<=`, `||`, `->>`.
fn in_long_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'<' | b'>' | b'=' | b'!' | b'|' | b'&' | b'~' | b'^' | b'%'
    )
}
