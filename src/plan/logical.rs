//! The logical plan: what was asked, as a tree from the result down to the sources.
//!
//! A plan is immutable and shared; a rule makes a new one. It knows the schema of each node where that can be known
//! before anything runs. How it is run is decided in [`lower`](super::lower).

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use mobula_actors::job::{Resources, Workers};
use mobula_actors::operator::{BatchSize, OperatorSpec, Recipe};

use super::columns::{Column, Edit};
use crate::expr::Expr;
use crate::io::Scan;
use crate::kernel::schema::unify;

/// A plan, shared by all datasets that are made from it.
pub(crate) type PlanRef = Arc<Logical>;

/// One node of the plan with everything below it.
#[derive(Debug)]
pub(crate) struct Logical {
    /// What it does.
    pub(crate) kind: Kind,
    /// Columns of its rows; `None` where only running tells (the result of an undeclared operator).
    pub(crate) schema: Option<SchemaRef>,
}

/// What a node does.
#[derive(Debug, Clone)]
pub(crate) enum Kind {
    /// Reads a source.
    Scan(Scan),
    /// No rows.
    Empty,
    /// Exactly these columns.
    Project { input: PlanRef, columns: Vec<Column> },
    /// A change of columns whose input's columns only running tells.
    Edit { input: PlanRef, edit: Edit },
    /// Rows for which the predicate is true.
    Filter { input: PlanRef, predicate: Expr },
    /// A function, operator or model.
    Map { input: PlanRef, step: MapStep },
    /// The first rows.
    Limit { input: PlanRef, rows: u64 },
    /// The rows of the first input, then of the second, and so on.
    Union { inputs: Vec<PlanRef> },
    /// The same rows in any order.
    Unordered { input: PlanRef },
}

/// A step whose work the planner cannot look into.
#[derive(Debug, Clone)]
pub(crate) struct MapStep {
    /// What to run; its label names the verb.
    pub(crate) spec: OperatorSpec,
    /// What is known of it.
    pub(crate) effect: Effect,
    /// Workers of its own, if asked for.
    pub(crate) workers: Option<Workers>,
    /// What each worker needs, if asked for.
    pub(crate) resources: Option<Resources>,
}

/// What is known of an opaque step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: any rows, any columns.
    Any,
    /// One row for each row, in order, with any columns.
    EachRow,
    /// Keeps some of the rows as they are; looks at these columns.
    Keep { needs: Vec<String> },
    /// Each row as it is, with columns added; looks at these columns.
    Append { needs: Vec<String> },
}

/// A sink, behind the last operator of a plan.
#[derive(Debug, Clone)]
pub(crate) struct WriteStep {
    /// What to run; its scope is the task.
    pub(crate) spec: OperatorSpec,
    /// About so many bytes of blocks go into one file.
    pub(crate) task_bytes: mobula_actors::units::Bytes,
}

impl MapStep {
    /// A step that shares the workers of the step before it.
    pub(crate) fn new(verb: &str, spec: OperatorSpec, effect: Effect) -> Self {
        let label = format!("{verb} {}", spec.label);
        Self { spec: spec.labelled(label), effect, workers: None, resources: None }
    }

    /// Whether it must not share a worker with the steps before it.
    pub(crate) fn stands_alone(&self) -> bool {
        self.workers.is_some()
            || self.resources.is_some()
            || self.spec.batch.rows().is_some()
            || matches!(self.spec.recipe, Recipe::Actor(_))
            || self.spec.isolation.is_some()
    }

    /// Whether what it makes of a row may depend on the rows before and after: batches of an exact size are cut out of
    /// the rows in their order, except for a model, which takes each row on its own.
    pub(crate) fn looks_at_neighbours(&self) -> bool {
        self.spec.batch.rows().is_some() && !self.takes_any_batch()
    }

    /// Whether its batch size is a matter of speed only: it takes each row on its own.
    pub(crate) fn takes_any_batch(&self) -> bool {
        matches!(self.effect, Effect::Append { .. })
    }

    /// Whether the rows of its batches are found on a device while it runs.
    pub(crate) fn climbs(&self) -> bool {
        let device = self.resources.as_ref().is_some_and(|resources| resources.gpus > 0.0);
        let here = self.spec.isolation.is_none();
        device && here && self.takes_any_batch() && self.spec.batch == BatchSize::Auto
    }

    /// Whether as many rows come out as go in.
    pub(crate) fn keeps_count(&self) -> bool {
        matches!(self.effect, Effect::EachRow | Effect::Append { .. })
    }
}

impl Logical {
    pub(crate) fn new(kind: Kind, schema: Option<SchemaRef>) -> PlanRef {
        Arc::new(Self { kind, schema })
    }

    /// The nodes right below.
    pub(crate) fn inputs(&self) -> Vec<&PlanRef> {
        match &self.kind {
            Kind::Scan(_) | Kind::Empty => Vec::new(),
            Kind::Project { input, .. }
            | Kind::Edit { input, .. }
            | Kind::Filter { input, .. }
            | Kind::Map { input, .. }
            | Kind::Limit { input, .. }
            | Kind::Unordered { input } => vec![input],
            Kind::Union { inputs } => inputs.iter().collect(),
        }
    }

