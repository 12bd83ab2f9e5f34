//! Whole numbers of JSON: a number is taken as it is written, or refused. Pure.
//!
//! The decoder reads a number that is no integer by way of a float into columns of integers (and dates, times and
//! durations, which are integers, too), which cuts off fractions: 10.75 becomes 10, and -2⁶³ - 1 becomes -2⁶³. So text in
//! which that may have happened is decoded once more with those columns as text, and each number is looked at. Most text
//! is not: a look at names is enough to say that the fractions in it are in other columns.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{Array, ArrayData, GenericStringArray, OffsetSizeTrait, make_array};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::json::ReaderBuilder;

use super::tokens::Place;

/// The columns of a schema that hold whole numbers, also those in lists and structs.
#[derive(Debug)]
pub(super) struct Whole {
    /// Those columns alone, the numbers as text: `LargeUtf8` for `UInt64`, `Utf8` for all others.
    as_text: SchemaRef,
    places: Places,
}

/// Where whole numbers stand.
#[derive(Debug, Default)]
struct Places {
    names: BTreeSet<Vec<u8>>,
    in_lists: bool,
    /// The fields of a map have any names.
    in_maps: bool,
}

/// What holds a value.
#[derive(Clone, Copy)]
enum Holder<'a> {
    Field(&'a str),
    List,
    Map,
}

impl Whole {
    /// `None` if there are none.
    pub(super) fn of(schema: &Schema) -> Option<Self> {
        let mut places = Places::default();
        let fields = places.fields(schema.fields())?;
        Some(Self { as_text: Arc::new(Schema::new(fields)), places })
    }

    /// Whether the decoder may have changed a number that stands there.
    pub(super) fn may_change(&self, place: Place<'_>, number: &[u8]) -> bool {
        let plain = number.iter().all(|byte| !matches!(byte, b'.' | b'e' | b'E'));
        if plain && (number.len() <= DIGITS_SURE || is_i64(number)) {
            return false;
        }
        match place {
            // What is escaped may be any name.
            Place::Field(name) => self.places.in_maps || name.contains(&b'\\') || self.places.names.contains(name),
            Place::List => self.places.in_lists,
        }
    }

    /// Checks that records which could be decoded have whole numbers where they are wanted.
    pub(super) fn check(&self, records: &[u8], rows: usize) -> Result<(), ArrowError> {
        let reader = ReaderBuilder::new(Arc::clone(&self.as_text)).with_batch_size(rows).with_coerce_primitive(true);
        let mut decoder = reader.build_decoder()?;
        decoder.decode(records)?;
        let Some(batch) = decoder.flush()? else { return Ok(()) };
        for (field, column) in self.as_text.fields().iter().zip(batch.columns()) {
            if let Some(number) = changed(&column.to_data()) {
                let name = field.name();
                return Err(ArrowError::JsonError(format!(
                    "{number} is no whole number that column {name:?} can hold"
                )));
            }
        }
        Ok(())
    }
}

impl Places {
    fn fields(&mut self, fields: &Fields) -> Option<Fields> {
        let fields = fields.iter().filter_map(|field| self.field(field, Holder::Field(field.name())));
        let fields: Vec<_> = fields.collect();
        (!fields.is_empty()).then(|| fields.into())
    }

    fn field(&mut self, field: &FieldRef, holder: Holder<'_>) -> Option<FieldRef> {
        let data_type = self.data_type(field.data_type(), holder)?;
        Some(Arc::new(Field::new(field.name(), data_type, field.is_nullable())))
    }

    /// The type with text for whole numbers and without anything else; takes note of where they are.
    fn data_type(&mut self, data_type: &DataType, holder: Holder<'_>) -> Option<DataType> {
        Some(match data_type {
            DataType::List(item) => DataType::List(self.field(item, Holder::List)?),
            DataType::LargeList(item) => DataType::LargeList(self.field(item, Holder::List)?),
            DataType::ListView(item) => DataType::ListView(self.field(item, Holder::List)?),
            DataType::LargeListView(item) => DataType::LargeListView(self.field(item, Holder::List)?),
            DataType::FixedSizeList(item, size) => DataType::FixedSizeList(self.field(item, Holder::List)?, *size),
            DataType::Struct(fields) => DataType::Struct(self.fields(fields)?),
            DataType::Map(entries, sorted) => {
                let DataType::Struct(fields) = entries.data_type() else { return None };
                let (key, value) = (fields.first()?, fields.get(1)?);
                let fields = Fields::from(vec![Arc::clone(key), self.field(value, Holder::Map)?]);
                let entries = Field::new(entries.name(), DataType::Struct(fields), entries.is_nullable());
                DataType::Map(Arc::new(entries), *sorted)
            }
            // Runs are made after decoding.
            DataType::RunEndEncoded(_, values) => self.data_type(values.data_type(), holder)?,
            leaf if is_whole(leaf) => {
                self.note(holder);
                if *leaf == DataType::UInt64 { DataType::LargeUtf8 } else { DataType::Utf8 }
            }
            _ => return None,
        })
    }

