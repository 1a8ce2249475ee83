//! Skips the space between tokens: white space and comments, by the rules of each dialect.

use super::{Dialect, Lexer, is_space};

/// The byte order mark.
const BYTE_ORDER_MARK: &str = "\u{feff}";

impl Lexer<'_> {
    /// Skips white space and comments.
    pub(super) fn skip_space(&mut self) {
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(byte), _) if is_space(byte) => self.at += 1,
                (Some(b'-'), Some(b'-')) if self.is_line_comment() => self.skip_line(),
                (Some(b'#'), _) if self.dialect == Dialect::MySql => self.skip_line(),
                (Some(b'/'), Some(b'*')) => self.skip_block(),
                (Some(b'*'), Some(b'/')) if self.in_executed_comment => {
                    self.in_executed_comment = false;
                    self.at += 2;
                }
                (Some(0xef), _) if self.rest().starts_with(BYTE_ORDER_MARK) => {
                    self.at += BYTE_ORDER_MARK.len();
                }
                _ => return,
            }
        }
    }

    /// Whether the two dashes here begin a comment. In MySQL white space must follow them.
    fn is_line_comment(&mut self) -> bool {
        let is_comment = self.peek(2).is_none_or(is_space);
        match self.dialect {
            Dialect::MySql => is_comment,
            Dialect::PostgreSql | Dialect::Sqlite => true,
            Dialect::Unknown => {
                let end = self.rest().find('\n').unwrap_or(self.rest().len());
                // In MySQL this is no comment: a string may begin here and end in another line.
                self.is_unsure |= !is_comment && has_quotes(&self.rest()[..end]);
                true
            }
        }
    }

    /// Skips a comment to the end of its line.
    fn skip_line(&mut self) {
        match self.dialect {
            Dialect::MySql | Dialect::Sqlite => self.skip_while(|byte| byte != b'\n'),
            Dialect::PostgreSql => self.skip_while(|byte| byte != b'\n' && byte != b'\r'),
            Dialect::Unknown => {
                self.skip_while(|byte| byte != b'\n' && byte != b'\r');
                // In the other dialects the comment continues.
                self.is_unsure |= self.peek(0) == Some(b'\r') && self.peek(1) != Some(b'\n');
            }
        }
    }

    /// Skips a block comment, or its opening if MySQL executes its content.
    fn skip_block(&mut self) {
        let executed = ["/*!", "/*M!"]
            .iter()
            .find(|opening| self.rest().starts_with(*opening));
        let begin = self.at;
        match (self.dialect, executed) {
            (Dialect::MySql, Some(opening)) => {
                self.at += opening.len();
                self.in_executed_comment = true;
                let digits = (self.rest().bytes())
                    .take_while(u8::is_ascii_digit)
                    .take(6)
                    .count();
                // The version that executes it.
                if digits >= 5 {
                    self.at += digits;
                }
            }
            (Dialect::PostgreSql | Dialect::Unknown, _) => self.skip_nested(),
            _ => {
                let rest = self.text.get(begin + 2..).unwrap_or_default();
                self.at = rest
                    .find("*/")
                    .map_or(self.text.len(), |found| begin + 4 + found);
            }
        }
        if self.dialect == Dialect::Unknown && executed.is_some() {
            // In MySQL a string may begin in the comment and end after it.
            self.is_unsure |= has_quotes(&self.text[begin..self.at]);
        }
    }

    /// Skips a block comment and those nested in it.
    fn skip_nested(&mut self) {
        let mut depth = 0_u32;
        while let Some(byte) = self.peek(0) {
            match (byte, self.peek(1)) {
                (b'/', Some(b'*')) => {
                    // Comments nest in PostgreSQL only.
                    self.is_unsure |= depth > 0 && self.dialect == Dialect::Unknown;
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
}

fn has_quotes(text: &str) -> bool {
    text.contains(['\'', '"', '`'])
}
