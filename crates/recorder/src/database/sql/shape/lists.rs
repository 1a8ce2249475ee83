//! Folds the lists of a statement while they are read.
//!
//! An element of a list after `IN`, `VALUES` or `ARRAY` is a constant if it contains no column and no query; functions,
//! casts and types are allowed. It is written like any other text, and replaced by `?, ...` when it ends.

use super::output::{Mark, Output};
use crate::database::sql::keyword::Keyword;
use crate::database::sql::lexer::SqlToken;
use crate::database::sql::names::Scope;

/// The parentheses and brackets that are open.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// The scope outside of all parentheses.
    outermost: Scope,
    open: Vec<List>,
    /// Parentheses that have opened since the output was full. Their contents are not written.
    unwritten: usize,
    /// How many of `open` may be folded.
    foldable: usize,
    position: ElementPosition,
    /// The last token.
    introducer: ListIntroducer,
    /// The last row after `VALUES`.
    row: Option<WrittenRow>,
}

/// A parenthesis or bracket that is open.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
#[derive(Clone, Copy, Debug)]
struct List {
    kind: ListKind,
    scope: Scope,
    /// Where the list begins.
    begin: Mark,
    /// Where the current element begins, including the comma before it.
    element: Mark,
    is_first_element: bool,
    /// The current element is not empty.
    has_element: bool,
    /// The current element is a constant so far.
    is_constant: bool,
    /// All earlier elements are constants.
    all_constant: bool,
    /// The previous element was a constant, written as `?, ...`.
    after_constant: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ListKind {
    /// After `IN` or `ARRAY`.
    Values,
    /// After `VALUES`, or after another such row.
    Row,
    Other,
}

/// A row that has been written.
#[derive(Clone, Copy, Debug)]
struct WrittenRow {
    begin: usize,
    end: Mark,
}

/// The position of the last token within its element.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ElementPosition {
    /// Before an operand.
    #[default]
    Before,
    /// After a word in place of an operand: a column, unless a value or a parenthesis follows.
    Words,
    /// After an operand: words are units, or the rest of a type.
    After,
    /// After `::`, `AS`, `COLLATE`: words are names of types or collations.
    Type,
}

/// The last token, as far as it determines the kind of the parenthesis that follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum ListIntroducer {
    /// `VALUES`, or a comma after a row.
    Rows,
    /// `IN` or `ARRAY`
    Values,
    /// The end of a row.
    Row,
    #[default]
    Other,
}

impl Lists {
    /// The scope of the innermost parentheses.
    pub(super) fn scope(&self) -> Scope {
        self.open.last().map_or(self.outermost, |list| list.scope)
    }

    pub(super) fn scope_mut(&mut self) -> &mut Scope {
        let innermost = self.open.last_mut();
        innermost.map_or(&mut self.outermost, |list| &mut list.scope)
    }

    /// How many parentheses are open.
    pub(super) fn depth(&self) -> usize {
        self.open.len() + self.unwritten
    }

    /// Starts another statement.
    pub(super) fn separate(&mut self) {
        self.row = None;
        self.introducer = ListIntroducer::Other;
        self.position = ElementPosition::Before;
        // A parenthesis that is still open is never closed.
        self.is_no_constant();
    }

    /// Writes a token, and folds the element or list that ends with it. `columns` says that a parenthesis opens a list of
    /// columns.
    pub(super) fn push(&mut self, token: &SqlToken<'_>, columns: bool, output: &mut Output) {
        let introducer = match token {
            SqlToken::Open(_) => {
                self.open(token, columns, output);
                ListIntroducer::Other
            }
            SqlToken::Close(_) => self.close(token, output),
            SqlToken::Comma => self.comma(output),
            _ => {
                output.push(token, false);
                match token {
                    SqlToken::Word(_, Keyword::Values | Keyword::Value) => {
                        self.row = None;
                        ListIntroducer::Rows
                    }
                    SqlToken::Word(_, Keyword::Row) if self.introducer == ListIntroducer::Rows => {
                        ListIntroducer::Rows
                    }
                    SqlToken::Word(_, Keyword::In | Keyword::Array) => ListIntroducer::Values,
                    _ => ListIntroducer::Other,
                }
            }
        };
        self.introducer = introducer;
    }

