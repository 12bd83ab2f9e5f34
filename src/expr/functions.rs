//! The methods that build function calls: strings and mathematics.

use super::tree::{Expr, Function};

/// Functions of numbers.
impl Expr {
    /// The absolute value, of the same type.
    pub fn abs(self) -> Self {
        self.call(Function::Abs, [])
    }

    /// The nearest whole number, halves away from zero, of the same type.
    pub fn round(self) -> Self {
        self.call(Function::Round, [])
    }

    /// The largest whole number that is not above it, of the same type.
    pub fn floor(self) -> Self {
        self.call(Function::Floor, [])
    }

    /// The smallest whole number that is not below it, of the same type.
    pub fn ceil(self) -> Self {
        self.call(Function::Ceil, [])
    }

    /// The square root: float32 of a float32, else float64; NaN below zero.
    pub fn sqrt(self) -> Self {
        self.call(Function::Sqrt, [])
    }
}

/// Functions of strings. All take any string type, also behind a dictionary, and give null for null.
impl Expr {
    /// Lower case.
    pub fn lower(self) -> Self {
        self.call(Function::Lower, [])
    }

    /// Upper case.
    pub fn upper(self) -> Self {
        self.call(Function::Upper, [])
    }

    /// Without white space at both ends.
    pub fn trim(self) -> Self {
        self.call(Function::Trim, [])
    }

    /// Length in characters (Unicode scalar values), int64.
    pub fn length(self) -> Self {
        self.call(Function::Length, [])
    }

    /// Up to `length` characters (all if `None`) behind the first `start`; a negative `start` counts from the end.
    ///
    /// ```
    /// use mobula::expr::col;
    /// assert_eq!(col("id").substring(0, 3).to_string(), "substring(id, 0, 3)");
    /// assert_eq!(col("id").substring(-2, None).to_string(), "substring(id, -2)");
    /// ```
    pub fn substring(self, start: i64, length: impl Into<Option<u64>>) -> Self {
        self.call(Function::Substring { start, length: length.into() }, [])
    }

    /// Every occurrence of `from` replaced by `to`.
    pub fn replace(self, from: impl Into<Expr>, to: impl Into<Expr>) -> Self {
        self.call(Function::Replace, [from.into(), to.into()])
    }

    /// Whether `part` occurs in it.
    pub fn contains(self, part: impl Into<Expr>) -> Self {
        self.call(Function::Contains, [part.into()])
    }

    /// Whether it starts with `part`.
    pub fn starts_with(self, part: impl Into<Expr>) -> Self {
        self.call(Function::StartsWith, [part.into()])
    }

    /// Whether it ends with `part`.
    pub fn ends_with(self, part: impl Into<Expr>) -> Self {
        self.call(Function::EndsWith, [part.into()])
    }

    /// Whether it matches an SQL pattern: `%` is any string, `_` one character, `\` escapes these.
    pub fn like(self, pattern: impl Into<Expr>) -> Self {
        self.call(Function::Like, [pattern.into()])
    }

    /// [`Expr::like`] without regard to case.
    pub fn ilike(self, pattern: impl Into<Expr>) -> Self {
        self.call(Function::ILike, [pattern.into()])
    }
}
