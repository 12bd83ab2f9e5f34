//! A plain interpreter of expressions, a row at a time, on Rust values: what the vectorized evaluation must agree with.
//! It knows the columns of the random batches only, and none of Arrow's kernels.

use std::collections::BTreeMap;

use crate::expr::{BinaryOp, Expr, Function, Literal, UnaryOp};

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Int { bits: u32, signed: bool },
    Float,
    Bool,
    Text,
}

/// A value; an integer in a type that holds all of ours.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Plain {
    Null,
    /// What depends on a row, where there is none.
    Unknown,
    Int(i128),
    Float(f64),
    Bool(bool),
    Text(String),
}

pub(super) type Row = BTreeMap<&'static str, Plain>;

/// What cannot be computed: an overflow, a negation of an unsigned value.
#[derive(Debug)]
pub(super) struct Failed;

const SIGNED_32: Type = Type::Int { bits: 32, signed: true };
const SIGNED_64: Type = Type::Int { bits: 64, signed: true };

fn column_type(name: &str) -> Type {
    match name {
        "i" => SIGNED_32,
        "l" => SIGNED_64,
        "u" => Type::Int { bits: 8, signed: false },
        "f" => Type::Float,
        "b" => Type::Bool,
        _ => Type::Text,
    }
}

pub(super) fn type_of(expr: &Expr) -> Type {
    match expr {
        Expr::Column(name) => column_type(name),
        Expr::Literal(Literal::Int32(_)) => SIGNED_32,
        Expr::Literal(Literal::Float64(_)) => Type::Float,
        Expr::Literal(Literal::Boolean(_)) => Type::Bool,
        Expr::Literal(_) => Type::Text,
        Expr::Unary { op: UnaryOp::Negate, expr } => type_of(expr),
        Expr::Binary { left, op, right } if op.is_arithmetic() => common(left, right),
        Expr::When { then, otherwise, .. } => common(then, otherwise),
        Expr::Call { function: Function::Length, .. } => SIGNED_64,
        Expr::Call { function: Function::Sqrt, .. } => Type::Float,
        Expr::Call { function: Function::Coalesce, args } => common(&args[0], &args[1]),
        Expr::Call { function: Function::Contains | Function::StartsWith, .. } => Type::Bool,
        Expr::Call { args, .. } => type_of(&args[0]),
        _ => Type::Bool,
    }
}

/// An integer constant as it is written: it takes the type of what it meets, if it fits.
fn literal(expr: &Expr) -> Option<i128> {
    match expr {
        Expr::Literal(Literal::Int32(value)) => Some(i128::from(*value)),
        Expr::Unary { op: UnaryOp::Negate, expr } => match expr.as_ref() {
            Expr::Literal(_) | Expr::Unary { op: UnaryOp::Negate, .. } => literal(expr).map(|value| -value),
            _ => None,
        },
        _ => None,
    }
}

fn common(left: &Expr, right: &Expr) -> Type {
    let (a, b) = (type_of(left), type_of(right));
    let takes = |constant: &Expr, to| literal(constant).is_some_and(|value| fits(value, to));
    match (a, b) {
        (Type::Int { .. }, Type::Int { .. }) if literal(left).is_none() && takes(right, a) => a,
        (Type::Int { .. }, Type::Int { .. }) if literal(right).is_none() && takes(left, b) => b,
        (Type::Int { .. }, Type::Int { .. }) => wider(a, b),
        (Type::Float, _) | (_, Type::Float) => Type::Float,
        _ => a,
    }
}

fn wider(a: Type, b: Type) -> Type {
    match (a, b) {
        (Type::Int { bits: x, signed: true }, Type::Int { bits: y, signed: true }) => {
            Type::Int { bits: x.max(y), signed: true }
        }
        (Type::Int { signed: false, .. }, Type::Int { signed: false, .. }) => a,
        (signed @ Type::Int { signed: true, .. }, _) | (_, signed) => signed,
    }
}

fn fits(value: i128, of: Type) -> bool {
    match of {
        Type::Int { bits, signed: true } => (-(1i128 << (bits - 1))..1i128 << (bits - 1)).contains(&value),
        Type::Int { bits, signed: false } => (0..1i128 << bits).contains(&value),
        _ => true,
    }
}

