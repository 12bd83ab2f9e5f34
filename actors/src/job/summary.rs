//! What a job did, operator by operator: for progress while it runs and for the summary at the end.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::DeadLetter;
use crate::units::{Bytes, Rows};

/// A picture of a job, while it runs or at its end.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobSummary {
    /// Since the job was started.
    pub elapsed: Duration,
    /// The operators, in the order of the topology.
    pub operators: Vec<OperatorStats>,
    /// Most bytes of blocks that were in memory at once.
    pub blocks_bytes_peak: Bytes,
    /// Rows that were given up within the job's error budget, in earlier runs of it too.
    pub given_up: u64,
    /// The first of those that this run gave up, at most [`LETTERS_SHOWN`](super::LETTERS_SHOWN).
    pub dead_letters: Vec<DeadLetter>,
}

/// Where an operator is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum OperatorState {
    /// Not started, or waiting for its first block.
    #[default]
    Waiting,
    /// Has had work.
    Running,
    /// Finished, or stopped because nobody needs more of it.
    Done,
}

/// What one operator did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorStats {
    /// Its name in the topology.
    pub name: Arc<str>,
    /// The steps fused into it, behind the one it is named after.
    pub steps: Vec<String>,
    /// Where it is in its life.
    pub state: OperatorState,
    /// Rows taken in (for a read: rows of its splits that are behind it).
    pub rows_in: Rows,
    /// Rows passed on.
    pub rows_out: Rows,
    /// Rows it will take in all, where known before (a read whose splits say so).
    pub rows_total: Option<Rows>,
    /// Bytes of blocks passed on.
    pub bytes_out: Bytes,
    /// Blocks passed on.
    pub blocks_out: u64,
    /// Tasks finished.
    pub tasks: u64,
    /// Tasks in all, where known before.
    pub tasks_total: Option<u64>,
    /// Attempts that failed and were tried again.
    pub retries: u64,
    /// Workers alive now, and the most there were.
    pub workers: usize,
    /// The most workers there were at once.
    pub workers_peak: usize,
    /// Time its workers computed, summed over workers.
    pub busy: Duration,
    /// Time its workers waited for input.
    pub waited_input: Duration,
    /// Time its workers waited for room downstream.
    pub waited_room: Duration,
    /// Time its workers waited for a lease of a cpu.
    pub waited_lease: Duration,
    /// Inputs given up under a lenient error policy, with the reason (at most 100 are kept).
    pub skipped: Vec<String>,
    /// How many inputs were given up.
    pub skipped_count: u64,
    /// Where the time of its workers' devices went, one entry a worker that has one.
    pub devices: Vec<DeviceStats>,
}

/// Where the time of a worker's device went. Times are counted from when the operator stands on the device to the end of
/// its last run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceStats {
    /// The node it is on; `None` for this process.
    pub node: Option<String>,
    /// Its ordinal there; several where a worker has several.
    pub gpus: Vec<u32>,
    /// Time that it computed.
    pub busy: Duration,
    /// Time that it waited for input, from its first run on.
    pub waited_input: Duration,
    /// Time that it waited because results found no room downstream.
    pub waited_room: Duration,
    /// Time that it waited for its first input.
    pub waited_first: Duration,
    /// Runs, those that ran out of memory among them.
    pub runs: u64,
    /// Rows that it made results of.
    pub rows: Rows,
    /// Runs that ran out of memory; their rows ran again in halves.
    pub out_of_memory: u64,
    /// Rows of its last run.
    pub batch_rows: usize,
    /// From the start of its worker until the operator stood on the device (its model was loaded); `None` before that.
    pub ready_after: Option<Duration>,
}

impl JobSummary {
    /// What the job was bound by: the operator that computed longest, with the share of the job's time that its workers
    /// computed (0 to 1). A high share says that more or faster workers of it would help; a low one that it waited.
    pub fn bound_by(&self) -> Option<(&OperatorStats, f64)> {
        let operator = self.operators.iter().max_by_key(|operator| operator.busy)?;
        let time = self.elapsed.as_secs_f64() * operator.workers_peak.max(1) as f64;
        let share = operator.busy.as_secs_f64() / time;
        (share > 0.0).then_some((operator, share.min(1.0)))
    }
}

impl DeviceStats {
    /// Share of its time from the first run to the last that it waited for input, 0 to 1.
    ///
    /// ```
    /// use mobula_actors::job::DeviceStats;
    /// use std::time::Duration;
    /// let [busy, waited_input] = [98, 2].map(Duration::from_secs);
    /// let device = DeviceStats { busy, waited_input, ..DeviceStats::default() };
    /// assert_eq!(device.waited_share(), 0.02);
    /// ```
    pub fn waited_share(&self) -> f64 {
        let all = self.busy + self.waited_input + self.waited_room;
        if all.is_zero() { 0.0 } else { self.waited_input.as_secs_f64() / all.as_secs_f64() }
    }
}

/// `gpu 0`, `gpus 0, 1 of node-2`
impl std::fmt::Display for DeviceStats {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ordinals: Vec<String> = self.gpus.iter().map(u32::to_string).collect();
        write!(f, "{} {}", if ordinals.len() == 1 { "gpu" } else { "gpus" }, ordinals.join(", "))?;
        self.node.iter().try_for_each(|node| write!(f, " of {node}"))
    }
}

impl OperatorStats {
    /// Share of its workers' time that was spent computing, 0 to 1.
    pub fn busy_share(&self) -> f64 {
        let all = self.busy + self.waited_input + self.waited_room + self.waited_lease;
        if all.is_zero() { 0.0 } else { self.busy.as_secs_f64() / all.as_secs_f64() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobula_transport::codec;

    #[test]
    fn a_summary_travels() {
        let read = OperatorStats {
            name: "read".into(),
            steps: vec!["filter".to_owned()],
            state: OperatorState::Running,
            rows_total: Some(Rows(9)),
            busy: Duration::from_millis(1_500),
            skipped: vec!["a.parquet: torn".to_owned()],
            skipped_count: 1,
            ..OperatorStats::default()
        };
        let summary = JobSummary {
            elapsed: Duration::from_secs(2),
            operators: vec![read, OperatorStats::default()],
            blocks_bytes_peak: Bytes::mib(3),
            ..JobSummary::default()
        };
        let bytes = codec::encode(&summary, 1 << 16).expect("small");
        assert_eq!(codec::decode::<JobSummary>(&bytes, 1 << 16).expect("the same type"), summary);
    }
}
