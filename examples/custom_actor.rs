//! An operator that is an actor: it takes batches from the stream, and other messages at any time.
//!
//!     cargo run --example custom_actor
//!
//! What one learns: an actix actor with a handler for `Process` is an operator. Keep a clone of its `ActorOperator`:
//! while the stream runs, it gives the addresses of the live actors. State lives in the actor, without a lock.

#![allow(clippy::print_stdout, reason = "an example shows what it does")]
#![allow(
    clippy::disallowed_methods,
    reason = "a question from outside carries no block, so it needs no room in a port"
)]

use std::sync::Arc;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use mobula::actix::{Actor, Context, Handler, Message, System};
use mobula::prelude::*;

/// Multiplies the column `id` by a factor that can be changed while the stream runs.
struct Multiplier {
    factor: i64,
    rows: usize,
}

impl Actor for Multiplier {
    type Context = Context<Self>;
}

impl Handler<Process> for Multiplier {
    type Result = OperatorResult<Vec<RecordBatch>>;

    fn handle(&mut self, message: Process, _: &mut Context<Self>) -> Self::Result {
        let batch = message.batch;
        self.rows += batch.num_rows();
        let ids = batch.column_by_name("id").ok_or("no column id")?.as_primitive::<Int64Type>();
        let product: Int64Array = ids.unary(|id| id * self.factor);
        Ok(vec![RecordBatch::try_new(batch.schema(), vec![Arc::new(product)])?])
    }
}

/// Another message: sets the factor; the answer is how many rows were multiplied so far.
struct SetFactor(i64);

impl Message for SetFactor {
    type Result = usize;
}

impl Handler<SetFactor> for Multiplier {
    type Result = usize;

    fn handle(&mut self, message: SetFactor, _: &mut Context<Self>) -> usize {
        self.factor = message.0;
        self.rows
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    const ROWS: i64 = 20_000_000;
    let operator = ActorOperator::new(|_: &OpenContext| Multiplier { factor: 1, rows: 0 });
    // A small budget, so that the actors cannot run far ahead of the reader below.
    let session = Session::builder().memory_budget(Bytes::mib(32)).build()?;
    let options = MapOptions { workers: Some(2..=2), ..MapOptions::default() };
    let products = session.range(0..ROWS)?.map_batches_with(operator.clone(), options)?;

    let mut batches = products.iter_batches(100_000)?;
    let first = batches.next().ok_or("no rows")??;
    println!("row 7 became {}", first.column(0).as_primitive::<Int64Type>().value(7));

    // The stream still runs: its ports are full, and the actors wait for room, not for us to be done.
    let system = System::new();
    // The second actor may still be on its way when the first has multiplied what we have read.
    while operator.addresses().len() < 2 {
        std::thread::yield_now();
    }
    for actor in operator.addresses() {
        let rows = system.block_on(actor.send(SetFactor(10)))?;
        println!("an actor had multiplied {rows} rows when it was told to go on with 10");
    }

    let last = batches.last().ok_or("only one batch")??;
    let values = last.column(0).as_primitive::<Int64Type>();
    println!("the last row, {}, became {}", ROWS - 1, values.value(values.len() - 1));
    Ok(())
}
