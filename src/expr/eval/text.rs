//! Functions of strings. The first argument is `utf8`, `large_utf8` or `utf8_view`, and so are the others.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, Datum, Int64Array, LargeStringArray, StringArray, StringArrayType, StringViewArray,
};
use arrow::compute::kernels::comparison;
use arrow::datatypes::DataType;
use arrow::error::ArrowError;

use crate::expr::tree::Function;
use crate::expr::value::Value;

/// Computes a function of strings.
pub(super) fn call(function: Function, args: &[Value]) -> Result<Value, ArrowError> {
    let scalar = args.iter().all(Value::is_scalar);
    match (function, args) {
        (Function::Length, [text]) => Ok(Value::new(length(text.array()), scalar)),
        (Function::Replace, [text, from, to]) => replace(text, from, to),
        (_, [text, pattern]) => Ok(Value::boolean(matching(function)(text, pattern)?, scalar)),
        (_, [text]) => Ok(Value::new(change(text.array(), |text| changed(function, text)), scalar)),
        _ => Err(ArrowError::InvalidArgumentError(format!("{} with {} arguments", function.name(), args.len()))),
    }
}

type Matching = fn(&dyn Datum, &dyn Datum) -> Result<arrow::array::BooleanArray, ArrowError>;

fn matching(function: Function) -> Matching {
    match function {
        Function::Contains => comparison::contains,
        Function::StartsWith => comparison::starts_with,
        Function::EndsWith => comparison::ends_with,
        Function::ILike => comparison::ilike,
        _ => comparison::like,
    }
}

fn changed(function: Function, text: &str) -> Cow<'_, str> {
    match function {
        Function::Lower => text.to_lowercase().into(),
        Function::Upper => text.to_uppercase().into(),
        Function::Substring { start, length } => substring(text, start, length).into(),
        _ => text.trim().into(),
    }
}

/// Characters behind the first `start` (from the end if negative), at most `length`.
fn substring(text: &str, start: i64, length: Option<u64>) -> &str {
    let skipped = match usize::try_from(start) {
        Ok(start) => start,
        Err(_) => text.chars().count().saturating_sub(usize::try_from(start.unsigned_abs()).unwrap_or(usize::MAX)),
    };
    let from = character(text, skipped);
    let rest = &text[from..];
    match length.map(usize::try_from) {
        Some(Ok(length)) => &rest[..character(rest, length)],
        _ => rest,
    }
}

/// Where the `n`-th character starts; the end if there are fewer.
fn character(text: &str, n: usize) -> usize {
    text.char_indices().nth(n).map_or(text.len(), |(at, _)| at)
}

fn length(array: &dyn Array) -> ArrayRef {
    fn count<'a>(texts: impl StringArrayType<'a>) -> ArrayRef {
        let counts = texts.iter().map(|text| text.map(|text| text.chars().count() as i64));
        Arc::new(counts.collect::<Int64Array>())
    }
    match array.data_type() {
        DataType::LargeUtf8 => count(array.as_string::<i64>()),
        DataType::Utf8View => count(array.as_string_view()),
        _ => count(array.as_string::<i32>()),
    }
}

/// Each string changed; the array keeps its type.
fn change(array: &dyn Array, change: impl Fn(&str) -> Cow<'_, str>) -> ArrayRef {
    match array.data_type() {
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>().iter();
            Arc::new(texts.map(|text| text.map(&change)).collect::<LargeStringArray>())
        }
        DataType::Utf8View => {
            let texts = array.as_string_view().iter();
            Arc::new(texts.map(|text| text.map(&change)).collect::<StringViewArray>())
        }
        _ => {
            let texts = array.as_string::<i32>().iter();
            Arc::new(texts.map(|text| text.map(&change)).collect::<StringArray>())
        }
    }
}

fn replace(text: &Value, from: &Value, to: &Value) -> Result<Value, ArrowError> {
    let scalar = text.is_scalar() && from.is_scalar() && to.is_scalar();
    let rows = [text, from, to].into_iter().find(|value| !value.is_scalar()).map_or(1, |value| value.array().len());
    let (texts, from, to) = (strings(text), strings(from), strings(to));
    let result = (0..rows).map(|row| Some(texts(row)?.replace(from(row)?, to(row)?)));
    let array: ArrayRef = match text.array().data_type() {
        DataType::LargeUtf8 => Arc::new(result.collect::<LargeStringArray>()),
        DataType::Utf8View => Arc::new(result.collect::<StringViewArray>()),
        _ => Arc::new(result.collect::<StringArray>()),
    };
    Ok(Value::new(array, scalar))
}

/// The string of each row; that of a scalar is the same for all rows.
fn strings<'a>(value: &'a Value) -> Box<dyn Fn(usize) -> Option<&'a str> + 'a> {
    let (array, scalar) = value.get();
    let at = move |row| if scalar { 0 } else { row };
    match array.data_type() {
        DataType::LargeUtf8 => {
            let texts = array.as_string::<i64>();
            Box::new(move |row| texts.is_valid(at(row)).then(|| texts.value(at(row))))
        }
        DataType::Utf8View => {
            let texts = array.as_string_view();
            Box::new(move |row| texts.is_valid(at(row)).then(|| texts.value(at(row))))
        }
        _ => {
            let texts = array.as_string::<i32>();
            Box::new(move |row| texts.is_valid(at(row)).then(|| texts.value(at(row))))
        }
    }
}
