//! A look at a whole footer before the decoder believes it: pure.
//!
//! The decoder makes room for as many values as a list is said to have, and goes as deep into the schema as that is said
//! to be. Neither failure can be caught: the process ends. So both are looked at first.

use super::thrift::{Odd, Seen, Shape, Table, walk};

/// # Errors
/// If the bytes of a footer claim what nobody should make room for, or are none.
pub(super) fn check(footer: &[u8]) -> Result<(), String> {
    let mut tree = Tree::default();
    walk(footer, &FILE, &mut |table, seen| match (table.name, seen) {
        (ELEMENT, Seen::Begin) => tree.begin(),
        (ELEMENT, Seen::Number(CHILDREN, number)) => tree.children(number),
        (ELEMENT, Seen::End) => tree.end(),
        _ => Ok(()),
    })
    .map_err(|odd| match odd {
        Odd::Cut => "its footer claims more than it holds".to_owned(),
        Odd::Forged(why) => format!("its footer is not to be believed ({why})"),
    })?;
    // All but the first are in another one.
    match tree.claimed >= tree.elements.max(1) {
        true => Err("its footer claims more columns than it holds".to_owned()),
        false => Ok(()),
    }
}

/// Whether these bytes are an index of where pages lie, or of what is in them, that claims no more than it holds.
pub(super) fn is_index(bytes: &[u8], of_places: bool) -> bool {
    let table = if of_places { &PAGES } else { &VALUES };
    walk(bytes, table, &mut |_, _| Ok(())).is_ok()
}

/// The schema as it comes: each group, then what is in it.
#[derive(Debug, Default)]
struct Tree {
    elements: u64,
    claimed: u64,
    /// Of the element that is looked at.
    children: u64,
    /// How many are still to come in each group that is open.
    open: Vec<u64>,
}

impl Tree {
    fn begin(&mut self) -> Result<(), Odd> {
        self.elements += 1;
        self.children = 0;
        Ok(())
    }

