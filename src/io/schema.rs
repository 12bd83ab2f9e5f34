//! Pure helpers on schemas: comparing and widening those of several files, and fitting batches to the result.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;

/// The schema without the metadata that one file put there: what two files of a dataset have in common.
pub(crate) fn plain(schema: &Schema) -> Schema {
    Schema::new(schema.fields().iter().map(|f| plain_field(f, f.is_nullable())).collect::<Vec<_>>())
}

fn plain_field(field: &Field, nullable: bool) -> Field {
    Field::new(field.name(), plain_type(field.data_type()), nullable)
}

fn plain_type(data_type: &DataType) -> DataType {
    let plain = |field: &FieldRef| Arc::new(plain_field(field, field.is_nullable()));
    match data_type {
        DataType::List(f) => DataType::List(plain(f)),
        DataType::LargeList(f) => DataType::LargeList(plain(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(plain(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(plain).collect()),
        DataType::Map(f, sorted) => DataType::Map(plain(f), *sorted),
        other => other.clone(),
    }
}

/// The schema with each column as plain values. Dictionaries and views are ways to store; in batches that are sliced
/// and joined each slice would drag the whole dictionary or page along, and count with it.
pub(crate) fn as_values(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(values_field);
    Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone())
}

fn values_field(field: &FieldRef) -> FieldRef {
    Arc::new(field.as_ref().clone().with_data_type(values_type(field.data_type())))
}

fn values_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, values) => values_type(values),
        DataType::List(f) => DataType::List(values_field(f)),
        DataType::LargeList(f) => DataType::LargeList(values_field(f)),
        DataType::ListView(f) => DataType::List(values_field(f)),
        DataType::LargeListView(f) => DataType::LargeList(values_field(f)),
        DataType::FixedSizeList(f, n) => DataType::FixedSizeList(values_field(f), *n),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(values_field).collect()),
        DataType::Map(f, sorted) => DataType::Map(values_field(f), *sorted),
        other => other.clone(),
    }
}

/// The schema that holds the rows of both: equal columns, nullable where one of the two is. The error is the first
/// column that differs, and how. Both schemas are [`plain`].
pub(crate) fn widen(first: &Schema, second: &Schema) -> Result<Schema, String> {
    let both = first.fields().iter().zip(second.fields());
    let fields = both.map(|(a, b)| widen_field(a, b)).collect::<Result<Vec<_>, _>>()?;
    match (first.fields().get(fields.len()), second.fields().get(fields.len())) {
        (Some(a), None) => Err(format!("only the first has column {:?}", a.name())),
        (None, Some(b)) => Err(format!("only the second has column {:?}", b.name())),
        _ => Ok(Schema::new(fields)),
    }
}

fn widen_field(a: &Field, b: &Field) -> Result<Field, String> {
    if a.name() != b.name() {
        return Err(format!("column {:?} stands where the other has {:?}", a.name(), b.name()));
    }
    let data_type = widen_type(a.data_type(), b.data_type()).ok_or_else(|| {
        format!("column {:?} is {} in one and {} in the other", a.name(), a.data_type(), b.data_type())
    })?;
    Ok(Field::new(a.name(), data_type, a.is_nullable() || b.is_nullable()))
}

fn widen_type(a: &DataType, b: &DataType) -> Option<DataType> {
    let both = |a: &FieldRef, b: &FieldRef| widen_field(a, b).ok().map(Arc::new);
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => Some(DataType::List(both(a, b)?)),
        (DataType::LargeList(a), DataType::LargeList(b)) => Some(DataType::LargeList(both(a, b)?)),
        (DataType::FixedSizeList(a, n), DataType::FixedSizeList(b, m)) if n == m => {
            Some(DataType::FixedSizeList(both(a, b)?, *n))
        }
        (DataType::Struct(a), DataType::Struct(b)) if a.len() == b.len() => {
            Some(DataType::Struct(a.iter().zip(b).map(|(a, b)| both(a, b)).collect::<Option<_>>()?))
        }
        (a, b) => (a == b).then(|| a.clone()),
    }
}

