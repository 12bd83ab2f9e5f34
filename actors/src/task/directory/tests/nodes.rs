//! A node as simple as it can be: what it does with what the head says, and with its attempts.

use std::collections::HashMap;

use super::world::{World, blob, mix, number};
use crate::task::directory::*;
use crate::task::wire::*;
use crate::units::Bytes;

/// What a task does, as its function's name says it: `sum`, `big` (a sum that stays on its node), `nest-3`, `fail`, `box`,
/// `unbox`, `stream-5`.
pub(super) fn kind(function: &str) -> (&str, u64) {
    let (kind, count) = function.split_once('-').unwrap_or((function, "0"));
    (kind, count.parse().expect("a count"))
}

#[derive(Debug, PartialEq)]
pub(super) enum Stage {
    Queued,
    Works,
    /// For a value, which gives the result with the seed.
    Waits(ObjectId),
    Got(u64),
}

pub(super) struct Attempt {
    pub(super) frame: TaskFrame,
    attempt: u32,
    args: HashMap<ObjectId, RefFrame>,
    stage: Stage,
    /// Grants that came with it, to be released when it ends.
    grants: Vec<ObjectId>,
    pub(super) taken: u32,
    pub(super) sent: u32,
}

#[derive(Default)]
pub(super) struct SimNode {
    pub(super) cpu_milli: u64,
    pub(super) used_milli: u64,
    pub(super) store: HashMap<ObjectId, u64>,
    pub(super) attempts: Vec<Attempt>,
    pub(super) next: u64,
}

impl World {
    pub(super) fn node_hears(&mut self, party: PartyId, message: FromHead) {
        let node = self.nodes.get_mut(&party).expect("a node");
        match message {
            FromHead::Run { task, attempt, args, .. } => {
                let mut grants: Vec<ObjectId> = task.contained.clone();
                grants.extend(args.iter().flat_map(|arg| arg.contained.clone()));
                for arg in &args {
                    if let ValueFrame::Inline(blob) = &arg.value {
                        node.store.insert(arg.id, number(blob));
                    }
                }
                let args = args.into_iter().map(|arg| (arg.id, arg)).collect();
                node.attempts.push(Attempt {
                    frame: task,
                    attempt,
                    args,
                    stage: Stage::Queued,
                    grants,
                    taken: 0,
                    sent: 0,
                });
            }
            FromHead::Stop { task, attempt } => {
                if let Some(place) = node.attempts.iter().position(|a| a.frame.id == task && a.attempt == attempt) {
                    self.fail(party, place, AttemptError::WorkerLost("stopped".into()));
                }
            }
            FromHead::Free { ids } => {
                for id in ids {
                    node.store.remove(&id);
                }
            }
            FromHead::Taken { task, index } => {
                for attempt in node.attempts.iter_mut().filter(|attempt| attempt.frame.id == task) {
                    attempt.taken = attempt.taken.max(index);
                }
            }
            FromHead::Ready { id, value, contained } => self.node_gets(party, id, &value, contained),
            FromHead::NotReady { id, error } => {
                while let Some(place) = self.waiting(party, id) {
                    self.fail(party, place, AttemptError::Never(error.clone()));
                }
            }
        }
    }

    fn waiting(&self, party: PartyId, id: ObjectId) -> Option<usize> {
        self.nodes[&party].attempts.iter().position(|attempt| attempt.stage == Stage::Waits(id))
    }

    fn node_gets(&mut self, party: PartyId, id: ObjectId, value: &ValueFrame, contained: Vec<ObjectId>) {
        let Some(mut place) = self.waiting(party, id) else {
            for id in contained {
                self.say(party, ToHead::Release { id, grants: 1 });
            }
            return;
        };
        self.nodes.get_mut(&party).expect("a node").attempts[place].grants.extend(contained);
        let found = match value {
            ValueFrame::Inline(blob) => Ok(number(blob)),
            ValueFrame::Located { nodes, .. } => self.fetch(party, id, nodes),
        };
        match found {
            Err(node) => self.say(party, ToHead::NotThere { id, node }),
            Ok(value) => loop {
                let Attempt { frame, attempt, stage, .. } =
                    &mut self.nodes.get_mut(&party).expect("a node").attempts[place];
                *stage = Stage::Got(value);
                let (task, attempt) = (frame.id, *attempt);
                self.say(party, ToHead::Waits { task, attempt, waits: false });
                match self.waiting(party, id) {
                    Some(next) => place = next,
                    None => return,
                }
            },
        }
    }

    /// A value from one of these nodes, or which did not have it.
    fn fetch(&mut self, party: PartyId, id: ObjectId, nodes: &[PartyId]) -> Result<u64, PartyId> {
        if let Some(value) = self.nodes[&party].store.get(&id) {
            return Ok(*value);
        }
        let node = self.one(nodes).expect("places");
        let value = self.nodes.get(&node).and_then(|node| node.store.get(&id)).copied().ok_or(node)?;
        self.nodes.get_mut(&party).expect("a node").store.insert(id, value);
        self.say(party, ToHead::Copied { id });
        Ok(value)
    }

    fn leave(&mut self, party: PartyId, place: usize) -> Attempt {
        let node = self.nodes.get_mut(&party).expect("a node");
        let attempt = node.attempts.remove(place);
        if matches!(attempt.stage, Stage::Works) {
            node.used_milli -= attempt.cpu_milli();
        }
        attempt
    }

    fn fail(&mut self, party: PartyId, place: usize, error: AttemptError) {
        let attempt = self.leave(party, place);
        let (task, number) = (attempt.frame.id, attempt.attempt);
        self.say(party, ToHead::Failed { task, attempt: number, error });
        self.release_grants(party, attempt);
    }

