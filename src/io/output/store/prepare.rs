//! What a command that writes to a store finds there, and what it does about it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use mobula_actors::ledger::RecorderSpec;
use mobula_actors::operator::OperatorSpec;
use mobula_actors::runtime::{Env, SystemEnv};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::client::{Client, connect};
use super::jobs::{self, Job};
use super::keys::{Place, job_of};
use super::ledger::StoreLedger;
use super::progress::{Progress, given_up, is_stopped};
use super::{probe, recorder};
use crate::io::error::{IoError, IoResult};
use crate::io::output::decide::{Decision, Earlier, State, decide};
use crate::io::output::{Format, JobPlan, WriteMode, WriteOptions, Written, explain};
use crate::io::sink::{Hidden, WriteParams};

/// An output on a store while a job writes to it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct StoreOutput {
    pub(super) place: Place,
    pub(super) job: u64,
    format: Format,
    pub(super) params: WriteParams,
}

/// What a write finds.
#[derive(Debug)]
pub(crate) enum StorePrepared {
    /// A job that begins or goes on.
    Job(Box<StoreOutput>),
    /// The same job has finished.
    Done(Written),
}

/// What splits of the last job that wrote to the place were cut to: one that goes on must cut them alike.
pub(crate) fn earlier_block_bytes(place: &Place) -> IoResult<Option<Bytes>> {
    let jobs = Job::all(&*connect(place)?)?;
    let last = jobs.iter().rev().filter(|job| !job.given_up).find_map(|job| job.plan.as_ref());
    Ok(last.map(|plan| plan.block_bytes))
}

impl StoreOutput {
    /// Checks the store and what is in the place, and finds or makes the job.
    ///
    /// # Errors
    /// If the store cannot hold an output, the place holds what the mode does not allow or another job that did not finish,
    /// or the format cannot hold the schema.
    pub(crate) fn prepare(
        place: &Place,
        format: Format,
        schema: &SchemaRef,
        options: &WriteOptions,
        plan: &JobPlan,
    ) -> IoResult<StorePrepared> {
        format.check_schema(schema)?;
        if options.mode == WriteMode::Overwrite {
            return Err(IoError::StoreOverwrite { place: place.to_string() });
        }
        let client = connect(place)?;
        probe::check(&client)?;
        let job = match find(&client, options, plan)? {
            Found::Job(job) => job,
            Found::Done(written) => return Ok(StorePrepared::Done(written)),
        };
        let hidden = Hidden::Store { place: place.clone(), job };
        let params = WriteParams::hidden_in(hidden, format, schema, options);
        Ok(StorePrepared::Job(Box::new(Self { place: place.clone(), job, format, params })))
    }

    /// The operator that writes the parts.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn operator(&self) -> IoResult<OperatorSpec> {
        self.params.operator(self.format, self.place.to_string().as_ref())
    }

    /// Who keeps the ledger and makes the parts visible, where the job lives.
    ///
    /// # Errors
    /// If the schema is too large to send.
    pub(crate) fn recorder(&self) -> IoResult<RecorderSpec> {
        recorder::spec(self)
    }
}

enum Found {
    Job(u64),
    Done(Written),
}

/// The job that does what the plan says.
fn find(client: &Arc<Client>, options: &WriteOptions, plan: &JobPlan) -> IoResult<Found> {
    let place = client.place().to_string();
    let all = Job::all(client)?;
    jobs::abort_uploads_of_ended(client, &all);
    let jobs: Vec<Job> = all.into_iter().filter(|job| !job.given_up).collect();
    let seen = jobs::visible(client)?;
    let looked = jobs.iter().map(|job| look(client, job, plan, options, &seen)).collect::<IoResult<Vec<_>>>()?;
    let (earlier, mut judged): (Vec<_>, Vec<_>) = looked.into_iter().unzip();
    let at = |at: usize| jobs.get(at).ok_or_else(|| IoError::Internal("a job that is not listed".into()));
    let remove = match decide(plan, options.restart, &earlier) {
        Decision::Begin { remove } => remove,
        Decision::GoOn(job) => return Ok(Found::Job(at(job)?.number)),
        Decision::Done(job) => {
            let manifest = at(job)?.manifest.as_ref().ok_or_else(|| IoError::Internal("no manifest".into()))?;
            return Ok(Found::Done(jobs::written(client.place(), at(job)?.number, manifest)));
        }
        Decision::Running(_) => return Err(IoError::OutputRuns { dir: place.into() }),
        Decision::Differs(_, difference) => return Err(IoError::OutputUnfinished { dir: place.into(), difference }),
    };
    // Nothing is given up for a command that is then refused, or beside a job that cannot be given up.
    let empty = |seen: &[(String, u64)]| match seen.first() {
        Some((file, _)) if options.mode == WriteMode::Error => {
            let error = IoError::OutputNotEmpty { dir: place.clone().into(), file: file.clone() };
            Err(explain(error, plan, &earlier))
        }
        _ => Ok(()),
    };
    remove.iter().try_for_each(|job| refuse_visible(client, at(*job)?, &seen))?;
    empty(&seen)?;
    for job in remove {
        let judged = judged.get_mut(job).and_then(Option::take);
        give_up(client, at(job)?, judged.ok_or_else(|| IoError::Internal("a job that was not looked at".into()))?)?;
    }
    // Others may have added something meanwhile.
    empty(&jobs::visible(client)?)?;
    Job::make(client, plan).map(Found::Job)
}

