//! Rows that are wide beside what the model takes of them.

use arrow::array::{AsArray, StringArray};
use mobula_actors::operator::{BoxError, local};
use mobula_actors::units::Bytes;

use super::*;
use crate::session::Session;

/// Bytes that each row carries past the model.
const PAD_BYTES: usize = 40_000;

fn session(budget: Bytes) -> Session {
    Session::builder().cpus(2).memory_budget(budget).build().expect("a session")
}

/// The digits, each with a long text.
fn padded(batch: &RecordBatch) -> Result<RecordBatch, BoxError> {
    let pads = StringArray::from_iter_values((0..batch.num_rows()).map(|_| "p".repeat(PAD_BYTES)));
    let schema = batch.schema();
    let fields = schema.fields().iter().cloned().chain([Arc::new(Field::new("pad", DataType::Utf8, false))]);
    let columns = batch.columns().iter().cloned().chain([Arc::new(pads) as _]).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?)
}

#[test]
fn columns_that_only_pass_by_count_where_the_batch_was_chosen_by_the_engine() {
    let dir = tempfile::tempdir().expect("a folder");
    let wide = dir.path().join("wide");
    let digits = session(Bytes::mib(256)).read_parquet("examples/data/digits/*.parquet").expect("digits");
    digits.map_batches(local(|batch| padded(&batch))).and_then(|rows| rows.write_parquet(&wide)).expect("written");

    // 72 MB, less than the 8,192 rows of the default batch.
    let budget = Bytes::mib(32);
    let digits = session(budget).read_parquet(wide.join("*.parquet")).expect("digits");
    let labelled = |rows: Option<usize>| {
        let model = rows.into_iter().fold(Onnx::file(DIGITS).workers(1..=1), Onnx::batch_size);
        let mut all = Vec::new();
        let predicted = digits.predict(model).expect("it fits");
        let texts = |batch: RecordBatch| -> Result<(), BoxError> {
            assert_eq!(batch["pad"].as_string::<i32>().value(0).len(), PAD_BYTES);
            let kept = batch.schema().fields().iter().position(|field| field.name() == "pad").expect("a pad");
            let mut narrow = batch;
            narrow.remove_column(kept);
            let rows = arrow::util::pretty::pretty_format_batches(&[narrow])?.to_string();
            all.extend(rows.lines().filter(|line| !line.starts_with('+')).skip(1).map(|line| line.replace(' ', "")));
            Ok(())
        };
        predicted.for_each(texts).expect("it runs");
        (all, digits.session().stats().expect("a job ran").blocks_bytes_peak)
    };
    let (chosen, peak) = labelled(None);
    assert!(peak <= budget, "blocks took {peak}");
    assert_eq!(chosen.len(), 1797);
    assert_eq!(chosen, labelled(Some(16)).0, "row for row");
}
