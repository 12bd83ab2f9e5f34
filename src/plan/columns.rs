//! Lists of named expressions, and changes of columns that turn into such a list once the columns are known.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use serde::{Deserialize, Serialize};

use super::exprs;
use super::logical::comma;
use crate::error::{Error, Result};
use crate::expr::{Expr, col};

/// One column of a result: its name and how it is computed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) expr: Expr,
}

/// A change of columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Edit {
    /// Adds a column, or puts it in the place of the one of that name.
    With(Column),
    /// Leaves these out.
    Drop(Vec<String>),
    /// Gives new names, all at once: pairs of old and new.
    Rename(Vec<(String, String)>),
}

impl Column {
    pub(crate) fn new(name: impl Into<String>, expr: Expr) -> Self {
        Self { name: name.into(), expr }
    }

    /// A column as it is.
    pub(crate) fn plain(name: &str) -> Self {
        Self::new(name, col(name))
    }

    /// The same over the input of its input, whose columns are made by these expressions.
    pub(crate) fn substitute(&self, by_name: &BTreeMap<&str, &Expr>) -> Self {
        Self::new(self.name.clone(), exprs::substitute(&self.expr, by_name))
    }

    /// The input column that this one is, if it is no more than that.
    pub(crate) fn source(&self) -> Option<&str> {
        exprs::as_column(&self.expr)
    }

    /// The expression of it, under its name.
    pub(crate) fn to_expr(&self) -> Expr {
        if self.expr.name() == self.name { self.expr.clone() } else { self.expr.clone().alias(self.name.clone()) }
    }

    /// Whether it is an input column under its own name.
    pub(crate) fn is_plain(&self) -> bool {
        self.source() == Some(self.name.as_str())
    }
}

/// All columns of a schema as they are.
pub(crate) fn plain(schema: &Schema) -> Vec<Column> {
    schema.fields().iter().map(|field| Column::plain(field.name())).collect()
}

/// The schema of `columns` over rows of `input`.
///
/// # Errors
/// If an expression does not fit.
pub(crate) fn schema_of(call: &str, columns: &[Column], input: &Schema) -> Result<SchemaRef> {
    let fields: Vec<Field> = columns.iter().map(|column| field_of(call, column, input)).collect::<Result<_>>()?;
    Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
}

/// The fields of a schema that have the names of `columns`.
pub(crate) fn only(schema: &Schema, columns: &[Column]) -> SchemaRef {
    let named = |field: &&Arc<Field>| columns.iter().any(|column| column.name == *field.name());
    let fields: Vec<_> = schema.fields().iter().filter(named).cloned().collect();
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

/// Refuses a name that comes twice, and a result without columns.
pub(crate) fn check_names(call: &str, columns: &[Column]) -> Result<()> {
    if columns.is_empty() {
        return Err(Error::invalid(call, "the result would have no column; keep at least one"));
    }
    let mut names = BTreeSet::new();
    match columns.iter().find(|column| !names.insert(column.name.as_str())) {
        Some(twice) => Err(Error::duplicate(call, twice.name.clone())),
        None => Ok(()),
    }
}

fn field_of(call: &str, column: &Column, input: &Schema) -> Result<Field> {
    if let Some(source) = column.source() {
        let field = input.field_with_name(source).map_err(|_| Error::no_column(call, source, input))?;
        return Ok(field.clone().with_name(column.name.clone()));
    }
    exprs::field(&column.expr, &column.name, input)
        .map_err(|cause| Error::Expr { call: format!("{call} {column}"), cause })
}

impl Edit {
    /// The columns of the result over rows of `input`.
    ///
    /// # Errors
    /// If a column is not there, or two would have one name.
    pub(crate) fn resolve(&self, input: &Schema) -> Result<Vec<Column>> {
        let columns = match self {
            Self::With(column) => with(column, input),
            Self::Drop(names) => drop(names, input)?,
            Self::Rename(pairs) => rename(pairs, input)?,
        };
        check_names(self.call(), &columns)?;
        Ok(columns)
    }

    /// The verb.
    pub(crate) fn call(&self) -> &'static str {
        match self {
            Self::With(_) => "with_column",
            Self::Drop(_) => "drop_columns",
            Self::Rename(_) => "rename",
        }
    }
}

fn with(added: &Column, input: &Schema) -> Vec<Column> {
    let mut columns = plain(input);
    match columns.iter_mut().find(|column| column.name == added.name) {
        Some(same) => *same = added.clone(),
        None => columns.push(added.clone()),
    }
    columns
}

fn drop(names: &[String], input: &Schema) -> Result<Vec<Column>> {
    if let Some(missing) = names.iter().find(|name| input.index_of(name).is_err()) {
        return Err(Error::no_column("drop_columns", missing, input));
    }
    let mut columns = plain(input);
    columns.retain(|column| !names.contains(&column.name));
    Ok(columns)
}

fn rename(pairs: &[(String, String)], input: &Schema) -> Result<Vec<Column>> {
    let mut new_names = BTreeMap::new();
    for (old, new) in pairs {
        if input.index_of(old).is_err() {
            return Err(Error::no_column("rename", old, input));
        }
        if new_names.insert(old.as_str(), new.as_str()).is_some() {
            return Err(Error::invalid("rename", format!("column {old:?} is given two new names")));
        }
    }
    let named = |field: &Arc<Field>| {
        let name = new_names.get(field.name().as_str()).copied().unwrap_or(field.name());
        Column::new(name, col(field.name().as_str()))
    };
    Ok(input.fields().iter().map(named).collect())
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_expr().fmt(f)
    }
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::With(column) => write!(f, "with_column {column}"),
            Self::Drop(names) => write!(f, "drop_columns {}", comma(names)),
            Self::Rename(pairs) => {
                let pairs: Vec<String> = pairs.iter().map(|(old, new)| format!("{old} as {new}")).collect();
                write!(f, "rename {}", comma(&pairs))
            }
        }
    }
}
