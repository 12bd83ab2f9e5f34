//! A message to oneself after a while, which does not come any more once its alarm is dropped.

use std::time::Duration;

use ractor::{ActorRef, Message};
use tokio::task::AbortHandle;

/// Rings once, unless it is dropped before.
pub(crate) struct Alarm(AbortHandle);

impl Alarm {
    /// Tells the actor `message` after so long.
    pub(crate) fn set<M: Message>(
        actor: &ActorRef<M>,
        after: Duration,
        message: impl FnOnce() -> M + Send + 'static,
    ) -> Self {
        Self(actor.send_after(after, message).abort_handle())
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.abort();
    }
}
