//! Rules: rewrites of a logical plan that keep its rows, one file each.
//!
//! A rule may make a plan fail on fewer inputs (a column that nobody reads is not computed), never on more. It returns
//! the very same plan when it has nothing to do; that is how the end is seen.

mod clean_up;
mod fuse_maps;
mod push_filter;
mod push_limit;
mod push_projection;

use std::sync::Arc;

use super::exprs;
use super::logical::PlanRef;
use crate::expr::Expr;

/// A rewrite of a whole plan.
type Rule = fn(&PlanRef) -> PlanRef;

/// Filters go first, so that a projection fused with its neighbour does not hide a plain column from them.
const RULES: [Rule; 5] =
    [push_filter::apply, fuse_maps::apply, push_limit::apply, push_projection::apply, clean_up::apply];

/// Each round moves a filter down by at least one node and plans are seldom this deep; a plan that is deeper is only
/// optimized less.
const ROUNDS_MAX: usize = 64;

/// Applies the rules until none has anything to do.
pub(crate) fn optimize(plan: &PlanRef) -> PlanRef {
    let mut plan = Arc::clone(plan);
    for _ in 0..ROUNDS_MAX {
        let after = RULES.iter().fold(Arc::clone(&plan), |plan, rule| rule(&plan));
        if Arc::ptr_eq(&plan, &after) {
            break;
        }
        plan = after;
    }
    plan
}

/// Rewrites a plan from its sources up: `rewrite` gets each node over its rewritten inputs, and returns `None` to keep it.
fn bottom_up(plan: &PlanRef, rewrite: &impl Fn(&PlanRef) -> Option<PlanRef>) -> PlanRef {
    let node = rewrite_inputs(plan, |input| bottom_up(input, rewrite));
    rewrite(&node).unwrap_or(node)
}

/// Whether rows of `input` could make the predicate fail, be it for a value or because its columns are not known to fit.
fn can_fail_over(predicate: &Expr, input: &PlanRef) -> bool {
    input.schema.is_none() || exprs::can_fail(predicate)
}

/// The same node over rewritten inputs; the very same plan if none of them changed.
fn rewrite_inputs(plan: &PlanRef, rewrite: impl FnMut(&PlanRef) -> PlanRef) -> PlanRef {
    let before = plan.inputs();
    let after: Vec<PlanRef> = before.iter().copied().map(rewrite).collect();
    let same = before.iter().zip(&after).all(|(before, after)| Arc::ptr_eq(before, after));
    if same { Arc::clone(plan) } else { plan.with_inputs(after) }
}
