//! stub

pub mod expr;
pub mod kernel;
