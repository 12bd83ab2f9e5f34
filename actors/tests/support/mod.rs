//! What the tests of the engine share: a source of numbers, topologies made by hand, and how to run them.
#![allow(dead_code, reason = "each test uses its part")]

pub(crate) mod cluster;
pub(crate) mod counter;
pub(crate) mod disk;
pub(crate) mod world;

use std::sync::{Arc, Condvar, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use mobula_actors::job::{JobError, JobSummary, Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::{
    IntoOperator, IntoSource, OpenContext, Operator, OperatorResult, OperatorSpec, Output, ReadBatch, Source, Split,
    SplitReader, local,
};
use mobula_actors::units::{Bytes, Rows};
use serde::{Deserialize, Serialize};

/// Reads the numbers that a split names, in batches of the size asked for.
#[derive(Serialize, Deserialize)]
pub(crate) struct Numbers;

pub(crate) struct NumbersReader {
    next: i64,
    end: i64,
    start: i64,
    rows: i64,
}

#[mobula_actors::source(crate = mobula_actors, name = "test/numbers@1")]
impl Source for Numbers {
    fn open(
        &self,
        split: &Split,
        rows: std::ops::Range<Rows>,
        batch: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let (start, end): (i64, i64) = mobula_actors::function::decode(&split.payload)?;
        let next = start + rows.start.0 as i64;
        let rows = (batch.bytes.0 / 8).clamp(1, batch.rows_max as u64) as i64;
        Ok(Box::new(NumbersReader { next, end, start, rows }))
    }
}

impl SplitReader for NumbersReader {
    fn next_bytes(&self) -> Bytes {
        Bytes(8 * self.rows.min(self.end - self.next) as u64)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        let to = (self.next + self.rows).min(self.end);
        if self.next == to {
            return Ok(None);
        }
        let batch = numbers(self.next..to);
        self.next = to;
        Ok(Some(batch))
    }

    fn rows_read(&self) -> Rows {
        Rows((self.next - self.start) as u64)
    }
}

/// Adds a number, on whichever node; fails at one.
#[derive(Serialize, Deserialize)]
pub(crate) struct Add {
    pub(crate) n: i64,
    pub(crate) fails_at: Option<i64>,
}

#[mobula_actors::operator(crate = mobula_actors, name = "test/add@1")]
impl Operator for Add {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let before = values(&batch);
        if let Some(bad) = self.fails_at.filter(|bad| before.contains(bad)) {
            return Err(format!("row {bad} is bad").into());
        }
        out.emit(numbers(before.into_iter().map(|value| value + self.n)));
        Ok(())
    }
}

/// Where user code is held until the test lets it go.
pub(crate) struct Gate {
    /// How many have come, and whether it is open.
    state: Mutex<(usize, bool)>,
    changed: Condvar,
}

impl Gate {
    pub(crate) const fn new() -> Self {
        Self { state: Mutex::new((0, false)), changed: Condvar::new() }
    }

    pub(crate) fn wait(&self) {
        let mut state = self.state.lock().expect("not poisoned");
        state.0 += 1;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |state| !state.1).expect("not poisoned"));
    }

    pub(crate) fn open(&self) {
        self.state.lock().expect("not poisoned").1 = true;
        self.changed.notify_all();
    }

    /// Waits until so many are held or have been.
    pub(crate) fn wait_for(&self, came: usize) {
        let state = self.state.lock().expect("not poisoned");
        drop(self.changed.wait_while(state, |state| state.0 < came).expect("not poisoned"));
    }
}

/// The gates of a test are opened whatever becomes of it.
pub(crate) struct Opens(pub(crate) Arc<Gate>);

impl Drop for Opens {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// Adds `n` to each number that `input` passes on.
pub(crate) fn add(name: &str, input: usize, n: i64) -> OperatorPlan {
    map(name, input, Add { n, fails_at: None }.into_operator())
}

/// A batch with one column `n`.
pub(crate) fn numbers(range: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(range));
    RecordBatch::try_from_iter([("n", column)]).expect("one column")
}

/// The column `n` of a batch.
pub(crate) fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column(0).as_primitive::<Int64Type>().values().to_vec()
}

/// A map function over the numbers.
pub(crate) fn each(function: impl Fn(i64) -> i64 + Clone + Send + Sync + 'static) -> OperatorSpec {
    local(move |batch: RecordBatch| Ok::<_, std::io::Error>(numbers(values(&batch).into_iter().map(&function))))
        .into_operator()
}

/// Reads `0..rows` in `splits` splits, then `chain`.
pub(crate) fn read(rows: i64, splits: i64, chain: Vec<OperatorSpec>) -> OperatorPlan {
    let size = (rows as u64).div_ceil(splits as u64).max(1) as i64;
    let starts = (0..splits).map(|n| (n * size).min(rows)..((n + 1) * size).min(rows));
    let split = |range: std::ops::Range<i64>| Split {
        label: format!("numbers {range:?}"),
        rows: Some(Rows((range.end - range.start) as u64)),
        bytes: Bytes(0),
        payload: mobula_actors::function::encode(&(range.start, range.end)).expect("two numbers"),
        file: None,
    };
    plan("read", &[], Logic::Read { source: Numbers.into_source(), splits: starts.map(split).collect(), chain })
}

pub(crate) fn map(name: &str, input: usize, spec: OperatorSpec) -> OperatorPlan {
    plan(name, &[input], Logic::Map { chain: vec![spec], task_bytes: None })
}

pub(crate) fn plan(name: &str, inputs: &[usize], logic: Logic) -> OperatorPlan {
    OperatorPlan {
        name: name.into(),
        inputs: inputs.to_vec(),
        logic,
        workers: Workers { min: 0, max: 2 },
        resources: Resources::default(),
        ordered: true,
    }
}

/// The same with more workers than two.
pub(crate) fn wide(mut plan: OperatorPlan, workers: usize) -> OperatorPlan {
    plan.workers = Workers { min: 0, max: workers };
    plan
}

/// A small node: blocks split and borders are crossed.
pub(crate) fn small() -> NodeConfig {
    NodeConfig {
        cpus: Some(2),
        memory_budget: Some(Bytes::mib(16)),
        block_bytes: Some(Bytes(4096)),
        batch_bytes: Bytes(1024),
        retry_backoff: std::time::Duration::from_millis(1),
        ..NodeConfig::default()
    }
}

/// Runs operators on a fresh node to the end; all numbers that came out, in order.
pub(crate) fn run(config: NodeConfig, operators: Vec<OperatorPlan>) -> Result<(Vec<i64>, JobSummary), JobError> {
    let node = Node::start(config).expect("a node");
    let result = run_on(&node, operators);
    nothing_is_left(&node);
    result
}

/// Blocks of a job that has ended may lie in a message that is still to be dropped, but not for long.
#[allow(clippy::disallowed_methods)]
fn nothing_is_left(node: &Node) {
    let start = std::time::Instant::now();
    while node.blocks().0 > 0 {
        assert!(start.elapsed().as_secs() < 30, "{} blocks were left behind", node.blocks().0);
        std::thread::yield_now();
    }
}

pub(crate) fn run_on(node: &Node, operators: Vec<OperatorPlan>) -> Result<(Vec<i64>, JobSummary), JobError> {
    let mut job = node.submit(Topology { operators, ..Topology::default() })?;
    let mut all = Vec::new();
    while let Some(block) = job.next_block()? {
        all.extend(block.batches().iter().flat_map(values));
    }
    Ok((all, job.summary()))
}
