//! Typed rows: serde structs from and to batches, checked against the columns before anything runs.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, FieldRef, Schema};
use mobula_actors::operator::OperatorResult;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_arrow::schema::{SchemaLike, TracingOptions};

use crate::error::{Error, Result};
use crate::kernel::schema::type_name;

/// The fields of a row type, as Arrow holds them.
pub(super) fn fields_of<T: DeserializeOwned>(call: &str) -> Result<Vec<FieldRef>> {
    let options = TracingOptions::default()
        .strings_as_large_utf8(false)
        .sequence_as_large_list(false)
        .enums_without_data_as_strings(true)
        .allow_null_fields(true);
    let fields = Vec::<FieldRef>::from_type::<T>(options).map_err(|error| refused::<T>(call, &error.to_string()))?;
    match fields.iter().find(|field| field.data_type() == &DataType::Null) {
        _ if fields.is_empty() => Err(refused::<T>(call, "it has no fields")),
        Some(field) => Err(refused::<T>(call, &format!("field {:?} has no type of its own", field.name()))),
        None => Ok(fields),
    }
}

fn refused<T>(call: &str, reason: &str) -> Error {
    let reason = reason.lines().next().unwrap_or_default().trim_start_matches("Error: ");
    let reason = if reason.contains("root data type") { "it is no struct" } else { reason };
    let name = short_name::<T>();
    let advice = "a row is a struct with named fields that serde can read and write";
    Error::Row { call: call.to_owned(), reason: format!("row type {name}: {reason}; {advice}") }
}

/// Checks that rows of `T` can be read out of these columns.
pub(super) fn check_fields<T>(call: &str, fields: &[FieldRef], schema: &Schema) -> Result<()> {
    fields.iter().try_for_each(|field| {
        let column = schema.field_with_name(field.name()).map_err(|_| {
            Error::no_column(format!("{call}: field of row type {}", short_name::<T>()), field.name(), schema)
        })?;
        if fits(field.data_type(), column.data_type()) {
            return Ok(());
        }
        let (name, wanted, found) = (short_name::<T>(), type_name(field.data_type()), type_name(column.data_type()));
        let reason = format!(
            "row type {name}: field {:?} is {wanted}, the column is {found}; change the field's type or cast the column",
            field.name()
        );
        Err(Error::Row { call: call.to_owned(), reason })
    })
}

/// Whether values of `column` can become a field of type `field`. Only what can never work is refused.
fn fits(field: &DataType, column: &DataType) -> bool {
    use DataType::*;
    match (field, column) {
        (_, Dictionary(_, values)) => fits(field, values),
        (Boolean, column) => matches!(column, Boolean),
        (field, column) if field.is_integer() => !column.is_floating() && is_scalar_number(column),
        (field, column) if field.is_floating() => is_scalar_number(column),
        (Utf8 | LargeUtf8 | Utf8View, column) => {
            !(column.is_nested() || column.is_integer() || column.is_floating() || *column == Boolean)
        }
        (List(inner) | LargeList(inner), List(item) | LargeList(item) | FixedSizeList(item, _)) => {
            fits(inner.data_type(), item.data_type())
        }
        (List(_) | LargeList(_), column) => matches!(column, Binary | LargeBinary | BinaryView | FixedSizeBinary(_)),
        (Struct(fields), Struct(columns)) => fields.iter().all(|field| {
            columns.find(field.name()).is_some_and(|(_, column)| fits(field.data_type(), column.data_type()))
        }),
        (Struct(_), column) => column.is_nested(),
        _ => true,
    }
}

fn is_scalar_number(column: &DataType) -> bool {
    !column.is_nested()
        && !matches!(column, DataType::Boolean | DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Reads rows out of the columns they need; the others are not looked at.
pub(super) fn rows_of<T: DeserializeOwned>(batch: &RecordBatch, fields: &[FieldRef]) -> OperatorResult<Vec<T>> {
    let indices =
        fields.iter().map(|field| batch.schema_ref().index_of(field.name())).collect::<Result<Vec<_>, _>>()?;
    serde_arrow::from_record_batch(&batch.project(&indices)?).map_err(|error| unread::<T>(&error.to_string()).into())
}

/// A value that cannot become the field of its name: found only when it comes by.
fn unread<T>(error: &str) -> String {
    let reason = error.lines().next().unwrap_or_default().trim_start_matches("Error: ");
    let advice = if reason.contains("null") { "; make the field an Option, or filter the nulls out" } else { "" };
    format!("row type {}: {reason}{advice}", short_name::<T>())
}

/// Puts rows into columns.
pub(super) fn batch_of<U: Serialize>(rows: &[U], fields: &[FieldRef]) -> OperatorResult<RecordBatch> {
    Ok(serde_arrow::to_record_batch(fields, &rows)?)
}

/// The schema of rows with these fields.
pub(super) fn schema_of(fields: &[FieldRef]) -> Arc<Schema> {
    Arc::new(Schema::new(fields.to_vec()))
}

/// The names of fields.
pub(super) fn names(fields: &[FieldRef]) -> Vec<String> {
    fields.iter().map(|field| field.name().clone()).collect()
}

/// The type's name without its path.
pub(super) fn short_name<T>() -> &'static str {
    let full = std::any::type_name::<T>();
    let path = full.split('<').next().unwrap_or(full);
    path.rsplit("::").next().unwrap_or(full)
}
