//! Parquet: footers at plan time, row groups as splits, batches by bytes.
//!
//! [`ParquetScan`] looks at the footers; [`reader`] reads one split; [`footer`] keeps parsed footers within a bound;
//! [`estimate`] says what decoding takes, and [`views`] keeps it to that where [`words`] are long, as [`page`]
//! does for what a page says of itself, and [`claims`] for what a footer does; [`prune`] decides what a predicate lets one skip.

mod again;
mod bounds;
mod chunks;
mod claims;
mod damage;
mod estimate;
mod footer;
mod page;
mod prune;
mod reader;
mod rows;
mod runs;
mod scan;
mod shown;
mod thrift;
mod views;
mod words;

#[cfg(test)]
mod bomb_tests;
#[cfg(test)]
mod prune_tests;
#[cfg(test)]
mod tests;

pub(crate) use again::{SOURCE, again};
pub use scan::{ParquetScan, ReadOptions};
