//! Tasks of the control plane: futures that wait on behalf of an actor and tell it what came of it.

use std::future::Future;

use super::threads::simulates;

/// Runs a future beside the actors of the control plane. It belongs to the actor or link that it reports to and must
/// end when that does: every such future waits for something that its owner closes.
// Tasks have to come from somewhere, and this is the place.
#[allow(clippy::disallowed_methods)]
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    // Nobody waits for it by name: it reports by message.
    drop(tokio::spawn(future));
}

/// Runs what waits for threads (the start and the end of a node) where waiting holds nobody up; in a simulation, in place.
///
/// # Errors
/// If the runtime is ending.
// Blocking work has to go somewhere, and this is the place.
#[allow(clippy::disallowed_methods)]
pub(crate) async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> std::io::Result<R> {
    if simulates() {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
