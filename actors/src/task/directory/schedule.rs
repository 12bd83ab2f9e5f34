//! Which task goes where: the oldest first, to where most of its arguments are, then where most is free.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::super::ids::{ObjectId, PartyId};
use super::super::wire::{ArgFrame, FromHead, RefFrame, TaskFrame};
use super::class::{ClassId, Lane};
use super::node::Room;
use super::object::{Content, Object, State};
use super::task::{Phase, Task};
use super::{Directory, Step};

/// What became of the first tasks of a queue.
enum Turn {
    /// One went to this node.
    Placed(PartyId),
    /// One left the queue for another reason.
    Left,
    /// None finds room.
    NoRoom,
}

impl Directory {
    /// Places tasks until none finds room, the oldest first.
    pub(super) fn schedule(&mut self) {
        self.give_up_in_vain();
        let mut heads = self.classes.heads();
        let mut waiting: Vec<ClassId> = Vec::new();
        while let Some(Reverse((_, id, lane))) = heads.pop() {
            let turn = self.turn(id, lane);
            match turn {
                Turn::NoRoom => {
                    waiting.push(id);
                    continue;
                }
                Turn::Placed(node) => {
                    self.was_placed(id);
                    self.pass_over(&waiting, node);
                }
                Turn::Left => {}
            }
            heads.extend(self.classes.get(id).and_then(|class| class.head(id, lane)).map(Reverse));
        }
    }

    /// Whether the task is in a queue under this number.
    pub(super) fn is_queued(&self, id: ObjectId, seq: u64) -> bool {
        self.task(id).is_some_and(|task| task.phase == Phase::Queued(seq))
    }

    /// A task has left its queue, but its entry is still there.
    pub(super) fn left_queue(&mut self, id: ClassId) {
        let Self { classes, objects, .. } = self;
        let Some(class) = classes.get_mut(id) else { return };
        if class.one_gone() {
            class.retain(|seq, task| {
                let task = objects.get(&task).and_then(|object| object.task.as_deref());
                task.is_some_and(|task| task.phase == Phase::Queued(seq))
            });
        }
    }

    /// Tries the first of a queue; of those that failed once, the first few, as each keeps away from other nodes.
    fn turn(&mut self, id: ClassId, lane: Lane) -> Turn {
        let seen = if lane == Lane::First { 1 } else { self.limits.retries_seen };
        for place in 0..seen {
            let Some((seq, task)) = self.classes.get(id).and_then(|class| class.lane(lane).get(place)).copied() else {
                break;
            };
            if !self.is_queued(task, seq) {
                self.take_from(id, lane, place);
                return Turn::Left;
            }
            let Some((node, room)) = self.best(id, task) else { continue };
            self.take_from(id, lane, place);
            if !self.args_ready(task) {
                // One was lost since. It waits for it as it did before.
                self.set_phase(task, Phase::Blocked(0));
                self.steps.push_back(Step::Prepare(task));
                return Turn::Left;
            }
            self.start(task, node, room);
            return Turn::Placed(node);
        }
        Turn::NoRoom
    }

    fn take_from(&mut self, id: ClassId, lane: Lane, place: usize) {
        if let Some(class) = self.classes.get_mut(id) {
            class.lane_mut(lane).remove(place);
        }
    }

    /// Whether a node has all free that a task of this class asks for.
    pub(super) fn fits(&self, party: PartyId, id: ClassId) -> bool {
        let nobody = ObjectId::new(PartyId(u64::MAX), u64::MAX);
        let (Some(node), Some(class)) = (self.nodes.get(&party), self.classes.get(id)) else { return false };
        node.room(nobody, &class.ask) == Some(Room::Free)
    }

    /// Nodes where it failed and does not go again while others could run it.
    pub(super) fn avoided(&self, task: ObjectId, id: ClassId) -> Vec<PartyId> {
        let avoid = self.task(task).map(Task::avoid).unwrap_or_default();
        let Some(class) = self.classes.get(id).filter(|_| !avoid.is_empty()) else { return Vec::new() };
        let mut others = self.nodes.iter().filter(|(party, _)| !avoid.contains(party));
        if others.any(|(_, node)| node.could_run(&class.ask)) { avoid.to_vec() } else { Vec::new() }
    }

