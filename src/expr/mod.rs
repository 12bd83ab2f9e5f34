//! Expressions: computations on the columns of a row, built with [`col`] and [`lit`].
//!
//! [`Expr`] is the tree, and knows no schema. Nothing here reads files or runs jobs.

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
