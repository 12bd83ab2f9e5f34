//! A bound expression inside: nodes whose columns are indexes and whose operands have the types their kernel takes.

use std::sync::Arc;

use arrow::array::{ArrayRef, Scalar};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use super::error::ExprError;
use super::eval::{self, Membership};
use super::tree::{BinaryOp, Function};
use super::value::Value;

/// One operation of a bound expression.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) kind: Kind,
    pub(super) data_type: DataType,
    pub(super) nullable: bool,
    /// The part of the expression it stands for, as printed: errors name it.
    pub(super) text: Arc<str>,
    /// A constant that takes the type of what it meets, as it was written without one in mind.
    pub(super) adapts: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    Column(usize),
    Constant(Scalar<ArrayRef>),
    Not(Box<Node>),
    Negate(Box<Node>),
    /// Whether its value is null, or (`false`) is not.
    NullTest(Box<Node>, bool),
    /// Arithmetic, comparison, `and`, `or`.
    Binary(Box<Node>, BinaryOp, Box<Node>),
    /// To the node's type; a value that does not fit is null if `lossy`.
    Cast(Box<Node>, bool),
    IsIn(Box<Node>, Arc<Membership>),
    When(Box<[Node; 3]>),
    Call(Function, Vec<Node>),
}

impl Node {
    /// A node that is computed at once if it does not depend on columns.
    ///
    /// # Errors
    /// If it is constant and has no value.
    pub(super) fn new(kind: Kind, data_type: DataType, nullable: bool, text: &Arc<str>) -> Result<Self, ExprError> {
        let node = Self { kind, data_type, nullable, text: Arc::clone(text), adapts: false };
        if !node.children().iter().all(|child| child.constant().is_some()) || matches!(node.kind, Kind::Column(_)) {
            return Ok(node);
        }
        match node.evaluate(&[])? {
            Value::Scalar(value) => Ok(Self { kind: Kind::Constant(value), ..node }),
            Value::Array(_) => Ok(node),
        }
    }

    /// The constant it is.
    pub(super) fn constant(&self) -> Option<&Scalar<ArrayRef>> {
        match &self.kind {
            Kind::Constant(value) => Some(value),
            _ => None,
        }
    }

    fn children(&self) -> Vec<&Self> {
        match &self.kind {
            Kind::Column(_) | Kind::Constant(_) => Vec::new(),
            Kind::Not(a) | Kind::Negate(a) | Kind::NullTest(a, _) | Kind::Cast(a, _) | Kind::IsIn(a, _) => vec![a],
            Kind::Binary(a, _, b) => vec![a, b],
            Kind::When(parts) => parts.iter().collect(),
            Kind::Call(_, args) => args.iter().collect(),
        }
    }

    /// Its values for the rows of these columns.
    ///
    /// # Errors
    /// If a value has no result, naming the part of the expression.
    pub(super) fn evaluate(&self, columns: &[ArrayRef]) -> Result<Value, ExprError> {
        let failed = |source| ExprError::Evaluate { expr: self.text.to_string(), source };
        match &self.kind {
            Kind::Column(index) => Ok(Value::Array(Arc::clone(columns.get(*index).expect("a bound column exists")))),
            Kind::Constant(value) => Ok(Value::Scalar(value.clone())),
            Kind::Not(a) => eval::not(&a.evaluate(columns)?).map_err(failed),
            Kind::Negate(a) => eval::negate(&a.evaluate(columns)?).map_err(failed),
            Kind::NullTest(a, null) => eval::null_test(&a.evaluate(columns)?, *null).map_err(failed),
            Kind::Binary(a, op, b) => eval::binary(a.evaluate(columns)?, *op, b.evaluate(columns)?).map_err(failed),
            Kind::Cast(a, lossy) => cast_value(a.evaluate(columns)?, &self.data_type, *lossy).map_err(failed),
            Kind::IsIn(a, list) => list.test(a.evaluate(columns)?).map_err(failed),
            Kind::When(parts) => {
                let [condition, then, otherwise] = parts.as_ref();
                let condition = condition.evaluate(columns)?;
                eval::choose(&condition, &then.evaluate(columns)?, &otherwise.evaluate(columns)?).map_err(failed)
            }
            Kind::Call(function, args) => {
                let args = args.iter().map(|arg| arg.evaluate(columns)).collect::<Result<Vec<_>, _>>()?;
                eval::call(*function, args).map_err(failed)
            }
        }
    }
}

/// The value as another type. One that does not fit is null if `lossy`, else an error.
pub(super) fn cast_value(value: Value, to: &DataType, lossy: bool) -> Result<Value, ArrowError> {
    let scalar = value.is_scalar();
    let array = value.into_inner();
    if array.data_type() == to {
        return Ok(Value::new(array, scalar));
    }
    let options = CastOptions { safe: lossy, ..CastOptions::default() };
    Ok(Value::new(cast_with_options(&array, to, &options)?, scalar))
}
