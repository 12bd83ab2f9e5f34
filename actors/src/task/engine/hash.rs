//! Hashing of object names: they are numbers that the session itself counts, so spreading them is enough.

use std::hash::{BuildHasherDefault, Hasher};

/// For maps by object name.
pub(super) type ByNumber = BuildHasherDefault<Numbers>;

/// Multiplies by an odd constant (Fibonacci hashing; Knuth, The Art of Computer Programming 3, 6.4) and mixes high bits down.
#[derive(Default)]
pub(super) struct Numbers(u64);

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

impl Hasher for Numbers {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64(u64::from(*byte)));
    }

    fn write_u64(&mut self, number: u64) {
        let mixed = (self.0.rotate_left(23) ^ number).wrapping_mul(SPREAD);
        self.0 = mixed ^ (mixed >> 32);
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }
}
