//! What `#[mobula::remote]`, `#[mobula::operator]` and `#[mobula::source]` make of a program that knows nothing but `mobula`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array};
use arrow::datatypes::Float64Type;
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use mobula_actors::operator::{
    IntoOperator, IntoSource, OpenContext, OperatorSpec, Output, ReadBatch, Recipe, Shared, SourceRecipe, SourceSpec,
    Split,
};
use mobula_actors::units::{Bytes, Rows};

/// Keeps the values above a threshold times a factor.
#[mobula::remote]
fn scale(batch: RecordBatch, factor: f64, _names: Vec<String>) -> Result<RecordBatch, ArrowError> {
    let values: Float64Array = batch.column(0).as_primitive::<Float64Type>().unary(|value| value * factor);
    RecordBatch::try_from_iter([("value", Arc::new(values) as ArrayRef)])
}

#[mobula::remote]
fn unchanged(batch: RecordBatch) -> Result<RecordBatch, ArrowError> {
    Ok(batch)
}

/// An operator in a module that nobody mentions again.
mod unmentioned {
    use arrow::record_batch::RecordBatch;
    use mobula_actors::operator::{Operator, OperatorResult, Output};
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    struct Quiet {
        rows: usize,
    }

    #[mobula::operator]
    impl Operator for Quiet {
        fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
            out.emit(batch.slice(0, self.rows));
            Ok(())
        }
    }
}

mod named {
    use arrow::record_batch::RecordBatch;
    use mobula_actors::operator::{Operator, OperatorResult, Output};
    use serde::{Deserialize, Serialize, Serializer};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Skip {
        pub(super) rows: usize,
    }

    #[mobula::operator(crate = mobula_actors, name = "tests/skip@1")]
    impl Operator for Skip {
        fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
            out.emit(batch.slice(self.rows, batch.num_rows() - self.rows));
            Ok(())
        }
    }

    /// Parameters that refuse to be encoded.
    #[derive(Clone, Deserialize)]
    pub(super) struct Stubborn;

    impl Serialize for Stubborn {
        fn serialize<S: Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("will not travel"))
        }
    }

    #[mobula::operator]
    impl Operator for Stubborn {
        fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
            out.emit(batch);
            Ok(())
        }
    }
}

/// A source that holds nothing but its parameters.
mod sourced {
    use mobula_actors::operator::{OpenContext, OperatorResult, ReadBatch, Source, Split, SplitReader};
    use mobula_actors::units::Rows;
    use serde::{Deserialize, Serialize};

    #[derive(Serialize, Deserialize)]
    pub(super) struct Closed {
        pub(super) why: String,
    }

    #[mobula::source(name = "tests/closed@1")]
    impl Source for Closed {
        fn open(
            &self,
            _: &Split,
            _: std::ops::Range<Rows>,
            _: ReadBatch,
            _: &OpenContext,
        ) -> OperatorResult<Box<dyn SplitReader>> {
            Err(self.why.clone().into())
        }
    }
}

fn batch(values: &[f64]) -> RecordBatch {
    let values: ArrayRef = Arc::new(Float64Array::from(values.to_vec()));
    RecordBatch::try_from_iter([("value", values)]).expect("one column")
}

fn run(spec: &OperatorSpec, batch: RecordBatch) -> Vec<f64> {
    let mut out = Output::default();
    spec.build().expect("registered").process(batch, &mut out).expect("no error");
    out.take().iter().flat_map(|b| b.column(0).as_primitive::<Float64Type>().values().to_vec()).collect()
}

fn build_error(spec: &OperatorSpec) -> String {
    spec.build().err().expect("refused").to_string()
}

#[test]
fn a_remote_function_is_still_a_function() {
    let scaled = scale(batch(&[1.0]), 3.0, Vec::new()).expect("scaled");
    assert_eq!(scaled, batch(&[3.0]));
}

#[test]
fn the_parameters_of_a_remote_function_round_trip_through_its_spec() {
    let spec = scale::map(0.1 + 0.2, vec!["a".to_owned()]);
    assert_eq!(run(&spec, batch(&[1.0, 2.0])), [0.1 + 0.2, (0.1 + 0.2) * 2.0]);
    assert_eq!(spec.label, "scale");
    assert!(matches!(&spec.recipe, Recipe::Named { name, .. } if name == "macros::scale"));
    assert_eq!(run(&unchanged::map(), batch(&[5.0])), [5.0]);
}

