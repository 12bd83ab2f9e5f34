//! Checks an output on a store against its ledger, without running anything.

use std::collections::{BTreeMap, BTreeSet};

use xxhash_rust::xxh3::Xxh3;

use super::client::{Client, connect};
use super::jobs::{self, Job};
use super::keys::{Place, job_of};
use super::progress::{Progress, StoredPart};
use crate::io::error::{IoError, IoResult};
use crate::io::output::plan::JobPlan;
use crate::io::output::verify::{Verified, count};

/// Checks all jobs that wrote to the place, and that nothing is visible which none of them wrote. Jobs that were given up
/// are left out.
pub(crate) fn verify(place: &Place) -> IoResult<(Vec<Verified>, Vec<String>)> {
    let client = connect(place)?;
    let all = Job::all(&client)?;
    if all.is_empty() {
        return Err(IoError::NoLedger { dir: place.to_string().into() });
    }
    let visible: BTreeMap<String, u64> = jobs::visible(&client)?.into_iter().collect();
    let pending = client.uploads(&place.key("part-"))?;
    let check = Check { client: &client, visible: &visible, pending: &pending };
    let (mut known, mut found) = (BTreeSet::new(), Vec::new());
    for job in all.iter().filter(|job| !job.given_up) {
        let mut verified = Verified { job: job.number, ..Verified::default() };
        let checked = check.job(job, &mut verified, &mut known);
        checked.unwrap_or_else(|error| verified.wrong.push(error.to_string()));
        found.push(verified);
    }
    let strangers = visible.into_keys().filter(|name| !known.contains(name)).collect();
    Ok((found, strangers))
}

struct Check<'a> {
    client: &'a Client,
    visible: &'a BTreeMap<String, u64>,
    /// Uploads that are not completed.
    pending: &'a [(String, String)],
}

impl Check<'_> {
    fn job(&self, job: &Job, verified: &mut Verified, known: &mut BTreeSet<String>) -> IoResult<()> {
        // Whatever becomes of its plan and ledger.
        known.extend(job.manifest.iter().flat_map(|manifest| &manifest.files).map(|file| file.name.clone()));
        verified.finished = job.manifest.is_some();
        let Some(plan) = &job.plan else {
            verified.wrong.push("its plan cannot be read".to_owned());
            return Ok(());
        };
        let progress = job.progress(self.client)?;
        known.extend(progress.parts.iter().map(|part| part.name.clone()));
        tell(plan, &progress, verified);
        if let Some(manifest) = &job.manifest {
            let listed: BTreeSet<&str> = manifest.files.iter().map(|file| file.name.as_str()).collect();
            let recorded: BTreeSet<&str> = progress.parts.iter().map(|part| part.name.as_str()).collect();
            if listed != recorded {
                verified.wrong.push("its manifest and its ledger name different parts".to_owned());
            }
            if plan.reads_all && !progress.coverage.is_complete(&plan.splits()) {
                let wrong = "it has finished, and rows of its input are neither in the output nor given up";
                verified.wrong.push(wrong.to_owned());
            }
            verified.wrong.extend(self.left_over(job.number));
        }
        for part in &progress.parts {
            verified.wrong.extend(self.part(part, job.manifest.is_some())?);
        }
        Ok(())
    }

    /// Uploads that a job which has finished does not need.
    fn left_over(&self, job: u64) -> Option<String> {
        let is_of = |key: &str| self.client.place().name_of(key).and_then(job_of) == Some(job);
        let count = self.pending.iter().filter(|(key, _)| is_of(key)).count();
        (count > 0)
            .then(|| format!("{count} uploads of it are not completed, which nobody needs: the next run removes them"))
    }

    /// What is wrong with a part, if anything.
    fn part(&self, part: &StoredPart, finished: bool) -> IoResult<Option<String>> {
        let uri = self.client.place().uri(&self.client.place().key(&part.name));
        match self.visible.get(&part.name) {
            Some(bytes) if *bytes != part.bytes => Ok(Some(format!("{uri} has {bytes} bytes, not {}", part.bytes))),
            Some(_) if self.sum(part)? != part.checksum => Ok(Some(format!("{uri} is damaged: its checksum differs"))),
            Some(_) => Ok(None),
            None if finished => Ok(Some(format!("{uri} is not there"))),
            // Its bytes cannot be read before it is completed, and some stores do not list it.
            None => Ok(None),
        }
    }

    fn sum(&self, part: &StoredPart) -> IoResult<u64> {
        let (key, mut hash) = (self.client.place().key(&part.name), Xxh3::new());
        for from in (0..part.bytes).step_by(READ_BYTES as usize) {
            hash.update(&self.client.range(&key, from..(from + READ_BYTES).min(part.bytes))?);
        }
        Ok(hash.digest())
    }
}

fn tell(plan: &JobPlan, progress: &Progress, verified: &mut Verified) {
    verified.parts = progress.parts.len();
    verified.rows = progress.parts.iter().map(|part| part.rows).sum();
    verified.given_up = progress.letters.count() as usize;
    verified.left_out = progress.skips.left_out();
    count(plan, &progress.coverage, verified);
    if !progress.coverage.is_within(&plan.splits()) {
        verified.wrong.push("its ledger names splits that its plan does not have".to_owned());
    }
}

/// Read at once: few requests, and little memory.
const READ_BYTES: u64 = 8 << 20;
