//! Workers and their cores: who computes, who waits, who can go on.

use super::*;

impl State {
    /// Cores that are free go to who can go on, then to the next task.
    pub(super) fn start_more(&mut self, effects: &mut Effects) {
        while let Some((worker, _)) = self.resuming.front() {
            let cpu = self.running.get(*worker).and_then(Option::as_ref).map_or(0, |run| run.task.needs.cpu_milli);
            if cpu > self.cpu_free {
                return;
            }
            let Some((worker, waiter)) = self.resuming.pop_front() else { return };
            self.resume(worker, effects);
            effects.wake.push(waiter);
        }
        if !self.front_fits() || self.workers.spinning {
            return;
        }
        let Workers { idle, starting, all, most, .. } = self.workers;
        if idle > effects.notify {
            effects.notify += 1;
        } else if starting == 0 && all < most {
            self.workers.starting += 1;
            self.workers.all += 1;
            effects.grow += 1;
        }
    }

    pub(super) fn front_fits(&self) -> bool {
        self.queue.front().is_some_and(|ready| ready.task.needs.cpu_milli <= self.cpu_free)
    }

    /// How many tasks wait for arguments, for their turn, and run.
    pub(in crate::task::engine) fn counts(&self) -> (usize, usize, usize, usize) {
        let running = self.running.iter().flatten().count();
        (self.slots.len(), self.waiting.len(), self.queue.len() + self.leasing.len(), running)
    }

    /// Tasks that could run but for a core.
    pub(in crate::task::engine) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Whether one more task may be known.
    pub(in crate::task::engine) fn check_room(&self) -> Result<(), TaskError> {
        match self.slots.len() < crate::task::TASKS_MAX {
            true => Ok(()),
            false => Err(TaskError::Limit(format!(
                "{} tasks and values are held already, which is the most; take results and drop references first",
                crate::task::TASKS_MAX
            ))),
        }
    }

    /// A worker that was to be started is there.
    pub(in crate::task::engine) fn started(&mut self, effects: &mut Effects) {
        self.workers.starting = self.workers.starting.saturating_sub(1);
        self.start_more(effects);
    }

    /// A worker has gone.
    pub(in crate::task::engine) fn gone(&mut self, effects: &mut Effects) {
        self.workers.all = self.workers.all.saturating_sub(1);
        self.start_more(effects);
    }

    /// Whether a worker that has had nothing to do for a while goes: there are more than cores.
    pub(in crate::task::engine) fn retires(&mut self, cpus: f64) -> bool {
        self.workers.idle as f64 >= cpus.max(1.0)
    }

    /// The bytes of a value that is here.
    pub(in crate::task::engine) fn data(&self, id: ObjectId) -> Option<bytes::Bytes> {
        match &self.slots.get(&id)?.state {
            SlotState::Ready(value) => value.data(),
            _ => None,
        }
    }

    /// A worker waits for other tasks from now on: its core is free.
    ///
    /// # Errors
    /// If its task is cancelled: then it need not wait. `waiter` is told if that happens later.
    pub(in crate::task::engine) fn wait(
        &mut self,
        worker: usize,
        waiter: &Arc<Waiter>,
        effects: &mut Effects,
    ) -> Result<(), TaskError> {
        let Some(Some(running)) = self.running.get_mut(worker) else { return Ok(()) };
        if running.task.is_cancelled() {
            return Err(TaskError::Cancelled { task: running.task.name() });
        }
        running.waiter = Some(Arc::clone(waiter));
        if !running.waits {
            running.waits = true;
            self.cpu_free += running.task.needs.cpu_milli;
            self.say_waits(worker, effects);
            self.start_more(effects);
        }
        Ok(())
    }

    /// It could go on: `true` if it has its core again, otherwise `waiter` is told.
    pub(in crate::task::engine) fn go_on(
        &mut self,
        worker: usize,
        waiter: &Arc<Waiter>,
        effects: &mut Effects,
    ) -> bool {
        let Some(Some(running)) = self.running.get_mut(worker) else { return true };
        running.waiter = None;
        // One that is cancelled goes on without a core: who has it may wait for this one to end.
        if running.task.is_cancelled() || !running.waits || self.closed.is_some() {
            return true;
        }
        if self.resuming.is_empty() && running.task.needs.cpu_milli <= self.cpu_free {
            self.resume(worker, effects);
            return true;
        }
        self.resuming.push_back((worker, Arc::clone(waiter)));
        false
    }

    pub(super) fn resume(&mut self, worker: usize, effects: &mut Effects) {
        let Some(Some(running)) = self.running.get_mut(worker) else { return };
        running.waits = false;
        self.cpu_free -= running.task.needs.cpu_milli;
        self.say_waits(worker, effects);
    }

    pub(super) fn say_waits(&self, worker: usize, effects: &mut Effects) {
        if let Some(Some(Running { task, attempt, waits, .. })) = self.running.get(worker)
            && task.for_head
        {
            effects.up.push(ToHead::Waits { task: task.id, attempt: *attempt, waits: *waits });
        }
    }

    /// Whether a worker that waits would be the last that there may be, so that nothing could run any more.
    pub(in crate::task::engine) fn is_full_of_waiters(&self) -> bool {
        let waits = self.running.iter().flatten().filter(|running| running.waits).count();
        waits + 1 >= self.workers.most
    }
}
