//! Just enough of Rust's lexer for rules about text: which bytes are code, which lines are tests, where functions end.
//!
//! It does not parse. [`code`] blanks comments, strings and chars with spaces, so that everything after it can count
//! braces and look for words without being fooled; offsets and line numbers stay as they are.

use std::ops::Range;

/// The text with comments, string literals and char literals replaced by spaces; newlines stay.
pub(crate) fn code(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = literal_end(bytes, at).unwrap_or(at);
        out[at..end].iter_mut().filter(|b| **b != b'\n').for_each(|b| *b = b' ');
        at = end.max(at + 1);
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// If a comment or literal begins at `at`: where it ends.
fn literal_end(bytes: &[u8], at: usize) -> Option<usize> {
    let rest = &bytes[at..];
    match rest {
        [b'/', b'/', ..] => Some(at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len())),
        [b'/', b'*', ..] => Some(block_comment_end(bytes, at)),
        [b'"', ..] => Some(string_end(bytes, at + 1)),
        [b'\'', ..] => char_end(bytes, at),
        [b'r', ..] if at == 0 || !is_word(bytes[at - 1]) || is_literal_prefix(bytes, at) => raw_string_end(bytes, at),
        _ => None,
    }
}

/// Whether the `r` at `at` follows the lone `b` or `c` of `br"..."` and `cr"..."`.
fn is_literal_prefix(bytes: &[u8], at: usize) -> bool {
    matches!(bytes[at - 1], b'b' | b'c') && (at == 1 || !is_word(bytes[at - 2]))
}

fn block_comment_end(bytes: &[u8], start: usize) -> usize {
    let (mut depth, mut at) = (0usize, start);
    while at < bytes.len() {
        match &bytes[at..] {
            [b'/', b'*', ..] => (depth, at) = (depth + 1, at + 2),
            [b'*', b'/', ..] if depth == 1 => return at + 2,
            [b'*', b'/', ..] => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    at
}

fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn raw_string_end(bytes: &[u8], at: usize) -> Option<usize> {
    let hashes = bytes[at + 1..].iter().take_while(|b| **b == b'#').count();
    let open = at + 1 + hashes;
    if bytes.get(open) != Some(&b'"') {
        return None;
    }
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let body = &bytes[open + 1..];
    let found = body.windows(close.len()).position(|w| w == close);
    Some(found.map_or(bytes.len(), |p| open + 1 + p + close.len()))
}

/// The end of a char literal; `None` for a lifetime.
fn char_end(bytes: &[u8], at: usize) -> Option<usize> {
    let width = match *bytes.get(at + 1)? {
        b'\\' => 1 + bytes[at + 3..].iter().position(|b| *b == b'\'')? + 1,
        first => [first.leading_ones() as usize, 1][usize::from(first.is_ascii())],
    };
    (bytes.get(at + 1 + width) == Some(&b'\'')).then_some(at + width + 2)
}

/// Whether a byte can be part of an identifier.
pub(crate) fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Number of the line (from 1) at a byte offset.
pub(crate) fn line_at(text: &str, offset: usize) -> usize {
    text.as_bytes()[..offset].iter().filter(|b| **b == b'\n').count() + 1
}

/// The lines (from 1) of all items under `#[cfg(test)]` or `#[cfg(all(test, ..))]`, attribute included. Takes blanked code.
pub(crate) fn test_lines(code: &str) -> Vec<Range<usize>> {
    let item = |(at, attribute): (usize, &str)| {
        let end = item_end(code, at + attribute.len());
        line_at(code, at)..line_at(code, end) + 1
    };
    let attributes = ["#[cfg(test)]", "#[cfg(all(test,"];
    attributes.iter().flat_map(|attribute| code.match_indices(attribute)).map(item).collect()
}

/// Each function with a body: its name and the range of its lines. Takes blanked code.
pub(crate) fn functions(code: &str) -> Vec<(String, Range<usize>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let name: String = code[at + 3..].chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let is_item = at == 0 || !is_word(code.as_bytes()[at - 1]);
        let end = item_end(code, at);
        if is_item && !name.is_empty() && code.as_bytes()[end] == b'}' {
            found.push((name, line_at(code, at)..line_at(code, end) + 1));
        }
    }
    found
}

/// The closing brace of the item that begins at `at`, or its semicolon if it has no body.
fn item_end(code: &str, at: usize) -> usize {
    let (mut braces, mut groups) = (0usize, 0usize);
    for (offset, byte) in code.bytes().enumerate().skip(at) {
        match byte {
            b'(' | b'[' => groups += 1,
            b')' | b']' => groups = groups.saturating_sub(1),
            b'{' => braces += 1,
            b'}' if braces <= 1 => return offset,
            b'}' => braces -= 1,
            b';' if braces == 0 && groups == 0 => return offset,
            _ => {}
        }
    }
    code.len().saturating_sub(1)
}
