//! The shape of a statement: its text without the parts that differ between calls.
//!
//! * literals and binds become `?`, a sign before them is left out;
//! * comments are left out, white space is one space, and the same tokens always have the same space around them;
//! * in a list after `IN`, `VALUES` or `ARRAY`, constants become `?, ...`, and equal rows after `VALUES` become one;
//! * names in quotes are kept where they can only be names;
//! * a bare word, or a name in quotes, that is the value of a setting becomes `?`;
//! * of a misread text only the first word is kept; an unsure text is cut where dialects differ;
//! * a shape has at most 4 KiB, and ends in `...` if something is missing.
//!
//! The shape of a shape is that shape. It is written while the text is read, so that its memory is bounded by its own
//! length: `output` contains the text, `lists` folds lists in it when they end.

mod lists;
mod output;

use super::dialect::Dialect;
use super::lexer::SqlToken;
use super::names::Names;

use lists::Lists;
use output::{Mark, Output};

/// Builds a shape, token by token.
#[derive(Debug)]
pub(super) struct Shaper<'a> {
    output: Output,
    lists: Lists,
    names: Names,
    /// The first token.
    first: Option<SqlToken<'a>>,
    /// The last token ends an operand.
    after_operand: bool,
    /// The position of the signs before an operand.
    signs: Option<Mark>,
    /// A semicolon was read; it is written only if something follows.
    semicolon: bool,
    /// The rest is left out.
    is_cut: bool,
}

impl<'a> Shaper<'a> {
    /// A shaper for a text of this many bytes.
    pub(super) fn new(dialect: Dialect, bytes: usize) -> Self {
        Self {
            output: Output::with_room_for(bytes),
            lists: Lists::default(),
            names: Names::new(dialect),
            first: None,
            after_operand: false,
            signs: None,
            semicolon: false,
            is_cut: false,
        }
    }

    /// Leaves out the rest of the text.
    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Processes the next token. `next` is the byte after it; `is_name` says that it is the name of a common table
    /// expression.
    pub(super) fn push(&mut self, token: SqlToken<'a>, next: Option<u8>, is_name: bool) {
        if self.is_cut {
            return;
        }
        if is_name {
            self.names.expect_table();
        }
        let scope = self.lists.scope();
        let token = match token {
            _ if self.names.is_bare_value(&token, self.lists.depth(), next) => SqlToken::Value,
            SqlToken::Quoted(text) if text.starts_with('"') && !is_name => {
                if self.names.is_name(scope, next) {
                    token
                } else {
                    SqlToken::Value
                }
            }
            _ => token,
        };
        if token == SqlToken::Semicolon {
            self.semicolon = !self.output.is_empty();
            self.names.push(&token, self.lists.scope_mut());
            self.after_operand = false;
            self.signs = None;
            return;
        }
        self.first.get_or_insert(token);
        if std::mem::take(&mut self.semicolon) {
            self.output.push(&SqlToken::Semicolon, false);
            self.lists.separate();
        }
        let is_sign = matches!(token, SqlToken::Operator("+" | "-")) && !self.after_operand;
        self.fold_signs(&token, is_sign);
        if !is_sign {
            self.lists.examine(&token);
        }
        let columns = self.names.columns_follow();
        self.lists.push(&token, columns, &mut self.output);
        self.names.push(&token, self.lists.scope_mut());
        self.after_operand = token.ends_operand();
    }

    /// Removes the signs that belong to a value.
    fn fold_signs(&mut self, token: &SqlToken<'_>, is_sign: bool) {
        match token {
            _ if is_sign => {
                self.signs.get_or_insert_with(|| self.output.mark());
            }
            SqlToken::Value => {
                if let Some(mark) = self.signs.take() {
                    self.output.rewind(mark);
                }
            }
            _ => self.signs = None,
        }
    }

    /// Returns the shape. Of a text that was misread, only the first word is kept.
    pub(super) fn finish(mut self, is_misread: bool) -> String {
        if !is_misread {
            self.lists.finish(&mut self.output);
            return self.output.finish(self.is_cut);
        }
        let mut output = Output::default();
        // A space of a text processor joins the first word with what follows.
        if let Some(first @ SqlToken::Word(text, _)) = self.first
            && text.is_ascii()
        {
            output.push(&first, false);
        }
        output.finish(true)
    }
}

#[cfg(test)]
mod tests;
