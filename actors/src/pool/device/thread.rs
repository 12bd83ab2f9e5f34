//! The device's own thread: makes the device half of an operator and calls it, batch by batch.
//!
//! Protocol. From the worker: batches, as many at a time as [`READY_MAX`]. To the worker: `Ready` once the half is made,
//! then one `Done` for each batch, in order. When the worker lets go of its end, the half is dropped and the other end
//! closes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_rt::ArbiterHandle;
use tokio::sync::mpsc;

use super::climb::Climber;
use super::feed::{PartId, READY_MAX};
use super::time::DeviceTime;
use crate::logs::{Here, PoolLogs};
use crate::operator::{Computed, DeviceError, DeviceHalf, MakeDeviceHalf, Prepared};
use crate::pool::doing::{Doing, OnDevice};
use crate::runtime::env::SharedEnv;
use crate::runtime::watch::guarded;
use crate::scheduler::Lease;

/// The accounts of a device, written by its thread and by its worker, and what was learnt of its batches: all that
/// outlives a worker that is restarted. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Meter {
    time: Arc<Mutex<DeviceTime>>,
    climber: Arc<Mutex<Option<Climber>>>,
}

impl Meter {
    pub(crate) fn get(&self) -> DeviceTime {
        *self.lock()
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, DeviceTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The batch size that an earlier incarnation has found.
    pub(crate) fn climber(&self) -> Option<Climber> {
        self.climber.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps it for the next one.
    pub(crate) fn keep(&self, climber: Climber) {
        *self.climber.lock().unwrap_or_else(PoisonError::into_inner) = Some(climber);
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.get().fmt(f)
    }
}

/// A batch for the device.
pub(crate) struct DeviceTask {
    pub(crate) id: PartId,
    /// The task and attempt that it is for.
    pub(crate) of: (u64, u32),
    pub(crate) rows: usize,
    pub(crate) prepared: Prepared,
}

/// What the worker hears.
pub(crate) enum DeviceEvent {
    /// The half is made, or why not.
    Ready(Result<(), DeviceError>),
    /// A batch is done, and how long it took.
    Done { id: PartId, result: Result<Computed, DeviceError>, took: Duration },
}

/// What a device's thread works with.
pub(crate) struct DeviceParts {
    pub(crate) meter: Meter,
    /// When the worker began.
    pub(crate) born: Duration,
    pub(crate) env: SharedEnv,
    pub(crate) logs: Option<Arc<PoolLogs>>,
    /// Nobody else gets the device while the half is on it, also if the worker ended in the middle of a call.
    pub(crate) _lease: Arc<Lease>,
    pub(crate) doing: Arc<Doing>,
}

/// The worker's end of a device's thread.
pub(crate) struct DeviceThread {
    tasks: mpsc::Sender<DeviceTask>,
    events: mpsc::Receiver<DeviceEvent>,
}

impl DeviceThread {
    /// Has the half made on the thread of this arbiter.
    pub(crate) fn start(on: &ArbiterHandle, make: MakeDeviceHalf, parts: DeviceParts) -> Self {
        let (tasks, to_do) = mpsc::channel(READY_MAX);
        let (tell, events) = mpsc::channel(READY_MAX + 1);
        // A thread that is gone drops the other ends, which the worker sees.
        on.spawn_fn(move || drop(actix_rt::spawn(live(make, parts, to_do, tell))));
        Self { tasks, events }
    }

    /// Hands a batch over; the feed hands over no more than there is place for.
    ///
    /// # Errors
    /// If the thread is gone.
    pub(crate) fn submit(&self, task: DeviceTask) -> Result<(), DeviceError> {
        self.tasks.try_send(task).map_err(|_| gone())
    }

    /// The next event.
    pub(crate) async fn event(&mut self) -> DeviceEvent {
        self.events.recv().await.unwrap_or_else(|| DeviceEvent::Ready(Err(gone())))
    }

    /// An event that is there.
    pub(crate) fn try_event(&mut self) -> Option<DeviceEvent> {
        self.events.try_recv().ok()
    }

    /// Lets go of the device and waits until what was on it is dropped: only then may somebody else have it.
    pub(crate) async fn end(mut self) {
        drop(self.tasks);
        while self.events.recv().await.is_some() {}
    }
}

fn gone() -> DeviceError {
    DeviceError::Lost("the device's thread has ended; an operator must not stop arbiters or systems".into())
}

async fn live(
    make: MakeDeviceHalf,
    parts: DeviceParts,
    mut tasks: mpsc::Receiver<DeviceTask>,
    tell: mpsc::Sender<DeviceEvent>,
) {
    // The thread is this worker's alone.
    let _here = Here::enter(parts.logs.clone());
    let mut half = match guarded(make).map_err(DeviceError::Lost).flatten() {
        Ok(half) => half,
        Err(error) => return drop(tell.send(DeviceEvent::Ready(Err(error))).await),
    };
    parts.meter.lock().on_ready(parts.born, parts.env.now());
    // A worker that is gone has let go of its end of the tasks as well.
    let _ = tell.send(DeviceEvent::Ready(Ok(()))).await;
    while let Some(task) = tasks.recv().await {
        let event = parts.run(&mut half, task);
        if tell.send(event).await.is_err() {
            break;
        }
    }
}

impl DeviceParts {
    fn run(&self, half: &mut DeviceHalf, DeviceTask { id, of, rows, prepared }: DeviceTask) -> DeviceEvent {
        let since = self.env.now();
        self.meter.lock().on_begin(since);
        self.doing.on_device(Some(OnDevice { seq: of.0, attempt: of.1, rows: rows as u64, since }));
        // A panic is an error of the call that ends the worker, like any panic of user code.
        let result = guarded(|| half(prepared)).map_err(DeviceError::Failed).flatten();
        self.doing.on_device(None);
        let made = match &result {
            Err(DeviceError::OutOfMemory(_)) => None,
            Ok(_) => Some(rows),
            Err(_) => Some(0),
        };
        let took = self.meter.lock().on_end(self.env.now(), made);
        DeviceEvent::Done { id, result, took }
    }
}
