//! One program that is driver, head and node: its own functions run wherever it is a node.
//!
//!     cargo run --release --example own_program -- --below 3000000    # all in this process
//!
//! On a cluster, each `node` in a terminal of its own; what follows `own_program` are the commands of `mobula`:
//!
//!     cargo build --release --example own_program; cd target/release/examples
//!     ./own_program cluster init --dir C
//!     ./own_program node --head --dir C --listen 127.0.0.1:4433 --no-compute
//!     ./own_program node --join 127.0.0.1:4433 --token $(./own_program token --dir C) --dir N1
//!     ./own_program --cluster 127.0.0.1:4433 --below 3000000
//!
//! What one learns: one call, `mobula::main_with`, reads the flags that every program of a cluster has, and one's own.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use mobula::clap::{self, Parser};
use mobula::prelude::*;

/// Finds the longest chain of n -> n / 2 if n is even, else 3 n + 1
#[derive(Parser)]
struct Flags {
    /// Try the numbers below this one
    #[arg(long, default_value_t = 100_000)]
    below: i64,
}

/// The number with the longest chain of a batch, how long that is, and in which process it was found.
#[mobula::remote]
fn longest(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    let numbers = batch.column(0).as_primitive::<Int64Type>().values();
    let best = numbers.iter().map(|number| (chain(*number), *number)).max_by_key(|(steps, number)| (*steps, -number));
    let (steps, number) = best.ok_or("a batch has rows")?;
    // Seen at the driver, whatever node this runs on.
    tracing::info!(number, steps, "the best of {} numbers", numbers.len());
    let column = |value: i64| Arc::new(Int64Array::from_value(value, 1)) as ArrayRef;
    let process = column(i64::from(std::process::id()));
    Ok(RecordBatch::try_from_iter([("number", column(number)), ("steps", column(steps)), ("process", process)])?)
}

fn chain(mut number: i64) -> i64 {
    let mut steps = 0;
    while number > 1 {
        number = if number % 2 == 0 { number / 2 } else { 3 * number + 1 };
        steps += 1;
    }
    steps
}

fn main() -> ExitCode {
    mobula::main_with(|session: Session, flags: Flags| -> mobula::Result<()> {
        let found = session.range(0..flags.below)?.map_batches(longest::map())?.collect()?;
        let column =
            |name| found.iter().flat_map(move |batch| batch[name].as_primitive::<Int64Type>().values().to_vec());
        let best = column("steps").zip(column("number")).max_by_key(|(steps, number)| (*steps, -number));
        if let Some((steps, number)) = best {
            println!("the longest chain below {} begins with {number} and has {steps} steps", flags.below);
        }
        let processes = column("process").collect::<BTreeSet<_>>();
        println!("computed by processes {processes:?}");
        Ok(())
    })
}
