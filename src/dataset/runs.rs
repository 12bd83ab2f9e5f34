//! The runs of a session that have not ended, for who shows or cancels them all.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RunWatch;

/// A run of the list. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Listed {
    pub(crate) watch: RunWatch,
    /// Whether somebody waits until its files are visible.
    pub(crate) makes_files: bool,
}

/// The runs. Cheap to clone; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Runs {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    next: u64,
    running: BTreeMap<u64, Listed>,
    closed: bool,
    on_end: Option<OnEnd>,
}

/// Told the number of a run that is over, before who waits for the run goes on.
type OnEnd = Arc<dyn Fn(u64) + Send + Sync>;

impl Runs {
    /// A run has begun; `None` if it is not to go on.
    pub(super) fn add(&self, watch: RunWatch) -> Option<u64> {
        let mut state = self.lock();
        if state.closed {
            return None;
        }
        let number = state.next;
        state.next += 1;
        state.running.insert(number, Listed { watch, makes_files: false });
        Some(number)
    }

    /// Somebody waits until the files of a run are visible; it is not over before that.
    pub(super) fn makes_files(&self, number: u64) {
        if let Some(run) = self.lock().running.get_mut(&number) {
            run.makes_files = true;
        }
    }

    /// The job of a run has ended.
    pub(super) fn ended(&self, number: u64) {
        if self.lock().running.get(&number).is_some_and(|run| !run.makes_files) {
            self.remove(number);
        }
    }

    /// A run is over.
    pub(super) fn remove(&self, number: u64) {
        let (gone, on_end) = {
            let mut state = self.lock();
            (state.running.remove(&number), state.on_end.clone())
        };
        if let Some(on_end) = on_end.filter(|_| gone.is_some()) {
            on_end(number);
        }
    }

    /// Calls this for each run that is over from now on.
    pub(crate) fn on_end(&self, call: impl Fn(u64) + Send + Sync + 'static) {
        self.lock().on_end = Some(Arc::new(call));
    }

    /// All there are, the oldest first.
    pub(crate) fn all(&self) -> Vec<(u64, Listed)> {
        self.lock().running.iter().map(|(number, run)| (*number, run.clone())).collect()
    }

    /// Cancels all and refuses new ones; those that have all their results already do not notice. Returns how many there
    /// are.
    pub(crate) fn close(&self) -> usize {
        self.lock().closed = true;
        let all = self.all();
        for (_, run) in &all {
            run.watch.cancel();
        }
        all.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
