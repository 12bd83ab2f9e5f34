//! Isolation: an operator whose code may abort or never return runs in processes of its own, within limits.
//!
//! This is the vocabulary. The processes are those of `pool::isolated`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::OperatorSpec;
use crate::job::spec_to_wire;
use crate::units::Bytes;

/// The limits of an operator that runs in a process of its own, one for each worker. An abort, a segmentation fault or an
/// overflow of the stack then costs that process and fails the attempt at hand, not the node.
///
/// ```
/// use mobula_actors::operator::Isolation;
/// use mobula_actors::units::Bytes;
/// use std::time::Duration;
/// let limits = Isolation { memory: Some(Bytes::mib(2048)), time: Some(Duration::from_secs(60)) };
/// assert_eq!(limits.to_string(), "isolated, memory 2.0 GiB, 60s a batch");
/// assert_eq!(Isolation::default().to_string(), "isolated");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Isolation {
    /// Memory that the process may have, in bytes: all that it may write to, be it used or not (`RLIMIT_DATA` of Linux;
    /// other systems refuse it). Each worker leases as much, of the machine's memory that is not for blocks. Default: no
    /// limit of its own, and no lease. When it is out of memory, the rows at hand are tried again in batches of half the
    /// size. Too low makes batches small and processes start over; too high lets fewer workers run at once.
    pub memory: Option<Bytes>,
    /// How long a batch may take. Default: no limit. A process that takes longer is killed and the attempt fails. Too low
    /// fails rows that are only slow; too high lets a worker stand still for as long.
    pub time: Option<Duration>,
}

/// Least memory of such a process. A program takes some 10 MiB before it has seen a row, and 2 MiB for each thread.
pub const ISOLATED_MEMORY_MIN: Bytes = Bytes::mib(64);

/// Why an operator cannot run in a process of its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotIsolated {
    /// Another process cannot build it.
    #[error("operator {operator:?} holds {holds}, which cannot run in a process of its own; {instead}")]
    Holds {
        /// The operator, by the label of the step.
        operator: String,
        /// The call that made it: `local(..)`.
        call: String,
        /// What it holds: `a local(..) closure`.
        holds: String,
        /// What to do instead.
        instead: String,
    },
    /// No program fits the limit.
    #[error("a process of {0} for an isolated operator; the least is {ISOLATED_MEMORY_MIN}")]
    Memory(Bytes),
    /// No batch fits the limit.
    #[error("no time at all for a batch of an isolated operator; leave the limit out, or give it some seconds")]
    Time,
}

impl Isolation {
    /// # Errors
    /// If a limit is too low for anything to run.
    pub fn check(&self) -> Result<(), NotIsolated> {
        match self {
            Self { memory: Some(memory), .. } if *memory < ISOLATED_MEMORY_MIN => Err(NotIsolated::Memory(*memory)),
            Self { time: Some(Duration::ZERO), .. } => Err(NotIsolated::Time),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("isolated")?;
        if let Some(memory) = self.memory {
            write!(f, ", memory {memory}")?;
        }
        self.time.map_or(Ok(()), |time| write!(f, ", {time:?} a batch"))
    }
}

impl OperatorSpec {
    /// The same in processes of its own, one for each worker.
    ///
    /// # Errors
    /// If another process cannot build it (a `local(..)` closure, an actor), naming the call and what to do instead; if a
    /// limit is too low for anything to run.
    ///
    /// ```
    /// use mobula_actors::operator::{IntoOperator, Isolation, OperatorSpec, local};
    /// # use arrow::record_batch::RecordBatch;
    /// let parser = OperatorSpec::named("mine/parser@1", Vec::new()).isolated(Isolation::default())?;
    /// assert!(parser.isolation.is_some());
    /// let closure = local(|batch: RecordBatch| Ok::<_, std::io::Error>(batch)).into_operator();
    /// let error = closure.isolated(Isolation::default()).expect_err("no other process has it");
    /// assert!(error.to_string().contains("put #[mobula::remote] on a function instead"));
    /// # Ok::<(), mobula_actors::operator::NotIsolated>(())
    /// ```
    pub fn isolated(self, isolation: Isolation) -> Result<Self, NotIsolated> {
        isolation.check()?;
        match spec_to_wire(&self) {
            Ok(_) => Ok(Self { isolation: Some(isolation), ..self }),
            Err(refused) => {
                let (operator, call, holds, instead) = (refused.operator, refused.call, refused.holds, refused.instead);
                Err(NotIsolated::Holds { operator, call, holds, instead })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_that_nothing_can_run_in_are_refused() {
        let spec = || OperatorSpec::named("mine@1", Vec::new());
        let small = Isolation { memory: Some(Bytes::mib(63)), time: None };
        assert_eq!(spec().isolated(small).expect_err("too small"), NotIsolated::Memory(Bytes::mib(63)));
        let none = Isolation { memory: None, time: Some(Duration::ZERO) };
        assert_eq!(spec().isolated(none).expect_err("no time"), NotIsolated::Time);
    }
}