fn checked(value: i128, of: Type) -> Result<Plain, Failed> {
    if fits(value, of) { Ok(Plain::Int(value)) } else { Err(Failed) }
}

/// The value of an expression for a row. All parts are computed, also those not chosen. A row of unknown values stands
/// for no row: what fails for it fails for every row and needs none.
pub(super) fn interpret(expr: &Expr, row: &Row) -> Result<Plain, Failed> {
    Ok(match expr {
        Expr::Column(name) => row[name.as_str()].clone(),
        Expr::Literal(Literal::Int32(value)) => Plain::Int(i128::from(*value)),
        Expr::Literal(Literal::Float64(value)) => Plain::Float(*value),
        Expr::Literal(Literal::Boolean(value)) => Plain::Bool(*value),
        Expr::Literal(Literal::Utf8(value)) => Plain::Text(value.clone()),
        Expr::Unary { op, expr } => unary(*op, interpret(expr, row)?, type_of(expr))?,
        Expr::Binary { left, op, right } => {
            let (a, b) = (interpret(left, row)?, interpret(right, row)?);
            if op.is_arithmetic() { arithmetic(a, *op, b, common(left, right))? } else { condition(a, *op, b) }
        }
        Expr::IsIn { expr, list } => match interpret(expr, row)? {
            Plain::Int(value) => Plain::Bool(list.contains(&Literal::Int32(value.try_into().unwrap_or(i32::MIN)))),
            Plain::Unknown => Plain::Unknown,
            _ => Plain::Null,
        },
        Expr::When { condition, then, otherwise } => {
            let (then_value, otherwise_value) = (interpret(then, row)?, interpret(otherwise, row)?);
            match interpret(condition, row)? {
                Plain::Unknown => Plain::Unknown,
                Plain::Bool(true) => as_type(then_value, type_of(expr)),
                _ => as_type(otherwise_value, type_of(expr)),
            }
        }
        Expr::Call { function, args } => {
            let values = args.iter().map(|arg| interpret(arg, row)).collect::<Result<Vec<_>, _>>()?;
            call(*function, values, type_of(expr))?
        }
        other => panic!("not generated: {other}"),
    })
}

fn as_type(value: Plain, of: Type) -> Plain {
    match (value, of) {
        (Plain::Int(value), Type::Float) => Plain::Float(value as f64),
        (value, _) => value,
    }
}

fn unary(op: UnaryOp, value: Plain, of: Type) -> Result<Plain, Failed> {
    Ok(match (op, value) {
        (UnaryOp::Negate, _) if matches!(of, Type::Int { signed: false, .. }) => return Err(Failed),
        (_, Plain::Unknown) => Plain::Unknown,
        (UnaryOp::IsNull, value) => Plain::Bool(value == Plain::Null),
        (UnaryOp::IsNotNull, value) => Plain::Bool(value != Plain::Null),
        (UnaryOp::Negate, Plain::Int(value)) => checked(-value, of)?,
        (UnaryOp::Negate, Plain::Float(value)) => Plain::Float(-value),
        (UnaryOp::Not, Plain::Bool(value)) => Plain::Bool(!value),
        _ => Plain::Null,
    })
}

fn arithmetic(a: Plain, op: BinaryOp, b: Plain, of: Type) -> Result<Plain, Failed> {
    Ok(match (as_type(a, of), as_type(b, of)) {
        (Plain::Unknown, _) | (_, Plain::Unknown) => Plain::Unknown,
        (Plain::Int(_), Plain::Int(0)) if matches!(op, BinaryOp::Divide | BinaryOp::Remainder) => Plain::Null,
        (Plain::Int(a), Plain::Int(b)) => match op {
            BinaryOp::Add => checked(a + b, of)?,
            BinaryOp::Subtract => checked(a - b, of)?,
            BinaryOp::Multiply => checked(a * b, of)?,
            BinaryOp::Divide => checked(a / b, of)?,
            _ => checked(a % b, of)?,
        },
        (Plain::Float(a), Plain::Float(b)) => Plain::Float(match op {
            BinaryOp::Add => a + b,
            BinaryOp::Subtract => a - b,
            BinaryOp::Multiply => a * b,
            BinaryOp::Divide => a / b,
            _ => a % b,
        }),
        _ => Plain::Null,
    })
}

