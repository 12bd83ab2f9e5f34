//! The engine of a process that has a head: what it submits goes there, and what it runs comes from there.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Weak};

use bytes::Bytes as Data;

use super::Engine;
use super::state::{Ready, Told};
use crate::task::call::{Arg, Given, Needs, Submitted, TaskEntry, entry};
use crate::task::context;
use crate::task::error::TaskError;
use crate::task::ids::{ObjectId, PartyId};
use crate::task::reference::RefCore;
use crate::task::value::Value;
use crate::task::wire::{
    ArgFrame, AttemptError, Blob, FromHead, INLINE_BYTES_MAX, RefFrame, TaskFrame, ToHead, ValueFrame,
};
use crate::units::Bytes;

/// About what a message takes beside its values, for the count of what is under way.
const MESSAGE_BYTES: usize = 256;

impl Engine {
    /// As it travels: small values themselves, large ones by the place where they stay.
    pub(super) fn frame(&self, value: Value) -> Result<(Value, (ValueFrame, Vec<ObjectId>)), TaskError> {
        let limits = self.inner.parts.limits;
        let encoded = value.encoded(limits.one.0 as usize)?;
        let (data, contained) = (encoded.data, encoded.contained);
        if data.len() <= INLINE_BYTES_MAX {
            return Ok((value, (ValueFrame::Inline(Blob(data)), contained)));
        }
        let bytes = Bytes(data.len() as u64);
        self.check_room_for(bytes, Bytes(0))?;
        let read = if let Value::Made(made) = value { Some(made) } else { None };
        // A driver leaves large values with the head.
        let node = if self.party().is_node() { self.party() } else { PartyId::default() };
        let frame = ValueFrame::Located { bytes, nodes: vec![node] };
        Ok((Value::stored(data, read), (frame, contained)))
    }

    /// Whether a value of so many bytes may be kept here, beside those that are here and those that have room promised.
    pub(crate) fn check_room_for(&self, bytes: Bytes, promised: Bytes) -> Result<(), TaskError> {
        let (limits, held) = (self.inner.parts.limits, Bytes(self.lock().lent_bytes().saturating_add(promised.0)));
        if bytes <= limits.one && held.0.saturating_add(bytes.0) <= limits.all.0 {
            return Ok(());
        }
        Err(TaskError::Limit(format!(
            "a value of {bytes} has no room: this process keeps {held} of stored values and may keep {} (`--objects-max`), none \
             larger than {} (`--object-max`); drop references that are not needed any more",
            limits.all, limits.one
        )))
    }

    pub(super) fn put_for_head(&self, id: ObjectId, value: Value) -> Result<(), TaskError> {
        let (value, (frame, contained)) = self.frame(value)?;
        if let (ValueFrame::Inline(blob), Some(up)) = (&frame, &self.inner.parts.up) {
            up.wait_for_room(MESSAGE_BYTES + blob.0.len());
        }
        if let (ValueFrame::Located { .. }, Some(up), Some(data)) = (&frame, &self.inner.parts.up, value.data())
            && !self.party().is_node()
        {
            up.leave(id, data)?;
        }
        self.with(|state, effects| {
            if let Some(error) = state.closed.clone() {
                effects.garbage.push(value);
                return Err(error);
            }
            state.expect(id);
            if let ValueFrame::Located { bytes, .. } = &frame
                && self.party().is_node()
            {
                state.lend(id, bytes.0);
            }
            state.settle(id, super::slot::SlotState::Ready(value), effects);
            effects.up.push(ToHead::Put { id, value: frame, contained });
            Ok(())
        })
    }

    pub(super) fn submit_to_head(
        &self,
        id: ObjectId,
        entry: &'static TaskEntry,
        given: Vec<Given>,
        needs: &Arc<Needs>,
        stream: bool,
    ) -> Result<(), TaskError> {
        let mut contained = Vec::new();
        let mut held: Vec<Arc<RefCore>> = Vec::new();
        // References inside them are released when they are dropped, which is after the head knows of the task.
        let mut passed: Vec<Value> = Vec::new();
        let mut args = Vec::with_capacity(given.len());
        let mut bytes = MESSAGE_BYTES;
        for given in given {
            args.push(match given {
                Given::Ref(core) => ArgFrame::Ref(self.keep_until_sent(core, &mut held)),
                Given::Value(value) => {
                    let encoded = value.0.encoded(self.inner.parts.limits.one.0 as usize)?;
                    if encoded.data.len() > INLINE_BYTES_MAX {
                        let stored = self.put(value.0)?;
                        ArgFrame::Ref(self.keep_until_sent(stored, &mut held))
                    } else {
                        bytes += encoded.data.len();
                        contained.extend(encoded.contained);
                        passed.push(value.0);
                        ArgFrame::Value(Blob(encoded.data))
                    }
                }
            });
        }
        let (function, attempts) = (entry.name.into(), needs.attempts);
        let resources = needs.resources.clone();
        let parent = context::work().map(|work| work.task.id);
        let frame = TaskFrame { id, function, args, contained, stream, resources, attempts, parent };
        if let Some(up) = &self.inner.parts.up {
            up.wait_for_room(bytes);
        }
        self.with(|state, effects| {
            if let Some(error) = &state.closed {
                return Err(error.clone());
            }
            state.check_room()?;
            state.expect(id);
            if stream {
                state.consume(id);
            }
            effects.up.push(ToHead::Submit(frame));
            Ok(())
        })
    }

