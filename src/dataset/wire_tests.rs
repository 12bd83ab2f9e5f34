//! Plans that leave the process: what the verbs make goes to the wire and back, and runs to the same rows.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use mobula_actors::job::{JobError, Logic, NotPortable, Topology, WireLogic, WireTopology};
use mobula_actors::operator::{ObjectName, Operator, OperatorResult, Output, local};
use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::expr::col;
use crate::io::{CsvOptions, Format, JobPlan, OutputDir, Prepared, WriteOptions};
use crate::plan::logical::WriteStep;
use crate::plan::{lower, rules};
use crate::predict::Onnx;
use crate::session::Session;

/// Every `step`th row.
#[mobula_actors::remote(crate = mobula_actors)]
fn thinned(batch: RecordBatch, step: usize) -> Result<RecordBatch, ArrowError> {
    let rows: Vec<_> = (0..batch.num_rows()).step_by(step).map(|row| batch.slice(row, 1)).collect();
    concat_batches(&batch.schema(), &rows)
}

/// Passes the first rows of each task on.
#[derive(Serialize, Deserialize)]
struct Head {
    rows: usize,
}

#[mobula_actors::operator(crate = mobula_actors)]
impl Operator for Head {
    fn process(&mut self, batch: RecordBatch, out: &mut Output) -> OperatorResult {
        out.emit(batch.slice(0, self.rows.min(batch.num_rows())));
        Ok(())
    }
}

fn topology(dataset: &Dataset) -> Topology {
    lower::lower(&rules::optimize(dataset.plan()), dataset.session().site()).unwrap()
}

fn over_the_wire(topology: &Topology) -> Topology {
    let bytes = topology.to_wire().unwrap().encode().unwrap();
    WireTopology::decode(&bytes).unwrap().into_topology()
}

fn run(session: &Session, topology: Topology) -> Vec<RecordBatch> {
    let mut job = session.start_job(topology).unwrap();
    let mut batches = Vec::new();
    while let Some(block) = job.next_block().unwrap() {
        batches.extend(block.batches().iter().cloned());
    }
    batches
}

/// The dataset gives the same rows if its plan was encoded and decoded.
fn check(dataset: &Dataset) {
    let expected = dataset.collect().unwrap();
    let found = run(dataset.session(), over_the_wire(&topology(dataset)));
    let schema = expected.first().unwrap().schema();
    assert_eq!(concat_batches(&schema, &found).unwrap(), concat_batches(&schema, &expected).unwrap());
}

fn refusal(dataset: &Dataset) -> NotPortable {
    topology(dataset).to_wire().unwrap_err()
}

fn pairs() -> RecordBatch {
    let names: ArrayRef = Arc::new(StringArray::from_iter_values((0..50).map(|n| format!("name {n}"))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..50));
    RecordBatch::try_from_iter([("name", names), ("id", ids)]).unwrap()
}

fn digits(session: &Session) -> Dataset {
    session.read_parquet("examples/data/digits/*.parquet").unwrap()
}

#[test]
fn functions_and_operators_travel() {
    let session = Session::local().unwrap();
    let ids = session.range(0..100_000).unwrap();
    check(&ids.map_batches(thinned::map(3)).unwrap().filter((col("id") % 2).eq(0)).unwrap());
    check(&ids.map_batches(Head { rows: 5 }).unwrap().with_column("half", col("id") / 2).unwrap());
}

#[test]
fn expressions_limits_and_unions_travel() {
    let session = Session::local().unwrap();
    let rows = session.from_batches(vec![pairs(), pairs().slice(3, 20)]).unwrap();
    let wanted = col("name").ne("name 7").and(col("id").cast(DataType::Int32).lt(30));
    let some = rows.filter(wanted).unwrap().select(["id"]).unwrap();
    check(&some);
    let nullable = rows.select([col("id").cast(DataType::Utf8).cast(DataType::Int64).alias("id")]).unwrap();
    check(&some.union(&nullable).unwrap().limit(40).unwrap());
    let nothing = rows.limit(0).unwrap();
    assert_eq!(run(&session, over_the_wire(&topology(&nothing))), []);
}

#[test]
fn files_of_all_formats_travel() {
    let session = Session::local().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (csv, json) = (dir.path().join("csv"), dir.path().join("json"));
    let rows = session.from_batches(vec![pairs()]).unwrap();
    rows.write_csv(&csv).unwrap();
    rows.write_json(&json).unwrap();
    let options = CsvOptions { nulls: vec!["name 9".to_owned()], ..CsvOptions::default() };
    check(&session.read_csv_with(&csv, options).unwrap().select(["id", "name"]).unwrap());
    check(&session.read_json(&json).unwrap());
    check(&digits(&session).filter(col("digit").gt(5)).unwrap().select(["digit"]).unwrap());
}

