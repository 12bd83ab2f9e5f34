//! Fields of nested JSON objects that a schema does not have. The decoder can refuse all unknown fields or none; where only
//! some columns are read, those of the other columns do not matter, and those within the ones that are read do. Pure.

use std::collections::BTreeMap;

use arrow::datatypes::{DataType, Fields, Schema};

use super::tokens::string_end;

/// The fields of an object, and what is known of their values.
#[derive(Debug)]
pub(super) struct Known {
    fields: BTreeMap<Vec<u8>, Known>,
    /// Whether others may be there too.
    open: bool,
}

impl Known {
    /// Of records of which these columns are read; `None` if there are no objects in them.
    pub(super) fn of(schema: &Schema) -> Option<Self> {
        let known = Self::of_fields(schema.fields(), true);
        known.fields.values().any(|field| !field.open).then_some(known)
    }

    fn of_fields(fields: &Fields, open: bool) -> Self {
        let field =
            |field: &arrow::datatypes::FieldRef| (field.name().as_bytes().to_vec(), Self::of_value(field.data_type()));
        Self { fields: fields.iter().map(field).collect(), open }
    }

    fn of_value(data_type: &DataType) -> Self {
        match data_type {
            DataType::List(item) | DataType::LargeList(item) => Self::of_value(item.data_type()),
            DataType::Struct(fields) => Self::of_fields(fields, false),
            _ => Self { fields: BTreeMap::new(), open: true },
        }
    }

    /// The first field in some records that is not known, and must be. One whose name is escaped is taken for known.
    pub(super) fn unknown<'a>(&self, records: &'a [u8]) -> Option<&'a [u8]> {
        // What is being looked at, from the outside in: what an object or the items of a list may have; none if anything.
        let mut open: Vec<(Option<&Self>, u8)> = Vec::new();
        let (mut value, mut before, mut at) = (Some(self), b',', 0);
        while let Some(&byte) = records.get(at) {
            at += 1;
            let holder = open.last().copied();
            match byte {
                b'"' => {
                    let end = string_end(records, at);
                    let name = records.get(at..end).unwrap_or_default();
                    at = end + 1;
                    if let (Some((Some(object), b'{')), b'{' | b',') = (holder, before) {
                        value = object.fields.get(name);
                        if value.is_none() && !object.open && !name.contains(&b'\\') {
                            return Some(name);
                        }
                    } else if before != b':' {
                        value = None;
                    }
                    before = byte;
                }
                b'{' | b'[' => {
                    let what = match holder {
                        None => Some(self),
                        Some((items, b'[')) => items,
                        Some(_) => value,
                    };
                    open.push((what, byte));
                    before = byte;
                }
                b'}' | b']' => {
                    open.pop();
                    before = byte;
                }
                b':' | b',' => before = byte,
                _ => {}
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::datatypes::Field;
    use std::sync::Arc;

    fn object(fields: Vec<Field>) -> DataType {
        DataType::Struct(fields.into())
    }

    fn number(name: &str) -> Field {
        Field::new(name, DataType::Int64, true)
    }

    #[test]
    fn fields_within_what_is_read_must_be_known_and_others_not() {
        let inner = object(vec![number("p"), Field::new("deep", object(vec![number("d")]), true)]);
        let items = DataType::List(Arc::new(Field::new_list_field(object(vec![number("x")]), true)));
        let schema = Schema::new(vec![number("n"), Field::new("s", inner, true), Field::new("l", items, true)]);
        let known = Known::of(&schema).unwrap();
        let good = [
            r#"{"n":1,"s":{"p":1,"deep":{"d":2}},"l":[{"x":1},{"x":2}]}"#,
            r#"{"other":{"q":1,"s":{"q":2}},"n":[{"q":1}],"s":null}"#,
            r#"{"o":"s","s":{"p":"{\"q\":1}"},"l":[[],null,"x",{"x":{"q":1}}]} {"q":1}"#,
        ];
        for text in good {
            assert_eq!(known.unknown(text.as_bytes()), None, "{text}");
        }
        let bad = [
            (r#"{"s":{"p":1,"q":2}}"#, "q"),
            (r#"{"n":1} {"s":{"deep":{"d":1,"e":{}}}}"#, "e"),
            (r#"{"u":{"q":1},"l":[{"x":1},{"y":2}]}"#, "y"),
            (r#"{"s":{"deep":{"d":1},"n":2}}"#, "n"),
        ];
        for (text, field) in bad {
            assert_eq!(known.unknown(text.as_bytes()), Some(field.as_bytes()), "{text}");
        }
        assert!(Known::of(&Schema::new(vec![number("n")])).is_none());
        for cut in 0..good[0].len() {
            known.unknown(&good[0].as_bytes()[..cut]);
            known.unknown(&good[0].as_bytes()[cut..]);
        }
    }
}
