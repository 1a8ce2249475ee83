//! Reads Rust source far enough to know which paths it names: comments, literals and test code are left out.
//!
//! It is a reader of tokens, not a compiler: macros are not expanded and names are not resolved beyond modules. What
//! the paths mean for the architecture is decided in `graph`.

/// One token that matters to a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    PathSeparator,
    Mark(char),
}

/// A path as written, with the inline modules that surround it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NamedPath {
    /// Names of the inline modules around the path, outermost first.
    pub(crate) within: Vec<String>,
    /// The segments, such as `crate`, `registry`, `counter`, `Counter`; a glob ends in `*`.
    pub(crate) segments: Vec<String>,
}

/// Every path of at least two segments that this source names outside its tests, groups unfolded.
pub(crate) fn named_paths(source: &str) -> Vec<NamedPath> {
    let tokens = tokens(source);
    let tokens = without_tests(&tokens);
    let mut paths = Vec::new();
    let mut within: Vec<(String, usize)> = Vec::new();
    let mut depth = 0_usize;
    let mut at = 0;
    while at < tokens.len() {
        match &tokens[at] {
            Token::Mark('{') => depth += 1,
            Token::Mark('}') => {
                depth = depth.saturating_sub(1);
                within.retain(|(_, opened_at)| *opened_at < depth);
            }
            Token::Word(word) if word == "mod" => {
                if let (Some(Token::Word(name)), Some(Token::Mark('{'))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                {
                    within.push((name.clone(), depth));
                }
            }
            Token::Word(_) if starts_path(&tokens, at) => {
                let inside: Vec<String> = within.iter().map(|(name, _)| name.clone()).collect();
                let end = unfold(&tokens, at, &[], &mut |segments| {
                    if segments.len() > 1 {
                        paths.push(NamedPath {
                            within: inside.clone(),
                            segments,
                        });
                    }
                });
                at = end.max(at + 1);
                continue;
            }
            Token::Mark(_) | Token::PathSeparator | Token::Word(_) => {}
        }
        at += 1;
    }
    paths
}

/// Every single word of the source outside its tests.
pub(crate) fn words(source: &str) -> Vec<String> {
    without_tests(&tokens(source))
        .into_iter()
        .filter_map(|token| match token {
            Token::Word(word) => Some(word),
            _ => None,
        })
        .collect()
}

fn starts_path(tokens: &[Token], at: usize) -> bool {
    let follows_separator = at > 0 && tokens[at - 1] == Token::PathSeparator;
    let follows_dot = at > 0 && tokens[at - 1] == Token::Mark('.');
    !follows_separator && !follows_dot && tokens.get(at + 1) == Some(&Token::PathSeparator)
}

/// Walks one path from `at`, calls `found` for each full path in it, and answers where it ends.
fn unfold(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    found: &mut dyn FnMut(Vec<String>),
) -> usize {
    let mut segments = prefix.to_vec();
    loop {
        match tokens.get(at) {
            Some(Token::Word(word)) => segments.push(word.clone()),
            Some(Token::Mark('*')) => segments.push("*".to_owned()),
            Some(Token::Mark('{')) => return unfold_group(tokens, at + 1, &segments, found),
            // A turbofish or a qualified path ends the part that names modules.
            _ => {
                found(segments);
                return at;
            }
        }
        at += 1;
        if tokens.get(at) == Some(&Token::PathSeparator) {
            at += 1;
        } else {
            found(segments);
            return at;
        }
    }
}

fn unfold_group(
    tokens: &[Token],
    mut at: usize,
    prefix: &[String],
    found: &mut dyn FnMut(Vec<String>),
) -> usize {
    loop {
        match tokens.get(at) {
            None => return at,
            Some(Token::Mark('}')) => return at + 1,
            Some(Token::Word(word)) if word == "as" => at += 2,
            Some(Token::Word(_) | Token::Mark('*' | '{')) => at = unfold(tokens, at, prefix, found),
            Some(_) => at += 1,
        }
    }
}

/// Drops every item under a `#[cfg(test)]`, and under any other `cfg` that names `test`.
fn without_tests(tokens: &[Token]) -> Vec<Token> {
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if let Some(after) = test_attribute(tokens, at) {
            at = after_item(tokens, after);
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// Where the attribute that opens at `at` ends, if it is one that keeps its item to tests.
fn test_attribute(tokens: &[Token], at: usize) -> Option<usize> {
    if tokens.get(at..at + 2)? != [Token::Mark('#'), Token::Mark('[')] {
        return None;
    }
    let end = matching(tokens, at + 1, '[', ']');
    let inside = &tokens[at + 2..end];
    let named = |name: &str| inside.contains(&Token::Word(name.to_owned()));
    (inside.first() == Some(&Token::Word("cfg".to_owned())) && named("test") && !named("not"))
        .then_some(end + 1)
}

/// Where the item that starts at `at` ends: after its `;`, or after its braces.
fn after_item(tokens: &[Token], mut at: usize) -> usize {
    while at < tokens.len() {
        match tokens[at] {
            Token::Mark(';') => return at + 1,
            Token::Mark('{') => {
                let end = matching(tokens, at, '{', '}') + 1;
                // `use a::{b, c};` ends with the semicolon behind its braces.
                return end + usize::from(tokens.get(end) == Some(&Token::Mark(';')));
            }
            Token::Mark('[') => at = matching(tokens, at, '[', ']') + 1,
            Token::Mark('(') => at = matching(tokens, at, '(', ')') + 1,
            _ => at += 1,
        }
    }
    at
}

/// The index of the mark that closes the one at `at`, or of the last token.
fn matching(tokens: &[Token], at: usize, open: char, close: char) -> usize {
    let mut depth = 0_usize;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        if *token == Token::Mark(open) {
            depth += 1;
        } else if *token == Token::Mark(close) {
            depth -= 1;
            if depth == 0 {
                return index;
            }
        }
    }
    tokens.len().saturating_sub(1)
}

fn tokens(source: &str) -> Vec<Token> {
    let characters: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < characters.len() {
        let rest = &characters[at..];
        match rest {
            ['/', '/', ..] => at += rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => at += block_comment(rest),
            ['b' | 'c', 'r', '"' | '#', ..] => at += 1 + raw_string(&rest[1..]),
            ['r', '"' | '#', ..] => at += raw_string(rest),
            ['b' | 'c', '"', ..] => at += 1 + string(&rest[1..]),
            ['"', ..] => at += string(rest),
            ['\'', ..] => at += quote(rest),
            [':', ':', ..] => {
                tokens.push(Token::PathSeparator);
                at += 2;
            }
            [first, ..] if first.is_alphanumeric() || *first == '_' => {
                let word: String = rest
                    .iter()
                    .take_while(|c| c.is_alphanumeric() || **c == '_')
                    .collect();
                at += word.chars().count();
                tokens.push(Token::Word(word));
            }
            [first, ..] => {
                if !first.is_whitespace() {
                    tokens.push(Token::Mark(*first));
                }
                at += 1;
            }
            [] => {}
        }
    }
    tokens
}

fn block_comment(rest: &[char]) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while at < rest.len() {
        match rest[at..] {
            ['/', '*', ..] => {
                depth += 1;
                at += 2;
            }
            ['*', '/', ..] => {
                depth -= 1;
                at += 2;
                if depth == 0 {
                    break;
                }
            }
            _ => at += 1,
        }
    }
    at
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// A raw string, or the single `r` of a raw identifier.
fn raw_string(rest: &[char]) -> usize {
    let fences = rest[1..].iter().take_while(|c| **c == '#').count();
    if rest.get(1 + fences) != Some(&'"') {
        return 1 + fences;
    }
    let mut at = 2 + fences;
    while at < rest.len() {
        let closes = rest[at] == '"'
            && rest[at + 1..]
                .iter()
                .take(fences)
                .filter(|c| **c == '#')
                .count()
                == fences;
        at += 1;
        if closes {
            return at + fences;
        }
    }
    at
}

/// A character literal, or the quote of a lifetime.
fn quote(rest: &[char]) -> usize {
    match rest {
        ['\'', '\\', ..] => 3 + rest[3..].iter().take_while(|c| **c != '\'').count(),
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}
