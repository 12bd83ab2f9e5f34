//! The thinking of a pool: which worker gets which item, how many workers there are, what is tried again.
//!
//! Pure: things happen (`on_*`, with the time), and what is to be done comes back as [`Action`]s, in order. A worker has one
//! item at a time, so a slow item holds up nobody else's; the next free worker takes the oldest item that waits.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A worker, by its number in the pool.
pub(crate) type WorkerId = u64;
/// An item, by the order of its submission.
pub(crate) type ItemId = u64;

/// How large a pool may be, and when it gives up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PlanLimits {
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// Tries of one item.
    pub(crate) attempts: u32,
    /// Time without work after which a worker above `min` goes.
    pub(crate) idle: Duration,
    /// Starts that fail one after the other before what waits is given up.
    pub(crate) start_failures: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// Start this worker; `on_started` or `on_start_failed` follows.
    Start(WorkerId),
    /// Let this worker do this item; `on_done`, `on_failed` or `on_lost` follows.
    Give(WorkerId, ItemId),
    /// This worker is not needed any more.
    Stop(WorkerId),
    /// This item had all its attempts.
    GiveUp(ItemId),
    /// No worker can be started for this item.
    NoWorker(ItemId),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    Starting,
    Idle { since: Duration },
    Busy(ItemId),
}

/// The state of a pool.
#[derive(Debug)]
pub(crate) struct Plan {
    limits: PlanLimits,
    workers: BTreeMap<WorkerId, Worker>,
    queue: VecDeque<ItemId>,
    /// Attempts that items not done have had.
    attempts: BTreeMap<ItemId, u32>,
    failures: u32,
    next: WorkerId,
    closed: bool,
}

impl Plan {
    pub(crate) fn new(limits: PlanLimits) -> Self {
        let (workers, queue, attempts) = (BTreeMap::new(), VecDeque::new(), BTreeMap::new());
        Self { limits, workers, queue, attempts, failures: 0, next: 0, closed: false }
    }

    /// Workers that are there or are started.
    pub(crate) fn workers(&self) -> usize {
        self.workers.len()
    }

    /// The pool begins.
    pub(crate) fn begin(&mut self) -> Vec<Action> {
        self.settle()
    }

    /// An item was submitted.
    pub(crate) fn on_item(&mut self, item: ItemId) -> Vec<Action> {
        self.queue.push_back(item);
        self.attempts.insert(item, 0);
        if self.failures >= self.limits.start_failures {
            // Somebody wants to know again.
            self.failures = 0;
        }
        self.settle()
    }

    /// A worker is up.
    pub(crate) fn on_started(&mut self, now: Duration, worker: WorkerId) -> Vec<Action> {
        self.failures = 0;
        match self.workers.get_mut(&worker) {
            Some(state) => *state = Worker::Idle { since: now },
            None => return vec![Action::Stop(worker)],
        }
        self.settle()
    }

    /// A worker could not be started.
    pub(crate) fn on_start_failed(&mut self, worker: WorkerId) -> Vec<Action> {
        self.workers.remove(&worker);
        self.failures += 1;
        self.settle()
    }

    /// A worker has done its item.
    pub(crate) fn on_done(&mut self, now: Duration, worker: WorkerId) -> Vec<Action> {
        if let Some(item) = self.let_go(worker, now) {
            self.attempts.remove(&item);
        }
        self.settle()
    }

    /// A worker lives on, but its item came to nothing.
    pub(crate) fn on_failed(&mut self, now: Duration, worker: WorkerId) -> Vec<Action> {
        let item = self.let_go(worker, now);
        let mut actions = self.try_again(item);
        actions.extend(self.settle());
        actions
    }

    /// A worker is gone, and what it did with its item is not known.
    pub(crate) fn on_lost(&mut self, now: Duration, worker: WorkerId) -> Vec<Action> {
        let item = self.let_go(worker, now);
        self.workers.remove(&worker);
        let mut actions = self.try_again(item);
        actions.extend(self.settle());
        actions
    }

    /// A worker that was started elsewhere joins.
    pub(crate) fn on_pushed(&mut self, now: Duration) -> (WorkerId, Vec<Action>) {
        let worker = self.number();
        self.workers.insert(worker, Worker::Idle { since: now });
        (worker, self.settle())
    }

    /// A worker that has nothing to do leaves, if there is one: it is the caller's.
    pub(crate) fn pop_idle(&mut self) -> Option<WorkerId> {
        let idle = |(id, worker): (&WorkerId, &Worker)| matches!(worker, Worker::Idle { .. }).then_some(*id);
        let worker = self.workers.iter().find_map(idle)?;
        self.workers.remove(&worker);
        Some(worker)
    }

