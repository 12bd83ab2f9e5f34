//! Streams: results that a task gives one by one, and how far ahead of its consumer it may be.

use std::sync::Arc;

use super::Engine;
use super::slot::SlotState;
use super::state::{Effects, State};
use super::waiter::Waiter;
use crate::task::call::Submitted;
use crate::task::error::TaskError;
use crate::task::ids::ObjectId;
use crate::task::reference::RefCore;
use crate::task::value::Value;
use crate::task::wire::{ToHead, ValueFrame};

/// Items that a stream may be ahead of its consumer. Fewer, and maker and consumer wait for each other over the network;
/// more only holds more values.
pub(crate) const STREAM_AHEAD: u32 = 64;

/// A stream that is made or taken here.
#[derive(Default)]
pub(super) struct Stream {
    /// Items that its consumer here was given or told of.
    made: u32,
    /// Items that its consumer here has taken.
    taken: u32,
    /// Items that the head says its makers here need not wait for: taken elsewhere, or by nobody. An attempt that gives
    /// again what is known passes by the consumer, so this may be more than that has taken.
    passed: u32,
    /// Its maker, waiting for room.
    maker: Option<Arc<Waiter>>,
    /// Its consumer, waiting for an item.
    consumer: Option<Arc<Waiter>>,
    /// Whether its consumer is in this process.
    consumed_here: bool,
    /// Attempts of the head's that have entered here and not left.
    makers: u32,
}

impl Stream {
    pub(super) fn waiters(self) -> impl Iterator<Item = Arc<Waiter>> {
        self.maker.into_iter().chain(self.consumer)
    }
}

/// Whether an item may be made.
pub(super) enum Room {
    Free,
    /// An earlier attempt has made it already.
    Known,
    /// Nobody wants more.
    Unwanted,
    Wait,
}

/// What a consumer finds.
pub(super) enum NextItem {
    Item(ObjectId),
    End,
    Failed(TaskError),
    Wait,
}

impl State {
    /// The consumer of a stream is in this process.
    pub(super) fn consume(&mut self, task: ObjectId) {
        self.streams.entry(task).or_default().consumed_here = true;
    }

    /// An attempt of a stream for the head has come here.
    pub(super) fn make_stream(&mut self, task: ObjectId) {
        self.streams.entry(task).or_default().makers += 1;
    }

    /// Whether the `index`th item (from 1) may be made now; if not, `waiter` is told when to look again.
    pub(super) fn room_in_stream(&mut self, task: ObjectId, index: u32, waiter: &Arc<Waiter>) -> Room {
        let has_head = self.has_head();
        let Some(stream) = self.streams.get_mut(&task).filter(|_| self.closed.is_none()) else { return Room::Unwanted };
        // The head counts the items of each attempt itself, and may need one of them again.
        if !has_head && index <= stream.made {
            return Room::Known;
        }
        if index <= stream.taken.max(stream.passed).saturating_add(STREAM_AHEAD) {
            return Room::Free;
        }
        stream.maker = Some(Arc::clone(waiter));
        Room::Wait
    }

    /// An item of a stream whose consumer is here.
    pub(super) fn item(&mut self, task: ObjectId, index: u32, value: Value, effects: &mut Effects) {
        let Some(stream) = self.streams.get_mut(&task) else { return effects.garbage.push(value) };
        stream.made = stream.made.max(index);
        effects.wake.extend(stream.consumer.take());
        self.put(task.item(index), value, effects);
    }

    /// An item for the head.
    pub(super) fn item_for_head(
        &mut self,
        (task, attempt, index): (ObjectId, u32, u32),
        value: Value,
        (frame, contained): (ValueFrame, Vec<ObjectId>),
        effects: &mut Effects,
    ) {
        match &frame {
            ValueFrame::Located { bytes, .. } => self.keep(task.item(index), value, bytes.0, effects),
            ValueFrame::Inline(_) => effects.garbage.push(value),
        }
        effects.up.push(ToHead::Item { task, attempt, index, value: frame, contained });
    }

