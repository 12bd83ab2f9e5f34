//! Limits reach the sources: a read stops early, and a step with workers of its own gets no more rows than are wanted.
//!
//! The limit itself stays where it is: a source counts in each split for itself, and may read a little more.

use std::sync::Arc;

use super::rewrite_inputs;
use crate::io::Scan;
use crate::plan::logical::{Kind, Logical, PlanRef};

pub(super) fn apply(plan: &PlanRef) -> PlanRef {
    push(plan, None)
}

/// `wanted`: no more than so many rows of `plan`, the first ones, are looked at.
fn push(plan: &PlanRef, wanted: Option<u64>) -> PlanRef {
    match &plan.kind {
        Kind::Limit { rows, .. } => {
            let rows = wanted.map_or(*rows, |wanted| wanted.min(*rows));
            rewrite_inputs(plan, |input| push(input, Some(rows)))
        }
        Kind::Project { .. } | Kind::Edit { .. } | Kind::Unordered { .. } | Kind::Union { .. } => {
            rewrite_inputs(plan, |input| push(input, wanted))
        }
        Kind::Map { step, .. } if step.keeps_count() => rewrite_inputs(plan, |input| {
            let input = push(input, wanted);
            if step.stands_alone() { limited(input, wanted) } else { input }
        }),
        Kind::Scan(scan) => match wanted {
            Some(rows) if narrows(scan, rows) => Logical::new(Kind::Scan(scan.with_limit(rows)), plan.schema.clone()),
            _ => Arc::clone(plan),
        },
        Kind::Empty | Kind::Filter { .. } | Kind::Map { .. } => rewrite_inputs(plan, |input| push(input, None)),
    }
}

/// Whether the scan would read less if it had to give no more than these rows.
fn narrows(scan: &Scan, rows: u64) -> bool {
    let has_fewer = scan.row_count().is_some_and(|count| count <= rows);
    !has_fewer && scan.limit().is_none_or(|limit| limit > rows) && scan.predicate().is_none()
}

/// The input, cut where it may have more rows than wanted.
fn limited(input: PlanRef, wanted: Option<u64>) -> PlanRef {
    match wanted {
        Some(rows) if input.rows_max().is_none_or(|max| max > rows) => {
            let schema = input.schema.clone();
            Logical::new(Kind::Limit { input, rows }, schema)
        }
        _ => input,
    }
}
