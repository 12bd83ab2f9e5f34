//! K-means over 150 flowers as a graph of tasks: load, clusters, train, predict.
//!
//!     cargo run --release --example kmeans_iris               # here
//!     cargo run --release --example kmeans_iris -- cluster    # on a cluster of child processes
//!
//! What one learns: results are arguments of other tasks by reference, so the whole graph is submitted without waiting
//! for any of it. A task may give a stream of results, and references may stand inside values.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

#[path = "support/iris.rs"]
mod iris;
#[path = "support/processes.rs"]
mod processes;

use std::array::from_fn;
use std::error::Error;

use iris::{Flower, nearest};
use mobula::prelude::*;
use mobula::task::tasks;

/// The sum of flowers, and how many they are.
type Sum = [f64; 5];

/// The flowers, in parts of so many.
#[mobula::remote]
fn load(path: &str, rows: usize, parts: &mut Results<Vec<Flower>>) -> OperatorResult<()> {
    iris::read(path)?.chunks(rows).try_for_each(|part| parts.give(part.to_vec()))
}

/// Where to begin: the first flower, then the one that is the farthest from those before it.
#[mobula::remote]
fn clusters(parts: Vec<ObjectRef<Vec<Flower>>>, count: usize) -> OperatorResult<Vec<Flower>> {
    let flowers: Vec<Flower> = tasks()?.get_all(&parts)?.iter().flat_map(|part| part.to_vec()).collect();
    let mut centres = flowers.get(..1).ok_or("no flowers")?.to_vec();
    while centres.len() < count {
        let far = |flower: &&Flower| nearest(flower, &centres).1;
        centres.extend(flowers.iter().max_by(|a, b| far(a).total_cmp(&far(b))).copied());
    }
    Ok(centres)
}

/// For each centre, the sum of the flowers that are nearest to it.
#[mobula::remote]
fn assign(part: &[Flower], centres: &[Flower]) -> OperatorResult<Vec<Sum>> {
    let mut sums = vec![[0.0; 5]; centres.len()];
    for flower in part {
        let sum = sums[nearest(flower, centres).0].iter_mut();
        sum.zip(flower.iter().chain([&1.0])).for_each(|(sum, value)| *sum += value);
    }
    Ok(sums)
}

#[mobula::remote]
fn add(a: &[Sum], b: &[Sum]) -> OperatorResult<Vec<Sum>> {
    Ok(a.iter().zip(b).map(|(a, b)| from_fn(|i| a[i] + b[i])).collect())
}

/// The middles of the flowers that were summed.
#[mobula::remote]
fn update(sums: &[Sum]) -> OperatorResult<Vec<Flower>> {
    Ok(sums.iter().map(|sum| from_fn(|i| sum[i] / sum[4])).collect())
}

#[mobula::remote]
fn predict(part: &[Flower], centres: &[Flower]) -> OperatorResult<Vec<usize>> {
    Ok(part.iter().map(|flower| nearest(flower, centres).0).collect())
}

fn main() -> Result<(), Box<dyn Error>> {
    processes::serve_if_asked()?;
    let on_cluster = std::env::args().nth(1).as_deref() == Some("cluster");
    // The processes end when this is dropped.
    let cluster = on_cluster.then(|| processes::Processes::start(&["", ""])).transpose()?;
    let session = cluster.as_ref().map_or_else(Session::local, |cluster| cluster.connect())?;

    let stream = session.submit(load::task("examples/data/iris.csv".to_owned(), 25))?;
    let parts = stream.collect::<Result<Vec<_>, _>>()?;
    let mut centres = session.submit(clusters::task(parts.clone(), 3))?;
    // Ten rounds of training are more than it takes; nothing here waits for them.
    for _ in 0..10 {
        let assigned = parts.iter().map(|part| session.submit(assign::task(part, &centres)));
        let sums = assigned.reduce(|sum, next| session.submit(add::task(sum?, next?))).ok_or("no flowers")??;
        centres = session.submit(update::task(sums))?;
    }
    let predict = |part| session.submit(predict::task(part, &centres));
    let predicted = parts.iter().map(predict).collect::<mobula::Result<Vec<_>>>()?;

    let centres = session.get(&centres)?;
    let labels = session.get_all(&predicted)?.iter().flat_map(|part| part.to_vec()).collect::<Vec<_>>();
    for (index, centre) in centres.iter().enumerate() {
        let flowers = labels.iter().filter(|label| **label == index).count();
        println!("centre {centre:.3?}: {flowers} flowers");
    }
    if iris::are_expected(&centres)? { Ok(()) } else { Err("these are not the expected centres".into()) }
}
