//! Names of stored values, and of who may hold them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A process that takes part in tasks: a driver, or a node. The head gives the number; a process that comes back is another
/// party. In a session of one process there is one, number 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct PartyId(pub u64);

/// Drivers are numbered from this on; below it are nodes, by their node number, and 0 is the head's own.
pub(crate) const DRIVERS_FROM: u64 = 1 << 32;

impl PartyId {
    /// Whether values can be kept there and tasks run there.
    pub(crate) fn is_node(self) -> bool {
        self.0 < DRIVERS_FROM
    }
}

/// Name of a stored value: the result of a task, an item of its stream, or what was put. Whoever makes it names it, so
/// that nobody waits for a name; none comes again.
///
/// ```
/// # use mobula_actors::{node::{Node, NodeConfig}, operator::BoxError};
/// # let node = Node::start(NodeConfig::default())?;
/// let tasks = node.tasks()?;
/// let (one, other) = (tasks.put(1u64)?, tasks.put(1u64)?);
/// assert!(one.id() < other.id());
/// assert_eq!(one.id().to_string(), "object-0.1");
/// # Ok::<(), BoxError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ObjectId {
    /// Who made the name.
    pub(crate) party: PartyId,
    /// Which of its names.
    pub(crate) number: u64,
    /// 0 for a value of its own; items of a stream count from 1, and 0 is then its end.
    pub(crate) index: u32,
}

impl ObjectId {
    /// A value of its own, or a task by its result.
    pub(crate) fn new(party: PartyId, number: u64) -> Self {
        Self { party, number, index: 0 }
    }

    /// An item of the stream of this task.
    pub(crate) fn item(self, index: u32) -> Self {
        Self { index, ..self }
    }

    /// The task that makes it, by its result.
    pub(crate) fn task(self) -> Self {
        Self { index: 0, ..self }
    }
}

/// `object-0.17`, or `object-0.17[3]` in a stream.
impl fmt::Display for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "object-{}.{}", self.party.0, self.number)?;
        if self.index > 0 {
            write!(f, "[{}]", self.index)?;
        }
        Ok(())
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_short_to_read() {
        let task = ObjectId::new(PartyId(3), 17);
        assert_eq!(task.to_string(), "object-3.17");
        assert_eq!(task.item(2).to_string(), "object-3.17[2]");
        assert_eq!(task.item(2).task(), task);
    }
}
