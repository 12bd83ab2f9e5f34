//! Expressions: computations on the columns of a row, built with [`col`] and [`lit`].
//!
//! [`Expr`] is the tree, and knows no schema. Nothing here reads files or runs jobs.

mod build;
mod conjunct;
mod display;
mod error;
mod functions;
mod literal;
mod suggest;
mod tree;
mod when;
mod wire;

pub use conjunct::{conjoin, split_conjuncts};
pub use error::{ExprError, column_index};
pub use literal::Literal;
pub use tree::{BinaryOp, DEPTH_MAX, Expr, Function, UnaryOp, coalesce, col, lit};
pub use when::{Then, When, when};
