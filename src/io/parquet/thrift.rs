//! A walk over what Thrift's compact form says, before the decoder believes it: pure, and nothing is allocated.
//!
//! The decoder takes a field for what its number should be, not for what the bytes say that it is. So the walk knows the
//! types of the fields that the decoder reads, and refuses others: otherwise the two would see different things behind
//! such a field.

/// What a value is taken for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    Bool,
    Byte,
    I16,
    I32,
    I64,
    Double,
    Binary,
    List(&'static Shape),
    Struct(&'static Table),
}

/// The fields of a struct that the decoder knows. Others it skips.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) fields: &'static [(i16, Shape)],
}

/// What is come by on a walk.
#[derive(Debug)]
pub(super) enum Seen {
    /// A struct begins.
    Begin,
    /// A known field of it that is a whole number.
    Number(i16, i64),
    /// A struct ends.
    End,
}

/// Why a walk ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Odd {
    /// There are fewer bytes than it takes.
    Cut,
    /// What no writer writes.
    Forged(&'static str),
}

/// Walks over a struct with which the bytes begin, and tells `see` what is in it. Returns how many bytes are behind it.
///
/// # Errors
/// If the bytes end too early, or say what they cannot mean, or `see` refuses.
pub(super) fn walk(
    bytes: &[u8],
    table: &'static Table,
    see: &mut dyn FnMut(&'static Table, Seen) -> Result<(), Odd>,
) -> Result<usize, Odd> {
    let mut walk = Walk { bytes, see };
    walk.known(table, 0)?;
    Ok(walk.bytes.len())
}

/// Deeper than this is nothing that the decoder knows, and it skips no deeper itself.
const DEPTH_MAX: u32 = 64;

/// The least that a struct in a list takes: a field with its value, and its end.
const STRUCT_BYTES_MIN: usize = 3;

struct Walk<'a, 's> {
    bytes: &'a [u8],
    see: &'s mut dyn FnMut(&'static Table, Seen) -> Result<(), Odd>,
}

impl Walk<'_, '_> {
    fn known(&mut self, table: &'static Table, depth: u32) -> Result<(), Odd> {
        (self.see)(table, Seen::Begin)?;
        let mut last = 0;
        while let Some((id, code)) = self.field(last)? {
            last = id;
            match table.fields.iter().find(|(known, _)| *known == id) {
                None => self.skip(code, depth + 1)?,
                Some((_, shape)) if !shape.fits(code) => return Err(Odd::Forged("a field is of another type")),
                Some((_, shape)) => {
                    if let Some(number) = self.value(shape, depth + 1)? {
                        (self.see)(table, Seen::Number(id, number))?;
                    }
                }
            }
        }
        (self.see)(table, Seen::End)
    }

    /// A value, and which one it is if it is a whole number.
    fn value(&mut self, shape: &'static Shape, depth: u32) -> Result<Option<i64>, Odd> {
        if depth > DEPTH_MAX {
            return Err(Odd::Forged("structs lie too deep"));
        }
        match shape {
            Shape::Bool => Ok(None),
            Shape::I16 => self.number(i16::MIN.into(), i16::MAX.into()).map(Some),
            Shape::I32 => self.number(i32::MIN.into(), i32::MAX.into()).map(Some),
            Shape::I64 => self.number(i64::MIN, i64::MAX).map(Some),
            Shape::Byte | Shape::Double | Shape::Binary => self.skip(shape.code(), depth).map(|()| None),
            Shape::Struct(table) => self.known(table, depth).map(|()| None),
            Shape::List(element) => {
                let (code, length) = self.list()?;
                if length > 0 && !element.fits(code) {
                    return Err(Odd::Forged("a list holds another type"));
                }
                for _ in 0..length {
                    match element {
                        Shape::Bool => self.take(1)?,
                        element => self.value(element, depth + 1).map(|_| ())?,
                    }
                }
                Ok(None)
            }
        }
    }

    /// Over a value that nobody knows.
    fn skip(&mut self, code: u8, depth: u32) -> Result<(), Odd> {
        if depth > DEPTH_MAX {
            return Err(Odd::Forged("structs lie too deep"));
        }
        match code {
            TRUE | FALSE => Ok(()),
            BYTE => self.take(1),
            I16 | I32 | I64 => self.varint().map(|_| ()),
            DOUBLE => self.take(8),
            BINARY => {
                let length = self.varint()?;
                self.take(usize::try_from(length).map_err(|_| Odd::Cut)?)
            }
            LIST => {
                let (code, length) = self.list()?;
                for _ in 0..length {
                    match code {
                        TRUE | FALSE => self.take(1)?,
                        code => self.skip(code, depth + 1)?,
                    }
                }
                Ok(())
            }
            STRUCT => {
                let mut last = 0;
                while let Some((id, code)) = self.field(last)? {
                    last = id;
                    self.skip(code, depth + 1)?;
                }
                Ok(())
            }
            _ => Err(Odd::Forged("a value is of no type that is used here")),
        }
    }

    /// The number and the type of the next field of a struct, if there is one.
    fn field(&mut self, last: i16) -> Result<Option<(i16, u8)>, Odd> {
        let head = self.byte()?;
        let (step, code) = (head >> 4, head & 0x0f);
        if code == STOP {
            return Ok(None);
        }
        let id = match step {
            0 => i16::try_from(self.number(i16::MIN.into(), i16::MAX.into())?).ok(),
            step => last.checked_add(i16::from(step)),
        };
        Ok(Some((id.ok_or(Odd::Forged("a field has no number"))?, code)))
    }

