//! One line of a log: how it is cut, and how it is made fit to be shown.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde::{Deserialize, Serialize};

/// Bytes of a line's text. Longer than what a person reads at once; a batch that is printed by mistake is cut.
pub(crate) const TEXT_BYTES_MAX: usize = 4 << 10;
/// Bytes of the names of the module and of the step that logged.
const NAME_BYTES_MAX: usize = 256;
/// What a line takes beside its texts, about.
const LINE_BYTES: usize = 64;

/// As those of `tracing`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl From<tracing::Level> for LogLevel {
    fn from(level: tracing::Level) -> Self {
        match level {
            tracing::Level::ERROR => Self::Error,
            tracing::Level::WARN => Self::Warn,
            tracing::Level::INFO => Self::Info,
            tracing::Level::DEBUG => Self::Debug,
            tracing::Level::TRACE => Self::Trace,
        }
    }
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogLine {
    pub(crate) level: LogLevel,
    /// The module that logged.
    pub(crate) target: String,
    /// The step of a fused operator that it was in.
    pub(crate) step: Option<String>,
    pub(crate) text: String,
}

impl LogLine {
    /// A line whose text is written by `write`; one that fails says so.
    pub(crate) fn write(
        level: tracing::Level,
        target: &str,
        step: Option<&str>,
        write: impl FnOnce(&mut dyn Write) -> fmt::Result,
    ) -> Self {
        let mut text = Cut::new(TEXT_BYTES_MAX);
        if write(&mut text).is_err() {
            // The buffer takes all, so it was the value itself that could not be written.
            let _ = text.write_str(" (the rest cannot be written)");
        }
        let step = step.map(|step| cut(step, NAME_BYTES_MAX));
        Self { level: level.into(), target: cut(target, NAME_BYTES_MAX), step, text: text.done() }
    }

    /// The same within the limits: the peer that sent it may not have kept them.
    pub(crate) fn bounded(self) -> Self {
        // A line that was cut says so in a few more bytes.
        let most = TEXT_BYTES_MAX + CUT_NOTE_BYTES_MAX;
        let text = if self.text.len() > most { cut(&self.text, TEXT_BYTES_MAX) } else { self.text };
        let step = self.step.map(bounded_name);
        Self { level: self.level, target: bounded_name(self.target), step, text }
    }

    /// Bytes that it takes in memory.
    pub(crate) fn bytes(&self) -> usize {
        LINE_BYTES + self.target.len() + self.step.as_ref().map_or(0, String::len) + self.text.len()
    }
}

/// Bytes of the longest note at the end of a cut line.
const CUT_NOTE_BYTES_MAX: usize = 64;

/// A name that was cut keeps its note.
fn bounded_name(name: String) -> String {
    if name.len() > NAME_BYTES_MAX + CUT_NOTE_BYTES_MAX { cut(&name, NAME_BYTES_MAX) } else { name }
}

fn cut(text: &str, most: usize) -> String {
    let mut short = Cut::new(most);
    // It takes all.
    let _ = short.write_str(text);
    short.done()
}

/// Text up to a limit; what is beyond is counted and not kept.
struct Cut {
    text: String,
    most: usize,
    beyond: usize,
}

impl Cut {
    fn new(most: usize) -> Self {
        Self { text: String::new(), most, beyond: 0 }
    }

    /// The text; one that was cut says so.
    fn done(self) -> String {
        match self.beyond {
            0 => self.text,
            beyond => format!("{}.. (cut, {beyond} bytes more)", self.text),
        }
    }
}

impl Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nothing after a gap: the text would read as if it were whole.
        let free = if self.beyond > 0 { 0 } else { self.most - self.text.len() };
        let kept = text.floor_char_boundary(free.min(text.len()));
        self.text.push_str(&text[..kept]);
        self.beyond += text.len() - kept;
        Ok(())
    }
}

/// Text of another process as it may be shown on a terminal: characters that move the cursor, colour, end lines or turn
/// the direction of writing are shown as escapes.
///
/// ```
/// use mobula_actors::logs::cleaned;
/// assert_eq!(cleaned("row 7: ok"), "row 7: ok");
/// assert_eq!(cleaned("a\nb\u{1b}[2J"), "a\\nb\\u{1b}[2J");
/// ```
pub fn cleaned(text: &str) -> Cow<'_, str> {
    if !text.contains(is_harmful) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_harmful(c) {
            true => clean.extend(c.escape_default()),
            false => clean.push(c),
        }
    }
    Cow::Owned(clean)
}

fn is_harmful(c: char) -> bool {
    let separates = matches!(c, '\u{2028}' | '\u{2029}');
    let turns = matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || separates || turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(text: &str) -> LogLine {
        LogLine::write(tracing::Level::INFO, "t", None, |to| to.write_str(text))
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters_and_says_so() {
        let short = "x".repeat(TEXT_BYTES_MAX);
        assert_eq!(line(&short).text, short);
        let long = line(&"ä".repeat(TEXT_BYTES_MAX)).text;
        assert!(long.starts_with("ää") && long.ends_with("ä.. (cut, 4096 bytes more)"), "{long}");
        let parts = LogLine::write(tracing::Level::INFO, "t", None, |to| {
            to.write_str(&"x".repeat(TEXT_BYTES_MAX - 1))?;
            to.write_str("ä")?;
            to.write_str("y")
        });
        assert!(parts.text.ends_with("x.. (cut, 3 bytes more)"), "{}", parts.text);
    }

    #[test]
    fn a_value_that_cannot_be_written_is_told() {
        let torn = LogLine::write(tracing::Level::INFO, "t", None, |to| to.write_str("a").and(Err(fmt::Error)));
        assert_eq!(torn.text, "a (the rest cannot be written)");
    }

    #[test]
    fn what_a_peer_sends_is_cut_again_and_a_cut_line_is_left_as_it_is() {
        let cut = line(&"x".repeat(2 * TEXT_BYTES_MAX));
        assert_eq!(cut.clone().bounded(), cut);
        let rude =
            LogLine { text: "x".repeat(1 << 20), target: "y".repeat(1 << 20), step: Some("z".repeat(1 << 20)), ..cut };
        assert!(rude.bounded().bytes() <= TEXT_BYTES_MAX + 2 * NAME_BYTES_MAX + 3 * CUT_NOTE_BYTES_MAX + LINE_BYTES);
    }

    proptest! {
        #[test]
        fn nothing_that_a_terminal_obeys_is_left(text in any::<String>()) {
            let clean = cleaned(&text);
            prop_assert!(clean.chars().all(|c| !is_harmful(c)));
        }

        #[test]
        fn no_text_is_longer_than_the_limit_and_its_note(parts in prop::collection::vec("\\PC{0,2000}", 0..20)) {
            let all = LogLine::write(tracing::Level::INFO, "t", None, |to| parts.iter().try_for_each(|part| to.write_str(part)));
            prop_assert!(all.text.len() <= TEXT_BYTES_MAX + CUT_NOTE_BYTES_MAX);
            prop_assert!(all.text.contains(".. (cut, ") || all.text == parts.concat());
        }
    }
}
