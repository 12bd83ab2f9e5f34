//! Mobula.
pub mod progress;