    /// Where the task goes now, if anywhere.
    fn best(&self, id: ClassId, task: ObjectId) -> Option<(PartyId, Room)> {
        let class = self.classes.get(id)?;
        let avoided = self.avoided(task, id);
        let open = |party: &PartyId| {
            let reserved = self.reserved.get(party).is_some_and(|reserver| *reserver != id);
            !reserved && !avoided.contains(party)
        };
        let rooms = self.nodes.iter().filter(|(party, _)| open(party));
        let mut rooms = rooms.filter_map(|(party, node)| Some((party, node, node.room(task, &class.ask)?))).peekable();
        rooms.peek()?;
        let near = self.near(task);
        let best = rooms.max_by_key(|(party, node, room)| {
            let idle_gpus = !class.ask.wants_gpus && node.has_gpus();
            let bytes = near.get(party).copied().unwrap_or(0);
            (*room, bytes, !idle_gpus, node.free_share(), Reverse(node.ahead()), Reverse(**party))
        });
        best.map(|(party, _, room)| (*party, room))
    }

    /// Bytes of its arguments that nodes have.
    fn near(&self, task: ObjectId) -> BTreeMap<PartyId, u64> {
        let mut near = BTreeMap::new();
        for arg in self.task(task).into_iter().flat_map(Task::arg_refs) {
            let value = self.objects.get(&arg).and_then(Object::value);
            if let Some(Content::Located { bytes, at }) = value.map(|value| &value.content) {
                for node in at {
                    let sum: &mut u64 = near.entry(*node).or_default();
                    *sum = sum.saturating_add(bytes.0);
                }
            }
        }
        near
    }

    fn args_ready(&self, id: ObjectId) -> bool {
        let is_ready = |arg| self.objects.get(&arg).is_some_and(|arg| matches!(arg.state, State::Ready(_)));
        self.task(id).is_some_and(|task| task.arg_refs().all(is_ready))
    }

    /// Sends it to the node.
    fn start(&mut self, id: ObjectId, party: PartyId, room: Room) {
        let Some(object) = self.objects.get_mut(&id) else { return };
        let Some(task) = object.active() else { return };
        task.attempt += 1;
        task.tries += 1;
        let attempt = task.attempt;
        let items = task.more_items();
        let (Some(node), Some(class)) = (self.nodes.get_mut(&party), self.classes.get(task.class)) else { return };
        let devices = node.start(id, attempt, &class.ask, room);
        let frame = TaskFrame {
            id,
            function: class.function.clone(),
            args: task.args.to_vec(),
            contained: task.contained.to_vec(),
            stream: task.stream,
            resources: class.resources.clone(),
            attempts: task.attempts,
            parent: task.more().and_then(|more| more.parent),
        };
        self.set_phase(id, Phase::Running(party));
        let args = self.args_for(&frame.args, party);
        frame.contained.iter().for_each(|inside| self.grant(party, *inside));
        args.iter().flat_map(|arg| &arg.contained).for_each(|inside| self.grant(party, *inside));
        self.out.send(party, FromHead::Run { task: frame, attempt, devices, args });
        if let Some(taken) = items {
            self.out.send(party, FromHead::Taken { task: id, index: taken });
        }
    }

    /// Those of its values that the node may not have, and those that refer to others.
    fn args_for(&mut self, args: &[ArgFrame], party: PartyId) -> Vec<RefFrame> {
        let mut frames: Vec<RefFrame> = Vec::new();
        let mut seen = BTreeSet::new();
        for arg in args {
            let ArgFrame::Ref(id) = arg else { continue };
            let Some(Object { state: State::Ready(value), .. }) = self.objects.get_mut(id) else { continue };
            let was_told = value.told.contains(&party);
            let is_there = match &value.content {
                Content::Inline(_) => was_told,
                Content::Located { at, .. } => at.contains(&party),
            };
            if !seen.insert(*id) || is_there && value.contained.is_empty() {
                continue;
            }
            if !was_told {
                value.told.push(party);
            }
            frames.push(RefFrame { id: *id, value: value.frame(), contained: value.contained.clone() });
        }
        frames
    }
}
