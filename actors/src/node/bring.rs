//! Results on disk, read back for the driver: by a thread of their own and for so long at most, so that a disk that hangs
//! keeps no driver, and can be named.

use std::time::Duration;

use tokio::time::timeout;

use crate::block::{Block, BlockRef};
use crate::job::why::stall::Stall;
use crate::operator::BoxError;
use crate::runtime::env::SharedEnv;
use crate::runtime::tasks;

#[derive(Debug, thiserror::Error)]
#[error(
    "it was not read back from disk within {} s: the disk hangs (spill_dir), or needs more time (a longer task_progress_limit)",
    .after.as_secs_f64().round()
)]
struct NotRead {
    after: Duration,
}

/// The rows of a result that is on disk; runs on a node's control plane.
pub(super) async fn bring(env: SharedEnv, block: BlockRef, limit: Duration) -> Result<Block, BoxError> {
    let from = env.now();
    let mut read = std::pin::pin!(tasks::blocking(move || block.bring()));
    let Some(every) = Stall::look_every(limit) else { return read.await? };
    loop {
        if let Ok(read) = timeout(every, &mut read).await {
            return read?;
        }
        let after = env.now().saturating_sub(from);
        if after >= limit {
            return Err(NotRead { after }.into());
        }
    }
}
