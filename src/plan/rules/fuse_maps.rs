//! Neighbouring lists of columns become one, and so do neighbouring filters, where that changes nothing but the cost.

use std::collections::BTreeMap;

use super::{bottom_up, can_fail_over};
use crate::expr::Expr;
use crate::plan::columns::Column;
use crate::plan::exprs;
use crate::plan::logical::{Kind, Logical, PlanRef};

pub(super) fn apply(plan: &PlanRef) -> PlanRef {
    bottom_up(plan, &|node| match &node.kind {
        Kind::Project { input, columns } => fuse_projects(node, input, columns),
        Kind::Filter { input, predicate } => fuse_filters(node, input, predicate),
        _ => None,
    })
}

fn fuse_projects(node: &PlanRef, input: &PlanRef, outer: &[Column]) -> Option<PlanRef> {
    let Kind::Project { input: below, columns: inner } = &input.kind else { return None };
    if computes_twice(outer, inner) {
        return None;
    }
    let by_name: BTreeMap<&str, &Expr> = inner.iter().map(|column| (column.name.as_str(), &column.expr)).collect();
    let columns = outer.iter().map(|column| column.substitute(&by_name)).collect();
    Some(Logical::new(Kind::Project { input: below.clone(), columns }, node.schema.clone()))
}

/// Whether a computed inner column is used more than once outside: fused, it would be computed as often.
fn computes_twice(outer: &[Column], inner: &[Column]) -> bool {
    let mut uses: BTreeMap<String, usize> = BTreeMap::new();
    for column in outer {
        exprs::each_use(&column.expr, &mut |name| *uses.entry(name.to_owned()).or_default() += 1);
    }
    inner.iter().any(|column| !exprs::is_free(&column.expr) && uses.get(&column.name).is_some_and(|uses| *uses > 1))
}

/// Both at once sees rows that the first alone would have kept away from the second, so the second must not fail.
fn fuse_filters(node: &PlanRef, input: &PlanRef, second: &Expr) -> Option<PlanRef> {
    let Kind::Filter { input: below, predicate: first } = &input.kind else { return None };
    if can_fail_over(second, below) {
        return None;
    }
    let predicate = first.clone().and(second.clone());
    Some(Logical::new(Kind::Filter { input: below.clone(), predicate }, node.schema.clone()))
}
