//! The digits pipeline, by the engine and by hand: pixels through the model, labels counted and summed.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type, Int64Type};
use mobula::prelude::*;
use mobula_actors::operator::BoxError;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use rten::{ModelOptions, RunOptions, ThreadPool, Value, ValueView};

use crate::compare::{Tally, each_file};

/// Rows of a run of the model, on both sides.
const BATCH_ROWS: usize = 1024;
const INPUT: &str = "pixels";
const OUTPUT: &str = "label";

fn example(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data").join(path)
}

/// Writes the twelve files of digits so that each has all its rows `times` times.
pub(crate) fn write_repeated(folder: &Path, times: usize) -> Result<(), BoxError> {
    for file in std::fs::read_dir(example("digits"))? {
        let from = file?.path();
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&from)?)?.build()?;
        let batches = reader.collect::<Result<Vec<_>, _>>()?;
        let schema = batches.first().ok_or("a file without rows")?.schema();
        let to = folder.join(from.file_name().ok_or("a file without a name")?);
        let mut writer = ArrowWriter::try_new(File::create(to)?, schema, None)?;
        for batch in (0..times).flat_map(|_| &batches) {
            writer.write(batch)?;
        }
        writer.close()?;
    }
    Ok(())
}

pub(crate) fn engine(session: &Session, folder: &Path) -> Result<Tally, BoxError> {
    let model = Onnx::file(example("digits_mlp.onnx")).outputs([OUTPUT]).batch_size(BATCH_ROWS);
    let labelled = session.read_parquet(folder)?.predict(model)?.select([OUTPUT])?;
    let mut all = Tally::default();
    labelled.for_each(|batch| {
        let labels = cast(batch.column(0), &DataType::Int64)?;
        let labels = labels.as_primitive::<Int64Type>().values();
        all.add(Tally { rows: labels.len() as u64, checksum: labels.iter().sum::<i64>() as u64 });
        Ok::<_, BoxError>(())
    })?;
    Ok(all)
}

/// Each thread has a model of its own, which runs on that thread's own pool of one, as the engine's workers have it.
pub(crate) fn by_hand(files: &[PathBuf], threads: usize) -> Result<Tally, BoxError> {
    let bytes = std::fs::read(example("digits_mlp.onnx"))?;
    each_file(files, threads, || {
        let pool = Arc::new(ThreadPool::with_num_threads(1));
        let model = pool.run(|| ModelOptions::with_all_ops().load(bytes.clone()))?;
        let options = RunOptions::default().with_thread_pool(Some(pool));
        let ids = [INPUT, OUTPUT].map(|name| model.find_node(name).ok_or("a tensor is not in the model"));
        let (input, output) = (ids[0]?, ids[1]?);
        Ok(move |file: &Path| {
            let builder = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.with_batch_size(BATCH_ROWS);
            let mask = ProjectionMask::roots(builder.parquet_schema(), [pixels_at(builder.schema())?]);
            let mut all = Tally::default();
            for batch in builder.with_projection(mask).build()? {
                let batch = batch?;
                let pixels = batch.column(0).as_fixed_size_list().values();
                let pixels = pixels.as_primitive::<Float32Type>().values();
                let view = ValueView::from_shape(&[batch.num_rows(), 64], pixels)?;
                let results = model.run(vec![(input, view.into())], &[output], Some(options.clone()))?;
                all.add(tally(results)?);
            }
            Ok(all)
        })
    })
}

fn pixels_at(schema: &arrow::datatypes::Schema) -> Result<usize, BoxError> {
    Ok(schema.index_of(INPUT)?)
}

fn tally(results: Vec<Value>) -> Result<Tally, BoxError> {
    match results.into_iter().next() {
        Some(Value::Int32Tensor(labels)) => {
            let labels = labels.into_data();
            let checksum = labels.iter().map(|label| i64::from(*label)).sum::<i64>();
            Ok(Tally { rows: labels.len() as u64, checksum: checksum as u64 })
        }
        _ => Err("the model gives no labels".into()),
    }
}
