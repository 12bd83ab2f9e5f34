//! Mobula streams data that is larger than memory from files, through operators, into models, and back to files.
//!
//! A [`Session`] is a running engine. It opens sources as a [`Dataset`](dataset::Dataset), a lazy description of rows;
//! verbs shape it, and nothing runs before a verb consumes it. Then the plan is optimized, lowered to operators, and run
//! by supervised actors on all cores, within a memory budget.
//!
//! ```
//! use mobula::prelude::*;
//!
//! let session = Session::local()?;
//! let squares = session
//!     .range(0..1000)?
//!     .with_column("square", col("id") * col("id"))?
//!     .filter((col("square") % 2).eq(0))?;
//! assert_eq!(squares.count()?, 500);
//! # Ok::<(), mobula::Error>(())
//! ```
//!
//! Where to read on: [`dataset`] for the verbs, [`expr`] for expressions, [`io`] for files, [`predict`] for models,
//! [`cluster`] for more machines than one, [`main`](fn@main) for a program that is its own head and nodes.

mod config;
mod error;
mod isolated;
mod plan;
mod session;
mod tasks;

#[doc(hidden)]
pub mod cli;
pub mod cluster;
pub mod dataset;
pub mod expr;
pub mod io;
pub mod kernel;
pub mod predict;
pub mod prelude;
pub mod progress;

/// The crate of command lines that flags of [`main_with`] are derived by.
pub use clap;
#[doc(inline)]
pub use cli::{main, main_with};
pub use config::SessionBuilder;
pub use dataset::Dataset;
pub use error::{Error, Result};
pub use isolated::isolated_worker;
pub use session::Session;

#[doc(hidden)]
pub use mobula_actors::__private;
/// The actor crate that custom operators as actors, and actors of one's own, are written with.
pub use mobula_actors::actix;
/// `#[mobula::actor]` makes an actix actor one that [`Session::spawn`] starts on any node; the module is what one holds of
/// it.
pub use mobula_actors::actor;
pub use mobula_actors::job::{
    Cause, DeadLetter, DeviceStats, ErrorBudget, JobError, JobSummary, OperatorState, OperatorStats, Why,
};
/// `#[mobula::operator]` makes an [`Operator`](prelude::Operator) travel by name; the module is its vocabulary.
pub use mobula_actors::operator;
/// `#[mobula::remote]` makes a function one that runs anywhere: as a task, and from batch to batch as an operator too.
pub use mobula_actors::remote;
/// `#[mobula::source]` makes a [`Source`](operator::Source) travel by name.
pub use mobula_actors::source;
pub use mobula_actors::task;

/// The README's examples compile with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
