//! Only columns that somebody looks at are read and computed.
//!
//! A step that the planner cannot look into needs all columns, unless it declares which it looks at.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::rewrite_inputs;
use crate::plan::columns::{self, Column};
use crate::plan::exprs;
use crate::plan::logical::{Effect, Kind, Logical, PlanRef};

/// Names of columns; `None` stands for all.
type Needed = Option<BTreeSet<String>>;

pub(super) fn apply(plan: &PlanRef) -> PlanRef {
    push(plan, &None)
}

/// The plan with all columns that are needed and maybe more, in their order.
fn push(plan: &PlanRef, needed: &Needed) -> PlanRef {
    match &plan.kind {
        Kind::Scan(_) => scan(plan, needed),
        Kind::Project { columns, .. } => project(plan, columns, needed),
        Kind::Filter { predicate, .. } => pass(plan, &add(needed, exprs::columns(predicate))),
        Kind::Map { step, .. } => match &step.effect {
            Effect::Any | Effect::EachRow => pass(plan, &None),
            Effect::Keep { needs } => pass(plan, &add(needed, needs.iter().cloned())),
            Effect::Append { needs } => pass(plan, &add(needed, needs.iter().cloned())),
        },
        Kind::Limit { .. } | Kind::Unordered { .. } => pass(plan, needed),
        Kind::Union { .. } => union(plan, needed),
        Kind::Empty | Kind::Edit { .. } => pass(plan, &None),
    }
}

fn pass(plan: &PlanRef, needed: &Needed) -> PlanRef {
    rewrite_inputs(plan, |input| push(input, needed))
}

fn add(needed: &Needed, more: impl IntoIterator<Item = String>) -> Needed {
    needed.as_ref().map(|names| names.iter().cloned().chain(more).collect())
}

fn scan(plan: &PlanRef, needed: &Needed) -> PlanRef {
    let (Kind::Scan(scan), Some(needed), Some(schema)) = (&plan.kind, needed, &plan.schema) else {
        return Arc::clone(plan);
    };
    let names: Vec<String> = schema.fields().iter().map(|f| f.name().clone()).filter(|n| needed.contains(n)).collect();
    if names.len() == schema.fields().len() {
        return Arc::clone(plan);
    }
    let Ok(scan) = scan.with_projection(&names) else { return Arc::clone(plan) };
    let schema = Some(scan.schema());
    Logical::new(Kind::Scan(scan), schema)
}

/// Columns that nobody needs are not computed, and neither is what only they look at.
fn project(plan: &PlanRef, columns: &[Column], needed: &Needed) -> PlanRef {
    let is_needed = |column: &&Column| needed.as_ref().is_none_or(|needed| needed.contains(&column.name));
    let kept: Vec<Column> = columns.iter().filter(is_needed).cloned().collect();
    let below: BTreeSet<String> = kept.iter().flat_map(|column| exprs::columns(&column.expr)).collect();
    let node = pass(plan, &Some(below));
    let [input] = node.inputs()[..] else { return node };
    if kept.len() == columns.len() {
        return node;
    }
    let schema = node.schema.as_ref().map(|schema| columns::only(schema, &kept));
    Logical::new(Kind::Project { input: input.clone(), columns: kept }, schema)
}

/// All inputs must keep the same columns, so one that has more than the needed ones is cut to them.
fn union(plan: &PlanRef, needed: &Needed) -> PlanRef {
    let (Some(needed_names), Some(schema)) = (needed, &plan.schema) else { return pass(plan, &None) };
    if plan.inputs().iter().any(|input| input.schema.is_none()) {
        return pass(plan, &None);
    }
    let names: Vec<Column> =
        schema.fields().iter().filter(|f| needed_names.contains(f.name())).map(|f| Column::plain(f.name())).collect();
    if names.len() == schema.fields().len() {
        return pass(plan, &None);
    }
    rewrite_inputs(plan, |input| {
        let input = push(input, needed);
        match &input.schema {
            Some(schema) if schema.fields().len() > names.len() => {
                let schema = Some(columns::only(schema, &names));
                Logical::new(Kind::Project { input, columns: names.clone() }, schema)
            }
            _ => input,
        }
    })
}
