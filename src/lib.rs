//! Mobula streams data that is larger than memory from files, through operators, into models, and back to files.

#[doc(hidden)]
pub use mobula_actors::__private;
pub use mobula_actors::{operator, remote};

pub mod predict;
