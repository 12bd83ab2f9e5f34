//! The outside world in memory, for simulations and tests: time, chance and a disk that follow from a seed.
//!
//! The network of a simulation is `mobula_transport::SimNetwork`. Nothing of the engine uses this module by itself; a
//! test hands it in through [`crate::runtime::Env`]. Start at [`SimDisk`].

mod disk;
mod env;

pub use disk::{DiskFaults, SimDisk};
pub use env::SimEnv;
