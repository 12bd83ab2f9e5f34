//! Where one block is: in memory, on disk, or on its way between them. Pure; the file and the waiting are the caller's.
//!
//! `B` is the block, `F` its file. Three rules: a block that is wanted while it is being written stays in memory, and the
//! file was written in vain; who wants a block that is being read waits for the one who reads; whoever lets the block go
//! gets what is left of it, to drop it outside of locks.

/// Where a block is.
#[derive(Debug)]
pub(crate) enum Place<B, F> {
    Memory(B),
    /// In memory still, while a file of it is made.
    Writing(B),
    Disk(F),
    /// On disk, while somebody reads it back.
    Reading(F),
    /// Nobody refers to it any more.
    Gone,
}

/// What came of writing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written<B, F> {
    /// The block is on disk now; its memory is to be dropped.
    Moved(B),
    /// It was wanted or let go meanwhile: the file, if there is one, is to be removed.
    InVain(Option<F>),
}

/// What somebody who wants the block does.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Want<B, F> {
    Take(B),
    /// Read this file, then say what came of it with [`Place::on_read`].
    Read(F),
    /// Somebody reads it already: wait and ask again.
    Wait,
    Gone,
}

impl<B: Clone, F: Clone> Place<B, F> {
    /// The block, if it is in memory.
    pub(crate) fn in_memory(&self) -> Option<&B> {
        match self {
            Self::Memory(block) | Self::Writing(block) => Some(block),
            Self::Disk(_) | Self::Reading(_) | Self::Gone => None,
        }
    }

    /// Whether it takes a read to have it.
    pub(crate) fn is_on_disk(&self) -> bool {
        matches!(self, Self::Disk(_) | Self::Reading(_))
    }

    /// The block is to move to disk: what to write, if it is there to be written.
    pub(crate) fn begin_write(&mut self) -> Option<B> {
        let Self::Memory(block) = self else { return None };
        let block = block.clone();
        *self = Self::Writing(block.clone());
        Some(block)
    }

    /// The write is over; `None`: it failed, and the block stays where it is.
    pub(crate) fn on_written(&mut self, file: Option<F>) -> Written<B, F> {
        match (std::mem::replace(self, Self::Gone), file) {
            (Self::Writing(block), Some(file)) => {
                *self = Self::Disk(file);
                Written::Moved(block)
            }
            (Self::Writing(block), None) => {
                *self = Self::Memory(block);
                Written::InVain(None)
            }
            (other, file) => {
                *self = other;
                Written::InVain(file)
            }
        }
    }

    /// Somebody wants the block.
    pub(crate) fn want(&mut self) -> Want<B, F> {
        match self {
            Self::Memory(block) => Want::Take(block.clone()),
            Self::Writing(block) => {
                let block = block.clone();
                *self = Self::Memory(block.clone());
                Want::Take(block)
            }
            Self::Disk(file) => {
                let file = file.clone();
                *self = Self::Reading(file.clone());
                Want::Read(file)
            }
            Self::Reading(_) => Want::Wait,
            Self::Gone => Want::Gone,
        }
    }

    /// The read is over; `None`: it failed, and the next who wants the block reads again. Returns the file if it is not
    /// needed any more.
    pub(crate) fn on_read(&mut self, block: Option<B>) -> Option<F> {
        match (std::mem::replace(self, Self::Gone), block) {
            (Self::Reading(file), Some(block)) => {
                *self = Self::Memory(block);
                Some(file)
            }
            (Self::Reading(file), None) => {
                *self = Self::Disk(file);
                None
            }
            (other, _) => {
                *self = other;
                None
            }
        }
    }

    /// Nobody refers to the block any more; what is left of it.
    pub(crate) fn release(&mut self) -> Self {
        std::mem::replace(self, Self::Gone)
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use proptest::prelude::*;

    use super::*;

    type Files = Place<&'static str, Rc<()>>;

    #[test]
    fn a_block_that_is_wanted_while_it_is_written_stays_in_memory() {
        let mut place: Files = Place::Memory("rows");
        assert_eq!(place.begin_write(), Some("rows"));
        assert_eq!(place.begin_write(), None, "one writes at a time");
        assert_eq!(place.want(), Want::Take("rows"));
        let file = Rc::new(());
        assert_eq!(place.on_written(Some(Rc::clone(&file))), Written::InVain(Some(file)));
        assert_eq!(place.in_memory(), Some(&"rows"));
    }

    #[test]
    fn a_read_that_failed_can_be_tried_again_and_others_wait_for_it() {
        let mut place: Files = Place::Disk(Rc::new(()));
        assert!(matches!(place.want(), Want::Read(_)));
        assert_eq!(place.want(), Want::Wait);
        assert_eq!(place.on_read(None), None);
        assert!(matches!(place.want(), Want::Read(_)));
        assert!(place.on_read(Some("rows")).is_some());
        assert_eq!(place.want(), Want::Take("rows"));
    }

    #[derive(Debug, Clone)]
    enum Step {
        BeginWrite,
        EndWrite(bool),
        Want,
        EndRead(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::BeginWrite),
            any::<bool>().prop_map(Step::EndWrite),
            Just(Step::Want),
            any::<bool>().prop_map(Step::EndRead),
        ];
        prop::collection::vec(step, 0..60)
    }

    proptest! {
        /// Whatever happens in whatever order, the block can be had, and each file is kept exactly as long as the block is
        /// on disk.
        #[test]
        fn a_block_is_never_lost_and_no_file_is_left(steps in steps()) {
            let mut place: Files = Place::Memory("rows");
            let made = Rc::new(());
            let (mut writing, mut reading) = (0, 0);
            for step in steps {
                match step {
                    Step::BeginWrite => writing += usize::from(place.begin_write().is_some()),
                    Step::EndWrite(works) if writing > 0 => {
                        writing -= 1;
                        drop(place.on_written(works.then(|| Rc::clone(&made))));
                    }
                    Step::Want => match place.want() {
                        Want::Take(block) => prop_assert_eq!(block, "rows"),
                        Want::Read(_) => reading += 1,
                        Want::Wait => prop_assert_eq!(reading, 1, "somebody reads"),
                        Want::Gone => prop_assert!(false, "the block is lost"),
                    },
                    Step::EndRead(works) if reading > 0 => {
                        reading -= 1;
                        drop(place.on_read(works.then_some("rows")));
                    }
                    Step::EndWrite(_) | Step::EndRead(_) => {}
                }
                prop_assert_eq!(Rc::strong_count(&made) - 1, usize::from(place.is_on_disk()));
                prop_assert!(place.is_on_disk() || place.in_memory().is_some());
            }
            drop(place.release());
            drop(place.on_written(Some(Rc::clone(&made))));
            prop_assert_eq!(Rc::strong_count(&made), 1);
            prop_assert!(matches!(place.want(), Want::Gone));
        }
    }
}
