//! Notices that nothing of a job moves, and says in the log who waits for whom.

use std::sync::Arc;
use std::time::Duration;

use ractor::ActorRef;

use super::actor::{JobArguments, JobMessage, Running};
use super::taker::Taker;
use super::why::stall::Stall;
use super::why::{Why, gather};
use crate::logs::JobLogs;
use crate::node::job_name;
use crate::pool::metrics::Metrics;
use crate::runtime::alarm::Alarm;
use crate::runtime::env::SharedEnv;
use crate::runtime::tasks::spawn;

/// Lines of an answer that go to the driver of a job of a cluster, one a log line: enough for its first cause.
const LINES_TO_DRIVER_MAX: usize = 8;

/// Looks whether a job moves.
pub(super) struct Standstill {
    job: u64,
    env: SharedEnv,
    metrics: Vec<Arc<Metrics>>,
    logs: JobLogs,
    stall: Stall,
    every: Option<Duration>,
    clock: Option<Alarm>,
}

impl Standstill {
    pub(super) fn new(arguments: &JobArguments) -> Self {
        let JobArguments { node, metrics, sites, .. } = arguments;
        let (limit, env) = (node.config.stall_warning, Arc::clone(&node.env));
        Self {
            job: sites.job,
            stall: Stall::new(limit, env.now()),
            env,
            metrics: metrics.clone(),
            logs: sites.logs.clone(),
            every: Stall::look_every(limit),
            clock: None,
        }
    }

    /// Looks again after a while.
    pub(super) fn wind(&mut self, myself: &ActorRef<JobMessage>) {
        self.clock = self.every.map(|every| Alarm::set(myself, every, || JobMessage::Look));
    }

    pub(super) fn look(&mut self, myself: &ActorRef<JobMessage>, operators: &[Running], taker: &Taker) {
        let moved = self.metrics.iter().map(|metrics| metrics.moved()).fold(taker.taken(), u64::wrapping_add);
        if let Some(still) = self.stall.on_look(self.env.now(), moved) {
            let (asking, logs, job) = (gather::ask(operators.to_vec(), taker.clone()), self.logs.clone(), self.job);
            spawn(async move { say(job, still, &asking.await, &logs) });
        }
        self.wind(myself);
    }
}

fn say(job: u64, still: Duration, why: &Why, logs: &JobLogs) {
    let text = format!("nothing of {} has moved for {} s", job_name(job), still.as_secs_f64().round());
    tracing::warn!("{text}:\n{why}");
    logs.say(&format!("{text}, see `mobula jobs --why {job}`:"));
    why.lines().iter().take(LINES_TO_DRIVER_MAX).for_each(|line| logs.say(line));
}
