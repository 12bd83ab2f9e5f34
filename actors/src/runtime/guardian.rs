//! Guardians: the ractor actor that starts an actix actor, learns of its death and restarts it within a budget.
//!
//! The life of what is guarded: launch → it lives → it ends. An end in good order ends its guardian too. Any other end
//! uses up one restart: a fresh incarnation is built by the same launch. With the budget spent the guardian fails, and
//! its own supervisor learns why ([`GaveUp`]). Everyone else reaches the actor through what the launch published, so
//! nobody holds the address of a dead incarnation for long.

use std::sync::Arc;

use ractor::{ActorProcessingErr, ActorRef, SupervisionEvent};

use super::env::SharedEnv;
use super::restart::RestartBudget;
use super::watch::{DeathWatch, Exit, Lifeline};

/// Starts one incarnation of the guarded actor. Called on the control plane; must not block.
pub(crate) trait Launch: Send + 'static {
    /// Starts incarnation `incarnation` (from 0) with the watch attached to it.
    fn launch(&mut self, incarnation: u64, watch: DeathWatch);

    /// The incarnation is dead; a fresh one follows if `restarting`.
    fn ended(&mut self, incarnation: u64, exit: &Exit, restarting: bool) {
        let _ = (incarnation, exit, restarting);
    }
}

/// Why a guardian failed: the error its supervisor receives.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{name} gave up after {restarts} restarts: {exit}")]
pub(crate) struct GaveUp {
    pub(crate) name: Arc<str>,
    pub(crate) restarts: u32,
    pub(crate) exit: Exit,
}

/// What a guardian is told.
pub(crate) enum GuardianMessage {
    /// An incarnation ended.
    Ended(u64, Exit),
}

/// The guardian actor.
pub(crate) struct Guardian;

/// What a guardian is made of.
pub(crate) struct GuardianArguments {
    pub(crate) name: Arc<str>,
    pub(crate) launch: Box<dyn Launch>,
    pub(crate) budget: RestartBudget,
    pub(crate) env: SharedEnv,
}

/// What a guardian remembers.
pub(crate) struct GuardianState {
    arguments: GuardianArguments,
    incarnation: u64,
    restarts: u32,
    /// Cut when the guardian goes: what it guards does not outlive it.
    #[allow(dead_code)]
    lifeline: Option<Lifeline>,
}

impl GuardianState {
    fn launch(&mut self, myself: &ActorRef<GuardianMessage>) {
        let (myself, incarnation) = (myself.clone(), self.incarnation);
        let (watch, lifeline) = DeathWatch::new(move |exit| {
            // A guardian that is gone was told to stop and needs no news.
            let _ = myself.cast(GuardianMessage::Ended(incarnation, exit));
        });
        self.lifeline = Some(lifeline);
        self.arguments.launch.launch(incarnation, watch);
    }
}

impl ractor::Actor for Guardian {
    type Msg = GuardianMessage;
    type State = GuardianState;
    type Arguments = GuardianArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut state = GuardianState { arguments, incarnation: 0, restarts: 0, lifeline: None };
        state.launch(&myself);
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        GuardianMessage::Ended(incarnation, exit): Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        if incarnation != state.incarnation {
            return Ok(());
        }
        let in_good_order = matches!(exit, Exit::Stopped);
        let restarting = !in_good_order && state.arguments.budget.allow(state.arguments.env.now());
        state.arguments.launch.ended(incarnation, &exit, restarting);
        if in_good_order {
            myself.stop(None);
        } else if restarting {
            tracing::warn!(actor = %state.arguments.name, %exit, "restarting");
            state.incarnation += 1;
            state.restarts += 1;
            state.launch(&myself);
        } else {
            let name = Arc::clone(&state.arguments.name);
            return Err(Box::new(GaveUp { name, restarts: state.restarts, exit }));
        }
        Ok(())
    }

    /// What stands below a guardian (a pool below its operator) fails upwards through it.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        pass_failure_up(event)
    }
}

/// The rule of every supervisor between a guardian and the one who decides: a child that ends in good order is no
/// event, a child that fails is a failure of its parent.
pub(crate) fn pass_failure_up(event: SupervisionEvent) -> Result<(), ActorProcessingErr> {
    match event {
        SupervisionEvent::ActorFailed(_, error) => Err(error),
        _ => Ok(()),
    }
}
