//! Where there are no processes as Unix knows them: operators that want one are refused when they open.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::record_batch::RecordBatch;
use tracing::level_filters::LevelFilter;

use super::chain::Produced;
use super::worker::PoolShared;
use crate::operator::{BoxError, Isolation, OpenContext, OperatorResult, OperatorSpec, TaskContext};
use crate::units::Bytes;

/// What a node says about the processes of its workers.
#[derive(Debug, Clone)]
pub(crate) struct IsolatedParts {
    pub(crate) program: Option<PathBuf>,
    pub(crate) frame_bytes_max: Bytes,
}

/// See the module of the same name for Unix.
#[derive(Debug, thiserror::Error)]
#[error("the call was broken off: nobody needs its rows")]
pub(crate) struct BrokenOff;

/// See the module of the same name for Unix.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NotOpened(#[source] BoxError);

/// None is ever made.
pub(crate) enum Isolated {}

impl Isolated {
    pub(crate) async fn open(
        _: Arc<PoolShared>,
        _: OperatorSpec,
        _: Isolation,
        _: OpenContext,
    ) -> OperatorResult<Self> {
        Err("an isolated operator needs a system with Unix processes; run it without isolation here".into())
    }

    pub(crate) async fn begin(&mut self, _: TaskContext) -> OperatorResult {
        match *self {}
    }

    pub(crate) async fn process(&mut self, _: Vec<RecordBatch>, _: u64) -> OperatorResult<Produced> {
        match *self {}
    }

    pub(crate) async fn finish(&mut self) -> OperatorResult<Produced> {
        match *self {}
    }

    pub(crate) async fn close(self) -> OperatorResult {
        match self {}
    }
}

pub(crate) fn frame_bytes_max(budget: Bytes) -> Bytes {
    budget
}

pub(crate) fn role_was_missed() -> bool {
    false
}

/// No process is started in this role here.
pub fn isolated_worker(_: impl FnOnce(LevelFilter)) {}
