//! Threads that jobs have left behind in user code that does not come back: counted, so that there is a limit.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// The threads of a node that were left behind, by job. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct LeftBehind {
    jobs: Arc<Mutex<BTreeMap<u64, Vec<Thread>>>>,
}

/// Something that a thread which was left behind lets go of when it comes back.
pub(crate) type Thread = Weak<dyn Any + Send + Sync>;

impl LeftBehind {
    /// One more of this job.
    pub(crate) fn add(&self, job: u64, thread: Thread) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).entry(job).or_default().push(thread);
    }

    /// Those of this job that have not come back.
    pub(crate) fn of(&self, job: u64) -> usize {
        let mut jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        jobs.retain(|_, threads| {
            threads.retain(|thread| thread.strong_count() > 0);
            !threads.is_empty()
        });
        jobs.get(&job).map_or(0, Vec::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_counted_by_job_until_they_come_back() {
        let threads = LeftBehind::default();
        let held: Vec<Arc<dyn Any + Send + Sync>> = (0..3).map(|n| Arc::new(n) as _).collect();
        [1, 2, 1].into_iter().zip(&held).for_each(|(job, thread)| threads.add(job, Arc::downgrade(thread)));
        assert_eq!((threads.of(1), threads.of(2)), (2, 1));
        drop(held);
        assert_eq!((threads.of(1), threads.of(2)), (0, 0));
    }
}
