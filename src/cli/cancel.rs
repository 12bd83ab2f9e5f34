//! `mobula cancel`: stops a job of a cluster.

use crate::cluster::CancelOutcome;
use clap::Args;

use super::columns::print;
use super::driver::OfCluster;
use super::failure::Failure;

/// Stop a job of a cluster, whoever started it
///
/// It comes back when the job has ended: what the job wrote is gone then. A job that makes its files visible already does
/// so to the end. Exit code 1 if there was nothing to cancel.
#[derive(Debug, Args)]
pub(crate) struct Cancel {
    /// Number of the job, as `mobula jobs` shows it
    #[arg(value_name = "JOB")]
    job: u64,
    #[command(flatten)]
    cluster: OfCluster,
}

impl Cancel {
    /// Stops it and waits for its end.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let job = self.job;
        match self.cluster.driver()?.cancel(job).map_err(crate::Error::from)? {
            Some(CancelOutcome::Cancelled) => print(&format!("job {job} cancelled\n")),
            Some(CancelOutcome::Ended(state)) => Err(Failure::Ended { job, state }),
            None => Err(Failure::NoJob(job)),
        }
    }
}
