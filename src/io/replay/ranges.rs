//! Which rows of a split are read for letters that name them: pure.

use std::ops::Range;

/// The ranges in order, those that overlap or touch as one: each row is read once, however many letters name it.
pub(super) fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges.into_iter().filter(|range| !range.is_empty()) {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn each_row_that_a_letter_names_is_read_once(ranges in prop::collection::vec((0u64..60, 0u64..9), 0..20)) {
            let ranges: Vec<_> = ranges.into_iter().map(|(from, rows)| from..from + rows).collect();
            let named: BTreeSet<u64> = ranges.iter().cloned().flatten().collect();
            let read: Vec<u64> = joined(ranges).into_iter().flatten().collect();
            prop_assert_eq!(read, named.into_iter().collect::<Vec<_>>());
        }
    }
}
