//! A pool on a node that takes its stream and never reads it, or gives up in the midst of its reports, beside one on a node
//! that works.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};

use crate::block::{Block, BlockId, BlockName, Home, Incarnation, NodeId, Segments};
use crate::cluster::LocalCluster;
use crate::cluster::frames::{FromPool, ToPool};
use crate::cluster::ids::NodeName;
use crate::cluster::site::{PoolLink, PoolOrder, Site};
use crate::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use crate::node::NodeConfig;
use crate::operator::{BoxError, OpenContext, OperatorResult, ReadBatch, Source, SourceSpec, Split, SplitReader};
use crate::store::spill::SpillOutcome;
use crate::units::{Bytes, Rows};

/// A node on whose streams there is place for one frame, which stays there.
#[derive(Default)]
struct Deaf {
    held: Arc<Mutex<Vec<(mpsc::Receiver<ToPool>, mpsc::Sender<FromPool>)>>>,
}

impl Site for Deaf {
    fn id(&self) -> NodeId {
        NodeId(99)
    }

    fn name(&self) -> Arc<str> {
        "deaf".into()
    }

    fn open(&self, _: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>> {
        let held = Arc::clone(&self.held);
        async move {
            let ((to, inbox), (outbox, from)) = (mpsc::channel(1), mpsc::channel(1));
            held.lock().await.push((inbox, outbox));
            Ok(PoolLink { to, from })
        }
        .boxed()
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::new(NoHome)
    }
}

struct NoHome;

impl Home for NoHome {
    fn release(&self, _: BlockId) {}

    fn fetch(&self, _: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        async { Err("it has none".into()) }.boxed()
    }

    fn spill(&self, _: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>> {
        async { Err("it has none".into()) }.boxed()
    }
}

/// Longer than anything takes here that goes on at all.
const SOON: Duration = Duration::from_secs(60);

/// Each split has one row.
struct Single;

struct SingleReader {
    read: u64,
}

impl Source for Single {
    fn open(
        &self,
        _: &Split,
        rows: Range<Rows>,
        _: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        Ok(Box::new(SingleReader { read: rows.start.0 }))
    }
}

impl SplitReader for SingleReader {
    fn next_bytes(&self) -> Bytes {
        Bytes(8)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if std::mem::replace(&mut self.read, 1) == 1 {
            return Ok(None);
        }
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values([7]));
        Ok(Some(RecordBatch::try_from_iter([("n", column)])?))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.read)
    }
}

/// Reads twenty of them.
fn singles() -> Topology {
    let split = |number| Split {
        label: format!("row {number}"),
        rows: Some(Rows(1)),
        bytes: Bytes(8),
        payload: vec![],
        file: None,
    };
    let source = SourceSpec::local("singles", Arc::new(Single));
    let read = OperatorPlan {
        name: "read".into(),
        inputs: Vec::new(),
        logic: Logic::Read { source, splits: (0..20).map(split).collect(), chain: Vec::new() },
        workers: Workers { min: 2, max: 2 },
        resources: Resources::default(),
        ordered: true,
    };
    Topology { operators: vec![read], ..Topology::default() }
}

#[test]
fn a_node_that_does_not_read_its_stream_is_as_good_as_gone() {
    let config = NodeConfig { cpus: Some(1), ..NodeConfig::default() };
    let cluster = LocalCluster::start(vec![config]).expect("a node");
    let name = NodeName::new("deaf").expect("a name");
    cluster.head().add(Arc::new(Deaf::default()), name, &Resources::cpu(1.0), Bytes::mib(64));
    let mut job = cluster.submit(singles()).expect("it starts");
    let rows = cluster.block_on(async move {
        let mut rows = 0;
        while let Some(block) = job.next().await.expect("it runs") {
            rows += block.rows().0;
        }
        rows
    });
    assert_eq!(rows, 20);
}

/// A node whose pool gives up and has more to say, and who hears which blocks are let go there.
struct Talks {
    released: mpsc::Sender<BlockId>,
}

const TALKS: NodeId = NodeId(98);

impl Site for Talks {
    fn id(&self) -> NodeId {
        TALKS
    }

    fn name(&self) -> Arc<str> {
        "talks".into()
    }

    fn open(&self, _: PoolOrder) -> BoxFuture<'static, Result<PoolLink, BoxError>> {
        async move {
            let ((to, _), (outbox, from)) = (mpsc::channel(64), mpsc::channel(64));
            outbox.send(FromPool::GaveUp { worker: 0, cause: vec!["it has had enough".to_owned()] }).await?;
            for id in 0..BLOCKS {
                let results = vec![name(id)];
                let (left, progress) = (Bytes(0), Rows(1));
                outbox.send(FromPool::Emitted { seq: id, attempt: 1, results, left, progress, done: true }).await?;
            }
            Ok(PoolLink { to, from })
        }
        .boxed()
    }

    fn home(&self) -> Arc<dyn Home> {
        Arc::new(Hears(self.released.clone()))
    }
}

const BLOCKS: u64 = 20;

fn name(id: u64) -> BlockName {
    BlockName {
        id: BlockId(id),
        home: TALKS,
        incarnation: Incarnation(1),
        rows: Rows(1),
        bytes: Bytes(8),
        segments: Segments::default(),
        origins: Default::default(),
    }
}

struct Hears(mpsc::Sender<BlockId>);

impl Home for Hears {
    fn release(&self, id: BlockId) {
        self.0.try_send(id).expect("there is a place for each");
    }

    fn fetch(&self, _: BlockName) -> BoxFuture<'static, Result<Block, BoxError>> {
        async { Err("it has none".into()) }.boxed()
    }

    fn spill(&self, _: BlockId) -> BoxFuture<'static, Result<SpillOutcome, BoxError>> {
        async { Err("it has none".into()) }.boxed()
    }
}

#[test]
fn blocks_of_reports_that_nobody_takes_are_let_go() {
    let cluster = LocalCluster::start(vec![NodeConfig { cpus: Some(1), ..NodeConfig::default() }]).expect("a node");
    let (released, mut heard) = mpsc::channel(BLOCKS as usize);
    let node = NodeName::new("talks").expect("a name");
    cluster.head().add(Arc::new(Talks { released }), node, &Resources::cpu(1.0), Bytes::mib(64));
    let mut job = cluster.submit(singles()).expect("it starts");
    let ended = cluster.block_on(async move {
        let ended = loop {
            match job.next().await {
                Ok(Some(_)) => {}
                ended => break ended.map(|_| ()),
            }
        };
        for _ in 0..BLOCKS {
            tokio::time::timeout(SOON, heard.recv()).await.expect("each is let go");
        }
        ended
    });
    assert!(ended.expect_err("it fails").to_string().contains("it has had enough"));
}
