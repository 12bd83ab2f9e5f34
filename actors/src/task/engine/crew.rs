//! The crew: the supervisor of a process's task workers. It starts them as the engine asks for more.
//!
//! Protocol: `Grow(n)` asks for n workers more. A worker that ends in good order was idle; one whose restarts are used up
//! is replaced when the engine needs one again, for its tasks are bounded by their own attempts.

use std::collections::BTreeMap;
use std::time::Duration;

use ractor::{ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};

use super::Engine;
use super::worker::LaunchWorker;
use crate::runtime::env::SharedEnv;
use crate::runtime::guardian::{Guardian, GuardianArguments};
use crate::runtime::host::Host;
use crate::runtime::restart::RestartBudget;
use crate::runtime::tasks;
use crate::task::error::TaskError;

/// When a worker could not be started, another is asked for after this: threads come back as others end.
const START_PAUSE: Duration = Duration::from_secs(1);

/// What a crew is told.
pub(crate) enum CrewMessage {
    Grow(usize),
}

/// The supervisor actor.
pub(crate) struct Crew;

/// What a crew is made of.
pub(crate) struct CrewArguments {
    pub(crate) engine: Engine,
    pub(crate) host: Host,
    pub(crate) env: SharedEnv,
    pub(crate) restarts: RestartBudget,
}

/// What a crew remembers: its workers' numbers, by their guardians.
pub(crate) struct CrewState {
    arguments: CrewArguments,
    workers: BTreeMap<ActorId, usize>,
    free: Vec<usize>,
    next: usize,
}

impl CrewState {
    async fn start(&mut self, myself: &ActorRef<CrewMessage>) -> Result<(), ActorProcessingErr> {
        let CrewArguments { engine, host, env, restarts } = &self.arguments;
        let worker = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next - 1
        });
        let lane = host.lane().await?;
        let launch = Box::new(LaunchWorker { engine: engine.clone(), worker, lane });
        let name = format!("task worker {worker}").into();
        let arguments = GuardianArguments { name, launch, budget: restarts.clone(), env: env.clone() };
        let (guardian, _) = ractor::Actor::spawn_linked(None, Guardian, arguments, myself.get_cell()).await?;
        self.workers.insert(guardian.get_id(), worker);
        Ok(())
    }

    fn ended(&mut self, who: ActorId) {
        if let Some(worker) = self.workers.remove(&who) {
            self.free.push(worker);
            self.arguments.engine.gone();
        }
    }
}

impl ractor::Actor for Crew {
    type Msg = CrewMessage;
    type State = CrewState;
    type Arguments = CrewArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        arguments.engine.set_crew(myself);
        Ok(CrewState { arguments, workers: BTreeMap::new(), free: Vec::new(), next: 0 })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        CrewMessage::Grow(workers): Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for _ in 0..workers {
            if let Err(error) = state.start(&myself).await {
                // A system that is out of threads may have some later, when the engine asks again.
                tracing::error!(%error, "a task worker could not be started");
                let engine = state.arguments.engine.clone();
                tasks::spawn(async move {
                    tokio::time::sleep(START_PAUSE).await;
                    engine.started();
                    engine.gone();
                });
            }
        }
        Ok(())
    }

    async fn post_stop(&self, _myself: ActorRef<Self::Msg>, state: &mut Self::State) -> Result<(), ActorProcessingErr> {
        state.arguments.engine.close(TaskError::Ended("its engine was stopped".to_owned()));
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorTerminated(who, ..) => state.ended(who.get_id()),
            SupervisionEvent::ActorFailed(who, error) => {
                tracing::warn!(%error, "a task worker is replaced when there is work for one");
                state.ended(who.get_id());
            }
            _ => {}
        }
        Ok(())
    }
}
