//! Kernels: pure functions on batches and schemas. No files, no threads, no clock.
//!
//! [`rebatch`] cuts batches to size, [`schema`] puts schemas into words, [`table`] prints rows.

pub mod rebatch;
pub mod schema;
pub mod table;
