//! Expressions: computations on the columns of a row, built with [`col`] and [`lit`], bound to a schema, evaluated
//! by Arrow's kernels.
//!
//! [`Expr`] is the tree and knows no schema. [`Expr::bind`] checks it against one and gives a [`BoundExpr`], which
//! evaluates batches; [`Filter`] and [`Project`] are the operators made of them. Nothing here reads files or runs
//! jobs. To read the code, start at `tree`, then `bind`, then `eval`.
//!
//! # Types
//!
//! - An integer with an integer gives the wider of the two; signed with unsigned gives a signed type that holds both,
//!   at most int64: in arithmetic a uint64 above its range is an error when it is met, and a choice between int64
//!   and uint64 is refused. Comparisons are exact for all integers.
//! - An integer with a float gives float64, which holds integers up to 2^53 exactly; float32 with float64, float64.
//! - Decimals keep all their digits; beside a float they become float64.
//! - A literal takes the type of what it meets where that loses nothing: `col("i8") + 5` is an int8 and
//!   `col("f32") * 0.5` a float32, with no cast of the column. A float literal never becomes an integer in
//!   arithmetic: `col("i32") / 2.0` is a float64. Elsewhere it has the type it has in Rust.
//! - Strings of all three kinds, dictionaries and their values, times of different units compare with one another.
//!   What is left does not: numbers with strings, say, are an error that names what to cast. Nothing is parsed or
//!   printed without a [`Expr::cast`].
//!
//! # Values
//!
//! - Null in, null out, except where said. Conditions know three values: false and null is false.
//! - An overflow is an error that names the part of the expression, and so is a cast that does not fit; use
//!   [`Expr::try_cast`] for null instead.
//! - An integer or decimal divided by zero is null: one bad row must not end a long job. Floats give infinity or NaN.
//! - Floats compare as in Rust: NaN equals nothing and is neither above nor below a number; 0.0 equals -0.0.
//! - Both values of a choice are computed for all rows, and a constant part is computed when the expression is bound:
//!   where it fails, so does binding, also for no rows. What depends on rows fails only where there is such a row.
//!
//! ```
//! use arrow::datatypes::{DataType, Field, Schema};
//! use mobula::expr::col;
//!
//! let schema = Schema::new(vec![Field::new("fare", DataType::Float32, false)]);
//! let total = (col("fare") * 2).bind(&schema)?;
//! assert_eq!(total.data_type(), &DataType::Float32);
//! let error = col("fair").gt(10).bind(&schema).unwrap_err();
//! assert_eq!(error.to_string(), "column \"fair\" not found (did you mean \"fare\"?); there are: fare");
//! # Ok::<(), mobula::expr::ExprError>(())
//! ```

mod bind;
mod build;
mod conjunct;
mod display;
mod error;
mod eval;
mod functions;
mod literal;
mod node;
mod operators;
mod project;
mod suggest;
#[cfg(test)]
mod tests;
mod tree;
mod types;
mod value;
mod when;
mod wire;

pub use bind::BoundExpr;
pub use conjunct::{conjoin, split_conjuncts};
pub use error::{ExprError, column_index};
pub use literal::Literal;
pub use operators::{Filter, Project};
pub use project::BoundProjection;
pub use tree::{BinaryOp, DEPTH_MAX, Expr, Function, UnaryOp, coalesce, col, lit};
pub use when::{Then, When, when};
