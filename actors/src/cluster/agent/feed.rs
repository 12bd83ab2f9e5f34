//! What the head sends to a pool: its tasks, whose inputs are brought while the workers run others.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ractor::ActorRef;
use tokio::sync::mpsc;

use crate::cluster::frames::{FromPool, TaskFrame, ToPool};
use crate::cluster::inputs::Inputs;
use crate::job::texts;
use crate::pool::grants::Grants;
use crate::pool::supervisor::PoolMessage;
use crate::pool::task::Task;
use crate::pool::worker::PoolShared;
use crate::runtime::tasks::spawn;

/// The tasks of one pool that are here and not reported yet, counted into those of the node as long as the pool stands.
pub(super) struct TasksHere {
    all: Arc<AtomicUsize>,
    /// By number, with the attempt.
    here: Mutex<BTreeMap<u64, u32>>,
}

impl TasksHere {
    pub(super) fn new(all: Arc<AtomicUsize>) -> Self {
        Self { all, here: Mutex::default() }
    }

    pub(super) fn came(&self, seq: u64, attempt: u32) {
        if self.lock().insert(seq, attempt).is_none() {
            self.all.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// `false` if it has left already. A worker that dies is heard of twice, with the failure and with its end, and by
    /// the second time the head may have sent the next attempt.
    pub(super) fn went(&self, seq: u64, attempt: u32) -> bool {
        let mut here = self.lock();
        let is_here = here.get(&seq) == Some(&attempt);
        if is_here {
            here.remove(&seq);
            self.all.fetch_sub(1, Ordering::Relaxed);
        }
        is_here
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, u32>> {
        self.here.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for TasksHere {
    fn drop(&mut self) {
        let left = self.lock().len();
        self.all.fetch_sub(left, Ordering::Relaxed);
    }
}

/// Takes what the head sends.
pub(super) struct Feeder {
    pub(super) pool: Arc<PoolShared>,
    pub(super) supervisor: ActorRef<PoolMessage>,
    pub(super) workers_max: usize,
    pub(super) grants: Grants,
    pub(super) inputs: Inputs,
    pub(super) outbox: mpsc::Sender<FromPool>,
    pub(super) tasks: Arc<TasksHere>,
}

impl Feeder {
    pub(super) async fn run(self, mut inbox: mpsc::Receiver<ToPool>) {
        let mut wanted = 0;
        while let Some(frame) = inbox.recv().await {
            match frame {
                ToPool::Task(task) => {
                    wanted = self.workers_max.min(wanted + 1);
                    // A pool that is gone has told the head.
                    let _ = self.supervisor.cast(PoolMessage::Grow(wanted));
                    self.tasks.came(task.seq, task.attempt);
                    self.bring(task);
                }
                ToPool::Room { seq, bytes, .. } => self.grants.granted(seq, bytes),
                ToPool::PutBack { seq, .. } => self.grants.put_back(seq),
                ToPool::Close => self.close(false),
                ToPool::Stop => self.close(true),
                ToPool::Why => self.say_why(),
            }
        }
        self.close(true);
    }

    fn say_why(&self) {
        let (pool, inputs, outbox) = (Arc::clone(&self.pool), self.inputs.pictures(), self.outbox.clone());
        spawn(async move {
            // A head that is gone needs no news.
            let _ = outbox.send(FromPool::Why(pool.picture(inputs).await)).await;
        });
    }

    fn close(&self, stop: bool) {
        if stop {
            self.pool.stop()
        } else {
            self.pool.queue.close()
        }
        let _ = self.supervisor.cast(PoolMessage::Close);
    }

    /// Queues the task once its inputs are here; meanwhile the workers run others.
    fn bring(&self, TaskFrame { seq, attempt, from, until, input }: TaskFrame) {
        self.grants.begin(seq);
        self.inputs.begin(seq);
        let (pool, inputs, outbox) = (Arc::clone(&self.pool), self.inputs.clone(), self.outbox.clone());
        let (grants, tasks) = (self.grants.clone(), Arc::clone(&self.tasks));
        spawn(async move {
            match inputs.bring(seq, input).await {
                Ok(input) => pool.queue.push(Task { seq, attempt, input, from, until, avoid: None }),
                Err(error) => {
                    // No row of it is at fault: nobody has seen them here.
                    let mut cause = texts(&*error);
                    if let Some(first) = cause.first_mut() {
                        *first = format!("its input did not come: {first}");
                    }
                    if tasks.went(seq, attempt) {
                        grants.end(seq);
                        inputs.end(seq);
                    }
                    // A head that is gone needs no news.
                    let _ = outbox.send(FromPool::Failed { seq, attempt, reached: None, cause }).await;
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use arrow::record_batch::RecordBatch;
    use futures::FutureExt;
    use futures::future::BoxFuture;

    use super::*;
    use crate::block::{Block, BlockId, BlockName, Incarnation, NodeId, Origins, Segments};
    use crate::cluster::agent::Agent;
    use crate::cluster::frames::{InputFrame, PieceFrame};
    use crate::cluster::inputs::Network;
    use crate::cluster::lent::Lent;
    use crate::cluster::site::{PoolLink, PoolOrder};
    use crate::job::{Logic, OperatorPlan, Resources, Weight, Workers};
    use crate::node::{Node, NodeConfig};
    use crate::operator::{BoxError, IntoOperator, ObjectName, local};
    use crate::units::{Bytes, Rows};

    #[test]
    fn the_late_news_of_an_attempt_leaves_the_next_one_alone() {
        let all = Arc::new(AtomicUsize::new(0));
        let tasks = TasksHere::new(Arc::clone(&all));
        tasks.came(7, 1);
        assert!(tasks.went(7, 1));
        tasks.came(7, 2);
        assert!(!tasks.went(7, 1), "the end of the worker whose failure was told before");
        tasks.came(8, 1);
        assert_eq!(all.load(Ordering::Relaxed), 2);
        assert!(tasks.went(7, 2) && !tasks.went(7, 2));
        drop(tasks);
        assert_eq!(all.load(Ordering::Relaxed), 0);
    }

    struct Nowhere;

    impl Network for Nowhere {
        fn fetch(&self, _: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
            async { Err("it is nowhere".into()) }.boxed()
        }

        fn object(&self, _: ObjectName) -> BoxFuture<'static, Result<bytes::Bytes, BoxError>> {
            async { Err("it is nowhere".into()) }.boxed()
        }
    }

    /// A pool of one worker.
    fn order() -> PoolOrder {
        let same = local(|batch: RecordBatch| Ok::<_, BoxError>(batch)).into_operator();
        let plan = OperatorPlan {
            name: "same".into(),
            inputs: vec![0],
            logic: Logic::Map { chain: vec![same], task_bytes: None },
            workers: Workers { min: 0, max: 1 },
            resources: Resources::default(),
            ordered: true,
        };
        PoolOrder {
            job: 1,
            weight: Weight::default(),
            index: 1,
            plan,
            workers: 1,
            depth: 1,
            block_bytes: Bytes::mib(1),
            batch_bytes: Bytes::mib(1),
            run: 0,
            task_progress_limit: None,
            isolates: true,
            together: 0,
        }
    }

    #[test]
    fn an_input_that_does_not_come_is_no_fault_of_its_rows() {
        let config = NodeConfig { number: 1, cpus: Some(1), ..NodeConfig::default() };
        let node = Node::start(config).expect("a node");
        let lent = Lent::new(node.parts());
        let agent = Agent::new(node.parts().clone(), node.root(), lent, Arc::new(Nowhere));
        // The head takes it for one of this node, which has let it go.
        let block = BlockName {
            id: BlockId(7),
            home: NodeId(1),
            incarnation: Incarnation(1),
            rows: Rows(10),
            bytes: Bytes(80),
            segments: Segments::default(),
            origins: Origins::default(),
        };
        let input = InputFrame::Pieces(vec![PieceFrame { block, from: 0, rows: 10 }]);
        let task = TaskFrame { seq: 3, attempt: 2, from: Rows(0), until: Rows(10), input };
        let said = node.system().block_on(async move {
            let PoolLink { to, mut from } = agent.open(order()).await.expect("a pool");
            to.send(ToPool::Task(task)).await.expect("it is there");
            loop {
                match from.recv().await {
                    Some(FromPool::Metrics(_) | FromPool::Leased) => {}
                    said => return said,
                }
            }
        });
        let Some(FromPool::Failed { seq: 3, attempt: 2, reached: None, cause }) = said else { panic!("{said:?}") };
        assert_eq!(cause, ["its input did not come: block 7 is not here any more"]);
    }
}