/// The first column name that is there twice.
pub(crate) fn duplicate(schema: &Schema) -> Option<String> {
    let mut seen = std::collections::BTreeSet::new();
    schema.fields().iter().find(|f| !seen.insert(f.name())).map(|f| f.name().clone())
}

/// Types are nested no deeper than this. Arrow and its readers and writers call themselves for each level, with a frame of up
/// to 48 KiB, on stacks of 2 MiB; nobody can catch one that overflows.
pub(crate) const TYPE_DEPTH_MAX: usize = 32;

/// The first column whose type is nested deeper than [`TYPE_DEPTH_MAX`].
pub(crate) fn too_deep(schema: &Schema) -> Option<String> {
    schema.fields().iter().find(|field| is_deeper(field.data_type(), TYPE_DEPTH_MAX)).map(|field| field.name().clone())
}

fn is_deeper(data_type: &DataType, than: usize) -> bool {
    let Some(than) = than.checked_sub(1) else { return true };
    match data_type {
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _) => is_deeper(f.data_type(), than),
        DataType::Struct(fields) => fields.iter().any(|field| is_deeper(field.data_type(), than)),
        DataType::Dictionary(_, values) => is_deeper(values, than),
        _ => false,
    }
}

/// The batch under `schema`: same columns in the same order, of types that [`widen`] found equal.
pub(crate) fn fit(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields()).map(|(column, field)| fit_column(column, field));
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::clone(schema), columns.collect::<Result<_, _>>()?, &options)
}

fn fit_column(column: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    cast(column, field.data_type())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(columns: &[(&str, DataType, bool)]) -> Schema {
        Schema::new(columns.iter().map(|(n, t, null)| Field::new(*n, t.clone(), *null)).collect::<Vec<_>>())
    }

    #[test]
    fn nullability_widens() {
        let a = schema(&[("a", DataType::Int64, false), ("b", DataType::Utf8, true)]);
        let b = schema(&[("a", DataType::Int64, true), ("b", DataType::Utf8, false)]);
        let both = schema(&[("a", DataType::Int64, true), ("b", DataType::Utf8, true)]);
        assert_eq!(widen(&a, &b), Ok(both));
    }

    #[test]
    fn the_first_column_that_differs_is_named() {
        let a = schema(&[("a", DataType::Int64, false), ("b", DataType::Utf8, true)]);
        let check = |columns: &[(&str, DataType, bool)], text: &str| {
            let error = widen(&a, &schema(columns)).unwrap_err();
            assert!(error.contains(text), "{error}");
        };
        check(&[("a", DataType::Int32, false)], "column \"a\" is Int64 in one and Int32 in the other");
        check(&[("a", DataType::Int64, false)], "only the first has column \"b\"");
        check(&[("a", DataType::Int64, false), ("c", DataType::Utf8, true)], "\"b\" stands where the other has \"c\"");
    }

    #[test]
    fn nested_fields_widen_too() {
        let list = |nullable| DataType::List(Arc::new(Field::new("item", DataType::Int32, nullable)));
        let both = widen(&schema(&[("a", list(false), false)]), &schema(&[("a", list(true), false)]));
        assert_eq!(both, Ok(schema(&[("a", list(true), false)])));
    }

    #[test]
    fn types_are_nested_so_deep_and_no_deeper() {
        let nested = |levels| {
            (1..levels).fold(DataType::Int64, |inner, level| match level % 2 {
                0 => DataType::List(Arc::new(Field::new("item", inner, true))),
                _ => DataType::Struct(vec![Field::new("a", inner, true)].into()),
            })
        };
        let deepest = |levels| too_deep(&schema(&[("a", DataType::Int64, true), ("deep", nested(levels), true)]));
        assert_eq!((deepest(TYPE_DEPTH_MAX), deepest(TYPE_DEPTH_MAX + 1)), (None, Some("deep".to_owned())));
    }
}