    /// Ends the text.
    pub(super) fn finish(&mut self, output: &mut Output) {
        if self.position == ElementPosition::Words {
            self.is_no_constant();
        }
        if self.unwritten > 0 {
            return;
        }
        match self.open.last() {
            // Drop the comma after the constants.
            Some(list) if list.after_constant && !list.has_element => {
                output.rewind(list.element);
            }
            _ => self.end_element(output),
        }
    }

    fn open(&mut self, token: &SqlToken<'_>, columns: bool, output: &mut Output) {
        if output.is_full() {
            self.unwritten += 1;
            return;
        }
        let begin = output.mark();
        output.push(token, columns);
        let kind = match self.introducer {
            ListIntroducer::Rows => ListKind::Row,
            ListIntroducer::Values => ListKind::Values,
            ListIntroducer::Row | ListIntroducer::Other => ListKind::Other,
        };
        if kind != ListKind::Other {
            self.foldable += 1;
            self.position = ElementPosition::Before;
        }
        self.open.push(List {
            kind,
            scope: Scope::default(),
            begin,
            element: output.mark(),
            is_first_element: true,
            has_element: false,
            is_constant: true,
            all_constant: true,
            after_constant: false,
        });
    }

    fn comma(&mut self, output: &mut Output) -> ListIntroducer {
        if self.unwritten > 0 {
            return ListIntroducer::Other;
        }
        let is_behind_row = self.introducer == ListIntroducer::Row;
        self.end_element(output);
        if let Some(list) = self.open.last_mut() {
            list.element = output.mark();
            list.is_first_element = false;
            list.has_element = false;
            list.is_constant = true;
        }
        output.push(&SqlToken::Comma, false);
        if is_behind_row {
            ListIntroducer::Rows
        } else {
            ListIntroducer::Other
        }
    }

    fn close(&mut self, token: &SqlToken<'_>, output: &mut Output) -> ListIntroducer {
        if let Some(unwritten) = self.unwritten.checked_sub(1) {
            self.unwritten = unwritten;
            return ListIntroducer::Other;
        }
        self.end_element(output);
        output.push(token, false);
        let Some(list) = self.open.pop() else {
            return ListIntroducer::Other;
        };
        if list.kind != ListKind::Other {
            self.foldable -= 1;
        }
        if !list.all_constant {
            self.is_no_constant();
        }
        match list.kind {
            ListKind::Row => {
                self.end_row(list, output);
                ListIntroducer::Row
            }
            ListKind::Values | ListKind::Other => ListIntroducer::Other,
        }
    }

    /// Folds the current element of the innermost list into the constants before it, if it is a constant.
    fn end_element(&mut self, output: &mut Output) {
        let Some(list) = self.open.last_mut() else {
            return;
        };
        list.all_constant &= list.is_constant;
        if list.kind == ListKind::Other {
            return;
        }
        if !list.has_element {
            list.after_constant = false;
            return;
        }
        let after_constant = std::mem::replace(&mut list.after_constant, list.is_constant);
        if !list.is_constant || !output.rewind(list.element) || after_constant {
            return;
        }
        if !list.is_first_element {
            output.push(&SqlToken::Comma, false);
        }
        output.push(&SqlToken::Value, false);
        output.push(&SqlToken::Comma, false);
        output.push(&SqlToken::Ellipsis, false);
    }

    /// Removes a row that equals the previous one.
    fn end_row(&mut self, list: List, output: &mut Output) {
        let end = output.mark();
        let (begin, length) = (list.begin.length(), end.length());
        if let Some(row) = self.row
            && row.end.length() < begin
            && !output.is_full()
            && output.between(row.begin, row.end.length()) == output.between(begin, length)
        {
            output.rewind(row.end);
        } else {
            self.row = Some(WrittenRow { begin, end });
        }
    }

