//! Tests of dead letters beside an output, through crashes.

use std::fs;
use std::path::Path;

use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;
use mobula_actors::block::{Segment, Segments};
use mobula_actors::job::{DeadLetter, Place, Topology};
use mobula_actors::ledger::{Recorder, Results};
use mobula_actors::operator::Left;
use mobula_actors::units::{Bytes, Rows};

use super::recorder::PartRecorder;
use super::tests::{finish, read, reading, system};
use super::{Format, JobPlan, OutputDir, Prepared, WriteOptions, verify};
use crate::io::testing::{ids, write_task};

fn segments(from: u64, to: Rows) -> Segments {
    Segments::one(Segment { source: 0, split: 0, from: Rows(from), to })
}

fn letter(from: u64, to: u64) -> DeadLetter {
    let segment = Segment { source: 0, split: 0, from: Rows(from), to: Rows(to) };
    let places = vec![Place { input: "a.csv".into(), first: Rows(0), segment }];
    DeadLetter { operator: "score".into(), places, attempts: 6, error: "bad".into() }
}

/// A job that reads one split, begun or gone on with, and who records it.
fn begin(dir: &Path, topology: &Topology) -> (Box<OutputDir>, Box<PartRecorder>) {
    let options = WriteOptions::default();
    let plan = JobPlan::of(topology, Vec::new(), Vec::new(), (Format::Parquet, &options), Bytes(9));
    let output = match OutputDir::prepare(dir, Format::Parquet, &ids(0..0).schema(), &options, &plan) {
        Ok(Prepared::Job(output)) => output,
        other => panic!("{other:?}"),
    };
    let there = mobula_actors::function::decode(&mobula_actors::function::encode(&output).unwrap()).unwrap();
    let recorder = Box::new(PartRecorder::open(there, topology, &system()).unwrap());
    (output, recorder)
}

#[test]
fn letters_of_rows_that_are_finished_outlive_a_crash_and_those_of_others_come_again() {
    let (root, topology) = (tempfile::tempdir().unwrap(), reading(1));
    let (output, mut recorder) = begin(root.path(), &topology);
    recorder.give_up(vec![letter(3, 4), letter(7, 8)]).unwrap();
    let batches = write_task(&output, 0, 1, &[ids(0..4)]);
    recorder.record(vec![Results { batches, segments: segments(0, Rows(5)) }]).unwrap();
    output.hand_over();
    // A crash: nobody says stop.
    drop(recorder);
    let (output, mut recorder) = begin(root.path(), &topology);
    let left = Left { split: 0, from: Rows(5), to: Segment::END };
    assert_eq!((recorder.given_up(), recorder.left()), (1, [(0, vec![left])].into()));
    recorder.give_up(vec![letter(7, 8)]).unwrap();
    recorder.record(vec![Results { batches: Vec::new(), segments: segments(5, Segment::END) }]).unwrap();
    output.hand_over();
    let written = finish(recorder);
    assert_eq!((written.rows, written.given_up), (Rows(4), 2));
    let table = read(&written.dead_letters.unwrap());
    assert_eq!(table["row"].as_primitive::<UInt64Type>().values(), &[3, 7]);
    let (jobs, strangers) = verify::verify(root.path()).unwrap();
    assert!(strangers.is_empty() && jobs[0].wrong.is_empty() && jobs[0].given_up == 2, "{jobs:?}");
}

#[test]
fn a_letter_whose_commit_the_power_cut_off_is_there_once_when_its_rows_have_come_again() {
    let (root, topology) = (tempfile::tempdir().unwrap(), reading(1));
    let (output, mut recorder) = begin(root.path(), &topology);
    // Its row is not known: only the commit behind it says that the range is finished.
    let lost = || letter(0, 5);
    recorder.give_up(vec![lost()]).unwrap();
    let batches = write_task(&output, 0, 1, &[ids(0..4)]);
    recorder.record(vec![Results { batches, segments: segments(0, Rows(5)) }]).unwrap();
    let ledger = output.folder.ledger();
    output.hand_over();
    drop(recorder);
    let bytes = fs::read(&ledger).unwrap();
    fs::write(&ledger, &bytes[..bytes.len() - 1]).unwrap();
    let given_up = || verify::verify(root.path()).unwrap().0[0].given_up;
    assert_eq!(given_up(), 0);
    let (output, mut recorder) = begin(root.path(), &topology);
    assert_eq!((recorder.given_up(), recorder.left()), (0, [(0, vec![Left::all(0)])].into()));
    recorder.give_up(vec![lost()]).unwrap();
    let batches = write_task(&output, 0, 2, &[ids(0..4)]);
    recorder.record(vec![Results { batches, segments: segments(0, Segment::END) }]).unwrap();
    output.hand_over();
    let written = finish(recorder);
    assert_eq!((written.rows, written.given_up), (Rows(4), 1));
    assert_eq!((read(&written.dead_letters.unwrap()).num_rows(), given_up()), (1, 1));
}
