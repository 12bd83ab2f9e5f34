//! What a pool says when somebody asks why its job stands still.

use std::collections::BTreeMap;

use super::worker::PoolShared;
use crate::job::why::picture::{InputPicture, PoolPicture};
use crate::node::job_name;

impl PoolShared {
    /// Its workers and what they wait for; `inputs` are tasks whose inputs are on their way here.
    pub(crate) async fn picture(&self, inputs: Vec<InputPicture>) -> PoolPicture {
        let mut workers = self.doings.pictures(&self.steps);
        let mut running = self.queue.running();
        for worker in &mut workers {
            worker.holds = running.remove(&worker.worker).unwrap_or_default();
        }
        let job = self.turns.job();
        let mut lease = self.doings.lease();
        if let Some(lease) = &mut lease {
            lease.held_by = held_by(job, &self.scheduler.held().await);
        }
        let (others_compute, left_behind) = (self.turns.are_shared(), self.left_behind.of(job));
        PoolPicture { workers, lease, others_compute, inputs, left_behind }
    }
}

/// Who holds leases, in words.
fn held_by(own: u64, held: &BTreeMap<u64, usize>) -> String {
    let name = |job: u64| if job == own { "this job".to_owned() } else { job_name(job) };
    let held: Vec<String> = held.iter().map(|(job, leases)| format!("{} holds {leases}", name(*job))).collect();
    if held.is_empty() { "tasks or actors hold it".to_owned() } else { held.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_leases_is_named() {
        assert_eq!(held_by(1, &[(1, 2), (4, 1)].into()), "this job holds 2, job 4 holds 1");
        assert_eq!(held_by(1, &BTreeMap::new()), "tasks or actors hold it");
    }
}
