//! Schemas in words: the names of types as errors and tables print them.

use arrow::datatypes::{DataType, TimeUnit};

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
