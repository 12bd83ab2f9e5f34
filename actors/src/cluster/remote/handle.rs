//! The driver's side: spawns remote actors and asks them.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use mobula_transport::CallError;

use super::message::{ActorAnswer, ActorCall, ActorOrder, RemoteCall};
use super::{ActorId, NamedActor, RemoteError, SPAWN_DEADLINE, decode, encode};
use crate::cluster::driver::Driver;
use crate::cluster::link::CALL_DEADLINE;
use crate::cluster::messages::{DriverAnswer, DriverCall};
use crate::operator::BoxError;
use crate::runtime::RestartBudget;

/// What a spawn may take longer here than on the node and on the head, which then say themselves what took too long.
const SPAWN_SLACK: Duration = CALL_DEADLINE.saturating_mul(2);

impl Driver {
    /// Spawns a remote actor on a node; comes back when its first incarnation stands. It is restarted as often as
    /// `budget` allows, and ends with the handle or with this driver, unless it is [detached](RemoteHandle::detach).
    ///
    /// # Errors
    /// If no node of this name is alive or it has as many actors as it may, the start state is too large, or the actor
    /// cannot be built there.
    pub fn spawn_actor<A: NamedActor>(
        &self,
        node: &str,
        actor: A,
        budget: RestartBudget,
    ) -> Result<RemoteHandle<A>, RemoteError> {
        let (restarts_max, window) = budget.terms();
        let start = encode("start state", &actor).map_err(refused)?;
        let order = ActorOrder { name: A::NAME.to_owned(), start, restarts_max, window };
        let call = RemoteCall::Spawn { node: node.to_owned(), order };
        match self.remote(call, SPAWN_DEADLINE + SPAWN_SLACK)? {
            ActorAnswer::Spawned { id } => Ok(RemoteHandle::new(self.clone(), id, true)),
            other => Err(odd(&other)),
        }
    }

    /// The handle of an actor that is there, perhaps another driver's. It does not end with this handle.
    ///
    /// # Errors
    /// If there is no such actor (any more), or it is of another kind.
    pub fn find_actor<A: NamedActor>(&self, id: ActorId) -> Result<RemoteHandle<A>, RemoteError> {
        let call = RemoteCall::To { id, call: ActorCall::Find { name: A::NAME.to_owned() } };
        match self.remote(call, CALL_DEADLINE)? {
            ActorAnswer::Done => Ok(RemoteHandle::new(self.clone(), id, false)),
            other => Err(odd(&other)),
        }
    }

    fn remote(&self, call: RemoteCall, deadline: Duration) -> Result<ActorAnswer, RemoteError> {
        let control = self.control();
        let answer = self.net().block_on(async move { control.call(&DriverCall::Remote { call }, deadline).await });
        match answer {
            Ok(DriverAnswer::Remote { answer: ActorAnswer::Failed { error } }) => Err(error),
            Ok(DriverAnswer::Remote { answer }) => Ok(answer),
            Ok(other) => Err(RemoteError::Head(format!("it does not fit the question: {other:?}"))),
            Err(CallError::Deadline(deadline)) => Err(RemoteError::Deadline(deadline)),
            Err(error) => Err(RemoteError::Head(error.to_string())),
        }
    }
}

/// A remote actor as its driver sees it. Its drop stops the actor, unless it was detached.
pub struct RemoteHandle<A> {
    driver: Driver,
    id: ActorId,
    owns: bool,
    kind: PhantomData<fn() -> A>,
}

impl<A: NamedActor> RemoteHandle<A> {
    fn new(driver: Driver, id: ActorId, owns: bool) -> Self {
        Self { driver, id, owns, kind: PhantomData }
    }

    /// Its number in the cluster, by which [`Driver::find_actor`] finds it.
    pub fn id(&self) -> ActorId {
        self.id
    }

    /// Lets the actor handle a request and waits for its reply. It may be called from several threads at a time; the
    /// actor handles one request after the other. While it is being restarted, requests wait for the next incarnation.
    ///
    /// # Errors
    /// If the request made the actor panic, the actor is gone, as many asks as may be are under way, or no reply came
    /// before the deadline. Nothing is asked twice.
    pub fn ask(&self, request: A::Request, deadline: Duration) -> Result<A::Reply, RemoteError> {
        let request = encode("request", &request).map_err(refused)?;
        match self.call(ActorCall::Ask { request, deadline }, deadline)? {
            ActorAnswer::Reply { reply } => decode("reply", &reply).map_err(refused),
            other => Err(odd(&other)),
        }
    }

    /// How often it was restarted; waits while it is being restarted.
    ///
    /// # Errors
    /// If the actor is gone, or nobody answers.
    pub fn incarnation(&self) -> Result<u64, RemoteError> {
        match self.call(ActorCall::Incarnation, CALL_DEADLINE)? {
            ActorAnswer::Incarnation { incarnation } => Ok(incarnation),
            other => Err(odd(&other)),
        }
    }

    /// From now on the actor outlives this handle and its driver. It ends when it is stopped, its node goes, or the head
    /// is lost.
    ///
    /// # Errors
    /// If the head does not answer.
    pub fn detach(&mut self) -> Result<(), RemoteError> {
        self.driver.remote(RemoteCall::Detach { id: self.id }, CALL_DEADLINE)?;
        self.owns = false;
        Ok(())
    }

    /// Stops the actor, whoever spawned it; requests that it has not begun with are answered that it is gone. One
    /// that it has begun with is not interrupted: if `handle` never returns, its thread ends with the node's process.
    ///
    /// # Errors
    /// If nobody answers. One that is gone already is no error.
    pub fn stop(mut self) -> Result<(), RemoteError> {
        self.owns = false;
        match self.call(ActorCall::Stop, CALL_DEADLINE) {
            Ok(_) | Err(RemoteError::NodeLost | RemoteError::NotHere) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn call(&self, call: ActorCall, deadline: Duration) -> Result<ActorAnswer, RemoteError> {
        self.driver.remote(RemoteCall::To { id: self.id, call }, deadline)
    }
}

impl<A> Drop for RemoteHandle<A> {
    fn drop(&mut self) {
        if !self.owns {
            return;
        }
        let control = self.driver.control();
        let call = DriverCall::Remote { call: RemoteCall::To { id: self.id, call: ActorCall::Stop } };
        self.driver.net().spawn(async move {
            // A head that is gone has stopped it, and it stops it when this driver is gone.
            let _ = control.call::<_, DriverAnswer>(&call, CALL_DEADLINE).await;
        });
    }
}

impl<A> fmt::Debug for RemoteHandle<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteHandle({})", self.id)
    }
}

fn refused(error: BoxError) -> RemoteError {
    RemoteError::Refused(error.to_string())
}

fn odd(answer: &ActorAnswer) -> RemoteError {
    RemoteError::Head(format!("it does not fit the question: {answer:?}"))
}
