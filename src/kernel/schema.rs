//! Schemas in words: the names of types as errors and tables print them, and where two schemas differ.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};

/// The first way in which two schemas differ, in words that go between names of where they come from: "file A
/// {left}, file B {right}".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What the left schema has: `has x: int64`.
    pub left: String,
    /// What the right schema has: `has x: utf8`.
    pub right: String,
}

impl Mismatch {
    /// The whole sentence, with the names of both sides.
    ///
    /// ```
    /// use arrow::datatypes::{DataType, Field, Schema};
    /// use mobula::kernel::schema::mismatch;
    /// let schema = |of| Schema::new(vec![Field::new("x", of, true)]);
    /// let found = mismatch(&schema(DataType::Int64), &schema(DataType::Utf8)).expect("they differ");
    /// assert_eq!(found.between("a.parquet", "b.parquet"), "a.parquet has x: int64, b.parquet has x: utf8");
    /// ```
    pub fn between(&self, left: &str, right: &str) -> String {
        format!("{left} {}, {right} {}", self.left, self.right)
    }
}

/// The first difference between two schemas: a column that is missing, of another type, or at another place.
/// Nullability and metadata do not count. `None` if batches of both can follow one another.
pub fn mismatch(left: &Schema, right: &Schema) -> Option<Mismatch> {
    let differ = |left: String, right: String| Some(Mismatch { left, right });
    for (place, ours) in left.fields().iter().enumerate() {
        let Some(theirs) = right.fields().iter().find(|field| field.name() == ours.name()) else {
            return differ(format!("has {}", describe(ours)), format!("has no column {:?}", ours.name()));
        };
        if !same_type(ours.data_type(), theirs.data_type()) {
            return differ(format!("has {}", describe(ours)), format!("has {}", describe(theirs)));
        }
        if right.fields().get(place).is_none_or(|field| field.name() != ours.name()) {
            let other = right.fields().iter().position(|field| field.name() == ours.name()).unwrap_or(place);
            let at = |place: usize| format!("has {:?} as column {}", ours.name(), place + 1);
            return differ(at(place), at(other));
        }
    }
    let extra = right.fields().get(left.fields().len())?;
    differ(format!("has no column {:?}", extra.name()), format!("has {}", describe(extra)))
}

/// The schema for batches of both schemas: where they match, a column is nullable if it is in either.
///
/// # Errors
/// The first difference, if they do not match.
pub fn unify(left: &SchemaRef, right: &SchemaRef) -> Result<SchemaRef, Mismatch> {
    if Arc::ptr_eq(left, right) || left == right {
        return Ok(Arc::clone(left));
    }
    if let Some(found) = mismatch(left, right) {
        return Err(found);
    }
    let widened = |(ours, theirs): (&Arc<Field>, &Arc<Field>)| widen(ours, theirs);
    let fields: Vec<Field> = left.fields().iter().zip(right.fields()).map(widened).collect();
    Ok(Arc::new(Schema::new_with_metadata(fields, left.metadata().clone())))
}

/// Our field, nullable where either is, also inside. Our metadata stays, whatever theirs says.
fn widen(ours: &Field, theirs: &Field) -> Field {
    let bare = |field: &Field| Field::new(field.name(), field.data_type().clone(), field.is_nullable());
    let mut merged = bare(ours);
    let nullable = ours.is_nullable() || theirs.is_nullable();
    let data_type = match merged.try_merge(&bare(theirs)) {
        Ok(()) => merged.data_type().clone(),
        Err(_) => ours.data_type().clone(),
    };
    ours.clone().with_data_type(data_type).with_nullable(nullable)
}

/// Whether values of both types can follow one another: nullability and metadata of nested fields do not count.
fn same_type(left: &DataType, right: &DataType) -> bool {
    left.equals_datatype(right)
}

fn describe(field: &Field) -> String {
    format!("{}: {}", field.name(), type_name(field.data_type()))
}

