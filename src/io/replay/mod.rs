//! Dead letters read again: exactly the rows of the input that jobs gave up, as a scan like any other.
//!
//! A job that finishes with dead letters [keeps](kept) beside its output how their rows were read. From that, the letters that
//! are still open become [ranges](ranges) of splits, which a [source](picked) around the original one reads; [`again`] knows
//! how each format is read with other columns than the job read. Which letters are open is decided by `output`. Start at
//! [`scan`].

pub(crate) mod again;
pub(crate) mod kept;
mod picked;
mod ranges;
mod scan;

pub use scan::LetterOptions;
pub(crate) use scan::{OpenLetters, Replays, scan};
