//! The shape of a statement: its text without what differs from one call to the next.
//!
//! * literals and binds become `?`, a sign before a number with it;
//! * comments are left out, white space is one space, and the same space stands around the same tokens;
//! * a list of values behind `IN`, `VALUES` or `ARRAY` becomes `(?, ...)`, and equal rows behind `VALUES` become one;
//! * names in quotes are kept where they could be names;
//! * of a text that ends within a string only the first word is kept: its quotes were read wrongly, or are wrong;
//! * a shape has at most [`LONGEST`] bytes, and ends in `...` where more was to follow.
//!
//! The shape of a shape is that shape.

use super::lexer::{Lexer, Token};

/// Bytes of the longest shape.
pub(super) const LONGEST: usize = 4096;

/// The shape of a statement.
pub(super) fn shape(sql: &str) -> String {
    let mut fold = Fold::default();
    let mut lexer = Lexer::new(sql);
    for (spaced, token) in lexer.by_ref() {
        fold.push(spaced, token);
    }
    let mut tokens = fold.finish();
    if lexer.is_cut_off() {
        tokens.truncate(1);
        tokens.retain(|(_, token)| matches!(token, Token::Word(_)));
        tokens.push((true, Token::Ellipsis));
    }
    render(&tokens)
}

/// A token, and whether white space stood before it.
type Spaced<'a> = (bool, Token<'a>);

/// Puts tokens together, and folds lists as they end.
#[derive(Debug, Default)]
struct Fold<'a> {
    tokens: Vec<Spaced<'a>>,
    open: Vec<List>,
    /// Where the row behind `VALUES` that ended last begins and ends.
    row: Option<(usize, usize)>,
}

/// A list that is open.
#[derive(Clone, Copy, Debug)]
struct List {
    begun: usize,
    kind: ListKind,
    /// Nothing but values is in it, so far.
    constant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListKind {
    /// Behind `IN` or `ARRAY`.
    Values,
    /// Behind `VALUES`, or behind another such row.
    Row,
    Other,
}

impl<'a> Fold<'a> {
    fn push(&mut self, spaced: bool, token: Token<'a>) {
        match token {
            Token::Open(_) => self.open(spaced, token),
            Token::Close(_) => self.close(token),
            Token::Value | Token::Comma | Token::Ellipsis => self.tokens.push((spaced, token)),
            _ => {
                let is_constant = ["NULL", "TRUE", "FALSE", "DEFAULT"]
                    .iter()
                    .any(|keyword| token.is_word(keyword));
                if let (false, Some(list)) = (is_constant, self.open.last_mut()) {
                    list.constant = false;
                }
                self.tokens.push((spaced, token));
            }
        }
    }

    fn open(&mut self, spaced: bool, token: Token<'a>) {
        let begun = self.tokens.len();
        let before = self.tokens.last().map(|(_, token)| token);
        let is_next_row = || {
            matches!(before, Some(Token::Comma))
                && self.row.is_some_and(|(_, end)| end + 1 == begun)
        };
        let kind = if before.is_some_and(|before| before.is_word("VALUES")) || is_next_row() {
            ListKind::Row
        } else if before.is_some_and(|before| before.is_word("IN") || before.is_word("ARRAY")) {
            ListKind::Values
        } else {
            ListKind::Other
        };
        self.tokens.push((spaced, token));
        self.open.push(List {
            begun,
            kind,
            constant: true,
        });
    }

    fn close(&mut self, token: Token<'a>) {
        self.tokens.push((false, token));
        let Some(list) = self.open.pop() else {
            return;
        };
        let holds_something = self.tokens.len() > list.begun + 2;
        if list.constant && list.kind != ListKind::Other && holds_something {
            self.tokens.truncate(list.begun + 1);
            if list.kind != ListKind::Row {
                self.row = None;
            }
            self.tokens.extend([
                (false, Token::Value),
                (false, Token::Comma),
                (true, Token::Ellipsis),
                (false, token),
            ]);
        }
        if let (false, Some(outer)) = (list.constant, self.open.last_mut()) {
            outer.constant = false;
        }
        if list.kind == ListKind::Row {
            self.end_row(list.begun);
        }
    }

    /// Leaves a row out that is like the one before it.
    fn end_row(&mut self, begun: usize) {
        let without_space = |tokens: &[Spaced<'a>]| -> Vec<Token<'a>> {
            tokens.iter().map(|(_, token)| *token).collect()
        };
        if let Some((first, end)) = self.row.filter(|(_, end)| end + 1 == begun)
            && without_space(&self.tokens[first..end]) == without_space(&self.tokens[begun..])
        {
            self.tokens.truncate(end);
        } else {
            self.row = Some((begun, self.tokens.len()));
        }
    }

    fn finish(mut self) -> Vec<Spaced<'a>> {
        while let Some((_, Token::Semicolon)) = self.tokens.last() {
            self.tokens.pop();
        }
        self.tokens
    }
}

/// How the end of a shape that is too long is written, and its length.
const CUT: &str = " ...";

fn render(tokens: &[Spaced<'_>]) -> String {
    let mut shape = String::new();
    let mut before: Option<Token<'_>> = None;
    for (index, &(spaced, token)) in tokens.iter().enumerate() {
        let space = before.is_some_and(|before| is_spaced(before, token, spaced));
        let text = token.text();
        let is_cut = index + 1 == tokens.len() && token == Token::Ellipsis;
        let room = if is_cut { LONGEST } else { LONGEST - CUT.len() };
        if shape.len() + usize::from(space) + text.len() > room {
            shape.push_str(if shape.is_empty() {
                CUT.trim_start()
            } else {
                CUT
            });
            break;
        }
        if space {
            shape.push(' ');
        }
        shape.push_str(text);
        before = Some(token);
    }
    shape
}

/// Whether a space stands between two tokens. What follows from the tokens alone does not depend on how they were written.
fn is_spaced(before: Token<'_>, token: Token<'_>, spaced: bool) -> bool {
    match (before, token) {
        // Together they would be other tokens.
        (Token::Dot | Token::Ellipsis, Token::Dot | Token::Ellipsis)
        | (Token::Operator(_), Token::Cast)
        | (Token::Cast, Token::Operator(_)) => true,
        (Token::Open(_) | Token::Dot | Token::Cast, _)
        | (_, Token::Close(_) | Token::Comma | Token::Semicolon | Token::Dot | Token::Cast)
        | (Token::Close(_) | Token::Value, Token::Open(b'[')) => false,
        // A function's arguments, or a parenthesis behind a keyword.
        (Token::Word(_) | Token::Name(_) | Token::Redacted, Token::Open(_)) => spaced,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
