//! Filters move towards the sources, so that fewer rows are computed and files can leave out what cannot match.

use std::collections::BTreeMap;

use super::{bottom_up, can_fail_over};
use crate::expr::Expr;
use crate::io::Scan;
use crate::plan::columns::Column;
use crate::plan::exprs;
use crate::plan::logical::{Effect, Kind, Logical, MapStep, PlanRef};

pub(super) fn apply(plan: &PlanRef) -> PlanRef {
    bottom_up(plan, &|node| match &node.kind {
        Kind::Filter { input, predicate } => push(input, predicate),
        _ => None,
    })
}

fn push(input: &PlanRef, predicate: &Expr) -> Option<PlanRef> {
    match &input.kind {
        Kind::Project { input: below, columns } => through_columns(input, below, columns, predicate),
        Kind::Map { input: below, step } => through_map(input, below, step, predicate),
        Kind::Unordered { input: below } => Some(input.with_inputs(vec![filter(below, predicate.clone())])),
        Kind::Union { inputs } => {
            Some(input.with_inputs(inputs.iter().map(|input| filter(input, predicate.clone())).collect()))
        }
        Kind::Scan(scan) => prune(input, scan, predicate),
        _ => None,
    }
}

/// The source is told the parts that it does not know yet; the filter stays, for pruning leaves rows that do not match.
fn prune(node: &PlanRef, scan: &Scan, predicate: &Expr) -> Option<PlanRef> {
    if !scan.prunes() || scan.limit().is_some() {
        return None;
    }
    let known = scan.predicate().map(exprs::conjuncts).unwrap_or_default();
    let new = exprs::conjuncts(predicate).into_iter().filter(|part| !known.contains(part));
    let pruned = scan.with_predicate(&exprs::all_of(new)?);
    let scan = Logical::new(Kind::Scan(pruned), node.schema.clone());
    Some(filter(&scan, predicate.clone()))
}

/// The parts of the predicate that look only at columns which are passed on, or cost nothing, go below.
fn through_columns(project: &PlanRef, below: &PlanRef, columns: &[Column], predicate: &Expr) -> Option<PlanRef> {
    let free: BTreeMap<&str, &Expr> =
        columns.iter().filter(|c| exprs::is_free(&c.expr)).map(|c| (c.name.as_str(), &c.expr)).collect();
    let parts = exprs::conjuncts(predicate);
    let (down, stay): (Vec<Expr>, Vec<Expr>) =
        parts.into_iter().partition(|part| exprs::columns(part).iter().all(|name| free.contains_key(name.as_str())));
    let down = exprs::all_of(down.iter().map(|part| exprs::substitute(part, &free)))?;
    let project = project.with_inputs(vec![filter(below, down)]);
    Some(match exprs::all_of(stay) {
        Some(stay) => filter(&project, stay),
        None => project,
    })
}

fn through_map(map: &PlanRef, below: &PlanRef, step: &MapStep, predicate: &Expr) -> Option<PlanRef> {
    let goes = match &step.effect {
        Effect::Any | Effect::EachRow => false,
        // The predicate will see rows that the function would have dropped, so it must not fail on them.
        Effect::Keep { .. } => !can_fail_over(predicate, below),
        Effect::Append { .. } => {
            let schema = below.schema.as_ref()?;
            exprs::columns(predicate).iter().all(|name| schema.index_of(name).is_ok())
        }
    };
    goes.then(|| map.with_inputs(vec![filter(below, predicate.clone())]))
}

fn filter(input: &PlanRef, predicate: Expr) -> PlanRef {
    Logical::new(Kind::Filter { input: input.clone(), predicate }, input.schema.clone())
}