    fn note(&mut self, holder: Holder<'_>) {
        match holder {
            Holder::Field(name) => {
                self.names.insert(name.as_bytes().to_vec());
            }
            Holder::List => self.in_lists = true,
            Holder::Map => self.in_maps = true,
        }
    }
}

fn is_i64(number: &[u8]) -> bool {
    std::str::from_utf8(number).is_ok_and(|number| number.parse::<i64>().is_ok())
}

fn is_whole(data_type: &DataType) -> bool {
    data_type.is_integer()
        || matches!(
            data_type,
            DataType::Date32
                | DataType::Date64
                | DataType::Time32(_)
                | DataType::Time64(_)
                | DataType::Timestamp(..)
                | DataType::Duration(_)
        )
}

/// The first number that was read as another one.
fn changed(column: &ArrayData) -> Option<String> {
    let children = column.child_data();
    match column.data_type() {
        DataType::Utf8 => changed_text::<i32>(column, i64::MIN.into()..=i64::MAX.into()),
        DataType::LargeUtf8 => changed_text::<i64>(column, 0..=u64::MAX.into()),
        // The keys are text of their own.
        DataType::Map(..) => children.first().and_then(|entries| entries.child_data().get(1)).and_then(changed),
        _ => children.iter().find_map(changed),
    }
}

fn changed_text<O: OffsetSizeTrait>(column: &ArrayData, range: RangeInclusive<i128>) -> Option<String> {
    let column = make_array(column.clone());
    let text = column.as_any().downcast_ref::<GenericStringArray<O>>()?;
    text.iter().flatten().find(|number| !is_read_as_is(number, &range)).map(str::to_owned)
}

/// Whether the decoder reads this as what it is, by way of a float if it is no plain integer of that range. A date or
/// time in a string is none of its numbers.
fn is_read_as_is(number: &str, range: &RangeInclusive<i128>) -> bool {
    if number.parse().is_ok_and(|value: i128| range.contains(&value)) || number.parse::<f64>().is_err() {
        return true;
    }
    exact(number).is_some_and(|value| range.contains(&value) && (value as f64) as i128 == value)
}

/// The value of a number that is whole and not beyond all range: of 1, 1.0 and 10e-1.
fn exact(number: &str) -> Option<i128> {
    let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let (negative, mantissa) = mantissa.strip_prefix('-').map_or((false, mantissa), |rest| (true, rest));
    let (before, behind) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = format!("{before}{behind}");
    let significant = digits.trim_end_matches('0');
    if significant.is_empty() {
        return Some(0);
    }
    let zeros = i64::try_from(digits.len() - significant.len()).ok()?;
    let places = exponent.parse::<i64>().ok()?.checked_sub(i64::try_from(behind.len()).ok()?)?.checked_add(zeros)?;
    let value = significant.parse::<i128>().ok()?.checked_mul(10_i128.checked_pow(u32::try_from(places).ok()?)?)?;
    Some(if negative { -value } else { value })
}

/// Integers of so many bytes fit, whatever they are.
const DIGITS_SURE: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whole_numbers_are_told_from_others() {
        let values = [
            ("0", Some(0)),
            ("-0.0", Some(0)),
            ("0e-7", Some(0)),
            ("10.0", Some(10)),
            ("1e3", Some(1000)),
            ("-12.50e1", Some(-125)),
            ("1500E-2", Some(15)),
            ("2.7", None),
            ("1e-1", None),
            ("1e30", Some(10_i128.pow(30))),
            ("1e40", None),
            ("9007199254740993.0", Some((1 << 53) + 1)),
        ];
        for (number, value) in values {
            assert_eq!(exact(number), value, "{number}");
        }
    }

    #[test]
    fn what_a_float_cannot_hold_is_not_read_as_is() {
        let range = i64::MIN.into()..=i64::MAX.into();
        let good = ["9007199254740993", "9007199254740992.0", "1e18", "-9223372036854775808", "2020-01-01", "5.0"];
        let bad = ["9007199254740993.0", "-9223372036854775809", "1e30", "0.5", "1e400", "9223372036854775808"];
        assert_eq!(good.map(|number| is_read_as_is(number, &range)), [true; 6]);
        assert_eq!(bad.map(|number| is_read_as_is(number, &range)), [false; 6]);
        assert!(is_read_as_is("18446744073709551615", &(0..=u64::MAX.into())));
    }

    proptest! {
        #[test]
        fn a_value_written_in_any_way_is_itself(value in -100_000_i64..100_000, zeros in 0_usize..5) {
            let padded = format!("{value}.{}", "0".repeat(zeros + 1));
            let scaled = format!("{value}{}e-{zeros}", "0".repeat(zeros));
            let part = format!("{value}e-{}", zeros + 6);
            prop_assert_eq!(exact(&padded), Some(value.into()));
            prop_assert_eq!(exact(&scaled), Some(value.into()));
            prop_assert_eq!(exact(&part).is_some(), value == 0);
        }
    }
}
