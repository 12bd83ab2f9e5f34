//! The error of this crate. It says which call went wrong, what was found, and what the choices are.
//!
//! Each area (expressions, files, models, jobs) has an error of its own; this one wraps them.

use std::error::Error as StdError;
use std::fmt;
use std::path::PathBuf;

use arrow::error::ArrowError;
use mobula_actors::actor::{ActorError, PoolError};
use mobula_actors::cluster::ClusterError;
use mobula_actors::job::JobError;
use mobula_actors::node::NodeError;
use mobula_actors::operator::BoxError;
use mobula_actors::task::TaskError;

use crate::expr::ExprError;
use crate::io::IoError;
use crate::predict::PredictError;

/// What every call of this crate returns.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a call of this crate failed.
///
/// `Debug`, which a `main` that returns it prints, is its text and its causes.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The result would have two columns of one name.
    #[error("{call}: the result would have column {column:?} twice; give one of them another name")]
    DuplicateColumn {
        /// The verb.
        call: String,
        /// The name.
        column: String,
    },
    /// Datasets that do not fit each other.
    #[error("union: {difference}; bring both to the same columns with select, rename and cast first")]
    SchemaMismatch {
        /// The first difference.
        difference: String,
    },
    /// A typed row that does not fit the columns.
    #[error("{call}: {reason}")]
    Row {
        /// The verb with the row type.
        call: String,
        /// Which field, and why.
        reason: String,
    },
    /// A call that makes no sense.
    #[error("{call}: {reason}")]
    Invalid {
        /// The verb.
        call: String,
        /// Why, and what to do instead.
        reason: String,
    },
    /// An expression that does not fit the columns.
    #[error("{call}: {cause}")]
    Expr {
        /// The verb with the expression.
        call: String,
        /// What is wrong with it.
        cause: ExprError,
    },
    /// Files or folders that cannot be read or written.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A model that cannot be loaded or does not fit the columns.
    #[error(transparent)]
    Predict(#[from] PredictError),
    /// A job that failed or was cancelled.
    #[error(transparent)]
    Job(#[from] JobError),
    /// A task that failed, or a stored value that cannot be had.
    #[error(transparent)]
    Task(#[from] TaskError),
    /// An actor that gave no answer, or could not be spawned.
    #[error(transparent)]
    Actor(#[from] ActorError),
    /// An item of an actor pool that has no result.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// A session that cannot be started.
    #[error(transparent)]
    Session(#[from] NodeError),
    /// A cluster that cannot be reached, or does not take this process.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// This machine has no identity of a driver for a cluster.
    #[error(
        "no identity for the cluster at {head} in {dir}: make a token on the head with \
             `mobula token --dir C --role driver`, and use it here with `mobula login --cluster {head} --token T`"
    )]
    NoIdentity {
        /// The address of the head.
        head: String,
        /// Where one was looked for.
        dir: PathBuf,
    },
    /// An identity, an authority or a token that cannot be made, read or kept.
    #[error("{what}")]
    Identity {
        /// What was to be done.
        what: String,
        /// Why it cannot be.
        #[source]
        cause: BoxError,
    },
    /// An Arrow kernel refused its input.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
    /// The function given to `for_each` failed.
    #[error("for_each: the function failed after {rows} rows")]
    ForEach {
        /// Rows it had taken before.
        rows: u64,
        /// What it said.
        #[source]
        cause: BoxError,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = match self {
            // The error's text holds the cause's already.
            Self::Job(
                JobError::Task { cause, .. }
                | JobError::Worker { cause, .. }
                | JobError::Source { cause, .. }
                | JobError::Ledger { cause, .. }
                | JobError::Finish { cause, .. },
            ) => cause.source(),
            _ => self.source(),
        };
        f.write_str(&with_causes(self.to_string(), cause))
    }
}

/// The text of an error, and below it its causes as far as they say something new.
pub(crate) fn with_causes(mut text: String, mut cause: Option<&(dyn StdError + 'static)>) -> String {
    while let Some(found) = cause {
        let line = found.to_string();
        if !text.contains(&line) {
            text += &format!("\n  because: {line}");
        }
        cause = found.source();
    }
    text
}

impl Error {
    /// Whether the run was cancelled (Ctrl-C, or [`RunWatch::cancel`](crate::dataset::RunWatch::cancel)).
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Job(JobError::Cancelled))
    }

    pub(crate) fn invalid(call: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { call: call.into(), reason: reason.into() }
    }

    pub(crate) fn identity(what: impl Into<String>, cause: impl Into<BoxError>) -> Self {
        Self::Identity { what: what.into(), cause: cause.into() }
    }

    pub(crate) fn no_column(call: impl Into<String>, column: &str, schema: &arrow::datatypes::Schema) -> Self {
        Self::Expr { call: call.into(), cause: ExprError::column_not_found(column, schema) }
    }

    pub(crate) fn duplicate(call: impl Into<String>, column: impl Into<String>) -> Self {
        Self::DuplicateColumn { call: call.into(), column: column.into() }
    }
}
