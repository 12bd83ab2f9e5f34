//! The form in which a topology travels: flat, by names and parameters, without a value of this process.
//!
//! [`Topology::to_wire`] refuses what cannot travel and names it; [`WireTopology::encode`] and
//! [`WireTopology::decode`] are the bytes of it, within [`TOPOLOGY_BYTES_MAX`]. What was decoded is no more than well
//! formed: [`Topology::check`] and the registry say whether it makes sense here. Paths and splits are opaque.

use std::time::Duration;

use mobula_transport::codec::{self, CodecError};
use serde::{Deserialize, Serialize};

use super::topology::{Logic, OperatorPlan, Resources, Topology, Workers};
use super::{FailurePolicy, Weight};
use crate::function::registry;
use crate::ledger::RecorderSpec;
use crate::operator::{
    BatchSize, Isolation, Object, ObjectName, OperatorSpec, Recipe, Scope, SourceRecipe, SourceSpec, Split,
};
use crate::units::{Bytes, Rows};

/// Most bytes of an encoded topology: rows of the driver that travel inside it (64 MiB at most), and the splits. A split
/// takes 100 to 300 bytes, so this is a scan of several hundred thousand of them. A head holds this much for each job
/// that is being submitted.
pub const TOPOLOGY_BYTES_MAX: Bytes = Bytes::mib(256);

/// A topology that travels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireTopology {
    /// The operators, each after its inputs.
    pub operators: Vec<WireOperator>,
    /// What happens with all results.
    pub recorder: Option<RecorderSpec>,
    /// Its share of the cores beside other jobs.
    pub weight: Weight,
    /// How long a call of user code may take, if not what the nodes are set to.
    pub task_progress_limit: Option<Duration>,
    /// What it does about rows that user code fails on.
    pub failures: FailurePolicy,
}

/// One operator of a [`WireTopology`]: see [`OperatorPlan`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WireOperator {
    /// Its name, unique in the topology.
    pub name: String,
    /// Indices of the operators it takes blocks from.
    pub inputs: Vec<u32>,
    /// What it does.
    pub logic: WireLogic,
    /// How many workers it may have.
    pub workers: Workers,
    /// What each worker needs.
    pub resources: Resources,
    /// Whether its results leave in the order of its input.
    pub ordered: bool,
}

/// What an operator of a [`WireTopology`] does: see [`Logic`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum WireLogic {
    /// Reads splits.
    Read {
        /// Where the rows come from.
        source: WireSource,
        /// The tasks.
        splits: Vec<Split>,
        /// Operators fused into the read.
        chain: Vec<WireSpec>,
    },
    /// Runs a chain of operators.
    Map {
        /// The operators.
        chain: Vec<WireSpec>,
        /// A task takes blocks until it holds this many bytes.
        task_bytes: Option<Bytes>,
    },
    /// Passes the first rows on.
    Limit(Rows),
    /// Passes all blocks on.
    Union,
}

/// A registered source with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSource {
    /// What it is, for plans and errors.
    pub label: String,
    /// The registered name.
    pub name: String,
    /// The parameters, in the wire encoding.
    pub params: Vec<u8>,
}

/// A registered operator with its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireSpec {
    /// What it is, for plans and errors.
    pub label: String,
    /// How rows are grouped into calls.
    pub batch: BatchSize,
    /// What is repeated after a failure.
    pub scope: Scope,
    /// The registered name.
    pub name: String,
    /// The parameters, in the wire encoding.
    pub params: Vec<u8>,
    /// The objects that the parameters name.
    pub objects: Vec<WireObject>,
    /// Whether it runs in a process of its own, and within which limits.
    pub isolation: Option<Isolation>,
    /// Whether it makes one row of each row, in order.
    pub keeps_rows: bool,
}

/// An object of a [`WireSpec`], by name: its bytes travel on their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireObject {
    /// Its hash and size.
    pub name: ObjectName,
    /// What it is, for errors.
    pub label: String,
    /// Whether its operator can do without it.
    pub optional: bool,
}

/// Why a topology cannot leave this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("operator {operator:?} holds {holds}, which cannot travel to a cluster; {instead}")]
pub struct NotPortable {
    /// The operator, by the label of the step.
    pub operator: String,
    /// The call that made it: `local(..)`.
    pub call: String,
    /// What it holds: `a local(..) closure`.
    pub holds: String,
    /// What to do instead.
    pub instead: String,
}

