//! What does the engine cost for each block and operator? No-op pipelines: nothing is computed, so what is measured is
//! messages, room, leases, order and the store.
//!
//! CPU time of the whole process (all threads, user and system), divided by blocks times operators.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::record_batch::RecordBatch;
use mobula_actors::job::{Logic, OperatorPlan, Resources, Topology, Workers};
use mobula_actors::node::{Node, NodeConfig};
use mobula_actors::operator::{
    BoxError, IntoOperator, OpenContext, OperatorResult, ReadBatch, Source, SourceSpec, Split, SplitReader, local,
};
use mobula_actors::units::{Bytes, Rows};

/// Rows of a block: a few, so that the engine's own work is all there is.
const ROWS: usize = 128;
/// Blocks of one split.
const BLOCKS_A_SPLIT: usize = 100;

/// Gives the same batch again and again.
struct Same(RecordBatch);

struct SameReader {
    batch: RecordBatch,
    left: usize,
    read: u64,
}

impl Source for Same {
    fn open(
        &self,
        split: &Split,
        rows: Range<Rows>,
        _: ReadBatch,
        _: &OpenContext,
    ) -> OperatorResult<Box<dyn SplitReader>> {
        let blocks = split.rows.unwrap_or_default().0 as usize / ROWS;
        let from = rows.start;
        let behind = from.0 as usize / ROWS;
        Ok(Box::new(SameReader { batch: self.0.clone(), left: blocks - behind, read: from.0 }))
    }
}

impl SplitReader for SameReader {
    fn next_bytes(&self) -> Bytes {
        Bytes((ROWS * 8) as u64)
    }

    fn next_batch(&mut self) -> OperatorResult<Option<RecordBatch>> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        self.read += ROWS as u64;
        Ok(Some(self.batch.clone()))
    }

    fn rows_read(&self) -> Rows {
        Rows(self.read)
    }
}

fn main() -> Result<(), BoxError> {
    // A block is exactly one batch: the target is its size.
    let bytes = Bytes((ROWS * 8) as u64);
    let node = Node::start(NodeConfig { block_bytes: Some(bytes), batch_bytes: bytes, ..NodeConfig::default() })?;
    run(&node, 4, 1_000)?;
    for operators in [1usize, 4, 15] {
        for blocks in [1_000usize, 10_000, 100_000] {
            let mut micros: Vec<f64> = Vec::new();
            for _ in 0..if blocks > 10_000 { 1 } else { 3 } {
                micros.push(run(&node, operators, blocks)?);
            }
            micros.sort_by(f64::total_cmp);
            println!("figure block_overhead.{operators}.{blocks} {:.2} us", micros[micros.len() / 2]);
        }
    }
    Ok(())
}

/// Runs `operators` no-op operators (the read is the first) over about `blocks` blocks; CPU time in microseconds for each
/// block that an operator passed on.
fn run(node: &Node, operators: usize, blocks: usize) -> Result<f64, BoxError> {
    let before = cpu_micros()?;
    let mut job = node.submit(topology(operators, blocks, node.cpus()))?;
    let mut rows = 0;
    while let Some(block) = job.next_block()? {
        rows += black_box(block).rows().0 as usize;
    }
    assert_eq!(rows, blocks * ROWS, "every row arrives once");
    let passed: u64 = job.summary().operators.iter().map(|operator| operator.blocks_out).sum();
    Ok((cpu_micros()? - before) / passed as f64)
}

fn topology(operators: usize, blocks: usize, workers: usize) -> Topology {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
    let split = |_| Split {
        label: "same".to_owned(),
        rows: Some(Rows((BLOCKS_A_SPLIT * ROWS) as u64)),
        bytes: Bytes(0),
        payload: Vec::new(),
        file: None,
    };
    let source = SourceSpec::local("same", Arc::new(Same(batch)));
    let splits: Vec<Split> = (0..blocks / BLOCKS_A_SPLIT).map(split).collect();
    let no_op = || local(Ok::<RecordBatch, BoxError>).into_operator();
    let plan = |index: usize| OperatorPlan {
        name: format!("no-op {index}").into(),
        inputs: index.checked_sub(1).into_iter().collect(),
        logic: match index {
            0 => Logic::Read { source: source.clone(), splits: splits.clone(), chain: Vec::new() },
            _ => Logic::Map { chain: vec![no_op()], task_bytes: None },
        },
        workers: Workers { min: 0, max: workers },
        resources: Resources::default(),
        ordered: true,
    };
    Topology { operators: (0..operators).map(plan).collect(), ..Topology::default() }
}

/// User and system time of this process, from the kernel's count in clock ticks of 10 ms.
fn cpu_micros() -> Result<f64, BoxError> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks * 10_000.0)
}
