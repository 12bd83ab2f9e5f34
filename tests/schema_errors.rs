//! What can be seen without running anything is refused by the verb that made it, with the choices there are.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::datatypes::DataType;
use mobula::prelude::*;
use serde::{Deserialize, Serialize};

/// Columns `id`: int64, `fare`: float64, `name`: utf8.
fn trips() -> Dataset {
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from(vec![1, 2]))),
        ("fare", Arc::new(Float64Array::from(vec![1.5, 2.5]))),
        ("name", Arc::new(StringArray::from(vec!["a", "b"]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    Session::local().unwrap().from_batches(vec![batch]).unwrap()
}

fn same(batch: RecordBatch) -> mobula::Result<RecordBatch> {
    Ok(batch)
}

fn refused<T>(result: mobula::Result<T>) -> String {
    result.err().expect("refused").to_string()
}

fn names(dataset: &Dataset) -> Vec<String> {
    dataset.schema().unwrap().fields().iter().map(|field| field.name().clone()).collect()
}

#[test]
fn a_missing_column_is_named_with_the_columns_there_are() {
    insta::assert_snapshot!(refused(trips().select(["id", "far"])), @r#"
    select: column "far" not found (did you mean "fare"?); there are: id, fare, name
    "#);
    insta::assert_snapshot!(refused(trips().drop_columns(["Fare"])), @r#"
    drop_columns: column "Fare" not found (did you mean "fare"?); there are: id, fare, name
    "#);
    insta::assert_snapshot!(refused(trips().rename([("nam", "n")])), @r#"
    rename: column "nam" not found (did you mean "name"?); there are: id, fare, name
    "#);
    insta::assert_snapshot!(refused(trips().filter(col("tip").gt(1))), @r#"
    filter tip > 1: column "tip" not found; there are: id, fare, name
    "#);
    insta::assert_snapshot!(refused(trips().with_column("x", col("tip") + 1)), @r#"
    with_column tip + 1 as x: column "tip" not found; there are: id, fare, name
    "#);
    let options = MapOptions { columns: Some(vec!["tip".into()]), ..MapOptions::default() };
    insta::assert_snapshot!(refused(trips().map_batches_with(local(same), options)), @r#"
    map_batches: column "tip" not found; there are: id, fare, name
    "#);
}

#[test]
fn types_that_do_not_go_together_are_refused() {
    insta::assert_snapshot!(refused(trips().filter(col("fare") + 1)), @r"
    filter fare + 1: `fare + 1` is float64, not boolean: a filter needs a condition such as a comparison
    ");
    insta::assert_snapshot!(refused(trips().filter(col("name").gt(1))), @r"
    filter name > 1: in `name > 1`: cannot compare utf8 with int32; cast one of them, for example `name` with .cast(DataType::Int32)
    ");
    insta::assert_snapshot!(refused(trips().with_column("x", col("name") * 2)), @r"
    with_column name * 2 as x: in `name * 2`: cannot multiply utf8 and int32; cast one of them, for example `name` with .cast(DataType::Int32)
    ");
}

#[test]
fn no_result_has_two_columns_of_one_name_or_none_at_all() {
    insta::assert_snapshot!(refused(trips().select(["id", "id"])), @r#"
    select: the result would have column "id" twice; give one of them another name
    "#);
    insta::assert_snapshot!(refused(trips().select(Vec::<String>::new())), @r"
    select: the result would have no column; keep at least one
    ");
    insta::assert_snapshot!(refused(trips().rename([("id", "fare")])), @r#"
    rename: the result would have column "fare" twice; give one of them another name
    "#);
    insta::assert_snapshot!(refused(trips().rename([("id", "a"), ("id", "b")])), @r#"
    rename: column "id" is given two new names
    "#);
    insta::assert_snapshot!(refused(trips().drop_columns(["id", "fare", "name"])), @r"
    drop_columns: the result would have no column; keep at least one
    ");
    let column: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = RecordBatch::try_from_iter([("a", column.clone()), ("a", column)]).unwrap();
    insta::assert_snapshot!(refused(Session::local().unwrap().from_batches(vec![batch])), @r#"
    1 batches in memory has two columns named "a"; rename one of them
    "#);
}

#[test]
fn names_can_be_swapped_replaced_and_odd() {
    assert_eq!(names(&trips().rename([("id", "name"), ("name", "id")]).unwrap()), ["name", "fare", "id"]);
    assert_eq!(names(&trips().rename([("id", "id")]).unwrap()), ["id", "fare", "name"]);
    assert_eq!(names(&trips().with_column("fare", col("id")).unwrap()), ["id", "fare", "name"]);
    let odd = trips().rename([("id", "a b.c"), ("fare", "日本"), ("name", "")]).unwrap();
    assert_eq!(names(&odd), ["a b.c", "日本", ""]);
    let odd = odd.filter(col("a b.c").gt(1)).unwrap().select(["", "a b.c"]).unwrap();
    assert_eq!(names(&odd), ["", "a b.c"]);
    assert!(odd.explain().contains("a b.c"), "{}", odd.explain());
}

#[test]
fn a_union_names_the_first_difference_and_never_goes_by_position() {
    let union = |other: mobula::Result<Dataset>| {
        let trips = trips();
        let other = other.unwrap();
        // Both in one session, as a union must be.
        let other = trips.session().from_batches(vec![RecordBatch::new_empty(other.schema().unwrap())]).unwrap();
        trips.union(&other)
    };
    insta::assert_snapshot!(refused(union(trips().drop_columns(["name"]))), @r#"
    union: the first has name: utf8, the second has no column "name"; bring both to the same columns with select, rename and cast first
    "#);
    insta::assert_snapshot!(refused(union(trips().rename([("fare", "price")]))), @r#"
    union: the first has fare: float64, the second has no column "fare"; bring both to the same columns with select, rename and cast first
    "#);
    insta::assert_snapshot!(refused(union(trips().select(["fare", "id", "name"]))), @r#"
    union: the first has "id" as column 1, the second has "id" as column 2; bring both to the same columns with select, rename and cast first
    "#);
    insta::assert_snapshot!(refused(union(trips().with_column("id", col("id").cast(DataType::Int32)))), @r"
    union: the first has id: int64, the second has id: int32; bring both to the same columns with select, rename and cast first
    ");
    insta::assert_snapshot!(refused(trips().union(&trips())), @r"
    union: the other dataset belongs to another session; make both in one
    ");
}

#[test]
fn a_union_allows_the_nulls_of_both() {
    let session = Session::local().unwrap();
    let never = session.range(0..2).unwrap();
    let column: ArrayRef = Arc::new(Int64Array::from(vec![None, Some(1)]));
    let sometimes = session.from_batches(vec![RecordBatch::try_from_iter([("id", column)]).unwrap()]).unwrap();
    assert!(never.union(&sometimes).unwrap().schema().unwrap().field(0).is_nullable());
    assert!(sometimes.union(&never).unwrap().schema().unwrap().field(0).is_nullable());
}

#[derive(Deserialize)]
struct Missing {
    #[allow(dead_code)]
    tip: f64,
}

#[derive(Serialize, Deserialize)]
struct WrongType {
    name: i64,
}

#[derive(Serialize, Deserialize)]
struct Trip {
    id: i64,
    fare: f64,
}

#[derive(Serialize, Deserialize)]
struct Tagged {
    id: i64,
    tags: Vec<String>,
    note: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Nothing {}

#[test]
fn a_row_type_is_held_against_the_columns() {
    insta::assert_snapshot!(refused(trips().map(local(|_: Missing| Trip { id: 1, fare: 1.0 }))), @r#"
    map: field of row type Missing: column "tip" not found; there are: id, fare, name
    "#);
    insta::assert_snapshot!(refused(trips().map(local(|row: WrongType| row))), @r#"
    map: row type WrongType: field "name" is int64, the column is utf8; change the field's type or cast the column
    "#);
    insta::assert_snapshot!(refused(trips().filter(local(|row: WrongType| row.name > 1))), @r#"
    filter: row type WrongType: field "name" is int64, the column is utf8; change the field's type or cast the column
    "#);
    insta::assert_snapshot!(refused(trips().map(local(|_: Trip| Nothing {}))), @r"
    map: row type Nothing: it has no fields; a row is a struct with named fields that serde can read and write
    ");
    insta::assert_snapshot!(refused(trips().map(local(|_: Trip| 1))), @r"
    map: row type i32: it is no struct; a row is a struct with named fields that serde can read and write
    ");
}

#[test]
fn the_columns_of_typed_rows_are_known_before_they_run() {
    let tagged = trips().map(local(|row: Trip| Tagged { id: row.id, tags: vec![], note: None })).unwrap();
    let schema = tagged.schema().unwrap();
    assert_eq!(schema.field(0).data_type(), &DataType::Int64);
    assert!(matches!(schema.field(1).data_type(), DataType::List(item) if item.data_type() == &DataType::Utf8));
    assert!(!schema.field(0).is_nullable() && schema.field(2).is_nullable());
}

#[test]
fn the_columns_of_a_function_are_found_by_calling_it_with_no_rows() {
    let dropping = local(|batch: RecordBatch| batch.project(&[0]));
    assert_eq!(names(&trips().map_batches(dropping.clone()).unwrap()), ["id"]);
    insta::assert_snapshot!(refused(trips().map_batches(dropping).unwrap().select(["fare"])), @r#"
    select: column "fare" not found; there are: id
    "#);
}

#[test]
fn a_function_that_fails_or_panics_on_no_rows_leaves_its_columns_open() {
    let failing = local(|batch: RecordBatch| match batch.num_rows() {
        0 => Err("no rows"),
        _ => Ok(batch),
    });
    assert!(trips().map_batches(failing).unwrap().select(["anything"]).is_ok());
    let panicking = local(|batch: RecordBatch| {
        assert!(batch.num_rows() > 0);
        same(batch)
    });
    assert!(trips().map_batches(panicking).unwrap().select(["anything"]).is_ok());
}

#[test]
fn numbers_that_make_no_sense_are_refused() {
    let map = |options| trips().map_batches_with(local(same), options);
    insta::assert_snapshot!(refused(map(MapOptions { batch_size: Some(0), ..MapOptions::default() })), @r"
    map_batches: a batch size of 0 rows; the least is 1
    ");
    insta::assert_snapshot!(refused(map(MapOptions { workers: Some(0..=2), ..MapOptions::default() })), @r"
    map_batches: workers 0..=2; write min..=max with 1 <= min <= max
    ");
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = 3..=2;
    insta::assert_snapshot!(refused(map(MapOptions { workers: Some(reversed), ..MapOptions::default() })), @r"
    map_batches: workers 3..=2; write min..=max with 1 <= min <= max
    ");
    insta::assert_snapshot!(refused(trips().iter_batches(0)), @r"
    iter_batches: a batch size of 0 rows; the least is 1
    ");
    #[allow(clippy::reversed_empty_ranges)]
    let reversed = Session::local().unwrap().range(3..2);
    insta::assert_snapshot!(refused(reversed), @r"
    range 3..2 has no rows that can be counted; the end must not be before the start
    ");
}

#[test]
fn rows_nested_as_deep_as_may_be_are_written_and_read_and_deeper_ones_refused() {
    let (dir, session) = (tempfile::tempdir().unwrap(), Session::local().unwrap());
    let (file, out) = (dir.path().join("a.json"), dir.path().join("out"));
    let write = |levels| {
        let row = format!("{}1{}\n", "{\"a\":".repeat(levels), "}".repeat(levels));
        std::fs::write(&file, row.repeat(3)).unwrap();
        session.read_json(&file)
    };
    write(32).unwrap().write_parquet(&out).unwrap();
    assert_eq!(session.read_parquet(&out).unwrap().collect().unwrap()[0].num_rows(), 3);
    let deeper = write(33).unwrap();
    let error = refused(deeper.write_parquet(dir.path().join("deeper")));
    assert!(error.contains("column \"a\" of ") && error.contains("a.json is nested deeper than 32"), "{error}");
}
