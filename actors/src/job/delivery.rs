//! What a job hands to its driver.

use super::JobError;
use crate::block::BlockRef;
use crate::runtime::room::Permit;

/// One thing on the way to the driver.
pub(crate) enum Delivery {
    /// A block, with the room it takes until the driver asks for the next.
    Block(BlockRef, Permit),
    /// The last thing: how the job ended.
    End(Result<(), JobError>),
}

/// Blocks that may wait for the driver: enough to keep it busy, few enough to stop early.
pub(crate) const DELIVERY_BLOCKS_MAX: usize = 64;
