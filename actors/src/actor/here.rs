//! Where a thread is: in which process's way to actors, on whose thread, with which devices.
//!
//! Handlers of actors and whatever else runs user code for a node enters it ([`enter`]): a handle that comes in a message
//! finds its way by it, and user code gets its node's [`Actors`] by [`here`].

use std::cell::RefCell;
use std::sync::{Arc, Weak};

use super::space::{Actors, Space};

/// Where a thread is.
#[derive(Clone)]
pub(crate) struct Here {
    pub(crate) space: Weak<Space>,
    /// The thread of the actor that runs, if one does.
    pub(crate) lane: Option<u64>,
    /// Devices of what runs.
    pub(crate) gpus: Arc<[u32]>,
}

thread_local! {
    static HERE: RefCell<Option<Here>> = const { RefCell::new(None) };
}

/// Gives back what was before when it is dropped.
pub(crate) struct Entered {
    before: Option<Here>,
}

/// From now on, and until the returned value is dropped, this thread is here.
pub(crate) fn enter(here: Here) -> Entered {
    Entered { before: HERE.with(|place| place.borrow_mut().replace(here)) }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let before = self.before.take();
        let now = HERE.with(|place| std::mem::replace(&mut *place.borrow_mut(), before));
        drop(now);
    }
}

pub(crate) fn space() -> Option<Weak<Space>> {
    HERE.with(|place| place.borrow().as_ref().map(|here| here.space.clone()))
}

pub(crate) fn lane() -> Option<u64> {
    HERE.with(|place| place.borrow().as_ref().and_then(|here| here.lane))
}

/// The way to actors of the process that runs this code for the engine: inside a handler of an actor, for example.
/// `None` in threads that nothing of the engine runs on.
///
/// ```
/// assert!(mobula_actors::actor::here().is_none());
/// ```
pub fn here() -> Option<Actors> {
    space().and_then(|space| space.upgrade()).map(Actors::of)
}

/// Ordinals of the GPUs that the actor (or task) which runs this code was given.
///
/// ```
/// assert!(mobula_actors::actor::gpus().is_empty(), "no actor runs here");
/// ```
pub fn gpus() -> Vec<u32> {
    HERE.with(|place| place.borrow().as_ref().map(|here| here.gpus.to_vec()).unwrap_or_default())
}