impl Topology {
    /// The topology as it travels. Rows in memory are encoded here, for the first time.
    ///
    /// # Errors
    /// Naming the first operator that holds something of this process, and the call that made it.
    pub fn to_wire(&self) -> Result<WireTopology, NotPortable> {
        let operators = self.operators.iter().map(|plan| {
            Ok(WireOperator {
                name: plan.name.to_string(),
                inputs: plan.inputs.iter().map(|&input| u32::try_from(input).unwrap_or(u32::MAX)).collect(),
                logic: logic_to_wire(&plan.logic)?,
                workers: plan.workers,
                resources: plan.resources.clone(),
                ordered: plan.ordered,
            })
        });
        Ok(WireTopology {
            operators: operators.collect::<Result<_, _>>()?,
            recorder: self.recorder.clone(),
            weight: self.weight,
            task_progress_limit: self.task_progress_limit,
            failures: self.failures,
        })
    }
}

impl WireTopology {
    /// The topology, to be [checked](Topology::check) before it runs.
    pub fn into_topology(self) -> Topology {
        let operators = self.operators.into_iter().map(WireOperator::into_plan).collect();
        let Self { recorder, weight, task_progress_limit, failures, .. } = self;
        Topology { operators, recorder, weight, task_progress_limit, failures }
    }

    /// The bytes of it.
    ///
    /// # Errors
    /// If they are more than [`TOPOLOGY_BYTES_MAX`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, TOPOLOGY_BYTES_MAX.0 as usize)
    }

    /// What [`WireTopology::encode`] made.
    ///
    /// # Errors
    /// If the bytes are more than [`TOPOLOGY_BYTES_MAX`] or no topology.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, TOPOLOGY_BYTES_MAX.0 as usize)
    }
}

impl WireOperator {
    fn into_plan(self) -> OperatorPlan {
        let Self { name, inputs, logic, workers, resources, ordered } = self;
        let inputs = inputs.into_iter().map(|input| input as usize).collect();
        OperatorPlan { name: name.into(), inputs, logic: logic.into_logic(), workers, resources, ordered }
    }
}

impl WireLogic {
    fn into_logic(self) -> Logic {
        let specs = |chain: Vec<WireSpec>| chain.into_iter().map(WireSpec::into_spec).collect();
        match self {
            Self::Read { source, splits, chain } => {
                let WireSource { label, name, params } = source;
                Logic::Read { source: SourceSpec::named(name, params).labelled(label), splits, chain: specs(chain) }
            }
            Self::Map { chain, task_bytes } => Logic::Map { chain: specs(chain), task_bytes },
            Self::Limit(rows) => Logic::Limit(rows),
            Self::Union => Logic::Union,
        }
    }
}

impl WireSpec {
    pub(crate) fn into_spec(self) -> OperatorSpec {
        let Self { label, batch, scope, name, params, objects, isolation, keeps_rows } = self;
        let spec = OperatorSpec::named(name, params)
            .labelled(label)
            .with_batch(batch)
            .with_scope(scope)
            .keeping_rows(keeps_rows);
        OperatorSpec { objects: objects.into_iter().map(WireObject::into_object).collect(), isolation, ..spec }
    }
}

fn logic_to_wire(logic: &Logic) -> Result<WireLogic, NotPortable> {
    Ok(match logic {
        Logic::Read { source, splits, chain } => {
            let (source, splits) = source_to_wire(source, splits)?;
            WireLogic::Read { source, splits, chain: chain_to_wire(chain)? }
        }
        Logic::Map { chain, task_bytes } => WireLogic::Map { chain: chain_to_wire(chain)?, task_bytes: *task_bytes },
        Logic::Limit(rows) => WireLogic::Limit(*rows),
        Logic::Union => WireLogic::Union,
    })
}

fn chain_to_wire(chain: &[OperatorSpec]) -> Result<Vec<WireSpec>, NotPortable> {
    chain.iter().map(spec_to_wire).collect()
}

