//! Whether a text has placeholders in place of all its values, so that it is the same for every call.

use super::{Dialect, Lexer, SqlToken, is_space};

impl Lexer<'_> {
    /// Whether the text is one statement in which every value is a placeholder. It must also have no comment, which may
    /// contain anything, and nothing that is a value in some dialect or under some setting of the server.
    pub(in super::super) fn has_only_placeholders(mut self) -> bool {
        loop {
            let end = self.at;
            self.skip_space();
            if !self.text[end..self.at].bytes().all(is_space) {
                return false;
            }
            let begin = self.at;
            let Some(token) = self.next() else {
                return !self.is_unsure && !self.is_misread;
            };
            let is_fit = match token {
                SqlToken::Value => is_placeholder(&self.text[begin..self.at], self.dialect),
                // A string, except in PostgreSQL.
                SqlToken::Quoted(name) => {
                    !name.starts_with('"') || self.dialect == Dialect::PostgreSql
                }
                SqlToken::Semicolon | SqlToken::Ellipsis => false,
                _ => true,
            };
            if !is_fit {
                return false;
            }
        }
    }
}

/// Whether the text of a value is a placeholder: `$1`, or in other dialects `?` and what SQLite has besides.
fn is_placeholder(value: &str, dialect: Dialect) -> bool {
    let is_numbered = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit());
    match dialect {
        Dialect::PostgreSql => {
            let number = value.strip_prefix('$');
            number.is_some_and(|number| !number.is_empty() && is_numbered(number))
        }
        Dialect::MySql => value == "?",
        Dialect::Sqlite => match value.split_at_checked(1) {
            Some(("?", number)) => is_numbered(number),
            Some((":" | "@" | "$", _)) => true,
            _ => false,
        },
        Dialect::Unknown => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_with_a_literal_or_a_comment_is_never_kept() {
        use Dialect::{MySql, PostgreSql, Sqlite, Unknown};

        for (sql, dialect, expected) in [
            ("SELECT a FROM t WHERE b = $1", PostgreSql, true),
            (r#"SELECT "a" FROM "t" WHERE "b" = $12"#, PostgreSql, true),
            ("SELECT a FROM t WHERE b IS NULL AND c", PostgreSql, true),
            ("SELECT a[$1] FROM t", PostgreSql, true),
            ("SELECT a FROM t WHERE b = ?", PostgreSql, false),
            ("SELECT a FROM t LIMIT 1", PostgreSql, false),
            ("SELECT a FROM t WHERE b = 'x'", PostgreSql, false),
            ("SELECT a FROM t WHERE b = E'x'", PostgreSql, false),
            ("SELECT a FROM t WHERE b = $$x$$", PostgreSql, false),
            ("SELECT a FROM t WHERE b = $q$x$q$", PostgreSql, false),
            ("SELECT a FROM t WHERE b = $1x", PostgreSql, false),
            (
                "SELECT a FROM t WHERE b = DATE '2020-01-01'",
                PostgreSql,
                false,
            ),
            ("SELECT a -- secret\n FROM t", PostgreSql, false),
            ("SELECT a /* secret */ FROM t", PostgreSql, false),
            ("SELECT a FROM t -- secret", PostgreSql, false),
            ("SELECT a; SELECT b", PostgreSql, false),
            ("SELECT a FROM t WHERE b = 'x", PostgreSql, false),
            ("SELECT `a` FROM `t` WHERE `b` = ? LIMIT ?", Sqlite, true),
            ("SELECT a FROM [t] WHERE b = ?1 AND c = :c", Sqlite, true),
            (r#"SELECT a FROM t WHERE b = "x""#, Sqlite, false),
            ("SELECT a FROM t WHERE b = x'ab'", Sqlite, false),
            ("SELECT `a` FROM `t` WHERE `b` = ?", MySql, true),
            ("SELECT a FROM t WHERE b = @b", MySql, false),
            ("SELECT a FROM t # secret", MySql, false),
            ("SELECT a /*! FROM t */", MySql, false),
            ("SELECT a FROM t WHERE b = ?", Unknown, false),
        ] {
            let found = Lexer::new(sql, dialect).has_only_placeholders();
            assert_eq!(found, expected, "{sql}");
        }
    }
}