    /// The same node over other inputs: as many as before, whose rows differ at most in columns nobody looks at.
    pub(crate) fn with_inputs(&self, inputs: Vec<PlanRef>) -> PlanRef {
        let mut kind = self.kind.clone();
        let mut given = inputs.into_iter();
        let mut next = || given.next().expect("as many inputs as before");
        match &mut kind {
            Kind::Scan(_) | Kind::Empty => {}
            Kind::Project { input, .. }
            | Kind::Edit { input, .. }
            | Kind::Filter { input, .. }
            | Kind::Map { input, .. }
            | Kind::Limit { input, .. }
            | Kind::Unordered { input } => *input = next(),
            Kind::Union { inputs } => inputs.iter_mut().for_each(|input| *input = next()),
        }
        let schema = kind.schema_over_inputs(self);
        Self::new(kind, schema)
    }

    /// Most rows that can come out, where that can be said.
    pub(crate) fn rows_max(&self) -> Option<u64> {
        match &self.kind {
            Kind::Scan(scan) if scan.limit().is_some() => None,
            Kind::Scan(scan) => scan.row_count(),
            Kind::Empty => Some(0),
            Kind::Limit { input, rows } => Some(input.rows_max().map_or(*rows, |max| max.min(*rows))),
            Kind::Union { inputs } => inputs.iter().map(|input| input.rows_max()).sum(),
            Kind::Map { input, step } if step.effect != Effect::Any => input.rows_max(),
            Kind::Map { .. } => None,
            Kind::Project { input, .. }
            | Kind::Edit { input, .. }
            | Kind::Filter { input, .. }
            | Kind::Unordered { input } => input.rows_max(),
        }
    }

    /// How many rows come out, where that can be said without reading them.
    pub(crate) fn rows_exact(&self) -> Option<u64> {
        match &self.kind {
            Kind::Scan(scan) => scan.row_count(),
            Kind::Empty => Some(0),
            Kind::Limit { input, rows } => input.rows_exact().map(|exact| exact.min(*rows)),
            Kind::Union { inputs } => inputs.iter().map(|input| input.rows_exact()).sum(),
            // A function that fails must fail the count as well, so only steps that the planner can see into pass.
            Kind::Project { input, .. } | Kind::Unordered { input } => input.rows_exact(),
            _ => None,
        }
    }
}

impl Kind {
    /// The schema after the inputs changed: nodes that pass columns on have their input's, the others keep theirs.
    fn schema_over_inputs(&self, before: &Logical) -> Option<SchemaRef> {
        match self {
            Kind::Filter { input, .. } | Kind::Limit { input, .. } | Kind::Unordered { input } => input.schema.clone(),
            Kind::Map { input, step } if matches!(step.effect, Effect::Keep { .. }) => input.schema.clone(),
            Kind::Map { input, step } if matches!(step.effect, Effect::Append { .. }) => appended(input, before),
            Kind::Union { inputs } => union_schema(inputs),
            _ => before.schema.clone(),
        }
    }
}

/// The columns of another input, then those that the step added to its input before.
fn appended(input: &PlanRef, before: &Logical) -> Option<SchemaRef> {
    let (now, then) = (input.schema.as_ref()?, before.inputs().first()?.schema.as_ref()?);
    let added = before.schema.as_ref()?.fields().iter().skip(then.fields().len());
    let fields: Vec<_> = now.fields().iter().chain(added).cloned().collect();
    Some(Arc::new(Schema::new_with_metadata(fields, now.metadata().clone())))
}

/// What the rows of all inputs fit into.
fn union_schema(inputs: &[PlanRef]) -> Option<SchemaRef> {
    let mut schemas = inputs.iter().map(|input| input.schema.clone());
    let first = schemas.next()??;
    schemas.try_fold(first, |all, next| unify(&all, &next?).ok())
}

/// One line a node, inputs indented below it.
impl fmt::Display for Logical {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.fmt_at(f, 0)
    }
}

impl Logical {
    fn fmt_at(&self, f: &mut fmt::Formatter<'_>, depth: usize) -> fmt::Result {
        writeln!(f, "{:indent$}{}", "", self.kind, indent = depth * 2)?;
        self.inputs().into_iter().try_for_each(|input| input.fmt_at(f, depth + 1))
    }
}

/// The node alone, without its inputs.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Scan(scan) => f.write_str(&scan.describe()),
            Kind::Empty => f.write_str("empty"),
            Kind::Project { columns, .. } => write!(f, "select {}", comma(columns)),
            Kind::Edit { edit, .. } => write!(f, "{edit}"),
            Kind::Filter { predicate, .. } => write!(f, "filter {predicate}"),
            Kind::Map { step, .. } => write!(f, "{step}"),
            Kind::Limit { rows, .. } => write!(f, "limit {rows}"),
            Kind::Union { .. } => f.write_str("union"),
            Kind::Unordered { .. } => f.write_str("unordered"),
        }
    }
}

impl fmt::Display for MapStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.spec.label)?;
        match self.spec.batch {
            BatchSize::Auto => {}
            BatchSize::Rows(rows) => write!(f, ", batches of {rows}")?,
            BatchSize::UpTo(rows) => write!(f, ", batches of up to {rows}")?,
        }
        if let Some(workers) = self.workers {
            write!(f, ", workers {}..={}", workers.min, workers.max)?;
        }
        if let Some(resources) = &self.resources {
            write!(f, ", {resources}")?;
        }
        self.spec.isolation.map_or(Ok(()), |isolation| write!(f, ", {isolation}"))
    }
}

/// The values, separated by commas.
pub(crate) fn comma<T: fmt::Display>(values: &[T]) -> String {
    values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
