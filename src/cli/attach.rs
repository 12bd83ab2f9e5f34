//! `mobula attach`: the progress of a job that another command started.

use std::io;
use std::time::Duration;

use crate::cluster::{Driver, DriverWatch};
use crate::progress::{Painter, summary_table};
use clap::Args;

use super::Screen;
use super::columns::print;
use super::driver::OfCluster;
use super::failure::Failure;

/// Show the progress of a job on a cluster until it ends
///
/// Ctrl-C ends this command and leaves the job alone. Exit code 1 if the job failed or was cancelled.
#[derive(Debug, Args)]
pub(crate) struct Attach {
    /// Number of the job, as `mobula jobs` shows it
    #[arg(value_name = "JOB")]
    job: u64,
    #[command(flatten)]
    cluster: OfCluster,
}

impl Attach {
    /// Shows it until it ends.
    pub(crate) fn run(&self, screen: &Screen) -> Result<(), Failure> {
        let driver = self.cluster.driver()?;
        if !driver.jobs().map_err(crate::Error::from)?.iter().any(|job| job.job == self.job) {
            return Err(Failure::NoJob(self.job));
        }
        // Kept, so that its pictures stay up to date.
        let job = driver.attach(self.job).map_err(crate::Error::from)?;
        let painter = Painter::new(screen.style, screen.bars.clone(), io::stderr());
        let state = self.until_ended(&driver, &job.watch(), painter)?;
        if !screen.quiet {
            print(&summary_table(&job.summary()))?;
        }
        match state.as_str() {
            "done" => Ok(()),
            why => Err(Failure::Job { job: self.job, why: why.to_owned() }),
        }
    }

    fn until_ended(
        &self,
        driver: &Driver,
        watch: &DriverWatch,
        mut painter: Painter<io::Stderr>,
    ) -> Result<String, Failure> {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let clock = clock.map_err(Failure::System)?;
        loop {
            let jobs = driver.jobs().map_err(crate::Error::from)?;
            let Some(job) = jobs.into_iter().find(|job| job.job == self.job) else {
                return Err(Failure::Job { job: self.job, why: "the head has forgotten it".to_owned() });
            };
            if job.state != "running" {
                // With what was logged last. The job is listed, so it is known.
                let _ = watch.look();
                painter.clear();
                return Ok(job.state);
            }
            painter.paint(&watch.summary());
            clock.block_on(async { tokio::time::sleep(LOOK).await });
        }
    }
}

/// As often as the picture of a job on a cluster changes.
const LOOK: Duration = Duration::from_millis(200);
