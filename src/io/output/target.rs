//! Where an output goes: to a folder, or to an object store (`s3://bucket/prefix`). One door for both.

use std::path::Path;

use arrow::datatypes::SchemaRef;
use mobula_actors::ledger::RecorderSpec;
use mobula_actors::operator::OperatorSpec;
use mobula_actors::units::Bytes;

#[cfg(feature = "s3")]
use super::store::{self, StoreOutput, StorePrepared, keys::Place};
use super::verify::{self, Verified};
use super::{Format, JobPlan, OutputDir, Prepared, WriteOptions, Written};
use crate::io::error::IoResult;

/// An output while a job writes to it.
#[derive(Debug)]
pub(crate) enum Output {
    Folder(Box<OutputDir>),
    #[cfg(feature = "s3")]
    Store(Box<StoreOutput>),
}

/// What a write finds.
#[derive(Debug)]
pub(crate) enum Ready {
    /// A job that begins or goes on.
    Job(Output),
    /// The same job has finished.
    Done(Written),
}

impl Output {
    /// What splits of the last job that wrote there were cut to: one that goes on must cut them alike.
    pub(crate) fn earlier_block_bytes(path: &Path) -> IoResult<Option<Bytes>> {
        match place(path)? {
            None => OutputDir::earlier_block_bytes(path),
            #[cfg(feature = "s3")]
            Some(place) => store::earlier_block_bytes(&place),
        }
    }

    /// Finds or makes the job, and checks that it may write there.
    ///
    /// # Errors
    /// Those of [`OutputDir::prepare`], and what a store refuses.
    pub(crate) fn prepare(
        path: &Path,
        format: Format,
        schema: &SchemaRef,
        options: &WriteOptions,
        plan: &JobPlan,
    ) -> IoResult<Ready> {
        match place(path)? {
            None => Ok(match OutputDir::prepare(path, format, schema, options, plan)? {
                Prepared::Job(output) => Ready::Job(Self::Folder(output)),
                Prepared::Done(written) => Ready::Done(written),
            }),
            #[cfg(feature = "s3")]
            Some(place) => Ok(match StoreOutput::prepare(&place, format, schema, options, plan)? {
                StorePrepared::Job(output) => Ready::Job(Self::Store(output)),
                StorePrepared::Done(written) => Ready::Done(written),
            }),
        }
    }

    /// The operator that writes the parts.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn operator(&self) -> IoResult<OperatorSpec> {
        match self {
            Self::Folder(output) => output.operator(),
            #[cfg(feature = "s3")]
            Self::Store(output) => output.operator(),
        }
    }

    /// Who keeps the ledger and makes the parts visible, where the job lives.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn recorder(&self) -> IoResult<RecorderSpec> {
        match self {
            Self::Folder(output) => output.recorder(),
            #[cfg(feature = "s3")]
            Self::Store(output) => output.recorder(),
        }
    }

    /// The parts are somebody else's from now on.
    pub(crate) fn hand_over(self) {
        match self {
            Self::Folder(output) => output.hand_over(),
            // Nothing has to be taken back: what a store has of the job is gone on with or given up by the next.
            #[cfg(feature = "s3")]
            Self::Store(_) => {}
        }
    }
}

/// Checks all jobs that wrote there, and that nothing is visible which none of them wrote.
pub(crate) fn verify(path: &Path) -> IoResult<(Vec<Verified>, Vec<String>)> {
    match place(path)? {
        None => verify::verify(path),
        #[cfg(feature = "s3")]
        Some(place) => store::verify(&place),
    }
}

/// Whether the path names a place on a store.
pub(super) fn is_on_store(path: &Path) -> bool {
    place(path).is_ok_and(|place| place.is_some())
}

#[cfg(feature = "s3")]
fn place(path: &Path) -> IoResult<Option<Place>> {
    Place::parse(path)
}

/// There is no other place than a folder.
#[cfg(not(feature = "s3"))]
fn place(path: &Path) -> IoResult<Option<std::convert::Infallible>> {
    match path.to_str().is_some_and(|path| path.starts_with("s3://")) {
        true => Err(crate::io::error::IoError::NoStores { path: path.to_owned() }),
        false => Ok(None),
    }
}
