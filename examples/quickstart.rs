//! The shortest complete programs: make rows or read a file, compute a column, keep some rows, look at them.
//!
//!     cargo run --example quickstart
//!
//! What one learns: a `Dataset` is a description. `with_column`, `filter` and `map` only add to it, and check it against
//! the columns there are; `show`, `count` and `write_*` run it.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use mobula::prelude::*;
use serde::{Deserialize, Serialize};

/// A row of `iris.csv`; only the columns that are used are named.
#[derive(Deserialize)]
struct Flower {
    petal_length: f64,
    petal_width: f64,
    species: String,
}

/// What is computed from it.
#[derive(Serialize, Deserialize)]
struct Petal {
    species: String,
    area: f64,
}

fn main() -> mobula::Result<()> {
    let session = Session::local()?;

    // Columns: expressions, checked before anything runs.
    let squares = session.range(0..1000)?.with_column("square", col("id") * col("id"))?;
    let even = squares.filter((col("square") % lit(2)).eq(lit(0)))?;
    even.limit(3)?.show()?;
    println!("even squares: {}", even.count()?);

    // Rows: a closure from one struct to another.
    let flowers = session.read_csv("examples/data/iris.csv")?;
    let petals = flowers.map(local(|flower: Flower| Petal {
        area: flower.petal_length * flower.petal_width,
        species: flower.species,
    }))?;
    let large = petals.filter(col("area").gt(lit(14.0)))?;
    large.show()?;
    println!("large petals: {}", large.count()?);
    Ok(())
}