fn condition(a: Plain, op: BinaryOp, b: Plain) -> Plain {
    match (op, &a, &b) {
        (_, Plain::Unknown, _) | (_, _, Plain::Unknown) => Plain::Unknown,
        (BinaryOp::And, Plain::Bool(false), _) | (BinaryOp::And, _, Plain::Bool(false)) => Plain::Bool(false),
        (BinaryOp::Or, Plain::Bool(true), _) | (BinaryOp::Or, _, Plain::Bool(true)) => Plain::Bool(true),
        (_, Plain::Null, _) | (_, _, Plain::Null) => Plain::Null,
        (BinaryOp::And, Plain::Bool(a), Plain::Bool(b)) => Plain::Bool(*a && *b),
        (BinaryOp::Or, Plain::Bool(a), Plain::Bool(b)) => Plain::Bool(*a || *b),
        (_, Plain::Text(a), Plain::Text(b)) => Plain::Bool(holds(op, a, b)),
        (_, Plain::Int(a), Plain::Int(b)) => Plain::Bool(holds(op, a, b)),
        _ => match (as_type(a, Type::Float), as_type(b, Type::Float)) {
            (Plain::Float(a), Plain::Float(b)) => Plain::Bool(holds(op, &a, &b)),
            other => panic!("not generated: {other:?}"),
        },
    }
}

fn holds<T: PartialOrd>(op: BinaryOp, a: &T, b: &T) -> bool {
    match op {
        BinaryOp::Eq => a == b,
        BinaryOp::NotEq => a != b,
        BinaryOp::Lt => a < b,
        BinaryOp::LtEq => a <= b,
        BinaryOp::Gt => a > b,
        _ => a >= b,
    }
}

fn call(function: Function, values: Vec<Plain>, of: Type) -> Result<Plain, Failed> {
    if function == Function::Coalesce {
        let found = values.into_iter().find(|value| *value != Plain::Null);
        return Ok(found.map_or(Plain::Null, |value| as_type(value, of)));
    }
    Ok(match (function, values.as_slice()) {
        (_, values) if values.contains(&Plain::Unknown) => Plain::Unknown,
        (_, values) if values.contains(&Plain::Null) => Plain::Null,
        (Function::Abs, [Plain::Int(value)]) => checked(value.abs(), of)?,
        (Function::Abs, [Plain::Float(value)]) => Plain::Float(value.abs()),
        (Function::Floor, [Plain::Float(value)]) => Plain::Float(value.floor()),
        (Function::Sqrt, [Plain::Float(value)]) => Plain::Float(value.sqrt()),
        (Function::Sqrt, [Plain::Int(value)]) => Plain::Float((*value as f64).sqrt()),
        (Function::Length, [Plain::Text(text)]) => Plain::Int(text.chars().count() as i128),
        (Function::Upper, [Plain::Text(text)]) => Plain::Text(text.to_uppercase()),
        (Function::Trim, [Plain::Text(text)]) => Plain::Text(text.trim().to_owned()),
        (Function::Substring { start, length }, [Plain::Text(text)]) => Plain::Text(substring(text, start, length)),
        (Function::Contains, [Plain::Text(text), Plain::Text(part)]) => Plain::Bool(text.contains(part)),
        (Function::StartsWith, [Plain::Text(text), Plain::Text(part)]) => Plain::Bool(text.starts_with(part)),
        (Function::Replace, [Plain::Text(text), Plain::Text(from), Plain::Text(to)]) => {
            Plain::Text(text.replace(from, to))
        }
        other => panic!("not generated: {other:?}"),
    })
}

fn substring(text: &str, start: i64, length: Option<u64>) -> String {
    let characters: Vec<char> = text.chars().collect();
    let from = if start < 0 { (characters.len() as i64 + start).max(0) } else { start };
    characters.into_iter().skip(from as usize).take(length.unwrap_or(u64::MAX) as usize).collect()
}
