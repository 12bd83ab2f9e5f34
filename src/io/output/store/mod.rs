//! Outputs on S3-like object stores: the promises of a folder, kept with what such a store can do.
//!
//! A store has no links, locks or appends. It has uploads in parts, which nobody sees before they are completed, and puts
//! that succeed only where no object is. So an attempt is an [upload] that is not completed; the [ledger] is a sequence of
//! small objects, each made by a conditional put, which at the same time keeps out whoever ran the job before; and parts
//! become visible by completing their uploads, which can be repeated after any crash. The thinking is in [keys] (names) and
//! [`progress`](super::progress) (what is whole), which are pure; [`client`] is the shell that talks to the store.
//!
//! ```text
//! PREFIX/part-00000-..parquet   what readers see
//! PREFIX/_mobula/probe          shows that the store refuses to put an object twice
//! PREFIX/_mobula/N/plan         what job N is to do
//!                  ledger/0..   what it has finished, one object for each group of records
//!                  dead-letters/ a table of the rows that were given up
//!                  manifest.json what was made visible: the job has finished
//! ```

mod answers;
pub(crate) mod client;
mod jobs;
pub(crate) mod keys;
mod ledger;
mod prepare;
mod probe;
mod progress;
mod recorder;
#[cfg(test)]
pub(crate) mod testing;
pub(crate) mod upload;
mod verify;

pub(crate) use self::prepare::{StoreOutput, StorePrepared, earlier_block_bytes};
pub(crate) use self::verify::verify;
