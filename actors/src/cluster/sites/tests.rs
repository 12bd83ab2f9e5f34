//! A pool on a node that takes its stream and never reads it, beside one on a node that works.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};

use crate::block::{Block, BlockId, BlockName, Home, NodeId};
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

#[test]
fn a_node_that_does_not_read_its_stream_is_as_good_as_gone() {
    let config = NodeConfig { cpus: Some(1), ..NodeConfig::default() };
    let cluster = LocalCluster::start(vec![config]).expect("a node");
    let name = NodeName::new("deaf").expect("a name");
    cluster.head().add(Arc::new(Deaf::default()), name, &Resources::cpu(1.0), Bytes::mib(64));
    let split =
        |number| Split { label: format!("row {number}"), rows: Some(Rows(1)), bytes: Bytes(8), payload: vec![] };
    let source = SourceSpec::local("singles", Arc::new(Single));
    let read = OperatorPlan {
        name: "read".into(),
        inputs: Vec::new(),
        logic: Logic::Read { source, splits: (0..20).map(split).collect(), chain: Vec::new() },
        workers: Workers { min: 2, max: 2 },
        resources: Resources::default(),
        ordered: true,
    };
    let mut job = cluster.submit(Topology { operators: vec![read], ..Topology::default() }).expect("it starts");
    let rows = cluster.block_on(async move {
        let mut rows = 0;
        while let Some(block) = job.next().await.expect("it runs") {
            rows += block.rows().0;
        }
        rows
    });
    assert_eq!(rows, 20);
}
