//! The jobs that wrote to a place, and what they left.

use std::collections::BTreeSet;
use std::ops::Range;

use bytes::Bytes;

use super::client::{Client, Put};
use super::keys::{self, Place};
use super::ledger;
use super::progress::{Progress, is_given_up};
use crate::io::error::{IoError, IoResult};
use crate::io::output::folder::HIDDEN;
use crate::io::output::manifest::Manifest;
use crate::io::output::plan::{self, JobPlan};
use crate::io::output::{Format, Written};

/// Jobs that begin to append at the same moment.
const AGAIN_MAX: u64 = 1000;

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) number: u64,
    pub(super) plan: Option<JobPlan>,
    /// What was made visible; `None` if it has not finished.
    pub(super) manifest: Option<Manifest>,
    /// Nobody goes on with it.
    pub(super) given_up: bool,
}

impl Job {
    /// All jobs, by number.
    pub(super) fn all(client: &Client) -> IoResult<Vec<Self>> {
        numbers(client)?.into_iter().map(|number| Self::read(client, number)).collect()
    }

    fn read(client: &Client, number: u64) -> IoResult<Self> {
        let place = client.place();
        let plan = client.get(&place.job_key(number, "plan"))?.and_then(|bytes| plan::from_bytes(&bytes));
        let manifest = client.get(&place.job_key(number, MANIFEST))?.and_then(|bytes| Manifest::parse(&bytes));
        // One whose end is damaged is not given up as far as anybody knows. Who needs what it says is told.
        let is_given_up =
            || IoResult::Ok(ledger::read_last(client, number)?.is_ok_and(|records| is_given_up(&records)));
        let given_up = manifest.is_none() && is_given_up()?;
        Ok(Self { number, plan, manifest, given_up })
    }

    /// The number of a new job, whose plan is durable. Numbers are never used again, so that a process that was left behind
    /// cannot write to the ledger of another job.
    pub(super) fn make(client: &Client, plan: &JobPlan) -> IoResult<u64> {
        let next = numbers(client)?.last().map_or(0, |last| last + 1);
        let bytes = Bytes::from(plan::to_bytes(plan)?);
        for number in next..next + AGAIN_MAX {
            // Another process may put the same bytes at the same moment. Both then have the same job, and the ledger keeps
            // one of them out.
            if client.put_new(&client.place().job_key(number, "plan"), &bytes)? == Put::Done {
                return Ok(number);
            }
        }
        Err(IoError::Internal(format!("no number for a job in {}", client.place())))
    }

    /// Whether nobody needs uploads of it any more.
    pub(super) fn is_over(&self) -> bool {
        self.given_up || self.manifest.is_some()
    }

    /// How far it came.
    pub(super) fn progress(&self, client: &Client) -> IoResult<Progress> {
        Progress::of(ledger::read(client, self.number)?)
    }
}

/// Whoever wrote it.
pub(super) const ALL_RUNS: Range<u32> = 0..u32::MAX;
/// The name of the manifest.
pub(super) const MANIFEST: &str = "manifest.json";

/// The numbers of all jobs, sorted.
pub(super) fn numbers(client: &Client) -> IoResult<Vec<u64>> {
    let (_, folders) = client.list(&client.place().key(HIDDEN))?;
    let number = |folder: &String| folder.rsplit('/').next()?.parse().ok();
    let mut numbers: Vec<u64> = folders.iter().filter_map(number).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Names of what readers see in the place, sorted.
pub(super) fn visible(client: &Client) -> IoResult<Vec<(String, u64)>> {
    let (objects, deeper) = client.list(&client.place().prefix)?;
    let all = objects.into_iter().chain(deeper.into_iter().map(|folder| (folder, 0)));
    let name = |(key, size): (String, u64)| Some((client.place().name_of(&key)?.to_owned(), size));
    let mut names: Vec<_> = all.filter_map(name).collect();
    names.retain(|(name, _)| !crate::io::paths::is_hidden_name(name));
    names.sort();
    Ok(names)
}

/// Gives up the uploads of these runs of a job, except for some. What cannot be given up stays until the job goes on or
/// ends; readers do not see it.
pub(super) fn abort_uploads(client: &Client, job: u64, runs: Range<u32>, keep: &BTreeSet<&str>) {
    let is_of =
        |name: &str| keys::job_of(name) == Some(job) && keys::run_of(name).is_some_and(|run| runs.contains(&run));
    let goes = |name: &str, id: &str| is_of(name) && !keep.contains(id);
    abort(client, &client.place().key(&keys::parts_of(job)), |key, id| {
        client.place().name_of(key).is_some_and(|name| goes(name, id))
    });
}

/// Gives up all uploads to a key.
pub(super) fn abort_uploads_to(client: &Client, key: &str) {
    abort(client, key, |found, _| found == key);
}

/// Gives up the uploads of jobs that are over: a process may have begun them after it was left behind.
pub(super) fn abort_uploads_of_ended(client: &Client, jobs: &[Job]) {
    let over: BTreeSet<u64> = jobs.iter().filter(|job| job.is_over()).map(|job| job.number).collect();
    if !over.is_empty() {
        let job_of = |key: &str| client.place().name_of(key).and_then(keys::job_of);
        abort(client, &client.place().key("part-"), |key, _| job_of(key).is_some_and(|job| over.contains(&job)));
    }
}

fn abort(client: &Client, prefix: &str, goes: impl Fn(&str, &str) -> bool) {
    let uploads = client.uploads(prefix).unwrap_or_else(|error| {
        tracing::warn!(%error, "uploads that were not completed may stay; a lifecycle rule of the bucket removes them");
        Vec::new()
    });
    for (key, id) in uploads {
        if goes(&key, &id)
            && let Err(error) = client.abort(&key, &id)
        {
            tracing::warn!(%error, "an upload that was not completed stays");
        }
    }
}

/// What was written, as callers see it.
pub(super) fn written(place: &Place, job: u64, manifest: &Manifest) -> Written {
    let uri = |key: String| place.uri(&key).into();
    Written {
        files: manifest.files.iter().map(|file| uri(place.key(&file.name))).collect(),
        rows: mobula_actors::units::Rows(manifest.rows),
        bytes: mobula_actors::units::Bytes(manifest.bytes),
        given_up: manifest.given_up,
        left_out: manifest.left_out.clone(),
        dead_letters: (manifest.given_up > 0).then(|| uri(place.job_key(job, "dead-letters"))),
    }
}

/// The key of the table of dead letters.
pub(super) fn letters_key(place: &Place, job: u64) -> String {
    place.job_key(job, &format!("dead-letters/part-00000.{}", Format::Parquet.extension()))
}
