//! An operator of one's own: a struct with parameters and state.
//!
//!     cargo run --example custom_operator
//!
//! What one learns: each worker gets its own value of the struct, decoded from its parameters; `open` prepares it once,
//! `process` is called for each batch, an error stops the job and names operator, task and cause.
#![allow(clippy::print_stdout, reason = "an example shows what it does")]

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array};
use arrow::datatypes::{DataType, Field, Float64Type, Schema};
use mobula::prelude::*;
use serde::{Deserialize, Serialize};

/// Gives each row the number of the nearest of some centres.
#[derive(Serialize, Deserialize)]
struct NearestCentre {
    columns: Vec<String>,
    centres: Vec<Vec<f64>>,
}

#[mobula::operator]
impl Operator for NearestCentre {
    fn open(&mut self, _: &OpenContext) -> OperatorResult {
        match self.centres.iter().find(|centre| centre.len() != self.columns.len()) {
            Some(centre) => {
                Err(format!("a centre of {} numbers for {} columns", centre.len(), self.columns.len()).into())
            }
            None => Ok(()),
        }
    }

    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        let values = self.columns.iter().map(|name| {
            let column = batch.column_by_name(name).ok_or_else(|| format!("no column {name}"))?;
            Ok(column.as_primitive_opt::<Float64Type>().ok_or_else(|| format!("{name} is not float64"))?)
        });
        let values: Vec<&Float64Array> = values.collect::<OperatorResult<_>>()?;
        let nearest: Int64Array = (0..batch.num_rows()).map(|row| self.nearest(&values, row)).collect();
        out.emit(with_column(&batch, "centre", Arc::new(nearest))?);
        Ok(())
    }
}

impl NearestCentre {
    fn nearest(&self, values: &[&Float64Array], row: usize) -> Option<i64> {
        let distance = |centre: &Vec<f64>| -> f64 {
            values.iter().zip(centre).map(|(column, middle)| (column.value(row) - middle).powi(2)).sum()
        };
        let distances = self.centres.iter().map(distance).enumerate();
        distances.min_by(|(_, a), (_, b)| a.total_cmp(b)).and_then(|(index, _)| i64::try_from(index).ok())
    }
}

fn with_column(batch: &RecordBatch, name: &str, column: ArrayRef) -> OperatorResult<RecordBatch> {
    let mut fields = batch.schema().fields().to_vec();
    fields.push(Arc::new(Field::new(name, DataType::Int64, true)));
    let columns = batch.columns().iter().cloned().chain([column]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

fn main() -> mobula::Result<()> {
    let columns = ["sepal_length", "sepal_width", "petal_length", "petal_width"].map(str::to_owned).to_vec();
    // The centres that k-means finds in these 150 flowers.
    let centres =
        vec![vec![5.006, 3.428, 1.462, 0.246], vec![5.902, 2.748, 4.394, 1.434], vec![6.85, 3.074, 5.742, 2.071]];

    let session = Session::local()?;
    let flowers = session.read_csv("examples/data/iris.csv")?;
    let nearest = flowers.map_batches(NearestCentre { columns, centres })?.materialize()?;
    for centre in 0..3 {
        let near = nearest.filter(col("centre").eq(lit(centre)))?;
        let setosa = near.filter(col("species").eq(lit("setosa")))?;
        println!("centre {centre}: {} flowers, {} of them setosa", near.count()?, setosa.count()?);
    }
    Ok(())
}
