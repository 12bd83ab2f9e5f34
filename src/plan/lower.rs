//! From the logical plan to the operators that run it: one arm a node.

use arrow::datatypes::SchemaRef;
use mobula_actors::job::Topology;
use mobula_actors::operator::OperatorSpec;
use mobula_actors::units::Bytes;

use super::logical::{Kind, Logical, MapStep, PlanRef, WriteStep};
use super::physical::{Builder, Index, Weight};
use super::steps;
use crate::error::Result;
use crate::io::Scan;

/// What the plan has to know of where it will run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    /// Cores, which is how many workers a step may have.
    pub(crate) cpus: usize,
    /// Size that blocks aim at, and so that splits are cut to.
    pub(crate) block_bytes: Bytes,
}

/// The operators that run `plan`.
///
/// # Errors
/// If a source changed since it was looked at.
pub(crate) fn lower(plan: &Logical, site: Site) -> Result<Topology> {
    let mut lowering = Lowering { to: Builder::new(site.cpus), site };
    lowering.node(plan, true)?;
    Ok(lowering.to.finish())
}

/// The topology with a sink behind its last operator.
pub(crate) fn with_sink(topology: Topology, step: &WriteStep, site: Site) -> Topology {
    let mut to = Builder::behind(topology, site.cpus);
    to.write(step);
    to.finish()
}

struct Lowering {
    to: Builder,
    site: Site,
}

impl Lowering {
    /// Adds the operators of `plan`; `ordered` says whether anybody cares for the order of its rows.
    fn node(&mut self, plan: &Logical, ordered: bool) -> Result<Index> {
        let keep = ordered && !comes_in_any_order(plan);
        match &plan.kind {
            Kind::Scan(scan) => self.scan(scan, keep),
            Kind::Empty => Ok(self.to.read(steps::nothing(), Vec::new(), keep)),
            Kind::Project { input, columns } => self.light(input, steps::select(columns), ordered),
            Kind::Edit { input, edit } => self.light(input, steps::edit(edit), ordered),
            Kind::Filter { input, predicate } => self.light(input, steps::filter(predicate), ordered),
            Kind::Map { input, step } => self.map(input, step, ordered),
            // Which rows are the first is a question of order, whatever comes of them.
            Kind::Limit { input, rows } => self.node(input, true).map(|input| self.to.limit(input, *rows, keep)),
            Kind::Union { inputs } => self.union(inputs, plan.schema.as_ref(), ordered),
            Kind::Unordered { input } => self.node(input, false),
        }
    }

    fn scan(&mut self, scan: &Scan, ordered: bool) -> Result<Index> {
        let (source, splits) = scan.lower(self.site.block_bytes)?;
        Ok(self.to.read(source, splits, ordered))
    }

    fn light(&mut self, input: &PlanRef, spec: OperatorSpec, ordered: bool) -> Result<Index> {
        let keep = ordered && !comes_in_any_order(input);
        let input = self.node(input, ordered)?;
        Ok(self.to.step(input, spec, Weight::Light, keep))
    }

    fn map(&mut self, input: &PlanRef, step: &MapStep, ordered: bool) -> Result<Index> {
        let keep = ordered && !comes_in_any_order(input);
        let full = step.takes_any_batch() && comes_in_full_batches(input);
        let input = self.node(input, ordered || step.looks_at_neighbours())?;
        let step = &MapStep { spec: step.spec.clone().keeping_rows(step.keeps_count()), ..step.clone() };
        Ok(match step.stands_alone() {
            true if full => self.to.shared_pool(input, step, keep),
            true => self.to.pool(input, step, keep),
            false => self.to.step(input, step.spec.clone(), Weight::Heavy, keep),
        })
    }

    fn union(&mut self, inputs: &[PlanRef], schema: Option<&SchemaRef>, ordered: bool) -> Result<Index> {
        let indices = inputs.iter().map(|input| self.widened(input, schema, ordered)).collect::<Result<Vec<_>>>()?;
        Ok(self.to.union(indices, ordered))
    }

    /// An input of a union, whose columns allow the nulls of all its inputs.
    fn widened(&mut self, input: &PlanRef, schema: Option<&SchemaRef>, ordered: bool) -> Result<Index> {
        match (schema, &input.schema) {
            (Some(wanted), Some(found)) if wanted != found => self.light(input, steps::widen(wanted), ordered),
            _ => self.node(input, ordered),
        }
    }
}

/// Whether its batches are those of a scan, none of whose rows were dropped on the way.
fn comes_in_full_batches(plan: &Logical) -> bool {
    match &plan.kind {
        Kind::Scan(_) => true,
        Kind::Project { input, .. } | Kind::Edit { input, .. } => comes_in_full_batches(input),
        Kind::Map { input, step } => !step.stands_alone() && step.keeps_count() && comes_in_full_batches(input),
        _ => false,
    }
}

/// Whether its rows have no order that could be kept.
fn comes_in_any_order(plan: &Logical) -> bool {
    match &plan.kind {
        Kind::Unordered { .. } => true,
        Kind::Scan(_) | Kind::Empty | Kind::Union { .. } => false,
        _ => plan.inputs().into_iter().all(|input| comes_in_any_order(input)),
    }
}
