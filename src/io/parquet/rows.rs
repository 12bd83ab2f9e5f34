//! Sets of rows as ranges: pure, ascending, disjoint.

use std::ops::Range;

/// A set of row numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct RowSet(Vec<Range<u64>>);

impl RowSet {
    /// The rows of ascending ranges that do not overlap. Empty ones are left out, touching ones joined.
    pub(super) fn new(ranges: impl IntoIterator<Item = Range<u64>>) -> Self {
        let mut set = Self::default();
        ranges.into_iter().for_each(|range| set.push(range));
        set
    }

    pub(super) fn ranges(&self) -> &[Range<u64>] {
        &self.0
    }

    /// Whether any of `rows` is in it.
    pub(super) fn touches(&self, rows: &Range<u64>) -> bool {
        let after = self.0.partition_point(|range| range.end <= rows.start);
        self.0.get(after).is_some_and(|range| range.start < rows.end) && !rows.is_empty()
    }

    /// The rows in both.
    pub(super) fn and(&self, other: &Self) -> Self {
        let (mut a, mut b) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Self::default();
        while let (Some(x), Some(y)) = (a.peek(), b.peek()) {
            both.push(x.start.max(y.start)..x.end.min(y.end));
            if x.end <= y.end {
                a.next()
            } else {
                b.next()
            };
        }
        both
    }

    /// The rows in either.
    pub(super) fn or(&self, other: &Self) -> Self {
        let mut all: Vec<_> = self.0.iter().chain(&other.0).cloned().collect();
        all.sort_by_key(|range| range.start);
        Self::new(all)
    }

    fn push(&mut self, range: Range<u64>) {
        match self.0.last_mut() {
            _ if range.is_empty() => {}
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => self.0.push(range),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(bits: &[bool]) -> RowSet {
        RowSet::new(bits.iter().enumerate().filter(|(_, bit)| **bit).map(|(i, _)| i as u64..i as u64 + 1))
    }

    proptest! {
        #[test]
        fn sets_are_sets(pairs in proptest::collection::vec(any::<(bool, bool)>(), 0..40), from in 0u64..40, rows in 0u64..9) {
            let (a, b): (Vec<_>, Vec<_>) = pairs.iter().copied().unzip();
            let bits = |f: fn(bool, bool) -> bool| set(&pairs.iter().map(|(a, b)| f(*a, *b)).collect::<Vec<_>>());
            prop_assert_eq!(set(&a).and(&set(&b)), bits(|a, b| a && b));
            prop_assert_eq!(set(&a).or(&set(&b)), bits(|a, b| a || b));
            let any = (from..from + rows).any(|row| a.get(row as usize) == Some(&true));
            prop_assert_eq!(set(&a).touches(&(from..from + rows)), any);
        }
    }
}