    /// The type and number of the values of a list: there are bytes enough for them.
    fn list(&mut self) -> Result<(u8, u64), Odd> {
        let head = self.byte()?;
        let code = head & 0x0f;
        let length = match head >> 4 {
            15 => self.varint()?,
            length => u64::from(length),
        };
        let least = if code == STRUCT { STRUCT_BYTES_MIN } else { 1 };
        if length > (self.bytes.len() / least) as u64 {
            return Err(Odd::Cut);
        }
        Ok((code, length))
    }

    fn number(&mut self, least: i64, most: i64) -> Result<i64, Odd> {
        let number = self.varint()?;
        let number = (number >> 1) as i64 ^ -((number & 1) as i64);
        if (least..=most).contains(&number) { Ok(number) } else { Err(Odd::Forged("a number is too large")) }
    }

    fn varint(&mut self) -> Result<u64, Odd> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Odd::Forged("a number is too long"))
    }

    fn byte(&mut self) -> Result<u8, Odd> {
        let (&byte, rest) = self.bytes.split_first().ok_or(Odd::Cut)?;
        self.bytes = rest;
        Ok(byte)
    }

    fn take(&mut self, length: usize) -> Result<(), Odd> {
        self.bytes = self.bytes.get(length..).ok_or(Odd::Cut)?;
        Ok(())
    }
}

impl Shape {
    fn code(&self) -> u8 {
        match self {
            Self::Bool => TRUE,
            Self::Byte => BYTE,
            Self::I16 => I16,
            Self::I32 => I32,
            Self::I64 => I64,
            Self::Double => DOUBLE,
            Self::Binary => BINARY,
            Self::List(_) => LIST,
            Self::Struct(_) => STRUCT,
        }
    }

    /// Whole numbers of all sizes are written alike.
    fn fits(&self, code: u8) -> bool {
        match self {
            Self::Bool => matches!(code, TRUE | FALSE),
            Self::I16 | Self::I32 | Self::I64 => matches!(code, I16 | I32 | I64),
            other => other.code() == code,
        }
    }
}

const STOP: u8 = 0;
const TRUE: u8 = 1;
const FALSE: u8 = 2;
const BYTE: u8 = 3;
const I16: u8 = 4;
const I32: u8 = 5;
const I64: u8 = 6;
const DOUBLE: u8 = 7;
const BINARY: u8 = 8;
const LIST: u8 = 9;
const STRUCT: u8 = 12;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    static INNER: Table = Table { name: "inner", fields: &[(1, Shape::I32)] };
    static OUTER: Table = Table {
        name: "outer",
        fields: &[
            (1, Shape::I64),
            (2, Shape::List(&Shape::Struct(&INNER))),
            (3, Shape::Bool),
            (4, Shape::Struct(&OUTER)),
        ],
    };

    fn numbers(bytes: &[u8]) -> Result<Vec<(&'static str, i16, i64)>, Odd> {
        let mut numbers = Vec::new();
        walk(bytes, &OUTER, &mut |table, seen| {
            if let Seen::Number(id, number) = seen {
                numbers.push((table.name, id, number));
            }
            Ok(())
        })?;
        Ok(numbers)
    }

    #[test]
    fn known_numbers_are_seen_in_order() {
        let list = [0x19, 0x2c, 0x15, 0x02, 0x00, 0x15, 0x04, 0x00];
        // Field 9 is known to nobody: an empty list.
        let bytes = [&[0x16, 0x0e][..], &list, &[0x11, 0x69, 0x00, 0x00]].concat();
        assert_eq!(numbers(&bytes), Ok(vec![("outer", 1, 7), ("inner", 1, 1), ("inner", 1, 2)]));
        for length in 0..bytes.len() {
            assert_eq!(numbers(&bytes[..length]), Err(Odd::Cut), "{length}");
        }
    }

    #[test]
    fn claims_are_refused() {
        assert_eq!(numbers(&[0x29, 0xfc, 0xff, 0xff, 0xff, 0xff, 0x07, 0x15, 0x02]), Err(Odd::Cut), "a long list");
        assert_eq!(numbers(&[0x58, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01]), Err(Odd::Cut));
        assert_eq!(numbers(&[0x18, 0x00, 0x00]), Err(Odd::Forged("a field is of another type")));
        assert_eq!(numbers(&[0x29, 0x15, 0x02, 0x00, 0x00]), Err(Odd::Forged("a list holds another type")));
        assert_eq!(numbers(&[0x15, 0x0e, 0x00]), Ok(vec![("outer", 1, 7)]), "a number of another size");
        assert_eq!(numbers(&[0x4c; 10_000]), Err(Odd::Forged("structs lie too deep")));
        assert_eq!(numbers(&[0x5c; 10_000]), Err(Odd::Forged("structs lie too deep")));
        assert_eq!(numbers(&[[0x59].as_slice(), &[0x19; 10_000]].concat()), Err(Odd::Forged("structs lie too deep")));
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x19), Just(0x4c), Just(0x1c)], 0..300)) {
            let _ = numbers(&bytes);
        }
    }
}
