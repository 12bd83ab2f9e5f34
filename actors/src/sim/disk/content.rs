//! The bytes of one file: as programs see them, and as they are once power was lost. Pure.

use std::ops::Range;

use rand::Rng;

/// What a disk writes whole or not at all, in bytes.
const SECTOR_BYTES: usize = 512;

/// The bytes of one file.
#[derive(Debug, Default, Clone)]
pub(super) struct Content {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// The shortest that it has been since it was synced, and the longest.
    lengths: (usize, usize),
    /// What a failed sync let go: programs still see it, later syncs do not write it.
    let_go: Vec<Range<usize>>,
}

impl Content {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        self.now.extend_from_slice(bytes);
        self.lengths.1 = self.lengths.1.max(self.now.len());
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.now.resize(length, 0);
        self.lengths = (self.lengths.0.min(length), self.lengths.1.max(length));
        self.let_go.retain_mut(|range| {
            range.end = range.end.min(length);
            range.start < range.end
        });
    }

    pub(super) fn sync(&mut self) {
        let mut written = self.now.clone();
        for at in self.let_go.iter().cloned().flatten() {
            if let Some(byte) = written.get_mut(at) {
                *byte = self.durable.get(at).copied().unwrap_or(0);
            }
        }
        self.durable = written;
        self.lengths = (self.now.len(), self.now.len());
    }

    /// Its first bytes are written once more, as they are: the next sync writes them.
    pub(super) fn write_again(&mut self, length: usize) {
        self.let_go.retain_mut(|range| {
            range.start = range.start.max(length);
            range.start < range.end
        });
    }

    /// A sync that failed: the system takes its pages for clean, as if they were written.
    pub(super) fn fail_sync(&mut self) {
        let from = self.lengths.0.min(self.durable.len());
        if from < self.now.len() {
            self.let_go.push(from..self.now.len());
        }
    }

    /// What is left when power is lost: each sector as it was or as it became, at a length that it had.
    pub(super) fn crash(&mut self, random: &mut impl Rng) {
        let length = match random.random_range(0..3) {
            0 => self.durable.len(),
            1 => self.now.len(),
            _ => random.random_range(self.lengths.0..=self.lengths.1),
        };
        // Mostly a disk writes in order: all is new, or nothing; a mixture is the rare case.
        let new_of_eight = *[0, 8, 8, random.random_range(0..=8)].get(random.random_range(0..4)).unwrap_or(&8);
        let mut left = Vec::with_capacity(length);
        while left.len() < length {
            let sector = left.len()..length.min(left.len() + SECTOR_BYTES);
            let from = if random.random_range(0..8) < new_of_eight { &self.now } else { &self.durable };
            left.extend(sector.map(|at| from.get(at).copied().unwrap_or(0)));
        }
        *self = Self { now: left.clone(), lengths: (left.len(), left.len()), durable: left, let_go: Vec::new() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    fn crashed(content: &Content, seed: u64) -> Vec<u8> {
        let mut content = content.clone();
        content.crash(&mut SmallRng::seed_from_u64(seed));
        content.now
    }

    fn synced(bytes: &[u8]) -> Content {
        let mut content = Content::default();
        content.append(bytes);
        content.sync();
        content
    }

    #[test]
    fn synced_bytes_are_kept_and_others_may_be_torn_zero_or_gone() {
        let mut content = synced(b"kept");
        content.append(b" and more");
        let left: std::collections::BTreeSet<_> = (0..200).map(|seed| crashed(&content, seed)).collect();
        assert!(left.iter().all(|bytes| bytes.starts_with(b"kept")));
        for wanted in [&b"kept"[..], b"kept and more", b"kept an", b"kept\0\0\0\0\0\0\0\0\0"] {
            assert!(left.contains(wanted), "{wanted:?} never happens");
        }
    }

    #[test]
    fn a_file_that_was_never_synced_may_be_empty() {
        let mut content = Content::default();
        content.append(b"all");
        assert!((0..50).any(|seed| crashed(&content, seed).is_empty()));
    }

    #[test]
    fn what_a_failed_sync_was_to_write_is_not_written_by_the_next() {
        let mut content = synced(b"kept");
        content.append(b"lost");
        content.fail_sync();
        content.append(b"more");
        content.sync();
        assert_eq!(content.bytes(), b"keptlostmore", "programs see no difference");
        assert!((0..50).any(|seed| crashed(&content, seed) == b"kept\0\0\0\0more"), "but power must not be lost");
    }

    #[test]
    fn a_cut_that_was_not_synced_may_come_undone() {
        let mut content = synced(b"kept and more");
        content.truncate(4);
        let left: std::collections::BTreeSet<_> = (0..100).map(|seed| crashed(&content, seed)).collect();
        assert!(left.contains(&b"kept"[..]) && left.contains(&b"kept and more"[..]), "{left:?}");
    }
}
