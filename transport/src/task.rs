//! The one place where the transport starts a task: each has an owner, and ends with it.

use tokio::task::AbortHandle;

/// A task that ends when its owner drops this.
#[derive(Debug)]
pub(crate) struct Task(AbortHandle);

impl Task {
    /// Starts a task on the runtime that this is called in.
    #[allow(clippy::disallowed_methods, reason = "the transport's door to the runtime; the task ends with its owner")]
    pub(crate) fn start(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future).abort_handle())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}
