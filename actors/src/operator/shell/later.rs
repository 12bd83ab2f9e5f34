//! What an operator's actor looks at again after a while, because nobody may tell it by then.

use actix::{AsyncContext, Context};

use super::OperatorShell;
use crate::pool::queue::QUICK;

impl OperatorShell {
    /// Looks again at what gathers, and makes a task of it if none was made meanwhile.
    pub(super) fn roll_later(&mut self, ctx: &mut Context<Self>) {
        let Some(after) = self.parts.roll_after.filter(|_| !self.rolls && self.flow.waits_for_more()) else { return };
        self.rolls = true;
        let started = self.started;
        ctx.run_later(after, move |shell, ctx| {
            shell.rolls = false;
            if shell.started == started || shell.parts.rolls_while_busy {
                shell.flow.roll();
            }
            shell.pump(ctx);
        });
    }

    /// Tasks that were left to workers that are quick go to others if those are not.
    pub(super) fn look_later(&mut self, ctx: &mut Context<Self>) {
        let Some(seen) = self.held_back.take().filter(|_| !self.looks) else { return };
        self.looks = true;
        ctx.run_later(QUICK, move |shell, ctx| {
            shell.looks = false;
            shell.held_back = shell.parts.pool.queue.look_after(seen);
            shell.look_later(ctx);
        });
    }
}
