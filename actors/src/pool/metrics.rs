//! What an operator counts while it runs.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::frames::MetricsFrame;
use crate::job::{DeviceStats, OperatorState, OperatorStats};
use crate::pool::device::thread::Meter;
use crate::units::{Bytes, Rows};

/// At most so many reasons for given-up inputs are kept; all are counted.
const SKIPPED_KEPT_MAX: usize = 100;

/// Counters of one operator, written by its actor and its workers.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    pub(crate) state: AtomicUsize,
    pub(crate) rows_in: Counter,
    pub(crate) rows_out: Counter,
    pub(crate) bytes_out: Counter,
    pub(crate) blocks_out: Counter,
    pub(crate) tasks: Counter,
    pub(crate) retries: Counter,
    pub(crate) busy: Counter,
    pub(crate) waited_input: Counter,
    pub(crate) waited_room: Counter,
    pub(crate) waited_lease: Counter,
    workers: AtomicUsize,
    workers_peak: AtomicUsize,
    skipped: Mutex<(u64, Vec<String>)>,
    /// The devices of workers here, by worker.
    meters: Mutex<BTreeMap<usize, (Vec<u32>, Meter)>>,
    /// The devices of workers elsewhere, by node and worker, as last told.
    told: Mutex<BTreeMap<(Arc<str>, usize), DeviceStats>>,
}

/// A count, or a time in nanoseconds, that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn add_time(&self, time: Duration) {
        self.add(time.as_nanos() as u64);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    fn time(&self) -> Duration {
        Duration::from_nanos(self.get())
    }
}

impl Metrics {
    pub(crate) fn set_state(&self, state: OperatorState) {
        self.state.store(state as usize, Ordering::Relaxed);
    }

    /// The counters that the workers of a node send to the head.
    pub(crate) fn frame(&self) -> MetricsFrame {
        MetricsFrame {
            rows_in: self.rows_in.get(),
            busy: self.busy.get(),
            waited_input: self.waited_input.get(),
            waited_room: self.waited_room.get(),
            waited_lease: self.waited_lease.get(),
            workers: self.workers.load(Ordering::Relaxed),
            devices: self.devices_here(),
        }
    }

    /// The accounts of a worker's device, which go on when the worker is restarted.
    pub(crate) fn device(&self, worker: usize, gpus: &[u32]) -> Meter {
        let mut meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        let (ordinals, meter) = meters.entry(worker).or_default();
        *ordinals = gpus.to_vec();
        meter.clone()
    }

    /// The devices of workers here, by worker.
    pub(crate) fn devices_here(&self) -> Vec<(usize, DeviceStats)> {
        let meters = self.meters.lock().unwrap_or_else(PoisonError::into_inner);
        meters.iter().map(|(worker, (gpus, meter))| (*worker, meter.get().stats(gpus))).collect()
    }

    /// What a node says of the devices of its workers.
    pub(crate) fn devices_told(&self, node: &Arc<str>, devices: Vec<(usize, DeviceStats)>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(devices.into_iter().map(|(worker, stats)| {
            let stats = DeviceStats { node: Some(node.to_string()), ..stats };
            ((Arc::clone(node), worker), stats)
        }));
    }

    fn devices(&self) -> Vec<DeviceStats> {
        let told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let here = self.devices_here().into_iter().map(|(_, stats)| stats);
        here.chain(told.values().cloned()).collect()
    }

    /// A number that changes when anything of the operator moves.
    pub(crate) fn moved(&self) -> u64 {
        let counters = [&self.rows_in, &self.rows_out, &self.blocks_out, &self.tasks, &self.retries];
        counters.into_iter().map(Counter::get).fold(0, u64::wrapping_add)
    }

    /// Time that a task computed, on average so far.
    pub(crate) fn busy_a_task(&self) -> Duration {
        Duration::from_nanos(self.busy.get() / self.tasks.get().max(1))
    }

    pub(crate) fn worker_started(&self) {
        let now = self.workers.fetch_add(1, Ordering::Relaxed) + 1;
        self.workers_peak.fetch_max(now, Ordering::Relaxed);
    }

    pub(crate) fn worker_ended(&self) {
        self.workers.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn skip(&self, reasons: Vec<String>) {
        let mut skipped = self.skipped.lock().unwrap_or_else(PoisonError::into_inner);
        skipped.0 += reasons.len() as u64;
        let room = SKIPPED_KEPT_MAX - skipped.1.len();
        skipped.1.extend(reasons.into_iter().take(room));
    }

    /// A picture of the counters; what is known of the plan is filled in by the caller.
    pub(crate) fn picture(&self) -> OperatorStats {
        let (skipped_count, skipped) = self.skipped.lock().unwrap_or_else(PoisonError::into_inner).clone();
        OperatorStats {
            state: match self.state.load(Ordering::Relaxed) {
                0 => OperatorState::Waiting,
                1 => OperatorState::Running,
                _ => OperatorState::Done,
            },
            rows_in: Rows(self.rows_in.get()),
            rows_out: Rows(self.rows_out.get()),
            bytes_out: Bytes(self.bytes_out.get()),
            blocks_out: self.blocks_out.get(),
            tasks: self.tasks.get(),
            retries: self.retries.get(),
            workers: self.workers.load(Ordering::Relaxed),
            workers_peak: self.workers_peak.load(Ordering::Relaxed),
            busy: self.busy.time(),
            waited_input: self.waited_input.time(),
            waited_room: self.waited_room.time(),
            waited_lease: self.waited_lease.time(),
            skipped,
            skipped_count,
            devices: self.devices(),
            ..OperatorStats::default()
        }
    }
}
