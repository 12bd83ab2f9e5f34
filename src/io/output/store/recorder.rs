//! The recorder of a job that writes to a store: its ledger, and completing the uploads of what is in it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use mobula_actors::function::{decode, encode};
use mobula_actors::job::{DeadLetter, Skip, Topology};
use mobula_actors::ledger::{Record, Recorder, RecorderEntry, RecorderSpec, Results};
use mobula_actors::operator::{BoxError, Left, TaskContext};
use mobula_actors::runtime::{Env, SystemEnv};

use super::client::{Client, Completed, Put, connect};
use super::jobs::{self, MANIFEST};
use super::ledger::StoreLedger;
use super::prepare::StoreOutput;
use super::progress::{Progress, StoredPart, is_given_up, stopped};
use crate::io::error::{IoError, IoResult};
use crate::io::output::progress::Reads;
use crate::io::output::recorder::RUNS_A_PROCESS;
use crate::io::output::{JobPlan, Publish, WriteMode, plan};
use crate::io::sink::{self, Ground};

/// The recorder.
struct StoreRecorder {
    output: StoreOutput,
    plan: JobPlan,
    client: Arc<Client>,
    ledger: StoreLedger,
    reads: Reads,
    progress: Progress,
    /// Which process with this job it is, from 0.
    epoch: u32,
    /// How many parts are in the ledger for sure.
    committed: usize,
    /// Names of parts that readers see.
    visible: BTreeSet<String>,
}

#[mobula_actors::__private::linkme::distributed_slice(mobula_actors::__private::RECORDERS)]
#[linkme(crate = mobula_actors::__private::linkme)]
static RECORD_STORE: RecorderEntry = RecorderEntry {
    name: RECORDER,
    open: |params, topology, _disk| Ok(Box::new(StoreRecorder::open(decode(params)?, topology)?)),
    // The next run of the same command goes on with the job, another one gives it up.
    discard: |_params| {},
};

/// The name under which it travels.
const RECORDER: &str = "mobula/write_store@1";

/// The recorder of this output.
pub(super) fn spec(output: &StoreOutput) -> IoResult<RecorderSpec> {
    let params = encode(output).map_err(|e| IoError::Internal(e.to_string()))?;
    Ok(RecorderSpec { name: RECORDER.to_owned(), params })
}

impl StoreRecorder {
    fn open(output: StoreOutput, topology: &Topology) -> IoResult<Self> {
        let client = connect(&output.place)?;
        let plan = client.get(&output.place.job_key(output.job, "plan"))?;
        let plan = plan.and_then(|bytes| plan::from_bytes(&bytes));
        let plan = plan.ok_or_else(|| IoError::Internal("a job without a plan".into()))?;
        let (mut ledger, records) = StoreLedger::open(&client, output.job, SystemEnv::new().random())?;
        let records = records?;
        if is_given_up(&records) {
            return Err(IoError::StoreFenced { place: output.place.to_string() });
        }
        let progress = Progress::of(records)?;
        let epoch = progress.epochs;
        // From here on whoever ran the job before can commit nothing.
        ledger.append(&[Record::Begun { epoch }])?;
        let (reads, committed, visible) = (Reads::of(topology), progress.parts.len(), BTreeSet::new());
        let mut recorder = Self { output, plan, client, ledger, reads, progress, epoch, committed, visible };
        recorder.abort_of(0..recorder.first_run());
        recorder.publish_as_written()?;
        Ok(recorder)
    }

    /// Gives up uploads of these runs that are not in the ledger, or may be in it. Never those of a process that came later:
    /// this one does not know what that has committed.
    fn abort_of(&self, runs: Range<u32>) {
        let keep = self.progress.parts.iter().map(|part| part.upload.id.as_str()).collect();
        jobs::abort_uploads(&self.client, self.output.job, runs, &keep);
    }

    fn take(&mut self, results: &Results) -> IoResult<Vec<Record>> {
        let segments = results.segments.map(|segment| self.reads.by_source(segment))?;
        self.progress.add(&self.plan, sink::parts(&results.batches)?, &segments)
    }

    fn commit(&mut self, records: &[Record]) -> IoResult<()> {
        if records.is_empty() {
            return Ok(());
        }
        let appended = self.ledger.append(records);
        match &appended {
            Ok(()) => self.committed = self.progress.parts.len(),
            // These are in nobody's ledger. After another error they may be.
            Err(IoError::StoreFenced { .. }) => {
                let lost = self.progress.parts.split_off(self.committed);
                self.abort(lost);
            }
            Err(_) => {}
        }
        appended
    }

    /// Makes parts visible as soon as they are in the ledger, if that is wanted.
    fn publish_as_written(&mut self) -> IoResult<()> {
        if self.plan.publish == Publish::AsWritten { self.publish() } else { Ok(()) }
    }

    /// Completes the uploads of all parts that are in the ledger. A crash anywhere in this is repeated from there.
    fn publish(&mut self) -> IoResult<()> {
        let place = &self.output.place;
        let hidden: Vec<&StoredPart> =
            self.progress.parts.iter().filter(|part| !self.visible.contains(&part.name)).collect();
        let uploads = hidden.iter().map(|part| (place.key(&part.name), part.upload.clone())).collect();
        for (part, completed) in hidden.iter().zip(self.client.complete_all(uploads)?) {
            if completed == Completed::Gone {
                check_there(&self.client, part)?;
            }
        }
        self.visible.extend(self.progress.parts.iter().map(|part| part.name.clone()));
        Ok(())
    }