#[test]
fn a_remote_function_may_stand_inside_another_function() {
    #[derive(Clone, serde::Serialize, serde::Deserialize)]
    struct Settings {
        add: f64,
    }

    #[mobula::remote]
    fn shift(batch: RecordBatch, settings: Settings) -> Result<RecordBatch, ArrowError> {
        let values: Float64Array = batch.column(0).as_primitive::<Float64Type>().unary(|value| value + settings.add);
        RecordBatch::try_from_iter([("value", Arc::new(values) as ArrayRef)])
    }

    assert_eq!(run(&shift::map(Settings { add: 2.0 }), batch(&[1.0])), [3.0]);
}

#[test]
fn an_operator_in_a_private_module_that_nobody_mentions_is_found() {
    let spec = OperatorSpec::named("macros::unmentioned::Quiet", encoded(2));
    assert_eq!(run(&spec, batch(&[1.0, 2.0, 3.0])), [1.0, 2.0]);
}

#[test]
fn an_operator_is_its_own_parameters() {
    let spec = named::Skip { rows: 1 }.into_operator();
    assert_eq!(run(&spec, batch(&[1.0, 2.0, 3.0])), [2.0, 3.0]);
    assert_eq!(spec.label, "Skip");
    assert!(matches!(&spec.recipe, Recipe::Named { name, .. } if name == "tests/skip@1"));
}

#[test]
fn an_unknown_name_is_an_error_that_lists_the_names_there_are() {
    let error = build_error(&OperatorSpec::named("macros::nobody", Vec::new()));
    assert!(error.starts_with("no operator \"macros::nobody\" in this binary; it has: "), "{error}");
    for name in ["macros::scale", "macros::unmentioned::Quiet", "tests/skip@1"] {
        assert!(error.contains(name), "{name} is missing in {error}");
    }
}

#[test]
fn parameters_that_do_not_decode_are_an_error_that_names_the_operator() {
    let error = build_error(&OperatorSpec::named("tests/skip@1", Vec::new()));
    assert!(error.starts_with("parameters of operator \"tests/skip@1\": "), "{error}");
}

#[test]
fn parameters_that_do_not_encode_are_an_error_when_the_operator_is_built() {
    let error = build_error(&named::Stubborn.into_operator());
    assert_eq!(
        error.split(": ").next(),
        Some("cannot encode the parameters of operator \"macros::named::Stubborn\""),
        "{error}"
    );
}

#[test]
fn a_source_is_its_own_parameters() {
    let spec = sourced::Closed { why: "it is late".to_owned() }.into_source();
    assert_eq!(spec.label, "Closed");
    assert!(matches!(&spec.recipe, SourceRecipe::Named { name, .. } if name == "tests/closed@1"));
    let source = spec.build().expect("registered");
    let split = Split { label: String::new(), rows: None, bytes: Bytes(0), payload: Vec::new(), file: None };
    let batch = ReadBatch { bytes: Bytes::kib(1), rows_max: 1 };
    let ctx =
        OpenContext { operator: "test".into(), worker: 0, incarnation: 0, gpus: Vec::new(), shared: Shared::default() };
    assert_eq!(source.open(&split, Rows(0)..Rows(1), batch, &ctx).err().expect("closed").to_string(), "it is late");
}

#[test]
fn operators_and_sources_are_told_apart_and_listed_together() {
    let error = SourceSpec::named("tests/skip@1", Vec::new()).build().err().expect("refused").to_string();
    assert!(error.starts_with("no source \"tests/skip@1\" in this binary; it has: "), "{error}");
    assert!(error.contains("tests/closed@1") && error.contains("mobula/parquet@1"), "{error}");
    let names = mobula_actors::function::names();
    assert!(names.is_sorted());
    for name in ["macros::scale", "tests/closed@1", "tests/skip@1"] {
        assert!(names.iter().any(|found| found == name), "{name} is missing in {names:?}");
    }
}

fn encoded(rows: usize) -> Vec<u8> {
    mobula_actors::function::encode(&rows).expect("a number")
}
