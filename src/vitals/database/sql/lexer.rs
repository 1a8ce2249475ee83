//! The tokens of a statement, as far as its shape needs them: what is a value, and what stands around values.
//!
//! It understands the SQL of SQLite and of PostgreSQL, takes any text without complaint, and errs on the side of taking
//! something for a value. Nothing here keeps a value's text.

/// A piece of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token<'a> {
    /// A literal, or the place of a bind.
    Value,
    /// A keyword, a name or a function.
    Word(&'a str),
    /// A name in quotes, with them.
    Name(&'a str),
    /// What stands in quotes, and is unlike any name.
    Redacted,
    /// `(` or `[`.
    Open(u8),
    /// `)` or `]`.
    Close(u8),
    Comma,
    Semicolon,
    Dot,
    /// `::`
    Cast,
    /// `...`: there were more of what stands before.
    Ellipsis,
    Operator(&'a str),
}

impl Token<'_> {
    /// How it is written in a shape.
    pub(super) fn text(&self) -> &str {
        match self {
            Self::Value => "?",
            Self::Word(text) | Self::Name(text) | Self::Operator(text) => text,
            Self::Redacted => "\"?\"",
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

    /// Whether it is this keyword, in whatever case.
    pub(super) fn is_word(&self, keyword: &str) -> bool {
        matches!(self, Self::Word(word) if word.eq_ignore_ascii_case(keyword))
    }

    /// Whether an operand can end with it, so that a sign behind it is an operator between two.
    fn ends_operand(&self) -> bool {
        match self {
            Self::Value | Self::Name(_) | Self::Redacted | Self::Close(_) => true,
            Self::Word(word) => !BEFORE_OPERAND
                .iter()
                .any(|keyword| word.eq_ignore_ascii_case(keyword)),
            _ => false,
        }
    }
}

/// Keywords that an operand follows.
const BEFORE_OPERAND: [&str; 29] = [
    "SELECT",
    "DISTINCT",
    "ALL",
    "WHERE",
    "AND",
    "OR",
    "NOT",
    "BETWEEN",
    "LIMIT",
    "OFFSET",
    "THEN",
    "ELSE",
    "WHEN",
    "CASE",
    "IN",
    "IS",
    "LIKE",
    "ILIKE",
    "GLOB",
    "VALUES",
    "RETURNING",
    "BY",
    "ON",
    "SET",
    "DEFAULT",
    "HAVING",
    "FROM",
    "AS",
    "ESCAPE",
];

/// The longest name that is taken for one, in bytes: PostgreSQL has no longer ones.
const LONGEST_NAME: usize = 63;

/// Reads a text token by token.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    text: &'a str,
    at: usize,
    last: Option<Token<'a>>,
    /// A string has just been read in which a backslash escapes: so it does where the string goes on behind white space.
    escapes: bool,
    cut_off: bool,
}

/// A token, and whether white space or a comment stood before it.
pub(super) type Spaced<'a> = (bool, Token<'a>);

impl<'a> Lexer<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            at: 0,
            last: None,
            escapes: false,
            cut_off: false,
        }
    }

    /// Whether the text has ended within a string: then what was read as strings and as what stands between them may be
    /// the other way round.
    pub(super) fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    /// Goes on past all bytes that `f` takes.
    fn skip_while(&mut self, f: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&f) {
            self.at += 1;
        }
    }

    /// Goes on behind the next `end`, or to the end of the text.
    fn skip_past(&mut self, end: &str) {
        self.at = self.text[self.at..]
            .find(end)
            .map_or(self.text.len(), |found| self.at + found + end.len());
    }

    /// Skips white space and comments. The answer is whether there were any.
    fn skip_space(&mut self) -> bool {
        let begun = self.at;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if byte.is_ascii_whitespace() || byte.is_ascii_control() => {
                    self.at += 1;
                }
                (Some(b'-'), Some(b'-')) => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
                (Some(b'/'), Some(b'*')) => self.skip_comment(),
                _ => return self.at > begun,
            }
        }
    }

    /// Skips a block comment, and those within.
    fn skip_comment(&mut self) {
        let mut depth = 0_u32;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    depth += 1;
                    self.at += 2;
                }
                (b'*', Some(b'/')) => {
                    depth -= 1;
                    self.at += 2;
                    if depth == 0 {
                        return;
                    }
                }
                _ => self.at += 1,
            }
        }
    }

    fn token(&mut self, byte: u8) -> Token<'a> {
        let goes_on = std::mem::take(&mut self.escapes);
        match byte {
            b'\'' => {
                self.escapes = goes_on;
                self.string(goes_on)
            }
            b'"' | b'`' => self.quoted_name(byte),
            b'0'..=b'9' => self.number(),
            b'.' => self.dot(),
            b'$' => self.dollar(),
            b'?' => {
                self.at += 1;
                self.skip_while(|byte| byte.is_ascii_digit());
                Token::Value
            }
            b':' | b'@' | b'#' if self.peek(1).is_some_and(begins_word) && self.may_bind() => {
                self.at += 1;
                self.skip_while(in_word);
                Token::Value
            }
            b':' if self.peek(1) == Some(b':') => self.sign(2, Token::Cast),
            b'[' if self.is_quoting_bracket() => {
                self.skip_past("]");
                Token::Redacted
            }
            b'(' | b'[' => self.sign(1, Token::Open(byte)),
            b')' | b']' => self.sign(1, Token::Close(byte)),
            b',' => self.sign(1, Token::Comma),
            b';' => self.sign(1, Token::Semicolon),
            _ if begins_word(byte) => self.word(),
            _ => self.operator(byte),
        }
    }

    /// Whether a sign here may begin the name of a bind, rather than be, or end, an operator: `@@`, `#`.
    fn may_bind(&self) -> bool {
        let before = self
            .at
            .checked_sub(1)
            .and_then(|before| self.text.as_bytes().get(before));
        !before.is_some_and(|byte| b"@#:<>=~!&|*/%^+-".contains(byte))
            && !self.last.is_some_and(|last| last.ends_operand())
    }

    /// Whether a bracket here quotes a name, as SQLite lets it, and one with a quote in it.
    fn is_quoting_bracket(&self) -> bool {
        let inside = self.text[self.at..]
            .split_once(']')
            .map(|(inside, _)| inside);
        inside.is_some_and(|inside| inside.contains('\''))
            && !self.last.is_some_and(|last| last.ends_operand())
    }

    fn sign(&mut self, length: usize, token: Token<'a>) -> Token<'a> {
        self.at += length;
        token
    }

    /// Reads a string from its opening quote on.
    fn string(&mut self, backslash_escapes: bool) -> Token<'a> {
        self.at += 1;
        while let Some(byte) = self.peek(0) {
            match byte {
                b'\\' if backslash_escapes => self.at += 2,
                b'\'' if self.peek(1) == Some(b'\'') => self.at += 2,
                b'\'' => {
                    self.at += 1;
                    return Token::Value;
                }
                _ => self.at += 1,
            }
        }
        self.cut_off = true;
        self.end();
        Token::Value
    }

    /// The text ends within something that should have an end of its own.
    fn end(&mut self) {
        self.at = self.text.len();
    }

    /// SQLite takes what stands in double quotes for a string where it knows no such name. So only what could be a name
    /// is kept.
    fn quoted_name(&mut self, quote: u8) -> Token<'a> {
        let begun = self.at;
        self.at += 1;
        let mut doubled = false;
        while let Some(byte) = self.peek(0) {
            if byte != quote {
                self.at += 1;
            } else if self.peek(1) == Some(quote) {
                doubled = true;
                self.at += 2;
            } else {
                self.at += 1;
                let text = &self.text[begun..self.at];
                let name = &text[1..text.len() - 1];
                let is_name = !doubled
                    && name.len() <= LONGEST_NAME
                    && name.bytes().next().is_some_and(begins_word)
                    && name.bytes().all(in_word);
                return if is_name {
                    Token::Name(text)
                } else {
                    Token::Redacted
                };
            }
        }
        self.end();
        Token::Redacted
    }

    fn number(&mut self) -> Token<'a> {
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
        Token::Value
    }

    fn dot(&mut self) -> Token<'a> {
        if self.text[self.at..].starts_with("...") {
            return self.sign(3, Token::Ellipsis);
        }
        let begins_number = self.peek(1).is_some_and(|byte| byte.is_ascii_digit())
            && !self.last.is_some_and(|last| last.ends_operand());
        if begins_number {
            return self.number();
        }
        self.sign(1, Token::Dot)
    }

    /// A bind (`$1`, `$name`) or a string between two equal tags (`$$…$$`, `$tag$…$tag$`).
    fn dollar(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let tag_length = rest[1..]
            .bytes()
            .take_while(|&byte| in_word(byte) && byte != b'$')
            .count();
        let numbered = rest[1..].starts_with(|first: char| first.is_ascii_digit());
        if rest.as_bytes().get(1 + tag_length) == Some(&b'$') && !numbered {
            let tag = &rest[..tag_length + 2];
            self.at += tag.len();
            self.skip_past(tag);
        } else {
            self.at += 1;
            self.skip_while(in_word);
        }
        Token::Value
    }

    fn word(&mut self) -> Token<'a> {
        let begun = self.at;
        self.skip_while(in_word);
        let word = &self.text[begun..self.at];
        if self.peek(0) == Some(b'\'') {
            match word {
                "E" | "e" => {
                    self.escapes = true;
                    return self.string(true);
                }
                "B" | "b" | "X" | "x" | "N" | "n" => return self.string(false),
                _ => {}
            }
        }
        Token::Word(word)
    }

    fn operator(&mut self, byte: u8) -> Token<'a> {
        let begun = self.at;
        let signs = matches!(byte, b'+' | b'-');
        let before_number = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_digit());
        if signs
            && !self.last.is_some_and(|last| last.ends_operand())
            && (before_number(self.peek(1))
                || (self.peek(1) == Some(b'.') && before_number(self.peek(2))))
        {
            self.at += 1;
            return self.number();
        }
        self.at += 1;
        if in_long_operator(byte) || (byte == b'-' && self.peek(0) == Some(b'>')) {
            self.skip_while(in_long_operator);
        }
        Token::Operator(&self.text[begun..self.at])
    }
}

impl<'a> Iterator for Lexer<'a> {
    type Item = Spaced<'a>;

    fn next(&mut self) -> Option<Spaced<'a>> {
        let spaced = self.skip_space();
        let byte = self.peek(0)?;
        let token = self.token(byte);
        self.at = self.at.min(self.text.len());
        self.last = Some(token);
        Some((spaced, token))
    }
}

fn begins_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

fn in_word(byte: u8) -> bool {
    begins_word(byte) || byte.is_ascii_digit() || byte == b'$'
}

/// What several of which make one operator: `<=`, `||`, `->>`.
fn in_long_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'<' | b'>' | b'=' | b'!' | b'|' | b'&' | b'~' | b'^' | b'%'
    )
}
