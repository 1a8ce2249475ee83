//! The text of a shape while it is written. It is bounded, and can be truncated to fold a list.

use crate::database::sql::lexer::SqlToken;

/// The length of the longest shape, in bytes.
pub(super) const LONGEST: usize = 4096;

/// The end of a shape that is incomplete.
const CUT: &str = " ...";

/// The most bytes before such an end.
const ROOM: usize = LONGEST - CUT.len();

/// A text of at most [`LONGEST`] bytes.
#[derive(Debug, Default)]
pub(super) struct Output {
    text: String,
    last: Option<SpacingKind>,
    /// A token had no room. None is written until the text is truncated.
    is_full: bool,
}

/// A position to which the text can be truncated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    /// Small, as there may be two for each parenthesis that is open.
    length: u16,
    last: Option<SpacingKind>,
    /// The text was not full here.
    is_valid: bool,
}

impl Mark {
    pub(super) fn length(self) -> usize {
        usize::from(self.length)
    }
}

/// The property of a token that decides about the space after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SpacingKind {
    /// A name, a function or a type.
    Word,
    /// A keyword that is not a function: a space separates it from a parenthesis.
    Keyword,
    Value,
    Open,
    Close,
    Dot,
    Cast,
    Ellipsis,
    Operator,
    Other,
}

impl SpacingKind {
    fn of(token: &SqlToken<'_>) -> Self {
        match token {
            SqlToken::Value => Self::Value,
            SqlToken::Word(_, keyword) if keyword.is_before_parenthesis() => Self::Keyword,
            SqlToken::Word(..) | SqlToken::Quoted(_) => Self::Word,
            SqlToken::Open(_) => Self::Open,
            SqlToken::Close(_) => Self::Close,
            SqlToken::Dot => Self::Dot,
            SqlToken::Cast => Self::Cast,
            SqlToken::Ellipsis => Self::Ellipsis,
            SqlToken::Operator(_) => Self::Operator,
            SqlToken::Comma | SqlToken::Semicolon => Self::Other,
        }
    }
}

impl Output {
    pub(super) fn with_room_for(bytes: usize) -> Self {
        Self {
            text: String::with_capacity(bytes.min(LONGEST)),
            ..Self::default()
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn mark(&self) -> Mark {
        Mark {
            length: u16::try_from(self.text.len()).unwrap_or(u16::MAX),
            last: self.last,
            is_valid: !self.is_full,
        }
    }

    /// Truncates the text to a mark. Returns false, and does nothing, if the text was full there.
    pub(super) fn rewind(&mut self, mark: Mark) -> bool {
        if mark.is_valid {
            self.text.truncate(mark.length());
            self.last = mark.last;
            self.is_full = false;
        }
        mark.is_valid
    }

    /// The text between two lengths.
    pub(super) fn between(&self, begin: usize, end: usize) -> Option<&str> {
        self.text.get(begin..end)
    }

    /// Appends a token; `columns` says that it opens a list of columns.
    pub(super) fn push(&mut self, token: &SqlToken<'_>, columns: bool) {
        if self.is_full {
            return;
        }
        let space = self
            .last
            .is_some_and(|before| is_spaced(before, token, columns));
        let text = token.text();
        let room = match token {
            SqlToken::Ellipsis => LONGEST,
            _ => ROOM,
        };
        if self.text.len() + usize::from(space) + text.len() > room {
            self.is_full = true;
            return;
        }
        if space {
            self.text.push(' ');
        }
        self.text.push_str(text);
        self.last = Some(SpacingKind::of(token));
    }

    /// Returns the text; `is_cut` says that something is missing at its end.
    pub(super) fn finish(mut self, is_cut: bool) -> String {
        if (is_cut || self.is_full) && self.last != Some(SpacingKind::Ellipsis) {
            let end = SqlToken::Ellipsis;
            if self
                .last
                .is_some_and(|before| is_spaced(before, &end, false))
            {
                self.text.push(' ');
            }
            self.text.push_str(end.text());
        }
        self.text
    }
}

/// Whether there is a space between two tokens. It does not depend on the original text.
fn is_spaced(before: SpacingKind, token: &SqlToken<'_>, columns: bool) -> bool {
    match (before, token) {
        // Without a space they would be read as other tokens.
        (SpacingKind::Dot | SpacingKind::Ellipsis, SqlToken::Dot | SqlToken::Ellipsis)
        | (SpacingKind::Operator, SqlToken::Cast)
        | (SpacingKind::Cast, SqlToken::Operator(_)) => true,
        (SpacingKind::Open | SpacingKind::Dot | SpacingKind::Cast, _)
        | (
            _,
            SqlToken::Close(_)
            | SqlToken::Comma
            | SqlToken::Semicolon
            | SqlToken::Dot
            | SqlToken::Cast,
        )
        | (SpacingKind::Close | SpacingKind::Value | SpacingKind::Word, SqlToken::Open(b'[')) => {
            false
        }
        // The arguments of a function.
        (SpacingKind::Word, SqlToken::Open(_)) => columns,
        _ => true,
    }
}
