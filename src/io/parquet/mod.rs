//! Parquet: footers at plan time, row groups as splits, batches by bytes.
//!
//! [`ParquetScan`] looks at the footers; [`reader`] reads one split; [`footer`] keeps parsed footers within a bound;
//! [`estimate`] says what decoding takes; [`prune`] decides what a predicate lets one skip.

mod bounds;
mod chunks;
mod damage;
mod estimate;
mod footer;
mod prune;
mod reader;
mod rows;
mod runs;
mod scan;

#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod tests;

pub use scan::{ParquetScan, ReadOptions};
