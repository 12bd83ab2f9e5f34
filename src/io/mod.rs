//! Where rows come from and go to: file formats, ranges, batches in memory; and output directories.
//!
//! Reading: a format is opened as a [`Scan`] ([`ParquetScan::open`], [`CsvScan::open`], [`JsonScan::open`],
//! [`range`], [`batches`]), narrowed by planner rules, and lowered to a source and its splits. Writing:
//! an output directory is prepared for a job, whose sink operator writes hidden parts, one a task, and whose recorder keeps
//! the ledger and makes the parts visible.
//! It does not know actors, plans or datasets. Start at [`scan`] for reading and at [`output`] for writing.

mod error;
mod file;
mod given_up;
mod memory;
pub mod output;
mod pace;
mod parquet;
mod paths;
pub(crate) mod replay;
pub mod scan;
pub(crate) mod schema;
mod shipped;
mod sink;
#[cfg(test)]
mod testing;
mod text;
pub(crate) mod wire;

pub use error::{IoError, IoResult};
pub use memory::{batches, range};
pub(crate) use output::target::{Output, Ready, verify};
pub(crate) use output::{Command, JobPlan, check_inputs, commands_of, kept, open_letters};
pub use output::{Format, LeftOut, Publish, WriteMode, WriteOptions, Written};
#[cfg(test)]
pub(crate) use output::{OutputDir, Prepared};
pub use parquet::{ParquetScan, ReadOptions};
pub use paths::IntoPaths;
pub use replay::LetterOptions;
pub(crate) use scan::InputFile;
pub use scan::{OnError, Scan};
pub use sink::Compression;
pub(crate) use sink::WriteParams;
pub use text::{CsvOptions, CsvScan, JsonOptions, JsonScan};
