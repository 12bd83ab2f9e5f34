//! Workers of tasks: each an actor on a thread of its own that takes tasks from the engine, one after another.
//!
//! Its life is one message: it takes tasks until the engine is closed or there has been nothing to do for a while. Errors
//! and panics of a function end the task's attempt; what ends the thread itself ends the worker, and its guardian starts a
//! fresh one.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use actix::{Actor, ActorContext, AsyncContext, Context};

use super::Engine;
use super::state::{Ended, Start};
use crate::runtime::guardian::Launch;
use crate::runtime::host::Lane;
use crate::runtime::watch::{DeathWatch, Exit, panic_text};
use crate::task::call::{Call, Submitted};
use crate::task::context::{Here, Work, enter};
use crate::task::error::TaskError;
use crate::task::stream::Emitter;
use crate::task::value::Value;

/// The panic by which a worker dies with its task, as native code that crashes its thread would end it: for tests of what
/// becomes of the task.
pub(crate) struct WorkerDeath;

/// One incarnation of a worker.
struct Worker {
    engine: Engine,
    worker: usize,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        // In a future of its own, so that the watch is in place before user code runs.
        // Without a budget of tokio's: it would be used up once and for all, and user code that waits for a channel of
        // tokio's would wait for ever.
        let (engine, worker) = (self.engine.clone(), self.worker);
        let work = tokio::task::unconstrained(async move { work(&engine, worker) });
        let work = actix::fut::wrap_future(work);
        ctx.spawn(actix::fut::ActorFutureExt::map(work, |(), _: &mut Self, ctx: &mut Context<Self>| ctx.stop()));
    }
}

/// Runs tasks until there are none for it.
fn work(engine: &Engine, worker: usize) {
    let mut ended = None;
    while let Some(start) = engine.next(worker, ended.take()) {
        ended = Some(run(engine, worker, start));
    }
}

fn run(engine: &Engine, worker: usize, start: Start) -> Ended {
    let Start { task, attempt, args, gpus } = start;
    let entered =
        enter(Here { engine: engine.clone(), work: Some(Work { worker, task: Arc::clone(&task), attempt, gpus }) });
    let emitter = task.stream.then(|| Emitter::new(engine.clone(), Arc::clone(&task), attempt));
    let mut call = Call { args, emitter };
    let result = catch_unwind(AssertUnwindSafe(|| (task.entry.run)(&mut call)));
    let ended = match result {
        Ok(Ok(value)) => returned(engine, &task, value.0),
        Ok(Err(error)) => failed(&*error),
        Err(panic) if panic.is::<WorkerDeath>() => resume_unwind(panic),
        Err(panic) => Ended::Failed(vec![text(&*panic)]),
    };
    drop(call);
    drop(entered);
    ended
}

fn text(panic: &(dyn Any + Send)) -> String {
    format!("it panicked: {}", panic_text(panic))
}

/// What the engine itself says (a limit, a wait that cannot be) is no better in the next attempt.
fn failed(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Ended {
    match error.downcast_ref::<TaskError>() {
        Some(error @ TaskError::Limit(_)) => Ended::Never(error.clone()),
        _ => Ended::Failed(crate::job::texts(error)),
    }
}

fn returned(engine: &Engine, task: &Submitted, value: Value) -> Ended {
    if !task.for_head {
        return Ended::Value(value, None);
    }
    match engine.frame(value) {
        Ok((value, frame)) => Ended::Value(value, Some(frame)),
        Err(error) => Ended::Never(error),
    }
}

/// Starts the incarnations of a worker.
pub(super) struct LaunchWorker {
    pub(super) engine: Engine,
    pub(super) worker: usize,
    pub(super) lane: Lane,
}

impl Launch for LaunchWorker {
    fn launch(&mut self, incarnation: u64, watch: DeathWatch) {
        let (engine, worker) = (self.engine.clone(), self.worker);
        if incarnation == 0 {
            engine.started();
        }
        Worker::start_in_arbiter(&self.lane.handle(), move |ctx| {
            watch.attach(ctx);
            Worker { engine, worker }
        });
    }

    fn ended(&mut self, _incarnation: u64, exit: &Exit, _restarting: bool) {
        if let Exit::Stopped = exit {
            self.lane.keep_warm();
        }
        // In good order it has nothing at hand.
        self.engine.worker_died(self.worker, exit.to_string());
    }
}
