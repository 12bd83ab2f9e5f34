//! The words of an answer: names, times and lists.

use std::time::Duration;

/// Names that a list says before it says how many more there are.
const LISTED_MAX: usize = 8;

/// A name in quotes, with what would break a line or a terminal as escapes.
pub(super) fn quoted(name: &str) -> String {
    format!("{name:?}")
}

/// `for 61 s`
pub(super) fn for_time(time: Duration) -> String {
    format!("for {}", self::time(time))
}

/// `35 ms`, `61 s`, `12 min`
pub(super) fn time(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        1..=119 => format!("{} s", time.as_secs()),
        120..=7199 => format!("{} min", time.as_secs() / 60),
        _ => format!("{} h", time.as_secs() / 3600),
    }
}

/// `0, 1, 2 and 7 more`
pub(super) fn and_more(names: impl ExactSizeIterator<Item = String>) -> String {
    let more = names.len().saturating_sub(LISTED_MAX);
    let listed = names.take(LISTED_MAX).collect::<Vec<_>>().join(", ");
    if more == 0 { listed } else { format!("{listed} and {more} more") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_times_are_short() {
        assert_eq!(and_more((0..3).map(|n| n.to_string()).collect::<Vec<_>>().into_iter()), "0, 1, 2");
        let many: Vec<_> = (0..10).map(|n| n.to_string()).collect();
        assert!(and_more(many.into_iter()).ends_with("7 and 2 more"));
        let times = [30, 61_000, 720_000, 9_000_000].map(|ms| time(Duration::from_millis(ms)));
        assert_eq!(times, ["30 ms", "61 s", "12 min", "2 h"]);
    }
}
