//! The head and tasks: its own engine, what drivers leave with it, and what they fetch.

use std::sync::{Arc, PoisonError};

use mobula_transport::{Connection, IncomingCall, IncomingFetch};

use super::super::ids::NodeName;
use super::super::lent::Lent;
use super::super::link::fetch_value;
use super::super::member::ClusterError;
use super::super::messages::{DriverAnswer, FetchCall, NodeInfo, TaskInfo, TaskList};
use super::super::peers::{HEAD, Peers};
use super::super::tasks::{Desk, NodeWay, TaskLink};
use super::{HeadServer, reply};
use crate::node::Node;
use crate::operator::BoxError;
use crate::runtime::net::Net;
use crate::task::directory::{Counts, OpenTask};
use crate::task::engine::{Engine, Upstream};
use crate::task::{ObjectId, PartyId, TaskCounts, TaskError};
use crate::units::Bytes;

/// Tasks that a list holds at most: what fits on a few screens.
const TASKS_LISTED_MAX: usize = 100;

/// The engine of the head's own node. It runs tasks if the head computes, which `own` is for.
pub(super) fn own(
    node: &Node,
    peers: &Peers,
    net: &Net,
    lent: &Lent,
    desk: &Desk,
    own: Option<&NodeInfo>,
) -> Result<Engine, ClusterError> {
    let (link, outgoing) = TaskLink::new(NodeWay { peers: peers.clone() }, net.clone());
    let up: Arc<dyn Upstream> = link;
    let engine = node.start_tasks(PartyId(HEAD.0), Some(up))?;
    lent.set_values(&engine);
    let offer = own.map(|own| Ok((NodeName::new(&own.name)?, own.resources.clone()))).transpose();
    let offer = offer.map_err(|error: crate::cluster::ids::NodeNameError| ClusterError::Answer(error.into()))?;
    desk.here(engine.clone(), outgoing, offer);
    Ok(engine)
}

impl HeadServer {
    /// Tasks and stored values that the head knows of.
    pub fn task_counts(&self) -> TaskCounts {
        let Counts { objects, blocked, queued, running, .. } = self.inner.desk.counts();
        TaskCounts { values: objects, waiting: blocked, queued, running }
    }

    /// What a task waits for, in words; `None` if it has ended or is not known.
    pub fn why_waits(&self, task: ObjectId) -> Option<String> {
        self.inner.desk.why(task)
    }

    /// Tasks that have not ended, and what they wait for.
    pub(super) fn task_list(&self) -> TaskList {
        let info = |OpenTask { id, function, state }: OpenTask| TaskInfo {
            task: id.to_string(),
            function: function.to_string(),
            state,
        };
        let tasks = self.inner.desk.open_tasks(TASKS_LISTED_MAX).into_iter().map(info).collect();
        TaskList { counts: self.task_counts(), tasks }
    }

    /// Takes a value that a driver leaves here.
    pub(super) async fn keep_value(self, call: IncomingCall, from: Connection, id: ObjectId, bytes: Bytes) {
        let kept = async {
            let _promise = self.promise(bytes)?;
            let data = fetch_value(&from, id, PartyId(HEAD.0), bytes).await?;
            self.inner.engine.keep(id, data)?;
            self.inner.desk.left(id);
            Ok::<_, BoxError>(())
        };
        let refused = kept.await.err().map(|error| error.to_string());
        reply(call, Ok(DriverAnswer::Kept { refused })).await;
    }

    /// Room for a value that is to come, as long as what comes back is there.
    fn promise(&self, bytes: Bytes) -> Result<Promise, TaskError> {
        let mut promised = self.inner.promised.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.engine.check_room_for(bytes, *promised)?;
        *promised += bytes;
        Ok(Promise { server: self.clone(), bytes })
    }

    /// Sends a driver what it fetches: results of jobs, and stored values.
    pub(super) async fn fetch_of_driver(self, fetch: IncomingFetch) {
        if let Ok(FetchCall::Value { id, node }) = fetch.decode::<FetchCall>() {
            let own = self.inner.agent.lent().clone();
            return self.inner.relay.clone().value(fetch, id, node, own).await;
        }
        self.result(fetch).await;
    }
}

/// Room that a driver was promised for a value on its way.
struct Promise {
    server: HeadServer,
    bytes: Bytes,
}

impl Drop for Promise {
    fn drop(&mut self) {
        let mut promised = self.server.inner.promised.lock().unwrap_or_else(PoisonError::into_inner);
        *promised = *promised - self.bytes;
    }
}
