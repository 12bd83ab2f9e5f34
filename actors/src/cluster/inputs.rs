//! Inputs of tasks on a node: blocks that are here, or copies fetched from where they live.
//!
//! Room for a copy is taken before a byte of it is asked for, on an edge of the pool's own, so that pools do not wait
//! for each other. Several tasks that need rows of one block share one copy, which goes when the last of them is done.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures::future::BoxFuture;

use super::frames::{InputFrame, PieceFrame};
use super::lent::Lent;
use crate::block::{Block, BlockId, BlockName, BlockRef, NodeId};
use crate::job::why::picture::{InputAt, InputPicture};
use crate::operator::{BoxError, ObjectName};
use crate::pool::task::{Arrived, Piece, TaskInput};
use crate::runtime::env::SharedEnv;
use crate::runtime::room::{Permit, RoomEdge};
use crate::units::{Bytes, Rows};

/// The way to the blocks of other nodes.
pub(crate) trait Network: Send + Sync {
    /// Brings a copy of a block, whichever node it lives on.
    fn fetch(&self, name: BlockName) -> BoxFuture<'static, Result<Block, BoxError>>;

    /// Brings an object from the head; whether it is the one is for the caller to verify.
    fn object(&self, name: ObjectName) -> BoxFuture<'static, Result<bytes::Bytes, BoxError>>;
}

/// The inputs of one pool. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inputs {
    inner: Arc<Inner>,
}

struct Inner {
    here: NodeId,
    lent: Lent,
    network: Arc<dyn Network>,
    room: RoomEdge,
    env: SharedEnv,
    /// The tasks that are here, and what each waits for.
    tasks: Mutex<BTreeMap<u64, Waits>>,
    /// Copies that tasks hold or wait for.
    copies: Mutex<BTreeMap<(NodeId, BlockId), Arc<Copy>>>,
}

/// Together longer than it takes the head to declare a node dead.
const FETCH_TRIES: u32 = 40;
const FETCH_PAUSE: Duration = Duration::from_millis(250);
/// All tries together: three of the largest block at 20 MB/s. A task whose input takes longer is tried elsewhere.
const FETCH_TIME_MAX: Duration = Duration::from_secs(300);

/// What a task waits for, and since when; nothing once its input is here.
type Waits = Option<(InputAt, Duration)>;

/// One block's copy: whoever comes first fetches, the others wait for the lock.
#[derive(Default)]
struct Copy {
    arrived: tokio::sync::Mutex<Weak<Arrived>>,
}

impl Inputs {
    pub(crate) fn new(here: NodeId, lent: Lent, network: Arc<dyn Network>, room: RoomEdge, env: SharedEnv) -> Self {
        let (tasks, copies) = (Mutex::default(), Mutex::default());
        Self { inner: Arc::new(Inner { here, lent, network, room, env, tasks, copies }) }
    }

    /// A task has come.
    pub(crate) fn begin(&self, seq: u64) {
        self.tasks().insert(seq, None);
    }

    /// A task has left.
    pub(crate) fn end(&self, seq: u64) {
        self.tasks().remove(&seq);
        self.let_the_oldest_in();
    }

    /// The oldest task here may be the one that all others wait for, while they hold all room for copies: it gets some
    /// whatever they hold.
    fn let_the_oldest_in(&self) {
        let waits = |at: &Waits| matches!(at, Some((InputAt::Room(_), _)));
        let oldest = self.tasks().first_key_value().filter(|(_, at)| waits(at)).map(|(seq, _)| *seq);
        if let Some(seq) = oldest {
            self.inner.room.make_urgent(seq);
        }
    }

    /// What the task waits for from now on, if for anything.
    fn wait(&self, seq: u64, at: Option<InputAt>) {
        let now = self.inner.env.now();
        if let Some(state) = self.tasks().get_mut(&seq) {
            *state = at.map(|at| (at, now));
        }
    }

