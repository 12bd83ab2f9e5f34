//! The pure thinking about what is on its way through a device: slices in order, each in one part or, after the device
//! ran out of memory, in several.
//!
//! A slice goes in with one part. Parts run in order; one that was too much becomes two in its place. A slice comes out
//! when all of its parts are done and all slices before it are out, so results keep the order of the rows.

use std::collections::VecDeque;

/// Parts that are handed to a device at once: one that runs and two that are ready, so that the device goes on while the
/// host is away for one. More would only hold memory.
pub(crate) const READY_MAX: usize = 3;

/// Names a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PartId(u64);

/// What is on its way. `S` is what a slice is about, `P` what a part is made of, `D` what became of it.
#[derive(Debug)]
pub(crate) struct Feed<S, P, D> {
    slices: VecDeque<(S, Vec<Part<P, D>>)>,
    next_id: u64,
}

#[derive(Debug)]
struct Part<P, D> {
    id: PartId,
    part: P,
    state: State<D>,
}

#[derive(Debug)]
enum State<D> {
    Waiting,
    Running,
    Done(D),
}

impl<S, P, D> Feed<S, P, D> {
    pub(crate) fn new() -> Self {
        Self { slices: VecDeque::new(), next_id: 0 }
    }

    /// Whether another slice may go in.
    pub(crate) fn has_place(&self) -> bool {
        self.slices.len() < READY_MAX
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.slices.is_empty()
    }

    /// What the slices that are in are about, oldest first.
    pub(crate) fn slices(&self) -> impl Iterator<Item = &S> {
        self.slices.iter().map(|(slice, _)| slice)
    }

    /// Puts a slice in as one part.
    pub(crate) fn push(&mut self, slice: S, part: P) {
        let part = self.waiting(part);
        self.slices.push_back((slice, vec![part]));
    }

    fn waiting(&mut self, part: P) -> Part<P, D> {
        let id = PartId(self.next_id);
        self.next_id += 1;
        Part { id, part, state: State::Waiting }
    }

    /// The next part to hand to the device, the oldest first; `None` while the device has enough.
    pub(crate) fn start(&mut self) -> Option<(PartId, &P)> {
        if self.running() >= READY_MAX {
            return None;
        }
        let next = self.parts_mut().find(|part| matches!(part.state, State::Waiting))?;
        next.state = State::Running;
        Some((next.id, &next.part))
    }

    /// Parts that the device has.
    pub(crate) fn running(&self) -> usize {
        let parts = self.slices.iter().flat_map(|(_, parts)| parts);
        parts.filter(|part| matches!(part.state, State::Running)).count()
    }

    /// What a part that the device has is made of, and what its slice is about.
    pub(crate) fn part(&self, id: PartId) -> Option<(&S, &P)> {
        let slices = self.slices.iter();
        slices.flat_map(|(slice, parts)| parts.iter().map(move |part| (slice, part))).find_map(|(slice, part)| {
            let runs = part.id == id && matches!(part.state, State::Running);
            runs.then_some((slice, &part.part))
        })
    }

    /// The device is done with a part.
    pub(crate) fn done(&mut self, id: PartId, result: D) {
        let part = self.parts_mut().find(|part| part.id == id);
        debug_assert!(part.as_ref().is_some_and(|part| matches!(part.state, State::Running)), "done without a start");
        if let Some(part) = part {
            part.state = State::Done(result);
        }
    }

    /// A part that the device had was too much: both parts of it run again, in its place.
    pub(crate) fn split(&mut self, id: PartId, first: P, second: P) {
        let halves = [self.waiting(first), self.waiting(second)];
        for (_, parts) in &mut self.slices {
            if let Some(at) = parts.iter().position(|part| part.id == id) {
                parts.splice(at..=at, halves);
                return;
            }
        }
    }

    /// The oldest slice with its parts and their results, if it is done.
    pub(crate) fn pop(&mut self) -> Option<(S, Vec<(P, D)>)> {
        let (_, parts) = self.slices.front()?;
        if !parts.iter().all(|part| matches!(part.state, State::Done(_))) {
            return None;
        }
        let (slice, parts) = self.slices.pop_front()?;
        let done = parts.into_iter().filter_map(|part| match part.state {
            State::Done(result) => Some((part.part, result)),
            State::Waiting | State::Running => None,
        });
        Some((slice, done.collect()))
    }

    fn parts_mut(&mut self) -> impl Iterator<Item = &mut Part<P, D>> {
        self.slices.iter_mut().flat_map(|(_, parts)| parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::ops::Range;

    #[test]
    fn one_runs_and_two_are_ready() {
        let mut feed: Feed<char, u32, ()> = Feed::new();
        for slice in ['a', 'b', 'c'] {
            assert!(feed.has_place());
            feed.push(slice, 1);
        }
        assert!(!feed.has_place());
        let first = feed.start().expect("waits").0;
        assert!(feed.start().is_some() && feed.start().is_some() && feed.start().is_none());
        assert!(feed.pop().is_none());
        feed.done(first, ());
        assert_eq!(feed.pop(), Some(('a', vec![(1, ())])));
        assert!(feed.has_place());
    }

    #[test]
    fn what_was_too_much_runs_again_before_what_came_after_it() {
        let mut feed: Feed<char, Range<usize>, ()> = Feed::new();
        feed.push('a', 0..8);
        feed.push('b', 8..9);
        let (large, _) = feed.start().expect("waits");
        feed.split(large, 0..4, 4..8);
        let order: Vec<_> = std::iter::from_fn(|| feed.start().map(|(_, part)| part.clone())).collect();
        assert_eq!(order, [0..4, 4..8, 8..9]);
    }

    proptest! {
        /// Whatever is too much for the device and whenever it is done with what: every row comes out once, in order, and
        /// the device never has more than it should.
        #[test]
        fn rows_come_out_once_and_in_order(
            sizes in prop::collection::vec(1..40usize, 1..30),
            limit in 1..40usize,
            picks in prop::collection::vec(any::<prop::sample::Index>(), 1..50),
        ) {
            let rows: usize = sizes.iter().sum();
            let mut slices = sizes.into_iter().scan(0, |at, rows| {
                *at += rows;
                Some(*at - rows..*at)
            });
            let mut feed: Feed<Range<usize>, Range<usize>, Range<usize>> = Feed::new();
            let (mut device, mut out): (Vec<(PartId, Range<usize>)>, Vec<Range<usize>>) = (Vec::new(), Vec::new());
            let mut picks = picks.into_iter().cycle();
            loop {
                while feed.has_place() && let Some(slice) = slices.next() {
                    feed.push(slice.clone(), slice);
                }
                while let Some((id, part)) = feed.start() {
                    device.push((id, part.clone()));
                }
                prop_assert!(device.len() <= READY_MAX && device.len() == feed.running());
                if device.is_empty() {
                    break;
                }
                let (id, part) = device.remove(picks.next().expect("for ever").index(device.len()));
                if part.len() > limit {
                    let half = part.start + part.len() / 2;
                    feed.split(id, part.start..half, half..part.end);
                } else {
                    feed.done(id, part);
                }
                while let Some((_, parts)) = feed.pop() {
                    out.extend(parts.into_iter().map(|(_, done)| done));
                }
            }
            prop_assert!(feed.is_empty());
            let seen: Vec<usize> = out.into_iter().flatten().collect();
            prop_assert_eq!(seen, (0..rows).collect::<Vec<_>>());
        }
    }
}
