//! The way out of an operator: blocks leave one after another, each once the receiver's port has room for it.

use std::collections::VecDeque;

use crate::block::BlockRef;
use crate::job::why::picture::Filled;
use crate::runtime::port::Port;
use crate::runtime::room::Permit;
use crate::units::Bytes;

/// Blocks that wait to leave, and the port they leave for.
pub(crate) struct Outlet {
    port: Port<BlockRef>,
    /// Tells the receiver that no more blocks will come.
    end: Box<dyn Fn() + Send>,
    leaving: VecDeque<(BlockRef, Permit)>,
    granted: Option<Permit>,
    asked: bool,
}

/// What became of an attempt to send.
pub(crate) enum Sent {
    /// This block left; its old room is free.
    Left(BlockRef),
    /// Room has to be waited for: the caller asks the port and says so with [`Outlet::grant`].
    Ask(Port<BlockRef>, Bytes),
    /// Nothing to send, or room has been asked for already.
    Idle,
    /// The receiver is gone.
    Gone,
}

impl Outlet {
    pub(crate) fn new(port: Port<BlockRef>, end: impl Fn() + Send + 'static) -> Self {
        Self { port, end: Box::new(end), leaving: VecDeque::new(), granted: None, asked: false }
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
            None => match self.port.try_reserve(block.bytes) {
                Some(room) => room,
                None => {
                    self.asked = true;
                    return Sent::Ask(self.port.clone(), block.bytes);
                }
            },
        };
        let Some((block, _old_room)) = self.leaving.pop_front() else { return Sent::Idle };
        match self.port.push(block.clone(), room) {
            Ok(()) => Sent::Left(block),
            Err(_) => Sent::Gone,
        }
    }

    /// The room that was asked for came; `None` if the port was closed.
    pub(crate) fn grant(&mut self, room: Option<Permit>) {
        self.asked = false;
        self.granted = room;
    }

    /// The room of the port that they leave for.
    pub(crate) fn room(&self) -> Filled {
        Filled::of(self.port.edge())
    }

    /// No more blocks will come.
    pub(crate) fn end(&self) {
        (self.end)();
    }

    /// Drops what waits.
    pub(crate) fn clear(&mut self) {
        self.leaving.clear();
        self.granted = None;
    }
}
