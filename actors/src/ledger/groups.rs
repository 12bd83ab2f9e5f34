//! Results that wait until all shares of their segments have come: pure.
//!
//! Rows of one segment may lie in several parts, and a part may hold rows of several segments. Parts that share a segment
//! are one group, and are committed together, when each of their segments is whole.

use std::collections::BTreeMap;

use crate::block::{Segment, Segments, Share};

/// Results that came and are not committed. `P` is a part of the output.
#[derive(Debug)]
pub struct Groups<P> {
    groups: BTreeMap<u64, Group<P>>,
    /// The group of each segment of which shares are missing.
    by_segment: BTreeMap<Segment, u64>,
    next: u64,
}

#[derive(Debug)]
struct Group<P> {
    segments: BTreeMap<Segment, Share>,
    parts: Vec<P>,
}

/// A group that is whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Whole<P> {
    /// Its segments.
    pub segments: Vec<Segment>,
    /// Its parts, in the order in which they came.
    pub parts: Vec<P>,
}

impl<P> Default for Groups<P> {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), by_segment: BTreeMap::new(), next: 0 }
    }
}

impl<P> Groups<P> {
    /// Results came, which stand for these shares; gives the group that is whole with them, if one is.
    pub fn add(&mut self, parts: impl IntoIterator<Item = P>, segments: &Segments) -> Option<Whole<P>> {
        let mut group = Group { segments: BTreeMap::new(), parts: Vec::new() };
        for (segment, _) in segments.iter() {
            if let Some(other) = self.by_segment.get(&segment).and_then(|number| self.groups.remove(number)) {
                other.segments.keys().for_each(|segment| {
                    let _ = self.by_segment.remove(segment);
                });
                group.absorb(other);
            }
        }
        segments.iter().for_each(|(segment, share)| group.add(segment, share));
        group.parts.extend(parts);
        if group.segments.values().all(|share| *share == Share::WHOLE) {
            let segments = group.segments.into_keys().collect();
            return Some(Whole { segments, parts: group.parts });
        }
        let number = self.next;
        self.next += 1;
        self.by_segment.extend(group.segments.keys().map(|segment| (*segment, number)));
        self.groups.insert(number, group);
        None
    }

    /// Forgets all that waits, and gives its parts: they will be made again.
    pub fn clear(&mut self) -> Vec<P> {
        self.by_segment.clear();
        std::mem::take(&mut self.groups).into_values().flat_map(|group| group.parts).collect()
    }

    /// How many parts wait.
    pub fn waiting(&self) -> usize {
        self.groups.values().map(|group| group.parts.len()).sum()
    }
}

impl<P> Group<P> {
    fn absorb(&mut self, other: Self) {
        other.segments.into_iter().for_each(|(segment, share)| self.add(segment, share));
        self.parts.extend(other.parts);
    }

    fn add(&mut self, segment: Segment, share: Share) {
        let has = self.segments.entry(segment).or_insert(Share::NONE);
        *has = has.and(share);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Rows;
    use proptest::prelude::*;

    fn whole(split: u32) -> Segments {
        Segments::one(Segment { source: 0, split, from: Rows(0), to: Segment::END })
    }

    #[test]
    fn parts_that_share_a_segment_are_committed_together() {
        let mut groups = Groups::default();
        let mut both = whole(0).part(2, 3, 3);
        both.append(&whole(1).part(0, 1, 2));
        assert_eq!(groups.add(["a"], &whole(0).part(0, 2, 3)), None);
        assert_eq!(groups.add(["b"], &both), None);
        assert_eq!(groups.add(["alone"], &whole(5)).map(|whole| whole.parts), Some(vec!["alone"]));
        assert_eq!(groups.waiting(), 2);
        let all = groups.add(["c"], &whole(1).part(1, 2, 2)).unwrap();
        assert_eq!((all.parts, all.segments.len(), groups.waiting()), (vec!["a", "b", "c"], 2, 0));
    }

    proptest! {
        /// However segments are cut and their shares come, each is in just one group, with all parts that have rows of it.
        #[test]
        fn no_part_is_committed_without_the_others_of_its_segments(
            cuts in prop::collection::vec(1u64..5, 1..12),
            seed in any::<u64>(),
        ) {
            // One stream of rows, two to a part, whose segments have these lengths.
            let owners: Vec<u32> = cuts.iter().enumerate().flat_map(|(n, rows)| vec![n as u32; *rows as usize]).collect();
            let mut seen = vec![0u64; cuts.len()];
            let mut parts: Vec<(usize, Segments, Vec<u32>)> = owners.chunks(2).enumerate().map(|(number, rows)| {
                let mut segments = Segments::default();
                for row in rows {
                    let (at, all) = (&mut seen[*row as usize], cuts[*row as usize]);
                    segments.append(&whole(*row).part(*at, *at + 1, all));
                    *at += 1;
                }
                (number, segments, rows.to_vec())
            }).collect();
            let mut order = seed;
            parts.sort_by_key(|_| { order = order.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407); order >> 33 });
            let (mut groups, mut committed) = (Groups::default(), BTreeMap::new());
            for (number, segments, _) in &parts {
                if let Some(whole) = groups.add([*number], segments) {
                    let rows = |number: &usize| parts.iter().find(|part| part.0 == *number).unwrap().2.clone();
                    for segment in &whole.segments {
                        let holders = parts.iter().filter(|part| part.2.contains(&segment.split)).count();
                        let here = whole.parts.iter().filter(|number| rows(number).contains(&segment.split)).count();
                        prop_assert_eq!(holders, here);
                        prop_assert!(committed.insert(segment.split, ()).is_none());
                    }
                }
            }
            prop_assert_eq!((committed.len(), groups.waiting()), (cuts.len(), 0));
        }
    }
}
