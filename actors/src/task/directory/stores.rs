//! What parties say of values.

use super::super::error::TaskError;
use super::super::ids::{ObjectId, PartyId};
use super::super::wire::{FromHead, INLINE_BYTES_MAX, ValueFrame};
use super::Directory;
use super::making::{Loss, UNKNOWN};
use super::object::{Content, Object, State, Value};

impl Directory {
    pub(super) fn put(&mut self, from: PartyId, id: ObjectId, value: ValueFrame, contained: Vec<ObjectId>) -> bool {
        if id.party != from || id.index != 0 || self.objects.contains_key(&id) {
            return false;
        }
        let place = match &value {
            ValueFrame::Located { nodes, .. } => nodes.first().copied(),
            ValueFrame::Inline(_) => None,
        };
        match self.check_room().and_then(|()| self.value(id, value, &contained)) {
            Err(error) => self.refuse(from, id, error),
            Ok(None) => {
                let place =
                    place.map_or_else(|| "no node".to_owned(), |node| format!("{}, which is gone", self.name(node)));
                let reason = format!("it was put on {place}; put it again, or make it by a task");
                self.refuse(from, id, TaskError::Lost { object: id, reason });
            }
            Ok(Some(value)) => {
                self.objects.insert(id, Object::default());
                self.grant(from, id);
                self.store(id, value);
            }
        }
        true
    }

    /// A value that was sent, if it is within limits; nothing if no node has it.
    pub(super) fn value(
        &self,
        id: ObjectId,
        frame: ValueFrame,
        contained: &[ObjectId],
    ) -> Result<Option<Value>, TaskError> {
        let most = self.limits.contained;
        if contained.len() > most {
            let found = contained.len();
            let text =
                format!("{id} has {found} references inside, at most {most} are allowed; make several values of it");
            return Err(TaskError::Limit(text));
        }
        let content = match frame {
            ValueFrame::Inline(blob) if blob.0.len() > INLINE_BYTES_MAX => {
                let (found, most) = (blob.0.len(), INLINE_BYTES_MAX);
                let text =
                    format!("{id} came with {found} bytes in a message, at most {most} are allowed; keep it on a node");
                return Err(TaskError::Limit(text));
            }
            ValueFrame::Inline(blob) => {
                let most = self.limits.inline;
                if (self.counts.inline_bytes + blob.0.len()) as u64 > most.0 {
                    let text = format!(
                        "{id}: the head keeps {most} of small values, the most that is allowed; let go of some"
                    );
                    return Err(TaskError::Limit(text));
                }
                Content::Inline(blob)
            }
            ValueFrame::Located { bytes, nodes } => Content::Located { bytes, at: self.keepers(nodes) },
        };
        let none = matches!(&content, Content::Located { at, .. } if at.is_empty());
        let contained = self.known(contained, id);
        Ok((!none).then_some(Value { content, contained, told: Vec::new() }))
    }

    /// Answers at once, or when it is ready.
    pub(super) fn want(&mut self, from: PartyId, id: ObjectId) -> bool {
        if self.objects.get(&id).is_some_and(|object| matches!(object.state, State::Freed)) {
            self.make_again(id, &Loss::Freed);
        }
        let error = match self.objects.get(&id).map(|object| &object.state) {
            Some(State::Ready(_)) => {
                self.send_ready(from, id);
                return true;
            }
            Some(State::Pending | State::Freed) => {
                self.wait_for(from, id);
                return true;
            }
            Some(State::Failed(error)) => error.as_ref().clone(),
            None => TaskError::Lost { object: id, reason: UNKNOWN.to_owned() },
        };
        self.out.send(from, FromHead::NotReady { id, error });
        true
    }

    /// A node has a copy; of a value that is not there any more it may let go.
    pub(super) fn copied(&mut self, from: PartyId, id: ObjectId) -> bool {
        if !from.is_node() {
            return false;
        }
        let Some(Object { state: State::Ready(value), .. }) = self.objects.get_mut(&id) else {
            self.free_at(from, id);
            return true;
        };
        match &mut value.content {
            Content::Inline(_) => return false,
            Content::Located { at, .. } if at.contains(&from) => {}
            Content::Located { at, .. } => at.push(from),
        }
        if let Some(party) = self.parties.get_mut(&from) {
            party.keeps.insert(id);
        }
        true
    }

    /// A copy is not there, or is no good.
    pub(super) fn not_there(&mut self, from: PartyId, id: ObjectId, node: PartyId) -> bool {
        if self.objects.get(&id).is_some_and(|object| object.is_at(node)) {
            self.free_at(node, id);
            let place = format!("{}, which does not have it any more", self.name(node));
            self.drop_copy(id, node, &place);
        }
        self.want(from, id)
    }

    /// This node does not have it any more; if none has, it is lost.
    pub(super) fn drop_copy(&mut self, id: ObjectId, node: PartyId, place: &str) {
        let Some(Object { state: State::Ready(value), .. }) = self.objects.get_mut(&id) else { return };
        let Content::Located { at, .. } = &mut value.content else { return };
        at.retain(|other| *other != node);
        value.told.retain(|other| *other != node);
        if at.is_empty() {
            self.lose(id, place);
        }
    }
}