/// The name of a type as we print it: `int64`, `timestamp(us, UTC)`, `list(float32)`.
///
/// ```
/// use arrow::datatypes::{DataType, TimeUnit};
/// use mobula::kernel::schema::type_name;
/// assert_eq!(type_name(&DataType::Int64), "int64");
/// assert_eq!(type_name(&DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))), "timestamp(us, UTC)");
/// ```
pub fn type_name(data_type: &DataType) -> String {
    use DataType::*;
    match data_type {
        Timestamp(unit, None) => format!("timestamp({})", unit_name(unit)),
        Timestamp(unit, Some(zone)) => format!("timestamp({}, {zone})", unit_name(unit)),
        Time32(unit) | Time64(unit) => format!("time({})", unit_name(unit)),
        Duration(unit) => format!("duration({})", unit_name(unit)),
        Interval(unit) => format!("interval({unit:?})").to_lowercase(),
        FixedSizeBinary(size) => format!("fixed_size_binary({size})"),
        List(field) => format!("list({})", type_name(field.data_type())),
        LargeList(field) => format!("large_list({})", type_name(field.data_type())),
        ListView(field) | LargeListView(field) => format!("list_view({})", type_name(field.data_type())),
        FixedSizeList(field, size) => format!("fixed_size_list({}, {size})", type_name(field.data_type())),
        Struct(fields) => {
            let fields: Vec<_> = fields.iter().map(|f| format!("{}: {}", f.name(), type_name(f.data_type()))).collect();
            format!("struct({})", fields.join(", "))
        }
        Dictionary(key, value) => format!("dictionary({}, {})", type_name(key), type_name(value)),
        Decimal32(precision, scale) => format!("decimal32({precision}, {scale})"),
        Decimal64(precision, scale) => format!("decimal64({precision}, {scale})"),
        Decimal128(precision, scale) => format!("decimal128({precision}, {scale})"),
        Decimal256(precision, scale) => format!("decimal256({precision}, {scale})"),
        Map(entries, _) => format!("map({})", type_name(entries.data_type())),
        RunEndEncoded(_, values) => format!("run_end_encoded({})", type_name(values.data_type())),
        Union(..) => "union".to_owned(),
        Utf8View => "utf8_view".to_owned(),
        LargeUtf8 => "large_utf8".to_owned(),
        BinaryView => "binary_view".to_owned(),
        LargeBinary => "large_binary".to_owned(),
        simple => format!("{simple:?}").to_lowercase(),
    }
}

fn unit_name(unit: &TimeUnit) -> &'static str {
    match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &[(&str, DataType, bool)]) -> SchemaRef {
        let fields: Vec<_> = fields.iter().map(|(name, of, null)| Field::new(*name, of.clone(), *null)).collect();
        Arc::new(Schema::new(fields))
    }

    fn check(left: &[(&str, DataType, bool)], right: &[(&str, DataType, bool)], words: &str) {
        let found = mismatch(&schema(left), &schema(right)).map(|found| found.between("A", "B"));
        assert_eq!(found.as_deref().unwrap_or("same"), words);
    }

    #[test]
    fn the_first_difference_is_named() {
        let (a, b) = (("a", DataType::Int64, false), ("b", DataType::Utf8, true));
        let (one, both, swapped) = ([a.clone()], [a.clone(), b.clone()], [b, a]);
        check(&both, &both, "same");
        check(&one, &[("a", DataType::Utf8, true)], "A has a: int64, B has a: utf8");
        check(&both, &one, "A has b: utf8, B has no column \"b\"");
        check(&one, &both, "A has no column \"b\", B has b: utf8");
        check(&both, &swapped, "A has \"a\" as column 1, B has \"a\" as column 2");
    }

    #[test]
    fn a_unified_column_is_nullable_if_it_is_in_either_schema() {
        let (strict, loose) = (schema(&[("a", DataType::Int64, false)]), schema(&[("a", DataType::Int64, true)]));
        assert_eq!(unify(&strict, &loose), Ok(loose.clone()));
        assert_eq!(unify(&loose, &strict), Ok(loose.clone()));
        let unit = |unit: &str| [("unit".to_owned(), unit.to_owned())].into();
        let with_unit = |of: &SchemaRef, name: &str| -> SchemaRef {
            Arc::new(Schema::new(vec![of.field(0).clone().with_metadata(unit(name))]))
        };
        let unified = unify(&with_unit(&strict, "m"), &with_unit(&loose, "km")).expect("metadata does not count");
        assert_eq!(unified, with_unit(&loose, "m"));
        let text = schema(&[("a", DataType::Utf8, false)]);
        assert_eq!(unify(&strict, &text).expect_err("they differ").right, "has a: utf8");
    }

    #[test]
    fn types_are_named_in_lower_case_with_their_parameters() {
        let check = |of: DataType, name: &str| assert_eq!(type_name(&of), name);
        check(DataType::LargeUtf8, "large_utf8");
        check(DataType::Decimal128(10, 2), "decimal128(10, 2)");
        check(DataType::new_fixed_size_list(DataType::Float32, 64, false), "fixed_size_list(float32, 64)");
        check(DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "dictionary(int32, utf8)");
        check(DataType::Time64(TimeUnit::Microsecond), "time(us)");
        check(DataType::Struct(vec![Field::new("x", DataType::Int8, true)].into()), "struct(x: int8)");
    }
}
