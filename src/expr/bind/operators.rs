//! Binding of operators: arithmetic, comparison, boolean, null tests, `in`.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, new_empty_array};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType, Float64Type};

use super::align::{Purpose, adapt, convert, for_comparison, mismatch};
use super::{constant, type_error};
use crate::expr::error::ExprError;
use crate::expr::eval::{self, Membership};
use crate::expr::literal::Literal;
use crate::expr::node::{Kind, Node};
use crate::expr::tree::{BinaryOp, UnaryOp};
use crate::expr::types::{common_number, common_type, decimal_operands, is_number, is_plain_number, value_type};
use crate::expr::value::Value;
use crate::kernel::schema::type_name;

pub(super) fn unary(op: UnaryOp, node: Node, text: &Arc<str>) -> Result<Node, ExprError> {
    match op {
        UnaryOp::Not => {
            let node = boolean(node, text)?;
            let nullable = node.nullable;
            Node::new(Kind::Not(Box::new(node)), DataType::Boolean, nullable, text)
        }
        UnaryOp::IsNull | UnaryOp::IsNotNull => {
            Node::new(Kind::NullTest(Box::new(node), op == UnaryOp::IsNull), DataType::Boolean, false, text)
        }
        UnaryOp::Negate => negate(node, text),
    }
}

fn negate(node: Node, text: &Arc<str>) -> Result<Node, ExprError> {
    let data_type = value_type(&node.data_type).clone();
    if data_type.is_unsigned_integer() {
        let reason = format!("{} has no negative values; cast it to a signed type first", type_name(&data_type));
        return Err(type_error(text, reason));
    }
    if eval::negate(&empty(&data_type)).is_err() {
        return Err(type_error(text, format!("cannot negate {}", type_name(&data_type))));
    }
    let (nullable, adapts) = (node.nullable, node.adapts);
    let node = convert(node, &data_type)?;
    Ok(Node { adapts, ..Node::new(Kind::Negate(Box::new(node)), data_type, nullable, text)? })
}

/// The node as a condition; the untyped null is an unknown one.
pub(super) fn boolean(node: Node, text: &str) -> Result<Node, ExprError> {
    match value_type(&node.data_type) {
        DataType::Boolean | DataType::Null => convert(node, &DataType::Boolean),
        other => Err(type_error(text, format!("`{}` is {}, not boolean", node.text, type_name(other)))),
    }
}

pub(super) fn logical(left: Node, op: BinaryOp, right: Node, text: &Arc<str>) -> Result<Node, ExprError> {
    let (left, right) = (boolean(left, text)?, boolean(right, text)?);
    binary(left, op, right, DataType::Boolean, false, text)
}

pub(super) fn comparison(left: Node, op: BinaryOp, right: Node, text: &Arc<str>) -> Result<Node, ExprError> {
    let (left, right) = for_comparison(left, right, text)?;
    binary(left, op, right, DataType::Boolean, false, text)
}

pub(super) fn arithmetic(left: Node, op: BinaryOp, right: Node, text: &Arc<str>) -> Result<Node, ExprError> {
    let (left, right) = operands(left, right)?;
    let (a, b) = (&left.data_type, &right.data_type);
    let Ok(result) = eval::binary(empty(a), op, empty(b)) else {
        return Err(mismatch(verb(op), &left, "and", &right, text));
    };
    let data_type = result.array().data_type().clone();
    let divides = matches!(op, BinaryOp::Divide | BinaryOp::Remainder) && eval::divides_to_null(b);
    binary(left, op, right, data_type, divides, text)
}

fn binary(
    left: Node,
    op: BinaryOp,
    right: Node,
    data_type: DataType,
    nulls: bool,
    text: &Arc<str>,
) -> Result<Node, ExprError> {
    let nullable = nulls || left.nullable || right.nullable;
    Node::new(Kind::Binary(Box::new(left), op, Box::new(right)), data_type, nullable, text)
}

/// The operands of a calculation, brought to types that Arrow calculates with; times of two units to the finer one.
fn operands(left: Node, right: Node) -> Result<(Node, Node), ExprError> {
    let (a, b) = (value_type(&left.data_type).clone(), value_type(&right.data_type).clone());
    let (left, right) = (convert(left, &a)?, convert(right, &b)?);
    if a.is_null() || b.is_null() {
        let to = if a.is_null() { &b } else { &a };
        return Ok((convert(left, to)?, convert(right, to)?));
    }
    if !is_number(&a) || !is_number(&b) {
        return match common_type(&a, &b) {
            Some(common) => Ok((convert(left, &common)?, convert(right, &common)?)),
            None => Ok((left, right)),
        };
    }
    if !left.adapts
        && let Some(right) = adapt(&right, &a, Purpose::Compute)
    {
        return Ok((left, right));
    }
    if !right.adapts
        && let Some(left) = adapt(&left, &b, Purpose::Compute)
    {
        return Ok((left, right));
    }
    let (to_a, to_b) = if is_plain_number(&a) && is_plain_number(&b) {
        let common = common_number(&a, &b);
        (common.clone(), common)
    } else if a.is_floating() || b.is_floating() {
        (DataType::Float64, DataType::Float64)
    } else {
        decimal_operands(&a, &b).unwrap_or((a, b))
    };
    Ok((convert(left, &to_a)?, convert(right, &to_b)?))
}

fn verb(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Add => "add",
        BinaryOp::Subtract => "subtract",
        BinaryOp::Multiply => "multiply",
        _ => "divide",
    }
}

fn empty(data_type: &DataType) -> Value {
    Value::Array(new_empty_array(data_type))
}

pub(super) fn is_in(node: Node, list: &[Literal], text: &Arc<str>) -> Result<Node, ExprError> {
    let data_type = value_type(&node.data_type).clone();
    let node = convert(node, &data_type)?;
    let mut values = vec![new_empty_array(&data_type)];
    for literal in list.iter().filter(|literal| !literal.is_null()) {
        values.extend(listed(&node, literal, text)?);
    }
    let values: Vec<_> = values.iter().map(AsRef::as_ref).collect();
    let null = list.iter().any(Literal::is_null);
    let list = concat(&values).and_then(|values| Membership::new(&values, null));
    let list = list.map_err(|source| type_error(text, source.to_string()))?;
    let nullable = node.nullable || null;
    Node::new(Kind::IsIn(Box::new(node), Arc::new(list)), DataType::Boolean, nullable, text)
}

/// A listed value in the type of what is looked up; `None` if that type has no such value, so that it never matches.
fn listed(node: &Node, literal: &Literal, text: &str) -> Result<Option<ArrayRef>, ExprError> {
    let printed: Arc<str> = literal.to_string().into();
    let value = Node { adapts: true, ..constant(literal.to_array(), &printed) };
    if is_nan(literal) {
        return Ok(None);
    }
    if let Some(adapted) = adapt(&value, &node.data_type, Purpose::Compare) {
        return Ok(adapted.constant().map(|value| value.clone().into_inner()));
    }
    match common_type(&node.data_type, &value.data_type) {
        Some(_) => Ok(None),
        None => Err(mismatch("look up", &value, "among values of", node, text)),
    }
}

fn is_nan(literal: &Literal) -> bool {
    let value = literal.to_array();
    value.data_type().is_floating()
        && cast(&value, &DataType::Float64).is_ok_and(|value| value.as_primitive::<Float64Type>().value(0).is_nan())
}
