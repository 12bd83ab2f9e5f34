//! The lazy API: what to compute, written as verbs on a [`Dataset`].
//!
//! Each file holds a family of verbs. A verb that shapes rows adds a node to the logical plan and runs nothing; a verb
//! that consumes rows optimizes the plan, lowers it and runs it as a job (see `run`). Start at [`Dataset`].

mod batches;
mod collect;
mod columns;
mod combine;
#[cfg(test)]
mod failure_tests;
mod failures;
mod iterate;
mod predict;
mod read;
#[cfg(test)]
mod replay_tests;
mod rows;
mod run;
mod runs;
#[cfg(test)]
#[cfg(feature = "s3")]
mod store_tests;
mod typed;
#[cfg(test)]
mod wire_tests;
mod write;

pub use batches::MapOptions;
pub use columns::IntoColumn;
pub use iterate::BatchIter;
pub use rows::{IntoPredicate, Predicate};
pub(crate) use run::RunHandle;
pub use run::RunWatch;
pub(crate) use runs::Runs;
pub use write::{RunningWrite, WriteSummary};

use arrow::datatypes::SchemaRef;
use mobula_actors::job::{FailurePolicy, JobSummary};

use crate::plan::logical::{Kind, Logical, PlanRef};
use crate::plan::{self, columns::Column};
use crate::session::{LastRun, Session};

/// A lazy description of a collection of rows. Cheap to clone; two clones describe the same rows.
///
/// Verbs that shape rows return a new dataset at once, or the error that can be seen without running anything (a
/// missing column, types that do not go together). Verbs that consume rows (`collect`, `count`, `write_parquet`, ..)
/// run the plan. Rows keep the order of the input, for any number of workers, unless
/// [`unordered`](Dataset::unordered) lifts that.
///
/// ```
/// use mobula::prelude::*;
/// let session = Session::local()?;
/// let squares = session.range(0..4)?.with_column("square", col("id") * col("id"))?.filter(col("square").gt(1))?;
/// assert_eq!(squares.count()?, 2);
/// # Ok::<(), mobula::Error>(())
/// ```
#[derive(Clone)]
pub struct Dataset {
    session: Session,
    plan: PlanRef,
    last: LastRun,
    /// What its runs do about rows that user code fails on.
    failures: FailurePolicy,
}

impl Dataset {
    pub(crate) fn new(session: Session, plan: PlanRef) -> Self {
        Self { session, plan, last: LastRun::default(), failures: FailurePolicy::default() }
    }

    /// The plan as asked.
    #[cfg(test)]
    pub(crate) fn plan(&self) -> &PlanRef {
        &self.plan
    }

    /// A dataset of a plan on top of this one's.
    fn over(&self, kind: Kind, schema: Option<SchemaRef>) -> Self {
        Self { failures: self.failures, ..Self::new(self.session.clone(), Logical::new(kind, schema)) }
    }

    /// Exactly these columns, of which the schema was checked.
    fn projected(&self, columns: Vec<Column>, schema: Option<SchemaRef>) -> Self {
        self.over(Kind::Project { input: self.plan.clone(), columns }, schema)
    }

    /// The plan as asked, as optimized, and as it will run, as text.
    ///
    /// ```
    /// use mobula::prelude::*;
    /// let text = Session::local()?.range(0..10)?.limit(3)?.explain();
    /// assert!(text.contains("limit 3"));
    /// # Ok::<(), mobula::Error>(())
    /// ```
    pub fn explain(&self) -> String {
        plan::explain(&self.plan, self.session.site())
            .unwrap_or_else(|error| format!("logical plan\n{}\nno physical plan: {error}\n", self.plan))
    }

    /// What the last run of this dataset (or a clone of it) did, operator by operator; `None` before the first.
    pub fn stats(&self) -> Option<JobSummary> {
        self.last.get()
    }

    /// The session it runs in.
    pub fn session(&self) -> &Session {
        &self.session
    }
}

impl std::fmt::Debug for Dataset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Dataset\n{}", self.plan)
    }
}
