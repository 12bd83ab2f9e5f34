//! stub

pub mod expr;
pub mod io;
pub mod kernel;
