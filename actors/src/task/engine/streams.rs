//! Streams: results that a task gives one by one, and how far ahead of its consumer it may be.

use std::sync::Arc;

use super::slot::{Slot, SlotState};
use super::state::{Effects, State};
use super::waiter::Waiter;
use crate::task::error::TaskError;
use crate::task::ids::ObjectId;
use crate::task::value::Value;
use crate::task::wire::{ToHead, ValueFrame};

/// Items that a stream may be ahead of its consumer. Fewer, and maker and consumer wait for each other over the network;
/// more only holds more values.
pub(crate) const STREAM_AHEAD: u32 = 64;

/// A stream that is made or taken here.
#[derive(Default)]
pub(super) struct Stream {
    /// Items so far.
    made: u32,
    /// Items that its consumer has taken.
    taken: u32,
    /// Its maker, waiting for room.
    maker: Option<Arc<Waiter>>,
    /// Its consumer, waiting for an item.
    consumer: Option<Arc<Waiter>>,
    /// Whether its consumer is in this process.
    consumed_here: bool,
}

impl Stream {
    /// Takes out its consumer, to be woken.
    pub(super) fn consumer(&mut self) -> Option<Arc<Waiter>> {
        self.consumer.take()
    }

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

    /// Whether the `index`th item (from 1) may be made now; if not, `waiter` is told when to look again.
    pub(super) fn room_in_stream(&mut self, task: ObjectId, index: u32, waiter: &Arc<Waiter>) -> Room {
        let Some(stream) = self.streams.get_mut(&task).filter(|_| self.closed.is_none()) else { return Room::Unwanted };
        if stream.consumed_here && index <= stream.made {
            return Room::Known;
        }
        if index <= stream.taken.saturating_add(STREAM_AHEAD) {
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

    /// The head tells of an item: its consumer here holds it from now on.
    pub(super) fn expect_item(&mut self, id: ObjectId) {
        if id.index == 0 || self.slots.contains_key(&id) {
            return;
        }
        let Some(stream) = self.streams.get_mut(&id.task()).filter(|stream| stream.consumed_here) else { return };
        if id.index <= stream.taken {
            return;
        }
        stream.made = stream.made.max(id.index);
        let slot = self.slots.entry(id).or_insert_with(|| Slot::new(1));
        slot.grants = 1;
        slot.told = true;
    }

    /// The next item for the consumer, which holds it from now on; `waiter` is told when there is one.
    pub(super) fn next_item(&mut self, task: ObjectId, waiter: &Arc<Waiter>, effects: &mut Effects) -> NextItem {
        if let Some(error) = &self.closed {
            return NextItem::Failed(error.clone());
        }
        let Some(stream) = self.streams.get_mut(&task) else { return NextItem::End };
        let item = task.item(stream.taken + 1);
        if self.slots.get(&item).is_some_and(|slot| !matches!(slot.state, SlotState::Pending)) {
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

    /// The consumer at the head's end has taken items up to this one.
    pub(super) fn on_taken(&mut self, task: ObjectId, index: u32, effects: &mut Effects) {
        if let Some(stream) = self.streams.get_mut(&task) {
            stream.taken = stream.taken.max(index);
            effects.wake.extend(stream.maker.take());
        }
    }

    /// The consumer wants no more: items that it has not taken are let go.
    pub(super) fn end_consuming(&mut self, task: ObjectId, effects: &mut Effects) {
        let Some(stream) = self.streams.remove(&task) else { return };
        effects.wake.extend(stream.maker);
        for index in stream.taken + 1..=stream.made {
            self.let_go(task.item(index), effects);
        }
        self.let_go(task, effects);
    }

    /// A stream's task has ended: a consumer looks again. One that is consumed elsewhere is forgotten.
    pub(super) fn wake_stream(&mut self, task: ObjectId, effects: &mut Effects) {
        let Some(stream) = self.streams.get_mut(&task) else { return };
        effects.wake.extend(stream.maker.take());
        effects.wake.extend(stream.consumer.take());
        if !stream.consumed_here {
            self.streams.remove(&task);
        }
    }
}