/// What is known of a job that has not finished.
struct Judged {
    /// It goes on where this was read, and so only if nobody has written there meanwhile.
    ledger: StoreLedger,
    /// `None` if the ledger is damaged.
    progress: Option<Progress>,
}

/// How far an earlier job came.
fn look(
    client: &Arc<Client>,
    job: &Job,
    now: &JobPlan,
    options: &WriteOptions,
    seen: &[(String, u64)],
) -> IoResult<(Earlier, Option<Judged>)> {
    let plan = job.plan.clone();
    if let Some(manifest) = &job.manifest {
        let is_there = |name: &str, bytes| seen.iter().any(|(seen, size)| seen == name && *size == bytes);
        let whole = manifest.files.iter().all(|file| is_there(&file.name, file.bytes));
        return Ok((Earlier { plan, state: State::Finished { whole } }, None));
    }
    let (ledger, records) = StoreLedger::open(client, job.number, SystemEnv::new().random())?;
    let (progress, stopped, begun) = match records {
        Ok(records) => {
            let (stopped, begun) = (is_stopped(&records), !records.is_empty());
            (Some(Progress::of(records)?), stopped, begun)
        }
        // Whatever it says is given up.
        Err(_) if options.restart => (None, false, true),
        Err(error) => return Err(error.into()),
    };
    let same = plan.as_ref().is_some_and(|plan| plan.difference(now).is_none());
    let work = progress.as_ref().is_none_or(Progress::has_work);
    // Nobody has begun with it: it loses nothing. One that appends is no hindrance, though, and left alone.
    let is_alone = !begun && !plan.as_ref().is_some_and(|plan| plan.appends_beside(now));
    let state = match stopped || is_alone {
        // The same job is gone on with, also where it has finished nothing.
        true => State::Stopped { work: work || same },
        false => State::Open { work },
    };
    Ok((Earlier { plan, state }, Some(Judged { ledger, progress })))
}

/// Gives a job up, as it was judged: if somebody has written to its ledger since, it runs. First its ledger is closed, then
/// its uploads go; after that whoever still runs it can make nothing visible any more.
fn give_up(client: &Arc<Client>, job: &Job, Judged { mut ledger, progress }: Judged) -> IoResult<()> {
    if progress.as_ref().is_none_or(Progress::has_work) {
        tracing::warn!(place = %client.place(), "what an earlier run had finished is given up");
    }
    ledger.append(&[given_up()?]).map_err(|error| match error {
        IoError::StoreFenced { place } => IoError::OutputRuns { dir: place.into() },
        error => error,
    })?;
    for part in progress.iter().flat_map(|progress| &progress.parts) {
        client.abort(&client.place().key(&part.name), &part.upload.id)?;
    }
    jobs::abort_uploads(client, job.number, jobs::ALL_RUNS, &Default::default());
    // It may have been about to make them visible.
    refuse_visible(client, job, &jobs::visible(client)?)
}

/// A job of which readers see something already is not given up: they would keep it beside what comes. Told by names, which
/// have the number of their job, so also where the ledger is damaged.
fn refuse_visible(client: &Client, job: &Job, seen: &[(String, u64)]) -> IoResult<()> {
    match seen.iter().find(|(name, _)| job_of(name) == Some(job.number)) {
        Some((file, _)) => Err(IoError::StoreVisible { place: client.place().to_string(), file: file.clone() }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{FAKE, Faults};
    use super::*;
    use mobula_actors::ledger::Record;
    use std::path::Path;

    #[test]
    fn a_job_that_has_committed_since_it_was_judged_is_not_given_up() {
        FAKE.faults("judged", Faults::default());
        let place = Place::parse(Path::new("s3://judged/out")).unwrap().unwrap();
        let client = connect(&place).unwrap();
        let options = WriteOptions::default().mode(WriteMode::Append).restart(true);
        let plan = JobPlan::nothing(Format::Parquet, &options);
        let number = Job::make(&client, &plan).unwrap();
        let (mut runs, _) = StoreLedger::open(&client, number, 1).unwrap();
        runs.append(&[Record::Begun { epoch: 0 }]).unwrap();
        let job = Job::all(&client).unwrap().pop().unwrap();
        let (earlier, judged) = look(&client, &job, &plan, &options, &[]).unwrap();
        assert_eq!(earlier.state, State::Open { work: false });
        runs.append(&[Record::Committed { segments: Vec::new(), parts: Vec::new() }]).unwrap();
        let error = give_up(&client, &job, judged.unwrap()).unwrap_err();
        assert!(matches!(error, IoError::OutputRuns { .. }), "{error}");
        runs.append(&[Record::Begun { epoch: 1 }]).unwrap();
        assert!(!Job::all(&client).unwrap().pop().unwrap().given_up);
    }
}
