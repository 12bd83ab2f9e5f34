//! A test: a job goes on around a part that is finished.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use mobula_actors::block::{Segment, Segments};
use mobula_actors::ledger::{Recorder, Results};
use mobula_actors::runtime::{SharedDisk, SystemDisk};
use mobula_actors::units::Rows;

use super::folder::{Folder, HIDDEN};
use super::recorder::PartRecorder;
use super::tests::reading;
use super::{Format, OutputDir, Prepared, WriteMode, WriteOptions};
use crate::io::testing::{ids, write_task};
use crate::session::Session;

const FILES: u32 = 12;
const FINISHED: u32 = 5;

/// Makes of a finished write one that was killed when only the rows of one file in the middle were recorded.
fn unfinish(out: &Path, options: &WriteOptions, rows: std::ops::Range<i64>) {
    let disk: SharedDisk = Arc::new(SystemDisk);
    let (_, folder) = Folder::all(&*disk, out).unwrap().pop().unwrap();
    let plan = folder.plan(&*disk).unwrap().unwrap();
    fs::remove_dir_all(out).unwrap();
    let schema = ids(0..0).schema();
    let Prepared::Job(output) = OutputDir::prepare(out, Format::Parquet, &schema, options, &plan).unwrap() else {
        panic!("an empty folder holds no job")
    };
    let there = mobula_actors::function::decode(&mobula_actors::function::encode(&*output).unwrap()).unwrap();
    let mut recorder = PartRecorder::open(there, &reading(FILES), &disk).unwrap();
    let segment = Segment { source: 0, split: FINISHED, from: Rows(0), to: Segment::END };
    let batches = write_task(&output, 3, 1, &[ids(rows)]);
    recorder.record(vec![Results { batches, segments: Segments::one(segment) }]).unwrap();
    output.hand_over();
}

#[test]
fn files_made_later_keep_the_order_of_the_rows_around_one_that_was_finished() {
    let root = tempfile::tempdir().unwrap();
    let (input, out) = (root.path().join("in"), root.path().join("out"));
    let session = Session::local().unwrap();
    for file in 0..i64::from(FILES) {
        let rows = session.from_batches(vec![ids(file * 10..file * 10 + 10)]).unwrap();
        rows.write_parquet_with(&input, WriteOptions::default().mode(WriteMode::Append)).unwrap();
    }
    fs::remove_dir_all(input.join(HIDDEN)).unwrap();
    let files = session.read_parquet(&input).unwrap();
    let options = WriteOptions::default();
    files.write_parquet_with(&out, options.clone()).unwrap();
    let finished = i64::from(FINISHED) * 10..i64::from(FINISHED) * 10 + 10;
    unfinish(&out, &options, finished);
    let written = files.write_parquet_with(&out, options).unwrap();
    assert_eq!(written.files.len(), 3, "before it, itself, and behind it: {:?}", written.files);
    let batches = session.read_parquet(&out).unwrap().collect().unwrap();
    let ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch["id"].as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids, (0..i64::from(FILES) * 10).collect::<Vec<_>>());
}
