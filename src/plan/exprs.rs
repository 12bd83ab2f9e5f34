//! What the planner asks about expressions, in one place.

use std::collections::{BTreeMap, BTreeSet};

use arrow::datatypes::{Field, Schema};

use crate::expr::{Expr, ExprError, Function, UnaryOp};

pub(crate) use crate::expr::{conjoin as all_of, split_conjuncts as conjuncts};

/// The columns it looks at.
pub(crate) fn columns(expr: &Expr) -> BTreeSet<String> {
    expr.columns()
}

/// The column it is, if it is no more than that.
pub(crate) fn as_column(expr: &Expr) -> Option<&str> {
    match expr.unaliased() {
        Expr::Column(name) => Some(name),
        _ => None,
    }
}

/// Whether computing it twice costs nothing: a column or a constant.
pub(crate) fn is_free(expr: &Expr) -> bool {
    matches!(expr.unaliased(), Expr::Column(_) | Expr::Literal(_))
}

/// Calls `see` for each place that looks at a column.
pub(crate) fn each_use(expr: &Expr, see: &mut dyn FnMut(&str)) {
    match expr {
        Expr::Column(name) => see(name),
        other => other.children().into_iter().for_each(|child| each_use(child, see)),
    }
}

/// The same with columns replaced by what makes them.
pub(crate) fn substitute(expr: &Expr, by_name: &BTreeMap<&str, &Expr>) -> Expr {
    expr.substitute(&|name| by_name.get(name).map(|expr| expr.unaliased().clone()))
}

/// The column that it makes of rows of `input`, named `name`.
pub(crate) fn field(expr: &Expr, name: &str, input: &Schema) -> Result<Field, ExprError> {
    Ok(expr.bind(input)?.field().clone().with_name(name))
}

/// Whether some value can make it fail: overflow, division by zero, a cast that does not fit.
pub(crate) fn can_fail(expr: &Expr) -> bool {
    let itself = match expr {
        Expr::Binary { op, .. } => op.is_arithmetic(),
        Expr::Unary { op, .. } => *op == UnaryOp::Negate,
        Expr::Cast { lossy, .. } => !lossy,
        Expr::Call { function, .. } => !is_total(*function),
        Expr::Column(_) | Expr::Literal(_) | Expr::Alias { .. } | Expr::IsIn { .. } | Expr::When { .. } => false,
    };
    itself || expr.children().into_iter().any(can_fail)
}

/// Functions that have a result for every value. What is not listed here is taken to fail.
fn is_total(function: Function) -> bool {
    use Function::*;
    matches!(
        function,
        IsNan | Lower | Upper | Trim | Length | Contains | StartsWith | EndsWith | Like | ILike | Coalesce
    )
}
