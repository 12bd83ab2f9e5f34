//! The ledger: what a job that writes has finished, durable beside its output.
//!
//! A job's plan cuts its input into segments; the results of each carry shares of them ([`crate::block::Segments`]). The
//! [`Recorder`] of a job takes the results of its sink as they come, waits until their segments are whole ([`Groups`]),
//! and appends a record ([`LedgerFile`]): that record is the commit. What is committed is never read again: a job that goes
//! on, after the loss of a node, a crash or a week, reads what is [left](Coverage::left) of the plan. The thinking is in
//! `coverage`, `groups` and `record`, which are pure; start with `coverage`.
//!
//! | actor | supervised by | its limit | what happens when it dies |
//! |---|---|---|---|
//! | keeper (`keeper.rs`), one for each job that writes in a session of one process | node | takes one group of results at a time, as many as wait | its job is cancelled, and whoever waits for it is told; what is in the ledger stays |
//!
//! On a cluster the head's task that runs the job out does the same.

mod coverage;
mod file;
mod groups;
pub(crate) mod keeper;
mod ranges;
mod record;
pub(crate) mod recorder;

pub use coverage::{Coverage, Overlap};
pub use file::{LedgerError, LedgerFile};
pub use groups::{Groups, Whole};
pub use keeper::RecordedJob;
pub use record::Record;
pub use recorder::{Recorder, RecorderEntry, RecorderSpec, Results};
