//! The node actor: the root of everything that runs for one session. It supervises the scheduler, the store shards and
//! the jobs. A job that ends, ends alone; a shard or the scheduler that dies takes all jobs with it.

use std::collections::BTreeMap;
use std::sync::Arc;

use ractor::{ActorCell, ActorId, ActorProcessingErr, ActorRef, RpcReplyPort, SpawnErr, SupervisionEvent};

use super::NodeConfig;
use crate::job::{Job, JobArguments, JobError, JobMessage, Resources, explain};
use crate::operator::Shared;
use crate::runtime::env::SharedEnv;
use crate::runtime::guardian::{Guardian, GuardianArguments};
use crate::runtime::host::Host;
use crate::runtime::left_behind::LeftBehind;
use crate::runtime::restart::RestartBudget;
use crate::runtime::room::Room;
use crate::scheduler::SchedulerHandle;
use crate::scheduler::turns::Turns;
use crate::store::spill::Spill;
use crate::store::{LaunchShard, Store};
use crate::units::Bytes;

/// What the jobs of a node work with. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Parts {
    pub(crate) config: Arc<NodeConfig>,
    pub(crate) env: SharedEnv,
    pub(crate) host: Host,
    pub(crate) room: Room,
    pub(crate) budget: Bytes,
    pub(crate) store: Store,
    pub(crate) spill: Spill,
    pub(crate) turns: Turns,
    pub(crate) scheduler: SchedulerHandle,
    pub(crate) shared: Shared,
    pub(crate) left_behind: LeftBehind,
}

/// What is needed to look at a job: nothing that keeps threads.
#[derive(Clone)]
pub(crate) struct WatchParts {
    pub(crate) env: SharedEnv,
    pub(crate) room: Room,
}

/// A job that starts while others run gets at least this part of the whole budget.
const JOB_SHARE_MIN: u64 = 8;

impl Parts {
    /// The budget that a new job may divide among its edges: what other jobs and idle warm values leave.
    pub(crate) fn budget_left(&self) -> Bytes {
        let unclaimed = self.room.unclaimed() - self.shared.warm().idle_bytes();
        unclaimed.max(Bytes(self.budget.0 / JOB_SHARE_MIN))
    }
}

/// What a node is told.
pub(crate) enum NodeMessage {
    /// Start a job.
    Submit(Box<JobArguments>, RpcReplyPort<Result<ActorRef<JobMessage>, JobError>>),
}

/// The node actor.
pub(crate) struct NodeRoot;

/// What a node is made of.
pub(crate) struct NodeArguments {
    pub(crate) store: Store,
    pub(crate) host: Host,
    pub(crate) env: SharedEnv,
}

/// What a node remembers.
#[derive(Default)]
pub(crate) struct NodeState {
    jobs: BTreeMap<ActorId, ActorRef<JobMessage>>,
}

impl ractor::Actor for NodeRoot {
    type Msg = NodeMessage;
    type State = NodeState;
    type Arguments = NodeArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        start_shards(arguments, &myself.get_cell()).await?;
        Ok(NodeState::default())
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        NodeMessage::Submit(arguments, reply): Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let spawned = ractor::Actor::spawn_linked(None, Job, *arguments, myself.get_cell()).await;
        let answer = match spawned {
            Ok((job, _)) => {
                state.jobs.insert(job.get_id(), job.clone());
                Ok(job)
            }
            Err(SpawnErr::StartupFailed(error)) => Err(explain(error)),
            Err(error) => Err(JobError::Internal { actor: "the job".to_owned(), reason: error.to_string() }),
        };
        // A driver that is gone never hears of its job; the job notices that nobody takes its blocks.
        let _ = reply.send(answer);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, ..) => {
                state.jobs.remove(&who.get_id());
            }
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::error!(%error, "a part of the node died");
                if state.jobs.remove(&who.get_id()).is_none() {
                    fail_all(state, &error.to_string());
                }
            }
            _ => {}
        }
        Ok(())
    }
}

fn fail_all(state: &NodeState, reason: &str) {
    for job in state.jobs.values() {
        let error =
            JobError::Internal { actor: "a store shard or the scheduler".to_owned(), reason: reason.to_owned() };
        // A job that is gone has ended already.
        let _ = job.cast(JobMessage::Failed(error));
    }
}

async fn start_shards(arguments: NodeArguments, myself: &ActorCell) -> Result<(), ActorProcessingErr> {
    let lane = Arc::new(arguments.host.lane().await?);
    for (number, table) in arguments.store.tables().iter().enumerate() {
        let launch = Box::new(LaunchShard { table: table.clone(), lane: Arc::clone(&lane), address: None });
        let name = format!("store shard {number}").into();
        let arguments =
            GuardianArguments { name, launch, budget: RestartBudget::none(), env: Arc::clone(&arguments.env) };
        ractor::Actor::spawn_linked(None, Guardian, arguments, myself.clone()).await?;
    }
    Ok(())
}

/// Memory for blocks.
pub(crate) fn memory_budget(config: &NodeConfig, machine: crate::scheduler::Machine) -> Bytes {
    config.memory_budget.unwrap_or(Bytes(machine.memory.0 / 2))
}

/// What a node has: what was found, where the configuration does not say otherwise. Memory that is for blocks is not leased
/// to workers.
pub(crate) fn resources(config: &NodeConfig, machine: crate::scheduler::Machine) -> Resources {
    Resources {
        cpus: config.cpus.unwrap_or(machine.cpus) as f64,
        gpus: config.gpus.unwrap_or(machine.gpus) as f64,
        memory: machine.memory - memory_budget(config, machine),
        extras: config.extras.clone(),
        labels: config.labels.clone(),
    }
}
