//! A graph of 10,000 tasks on three nodes that are processes of their own, two of which are killed on the way: the results
//! are those of a loop. The nodes are this program, so it has a `main` of its own.
#![allow(clippy::print_stdout, reason = "a failing seed is printed")]

use bytes::Bytes as Data;
use mobula::prelude::*;
use mobula_actors::operator::BoxError;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[path = "../examples/support/processes.rs"]
mod processes;

const TASKS: u64 = 10_000;

#[mobula::remote]
fn mix(own: u64, a: &Data, b: &Data) -> Result<Data> {
    Ok(mixed(own, a, b))
}

/// Every 50th is too large to travel in messages, so that it is lost with its node.
fn mixed(own: u64, a: &[u8], b: &[u8]) -> Data {
    let number = |bytes: &[u8]| bytes.iter().take(8).fold(0u64, |n, byte| n << 8 | u64::from(*byte));
    let value = own.wrapping_mul(31).wrapping_add(number(a)).rotate_left(7) ^ number(b);
    let mut bytes = value.to_be_bytes().to_vec();
    bytes.resize(if own.is_multiple_of(50) { 100_000 } else { 8 }, own as u8);
    bytes.into()
}

fn main() -> Result<(), BoxError> {
    processes::serve_if_asked().map_err(|error| error.to_string())?;
    let seed = rand::random();
    println!("seed {seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut cluster = processes::Processes::start(&["", "", ""]).map_err(|error| error.to_string())?;
    let session = cluster.connect()?;
    let kills = [rng.random_range(1_000..5_000), rng.random_range(5_000..9_500)];
    let mut expected = vec![Data::from_static(b"12345678")];
    let mut results = vec![session.put(expected[0].clone())?];
    for own in 1..TASKS {
        let mut pick = || rng.random_range(results.len().saturating_sub(300)..results.len());
        let (a, b) = (pick(), pick());
        expected.push(mixed(own, &expected[a], &expected[b]));
        results.push(session.submit(mix::task(own, &results[a], &results[b]))?);
        if let Some(node) = kills.iter().position(|at| *at == own) {
            // Some have run, others have not.
            session.get(&results[own as usize / 2])?;
            cluster.kill(node)?;
        }
    }
    for (own, (result, expected)) in results.iter().zip(&expected).enumerate() {
        let value = session.get(result)?;
        if *value != *expected {
            return Err(format!("seed {seed}: task {own} gave another value than the loop").into());
        }
    }
    drop(results);
    println!("{TASKS} tasks gave what a loop gives, with two of three nodes killed");
    Ok(())
}
