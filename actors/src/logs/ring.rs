//! A ring of numbered things, bounded in number and bytes: the newest push the oldest out.
//!
//! Numbers go up by one and count also what was never here, so who reads sees how many it missed. Pure.

use std::collections::VecDeque;

/// How much a ring keeps.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RingLimits {
    pub(crate) things: usize,
    pub(crate) bytes: usize,
}

/// The ring.
#[derive(Debug)]
pub(crate) struct Ring<T> {
    kept: VecDeque<Kept<T>>,
    bytes: usize,
    next: u64,
    limits: RingLimits,
}

#[derive(Debug)]
struct Kept<T> {
    number: u64,
    bytes: usize,
    thing: T,
}

impl<T> Ring<T> {
    pub(crate) fn new(limits: RingLimits) -> Self {
        Self { kept: VecDeque::new(), bytes: 0, next: 0, limits }
    }

    /// The newest. One that is larger than the whole ring is only counted.
    pub(crate) fn push(&mut self, thing: T, bytes: usize) {
        let number = self.next;
        self.next = self.next.saturating_add(1);
        self.kept.push_back(Kept { number, bytes, thing });
        self.bytes += bytes;
        while self.kept.len() > self.limits.things || self.bytes > self.limits.bytes {
            let Some(oldest) = self.kept.pop_front() else { return };
            self.bytes -= oldest.bytes;
        }
    }

    /// So many were lost before they came here.
    pub(crate) fn skip(&mut self, lost: u64) {
        self.next = self.next.saturating_add(lost);
    }

    /// The number of the thing that comes next.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// What is kept of those with this number and later ones, the oldest first.
    pub(crate) fn since(&self, number: u64) -> impl Iterator<Item = (u64, &T)> {
        let from = self.kept.partition_point(|kept| kept.number < number);
        self.kept.range(from..).map(|kept| (kept.number, &kept.thing))
    }

    /// Takes all that is kept, the oldest first.
    pub(crate) fn take(&mut self) -> Vec<(u64, T)> {
        self.bytes = 0;
        self.kept.drain(..).map(|kept| (kept.number, kept.thing)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kept(ring: &Ring<&'static str>, from: u64) -> Vec<(u64, &'static str)> {
        ring.since(from).map(|(number, thing)| (number, *thing)).collect()
    }

    #[test]
    fn the_newest_push_the_oldest_out_by_number_and_by_bytes() {
        let mut ring = Ring::new(RingLimits { things: 3, bytes: 10 });
        for thing in ["a", "b", "c", "d"] {
            ring.push(thing, 1);
        }
        assert_eq!(kept(&ring, 0), [(1, "b"), (2, "c"), (3, "d")]);
        ring.push("wide", 9);
        assert_eq!(kept(&ring, 0), [(3, "d"), (4, "wide")]);
        ring.push("too wide", 11);
        assert_eq!((kept(&ring, 0), ring.next()), (vec![], 6));
    }

    #[test]
    fn who_reads_on_gets_what_is_new_and_sees_what_is_missing() {
        let mut ring = Ring::new(RingLimits { things: 3, bytes: 10 });
        ring.push("a", 1);
        assert_eq!(kept(&ring, 1), []);
        ring.skip(5);
        ring.push("b", 1);
        assert_eq!(kept(&ring, 1), [(6, "b")]);
        assert_eq!(ring.take(), [(0, "a"), (6, "b")]);
        assert_eq!(kept(&ring, 0), []);
        ring.skip(u64::MAX);
        ring.push("the end of all numbers", 1);
        assert_eq!(ring.next(), u64::MAX);
    }

    proptest! {
        #[test]
        fn it_keeps_its_limits_and_the_newest(pushes in prop::collection::vec((0_usize..30, 0_u64..4), 0..100)) {
            let limits = RingLimits { things: 7, bytes: 60 };
            let mut ring = Ring::new(limits);
            let mut all = Vec::new();
            for (bytes, lost) in pushes {
                ring.skip(lost);
                all.push((ring.next(), bytes));
                ring.push(bytes, bytes);
                let found: Vec<_> = ring.since(0).map(|(number, bytes)| (number, *bytes)).collect();
                prop_assert!(found.len() <= limits.things);
                prop_assert!(found.iter().map(|(_, bytes)| bytes).sum::<usize>() <= limits.bytes);
                prop_assert!(all.ends_with(&found));
                let more = all.len() - found.len();
                let one_more = more.checked_sub(1).map(|oldest| &all[oldest..]);
                // Nothing was pushed out that had a place.
                prop_assert!(one_more.is_none_or(|kept| kept.len() > limits.things
                    || kept.iter().map(|(_, bytes)| bytes).sum::<usize>() > limits.bytes));
            }
        }
    }
}