    fn keep_until_sent(&self, core: Arc<RefCore>, held: &mut Vec<Arc<RefCore>>) -> ObjectId {
        let id = core.id();
        held.push(core);
        id
    }

    /// The head says something.
    pub(crate) fn on_head(&self, message: FromHead) {
        match message {
            FromHead::Ready { id, value, contained } => {
                let told = told(value);
                self.with(|state, effects| state.on_ready(id, told, contained, effects));
            }
            FromHead::NotReady { id, error } => {
                self.with(|state, effects| state.on_ready(id, Told::Never(error), Vec::new(), effects));
            }
            // Devices are leased here, where the jobs of this node ask for theirs too.
            FromHead::Run { task, attempt, args, devices: _ } => self.run_for_head(task, attempt, args),
            FromHead::Stop { task, attempt: _ } => self.with(|state, effects| state.cancel(task, effects)),
            FromHead::Free { ids } => {
                self.with(|state, effects| ids.into_iter().for_each(|id| state.free(id, effects)));
            }
            FromHead::Taken { task, index } => self.with(|state, effects| state.on_taken(task, index, effects)),
        }
    }

    fn run_for_head(&self, frame: TaskFrame, attempt: u32, args: Vec<RefFrame>) {
        let TaskFrame { id, function, args: given, contained, stream, resources, attempts, parent: _ } = frame;
        let task = entry(&function).and_then(|entry| Ok((entry, self.needs(entry, resources, attempts)?)));
        let (entry, needs) = match task {
            Ok(task) => task,
            Err(error) => {
                let error = AttemptError::Never(error);
                let failed = ToHead::Failed { task: id, attempt, error };
                return self.with(|_, effects| effects.up.push(failed));
            }
        };
        let given = given.into_iter().map(|arg| match arg {
            ArgFrame::Value(blob) => Arg::Value(Value::stored(blob.0, None)),
            ArgFrame::Ref(id) => Arg::Ref(id),
        });
        let contained: Box<[ObjectId]> = contained.into();
        let held = contained.clone();
        // The head knows who submitted it.
        let (cancelled, parent) = (AtomicBool::new(false), Weak::new());
        let task =
            Submitted { id, parent, entry, args: given.collect(), contained, needs, cancelled, stream, for_head: true };
        self.with(|state, effects| {
            held.iter().for_each(|id| state.granted(*id));
            for RefFrame { id, value, contained } in args {
                state.on_argument(id, told(value), contained, effects);
            }
            state.enter(Ready { task: Arc::new(task), attempt, lease: None }, effects);
        });
    }

    /// A value that was to be brought has come.
    pub(crate) fn fetched(&self, id: ObjectId, data: Data) {
        let bytes = data.len() as u64;
        let lend = self.inner.parts.party.is_node().then_some(bytes);
        let value = Value::stored(data, None);
        self.with(|state, effects| state.fetched(id, value, lend, effects));
    }

    /// It did not come.
    pub(crate) fn not_fetched(&self, id: ObjectId, from: &[PartyId]) {
        self.with(|state, effects| state.not_fetched(id, from, effects));
    }

    /// Keeps a value of a driver here, which the driver names.
    pub(crate) fn keep(&self, id: ObjectId, data: Data) -> Result<(), TaskError> {
        let bytes = data.len() as u64;
        self.check_room_for(Bytes(bytes), Bytes(0))?;
        self.with(|state, effects| state.keep(id, Value::stored(data, None), bytes, effects));
        Ok(())
    }

    /// The bytes of a value that is here, for another process.
    pub(crate) fn data(&self, id: ObjectId) -> Option<Data> {
        self.lock().data(id)
    }
}

fn told(value: ValueFrame) -> Told {
    match value {
        ValueFrame::Inline(blob) => Told::Here(Value::stored(blob.0, None)),
        ValueFrame::Located { bytes, nodes } => Told::Away { bytes, nodes },
    }
}
