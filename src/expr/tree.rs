//! The tree an expression is, and walks over it. It knows no schema and no values: see `bind` for types.

use std::collections::BTreeSet;

use arrow::datatypes::DataType;
use serde::{Deserialize, Serialize};

use super::literal::Literal;
use super::wire::Flat;

/// Deepest tree that is bound, encoded or decoded. Walks recurse, so this keeps them far from the end of a stack;
/// hand-written expressions stay under 20.
pub const DEPTH_MAX: usize = 200;

/// A computation on the columns of a row.
///
/// Made from [`col`] and [`lit`] with operators and methods; it stands for nothing until it is bound to a schema.
///
/// ```
/// use mobula::expr::{col, lit};
/// let expr = col("fare").gt(10.0).and(col("name").is_not_null());
/// assert_eq!(expr.to_string(), "fare > 10.0 and name is not null");
/// assert_eq!(expr.columns().into_iter().collect::<Vec<_>>(), ["fare", "name"]);
/// assert_eq!(((col("a") + 1) * lit(2)).to_string(), "(a + 1) * 2");
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Flat", try_from = "Flat")]
pub enum Expr {
    /// The column of that name.
    Column(String),
    /// A constant.
    Literal(Literal),
    /// The same values under another name.
    Alias {
        /// What is named.
        expr: Box<Expr>,
        /// Its name.
        name: String,
    },
    /// An operation on one value.
    Unary {
        /// The operation.
        op: UnaryOp,
        /// Its operand.
        expr: Box<Expr>,
    },
    /// An operation on two values.
    Binary {
        /// The left operand.
        left: Box<Expr>,
        /// The operation.
        op: BinaryOp,
        /// The right operand.
        right: Box<Expr>,
    },
    /// A change of type.
    Cast {
        /// What is changed.
        expr: Box<Expr>,
        /// The type wanted.
        to: DataType,
        /// Whether a value that does not fit becomes null instead of an error.
        lossy: bool,
    },
    /// Whether a value is one of a list.
    IsIn {
        /// The value.
        expr: Box<Expr>,
        /// The list.
        list: Vec<Literal>,
    },
    /// `then` where `condition` is true, elsewhere (also where it is null) `otherwise`.
    When {
        /// The condition.
        condition: Box<Expr>,
        /// The value where it holds.
        then: Box<Expr>,
        /// The value elsewhere.
        otherwise: Box<Expr>,
    },
    /// A function of one or more values.
    Call {
        /// The function.
        function: Function,
        /// Its arguments.
        args: Vec<Expr>,
    },
}

/// An operation on one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnaryOp {
    /// Boolean negation; null stays null.
    Not,
    /// Arithmetic negation.
    Negate,
    /// Whether the value is null. Never null itself.
    IsNull,
    /// Whether the value is not null. Never null itself.
    IsNotNull,
}

/// An operation on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`
    Multiply,
    /// `/`
    Divide,
    /// `%`
    Remainder,
    /// `=`
    Eq,
    /// `!=`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
    /// Both; false and null is false.
    And,
    /// Either; true or null is true.
    Or,
}

impl BinaryOp {
    /// Whether it is `+ - * / %`.
    pub fn is_arithmetic(self) -> bool {
        use BinaryOp::*;
        matches!(self, Add | Subtract | Multiply | Divide | Remainder)
    }

    /// Whether it is `= != < <= > >=`.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | NotEq | Lt | LtEq | Gt | GtEq)
    }

    /// The comparison that holds for swapped operands: `a < b` is `b > a`. Other operations stay what they are.
    pub fn swapped(self) -> Self {
        use BinaryOp::*;
        match self {
            Lt => Gt,
            LtEq => GtEq,
            Gt => Lt,
            GtEq => LtEq,
            other => other,
        }
    }
}

/// A function of one or more values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Function {
    /// The absolute value.
    Abs,
    /// To the nearest whole number, halves away from zero.
    Round,
    /// Down to a whole number.
    Floor,
    /// Up to a whole number.
    Ceil,
    /// The square root.
    Sqrt,
    /// Whether a float is not a number.
    IsNan,
    /// Lower case.
    Lower,
    /// Upper case.
    Upper,
    /// Without white space at both ends.
    Trim,
    /// Length in characters.
    Length,
    /// Some characters out of a string.
    Substring {
        /// Characters to leave out; counted from the end where negative.
        start: i64,
        /// Characters to take, all that follow if absent.
        length: Option<u64>,
    },
    /// Every occurrence of the second argument replaced by the third.
    Replace,
    /// Whether the second argument occurs in the first.
    Contains,
    /// Whether the first argument starts with the second.
    StartsWith,
    /// Whether the first argument ends with the second.
    EndsWith,
    /// Whether the first argument matches the pattern: `%` is any string, `_` one character, `\` escapes.
    Like,
    /// The same without regard to case.
    ILike,
    /// The first argument that is not null.
    Coalesce,
}

