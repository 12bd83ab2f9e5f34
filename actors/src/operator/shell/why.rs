//! What an operator's actor says when somebody asks why its job stands still.

use std::sync::Arc;

use actix::{Context, Handler, Message};
use tokio::sync::oneshot;

use super::OperatorShell;
use crate::job::why::picture::{Filled, RoomWait, ShellPicture, TaskPicture};
use crate::pool::supervisor::PoolHandle;

/// Asks what the operator waits for.
pub(crate) struct AskWhy(pub(crate) oneshot::Sender<ShellAnswer>);

/// What it waits for, and where its workers are to be asked.
pub(crate) struct ShellAnswer {
    pub(crate) picture: ShellPicture,
    pub(crate) supervisor: Option<PoolHandle>,
}

impl Message for AskWhy {
    type Result = ();
}

impl Handler<AskWhy> for OperatorShell {
    type Result = ();

    fn handle(&mut self, AskWhy(answer): AskWhy, _: &mut Context<Self>) {
        // Who asked may not wait any longer.
        let _ = answer.send(ShellAnswer { picture: self.picture(), supervisor: self.supervisor.clone() });
    }
}

impl OperatorShell {
    fn picture(&self) -> ShellPicture {
        let pool = Arc::clone(&self.parts.pool);
        let (now, room) = (pool.env.now(), self.outlet.room());
        let leaving = self.asked_room.map(|(since, bytes)| RoomWait { bytes, since: now.saturating_sub(since), room });
        let oldest = self.tasks.oldest_running().map(|(seq, attempt, input)| {
            let what = input.describe();
            TaskPicture { seq, attempt, what }
        });
        let window = pool.window.edge().map(Filled::of).unwrap_or_default();
        ShellPicture { done: self.done, leaving, oldest, running: self.tasks.running(), window }
    }
}
