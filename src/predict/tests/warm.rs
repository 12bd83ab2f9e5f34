//! How often a model is loaded: once for all workers and jobs of a session, and again after a failure.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use mobula_actors::operator::OperatorSpec;
use mobula_actors::units::Bytes;

use super::fake::{Fake, model, tensor};
use super::*;
use crate::dataset::MapOptions;
use crate::predict::engine::{Engine, EngineError, Inputs, Model, Runner, Signature, Tensor};
use crate::session::Session;

/// An engine that counts what it loads; the next run panics or fails if told so.
#[derive(Debug, Clone)]
struct Counting {
    fake: Fake,
    loads: Arc<AtomicUsize>,
    next: Next,
}

#[derive(Debug, Clone, Default)]
struct Next {
    panics: Arc<AtomicBool>,
    fails: Arc<AtomicBool>,
}

struct Counted {
    model: Arc<dyn Model>,
    next: Next,
}

struct CountedRunner {
    runner: Box<dyn Runner>,
    next: Next,
}

impl Engine for Counting {
    fn name(&self) -> &'static str {
        "counting"
    }

    fn load(&self, bytes: &[u8]) -> Result<Arc<dyn Model>, EngineError> {
        self.loads.fetch_add(1, Ordering::Relaxed);
        Ok(Arc::new(Counted { model: self.fake.load(bytes)?, next: self.next.clone() }))
    }
}

impl Model for Counted {
    fn signature(&self) -> &Signature {
        self.model.signature()
    }

    fn runner(self: Arc<Self>) -> Box<dyn Runner> {
        Box::new(CountedRunner { runner: Arc::clone(&self.model).runner(), next: self.next.clone() })
    }
}

impl Runner for CountedRunner {
    fn run(&mut self, inputs: Inputs<'_>, outputs: &[&str]) -> Result<Vec<Tensor>, EngineError> {
        assert!(!self.next.panics.swap(false, Ordering::Relaxed), "the engine is torn");
        if self.next.fails.swap(false, Ordering::Relaxed) {
            return Err(EngineError::Run("told so".to_owned()));
        }
        self.runner.run(inputs, outputs)
    }
}

impl Counting {
    fn new() -> Self {
        let fake = model(vec![tensor("x", DataType::Float32, &["batch"])]);
        Self { fake, loads: Arc::default(), next: Next::default() }
    }

    /// The model of these bytes, checked where the workers of `shared` will run it.
    fn checked(&self, bytes: &[u8], shared: &Shared) -> OperatorSpec {
        let onnx = Onnx::bytes(bytes).input("x", "id").batch_size(100);
        onnx.check_with(Some(Arc::new(self.clone())), &schema([("id", DataType::Int64)]), shared)
            .expect("fits")
            .operator()
    }

    fn loads(&self) -> usize {
        self.loads.load(Ordering::Relaxed)
    }
}

/// Runs the model on workers of its own; the sum of its outputs.
fn sums(session: &Session, counting: &Counting, bytes: &[u8], workers: usize) -> f32 {
    let spec = counting.checked(bytes, session.shared().expect("a local session"));
    let options = MapOptions { workers: Some(workers..=workers), ..MapOptions::default() };
    let rows = session.range(0..1000).and_then(|rows| rows.map_batches_with(spec, options)).expect("a plan");
    let batches = rows.collect().expect("it runs");
    batches.iter().flat_map(column_sum).sum()
}

fn column_sum(batch: &RecordBatch) -> Vec<f32> {
    use arrow::array::AsArray;
    let sums = batch.column_by_name("sum").expect("the output");
    sums.as_primitive::<arrow::datatypes::Float32Type>().values().to_vec()
}

const ALL: f32 = 499_500.0;

#[test]
fn a_session_loads_a_model_once_for_all_workers_and_jobs() {
    let (session, counting) = (Session::builder().cpus(2).build().expect("a session"), Counting::new());
    for _ in 0..3 {
        assert_eq!(sums(&session, &counting, b"one", 2), ALL);
    }
    assert_eq!(counting.loads(), 1);
    assert_eq!(sums(&session, &counting, b"other", 2), ALL);
    assert_eq!(counting.loads(), 2);
}

#[test]
fn a_model_that_a_worker_died_with_is_loaded_anew() {
    let (session, counting) = (Session::builder().cpus(2).build().expect("a session"), Counting::new());
    assert_eq!(sums(&session, &counting, b"one", 2), ALL);
    let spec = counting.checked(b"one", session.shared().expect("local"));
    assert_eq!(counting.loads(), 1);
    counting.next.panics.store(true, Ordering::Relaxed);
    let rows = session.range(0..1000).and_then(|rows| rows.map_batches(spec)).expect("a plan");
    assert_eq!(rows.count().expect("the task is tried again"), 1000);
    assert_eq!(counting.loads(), 2);
    assert_eq!(sums(&session, &counting, b"one", 2), ALL);
    assert_eq!(counting.loads(), 2);
}

#[test]
fn a_session_that_keeps_nothing_loads_a_model_for_each_job() {
    let counting = Counting::new();
    let large = Session::builder().warm_bytes(Bytes(2)).build().expect("a session");
    let late = Session::builder().warm_time(Duration::ZERO).build().expect("a session");
    for session in [large, late] {
        let before = counting.loads();
        assert_eq!(sums(&session, &counting, b"one", 1), ALL);
        assert_eq!(counting.loads(), before + 2, "to be checked, and for the job");
    }
}

#[test]
fn workers_share_a_model_and_one_that_the_engine_failed_with_is_not_used_again() {
    let (counting, shared) = (Counting::new(), Shared::default());
    let spec = counting.checked(b"one", &shared);
    let open = || {
        let mut operator = spec.build().expect("it builds");
        let shared = shared.with_objects(&spec.objects);
        operator.open(&OpenContext { shared, ..context() }).expect("it opens");
        operator
    };
    let ids = |ids: Vec<Option<i64>>| {
        let column: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from(ids));
        RecordBatch::try_from_iter([("id", column)]).expect("one column")
    };
    let (mut well, mut bad_rows) = (open(), open());
    process(&mut *bad_rows, ids(vec![Some(1), None])).expect_err("a null");
    drop(bad_rows);
    well.close().expect("it closes");
    let mut failed = open();
    assert_eq!(counting.loads(), 1, "nothing was wrong with the model");
    counting.next.fails.store(true, Ordering::Relaxed);
    process(&mut *failed, ids(vec![Some(1)])).expect_err("told so");
    drop(failed);
    let mut fresh = open();
    assert_eq!(counting.loads(), 2);
    process(&mut *fresh, ids(vec![Some(1)])).expect("it runs");
    drop(fresh);
    drop(open());
    assert_eq!(counting.loads(), 2);
}
