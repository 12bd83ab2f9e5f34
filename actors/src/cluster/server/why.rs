//! Answers drivers that ask why a job stands still.

use mobula_transport::IncomingCall;

use super::super::messages::DriverAnswer;
use super::{HeadServer, reply};

impl HeadServer {
    /// What a job waits for now. One that has ended waits for nothing.
    pub(super) async fn why(self, call: IncomingCall, job: u64) {
        let Some(entry) = self.inner.jobs.get(job) else { return reply(call, Ok(DriverAnswer::Unknown)).await };
        let asking = entry.watch().ask_why();
        // The parts of a job live on the node's control plane.
        let why = self.inner.node.system().control_handle().spawn(asking).await;
        let why = why.ok().flatten().unwrap_or_default();
        reply(call, Ok(DriverAnswer::Why { why })).await;
    }
}
