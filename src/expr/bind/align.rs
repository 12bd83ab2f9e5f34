//! Bringing operands to types that go together.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, new_null_array};
use arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use arrow::datatypes::DataType;

use super::{constant, type_error};
use crate::expr::error::ExprError;
use crate::expr::node::{Kind, Node};
use crate::expr::types::{WIDE_INTEGER, common_type, exceeds_integers, is_bytes, is_number, is_text, value_type};
use crate::kernel::schema::type_name;

/// What a constant may become beside a value of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// `int column > 10.0` may compare integers: the answer is the same.
    Compare,
    /// `int column / 2.0` may not divide integers: a float stays a float.
    Compute,
}

/// The node as a value of that type, at no loss; values that do not fit are an error when they are met.
pub(super) fn convert(node: Node, to: &DataType) -> Result<Node, ExprError> {
    if node.data_type == *to {
        return Ok(node);
    }
    if !can_cast_types(&node.data_type, to) {
        let reason = format!("cannot use {} as {}", type_name(&node.data_type), type_name(to));
        return Err(type_error(&node.text, reason));
    }
    let (nullable, text) = (node.nullable, Arc::clone(&node.text));
    Node::new(Kind::Cast(Box::new(node), false), to.clone(), nullable, &text)
}

/// A constant as a value of that type, if it was written without a type in mind and loses nothing.
pub(super) fn adapt(node: &Node, to: &DataType, purpose: Purpose) -> Option<Node> {
    let value = node.constant().filter(|_| node.adapts)?.clone().into_inner();
    if !may_become(value.data_type(), to, purpose) {
        return None;
    }
    let adapted = lossless(&value, to)?;
    Some(Node { adapts: true, ..constant(adapted, &node.text) })
}

fn may_become(from: &DataType, to: &DataType, purpose: Purpose) -> bool {
    let number = match purpose {
        Purpose::Compare => is_number(from) && is_number(to),
        Purpose::Compute => (from.is_integer() && is_number(to)) || (from.is_floating() && to.is_floating()),
    };
    number || from == to || from.is_null() || (is_text(from) && is_text(to)) || (is_bytes(from) && is_bytes(to))
}

fn lossless(value: &ArrayRef, to: &DataType) -> Option<ArrayRef> {
    if value.logical_null_count() > 0 {
        return Some(new_null_array(to, 1));
    }
    let options = CastOptions { safe: true, ..CastOptions::default() };
    let there = cast_with_options(value, to, &options).ok().filter(|there| there.is_valid(0))?;
    let back = cast_with_options(&there, value.data_type(), &options).ok()?;
    (back.as_ref() == value.as_ref()).then_some(there)
}

/// Two operands of a comparison, of one type; a dictionary stays one beside values of its type.
pub(super) fn for_comparison(left: Node, right: Node, text: &str) -> Result<(Node, Node), ExprError> {
    let (a, b) = (value_type(&left.data_type).clone(), value_type(&right.data_type).clone());
    if a.is_nested() || b.is_nested() {
        let reason = format!("cannot compare {} with {}", type_name(&left.data_type), type_name(&right.data_type));
        return Err(type_error(text, reason));
    }
    if !left.adapts
        && let Some(right) = adapt(&right, &a, Purpose::Compare)
    {
        return Ok((comparable(left)?, right));
    }
    if !right.adapts
        && let Some(left) = adapt(&left, &b, Purpose::Compare)
    {
        return Ok((left, comparable(right)?));
    }
    if a == b {
        return Ok((comparable(left)?, comparable(right)?));
    }
    let common = if exceeds_integers(&a, &b) { Some(WIDE_INTEGER) } else { common_type(&a, &b) };
    match common {
        Some(common) => Ok((convert(left, &common)?, convert(right, &common)?)),
        None => Err(mismatch("compare", &left, "with", &right, text)),
    }
}

/// The kernels look into dictionaries of all types but floats, which we compare ourselves.
fn comparable(node: Node) -> Result<Node, ExprError> {
    let plain = value_type(&node.data_type).clone();
    if plain.is_floating() { convert(node, &plain) } else { Ok(node) }
}

/// Values of one type, for a choice between them.
pub(super) fn for_choice(nodes: Vec<Node>, text: &str) -> Result<Vec<Node>, ExprError> {
    let to = choice_type(&nodes, text)?;
    nodes.into_iter().map(|node| adapt(&node, &to, Purpose::Compute).map_or_else(|| convert(node, &to), Ok)).collect()
}

/// The type that holds all of the values. Constants have a say only where they do not fit the others.
fn choice_type(nodes: &[Node], text: &str) -> Result<DataType, ExprError> {
    let typed = nodes.iter().filter(|node| !node.adapts);
    let constants = nodes.iter().filter(|node| node.adapts);
    let adaptable = nodes.iter().any(|node| !node.adapts);
    let mut so_far: Option<(DataType, &Node)> = None;
    for node in typed.chain(constants) {
        so_far = Some(match so_far {
            None => (value_type(&node.data_type).clone(), node),
            Some(found) if adaptable && adapt(node, &found.0, Purpose::Compute).is_some() => found,
            // No integer holds both an int64 and a uint64, and a choice must not fail on a value.
            Some((found, first)) => match common_type(&found, &node.data_type) {
                Some(common) if !exceeds_integers(&found, value_type(&node.data_type)) => (common, first),
                _ => return Err(mismatch("choose between", first, "and", node, text)),
            },
        });
    }
    so_far.map(|(to, _)| to).ok_or_else(|| type_error(text, "needs at least one value"))
}

/// The error that two types do not go together, and what to do.
pub(super) fn mismatch(verb: &str, left: &Node, word: &str, right: &Node, text: &str) -> ExprError {
    let (a, b) = (&left.data_type, &right.data_type);
    let (changed, to) = if is_text(value_type(a)) && !is_text(value_type(b)) { (left, b) } else { (right, a) };
    let hint = match can_cast_types(&changed.data_type, to) {
        true => format!("; cast one of them, for example `{}` with .cast(DataType::{to:?})", changed.text),
        false => String::new(),
    };
    type_error(text, format!("cannot {verb} {} {word} {}{hint}", type_name(a), type_name(b)))
}
