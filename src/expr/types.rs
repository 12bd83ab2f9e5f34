//! The promotion rules: which type two operands are brought to. Pure functions on types; the rules in words are in
//! the documentation of the module [`crate::expr`].

use arrow::datatypes::{DataType, TimeUnit};

/// The type of the values behind a dictionary or run-end encoding; other types are what they are.
pub(super) fn value_type(data_type: &DataType) -> &DataType {
    match data_type {
        DataType::Dictionary(_, value) => value_type(value),
        DataType::RunEndEncoded(_, values) => value_type(values.data_type()),
        plain => plain,
    }
}

/// Whether it is `utf8`, `large_utf8` or `utf8_view`.
pub(super) fn is_text(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

/// Whether it is one of the four types of bytes.
pub(super) fn is_bytes(data_type: &DataType) -> bool {
    use DataType::*;
    matches!(data_type, Binary | LargeBinary | BinaryView | FixedSizeBinary(_))
}

/// Whether it is an integer, a float or a decimal.
pub(super) fn is_number(data_type: &DataType) -> bool {
    data_type.is_numeric()
}

/// Whether it is an integer or a float: what Rust calls a number.
pub(super) fn is_plain_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

/// The type in which two values are compared, or that holds both of them. `None` if there is none.
pub(super) fn common_type(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    let (a, b) = (value_type(a), value_type(b));
    match (a, b) {
        _ if a == b => Some(a.clone()),
        (Null, other) | (other, Null) => Some(other.clone()),
        _ if is_plain_number(a) && is_plain_number(b) => Some(common_number(a, b)),
        _ if is_number(a) && is_number(b) => common_decimal(a, b),
        _ if is_text(a) && is_text(b) => {
            Some([Utf8View, LargeUtf8].into_iter().find(|kind| a == kind || b == kind).unwrap_or(Utf8))
        }
        (FixedSizeBinary(_), FixedSizeBinary(_)) => Some(Binary),
        (FixedSizeBinary(_), bytes) | (bytes, FixedSizeBinary(_)) if is_bytes(bytes) => Some(Binary),
        _ if is_bytes(a) && is_bytes(b) => {
            Some([BinaryView, LargeBinary].into_iter().find(|kind| a == kind || b == kind).unwrap_or(Binary))
        }
        _ => common_time(a, b),
    }
}

/// The type in which two integers or floats are compared or calculated with.
pub(super) fn common_number(a: &DataType, b: &DataType) -> DataType {
    use DataType::*;
    if a == b {
        return a.clone();
    }
    match (a.is_floating(), b.is_floating()) {
        (true, true) if a == &Float64 || b == &Float64 => Float64,
        (true, true) => Float32,
        (false, false) => common_integer(a, b),
        _ => Float64,
    }
}

fn common_integer(a: &DataType, b: &DataType) -> DataType {
    let (wide, narrow) = if width(a) >= width(b) { (a, b) } else { (b, a) };
    if a.is_signed_integer() == b.is_signed_integer() {
        return wide.clone();
    }
    // A signed type holds an unsigned one of half its width.
    if wide.is_signed_integer() && width(wide) > width(narrow) {
        return wide.clone();
    }
    match width(wide) {
        1 => DataType::Int16,
        2 => DataType::Int32,
        _ => DataType::Int64,
    }
}

fn width(data_type: &DataType) -> usize {
    data_type.primitive_width().unwrap_or(0)
}

/// Whether an unsigned integer of 64 bits meets a signed one: no integer type holds both.
pub(super) fn exceeds_integers(a: &DataType, b: &DataType) -> bool {
    (a == &DataType::UInt64 && b.is_signed_integer()) || (b == &DataType::UInt64 && a.is_signed_integer())
}

/// Any 64-bit integer, signed or not, as a decimal.
pub(super) const WIDE_INTEGER: DataType = DataType::Decimal128(20, 0);

/// The decimal (or, beside a float, the float) that holds two numbers of which one is a decimal.
pub(super) fn common_decimal(a: &DataType, b: &DataType) -> Option<DataType> {
    if a.is_floating() || b.is_floating() {
        return Some(DataType::Float64);
    }
    let ((a_precision, a_scale), (b_precision, b_scale)) = (precision_scale(a)?, precision_scale(b)?);
    let scale = a_scale.max(b_scale);
    let whole = (i16::from(a_precision) - i16::from(a_scale)).max(i16::from(b_precision) - i16::from(b_scale));
    let digits = whole + i16::from(scale);
    match digits {
        ..=38 => Some(DataType::Decimal128(digits.max(1) as u8, scale)),
        39..=76 => Some(DataType::Decimal256(digits as u8, scale)),
        _ => None,
    }
}

/// Digits, and how many of them are behind the point, of a decimal or integer type.
fn precision_scale(data_type: &DataType) -> Option<(u8, i8)> {
    use DataType::*;
    match data_type {
        Decimal32(p, s) | Decimal64(p, s) | Decimal128(p, s) | Decimal256(p, s) => Some((*p, *s)),
        Int8 | UInt8 => Some((3, 0)),
        Int16 | UInt16 => Some((5, 0)),
        Int32 | UInt32 => Some((10, 0)),
        Int64 => Some((19, 0)),
        UInt64 => Some((20, 0)),
        _ => None,
    }
}

/// The decimal types that two operands of a calculation are brought to: of one width, with their own scales.
pub(super) fn decimal_operands(a: &DataType, b: &DataType) -> Option<(DataType, DataType)> {
    let ((a_precision, a_scale), (b_precision, b_scale)) = (precision_scale(a)?, precision_scale(b)?);
    let wide = matches!(a, DataType::Decimal256(..)) || matches!(b, DataType::Decimal256(..));
    let decimal = if wide { DataType::Decimal256 } else { DataType::Decimal128 };
    Some((decimal(a_precision, a_scale), decimal(b_precision, b_scale)))
}

fn common_time(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    match (a, b) {
        (Date32, Date64) | (Date64, Date32) => Some(Date64),
        (Date32 | Date64, Timestamp(unit, None)) | (Timestamp(unit, None), Date32 | Date64) => {
            Some(Timestamp(*unit, None))
        }
        (Timestamp(x, None), Timestamp(y, None)) => Some(Timestamp(*x.max(y), None)),
        (Timestamp(x, Some(zone)), Timestamp(y, Some(_))) => Some(Timestamp(*x.max(y), Some(zone.clone()))),
        (Duration(x), Duration(y)) => Some(Duration(*x.max(y))),
        (Time32(x) | Time64(x), Time32(y) | Time64(y)) => Some(match *x.max(y) {
            unit @ (TimeUnit::Second | TimeUnit::Millisecond) => Time32(unit),
            unit => Time64(unit),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DataType::*;

    fn check(a: DataType, b: DataType, common: Option<DataType>) {
        assert_eq!(common_type(&a, &b), common, "{a} and {b}");
        assert_eq!(common_type(&b, &a), common, "{b} and {a}");
    }

    #[test]
    fn integers_go_to_the_wider_and_to_float64_beside_a_float() {
        check(Int8, Int32, Some(Int32));
        check(UInt8, UInt16, Some(UInt16));
        check(UInt8, Int8, Some(Int16));
        check(UInt32, Int32, Some(Int64));
        check(UInt8, Int64, Some(Int64));
        check(UInt64, Int64, Some(Int64));
        check(Int8, Float32, Some(Float64));
        check(Float16, Float32, Some(Float32));
        check(Float32, Float64, Some(Float64));
    }

    #[test]
    fn decimals_keep_all_digits() {
        check(Decimal128(10, 2), Decimal128(8, 4), Some(Decimal128(12, 4)));
        check(Decimal128(10, 2), Int64, Some(Decimal128(21, 2)));
        check(Decimal128(38, 0), Decimal128(38, 30), Some(Decimal256(68, 30)));
        check(Decimal128(10, 2), Float32, Some(Float64));
    }

    #[test]
    fn encodings_are_looked_through() {
        let dictionary = Dictionary(Box::new(Int8), Box::new(Utf8));
        check(dictionary.clone(), Utf8, Some(Utf8));
        check(dictionary, LargeUtf8, Some(LargeUtf8));
        check(Utf8View, LargeUtf8, Some(Utf8View));
        check(FixedSizeBinary(4), LargeBinary, Some(Binary));
    }

    #[test]
    fn times_go_to_the_finer_unit_and_zones_do_not_mix_with_none() {
        let zoned = |unit| Timestamp(unit, Some("UTC".into()));
        check(Date32, Timestamp(TimeUnit::Microsecond, None), Some(Timestamp(TimeUnit::Microsecond, None)));
        check(zoned(TimeUnit::Second), zoned(TimeUnit::Nanosecond), Some(zoned(TimeUnit::Nanosecond)));
        check(zoned(TimeUnit::Second), Timestamp(TimeUnit::Second, None), None);
        check(Time32(TimeUnit::Second), Time64(TimeUnit::Nanosecond), Some(Time64(TimeUnit::Nanosecond)));
        check(Utf8, Int64, None);
        check(Boolean, Int64, None);
        check(Null, Boolean, Some(Boolean));
    }
}