pub(crate) fn spec_to_wire(spec: &OperatorSpec) -> Result<WireSpec, NotPortable> {
    let OperatorSpec { label, batch, scope, recipe, objects, isolation, keeps_rows } = spec;
    match recipe {
        Recipe::Named { name, params } => Ok(WireSpec {
            label: label.clone(),
            batch: *batch,
            scope: *scope,
            name: name.clone(),
            params: params.to_vec(),
            objects: objects.iter().map(WireObject::of).collect(),
            isolation: *isolation,
            keeps_rows: *keeps_rows,
        }),
        Recipe::Local { call: call @ "local(..)", .. } => Err(NotPortable {
            operator: label.clone(),
            call: (*call).to_owned(),
            holds: "a local(..) closure".to_owned(),
            instead: "put #[mobula::remote] on a function instead".to_owned(),
        }),
        // Made where parameters did not encode: see `named_spec`.
        Recipe::Local { call, .. } if registry::is_operator(call) => Err(NotPortable {
            operator: label.clone(),
            call: (*call).to_owned(),
            holds: "parameters that the wire encoding cannot hold".to_owned(),
            instead: "make them smaller, or of plainer types".to_owned(),
        }),
        Recipe::Local { call, .. } => Err(NotPortable {
            operator: label.clone(),
            call: (*call).to_owned(),
            holds: format!("what {call} made in this process"),
            instead: "use what every node has: a registered function or operator, a file".to_owned(),
        }),
        Recipe::Actor(_) => Err(NotPortable {
            operator: label.clone(),
            call: "ActorOperator::new(..)".to_owned(),
            holds: "a closure that makes actors".to_owned(),
            instead: "put #[mobula::operator] on an `impl Operator` instead".to_owned(),
        }),
    }
}

impl WireObject {
    pub(crate) fn of(object: &Object) -> Self {
        Self { name: object.name(), label: object.label().to_owned(), optional: object.is_optional() }
    }

    /// The object, whose bytes are elsewhere.
    pub(crate) fn into_object(self) -> Object {
        Object::away(self.name, &self.label, self.optional)
    }
}