/// The column `name`.
pub fn col(name: impl Into<String>) -> Expr {
    Expr::Column(name.into())
}

/// The constant `value`: a number, a bool, a string, bytes, or an `Option` of these.
pub fn lit(value: impl Into<Literal>) -> Expr {
    Expr::Literal(value.into())
}

/// The first of these that is not null.
///
/// ```
/// use mobula::expr::{coalesce, col, lit};
/// assert_eq!(coalesce([col("a"), col("b"), lit(0)]).to_string(), "coalesce(a, b, 0)");
/// ```
pub fn coalesce<E: Into<Expr>>(exprs: impl IntoIterator<Item = E>) -> Expr {
    Expr::Call { function: Function::Coalesce, args: exprs.into_iter().map(Into::into).collect() }
}

impl Expr {
    /// The name of the column this makes: its alias, the name of its column, else the expression as printed.
    pub fn name(&self) -> String {
        match self {
            Self::Alias { name, .. } | Self::Column(name) => name.clone(),
            other => other.to_string(),
        }
    }

    /// The expression under its aliases.
    pub fn unaliased(&self) -> &Self {
        match self {
            Self::Alias { expr, .. } => expr.unaliased(),
            other => other,
        }
    }

    /// The columns it reads, in alphabetical order.
    pub fn columns(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        self.visit(|expr, _| {
            if let Self::Column(name) = expr {
                found.insert(name.clone());
            }
        });
        found
    }

    /// The length of the longest way from the root to a leaf; 1 for a column.
    pub fn depth(&self) -> usize {
        let mut deepest = 0;
        self.visit(|_, depth| deepest = deepest.max(depth));
        deepest
    }

    /// The expressions it is made of, from left to right.
    pub fn children(&self) -> Vec<&Self> {
        match self {
            Self::Column(_) | Self::Literal(_) => Vec::new(),
            Self::Alias { expr, .. } | Self::Unary { expr, .. } | Self::Cast { expr, .. } | Self::IsIn { expr, .. } => {
                vec![expr]
            }
            Self::Binary { left, right, .. } => vec![left, right],
            Self::When { condition, then, otherwise } => vec![condition, then, otherwise],
            Self::Call { args, .. } => args.iter().collect(),
        }
    }

    /// The same with each column replaced by what `replacement` gives for its name; `None` leaves it.
    /// Rules use it to move an expression below a projection.
    ///
    /// ```
    /// use mobula::expr::col;
    /// let moved = col("total").gt(10).substitute(&|name| (name == "total").then(|| col("fare") + col("tip")));
    /// assert_eq!(moved.to_string(), "fare + tip > 10");
    /// ```
    pub fn substitute(&self, replacement: &dyn Fn(&str) -> Option<Self>) -> Self {
        match self {
            Self::Column(name) => replacement(name).unwrap_or_else(|| self.clone()),
            other => other.map_children(|child| child.substitute(replacement)),
        }
    }

    /// The same node over changed children.
    pub fn map_children(&self, change: impl Fn(&Self) -> Self) -> Self {
        let boxed = |expr: &Self| Box::new(change(expr));
        match self {
            Self::Column(_) | Self::Literal(_) => self.clone(),
            Self::Alias { expr, name } => Self::Alias { expr: boxed(expr), name: name.clone() },
            Self::Unary { op, expr } => Self::Unary { op: *op, expr: boxed(expr) },
            Self::Binary { left, op, right } => Self::Binary { left: boxed(left), op: *op, right: boxed(right) },
            Self::Cast { expr, to, lossy } => Self::Cast { expr: boxed(expr), to: to.clone(), lossy: *lossy },
            Self::IsIn { expr, list } => Self::IsIn { expr: boxed(expr), list: list.clone() },
            Self::When { condition, then, otherwise } => {
                Self::When { condition: boxed(condition), then: boxed(then), otherwise: boxed(otherwise) }
            }
            Self::Call { function, args } => {
                Self::Call { function: *function, args: args.iter().map(&change).collect() }
            }
        }
    }

    /// Calls `see` for each node with its depth. Keeps its own stack, so that no tree is too deep for it.
    fn visit<'a>(&'a self, mut see: impl FnMut(&'a Self, usize)) {
        let mut left = vec![(self, 1)];
        while let Some((expr, depth)) = left.pop() {
            see(expr, depth);
            left.extend(expr.children().into_iter().map(|child| (child, depth + 1)));
        }
    }
}
