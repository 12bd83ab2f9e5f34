//! `mobula jobs`: what runs on a cluster, and what ran.

use crate::Why;
use crate::cluster::JobInfo;
use crate::progress::{count_text, time_text};
use clap::Args;
use std::time::Duration;

use super::columns::{columns, print};
use super::driver::OfCluster;
use super::failure::Failure;

/// Show the jobs of a cluster, the oldest first
///
/// `mobula attach JOB` shows the progress of one, `mobula cancel JOB` stops it. `--why JOB` says what one waits for: each
/// root cause, and behind it those who wait because of it.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    /// Say who waits for whom in this job, instead of a list
    #[arg(long, value_name = "JOB")]
    why: Option<u64>,
    #[command(flatten)]
    cluster: OfCluster,
}

impl Jobs {
    /// Asks and prints.
    pub(crate) fn run(&self) -> Result<(), Failure> {
        let driver = self.cluster.driver()?;
        let jobs = driver.jobs().map_err(crate::Error::from)?;
        let Some(number) = self.why else { return print(&text(&jobs)) };
        let job = jobs.iter().find(|job| job.job == number).ok_or(Failure::NoJob(number))?;
        let why = driver.why(number).map_err(crate::Error::from)?.ok_or(Failure::NoJob(number))?;
        print(&why_text(job, &why))
    }
}

/// What a job waits for, or that it does not any more.
fn why_text(job: &JobInfo, why: &Why) -> String {
    match why.causes.is_empty() {
        false => format!("job {}, {}\n{why}\n", job.job, job.name),
        true if job.state == "running" => {
            let is = "none of its operators runs now: it starts again, or what it wrote is being made visible";
            format!("job {}: {is}\n", job.job)
        }
        true => format!("job {} waits for nothing, it has ended: {}\n", job.job, job.state),
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
    use crate::Cause;

    fn job(state: &str) -> JobInfo {
        JobInfo {
            job: 7,
            name: "write_parquet out".to_owned(),
            driver: "local".to_owned(),
            state: state.to_owned(),
            seconds: 65,
            rows: (1_200, Some(3_000)),
        }
    }

    #[test]
    fn why_a_job_waits_is_told_and_that_it_does_not() {
        let cause = Cause { root: vec!["a".to_owned()], waiting: vec![(1, "b".to_owned())], ..Cause::default() };
        let why = Why { causes: vec![cause], more: 0 };
        assert_eq!(why_text(&job("running"), &why), "job 7, write_parquet out\na\n  <- b\n");
        assert!(why_text(&job("running"), &Why::default()).contains("made visible"));
        assert!(why_text(&job("done"), &Why::default()).ends_with("it has ended: done\n"));
    }

    #[test]
    fn each_job_is_a_line() {
        let job = job("running");
        let expected = "job  time       rows read       driver  last step          state\n\
                        7    1 min 5 s  1,200 of 3,000  local   write_parquet out  running\n";
        assert_eq!(text(&[job]), expected);
    }
}
