//! The 150 flowers of Iris, and the centres that another program (scikit-learn) finds in them.
//!
//! For examples, which include this file by `#[path]`.

use std::error::Error;
use std::fs;

use mobula::prelude::*;

/// Length and width of its sepals and petals, in centimetres.
pub(crate) type Flower = [f64; 4];

/// The flowers of a CSV file, whose fifth column is their species.
pub(crate) fn read(path: &str) -> OperatorResult<Vec<Flower>> {
    let flower = |line: &str| -> OperatorResult<Flower> {
        let numbers = line.split(',').take(4).map(str::parse).collect::<Result<Vec<f64>, _>>()?;
        Ok(numbers.try_into().map_err(|_| format!("{path}: not four numbers in {line}"))?)
    };
    fs::read_to_string(path)?.lines().skip(1).map(flower).collect()
}

/// The nearest of the centres, and how far it is, squared.
pub(crate) fn nearest(flower: &Flower, centres: &[Flower]) -> (usize, f64) {
    let distance = |centre: &Flower| -> f64 { flower.iter().zip(centre).map(|(a, b)| (a - b).powi(2)).sum() };
    let distances = centres.iter().map(distance).enumerate();
    distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or((0, f64::INFINITY))
}

/// Whether these are the expected centres, to a millionth, in any order.
pub(crate) fn are_expected(centres: &[Flower]) -> Result<bool, Box<dyn Error>> {
    #[derive(serde::Deserialize)]
    struct Expected {
        centers_sorted_by_sepal_length: Vec<Flower>,
    }
    let text = fs::read_to_string("examples/data/iris_kmeans_expected.json")?;
    let expected = serde_json::from_str::<Expected>(&text)?.centers_sorted_by_sepal_length;
    let mut centres = centres.to_vec();
    centres.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let near = |(a, b): (&f64, &f64)| (a - b).abs() < 1e-6;
    Ok(centres.len() == expected.len() && centres.as_flattened().iter().zip(expected.as_flattened()).all(near))
}
