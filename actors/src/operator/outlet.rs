//! The way out of an operator: blocks leave one after another, each once the receiver has room for it.

use std::collections::VecDeque;

use actix::Addr;
use tokio::sync::mpsc;

use super::shell::{Inflow, OperatorShell};
use crate::block::BlockRef;
use crate::job::Delivery;
use crate::runtime::room::{Permit, RoomEdge};
use crate::runtime::tell::tell;

/// Who gets an operator's blocks.
#[derive(Clone)]
pub(crate) enum Receiver {
    /// The next operator, at this one of its inputs.
    Operator { shell: Addr<OperatorShell>, input: usize },
    /// The driver. The channel holds as many blocks as its port admits, and the end.
    Driver(mpsc::Sender<Delivery>),
}

/// Blocks that wait to leave, and the port they leave for.
pub(crate) struct Outlet {
    receiver: Receiver,
    port: RoomEdge,
    leaving: VecDeque<(BlockRef, Permit)>,
    granted: Option<Permit>,
    asked: bool,
}

/// What became of an attempt to send.
pub(crate) enum Sent {
    /// This block left; its old room is free.
    Left(BlockRef),
    /// Room has to be waited for: the caller asks the port and says so with [`Outlet::grant`].
    Ask(RoomEdge, crate::units::Bytes),
    /// Nothing to send, or room has been asked for already.
    Idle,
    /// The receiver is gone.
    Gone,
}

impl Outlet {
    pub(crate) fn new(receiver: Receiver, port: RoomEdge) -> Self {
        Self { receiver, port, leaving: VecDeque::new(), granted: None, asked: false }
    }

    /// Queues a block with the room it takes now.
    pub(crate) fn push(&mut self, block: BlockRef, room: Permit) {
        self.leaving.push_back((block, room));
    }

    /// Whether nothing waits to leave.
    pub(crate) fn is_empty(&self) -> bool {
        self.leaving.is_empty()
    }

    /// Sends the next block if there is room for it at the receiver.
    pub(crate) fn send(&mut self) -> Sent {
        let Some((block, _)) = self.leaving.front() else { return Sent::Idle };
        let room = match self.granted.take() {
            Some(room) => room,
            None if self.asked => return Sent::Idle,
            None => match self.port.try_take(block.bytes, PORT_KEY) {
                Some(room) => room,
                None => {
                    self.asked = true;
                    return Sent::Ask(self.port.clone(), block.bytes);
                }
            },
        };
        let Some((block, _old_room)) = self.leaving.pop_front() else { return Sent::Idle };
        if self.receiver.take(block.clone(), room) { Sent::Left(block) } else { Sent::Gone }
    }

    /// The room that was asked for came; `None` if the port was closed.
    pub(crate) fn grant(&mut self, room: Option<Permit>) {
        self.asked = false;
        self.granted = room;
    }

    /// No more blocks will come.
    pub(crate) fn end(&mut self) {
        if let Receiver::Operator { shell, input } = &self.receiver {
            tell(shell, Inflow::End { input: *input });
        }
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self) {
        self.leaving.clear();
        self.granted = None;
    }
}

/// Blocks at a port are served in order of arrival, so all have one key.
pub(crate) const PORT_KEY: u64 = 0;

impl Receiver {
    fn take(&self, block: BlockRef, room: Permit) -> bool {
        match self {
            Self::Operator { shell, input } => tell(shell, Inflow::Block { input: *input, block, room }),
            Self::Driver(driver) => driver.try_send(Delivery::Block(block, room)).is_ok(),
        }
    }
}