    /// The tasks whose inputs are not all here, and what they wait for.
    pub(crate) fn pictures(&self) -> Vec<InputPicture> {
        let now = self.inner.env.now();
        let waits = |(seq, at): (&u64, &Waits)| {
            let (at, since) = (*at)?;
            Some(InputPicture { seq: *seq, at, since: now.saturating_sub(since) })
        };
        self.tasks().iter().filter_map(waits).collect()
    }

    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u64, Waits>> {
        self.inner.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The input of a task with all its blocks here.
    pub(crate) async fn bring(&self, seq: u64, input: InputFrame) -> Result<TaskInput, BoxError> {
        match input {
            InputFrame::Split(number, split, to) => Ok(TaskInput::Split(number, Arc::new(split), to)),
            InputFrame::Pieces(pieces) => {
                let mut room = self.room(seq, &pieces).await?;
                let mut brought = Vec::with_capacity(pieces.len());
                for PieceFrame { block, from, rows } in pieces {
                    if block.home != self.inner.here {
                        self.wait(seq, Some(InputAt::Fetch(block.home.0)));
                    }
                    brought.push(Piece { arrived: self.block(block, &mut room).await?, from, rows });
                }
                self.wait(seq, None);
                Ok(TaskInput::Pieces(brought.into()))
            }
        }
    }

    /// Room for all copies of a task in one claim: tasks that held some of theirs and waited for more would wait for each
    /// other.
    async fn room(&self, seq: u64, pieces: &[PieceFrame]) -> Result<Option<Permit>, BoxError> {
        let away = pieces.iter().filter(|piece| piece.block.home != self.inner.here && piece.block.rows > Rows(0));
        let bytes: Bytes = away.map(|piece| piece.block.bytes).sum();
        if bytes == Bytes(0) {
            return Ok(None);
        }
        if let Some(permit) = self.inner.room.try_take(bytes, seq) {
            return Ok(Some(permit));
        }
        self.wait(seq, Some(InputAt::Room(bytes)));
        let taking = self.inner.room.take(bytes, seq);
        self.let_the_oldest_in();
        let permit = taking.await.ok_or("the pool was stopped")?;
        self.wait(seq, None);
        Ok(Some(permit))
    }

    async fn block(&self, name: BlockName, room: &mut Option<Permit>) -> Result<Arc<Arrived>, BoxError> {
        let copy = {
            let mut copies = self.inner.copies.lock().unwrap_or_else(PoisonError::into_inner);
            copies.retain(|_, copy| copy.is_wanted());
            Arc::clone(copies.entry((name.home, name.id)).or_default())
        };
        let mut known = copy.arrived.lock().await;
        if let Some(arrived) = known.upgrade() {
            return Ok(arrived);
        }
        let arrived = Arc::new(self.arrive(name, room).await?);
        *known = Arc::downgrade(&arrived);
        Ok(arrived)
    }

    /// Tries again while the block's node may only be slow to answer: whether it is dead is the head's to say, and then
    /// this whole pool ends.
    async fn fetch(&self, network: &Arc<dyn Network>, name: &BlockName) -> Result<Block, BoxError> {
        let tried = tokio::time::timeout(FETCH_TIME_MAX, self.try_fetch(network, name)).await;
        tried.unwrap_or_else(|_| Err(format!("a block did not come within {FETCH_TIME_MAX:?}").into()))
    }

    async fn try_fetch(&self, network: &Arc<dyn Network>, name: &BlockName) -> Result<Block, BoxError> {
        let mut tries = 0;
        loop {
            match network.fetch(name.clone()).await {
                Ok(block) => return Ok(block),
                Err(error) if tries >= FETCH_TRIES => return Err(error),
                Err(error) => tracing::debug!(%error, node = name.home.0, "a block did not come, trying again"),
            }
            tries += 1;
            tokio::time::sleep(FETCH_PAUSE).await;
        }
    }

    /// The first copy of a task keeps the room of all.
    async fn arrive(&self, name: BlockName, room: &mut Option<Permit>) -> Result<Arrived, BoxError> {
        let Inner { here, lent, network, .. } = &*self.inner;
        if name.rows == Rows(0) {
            return Ok(Arrived {
                block: BlockRef::copied(name, Block::new(Vec::new())),
                _room: None,
                whole: false,
                apart: false,
            });
        }
        if name.home == *here {
            // Its room is the head's already. If it was spilled, the worker reads it back before it takes a turn.
            let block = lent.find(&name)?.named(name);
            return Ok(Arrived { block, _room: None, whole: false, apart: false });
        }
        let block = self.fetch(network, &name).await?;
        Ok(Arrived { block: BlockRef::copied(name, block), _room: room.take(), whole: false, apart: false })
    }
}

impl Copy {
    /// Whether someone holds it or is about to.
    fn is_wanted(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1 || self.arrived.try_lock().is_ok_and(|arrived| arrived.strong_count() > 0)
    }
}
