//! The engine of a process that has a head: what it submits goes there, and what it runs comes from there.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes as Data;

use super::Engine;
use super::state::{Ready, Told};
use crate::task::call::{Arg, Given, Needs, Submitted, TaskEntry, entry};
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
        let (bytes, held) = (Bytes(data.len() as u64), Bytes(self.lock().lent_bytes()));
        if held.0.saturating_add(bytes.0) > limits.all.0 {
            return Err(TaskError::Limit(format!(
                "a value of {bytes} has no room: this process keeps {held} of stored values and may keep {} \
                 (`objects_bytes_max`); drop references that are not needed any more",
                limits.all
            )));
        }
        let read = if let Value::Made(made) = value { Some(made) } else { None };
        let frame = ValueFrame::Located { bytes, nodes: vec![self.inner.parts.party] };
        Ok((Value::stored(data, read), (frame, contained)))
    }

    pub(super) fn put_for_head(&self, id: ObjectId, value: Value) -> Result<(), TaskError> {
        let (value, (frame, contained)) = self.frame(value)?;
        if let (ValueFrame::Inline(blob), Some(up)) = (&frame, &self.inner.parts.up) {
            up.wait_for_room(MESSAGE_BYTES + blob.0.len());
        }
        self.with(|state, effects| {
            if let Some(error) = &state.closed {
                return Err(error.clone());
            }
            if let ValueFrame::Located { bytes, .. } = &frame {
                state.keep(id, value.clone(), bytes.0, effects);
            }
            state.expect(id);
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
                        ArgFrame::Value(Blob(encoded.data))
                    }
                }
            });
        }
        let (function, attempts) = (entry.name.into(), needs.attempts);
        let resources = needs.resources.clone();
        let frame = TaskFrame { id, function, args, contained, stream, resources, attempts };
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
            FromHead::Run { task, attempt, args } => self.run_for_head(task, attempt, args),
            FromHead::Stop { task, attempt: _ } => self.with(|state, effects| state.cancel(task, effects)),
            FromHead::Free { ids } => {
                self.with(|state, effects| ids.into_iter().for_each(|id| state.free(id, effects)));
            }
            FromHead::Taken { task, index } => self.with(|state, effects| state.on_taken(task, index, effects)),
        }
    }

    fn run_for_head(&self, frame: TaskFrame, attempt: u32, args: Vec<RefFrame>) {
        let TaskFrame { id, function, args: given, contained: _, stream, resources, attempts } = frame;
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
        let args_here: Vec<_> = args.into_iter().map(|RefFrame { id, value, .. }| (id, told(value))).collect();
        let cancelled = AtomicBool::new(false);
        let task = Submitted { id, entry, args: given.collect(), needs, cancelled, stream, for_head: true };
        self.with(|state, effects| {
            args_here.into_iter().for_each(|(id, told)| state.on_argument(id, told, effects));
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
