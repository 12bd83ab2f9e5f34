//! Nodes that do nothing are left out.

use super::bottom_up;
use crate::plan::columns::Column;
use crate::plan::logical::{Effect, Kind, Logical, PlanRef};

pub(super) fn apply(plan: &PlanRef) -> PlanRef {
    bottom_up(plan, &|node| match &node.kind {
        Kind::Project { input, columns } if passes_all(columns, input) => Some(input.clone()),
        Kind::Limit { rows: 0, .. } => Some(empty(node)),
        Kind::Limit { input, rows } if input.rows_max().is_some_and(|max| max <= *rows) => Some(input.clone()),
        Kind::Unordered { input } if matches!(input.kind, Kind::Unordered { .. }) => Some(input.clone()),
        Kind::Union { inputs } => simplify_union(node, inputs),
        _ if passes_nothing(node) => Some(empty(node)),
        _ => None,
    })
}

/// Whether these are exactly the columns of the input, as they are and in order.
fn passes_all(columns: &[Column], input: &PlanRef) -> bool {
    let Some(schema) = &input.schema else { return false };
    schema.fields().len() == columns.len()
        && schema.fields().iter().zip(columns).all(|(field, column)| column.is_plain() && *field.name() == column.name)
}

/// Unions within unions are opened, inputs without rows left out.
fn simplify_union(node: &PlanRef, inputs: &[PlanRef]) -> Option<PlanRef> {
    let mut kept = Vec::new();
    for input in inputs {
        match &input.kind {
            Kind::Union { inputs } => kept.extend(inputs.iter().cloned()),
            Kind::Empty => {}
            _ => kept.push(input.clone()),
        }
    }
    let same = kept.len() == inputs.len() && !inputs.iter().any(|input| matches!(input.kind, Kind::Union { .. }));
    match kept.len() {
        0 => Some(empty(node)),
        1 => kept.pop(),
        _ if same => None,
        _ => Some(Logical::new(Kind::Union { inputs: kept }, node.schema.clone())),
    }
}

/// Whether nothing comes out because nothing goes in.
fn passes_nothing(node: &Logical) -> bool {
    let inputs = node.inputs();
    let opaque = matches!(&node.kind, Kind::Map { step, .. } if step.effect == Effect::Any);
    !opaque && !inputs.is_empty() && inputs.iter().all(|input| matches!(input.kind, Kind::Empty))
}

fn empty(node: &PlanRef) -> PlanRef {
    Logical::new(Kind::Empty, node.schema.clone())
}
