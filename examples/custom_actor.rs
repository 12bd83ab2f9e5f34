//! An operator that is an actor: it takes batches from the stream, and other messages at any time.
//!
//!     cargo run --example custom_actor
//!
//! What one learns: an actix actor with a handler for `Process` is an operator. Keep a clone of its `ActorOperator`:
//! while the stream runs, it gives the addresses of the live actors. State lives in the actor, without a lock.

// A question from outside the stream carries no block, so it needs no room in a port.
#![allow(clippy::disallowed_methods)]

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
    let session = Session::builder().memory_budget(Bytes::mib(32)).build()?;
    let products = session.range(0..ROWS)?.map_batches(operator.clone())?;

    let mut asked = false;
    let (mut rows, mut changed) = (0, 0);
    for batch in products.iter_batches(10_000)? {
        let batch = batch?;
        let first = batch.column(0).as_primitive::<Int64Type>().value(0);
        // The stream goes on meanwhile: full ports hold the actors back, not us.
        if !asked {
            asked = true;
            for actor in operator.addresses() {
                let so_far = System::new().block_on(actor.send(SetFactor(10)))?;
                println!("an actor had multiplied {} rows when it was asked", if so_far > 0 { "some" } else { "no" });
            }
        }
        changed += usize::from(first != rows);
        rows += batch.num_rows() as i64;
    }
    println!("{rows} of {ROWS} rows came through; the factor changed on the way: {}", changed > 0);
    Ok(())
}