    /// Marks the current element as not constant.
    fn is_no_constant(&mut self) {
        if let Some(list) = self.open.last_mut() {
            list.is_constant = false;
        }
    }

    /// Updates whether the current element is a constant, for a token that is about to be pushed.
    pub(super) fn examine(&mut self, token: &SqlToken<'_>) {
        if self.foldable == 0 {
            return;
        }
        let position = self.position;
        let is_end = matches!(token, SqlToken::Close(_) | SqlToken::Comma | SqlToken::Cast);
        if position == ElementPosition::Words && is_end {
            self.is_no_constant();
        }
        self.position = match token {
            SqlToken::Value | SqlToken::Close(_) => ElementPosition::After,
            SqlToken::Open(_) | SqlToken::Comma | SqlToken::Semicolon => ElementPosition::Before,
            SqlToken::Cast => ElementPosition::Type,
            SqlToken::Dot => match position {
                ElementPosition::After => {
                    self.is_no_constant();
                    ElementPosition::Words
                }
                _ => position,
            },
            SqlToken::Quoted(_) => match position {
                ElementPosition::Before => ElementPosition::Words,
                _ => position,
            },
            SqlToken::Word(_, keyword) => self.word(*keyword),
            SqlToken::Operator(sign) => self.operator(sign),
            SqlToken::Ellipsis => {
                // Stands for more constants, or for a missing part.
                if !self.may_go_on() {
                    self.is_no_constant();
                }
                ElementPosition::After
            }
        };
        if !matches!(token, SqlToken::Comma | SqlToken::Close(_))
            && let Some(list) = self.open.last_mut()
        {
            list.has_element = true;
        }
    }

    /// Whether `...` here stands for more constants.
    fn may_go_on(&self) -> bool {
        let innermost = self.open.last();
        innermost.is_some_and(|list| list.after_constant && !list.has_element)
    }

    fn word(&mut self, keyword: Keyword) -> ElementPosition {
        let position = self.position;
        match keyword {
            Keyword::Select | Keyword::Values | Keyword::Table => {
                self.subquery();
                ElementPosition::Before
            }
            Keyword::With if position == ElementPosition::Before => {
                self.subquery();
                ElementPosition::Before
            }
            Keyword::Literal | Keyword::Default => ElementPosition::After,
            Keyword::As | Keyword::Collate | Keyword::Using => {
                self.column_ends();
                ElementPosition::Type
            }
            Keyword::Operator | Keyword::In => {
                self.column_ends();
                ElementPosition::Before
            }
            Keyword::From | Keyword::Interval | Keyword::Operand | Keyword::Distinct => {
                ElementPosition::Before
            }
            _ => match position {
                ElementPosition::Before => ElementPosition::Words,
                _ => position,
            },
        }
    }

    fn operator(&mut self, sign: &str) -> ElementPosition {
        match (sign, self.position) {
            // The name of an argument.
            ("=>" | ":=", ElementPosition::Words) => ElementPosition::Before,
            // `count(*)`
            ("*", ElementPosition::Before) => ElementPosition::After,
            _ => {
                self.column_ends();
                ElementPosition::Before
            }
        }
    }

    /// Marks the element as not constant if the words before an operator are a column.
    fn column_ends(&mut self) {
        if self.position == ElementPosition::Words {
            self.is_no_constant();
        }
    }

    /// Handles a query in the list. A list that begins with a query is not folded.
    fn subquery(&mut self) {
        if let Some(list) = self.open.last_mut() {
            list.is_constant = false;
            if !list.has_element
                && list.is_first_element
                && list.kind != ListKind::Other
                && self.unwritten == 0
            {
                list.kind = ListKind::Other;
                self.foldable -= 1;
            }
        }
    }
}