    fn end(&mut self) -> IoResult<Vec<u8>> {
        let Self { output, client, plan, .. } = self;
        let empty = || {
            let task = (u64::from(self.epoch) * u64::from(RUNS_A_PROCESS)) << TaskContext::RUN_SHIFT;
            output.params.write_empty_through(&Ground::Store(Arc::clone(client)), task)
        };
        let records = self.progress.end(plan, empty)?;
        self.commit(&records)?;
        self.check_content()?;
        self.write_letters()?;
        self.publish()?;
        let manifest = self.progress.manifest();
        let (place, job) = (&self.output.place, self.output.job);
        self.put(&place.job_key(job, MANIFEST), manifest.to_json().into())?;
        // All that was recorded is visible, so nobody needs any of them.
        jobs::abort_uploads(&self.client, job, jobs::ALL_RUNS, &BTreeSet::new());
        encode(&jobs::written(place, job, &manifest)).map_err(|e| IoError::Internal(e.to_string()))
    }

    /// Somebody else may have written meanwhile.
    fn check_content(&self) -> IoResult<()> {
        if self.plan.mode != WriteMode::Error {
            return Ok(());
        }
        let ours: BTreeSet<&str> = self.progress.parts.iter().map(|part| part.name.as_str()).collect();
        let other = jobs::visible(&self.client)?.into_iter().find(|(name, _)| !ours.contains(name.as_str()));
        let dir = || self.output.place.to_string().into();
        other.map_or(Ok(()), |(file, _)| Err(IoError::OutputNotEmpty { dir: dir(), file }))
    }

    fn write_letters(&self) -> IoResult<()> {
        match self.progress.letters.to_parquet()? {
            Some(bytes) => self.put(&jobs::letters_key(&self.output.place, self.output.job), bytes.into()),
            None => Ok(()),
        }
    }

    /// Puts what each process that ends this job puts alike.
    fn put(&self, key: &str, bytes: Bytes) -> IoResult<()> {
        match self.client.put_new(key, &bytes)? {
            Put::Done => Ok(()),
            Put::Taken => Err(IoError::StoreFenced { place: self.output.place.to_string() }),
        }
    }

    fn abort(&self, parts: impl IntoIterator<Item = StoredPart>) {
        for part in parts {
            if let Err(error) = self.client.abort(&self.output.place.key(&part.name), &part.upload.id) {
                tracing::debug!(%error, "an upload stays until the job goes on or ends");
            }
        }
    }
}

/// An upload that is gone was completed by an earlier run, unless its object is not there.
fn check_there(client: &Client, part: &StoredPart) -> IoResult<()> {
    let key = client.place().key(&part.name);
    match client.size(&key)? {
        Some(bytes) if bytes == part.bytes => Ok(()),
        found => Err(IoError::Store {
            verb: "make visible",
            at: client.place().uri(&key),
            reason: match found {
                None => "its upload is gone, and no object is there".to_owned(),
                Some(bytes) => {
                    format!("its upload is gone, and an object of {bytes} bytes is there, not {}", part.bytes)
                }
            },
            next: "the store or a lifecycle rule of the bucket removed it: make that rule wait longer, and start over with --restart",
        }),
    }
}

impl Recorder for StoreRecorder {
    fn left(&self) -> BTreeMap<usize, Vec<Left>> {
        self.reads.iter().zip(self.progress.left(&self.plan)).collect()
    }

    fn first_run(&self) -> u32 {
        self.epoch.saturating_mul(RUNS_A_PROCESS)
    }

    fn given_up(&self) -> u64 {
        self.progress.letters.count()
    }

    fn give_up(&mut self, mut letters: Vec<DeadLetter>) -> Result<(), BoxError> {
        for place in letters.iter_mut().flat_map(|letter| &mut letter.places) {
            place.segment = self.reads.by_source(place.segment)?;
        }
        self.progress.letters.add(letters);
        Ok(())
    }

    fn skip(&mut self, mut skips: Vec<Skip>) -> Result<(), BoxError> {
        for skip in &mut skips {
            skip.segment = self.reads.by_source(skip.segment)?;
        }
        self.progress.skips.add(skips);
        Ok(())
    }

    fn record(&mut self, results: Vec<Results>) -> Result<(), BoxError> {
        let mut records = Vec::new();
        for result in &results {
            records.extend(self.take(result)?);
        }
        self.commit(&records)?;
        Ok(self.publish_as_written()?)
    }

    fn forget(&mut self) {
        let parts = self.progress.forget();
        self.abort(parts);
    }

    fn finish(mut self: Box<Self>) -> Result<Vec<u8>, BoxError> {
        Ok(self.end()?)
    }

    fn stop(mut self: Box<Self>) {
        self.forget();
        let first = self.first_run();
        self.abort_of(first..first.saturating_add(RUNS_A_PROCESS));
        // Else others would have to take it for one that runs.
        if let Err(error) = stopped().and_then(|record| self.ledger.append(&[record])) {
            tracing::debug!(%error, "another command must not take the place of the job without --restart");
        }
    }
}
