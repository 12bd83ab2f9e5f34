//! The methods and operators that build expressions: arithmetic, comparison, boolean, null, cast.

use std::ops;

use arrow::datatypes::DataType;

use super::literal::Literal;
use super::tree::{BinaryOp, Expr, Function, UnaryOp};

impl Expr {
    pub(super) fn binary(self, op: BinaryOp, right: impl Into<Expr>) -> Self {
        Self::Binary { left: Box::new(self), op, right: Box::new(right.into()) }
    }

    pub(super) fn unary(self, op: UnaryOp) -> Self {
        Self::Unary { op, expr: Box::new(self) }
    }

    pub(super) fn call(self, function: Function, more: impl IntoIterator<Item = Expr>) -> Self {
        Self::Call { function, args: std::iter::once(self).chain(more).collect() }
    }

    /// The same values under the name `name`.
    pub fn alias(self, name: impl Into<String>) -> Self {
        Self::Alias { expr: Box::new(self), name: name.into() }
    }

    /// The values as another type. A value that does not fit is an error that names the expression.
    pub fn cast(self, to: DataType) -> Self {
        Self::Cast { expr: Box::new(self), to, lossy: false }
    }

    /// The values as another type. A value that does not fit becomes null.
    pub fn try_cast(self, to: DataType) -> Self {
        Self::Cast { expr: Box::new(self), to, lossy: true }
    }

    /// Whether it equals `other`; null if either is null. Floats compare as in Rust: NaN equals nothing.
    pub fn eq(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Eq, other)
    }

    /// Whether it differs from `other`; null if either is null.
    pub fn ne(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::NotEq, other)
    }

    /// Whether it is less than `other`.
    pub fn lt(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Lt, other)
    }

    /// Whether it is less than or equal to `other`.
    pub fn lt_eq(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::LtEq, other)
    }

    /// Whether it is greater than `other`.
    pub fn gt(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Gt, other)
    }

    /// Whether it is greater than or equal to `other`.
    pub fn gt_eq(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::GtEq, other)
    }

    /// Whether it lies between `low` and `high`, both included.
    pub fn between(self, low: impl Into<Expr>, high: impl Into<Expr>) -> Self {
        self.clone().gt_eq(low).and(self.lt_eq(high))
    }

    /// Whether it is one of `list`; null if it is null.
    pub fn is_in<L: Into<Literal>>(self, list: impl IntoIterator<Item = L>) -> Self {
        Self::IsIn { expr: Box::new(self), list: list.into_iter().map(Into::into).collect() }
    }

    /// Whether both hold. False and null is false.
    pub fn and(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::And, other)
    }

    /// Whether either holds. True or null is true.
    pub fn or(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Or, other)
    }

    /// Whether it is null.
    pub fn is_null(self) -> Self {
        self.unary(UnaryOp::IsNull)
    }

    /// Whether it is not null.
    pub fn is_not_null(self) -> Self {
        self.unary(UnaryOp::IsNotNull)
    }

    /// Whether a float is NaN; null if it is null.
    pub fn is_nan(self) -> Self {
        self.call(Function::IsNan, [])
    }

    /// `value` where it is null.
    pub fn fill_null(self, value: impl Into<Expr>) -> Self {
        self.call(Function::Coalesce, [value.into()])
    }
}

/// The operators by name, for those who chain methods.
#[allow(clippy::should_implement_trait)]
impl Expr {
    /// The sum.
    pub fn add(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Add, other)
    }

    /// The difference.
    pub fn sub(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Subtract, other)
    }

    /// The product.
    pub fn mul(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Multiply, other)
    }

    /// The quotient; whole between integers, null where an integer is divided by zero.
    pub fn div(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Divide, other)
    }

    /// The remainder; null where an integer is divided by zero.
    pub fn rem(self, other: impl Into<Expr>) -> Self {
        self.binary(BinaryOp::Remainder, other)
    }

    /// The negative value.
    pub fn neg(self) -> Self {
        self.unary(UnaryOp::Negate)
    }

    /// Whether it does not hold; null if it is null.
    pub fn not(self) -> Self {
        self.unary(UnaryOp::Not)
    }
}

macro_rules! std_operators {
    ($($trait:ident $method:ident $op:ident),*) => {$(
        impl<E: Into<Expr>> ops::$trait<E> for Expr {
            type Output = Expr;
            fn $method(self, other: E) -> Expr {
                self.binary(BinaryOp::$op, other)
            }
        }
    )*};
}

std_operators!(Add add Add, Sub sub Subtract, Mul mul Multiply, Div div Divide, Rem rem Remainder);

impl ops::Neg for Expr {
    type Output = Expr;
    fn neg(self) -> Expr {
        self.unary(UnaryOp::Negate)
    }
}

impl ops::Not for Expr {
    type Output = Expr;
    fn not(self) -> Expr {
        self.unary(UnaryOp::Not)
    }
}
