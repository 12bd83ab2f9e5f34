//! What can be wrong with an expression: found when it is bound to a schema, or in the values of a batch.

use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;

use super::suggest;
use super::tree::DEPTH_MAX;
use crate::kernel::schema::type_name;

/// Why an expression cannot be bound or evaluated. All but [`ExprError::Evaluate`] are found before a row is read.
#[derive(Debug, thiserror::Error)]
pub enum ExprError {
    /// No column of that name.
    #[error("column {name:?} not found{}; there are: {}", suggest::did_you_mean(name, choices), suggest::list(choices))]
    ColumnNotFound {
        /// The name.
        name: String,
        /// The names there are.
        choices: Vec<String>,
    },
    /// Several columns of that name.
    #[error("column {name:?} is there {count} times; rename or drop all but one")]
    AmbiguousColumn {
        /// The name.
        name: String,
        /// How often it is there.
        count: usize,
    },
    /// Two columns of a projection have one name.
    #[error("two columns would be named {name:?}; give one of them another name with .alias(..)")]
    DuplicateName {
        /// The name.
        name: String,
    },
    /// The types of the operands do not go together.
    #[error("in `{expr}`: {reason}")]
    Type {
        /// The part of the expression, as printed.
        expr: String,
        /// What does not go together, and what to do.
        reason: String,
    },
    /// A predicate is not boolean.
    #[error("`{expr}` is {}, not boolean: a filter needs a condition such as a comparison", type_name(data_type))]
    NotBoolean {
        /// The predicate, as printed.
        expr: String,
        /// Its type.
        data_type: DataType,
    },
    /// A value of a batch, or a constant, has no result: an overflow, a cast that does not fit.
    #[error("cannot compute `{expr}`: {source}")]
    Evaluate {
        /// The part of the expression, as printed.
        expr: String,
        /// The cause.
        source: ArrowError,
    },
    /// A bound expression met a batch of another schema.
    #[error("column {name:?} was {} when the expression was bound, and is {found}", type_name(expected))]
    SchemaChanged {
        /// The column.
        name: String,
        /// Its type when the expression was bound.
        expected: DataType,
        /// What the batch has.
        found: String,
    },
    /// The tree is too deep to be walked safely.
    #[error("the expression is nested deeper than {DEPTH_MAX} levels (it has {depth}); split it over several columns")]
    TooDeep {
        /// Its depth.
        depth: usize,
    },
    /// Decoded steps that are no expression.
    #[error("the encoded expression is malformed")]
    Malformed,
}

impl ExprError {
    /// The error that no column of `schema` has that name.
    pub fn column_not_found(name: &str, schema: &Schema) -> Self {
        let choices = schema.fields().iter().map(|field| field.name().clone()).collect();
        Self::ColumnNotFound { name: name.to_owned(), choices }
    }
}

/// The index of a column.
///
/// # Errors
/// If there is none of that name (listing those there are), or more than one.
pub fn column_index(schema: &Schema, name: &str) -> Result<usize, ExprError> {
    let mut found = schema.fields().iter().enumerate().filter(|(_, field)| field.name() == name);
    let (index, _) = found.next().ok_or_else(|| ExprError::column_not_found(name, schema))?;
    match found.count() {
        0 => Ok(index),
        more => Err(ExprError::AmbiguousColumn { name: name.to_owned(), count: more + 1 }),
    }
}
