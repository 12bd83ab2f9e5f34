//! Binding of functions and of `when`.

use std::sync::Arc;

use arrow::datatypes::DataType;

use super::align::{Purpose, adapt, convert, for_choice, mismatch};
use super::operators::boolean;
use super::type_error;
use crate::expr::error::ExprError;
use crate::expr::node::{Kind, Node};
use crate::expr::tree::Function;
use crate::expr::types::{common_type, is_number, is_text, value_type};
use crate::kernel::schema::type_name;

pub(super) fn when(condition: Node, then: Node, otherwise: Node, text: &Arc<str>) -> Result<Node, ExprError> {
    let condition = boolean(condition, text)?;
    let values = for_choice(vec![then, otherwise], text)?;
    let [then, otherwise]: [Node; 2] = values.try_into().expect("two values went in");
    let (data_type, nullable) = (then.data_type.clone(), then.nullable || otherwise.nullable);
    Node::new(Kind::When(Box::new([condition, then, otherwise])), data_type, nullable, text)
}

pub(super) fn call(function: Function, args: Vec<Node>, text: &Arc<str>) -> Result<Node, ExprError> {
    if let Some(count) = arity(function).filter(|count| *count != args.len()) {
        return Err(type_error(text, format!("{} takes {count} arguments, not {}", function.name(), args.len())));
    }
    use Function::*;
    match function {
        Abs | Round | Floor | Ceil | Sqrt | IsNan => math(function, args, text),
        Coalesce => coalesce(args, text),
        _ => string(function, args, text),
    }
}

fn arity(function: Function) -> Option<usize> {
    use Function::*;
    match function {
        Coalesce => None,
        Replace => Some(3),
        Contains | StartsWith | EndsWith | Like | ILike => Some(2),
        _ => Some(1),
    }
}

fn coalesce(args: Vec<Node>, text: &Arc<str>) -> Result<Node, ExprError> {
    let args = for_choice(args, text)?;
    let nullable = args.iter().all(|arg| arg.nullable);
    let data_type = args.first().map_or(DataType::Null, |arg| arg.data_type.clone());
    Node::new(Kind::Call(Function::Coalesce, args), data_type, nullable, text)
}

fn math(function: Function, args: Vec<Node>, text: &Arc<str>) -> Result<Node, ExprError> {
    let argument = args.into_iter().next().expect("arity was checked");
    let data_type = value_type(&argument.data_type).clone();
    let Some(to) = math_type(function, &data_type) else {
        let reason = match is_number(&data_type) {
            true => format!("{} does not take {}; cast it to float64 first", function.name(), type_name(&data_type)),
            false => format!("{} takes a number, not {}", function.name(), type_name(&data_type)),
        };
        return Err(type_error(text, reason));
    };
    let nullable = argument.nullable;
    let result = if function == Function::IsNan { DataType::Boolean } else { to.clone() };
    Node::new(Kind::Call(function, vec![convert(argument, &to)?]), result, nullable, text)
}

/// The type that a function of numbers calculates in for an argument, `None` if it does not take it.
fn math_type(function: Function, argument: &DataType) -> Option<DataType> {
    use DataType::*;
    match (function, argument) {
        (_, Float16 | Float32) => Some(Float32),
        (_, Float64) => Some(Float64),
        (Function::IsNan, _) => None,
        (Function::Sqrt, number) if is_number(number) => Some(Float64),
        (Function::Abs, number) if is_number(number) => Some(number.clone()),
        (_, number) if number.is_integer() => Some(number.clone()),
        _ => None,
    }
}

fn string(function: Function, args: Vec<Node>, text: &Arc<str>) -> Result<Node, ExprError> {
    if let Some(other) = args.iter().find(|arg| !is_text(value_type(&arg.data_type)) && !arg.data_type.is_null()) {
        let reason =
            format!("{} takes strings, and `{}` is {}", function.name(), other.text, type_name(&other.data_type));
        return Err(type_error(text, format!("{reason}; cast it with .cast(DataType::Utf8)")));
    }
    let nullable = args.iter().any(|arg| arg.nullable);
    let args = one_text_type(args, text)?;
    let result = match function {
        Function::Length => DataType::Int64,
        Function::Lower | Function::Upper | Function::Trim | Function::Substring { .. } | Function::Replace => {
            args.first().map_or(DataType::Utf8, |arg| arg.data_type.clone())
        }
        _ => DataType::Boolean,
    };
    Node::new(Kind::Call(function, args), result, nullable, text)
}

/// All arguments in the string type of the first, or in one that holds them all.
fn one_text_type(args: Vec<Node>, text: &str) -> Result<Vec<Node>, ExprError> {
    let mut to = DataType::Null;
    for arg in args.iter().filter(|arg| !arg.adapts).chain(args.iter().filter(|arg| arg.adapts && args.len() == 1)) {
        let first = &args[0];
        to = common_type(&to, &arg.data_type).ok_or_else(|| mismatch("combine", first, "with", arg, text))?;
    }
    let to = if to.is_null() { DataType::Utf8 } else { to };
    args.into_iter().map(|arg| adapt(&arg, &to, Purpose::Compute).map_or_else(|| convert(arg, &to), Ok)).collect()
}
