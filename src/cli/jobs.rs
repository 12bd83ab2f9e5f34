//! `mobula jobs`: what runs on a cluster, and what ran.

use crate::cluster::JobInfo;
use crate::progress::{count_text, time_text};
use clap::Args;
use std::time::Duration;

use super::columns::{columns, print};
use super::driver::OfCluster;
use super::failure::Failure;

/// Show the jobs of a cluster, the oldest first
///
/// `mobula attach JOB` shows the progress of one, `mobula cancel JOB` stops it.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(flatten)]
    cluster: OfCluster,
}

impl Jobs {
    /// Asks and prints.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let jobs = self.cluster.driver()?.jobs().map_err(crate::Error::from)?;
        print(&text(&jobs))
    }
}

fn text(jobs: &[JobInfo]) -> String {
    let rows: Vec<_> = jobs.iter().map(row).collect();
    columns(["job", "time", "rows read", "driver", "last step", "state"], &rows)
}

fn row(job: &JobInfo) -> [String; 6] {
    let rows = match job.rows {
        (rows, Some(total)) => format!("{} of {}", count_text(rows), count_text(total)),
        (rows, None) => count_text(rows),
    };
    let time = time_text(Duration::from_secs(job.seconds));
    [job.job.to_string(), time, rows, job.driver.clone(), job.name.clone(), job.state.clone()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_job_is_a_line() {
        let job = JobInfo {
            job: 7,
            name: "write_parquet out".to_owned(),
            driver: "local".to_owned(),
            state: "running".to_owned(),
            seconds: 65,
            rows: (1_200, Some(3_000)),
        };
        let expected = "job  time       rows read       driver  last step          state\n\
                        7    1 min 5 s  1,200 of 3,000  local   write_parquet out  running\n";
        assert_eq!(text(&[job]), expected);
    }
}
