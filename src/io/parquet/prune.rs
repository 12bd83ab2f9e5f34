//! Which row groups and pages a predicate lets one skip. Pruning is sound: what may hold a matching row is kept.
//!
//! A condition is decided by the bounds of a container of rows (a row group, a page): `a > 5` can hold in it only if
//! it holds for the container's largest `a`. The bounds are compared by the engine's own expressions, so types are
//! brought together just as they are when the filter runs. Whatever is not understood keeps all rows.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::arrow_reader::ArrowReaderMetadata;

use super::bounds::Footer;
use super::rows::RowSet;
use crate::expr::{BinaryOp, Expr, Literal, UnaryOp, lit};

/// For each row group of the file, whether it may hold a row for which `predicate` is true.
pub(super) fn row_groups(predicate: &Expr, footer: &ArrowReaderMetadata) -> Vec<bool> {
    let groups: Vec<usize> = (0..footer.metadata().num_row_groups()).collect();
    let footer = Footer::new(footer, &groups, false);
    let keep = Pruning { footer: &footer }.keep(predicate, false);
    footer.group_rows().iter().map(|rows| keep.as_ref().is_none_or(|keep| keep.touches(rows))).collect()
}

/// The rows, counted from the first of `groups`, for which `predicate` may be true.
pub(super) fn rows(predicate: &Expr, footer: &ArrowReaderMetadata, groups: &[usize]) -> Vec<Range<u64>> {
    let footer = Footer::new(footer, groups, true);
    let all = || RowSet::new(footer.group_rows().iter().cloned());
    Pruning { footer: &footer }.keep(predicate, false).unwrap_or_else(all).ranges().to_vec()
}

struct Pruning<'a> {
    footer: &'a Footer<'a>,
}

impl Pruning<'_> {
    /// Rows for which `expr` (or its negation) may be true; `None` if nothing can be said.
    fn keep(&self, expr: &Expr, negated: bool) -> Option<RowSet> {
        match expr.unaliased() {
            Expr::Column(name) => self.compare(name, BinaryOp::Eq, &lit(!negated)),
            Expr::Unary { op: UnaryOp::Not, expr } => self.keep(expr, !negated),
            Expr::Unary { op: UnaryOp::IsNull, expr } => self.nulls(expr, !negated),
            Expr::Unary { op: UnaryOp::IsNotNull, expr } => self.nulls(expr, negated),
            Expr::Binary { left, op: BinaryOp::And, right } => self.join(left, right, negated, !negated),
            Expr::Binary { left, op: BinaryOp::Or, right } => self.join(left, right, negated, negated),
            Expr::Binary { left, op, right } if op.is_comparison() => self.comparison(left, *op, right, negated),
            Expr::IsIn { expr, list } if !negated => self.is_in(expr, list),
            _ => None,
        }
    }

    fn join(&self, left: &Expr, right: &Expr, negated: bool, both: bool) -> Option<RowSet> {
        match (self.keep(left, negated), self.keep(right, negated)) {
            (Some(a), Some(b)) => Some(if both { a.and(&b) } else { a.or(&b) }),
            // A row must pass both, so what is known of one is enough.
            (one, other) if both => one.or(other),
            _ => None,
        }
    }

    fn comparison(&self, left: &Expr, op: BinaryOp, right: &Expr, negated: bool) -> Option<RowSet> {
        let op = if negated { opposite(op) } else { op };
        let (name, op, value) = match (left.unaliased(), right.unaliased()) {
            (Expr::Column(name), value) => (name, op, value),
            (value, Expr::Column(name)) => (name, op.swapped(), value),
            _ => return None,
        };
        if !value.columns().is_empty() {
            return None;
        }
        // `not (a < 5)` is true where `a` is NaN, `a >= 5` is not.
        let floats = self.footer.data_type(name)?.is_floating() || type_of(value)?.is_floating();
        if negated && floats {
            return None;
        }
        self.compare(name, op, value)
    }

    fn compare(&self, name: &str, op: BinaryOp, value: &Expr) -> Option<RowSet> {
        let bounds = self.footer.bounds(name)?;
        if !ordered_alike(bounds.min.data_type(), &type_of(value)?) {
            return None;
        }
        let min = |op| check(&bounds.min, op, value);
        let max = |op| check(&bounds.max, op, value);
        let possible = match op {
            BinaryOp::Gt | BinaryOp::GtEq => vec![max(op)?],
            BinaryOp::Lt | BinaryOp::LtEq => vec![min(op)?],
            BinaryOp::Eq => vec![min(BinaryOp::LtEq)?, max(BinaryOp::GtEq)?],
            // Bounds of text may be cut short, and NaN differs from everything without being in them.
            BinaryOp::NotEq if bounds.exact() => {
                return Some(bounds.keep(|i| !(holds(&min(BinaryOp::Eq), i) && holds(&max(BinaryOp::Eq), i))));
            }
            _ => return None,
        };
        // Comparing a null is never true, so a container of nulls holds no match.
        Some(bounds.keep(|i| !bounds.all_null(i) && possible.iter().all(|p| p.is_null(i) || p.value(i))))
    }

    fn is_in(&self, expr: &Expr, list: &[Literal]) -> Option<RowSet> {
        let Expr::Column(name) = expr.unaliased() else { return None };
        if list.len() > LIST_MAX {
            return None;
        }
        let mut any = RowSet::default();
        for value in list.iter().filter(|value| !value.is_null()) {
            any = any.or(&self.compare(name, BinaryOp::Eq, &Expr::Literal(value.clone()))?);
        }
        Some(any)
    }

    fn nulls(&self, expr: &Expr, null: bool) -> Option<RowSet> {
        let Expr::Column(name) = expr.unaliased() else { return None };
        let bounds = self.footer.bounds(name)?;
        Some(bounds.keep(|i| if null { !bounds.no_null(i) } else { !bounds.all_null(i) }))
    }
}

/// `bound op value` for each container; null where the bound is unknown.
fn check(bound: &ArrayRef, op: BinaryOp, value: &Expr) -> Option<BooleanArray> {
    let schema = Arc::new(Schema::new(vec![Field::new("bound", bound.data_type().clone(), true)]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::clone(bound)]).ok()?;
    let left = Box::new(Expr::Column("bound".into()));
    let test = Expr::Binary { left, op, right: Box::new(value.clone()) };
    let result = test.bind(&schema).ok()?.evaluate(&batch).ok()?;
    result.as_boolean_opt().cloned()
}

/// The type of an expression without columns.
fn type_of(value: &Expr) -> Option<DataType> {
    Some(value.bind(&Schema::empty()).ok()?.data_type().clone())
}

fn holds(test: &Option<BooleanArray>, i: usize) -> bool {
    test.as_ref().is_some_and(|test| test.is_valid(i) && test.value(i))
}

/// Whether bringing values of the two types together keeps the order of the first.
fn ordered_alike(column: &DataType, value: &DataType) -> bool {
    let text = |t: &DataType| matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    column == value || (column.is_numeric() && value.is_numeric()) || (text(column) && text(value))
}

fn opposite(op: BinaryOp) -> BinaryOp {
    match op {
        BinaryOp::Eq => BinaryOp::NotEq,
        BinaryOp::NotEq => BinaryOp::Eq,
        BinaryOp::Lt => BinaryOp::GtEq,
        BinaryOp::GtEq => BinaryOp::Lt,
        BinaryOp::Gt => BinaryOp::LtEq,
        BinaryOp::LtEq => BinaryOp::Gt,
        other => other,
    }
}

/// A longer list spans the bounds of most containers anyway, and each value is a comparison.
const LIST_MAX: usize = 100;
