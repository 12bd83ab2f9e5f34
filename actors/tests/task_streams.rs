//! Tasks that give streams, in one process: each item once, not far ahead, errors at the end.
#![allow(clippy::disallowed_methods, reason = "tests wait for what happens with a deadline in real time")]

#[path = "support/tasks.rs"]
mod support;

use mobula_actors::operator::BoxError;
use mobula_actors::remote;
use mobula_actors::task::{self, Results, TaskError};
use support::{assert_empty, node};

#[remote(crate = mobula_actors, name = "test/add")]
fn add(a: u64, b: u64) -> Result<u64, BoxError> {
    Ok(a.wrapping_add(b))
}

#[remote(crate = mobula_actors, name = "test/fails")]
fn fails(text: &str) -> Result<u64, BoxError> {
    Err(text.into())
}

#[remote(crate = mobula_actors, name = "test/until_cancelled")]
fn until_cancelled() -> Result<u64, BoxError> {
    while !task::is_cancelled() {
        std::thread::yield_now();
    }
    Ok(1)
}

#[remote(crate = mobula_actors, name = "test/count_to")]
fn count_to(end: u64, out: &mut Results<u64>) -> Result<(), BoxError> {
    for n in 0..end {
        if n == 700 && task::attempt() == 1 {
            return Err("once more".into());
        }
        out.give(n)?;
    }
    Ok(())
}

#[test]
fn a_stream_gives_each_item_once_also_when_its_task_is_tried_again() {
    let (_node, tasks) = node(1);
    let stream = tasks.submit(count_to::task(1000)).expect("submitted");
    let items: Vec<u64> = stream.map(|item| *tasks.get(&item.expect("an item")).expect("here")).collect();
    assert_eq!(items, (0..1000).collect::<Vec<_>>());
    assert_empty(&tasks);
    let mut endless = tasks.submit(count_to::task(u64::MAX).attempts(1)).expect("submitted");
    assert_eq!(*tasks.get(&endless.next().expect("one").expect("item")).expect("here"), 0);
    drop(endless);
    assert_empty(&tasks);
}

#[test]
fn a_stream_does_not_run_far_ahead_and_its_error_comes_after_its_items() {
    let (_node, tasks) = node(1);
    let mut stream = tasks.submit(count_to::task(701).attempts(1)).expect("submitted");
    let first = stream.next().expect("one").expect("item");
    drop(first);
    // The maker needs the core only until it is far enough ahead: another task runs meanwhile.
    let other = tasks.submit(add::task(1, 1)).expect("submitted");
    assert_eq!(*tasks.get(&other).expect("it runs"), 2);
    assert!(tasks.counts().values < 100, "{:?}", tasks.counts());
    let rest: Vec<_> = stream.collect();
    assert_eq!(rest.len(), 700);
    assert!(rest[..699].iter().all(Result::is_ok));
    let error = rest[699].as_ref().expect_err("its error").to_string();
    assert_eq!(error, "task test/count_to failed in attempt 1 of 1: once more");
}

#[remote(crate = mobula_actors, name = "test/count_from")]
fn count_from(first: u64, out: &mut Results<u64>) -> Result<(), BoxError> {
    (first..first + 3).try_for_each(|n| out.give(n))
}

#[test]
fn a_stream_whose_argument_fails_ends_with_that_error() {
    let (_node, tasks) = node(1);
    let failed = tasks.submit(fails::task("no such row".to_owned()).attempts(1)).expect("submitted");
    tasks.wait(vec![failed.clone()], 1, None).expect("it failed");
    let late = tasks.submit(until_cancelled::task()).expect("submitted");
    let early = tasks.submit(count_from::task(&failed)).expect("submitted");
    let waits = tasks.submit(count_from::task(&late)).expect("submitted");
    let consumer = std::thread::spawn(move || waits.collect::<Vec<_>>());
    assert!(early.map(|item| item.expect_err("no items").to_string()).eq([format!(
        "task test/count_from did not run, because its argument {} is missing: task test/fails failed in attempt 1 of 1: no such row",
        failed.id()
    )]));
    tasks.cancel(&late);
    let items = consumer.join().expect("no panic");
    assert!(matches!(&items[..], [Err(TaskError::Argument { .. })]), "{items:?}");
    drop((failed, late, items));
    assert_empty(&tasks);
}