    /// Time has gone by.
    pub(crate) fn on_tick(&mut self, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        let idle = self.limits.idle;
        let over = |worker: &Worker| matches!(worker, Worker::Idle { since } if now.saturating_sub(*since) >= idle);
        while self.workers.len() > self.limits.min {
            let Some(worker) = self.workers.iter().find(|(_, worker)| over(worker)).map(|(id, _)| *id) else { break };
            self.workers.remove(&worker);
            actions.push(Action::Stop(worker));
        }
        actions
    }

    /// When `on_tick` has something to do, if nothing else happens.
    pub(crate) fn next_tick(&self) -> Option<Duration> {
        if self.closed || self.workers.len() <= self.limits.min {
            return None;
        }
        let idle = |worker: &Worker| if let Worker::Idle { since } = worker { Some(*since) } else { None };
        self.workers.values().filter_map(idle).min().map(|since| since + self.limits.idle)
    }

    /// Nobody wants anything any more.
    pub(crate) fn close(&mut self) -> Vec<Action> {
        self.closed = true;
        self.queue.clear();
        std::mem::take(&mut self.workers).into_keys().map(Action::Stop).collect()
    }

    fn let_go(&mut self, worker: WorkerId, now: Duration) -> Option<ItemId> {
        let state = self.workers.get_mut(&worker)?;
        let Worker::Busy(item) = *state else { return None };
        *state = Worker::Idle { since: now };
        Some(item)
    }

    /// An attempt came to nothing: the item is the next to be tried, or is given up.
    fn try_again(&mut self, item: Option<ItemId>) -> Vec<Action> {
        let Some(item) = item.filter(|_| !self.closed) else { return Vec::new() };
        if self.attempts.get(&item).is_some_and(|attempts| *attempts >= self.limits.attempts) {
            self.attempts.remove(&item);
            return vec![Action::GiveUp(item)];
        }
        self.queue.push_front(item);
        Vec::new()
    }

