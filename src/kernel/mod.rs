//! Kernels: pure functions on batches and schemas. No files, no threads, no clock.

pub mod schema;
