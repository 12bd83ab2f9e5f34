//! Filters and projections as the engine meets them: built from their specs.

use super::*;
use crate::expr::{BoundProjection, Filter, Project, col, lit};
use arrow::array::{DictionaryArray, RecordBatchOptions};
use arrow::datatypes::{Field, Int8Type, Schema};
use mobula_actors::operator::{IntoOperator, Operator, Output, Recipe};

fn run(operator: &mut dyn Operator, batch: RecordBatch) -> Vec<RecordBatch> {
    let mut out = Output::default();
    operator.process(batch, &mut out).expect("no row fails");
    out.take()
}

#[test]
fn a_filter_built_by_name_passes_the_rows_where_its_predicate_is_true() {
    let spec = Filter::new(col("i32").lt(5).and(col("flag"))).into_operator();
    assert!(matches!(&spec.recipe, Recipe::Named { name, .. } if name == "mobula/filter@1"));
    let out = run(spec.build().expect("registered").as_mut(), batch());
    assert_eq!(out, [batch().slice(0, 1)]);
}

#[test]
fn a_batch_that_passes_as_a_whole_is_not_copied_and_one_that_does_not_is_not_sent() {
    let mut filter = Filter::new(col("zero").eq(0));
    let passed = filter.apply(batch()).expect("no row fails");
    assert!(passed.columns().iter().zip(batch().columns()).all(|(a, b)| a.data_type() == b.data_type()));
    assert!(Arc::ptr_eq(filter.apply(passed.clone()).expect("no row fails").column(0), passed.column(0)));
    assert!(run(&mut Filter::new(lit(false)), batch()).is_empty());
}

#[test]
fn a_projection_built_by_name_computes_its_columns() {
    let columns = vec![col("text"), (col("i32") * 2).alias("double"), lit(1).alias("one")];
    let spec = Project::new(columns).into_operator();
    assert_eq!(spec.label, "project text, i32 * 2 as double, 1 as one");
    let out = run(spec.build().expect("registered").as_mut(), batch());
    assert_eq!(
        out[0].schema().fields().iter().map(|f| f.name().as_str()).collect::<Vec<_>>(),
        ["text", "double", "one"]
    );
    assert_eq!(printed(out[0].column(1)), ["2", "null", "-14"]);
    assert_eq!(printed(out[0].column(2)), ["1", "1", "1"]);
    assert!(!out[0].schema().field(2).is_nullable());
}

#[test]
fn an_operator_binds_again_when_the_schema_changes() {
    let mut filter = Filter::new(col("x").eq("a"));
    let plain: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
    let dictionary: ArrayRef = Arc::new(DictionaryArray::<Int8Type>::from_iter(["b", "a", "a"]));
    for (column, rows) in [(plain.clone(), 1), (dictionary, 2), (plain, 1)] {
        let batch = RecordBatch::try_from_iter([("x", column)]).expect("one column");
        assert_eq!(filter.apply(batch).expect("no row fails").num_rows(), rows);
    }
}

#[test]
fn an_error_of_the_expression_fails_the_batch() {
    let mut out = Output::default();
    let error = Filter::new(col("missing")).process(batch(), &mut out).expect_err("is refused");
    assert!(error.to_string().starts_with("column \"missing\" not found"));
}

#[test]
fn an_expression_that_cannot_travel_stays_in_this_process() {
    let odd = DataType::Timestamp(arrow::datatypes::TimeUnit::Second, Some("\"".into()));
    let spec = Filter::new(col("i32").cast(odd).is_null()).into_operator();
    assert!(matches!(&spec.recipe, Recipe::Local { call: "mobula/filter@1", .. }));
    assert!(spec.build().is_ok());
}

#[test]
fn an_expression_that_is_too_deep_is_refused_when_it_arrives() {
    let deep = (0..300).fold(col("i32"), |expr, _| expr + 0);
    let error = Filter::new(deep.gt(0)).into_operator().build().err().expect("too deep");
    assert!(error.to_string().contains("nested deeper than 200"), "{error}");
}

#[test]
fn a_projection_of_no_columns_keeps_the_number_of_rows() {
    let options = RecordBatchOptions::new().with_row_count(Some(3));
    let empty = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), vec![], &options).expect("no columns");
    assert_eq!(Project::new(vec![]).apply(&batch()).expect("no row fails"), empty);
    let ones = Project::new(vec![lit(1).alias("one")]).apply(&empty).expect("no row fails");
    assert_eq!(printed(ones.column(0)), ["1", "1", "1"]);
}

#[test]
fn two_columns_of_one_name_are_refused_and_metadata_is_kept() {
    let error = BoundProjection::new(&[col("i8"), col("i32").alias("i8")], &batch().schema()).expect_err("is refused");
    assert_eq!(error.to_string(), "two columns would be named \"i8\"; give one of them another name with .alias(..)");
    let field = Field::new("a", DataType::Int8, false).with_metadata([("unit".to_owned(), "m".to_owned())].into());
    let bound = BoundProjection::new(&[col("a").alias("b")], &Schema::new(vec![field.clone()])).expect("binds");
    assert_eq!(bound.schema().field(0), &field.with_name("b"));
}
