//! Plans as text: as asked, optimized, and as they run.

use std::num::NonZeroUsize;

use arrow::record_batch::RecordBatch;
use mobula_actors::job::Resources;
use mobula_actors::operator::{BatchSize, IntoOperator, Isolation, local};
use mobula_actors::units::Bytes;

use crate::dataset::{Dataset, MapOptions};
use crate::expr::col;
use crate::plan::explain;
use crate::plan::lower::Site;
use crate::predict::Onnx;
use crate::session::Session;

fn session() -> Session {
    Session::local().unwrap()
}

fn digits() -> Dataset {
    session().read_parquet("examples/data/digits/*.parquet").unwrap()
}

fn same(batch: RecordBatch) -> crate::Result<RecordBatch> {
    Ok(batch)
}

fn text(dataset: &Dataset) -> String {
    explain(dataset.plan(), Site { cpus: 4, block_bytes: Bytes::mib(8) }).unwrap()
}

#[test]
fn a_read_takes_the_steps_after_it_into_its_chain() {
    let dataset = session().range(0..100).unwrap();
    let dataset = dataset.with_column("twice", col("id") * 2).unwrap().filter(col("twice").gt(10)).unwrap();
    insta::assert_snapshot!(text(&dataset.map_batches(local(same)).unwrap()), @r"
    logical plan
    map_batches local(..)
      filter twice > 10
        select id, id * 2 as twice
          range 0..100

    optimized plan
    map_batches local(..)
      filter twice > 10
        select id, id * 2 as twice
          range 0..100

    physical plan
    range 0..100 (1 split; workers 1..=1; cpu 1 each)
    -> select id, id * 2 as twice
    -> filter twice > 10
    -> map_batches local(..)
    ");
}

#[mobula_actors::remote(crate = mobula_actors)]
fn risky(batch: RecordBatch) -> crate::Result<RecordBatch> {
    Ok(batch)
}

#[test]
fn an_isolated_step_has_workers_of_its_own_and_nothing_joins_them() {
    let limits = Isolation { memory: Some(Bytes::mib(2048)), time: Some(std::time::Duration::from_secs(60)) };
    let isolated = |limits, schema| MapOptions { isolated: Some(limits), schema, ..MapOptions::default() };
    let numbers = session().range(0..100).unwrap();
    let options = isolated(limits, Some(numbers.schema().unwrap()));
    let twice = numbers.map_batches_with(risky::map(), options).unwrap().filter(col("id").gt(10)).unwrap();
    let third = twice.map_batches_with(risky::map(), isolated(Isolation::default(), None)).unwrap();
    let plan = text(&third.map_batches(local(same)).unwrap());
    insta::assert_snapshot!(plan.split_once("physical plan\n").unwrap().1, @r"
    map_batches local(..) (workers 1..=4; cpu 1 each)
      map_batches risky #2 (workers 1..=4; cpu 1 each; isolated)
        filter id > 10 (workers 1..=4; cpu 1 each)
          map_batches risky (workers 1..=4; cpu 1 each; isolated, memory 2.0 GiB, 60s a batch)
            range 0..100 (1 split; workers 1..=1; cpu 1 each)
    ");
    let refused = numbers.map_batches_with(local(same), isolated(limits, None)).unwrap_err().to_string();
    assert!(refused.contains("local(..) closure, which cannot run in a process of its own"), "{refused}");
    assert!(refused.contains("#[mobula::remote]"), "{refused}");
}

#[test]
fn columns_that_nobody_looks_at_are_not_read() {
    let dataset = digits().filter(col("digit").gt(3)).unwrap().select(["id"]).unwrap();
    insta::assert_snapshot!(text(&dataset), @r"
    logical plan
    select id
      filter digit > 3
        read_parquet examples/data/digits/*.parquet

    optimized plan
    select id
      filter digit > 3
        read_parquet examples/data/digits/*.parquet, columns [id, digit], pruned by digit > 3

    physical plan
    read_parquet examples/data/digits/*.parquet (12 splits; workers 1..=4; cpu 1 each)
    -> filter digit > 3
    -> select id
    ");
}

#[test]
fn a_filter_goes_through_a_rename_into_the_files_statistics() {
    let dataset = digits().rename([("id", "key")]).unwrap();
    let dataset = dataset.with_column("next", col("key") + 1).unwrap();
    let dataset = dataset.filter(col("key").lt(100).and(col("next").gt(5))).unwrap();
    insta::assert_snapshot!(text(&dataset), @r"
    logical plan
    filter key < 100 and next > 5
      select key, pixels, digit, key + 1 as next
        select id as key, pixels, digit
          read_parquet examples/data/digits/*.parquet

    optimized plan
    filter next > 5
      select id as key, pixels, digit, id + 1 as next
        filter id < 100
          read_parquet examples/data/digits/*.parquet, pruned by id < 100

    physical plan
    read_parquet examples/data/digits/*.parquet (1 split; workers 1..=1; cpu 1 each)
    -> filter id < 100
    -> select id as key, pixels, digit, id + 1 as next
    -> filter next > 5
    ");
}

#[test]
fn a_limit_reaches_the_read_through_columns_and_unions() {
    let one = session().range(0..1000).unwrap();
    let dataset = one.union(&one).unwrap().with_column("x", col("id") + 1).unwrap().limit(5).unwrap();
    insta::assert_snapshot!(text(&dataset.limit(7).unwrap()), @r"
    logical plan
    limit 7
      limit 5
        select id, id + 1 as x
          union
            range 0..1000
            range 0..1000

    optimized plan
    limit 5
      select id, id + 1 as x
        union
          range 0..1000, first 5 rows
          range 0..1000, first 5 rows

    physical plan
    limit 5
      select id, id + 1 as x (workers 1..=4; cpu 1 each)
        union
          range 0..1000 (1 split; workers 1..=1; cpu 1 each)
          range 0..1000 #2 (1 split; workers 1..=1; cpu 1 each)
    ");
}

#[test]
fn a_model_gets_workers_of_its_own_and_no_more_rows_than_are_wanted() {
    let model = Onnx::file("examples/data/digits_mlp.onnx").batch_size(128).workers(1..=2);
    let dataset = digits().filter(col("id").gt(5)).unwrap().predict(model).unwrap();
    insta::assert_snapshot!(text(&dataset.limit(10).unwrap()), @r"
    logical plan
    limit 10
      predict digits_mlp.onnx, batches of 128, workers 1..=2
        filter id > 5
          read_parquet examples/data/digits/*.parquet

    optimized plan
    predict digits_mlp.onnx, batches of 128, workers 1..=2
      limit 10
        filter id > 5
          read_parquet examples/data/digits/*.parquet, pruned by id > 5

    physical plan
    predict digits_mlp.onnx (batches of 128; workers 1..=2; cpu 1 each)
      limit 10
        read_parquet examples/data/digits/*.parquet (12 splits; workers 1..=4; cpu 1 each)
        -> filter id > 5
    ");
}

#[test]
fn a_model_shares_the_workers_of_a_read_with_splits_enough() {
    let model = Onnx::file("examples/data/digits_mlp.onnx").batch_size(128).workers(1..=2);
    let two_cores = Site { cpus: 2, block_bytes: Bytes::mib(8) };
    let physical = |dataset: &Dataset| {
        let text = explain(dataset.plan(), two_cores).unwrap();
        text.split_once("physical plan\n").unwrap().1.to_owned()
    };
    let twice = digits().with_column("twice", col("id") * 2).unwrap();
    insta::assert_snapshot!(physical(&twice.predict(model.clone()).unwrap()), @r"
    read_parquet examples/data/digits/*.parquet (12 splits; batches of 128; workers 1..=2; cpu 1 each)
    -> select id, pixels, digit, id * 2 as twice
    -> predict digits_mlp.onnx
    ");
    // Not behind a function that may leave a few rows of each batch.
    let mapped = digits().map_batches(local(same)).unwrap();
    insta::assert_snapshot!(physical(&mapped.predict(model).unwrap()), @r"
    predict digits_mlp.onnx (batches of 128; workers 1..=2; cpu 1 each)
      read_parquet examples/data/digits/*.parquet (12 splits; workers 1..=2; cpu 1 each)
      -> map_batches local(..)
    ");
}

#[test]
fn a_step_with_resources_or_a_batch_size_starts_an_operator() {
    let numbers = session().range(0..10).unwrap();
    let options =
        MapOptions { resources: Some(Resources { gpus: 1.0, ..Resources::cpu(1.0) }), ..MapOptions::default() };
    let batched = local(same).into_operator().with_batch(BatchSize::Rows(NonZeroUsize::new(64).unwrap()));
    let dataset = numbers.map_batches_with(local(same), options).unwrap().filter(col("id").gt(1)).unwrap();
    let dataset = dataset.map_batches(batched).unwrap().with_column("y", col("id") + 1).unwrap();
    insta::assert_snapshot!(text(&dataset.map_batches(local(same)).unwrap()), @r"
    logical plan
    map_batches local(..)
      select id, id + 1 as y
        map_batches local(..), batches of 64
          filter id > 1
            map_batches local(..), cpu 1, gpu 1
              range 0..10

    optimized plan
    map_batches local(..)
      select id, id + 1 as y
        map_batches local(..), batches of 64
          filter id > 1
            map_batches local(..), cpu 1, gpu 1
              range 0..10

    physical plan
    map_batches local(..) #3 (workers 1..=4; cpu 1 each)
      map_batches local(..) #2 (batches of 64; workers 1..=4; cpu 1 each)
      -> select id, id + 1 as y
        filter id > 1 (workers 1..=4; cpu 1 each)
          map_batches local(..) (workers 1..=4; cpu 1, gpu 1 each)
            range 0..10 (1 split; workers 1..=1; cpu 1 each)
    ");
}

#[test]
fn neighbouring_filters_fuse_unless_the_second_could_fail_on_rows_of_the_first() {
    let numbers = session().range(0..10).unwrap();
    let safe = numbers.filter(col("id").ne(0)).unwrap().filter(col("id").lt(7)).unwrap();
    insta::assert_snapshot!(text(&safe), @r"
    logical plan
    filter id < 7
      filter id != 0
        range 0..10

    optimized plan
    filter id != 0 and id < 7
      range 0..10

    physical plan
    range 0..10 (1 split; workers 1..=1; cpu 1 each)
    -> filter id != 0 and id < 7
    ");
    let unsafe_to_fuse = numbers.filter(col("id").lt(7)).unwrap().filter((col("id") * col("id")).gt(1)).unwrap();
    insta::assert_snapshot!(text(&unsafe_to_fuse), @r"
    logical plan
    filter id * id > 1
      filter id < 7
        range 0..10

    optimized plan
    filter id * id > 1
      filter id < 7
        range 0..10

    physical plan
    range 0..10 (1 split; workers 1..=1; cpu 1 each)
    -> filter id < 7
    -> filter id * id > 1
    ");
}

#[test]
fn a_costly_column_is_not_computed_twice() {
    let numbers = session().range(0..10).unwrap();
    let square = numbers.with_column("square", col("id") * col("id")).unwrap();
    let dataset = square.with_column("quartic", col("square") * col("square")).unwrap();
    insta::assert_snapshot!(text(&dataset), @r"
    logical plan
    select id, square, square * square as quartic
      select id, id * id as square
        range 0..10

    optimized plan
    select id, square, square * square as quartic
      select id, id * id as square
        range 0..10

    physical plan
    range 0..10 (1 split; workers 1..=1; cpu 1 each)
    -> select id, id * id as square
    -> select id, square, square * square as quartic
    ");
}

#[test]
fn steps_that_do_nothing_are_left_out() {
    let numbers = session().range(0..10).unwrap();
    let dataset = numbers.select(["id"]).unwrap().limit(100).unwrap().unordered().unwrap().unordered().unwrap();
    insta::assert_snapshot!(text(&dataset.union(&numbers.limit(0).unwrap()).unwrap()), @r"
    logical plan
    union
      unordered
        unordered
          limit 100
            select id
              range 0..10
      limit 0
        range 0..10

    optimized plan
    unordered
      range 0..10

    physical plan
    range 0..10 (1 split; workers 1..=1; cpu 1 each; any order)
    ");
}

#[test]
fn what_is_behind_an_unknown_step_is_worked_out_as_it_runs() {
    let fails_on_none = local(|batch: RecordBatch| match batch.num_rows() {
        0 => Err("no rows"),
        _ => Ok(batch),
    });
    let dataset = session().range(0..10).unwrap().map_batches(fails_on_none).unwrap();
    let dataset = dataset.with_column("y", col("id") + 1).unwrap().drop_columns(["id"]).unwrap();
    insta::assert_snapshot!(text(&dataset.rename([("y", "z")]).unwrap()), @r"
    logical plan
    rename y as z
      drop_columns id
        with_column id + 1 as y
          map_batches local(..)
            range 0..10

    optimized plan
    rename y as z
      drop_columns id
        with_column id + 1 as y
          map_batches local(..)
            range 0..10

    physical plan
    range 0..10 (1 split; workers 1..=1; cpu 1 each)
    -> map_batches local(..)
    -> with_column id + 1 as y
    -> drop_columns id
    -> rename y as z
    ");
}
