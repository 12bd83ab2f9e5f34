//! Where the calling thread is: in a task, and in whose session.

use std::cell::RefCell;
use std::sync::Arc;

use super::call::Submitted;
use super::engine::Engine;
use crate::actor::here as actors;

/// The task that a thread runs.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) engine: Engine,
    /// The worker, and what it runs; none where a value is only being read.
    pub(crate) work: Option<Work>,
}

#[derive(Clone)]
pub(crate) struct Work {
    pub(crate) worker: usize,
    pub(crate) task: Arc<Submitted>,
    pub(crate) attempt: u32,
    pub(crate) gpus: Arc<[u32]>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// The thread is `here` until what comes back is dropped.
pub(crate) fn enter(here: Here) -> Entered {
    let gpus = here.work.as_ref().map(|work| Arc::clone(&work.gpus)).unwrap_or_default();
    let actors = here.engine.space().map(|space| actors::enter(actors::Here { space, lane: None, gpus }));
    Entered { before: HERE.with(|cell| cell.borrow_mut().replace(here)), _actors: actors }
}

/// Puts back where the thread was.
pub(crate) struct Entered {
    before: Option<Here>,
    /// Handles of actors find their way too.
    _actors: Option<actors::Entered>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        // What is replaced may hold the last handle of an engine: it is dropped after the cell is free.
        let gone = HERE.with(|cell| std::mem::replace(&mut *cell.borrow_mut(), before));
        drop(gone);
    }
}

/// The session that the thread works for: as a task, or as an actor.
pub(crate) fn engine() -> Option<Engine> {
    let of_task = HERE.with(|cell| cell.borrow().as_ref().map(|here| here.engine.clone()));
    of_task.or_else(|| actors::space()?.upgrade()?.tasks())
}

/// What the thread works on, if it is a worker of this engine.
pub(crate) fn work_of(engine: &Engine) -> Option<Work> {
    HERE.with(|cell| {
        let here = cell.borrow();
        here.as_ref().filter(|here| here.engine.is(engine)).and_then(|here| here.work.clone())
    })
}

/// What the thread works on.
pub(crate) fn work() -> Option<Work> {
    HERE.with(|cell| cell.borrow().as_ref().and_then(|here| here.work.clone()))
}

/// The thread reads a value of this engine: references inside it belong there.
pub(crate) fn reading(engine: &Engine) -> Option<Entered> {
    let inside = HERE.with(|cell| cell.borrow().as_ref().is_some_and(|here| here.engine.is(engine)));
    (!inside).then(|| enter(Here { engine: engine.clone(), work: None }))
}