    /// The head tells of an item. The first time that grants it to the submitter of its stream: its consumer, which holds it
    /// from now on, or nobody any more, and then it is given back. Whether its consumer hears of it for the first time.
    pub(super) fn expect_item(&mut self, id: ObjectId, effects: &mut Effects) -> bool {
        if id.index == 0 || Some(id.party) != self.party {
            return false;
        }
        let Some(stream) = self.streams.get_mut(&id.task()).filter(|stream| stream.consumed_here) else {
            // One that is held here was taken, and is told of again because somebody here wants it.
            if self.slots.get(&id).is_none_or(|slot| slot.refs == 0) {
                effects.up.push(ToHead::Release { id, grants: 1 });
            }
            return false;
        };
        // They come in order.
        if id.index <= stream.made {
            return false;
        }
        stream.made = id.index;
        effects.wake.extend(stream.consumer.take());
        // It may be here already: where a stream is made and taken in one process, large items stay.
        self.granted(id);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.told = true;
        }
        true
    }

    /// The next item for the consumer, which holds it from now on; `waiter` is told when there is one.
    pub(super) fn next_item(&mut self, task: ObjectId, waiter: &Arc<Waiter>, effects: &mut Effects) -> NextItem {
        if let Some(error) = &self.closed {
            return NextItem::Failed(error.clone());
        }
        let Some(stream) = self.streams.get_mut(&task) else { return NextItem::End };
        let item = task.item(stream.taken + 1);
        // What is made here for the head is here before the head tells of it.
        let is_told = item.index <= stream.made;
        if is_told && self.slots.get(&item).is_some_and(|slot| !matches!(slot.state, SlotState::Pending)) {
            stream.taken += 1;
            effects.wake.extend(stream.maker.take());
            if self.has_head() {
                effects.up.push(ToHead::Taken { task, index: item.index });
            }
            return NextItem::Item(item);
        }
        let end = self.slots.get(&task).map(|slot| &slot.state);
        match end {
            Some(SlotState::Ready(count)) => {
                let count = count.typed::<u32>().map_or(0, |count| *count);
                if count <= stream.taken {
                    return NextItem::End;
                }
            }
            Some(SlotState::Failed(error)) => return NextItem::Failed(TaskError::clone(error)),
            Some(_) => {}
            None => return NextItem::End,
        }
        stream.consumer = Some(Arc::clone(waiter));
        NextItem::Wait
    }

    /// The maker need not wait for items up to this one to be taken.
    pub(super) fn on_taken(&mut self, task: ObjectId, index: u32, effects: &mut Effects) {
        if let Some(stream) = self.streams.get_mut(&task) {
            stream.passed = stream.passed.max(index);
            effects.wake.extend(stream.maker.take());
        }
    }

    /// The consumer wants no more: items that it has not taken are let go.
    pub(super) fn end_consuming(&mut self, task: ObjectId, effects: &mut Effects) {
        let Some(stream) = self.streams.get_mut(&task).filter(|stream| stream.consumed_here) else { return };
        stream.consumed_here = false;
        let (taken, made) = (stream.taken, stream.made);
        effects.wake.extend(stream.maker.take());
        // Others may still need items that are made here: then the head does not stop the attempt.
        if stream.makers == 0 {
            self.streams.remove(&task);
        }
        for index in taken + 1..=made {
            self.let_go(task.item(index), effects);
        }
        self.let_go(task, effects);
    }

    /// Something has become of a stream's task: who makes it and who takes it look again.
    pub(super) fn wake_stream(&mut self, task: ObjectId, effects: &mut Effects) {
        let Some(stream) = self.streams.get_mut(&task) else { return };
        effects.wake.extend(stream.maker.take());
        effects.wake.extend(stream.consumer.take());
    }

    /// A stream's task has ended here. One that is consumed elsewhere is forgotten with its last attempt.
    pub(super) fn leave_stream(&mut self, task: &Submitted, effects: &mut Effects) {
        self.wake_stream(task.id, effects);
        let Some(stream) = self.streams.get_mut(&task.id).filter(|_| task.for_head) else { return };
        stream.makers = stream.makers.saturating_sub(1);
        if stream.makers == 0 && !stream.consumed_here {
            self.streams.remove(&task.id);
        }
    }
}

impl Engine {
    /// Puts an item into a stream, waiting for room; `false` if nobody wants more.
    pub(crate) fn emit(&self, task: &Submitted, attempt: u32, index: u32, value: Value) -> Result<bool, TaskError> {
        loop {
            let waiter = Arc::new(Waiter::new(1));
            if task.is_cancelled() {
                return Ok(false);
            }
            match self.with(|state, _| state.room_in_stream(task.id, index, &waiter)) {
                Room::Unwanted => return Ok(false),
                Room::Known => return Ok(true),
                Room::Free if task.for_head => {
                    let (value, frame) = self.frame(value)?;
                    let item = (task.id, attempt, index);
                    self.with(|state, effects| state.item_for_head(item, value, frame, effects));
                    return Ok(true);
                }
                Room::Free => {
                    self.with(|state, effects| state.item(task.id, index, value, effects));
                    return Ok(true);
                }
                Room::Wait => {
                    match self.wait_for(&waiter, None) {
                        Err(TaskError::Cancelled { .. }) => return Ok(false),
                        waited => waited?,
                    };
                }
            }
        }
    }

    /// The next item of a stream; `None` at its end.
    pub(crate) fn next_item(&self, task: ObjectId) -> Result<Option<Arc<RefCore>>, TaskError> {
        loop {
            let waiter = Arc::new(Waiter::new(1));
            match self.with(|state, effects| state.next_item(task, &waiter, effects)) {
                NextItem::Item(id) => return Ok(Some(RefCore::new(id, self.clone()))),
                NextItem::End => return Ok(None),
                NextItem::Failed(error) => return Err(error),
                NextItem::Wait if waiter.spin() => {}
                NextItem::Wait => {
                    self.wait_for(&waiter, None)?;
                }
            }
        }
    }

    /// The consumer of a stream wants no more.
    pub(crate) fn end_stream(&self, task: ObjectId) {
        self.cancel(task);
        self.with(|state, effects| state.end_consuming(task, effects));
    }
}
