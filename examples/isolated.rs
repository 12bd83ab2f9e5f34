//! A step that crashes now and then, and one that wants too much memory, in processes of their own: each crash costs a
//! process and an attempt, and the job gives what it would have given without.
//!
//! ```sh
//! cargo run --release --example isolated
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example shows what it does")]

use std::fs::OpenOptions;
use std::path::PathBuf;

use mobula::prelude::*;

const ROWS: i64 = 100_000;
/// What the greedy step may have: enough for some four hundred rows.
const MEMORY: Bytes = Bytes::mib(128);

/// Stands for a parser in C that is not as good as one hopes: it aborts, once, when it meets its row.
#[mobula::remote]
fn fragile(batch: RecordBatch, crashed: PathBuf) -> OperatorResult<RecordBatch> {
    // Who makes the file is the first, in any process.
    if OpenOptions::new().write(true).create_new(true).open(crashed).is_ok() {
        eprintln!("the parser does not like this row");
        std::process::abort();
    }
    Ok(batch)
}

/// Takes 256 KiB for each row while it works.
#[mobula::remote]
fn greedy(batch: RecordBatch) -> OperatorResult<RecordBatch> {
    let scratch = vec![1u8; batch.num_rows() << 18];
    std::hint::black_box(&scratch);
    Ok(batch)
}

fn main() -> mobula::Result<()> {
    // This program is also what runs in those processes.
    mobula::isolated_worker();
    let session = Session::local()?;
    let isolated = |limits| MapOptions { isolated: Some(limits), ..MapOptions::default() };

    let crashed = std::env::temp_dir().join(format!("mobula_isolated_{}", std::process::id()));
    let rows = session.range(0..ROWS)?.map_batches_with(
        fragile::map(PathBuf::from(&crashed)),
        isolated(Isolation { time: Some(std::time::Duration::from_secs(60)), ..Isolation::default() }),
    )?;
    println!("rows after a crash: {}", rows.count()?);
    println!("attempts that failed: {}", retries(&session));
    let _ = std::fs::remove_file(crashed);

    let limits = Isolation { memory: Some(MEMORY), ..Isolation::default() };
    let options = MapOptions { batch_size: Some(1000), ..isolated(limits) };
    println!(
        "rows of a greedy step: {}",
        session.range(0..ROWS / 20)?.map_batches_with(greedy::map(), options)?.count()?
    );
    println!("attempts that failed: {}", retries(&session));
    Ok(())
}

fn retries(session: &Session) -> u64 {
    session.stats().map_or(0, |stats| stats.operators.iter().map(|operator| operator.retries).sum())
}
