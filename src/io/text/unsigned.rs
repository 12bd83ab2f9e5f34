//! Columns of numbers that are whole, not below zero, and some of them too large for 64 bits with a sign: ids and hashes
//! mostly. Arrow infers floats for them, in which different ids are the same. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema};

use super::tokens::{Place, TooDeep, numbers};

/// The schema with `UInt64` where all numbers in `records` fit that, and some fit nothing else.
pub(super) fn as_unsigned(schema: &Schema, records: &[u8]) -> Result<Schema, TooDeep> {
    let mut names = BTreeMap::new();
    numbers(records, |place, number| {
        if let Place::Field(name) = place {
            let kind = Kind::of(number);
            names.entry(name).and_modify(|all: &mut Kind| *all = kind.max(*all)).or_insert(kind);
        }
    })?;
    let fields = schema.fields().iter().map(|field| retyped(field, &names));
    Ok(Schema::new_with_metadata(fields.collect::<Vec<_>>(), schema.metadata().clone()))
}

fn retyped(field: &FieldRef, names: &BTreeMap<&[u8], Kind>) -> FieldRef {
    let data_type = match field.data_type() {
        DataType::Float64 if names.get(field.name().as_bytes()) == Some(&Kind::Large) => DataType::UInt64,
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|field| retyped(field, names)).collect()),
        _ => return Arc::clone(field),
    };
    Arc::new(Field::new(field.name(), data_type, field.is_nullable()))
}

/// What a number is, the least special first: that of many numbers is the greatest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Whole, and both kinds of integers hold it.
    Small,
    /// Only one without a sign does.
    Large,
    /// Anything else.
    Other,
}

impl Kind {
    fn of(number: &[u8]) -> Self {
        match std::str::from_utf8(number).map(str::parse::<u64>) {
            Ok(Ok(number)) if i64::try_from(number).is_ok() => Self::Small,
            Ok(Ok(_)) => Self::Large,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_columns_of_whole_numbers_that_need_it_change() {
        let records =
            br#"{"id":18446744073709551615,"mixed":18446744073709551615,"below":-1,"s":{"h":9223372036854775808}}
            {"id":1,"mixed":0.5,"below":9223372036854775808,"f":1.5,"s":{"h":0}}"#;
        let nested = DataType::Struct(vec![Field::new("h", DataType::Float64, true)].into());
        let fields = ["id", "mixed", "below", "f"].map(|name| Field::new(name, DataType::Float64, true));
        let schema = Schema::new([&fields[..], &[Field::new("s", nested, true)]].concat());
        let Ok(schema) = as_unsigned(&schema, records) else { panic!("it is not deep") };
        let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().to_string()).collect();
        assert_eq!(types, ["UInt64", "Float64", "Float64", "Float64", "Struct(\"h\": UInt64)"]);
    }
}
