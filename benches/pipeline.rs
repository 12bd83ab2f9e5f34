//! How much of a hand-written loop's throughput does the engine reach? Parquet files through a model, rows counted and
//! results summed by the driver, nothing written.
//!
//! - `taxi`: 12 shards of 1 M trips; all 18 columns are read and a function scores one of them, as the example does.
//! - `taxi_one_column`: the same where only the column that is scored is read, so that there is little to hide behind.
//! - `digits`: the 12 files of digits, each with its rows 500 times (898,500 rows), through the ONNX model.
//!
//! The loop uses the same Parquet reader, the same scoring function or model engine, the same batch size where one is
//! given, and as many threads as the engine has cores; its threads take file after file. Both take turns in the same run.
//! `--rows N` makes smaller shards, `--rounds N` more or fewer rounds, `--only taxi` one of the three.
#![allow(clippy::disallowed_methods, reason = "a bench takes real time, and the loop it compares with has threads")]
#![allow(clippy::print_stdout, reason = "a bench says what it found")]

#[path = "support/compare.rs"]
mod compare;
#[path = "support/digits_sides.rs"]
mod digits;
#[path = "../examples/support/taxi.rs"]
mod shards;
#[path = "support/taxi_sides.rs"]
mod taxi;

use mobula::prelude::*;
use mobula_actors::operator::BoxError;

use compare::{compare, made_once};
use taxi::Columns;

const SHARDS: u32 = 12;
/// Rows of a shard.
const ROWS: usize = 1_000_000;
/// How often each digit is there.
const TIMES: usize = 500;
const ROUNDS: usize = 15;

fn main() -> Result<(), BoxError> {
    let rows = number("--rows", ROWS)?;
    let rounds = number("--rounds", ROUNDS)?;
    let only = value("--only");
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only == name);
    let session = Session::local()?;
    let threads = session.cpus();

    let mut figures = Vec::new();
    let (trips, shards) = made_once(&format!("taxi-{rows}"), |folder| {
        shards::write_shards(folder, SHARDS, rows, 2009).map(|_| ()).map_err(|error| error.to_string().into())
    })?;
    let weights = taxi::weights();
    for (name, columns) in [("taxi", Columns::All), ("taxi_one_column", Columns::Passengers)] {
        if wanted(name) {
            let engine = || taxi::engine(&session, &trips, columns);
            let by_hand = || taxi::by_hand(&shards, threads, columns, &weights);
            figures.extend(compare(name, rounds, engine, by_hand)?);
            say_where_time_went(&session);
        }
    }
    let (digits, files) = made_once(&format!("digits-{TIMES}"), |folder| digits::write_repeated(folder, TIMES))?;
    if wanted("digits") {
        let engine = || digits::engine(&session, &digits);
        figures.extend(compare("digits", rounds, engine, || digits::by_hand(&files, threads))?);
        say_where_time_went(&session);
    }
    figures.iter().for_each(|figure| println!("{figure}"));
    Ok(())
}

/// What the engine's last run says of itself.
fn say_where_time_went(session: &Session) {
    let Some(summary) = session.stats() else { return };
    for operator in &summary.operators {
        println!(
            "  {}: {} rows out, {} blocks, {} tasks, busy {:?}, waited for input {:?}, room {:?}, a core {:?}",
            operator.name,
            operator.rows_out,
            operator.blocks_out,
            operator.tasks,
            operator.busy,
            operator.waited_input,
            operator.waited_room,
            operator.waited_lease,
        );
    }
    println!("  elapsed {:?}, most bytes of blocks {}", summary.elapsed, summary.blocks_bytes_peak);
}

/// The word behind `name` on the command line.
fn value(name: &str) -> Option<String> {
    std::env::args().skip_while(|arg| arg != name).nth(1)
}

fn number(name: &str, without: usize) -> Result<usize, BoxError> {
    match value(name) {
        Some(text) => text.parse().map_err(|_| format!("{name} wants a number, not {text:?}").into()),
        None => Ok(without),
    }
}
