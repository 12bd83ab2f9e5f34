//! One pass over JSON text before it is decoded: how deep it is nested, and where its numbers are. Pure.
//!
//! It takes text apart as the decoder does, but for what is wrong in it, which is left for the decoder to find.

/// Where a number stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place<'a> {
    /// The value of a field, whose name is as it is written, escapes and all.
    Field(&'a [u8]),
    /// In a list.
    List,
}

/// Brackets are nested deeper than [`DEPTH_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Hands each number in `text` to `number`.
pub(super) fn numbers<'a>(text: &'a [u8], mut number: impl FnMut(Place<'a>, &'a [u8])) -> Result<(), TooDeep> {
    let (mut at, mut depth, mut before) = (0, 0_usize, b'{');
    let mut name: &[u8] = &[];
    while let Some(&byte) = text.get(at) {
        let start = at;
        at += 1;
        match byte {
            b'"' => {
                let end = string_end(text, at);
                name = text.get(at..end).unwrap_or_default();
                at = end + 1;
            }
            b'{' | b'[' => {
                (before, depth) = (byte, depth + 1);
                if depth > DEPTH_MAX {
                    return Err(TooDeep);
                }
            }
            b'}' | b']' => (before, depth) = (byte, depth.saturating_sub(1)),
            b':' | b',' => before = byte,
            b'-' | b'0'..=b'9' => {
                at += text.get(at..).unwrap_or_default().iter().take_while(|&&byte| is_of_number(byte)).count();
                // The decoder does not ask for commas between the values of a list: only a colon tells a field.
                let place = if before == b':' { Place::Field(name) } else { Place::List };
                number(place, text.get(start..at).unwrap_or_default());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Where the closing quote of a string is whose first byte is at `from`.
pub(super) fn string_end(text: &[u8], from: usize) -> usize {
    let mut at = from;
    while let Some(more) = text.get(at..) {
        match more.iter().position(|&byte| byte == b'"' || byte == b'\\') {
            Some(next) if more.get(next) == Some(&b'"') => return at + next,
            Some(next) => at += next + 2,
            None => break,
        }
    }
    text.len()
}

fn is_of_number(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
}

/// As deep as inference goes. The decoder calls itself once a level where it tells what it found in place of a value, and
/// a level that nobody bounds is a stack that overflows.
pub(super) const DEPTH_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, String)> {
        let word = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut found = Vec::new();
        let name = |place| match place {
            Place::Field(name) => word(name),
            Place::List => "[]".to_owned(),
        };
        numbers(text.as_bytes(), |place, number| found.push((name(place), word(number)))).unwrap();
        found
    }

    #[test]
    fn numbers_are_found_with_their_places() {
        let text = r#"{"a": -1.5e+3,"s":"x:1, \" [2","b" :[1,[2.0 3],{"c\"d":4}, 5]}{"e":6}"#;
        let expected =
            [("a", "-1.5e+3"), ("[]", "1"), ("[]", "2.0"), ("[]", "3"), ("c\\\"d", "4"), ("[]", "5"), ("e", "6")];
        assert_eq!(found(text), expected.map(|(name, number)| (name.to_owned(), number.to_owned())));
        assert_eq!(found("\"1 \\"), []);
    }

    #[test]
    fn depth_is_bounded_and_strings_do_not_count() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let look = |text: &str| numbers(text.as_bytes(), |_, _| {});
        assert_eq!(look(&nested(DEPTH_MAX).repeat(3)), Ok(()));
        assert_eq!(look(&nested(DEPTH_MAX + 1)), Err(TooDeep));
        assert_eq!(look(&format!("\"\\\"{}\\\\\"[]", nested(DEPTH_MAX + 1))), Ok(()));
        assert_eq!(look(&"{\"a\":[".repeat(DEPTH_MAX)), Err(TooDeep));
    }
}
