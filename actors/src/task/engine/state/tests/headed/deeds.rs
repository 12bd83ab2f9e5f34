//! What programs and tasks of the model do with values and streams.

use super::*;

impl World {
    pub(super) fn submit(&mut self, party: PartyId, code: usize) {
        let (id, stream) = (self.id(party), self.rng.random_bool(0.3));
        let (args, contained) = (self.some_held(party, code, 3), self.some_held(party, code, 1));
        self.needs.insert(id, args.iter().map(|id| id.task()).collect());
        let resources = Resources::cpu([0.0, 0.333, 0.5, 1.0, 2.0][self.rng.random_range(0..5)]);
        let parent = self.processes[&party].codes[code].task.map(|(task, _)| task);
        let args = args.into_iter().map(ArgFrame::Ref).collect();
        let (function, attempts) = (ENTRY.name.into(), self.rng.random_range(1..4));
        let frame = TaskFrame { id, function, args, contained, stream, resources, attempts, parent };
        self.with(party, |state, effects| {
            state.expect(id);
            if stream {
                state.consume(id);
            }
            effects.up.push(ToHead::Submit(frame));
            if stream {
                state.hold(id);
            }
        });
        let code = &mut self.process(party).codes[code];
        code.held.push(id);
        if stream {
            code.streams.push(id);
        }
    }

    pub(super) fn put(&mut self, party: PartyId, code: usize) {
        let (id, contained) = (self.id(party), self.some_held(party, code, 2));
        let large = self.rng.random_bool(0.5);
        let (value, node) = (Value::stored(count(1), None), if party.is_node() { party } else { HEAD });
        let frame = match large {
            true => ValueFrame::Located { bytes: LARGE, nodes: vec![node] },
            false => ValueFrame::Inline(Blob(count(1))),
        };
        if large && !party.is_node() {
            let value = value.clone();
            self.with(HEAD, |state, effects| state.keep(id, value, LARGE.0, effects));
        }
        self.with(party, |state, effects| {
            state.expect(id);
            if large && party.is_node() {
                state.lend(id, LARGE.0);
            }
            state.settle(id, SlotState::Ready(value), effects);
            effects.up.push(ToHead::Put { id, value: frame, contained });
        });
        self.process(party).codes[code].held.push(id);
    }

    /// A reference inside a value that is here is taken out.
    pub(super) fn read(&mut self, party: PartyId, code: usize) {
        let Some(id) = self.some_held(party, code, 1).pop() else { return };
        let process = self.process(party);
        let inside = process.state.slots.get(&id).filter(|slot| matches!(slot.state, SlotState::Ready(_)));
        let Some(inside) = inside.and_then(|slot| slot.contained.first().copied()) else { return };
        process.state.hold(inside);
        process.codes[code].held.push(inside);
    }

    pub(super) fn let_go(&mut self, party: PartyId, code: usize) {
        let held = &mut self.process(party).codes[code].held;
        if let Some(id) = held.pop() {
            self.with(party, |state, effects| state.let_go(id, effects));
        }
    }

    pub(super) fn next_item(&mut self, party: PartyId, code: usize) {
        let Some(stream) = self.processes[&party].codes[code].streams.last().copied() else { return };
        let waiter = Arc::new(Waiter::new(1));
        match self.with(party, |state, effects| state.next_item(stream, &waiter, effects)) {
            NextItem::Item(item) => {
                let taken = self.taken.entry(stream).or_default();
                *taken += 1;
                assert_eq!(item.index, *taken, "the items come in order");
                self.process(party).codes[code].held.push(item);
            }
            NextItem::Wait => self.wait(party, code, stream, waiter),
            NextItem::End | NextItem::Failed(_) => self.end_stream(party, code),
        }
    }

    pub(super) fn end_stream(&mut self, party: PartyId, code: usize) {
        if let Some(task) = self.process(party).codes[code].streams.pop() {
            self.with(party, |state, effects| {
                effects.up.push(ToHead::Cancel { task });
                state.end_consuming(task, effects);
            });
        }
    }

    pub(super) fn get(&mut self, party: PartyId, code: usize) {
        let Some(on) = self.some_held(party, code, 1).pop() else { return };
        let waiter = Arc::new(Waiter::new(1));
        if self.with(party, |state, effects| state.look(on, Some(&waiter), effects).is_none()) {
            self.wait(party, code, on, waiter);
        }
    }
}