#[test]
fn a_model_travels_by_its_hash_and_a_file_by_its_absolute_path_too() {
    let session = Session::local().unwrap();
    let labelled = digits(&session).predict(Onnx::file("examples/data/digits_mlp.onnx").batch_size(512)).unwrap();
    check(&labelled);
    let params = named_params(&topology(&labelled), "mobula/predict@1");
    let found = |path: &Path| contains(&params, path.to_str().unwrap());
    assert!(found(&std::path::absolute("examples/data/digits_mlp.onnx").unwrap()));
    let model = std::fs::read("examples/data/digits_mlp.onnx").unwrap();
    let given = digits(&session).predict(Onnx::bytes(model.clone())).unwrap();
    for (dataset, optional) in [(labelled, true), (given, false)] {
        let wire = topology(&dataset).to_wire().unwrap();
        assert!(wire.encode().unwrap().len() < model.len() / 2, "the bytes travel on their own");
        let mut objects = wire.operators.iter().flat_map(|operator| match &operator.logic {
            WireLogic::Read { chain, .. } | WireLogic::Map { chain, .. } => chain.iter().flat_map(|spec| &spec.objects),
            _ => unreachable!("a read and a model"),
        });
        let object = objects.next().unwrap();
        assert_eq!((object.name, object.optional), (ObjectName::of(&model), optional));
        assert_eq!(objects.next(), None);
    }
}

#[test]
fn a_write_travels_with_the_absolute_path_of_its_hidden_parts() {
    let session = Session::local().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let rows = session.range(0..1000).unwrap();
    let (site, options) = (session.site(), WriteOptions::default());
    let topology = lower::lower(&rules::optimize(rows.plan()), site).unwrap();
    let plan = JobPlan::of(&topology, Vec::new(), Vec::new(), (Format::Parquet, &options), site.block_bytes);
    let prepared = OutputDir::prepare(&out, Format::Parquet, &rows.schema().unwrap(), &options, &plan).unwrap();
    let Prepared::Job(output) = prepared else { panic!("it is new") };
    let step = WriteStep { spec: output.operator().unwrap(), task_bytes: session.block_bytes() };
    let topology = Topology { recorder: Some(output.recorder().unwrap()), ..lower::with_sink(topology, &step, site) };
    assert!(run(&session, over_the_wire(&topology)).is_empty());
    output.hand_over();
    assert_eq!(session.read_parquet(&out).unwrap().count().unwrap(), 1000);
}

#[test]
fn what_cannot_travel_is_refused_by_the_call_that_made_it() {
    #[derive(Serialize, Deserialize)]
    struct Row {
        id: i64,
    }
    let session = Session::local().unwrap();
    let ids = session.range(0..10).unwrap();
    let begin = |operator: &str| {
        format!(
            "operator {operator:?} holds a local(..) closure, which cannot travel to a cluster; \
             put #[mobula::remote] on a function instead"
        )
    };
    let mapped = ids.map_batches(local(Ok::<RecordBatch, ArrowError>)).unwrap();
    assert_eq!(refusal(&mapped).to_string(), begin("map_batches local(..)"));
    let rows = ids.map(local(|row: Row| Row { id: row.id + 1 })).unwrap();
    assert_eq!(refusal(&rows).to_string(), begin("map Row to Row"));
    let kept = ids.filter(local(|row: Row| row.id > 1)).unwrap();
    assert_eq!(refusal(&kept).to_string(), begin("filter by Row"));
    // As a driver gets it.
    let error = JobError::from(refusal(&mapped)).to_string();
    assert_eq!(error, begin("map_batches local(..)"));
}

/// The parameters of the operator that is registered under `name`.
fn named_params(topology: &Topology, name: &str) -> Vec<u8> {
    use mobula_actors::operator::Recipe;
    let chains = topology.operators.iter().flat_map(|plan| match &plan.logic {
        Logic::Read { chain, .. } | Logic::Map { chain, .. } => chain.as_slice(),
        Logic::Limit(_) | Logic::Union => &[],
    });
    let mut found = chains.filter_map(|spec| match &spec.recipe {
        Recipe::Named { name: other, params } if other == name => Some(params.to_vec()),
        _ => None,
    });
    found.next().unwrap()
}

fn contains(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}
