//! How a process ended, as far as it can be told: from its status and from the last lines that it wrote. Pure.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::logs::cleaned;
use crate::units::Bytes;

/// The process of an isolated operator is gone, and the rows at hand with it: what an attempt fails by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessDied {
    /// How it ended.
    pub how: HowItEnded,
    /// Rows of the task's input that it had at hand, counted from the task's first; none while it started or opened.
    pub rows: Option<Range<u64>>,
    /// What it wrote to standard error and output last, line by line.
    pub last_words: Vec<String>,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum HowItEnded {
    /// By a signal: an abort, a segmentation fault.
    Killed {
        /// Its number.
        signal: i32,
    },
    /// By itself, with this code.
    Exited {
        /// The code.
        code: i32,
    },
    /// It got no more memory, or the system killed it for that.
    OutOfMemory {
        /// Its limit, if it has one of its own.
        limit: Option<Bytes>,
    },
    /// It was killed because it did not answer in time.
    NoAnswer {
        /// The time it had.
        limit: Duration,
    },
    /// It was killed because what it said makes no sense, or because a batch was too large to be sent.
    Garbled {
        /// What it was killed for.
        what: String,
    },
    /// There never was one.
    NoProcess {
        /// Why the system refused it.
        why: String,
    },
    /// Its program knows nothing of isolated operators.
    NoRole {
        /// How it ended instead.
        instead: String,
    },
}

impl fmt::Display for HowItEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Killed { signal } => write!(f, "its process was killed by signal {signal}{}", signal_name(*signal)),
            Self::Exited { code } => write!(f, "its process exited with code {code}"),
            Self::OutOfMemory { limit: Some(limit) } => write!(f, "its process ran out of its {limit} of memory"),
            Self::OutOfMemory { limit: None } => f.write_str("its process ran out of memory"),
            Self::NoAnswer { limit } => write!(f, "its process was killed: no answer in {limit:?}"),
            Self::Garbled { what } => write!(f, "its process was killed: {what}"),
            Self::NoProcess { why } => write!(f, "no process could be started: {why}"),
            Self::NoRole { instead } => write!(
                f,
                "its process {instead} before it took its role; a program with a `main` of its own calls \
                 `mobula::isolated_worker()` first thing in it"
            ),
        }
    }
}

impl fmt::Display for ProcessDied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = match &self.rows {
            Some(rows) if rows.end - rows.start == 1 => format!(" with row {} of the task at hand", rows.start),
            Some(rows) => format!(" with rows {}..{} of the task at hand", rows.start, rows.end),
            None => String::new(),
        };
        match &self.how {
            // What it did may be long, and end with what to do.
            HowItEnded::Garbled { what } => write!(f, "its process was killed{rows}: {what}")?,
            how => write!(f, "{how}{rows}")?,
        }
        match self.last_words.is_empty() {
            true => Ok(()),
            false => write!(f, "; it wrote last: {}", self.last_words.join(" | ")),
        }
    }
}

impl std::error::Error for ProcessDied {}

impl HowItEnded {
    /// What the status of a process and its last lines say, if nobody here killed it.
    pub(crate) fn of(status: ExitStatus, last_words: &[String], limit: Option<Bytes>) -> Self {
        let (signal, code) = (status.signal(), status.code().unwrap_or_default());
        let said_so = || last_words.iter().any(|line| tells_of_memory(line));
        match signal {
            // The system picks who is to die when memory runs out; nobody else kills without a warning.
            Some(SIGKILL) => Self::OutOfMemory { limit },
            Some(SIGABRT) if said_so() => Self::OutOfMemory { limit },
            Some(signal) => Self::Killed { signal },
            None if code != 0 && said_so() => Self::OutOfMemory { limit },
            None => Self::Exited { code },
        }
    }

    /// The same of a process that never greeted.
    pub(crate) fn without_a_role(self) -> Self {
        match self {
            Self::Exited { code } => Self::NoRole { instead: format!("exited with code {code}") },
            Self::NoAnswer { limit } => Self::NoRole { instead: format!("said nothing for {limit:?}") },
            Self::Garbled { what } => Self::NoRole { instead: format!("was killed ({what})") },
            other => other,
        }
    }

    /// Whether fewer rows at once may do.
    pub fn is_out_of_memory(&self) -> bool {
        matches!(self, Self::OutOfMemory { .. })
    }
}

const SIGABRT: i32 = 6;
const SIGKILL: i32 = 9;

/// What is written when memory could not be had: by Rust (`handle_alloc_error`), C++ (`new`), C (`strerror(ENOMEM)`).
const OUT_OF_MEMORY: [&str; 4] = ["memory allocation of", "std::bad_alloc", "cannot allocate memory", "out of memory"];

fn tells_of_memory(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    OUT_OF_MEMORY.iter().any(|text| line.contains(text))
}

fn signal_name(signal: i32) -> &'static str {
    match signal {
        4 => " (SIGILL)",
        5 => " (SIGTRAP)",
        SIGABRT => " (SIGABRT)",
        8 => " (SIGFPE)",
        SIGKILL => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}

/// The last lines of a text that comes in pieces.
#[derive(Debug, Default)]
pub(crate) struct LastLines {
    whole: VecDeque<String>,
    open: Vec<u8>,
    /// The rest of the line is left out.
    full: bool,
    /// Lines of a stack follow, which would push out the one that tells what happened.
    in_stack: bool,
}

/// Lines that are kept: a panic's message, a note of the runtime and what was written before.
const LINES_MAX: usize = 12;
/// Bytes of a line that are kept.
const LINE_BYTES_MAX: usize = 400;

