//! A test: attempts of different workers have different names.

use mobula_actors::ledger::Recorder;
use mobula_actors::operator::{Operator, Output, TaskContext};

use super::tests::{listing, prepare, record};
use super::{OutputDir, WriteMode};
use crate::io::testing::{context, ids};

/// A worker that is amidst the first task.
fn begin(output: &OutputDir) -> Box<dyn Operator> {
    let mut operator = output.operator().unwrap().build().unwrap();
    operator.open(&context()).unwrap();
    operator.begin(&TaskContext { task: 0, attempt: 1 }).unwrap();
    operator.process(ids(0..5), &mut Output::default()).unwrap();
    operator
}

#[test]
fn a_worker_that_was_left_behind_takes_no_file_of_the_next_job() {
    let root = tempfile::tempdir().unwrap();
    let output = prepare(root.path(), WriteMode::Error).unwrap();
    let hangs = begin(&output);
    record(&output).stop();
    let first = output.folder.clone();
    drop(output);
    let next = prepare(root.path(), WriteMode::Error).unwrap();
    assert_eq!(next.folder, first, "numbers of folders come again");
    let (recorder, writes) = (record(&next), begin(&next));
    drop(hangs);
    assert_eq!(listing(&next.folder.parts()).len(), 1);
    drop(writes);
    recorder.stop();
}
