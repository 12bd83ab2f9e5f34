//! The ledger: what a job that writes has finished, durable beside its output.

mod coverage;
mod ranges;

pub use coverage::{Coverage, Overlap};