impl LastLines {
    /// More of the text; each line that is complete now goes to `told` too.
    pub(crate) fn push(&mut self, text: &[u8], mut told: impl FnMut(&str)) {
        for &byte in text {
            match byte {
                b'\n' => {
                    if let Some(line) = self.end_line() {
                        told(&line);
                        self.keep(line);
                    }
                }
                byte if self.open.len() < LINE_BYTES_MAX => self.open.push(byte),
                _ => self.full = true,
            }
        }
    }

    fn end_line(&mut self) -> Option<String> {
        let cut = if std::mem::take(&mut self.full) { ".." } else { "" };
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.open)).into_owned();
        let line = line.trim_end();
        (!line.is_empty()).then(|| format!("{}{cut}", cleaned(line)))
    }

    fn keep(&mut self, line: String) {
        // Its lines are set in, as Rust and others print them.
        self.in_stack = line.ends_with("backtrace:") || self.in_stack && line.starts_with(' ');
        if self.in_stack {
            return;
        }
        if self.whole.len() == LINES_MAX {
            self.whole.pop_front();
        }
        self.whole.push_back(line);
    }

    /// The last lines, leaving none.
    pub(crate) fn take(&mut self) -> Vec<String> {
        if let Some(line) = self.end_line() {
            self.keep(line);
        }
        std::mem::take(&mut self.whole).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of_signal(signal: i32, words: &[&str]) -> HowItEnded {
        let words: Vec<String> = words.iter().map(|&word| word.to_owned()).collect();
        HowItEnded::of(ExitStatus::from_raw(signal), &words, Some(Bytes::mib(256)))
    }

    #[test]
    fn an_abort_is_out_of_memory_only_if_it_says_so() {
        assert_eq!(of_signal(SIGABRT, &[]), HowItEnded::Killed { signal: SIGABRT });
        let overflow = "thread 'main' has overflowed its stack";
        assert_eq!(of_signal(SIGABRT, &[overflow]), HowItEnded::Killed { signal: SIGABRT });
        for words in [
            "memory allocation of 1073741824 bytes failed",
            "terminate called after throwing an instance of 'std::bad_alloc'",
            "fatal: Cannot allocate memory",
        ] {
            assert!(of_signal(SIGABRT, &["before", words]).is_out_of_memory(), "{words}");
            let exited = HowItEnded::of(ExitStatus::from_raw(1 << 8), &[words.to_owned()], None);
            assert!(exited.is_out_of_memory(), "{words}");
        }
        assert!(of_signal(SIGKILL, &[]).is_out_of_memory());
        assert_eq!(of_signal(11, &["out of memory"]), HowItEnded::Killed { signal: 11 });
    }

    #[test]
    fn an_end_is_told_with_the_rows_and_the_last_words() {
        let died = ProcessDied {
            how: HowItEnded::Killed { signal: 11 },
            rows: Some(512..1024),
            last_words: vec!["a".to_owned(), "b".to_owned()],
        };
        let text = "its process was killed by signal 11 (SIGSEGV) with rows 512..1024 of the task at hand; it wrote last: a | b";
        assert_eq!(died.to_string(), text);
        let how = HowItEnded::NoAnswer { limit: Duration::from_secs(60) };
        let alone = ProcessDied { how, rows: Some(7..8), last_words: Vec::new() };
        assert_eq!(alone.to_string(), "its process was killed: no answer in 60s with row 7 of the task at hand");
        let how = HowItEnded::Garbled { what: "too large; do this".to_owned() };
        let garbled = ProcessDied { how, rows: Some(0..8), last_words: Vec::new() }.to_string();
        assert_eq!(garbled, "its process was killed with rows 0..8 of the task at hand: too large; do this");
        let early = HowItEnded::Exited { code: 0 }.without_a_role().to_string();
        assert!(early.contains("exited with code 0") && early.contains("mobula::isolated_worker()"), "{early}");
    }

    #[test]
    fn the_last_lines_are_kept_and_none_is_too_long_or_harmful() {
        let mut lines = LastLines::default();
        let mut told = 0;
        for n in 0..100 {
            lines.push(format!("line {n}\n\n").as_bytes(), |_| told += 1);
        }
        lines.push(&[b'x'; 10_000], |_| told += 1);
        lines.push(b"\n\x1b[2Jred", |_| told += 1);
        let kept = lines.take();
        assert_eq!((told, kept.len(), kept[0].as_str()), (101, LINES_MAX, "line 90"));
        assert_eq!(kept[10].len(), LINE_BYTES_MAX + 2);
        assert_eq!(kept[11], "\\u{1b}[2Jred");
        assert!(lines.take().is_empty());
    }

    #[test]
    fn a_stack_does_not_push_out_what_happened() {
        let mut lines = LastLines::default();
        lines.push(b"memory allocation of 7 bytes failed\nstack backtrace:\n", |_| {});
        for n in 0..100 {
            lines.push(format!("  {n}: main\n      at a.rs:{n}\n").as_bytes(), |_| {});
        }
        lines.push(b"note: some details are omitted", |_| {});
        assert_eq!(lines.take(), ["memory allocation of 7 bytes failed", "note: some details are omitted"]);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2000), 0..20)) {
            let mut lines = LastLines::default();
            pieces.iter().for_each(|piece| lines.push(piece, |_| {}));
            let kept = lines.take();
            prop_assert!(kept.len() <= LINES_MAX);
            // An escape takes up to ten characters for a byte.
            prop_assert!(kept.iter().all(|line| line.len() <= 10 * LINE_BYTES_MAX + 2));
        }
    }
}
