//! What does a process of its own cost a step? The same function over the same rows, with a process for each worker and
//! without: one that only passes its batches on, so that the ways there and back are all there is, and one that computes.
//!
//! The rates are medians of alternating rounds.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]
#![allow(clippy::disallowed_methods, reason = "a bench measures the real time")]

use std::sync::Arc;
use std::time::Instant;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use mobula::prelude::*;

/// Rounds of each kind.
const ROUNDS: usize = 5;

#[mobula::remote]
fn pass(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    Ok(batch)
}

/// Some 15 ns a row, a few milliseconds a batch: a cheap parser, or a small model.
#[mobula::remote]
fn compute(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    let mixed = |n: i64| (0..16).fold(n as u64, |n, _| (n ^ (n >> 13)).wrapping_mul(0x9e37_79b9_7f4a_7c15)) as i64;
    let numbers = batch.column(0).as_primitive::<Int64Type>().values().iter().map(|&n| mixed(n));
    Ok(RecordBatch::try_new(batch.schema(), vec![Arc::new(Int64Array::from_iter_values(numbers))])?)
}

fn main() -> mobula::Result<()> {
    mobula::isolated_worker();
    let mut arguments = std::env::args().skip_while(|argument| argument != "--rows").skip(1);
    let rows: i64 = arguments.next().and_then(|rows| rows.parse().ok()).unwrap_or(20_000_000);
    let session = Session::local()?;
    for (name, step) in [("pass", pass::map as fn() -> _), ("compute", compute::map as fn() -> _)] {
        let (mut here, mut apart) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            here.push(rate(&session, rows, step(), None)?);
            apart.push(rate(&session, rows, step(), Some(Isolation::default()))?);
        }
        let (here, apart) = (median(here), median(apart));
        println!("figure isolated.{name}.in_process {here:.0} rows/s");
        println!("figure isolated.{name}.isolated {apart:.0} rows/s");
        println!("figure isolated.{name}.ratio {:.3} ratio", apart / here);
    }
    Ok(())
}

/// Rows a second, of workers of its own either way.
fn rate(session: &Session, rows: i64, step: OperatorSpec, isolated: Option<Isolation>) -> mobula::Result<f64> {
    let workers = Some(1..=session.cpus());
    let options = MapOptions { isolated, workers, ..MapOptions::default() };
    let dataset = session.range(0..rows)?.map_batches_with(step, options)?;
    let from = Instant::now();
    let found = dataset.count()?;
    assert_eq!(found, rows as u64);
    Ok(rows as f64 / from.elapsed().as_secs_f64())
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