/// A registered source with its splits. Rows of this process go into the splits, where their source can do that.
fn source_to_wire(spec: &SourceSpec, splits: &[Split]) -> Result<(WireSource, Vec<Split>), NotPortable> {
    let registered = |name: &str, params: &[u8]| WireSource {
        label: spec.label.clone(),
        name: name.to_owned(),
        params: params.to_vec(),
    };
    let (call, source) = match &spec.recipe {
        SourceRecipe::Named { name, params } => return Ok((registered(name, params), splits.to_vec())),
        SourceRecipe::Local { call, source } => (*call, source),
    };
    let refused = |instead: String| NotPortable {
        operator: spec.label.clone(),
        call: call.to_owned(),
        holds: format!("rows of {call}"),
        instead,
    };
    match source.portable(splits) {
        Ok(Some((SourceSpec { recipe: SourceRecipe::Named { name, params }, .. }, splits))) => {
            Ok((registered(&name, &params), splits))
        }
        Ok(_) => Err(refused("write them to files first, which every node can read".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;
    use std::sync::Arc;

    use super::*;
    use crate::operator::actor::{ActorOperator, Process};
    use crate::operator::{BoxError, IntoOperator, OpenContext, OperatorResult, ReadBatch, Source, SplitReader, local};
    use arrow::record_batch::RecordBatch;
    use proptest::prelude::*;

    fn split(label: &str) -> Split {
        Split { label: label.to_owned(), rows: Some(Rows(5)), bytes: Bytes(40), payload: vec![1, 2, 3], file: None }
    }

    fn plan(name: &str, inputs: &[usize], logic: Logic) -> OperatorPlan {
        let workers = Workers { min: 1, max: 4 };
        let extras = [("lane".to_owned(), 0.5)].into();
        let resources = Resources { extras, memory: Bytes::mib(1), ..Resources::cpu(2.0) };
        OperatorPlan { name: name.into(), inputs: inputs.to_vec(), logic, workers, resources, ordered: true }
    }

    fn named(label: &str) -> OperatorSpec {
        let object = Object::new("a table", vec![1; 99]).optional();
        let limits = Isolation { memory: Some(Bytes::mib(512)), time: Some(std::time::Duration::from_secs(60)) };
        let spec = OperatorSpec::named("mine@1", vec![7; 9]).labelled(label).with_scope(Scope::Task);
        spec.with_object(object).isolated(limits).expect("it is named")
    }

    fn reading(source: SourceSpec, chain: Vec<OperatorSpec>) -> Topology {
        let splits = vec![split("a, rows 0..5"), split("b")];
        Topology { operators: vec![plan("read", &[], Logic::Read { source, splits, chain })], ..Topology::default() }
    }

    fn all_kinds() -> Topology {
        let rows = BatchSize::Rows(std::num::NonZeroUsize::new(512).expect("not zero"));
        let mut all = reading(SourceSpec::named("files@1", vec![1]).labelled("read x"), vec![named("one")]);
        let chain = vec![named("two").with_batch(rows), named("three")];
        all.operators.push(plan("map", &[0], Logic::Map { chain, task_bytes: Some(Bytes(77)) }));
        all.operators.push(plan("limit 3", &[1], Logic::Limit(Rows(3))));
        all.operators.push(plan("union", &[2], Logic::Union));
        all
    }

    fn refusal(topology: &Topology) -> NotPortable {
        topology.to_wire().expect_err("refused")
    }

    #[test]
    fn a_topology_comes_back_from_its_bytes() {
        let topology = all_kinds();
        topology.check().expect("made well");
        let wire = topology.to_wire().expect("all of it is named");
        let back = WireTopology::decode(&wire.encode().expect("small")).expect("the same type");
        assert_eq!(back, wire);
        let back = back.into_topology();
        back.check().expect("as before");
        assert_eq!(back.to_wire().expect("still"), wire);
        // Debug prints labels of specs and all else whole.
        assert_eq!(format!("{back:?}"), format!("{topology:?}"));
    }

    #[test]
    fn a_closure_is_refused_with_the_call_that_made_it() {
        let closure = local(Ok::<RecordBatch, BoxError>).into_operator().labelled("map_batches local(..)");
        let error = refusal(&reading(SourceSpec::named("files@1", Vec::new()), vec![closure]));
        assert_eq!(error.call, "local(..)");
        let text = "operator \"map_batches local(..)\" holds a local(..) closure, which cannot travel to a cluster; \
                    put #[mobula::remote] on a function instead";
        assert_eq!(error.to_string(), text);
    }

    #[test]
    fn an_actor_is_refused() {
        struct Own;
        impl actix::Actor for Own {
            type Context = actix::Context<Self>;
        }
        impl actix::Handler<Process> for Own {
            type Result = OperatorResult<Vec<RecordBatch>>;
            fn handle(&mut self, message: Process, _: &mut Self::Context) -> Self::Result {
                Ok(vec![message.batch])
            }
        }
        let actor = ActorOperator::new(|_| Own).into_operator();
        let error = refusal(&reading(SourceSpec::named("files@1", Vec::new()), vec![actor])).to_string();
        assert!(error.starts_with("operator \"Own\" holds a closure that makes actors, which cannot"), "{error}");
    }

    /// A source of this process: with rows that travel, too many of them, or none that could.
    struct Held(Option<OperatorResult<()>>);

    impl Source for Held {
        fn open(
            &self,
            _: &Split,
            _: Range<Rows>,
            _: ReadBatch,
            _: &OpenContext,
        ) -> OperatorResult<Box<dyn SplitReader>> {
            Err("not read here".into())
        }

        fn portable(&self, splits: &[Split]) -> OperatorResult<Option<(SourceSpec, Vec<Split>)>> {
            let ship = |split: &Split| Split { payload: vec![9; 100], ..split.clone() };
            match &self.0 {
                None => Ok(None),
                Some(Ok(())) => Ok(Some((SourceSpec::named("held@1", vec![4]), splits.iter().map(ship).collect()))),
                Some(Err(error)) => Err(error.to_string().into()),
            }
        }
    }

    fn held(rows: Option<OperatorResult<()>>) -> Topology {
        reading(SourceSpec::local("from_batches", Arc::new(Held(rows))).labelled("2 batches in memory"), Vec::new())
    }

    #[test]
    fn rows_in_memory_travel_in_their_splits() {
        let wire = held(Some(Ok(()))).to_wire().expect("few rows");
        let Some(WireOperator { logic: WireLogic::Read { source, splits, .. }, .. }) = wire.operators.first() else {
            panic!("{wire:?}")
        };
        assert_eq!((source.label.as_str(), source.name.as_str()), ("2 batches in memory", "held@1"));
        assert!(splits.iter().all(|split| split.payload == [9; 100]));
    }

    #[test]
    fn rows_that_cannot_travel_are_refused_with_what_to_do() {
        let begin = "operator \"2 batches in memory\" holds rows of from_batches, which cannot travel to a cluster; ";
        let error = refusal(&held(None)).to_string();
        assert_eq!(error, format!("{begin}write them to files first, which every node can read"));
        let error = refusal(&held(Some(Err("they take more than 1 MiB: write them to files first".into()))));
        assert_eq!(error.to_string(), format!("{begin}they take more than 1 MiB: write them to files first"));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_harm(bytes: Vec<u8>) {
            let _ = WireTopology::decode(&bytes).map(|wire| wire.into_topology().check());
        }

        /// Nearly right is the harder case: what still decodes can be checked.
        #[test]
        fn damaged_bytes_decode_or_fail_without_harm(flips: Vec<(prop::sample::Index, u8)>, end: prop::sample::Index) {
            let mut bytes = all_kinds().to_wire().expect("named").encode().expect("small");
            for (at, value) in flips {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(end.index(bytes.len() + 1));
            let _ = WireTopology::decode(&bytes).map(|wire| wire.into_topology().check());
        }
    }
}