    /// Gives items to idle workers, and starts as many workers as what waits can use.
    fn settle(&mut self) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.closed {
            return actions;
        }
        for (id, worker) in &mut self.workers {
            if !matches!(worker, Worker::Idle { .. }) {
                continue;
            }
            let Some(item) = self.queue.pop_front() else { break };
            *worker = Worker::Busy(item);
            *self.attempts.entry(item).or_default() += 1;
            actions.push(Action::Give(*id, item));
        }
        if self.failures >= self.limits.start_failures {
            // With workers left what waits is theirs; without, nobody's.
            if self.workers.is_empty() {
                let waiting = std::mem::take(&mut self.queue);
                self.attempts.retain(|item, _| !waiting.contains(item));
                actions.extend(waiting.into_iter().map(Action::NoWorker));
            }
            return actions;
        }
        let busy = self.workers.values().filter(|worker| matches!(worker, Worker::Busy(_))).count();
        let useful = (self.queue.len() + busy).clamp(self.limits.min, self.limits.max);
        for _ in self.workers.len()..useful {
            let worker = self.number();
            self.workers.insert(worker, Worker::Starting);
            actions.push(Action::Start(worker));
        }
        actions
    }

    fn number(&mut self) -> WorkerId {
        self.next += 1;
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::Action::*;
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    const IDLE: Duration = Duration::from_secs(60);

    fn plan(min: usize, max: usize) -> Plan {
        Plan::new(PlanLimits { min, max, attempts: 3, idle: IDLE, start_failures: 2 })
    }

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn it_grows_at_once_to_what_the_backlog_can_use() {
        let mut plan = plan(0, 4);
        assert_eq!(plan.begin(), []);
        assert_eq!(plan.on_item(0), [Start(1)]);
        assert_eq!(plan.on_item(1), [Start(2)]);
        assert_eq!((2..9).flat_map(|item| plan.on_item(item)).collect::<Vec<_>>(), [Start(3), Start(4)]);
        assert_eq!(plan.on_started(at(1), 3), [Give(3, 0)]);
        assert_eq!(plan.on_done(at(1), 3), [Give(3, 1)]);
    }

    #[test]
    fn it_shrinks_when_idle_to_the_least_there_may_be() {
        for min in [0, 1] {
            let mut plan = plan(min, 3);
            let mut actions = plan.begin();
            (0..3).for_each(|item| actions.extend(plan.on_item(item)));
            (1..=3).for_each(|worker| drop(plan.on_started(at(0), worker)));
            (1..=3).for_each(|worker| drop(plan.on_done(at(worker), worker)));
            assert_eq!(plan.next_tick(), Some(at(61)));
            assert_eq!(plan.on_tick(at(60)), []);
            assert_eq!(plan.on_tick(at(100)).len(), 3 - min);
            assert_eq!((plan.workers(), plan.next_tick()), (min, None));
        }
    }

    #[test]
    fn a_worker_that_dies_is_replaced_and_its_item_is_the_next_until_it_fails_alone() {
        let mut plan = plan(1, 1);
        assert_eq!(plan.begin(), [Start(1)]);
        plan.on_started(at(0), 1);
        assert_eq!(plan.on_item(0), [Give(1, 0)]);
        assert_eq!(plan.on_item(1), []);
        assert_eq!(plan.on_lost(at(0), 1), [Start(2)]);
        assert_eq!(plan.on_started(at(0), 2), [Give(2, 0)]);
        assert_eq!(plan.on_failed(at(0), 2), [Give(2, 0)]);
        assert_eq!(plan.on_lost(at(0), 2), [GiveUp(0), Start(3)]);
        assert_eq!(plan.on_started(at(0), 3), [Give(3, 1)]);
    }

    #[test]
    fn what_waits_fails_when_no_worker_can_be_started_and_a_later_item_tries_again() {
        let mut plan = plan(0, 1);
        assert_eq!(plan.on_item(0), [Start(1)]);
        assert_eq!(plan.on_start_failed(1), [Start(2)]);
        assert_eq!(plan.on_start_failed(2), [NoWorker(0)]);
        assert_eq!(plan.on_item(1), [Start(3)]);
    }

    #[test]
    fn workers_of_others_may_join_and_leave() {
        let mut plan = plan(0, 1);
        assert_eq!(plan.on_pushed(at(0)), (1, vec![]));
        assert_eq!(plan.on_item(0), [Give(1, 0)]);
        assert_eq!(plan.pop_idle(), None);
        assert_eq!(plan.on_done(at(0), 1), []);
        assert_eq!(plan.pop_idle(), Some(1));
        assert_eq!(plan.on_item(1), [Start(2)]);
    }

    proptest! {
        /// Whatever happens, every item ends once, no worker has two, and there are never too many workers.
        #[test]
        fn every_item_ends_once(min in 0usize..3, more in 0usize..4, poison in 1u64..9, seed: Vec<u8>) {
            let max = (min + more).max(1);
            let mut plan = plan(min, max);
            let (mut starting, mut busy, mut ended) = (BTreeSet::new(), BTreeMap::new(), BTreeSet::new());
            let (mut items, mut now, mut seed) = (0u64, 0, seed.into_iter());
            let mut actions: VecDeque<Action> = plan.begin().into();
            loop {
                while let Some(action) = actions.pop_front() {
                    match action {
                        Start(worker) => prop_assert!(starting.insert(worker)),
                        Give(worker, item) => {
                            prop_assert!(busy.insert(worker, item).is_none());
                            prop_assert!(!ended.contains(&item));
                        }
                        Stop(worker) => prop_assert!(!busy.contains_key(&worker)),
                        GiveUp(item) | NoWorker(item) => prop_assert!(ended.insert(item)),
                    }
                }
                prop_assert!(plan.workers() <= max);
                now += 1;
                let byte = seed.next();
                let more = match byte {
                    Some(byte) if byte % 3 == 0 => {
                        items += 1;
                        plan.on_item(items - 1)
                    }
                    Some(byte) if byte % 7 == 1 => plan.on_tick(at(now * 10)),
                    _ => {
                        let choice = byte.unwrap_or(0);
                        if let Some(worker) = starting.pop_first() {
                            match choice % 5 {
                                4 => plan.on_start_failed(worker),
                                _ => plan.on_started(at(now), worker),
                            }
                        } else if let Some((worker, item)) = busy.pop_first() {
                            if item % poison == poison - 1 || choice % 11 == 10 {
                                plan.on_lost(at(now), worker)
                            } else {
                                prop_assert!(ended.insert(item));
                                plan.on_done(at(now), worker)
                            }
                        } else if byte.is_none() {
                            break;
                        } else {
                            Vec::new()
                        }
                    }
                };
                actions.extend(more);
            }
            prop_assert_eq!(ended, (0..items).collect::<BTreeSet<_>>());
        }
    }
}