    fn release_grants(&mut self, party: PartyId, attempt: Attempt) {
        for id in attempt.grants {
            self.say(party, ToHead::Release { id, grants: 1 });
        }
    }

    pub(super) fn work(&mut self, party: PartyId, place: usize) {
        let node = self.nodes.get_mut(&party).expect("a node");
        let attempt = &mut node.attempts[place];
        match attempt.stage {
            Stage::Queued => {
                node.used_milli += attempt.cpu_milli();
                attempt.stage = Stage::Works;
            }
            Stage::Works => self.compute(party, place),
            Stage::Got(value) => {
                node.used_milli += attempt.cpu_milli();
                attempt.stage = Stage::Works;
                let value = mix(number(attempt.seed()), value);
                self.finish(party, place, value);
            }
            Stage::Waits(_) => unreachable!("it waits"),
        }
    }

    fn compute(&mut self, party: PartyId, place: usize) {
        let attempt = &self.nodes[&party].attempts[place];
        let (id, frame, number_of) = (attempt.frame.id, attempt.frame.clone(), attempt.attempt);
        let seed = number(attempt.seed());
        let mut sum = seed;
        let mut inside = None;
        for arg in &frame.args {
            let ArgFrame::Ref(arg) = arg else { continue };
            let places = match self.nodes[&party].attempts[place].args.get(arg) {
                Some(RefFrame { value: ValueFrame::Located { nodes, .. }, .. }) => nodes.clone(),
                _ => vec![party],
            };
            inside = inside
                .or(self.nodes[&party].attempts[place].args.get(arg).and_then(|arg| arg.contained.first().copied()));
            match self.fetch(party, *arg, &places) {
                Ok(value) => sum = mix(sum, value),
                Err(node) => {
                    self.say(party, ToHead::NotThere { id: *arg, node });
                    let reason = "not there".to_owned();
                    return self.fail(party, place, AttemptError::Argument { argument: *arg, reason });
                }
            }
        }
        let (kind, count) = kind(&frame.function);
        match kind {
            "fail" => self.fail(party, place, AttemptError::Failed(vec!["it fails".into()])),
            "nest" if count > 0 => {
                let node = self.nodes.get_mut(&party).expect("a node");
                node.next += 1;
                let child = ObjectId::new(party, node.next);
                let mut below = TaskFrame { id: child, parent: Some(id), ..frame.clone() };
                below.function = format!("nest-{}", count - 1).into();
                node.attempts[place].grants.push(child);
                self.say(party, ToHead::Submit(below));
                self.wait(party, place, child);
            }
            "unbox" if inside.is_some() => {
                let inside = inside.expect("it is");
                self.say(party, ToHead::Want { id: inside });
                self.wait(party, place, inside);
            }
            "stream" => {
                let attempt = &mut self.nodes.get_mut(&party).expect("a node").attempts[place];
                if u64::from(attempt.sent) == count {
                    return self.finish(party, place, count);
                }
                attempt.sent += 1;
                let index = attempt.sent;
                let value = mix(seed, u64::from(index));
                let value = self.value(party, id.item(index), value, index.is_multiple_of(2));
                self.say(party, ToHead::Item { task: id, attempt: number_of, index, value, contained: Vec::new() });
            }
            _ => self.finish(party, place, sum),
        }
    }

    fn wait(&mut self, party: PartyId, place: usize, id: ObjectId) {
        let node = self.nodes.get_mut(&party).expect("a node");
        let attempt = &mut node.attempts[place];
        attempt.stage = Stage::Waits(id);
        node.used_milli -= attempt.cpu_milli();
        let (task, attempt) = (attempt.frame.id, attempt.attempt);
        self.say(party, ToHead::Waits { task, attempt, waits: true });
    }

    fn value(&mut self, party: PartyId, id: ObjectId, value: u64, big: bool) -> ValueFrame {
        if !big {
            return ValueFrame::Inline(blob(value));
        }
        self.nodes.get_mut(&party).expect("a node").store.insert(id, value);
        ValueFrame::Located { bytes: Bytes::mib(1), nodes: vec![party] }
    }

    fn finish(&mut self, party: PartyId, place: usize, value: u64) {
        let attempt = self.leave(party, place);
        let (task, number) = (attempt.frame.id, attempt.attempt);
        let (kind, _) = kind(&attempt.frame.function);
        let value = self.value(party, task, value, kind == "big" || kind == "box");
        let contained = attempt.frame.contained.clone();
        self.say(party, ToHead::Done { task, attempt: number, value, contained });
        self.release_grants(party, attempt);
    }
}

impl Attempt {
    fn cpu_milli(&self) -> u64 {
        (self.frame.resources.cpus * 1000.0).round() as u64
    }

    fn seed(&self) -> &Blob {
        match &self.frame.args[0] {
            ArgFrame::Value(blob) => blob,
            ArgFrame::Ref(_) => unreachable!("the seed comes first"),
        }
    }
}

impl SimNode {
    /// Those that go on after waiting come first, then the others in order.
    pub(super) fn can_go(&self, attempt: &Attempt) -> bool {
        let fits = self.used_milli + attempt.cpu_milli() <= self.cpu_milli;
        let resumes = |other: &Attempt| matches!(other.stage, Stage::Got(_));
        match attempt.stage {
            Stage::Works => {
                let (kind, count) = kind(&attempt.frame.function);
                kind != "stream" || u64::from(attempt.sent) == count || attempt.sent < attempt.taken.saturating_add(2)
            }
            Stage::Got(_) => fits,
            Stage::Waits(_) => false,
            Stage::Queued => {
                let first = self.attempts.iter().find(|other| other.stage == Stage::Queued);
                let is_first = first.is_some_and(|first| first.frame.id == attempt.frame.id);
                fits && is_first && !self.attempts.iter().any(resumes)
            }
        }
    }
}
