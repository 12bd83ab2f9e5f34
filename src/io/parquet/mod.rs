//! Parquet: footers at plan time, row groups as splits, batches by bytes.
//!
//! [`ParquetScan`] looks at the footers; [`reader`] reads one split; [`footer`] keeps parsed footers within a bound;
//! [`estimate`] says what decoding takes; [`prune`] decides what a predicate lets one skip.

mod chunks;
mod estimate;
mod footer;
mod prune;
mod reader;
mod runs;
mod scan;

#[cfg(test)]
mod tests;

pub use scan::{ParquetScan, ReadOptions};