    fn children(&mut self, number: i64) -> Result<(), Odd> {
        self.children = u64::try_from(number).map_err(|_| Odd::Forged("a group has fewer than no columns"))?;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Odd> {
        while self.open.last() == Some(&0) {
            self.open.pop();
        }
        if let Some(left) = self.open.last_mut() {
            *left -= 1;
        }
        self.claimed = self.claimed.saturating_add(self.children);
        if self.children > 0 {
            self.open.push(self.children);
        }
        if self.open.len() > SCHEMA_DEPTH_MAX {
            return Err(Odd::Forged("its schema is too deep"));
        }
        Ok(())
    }
}

/// Nobody nests columns like this; the decoder takes some of the stack for each level.
const SCHEMA_DEPTH_MAX: usize = 100;

const ELEMENT: &str = "schema element";
/// The field of an element that says how many others are in it.
const CHILDREN: i16 = 5;

static FILE: Table = Table {
    name: "file",
    fields: &[
        (1, Shape::I32),
        (2, Shape::List(&Shape::Struct(&SCHEMA_ELEMENT))),
        (3, Shape::I64),
        (4, Shape::List(&Shape::Struct(&ROW_GROUP))),
        (5, Shape::List(&Shape::Struct(&KEY_VALUE))),
        (6, Shape::Binary),
        (7, Shape::List(&Shape::Struct(&COLUMN_ORDER))),
    ],
};

static SCHEMA_ELEMENT: Table = Table {
    name: ELEMENT,
    fields: &[
        (1, Shape::I32),
        (2, Shape::I32),
        (3, Shape::I32),
        (4, Shape::Binary),
        (CHILDREN, Shape::I32),
        (6, Shape::I32),
        (7, Shape::I32),
        (8, Shape::I32),
        (9, Shape::I32),
        (10, Shape::Struct(&LOGICAL_TYPE)),
    ],
};

/// Kinds without anything in them, and those of a length that is nobody's claim, are passed over.
static LOGICAL_TYPE: Table = Table {
    name: "logical type",
    fields: &[
        (1, Shape::Struct(&EMPTY)),
        (2, Shape::Struct(&EMPTY)),
        (3, Shape::Struct(&EMPTY)),
        (4, Shape::Struct(&EMPTY)),
        (5, Shape::Struct(&Table { name: "decimal", fields: &[(1, Shape::I32), (2, Shape::I32)] })),
        (6, Shape::Struct(&EMPTY)),
        (7, Shape::Struct(&TIME)),
        (8, Shape::Struct(&TIME)),
        (10, Shape::Struct(&Table { name: "integer", fields: &[(1, Shape::Byte), (2, Shape::Bool)] })),
        (11, Shape::Struct(&EMPTY)),
        (12, Shape::Struct(&EMPTY)),
        (13, Shape::Struct(&EMPTY)),
        (14, Shape::Struct(&EMPTY)),
        (15, Shape::Struct(&EMPTY)),
        (16, Shape::Struct(&Table { name: "variant", fields: &[(1, Shape::Byte)] })),
        (17, Shape::Struct(&PLACE)),
        (18, Shape::Struct(&PLACE)),
    ],
};

static EMPTY: Table = Table { name: "nothing", fields: &[] };

static TIME: Table = Table { name: "time", fields: &[(1, Shape::Bool), (2, Shape::Struct(&UNIT))] };

static UNIT: Table = Table {
    name: "unit",
    fields: &[(1, Shape::Struct(&EMPTY)), (2, Shape::Struct(&EMPTY)), (3, Shape::Struct(&EMPTY))],
};

static PLACE: Table = Table { name: "place", fields: &[(1, Shape::Binary), (2, Shape::I32)] };

static ROW_GROUP: Table = Table {
    name: "row group",
    fields: &[
        (1, Shape::List(&Shape::Struct(&COLUMN_CHUNK))),
        (2, Shape::I64),
        (3, Shape::I64),
        (4, Shape::List(&Shape::Struct(&SORTING))),
        (5, Shape::I64),
        (6, Shape::I64),
        (7, Shape::I16),
    ],
};

static SORTING: Table = Table { name: "sorting", fields: &[(1, Shape::I32), (2, Shape::Bool), (3, Shape::Bool)] };

static KEY_VALUE: Table = Table { name: "key and value", fields: &[(1, Shape::Binary), (2, Shape::Binary)] };

static COLUMN_ORDER: Table = Table { name: "column order", fields: &[(1, Shape::Struct(&EMPTY))] };

static COLUMN_CHUNK: Table = Table {
    name: "column chunk",
    fields: &[
        (1, Shape::Binary),
        (2, Shape::I64),
        (3, Shape::Struct(&COLUMN)),
        (4, Shape::I64),
        (5, Shape::I32),
        (6, Shape::I64),
        (7, Shape::I32),
    ],
};

static COLUMN: Table = Table {
    name: "column",
    fields: &[
        (1, Shape::I32),
        (2, Shape::List(&Shape::I32)),
        (3, Shape::List(&Shape::Binary)),
        (4, Shape::I32),
        (5, Shape::I64),
        (6, Shape::I64),
        (7, Shape::I64),
        (8, Shape::List(&Shape::Struct(&KEY_VALUE))),
        (9, Shape::I64),
        (10, Shape::I64),
        (11, Shape::I64),
        (12, Shape::Struct(&STATISTICS)),
        (13, Shape::List(&Shape::Struct(&ENCODING))),
        (14, Shape::I64),
        (15, Shape::I32),
        (16, Shape::Struct(&SIZES)),
        (17, Shape::Struct(&PLACES)),
    ],
};

static STATISTICS: Table = Table {
    name: "statistics",
    fields: &[
        (1, Shape::Binary),
        (2, Shape::Binary),
        (3, Shape::I64),
        (4, Shape::I64),
        (5, Shape::Binary),
        (6, Shape::Binary),
        (7, Shape::Bool),
        (8, Shape::Bool),
    ],
};

static ENCODING: Table = Table { name: "encoding", fields: &[(1, Shape::I32), (2, Shape::I32), (3, Shape::I32)] };

static SIZES: Table =
    Table { name: "sizes", fields: &[(1, Shape::I64), (2, Shape::List(&Shape::I64)), (3, Shape::List(&Shape::I64))] };

static PLACES: Table = Table { name: "places", fields: &[(1, Shape::Struct(&BOX)), (2, Shape::List(&Shape::I32))] };

static BOX: Table = Table {
    name: "box",
    fields: &[
        (1, Shape::Double),
        (2, Shape::Double),
        (3, Shape::Double),
        (4, Shape::Double),
        (5, Shape::Double),
        (6, Shape::Double),
        (7, Shape::Double),
        (8, Shape::Double),
    ],
};

static PAGES: Table =
    Table { name: "pages", fields: &[(1, Shape::List(&Shape::Struct(&PAGE))), (2, Shape::List(&Shape::I64))] };

static PAGE: Table = Table { name: "page", fields: &[(1, Shape::I64), (2, Shape::I32), (3, Shape::I64)] };

static VALUES: Table = Table {
    name: "values",
    fields: &[
        (1, Shape::List(&Shape::Bool)),
        (2, Shape::List(&Shape::Binary)),
        (3, Shape::List(&Shape::Binary)),
        (4, Shape::I32),
        (5, Shape::List(&Shape::I64)),
        (6, Shape::List(&Shape::I64)),
        (7, Shape::List(&Shape::I64)),
    ],
};

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, StructArray, TimestampMillisecondArray};
    use parquet::arrow::ArrowWriter;
    use proptest::prelude::*;

    use super::*;

    /// The footer of a file of columns of several types.
    fn real() -> Vec<u8> {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let words: ArrayRef = Arc::new(StringArray::from(vec![Some("one"), None, Some("three")]));
        let times: ArrayRef = Arc::new(TimestampMillisecondArray::from(vec![1, 2, 3]).with_timezone("UTC"));
        let both = StructArray::try_from(vec![("words", Arc::clone(&words)), ("times", Arc::clone(&times))]).unwrap();
        let columns = [("numbers", numbers), ("words", words), ("times", times), ("both", Arc::new(both) as ArrayRef)];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        footer(&file).to_vec()
    }

    fn footer(file: &[u8]) -> &[u8] {
        let (file, tail) = file.split_at(file.len() - 8);
        let length = u32::from_le_bytes(tail[..4].try_into().unwrap());
        &file[file.len() - length as usize..]
    }

    #[test]
    fn what_writers_write_is_fine() {
        check(&real()).unwrap();
        let digits = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/digits");
        for file in std::fs::read_dir(digits).unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|kind| kind == "parquet") {
                check(footer(&std::fs::read(&path).unwrap())).unwrap();
            }
        }
    }

    /// A footer with these elements in its schema and nothing else; `count` is claimed.
    fn forged(count: u32, elements: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x15, 0x02, 0x19, 0xfc];
        let mut left = count;
        while left >= 0x80 {
            bytes.push(left as u8 | 0x80);
            left >>= 7;
        }
        bytes.push(left as u8);
        [&bytes, elements, &[0]].concat()
    }

    /// An element named "a", not repeated, with one in it.
    const GROUP: [u8; 8] = [0x35, 0x00, 0x18, 0x01, b'a', 0x15, 0x02, 0x00];

    #[test]
    fn claims_of_more_than_there_is_are_refused() {
        let error = |count, elements: &[u8]| check(&forged(count, elements)).unwrap_err();
        assert!(error(i32::MAX as u32, &GROUP).contains("claims more than it holds"));
        assert!(error(1, &GROUP).contains("claims more columns than it holds"));
        let negative = [0x35, 0x00, 0x18, 0x01, b'a', 0x15, 0x01, 0x00];
        assert!(error(1, &negative).contains("fewer than no columns"));
    }

    #[test]
    fn a_schema_goes_down_only_so_far() {
        let deep =
            |levels: u32| forged(levels + 1, &[GROUP.repeat(levels as usize), vec![0x48, 0x01, b'a', 0]].concat());
        check(&deep(100)).unwrap();
        assert!(check(&deep(101)).unwrap_err().contains("its schema is too deep"));
        // Beside one another they are not deep.
        let root = [0x35, 0x00, 0x18, 0x01, b'a', 0x15, 0xd0, 0x0f, 0x00];
        let pair = [&GROUP[..], &[0x48, 0x01, b'a', 0]].concat();
        check(&forged(2001, &[&root[..], &pair.repeat(1000)].concat())).unwrap();
    }

    #[test]
    fn an_index_holds_what_it_claims() {
        // Three values of no bytes, and one page.
        let values = [0x19, 0x31, 0x01, 0x01, 0x01, 0x19, 0x38, 0, 0, 0, 0x19, 0x38, 0, 0, 0, 0x15, 0x02, 0x00];
        let places = [0x19, 0x1c, 0x16, 0x08, 0x15, 0x08, 0x16, 0x00, 0x00, 0x00];
        assert!(is_index(&values, false) && is_index(&places, true));
        assert!(!is_index(&values, true) && !is_index(&places, false));
        assert!(!is_index(&[0x19, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x16, 0x08], true));
        assert!(!is_index(&values[..9], false));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_footer_that_is_cut_is_none(part in 0.0..1.0f64) {
            let footer = real();
            let length = (footer.len() as f64 * part) as usize;
            prop_assert!(check(&footer[..length]).is_err());
        }

        #[test]
        fn damage_is_looked_at_to_an_end(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..9)) {
            let mut footer = real();
            for (place, byte) in flips {
                *place.get_mut(&mut footer) = byte;
            }
            let _ = check(&footer);
        }
    }
}
