//! The keeper: the actor that takes the results of a job of this process to its recorder, until the job has ended.
//!
//! It owns the job's handle and the recorder. Messages: `Next`, from itself, one at a time. It ends by itself; what came of
//! the job goes to whoever waits for it.

use ractor::{ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use super::recorder::{Recorder, Results};
use crate::job::{DeadLetter, JobError, JobSummary, Skip};
use crate::node::{JobHandle, JobWatch};
use crate::operator::BoxError;
use crate::plant::{Bug, is_planted};
use crate::runtime::tasks;
use crate::runtime::watch::guarded;

/// Results that are recorded together at most: one sync for all of them.
pub(crate) const GROUP_MAX: usize = 256;

/// The actor.
pub(crate) struct Keeper;

/// What it is made of.
pub(crate) struct KeeperArguments {
    pub(crate) job: JobHandle,
    pub(crate) recorder: Box<dyn Recorder>,
    pub(crate) ended: oneshot::Sender<Result<Vec<u8>, JobError>>,
}

/// What it is told: to take the next results.
pub(crate) struct Next;

/// What it remembers.
pub(crate) struct KeeperState {
    job: JobHandle,
    /// Lent to a thread that may wait for the disk while results are recorded.
    recorder: Option<Box<dyn Recorder>>,
    ended: Option<oneshot::Sender<Result<Vec<u8>, JobError>>>,
}

impl KeeperState {
    /// Takes what has come; `None` once all has.
    async fn next(&mut self) -> Result<Option<()>, JobError> {
        let results = self.job.next_results(GROUP_MAX).await?;
        if results.is_empty() {
            return Ok(None);
        }
        let Some(recorder) = self.recorder.take() else { return Ok(None) };
        self.job.taker().records();
        // Taken behind the results: those of their rows are among them.
        let (recorder, recorded) = record(recorder, self.job.take_given_up(), results).await?;
        self.recorder = Some(recorder);
        recorded.map(Some)
    }

    async fn end(&mut self, result: Result<(), JobError>) {
        let result = match (result, self.recorder.take()) {
            (Ok(()), Some(recorder)) => finish(recorder).await,
            (Ok(()), None) => Err(not_recorded("the recorder is gone".into())),
            (Err(error), Some(recorder)) => {
                stop(recorder).await;
                Err(error)
            }
            (Err(error), None) => Err(error),
        };
        if let Some(ended) = self.ended.take() {
            // Who does not wait does not want to know.
            let _ = ended.send(result);
        }
    }
}

/// Records results where waiting for the disk holds nobody up.
pub(crate) async fn record(
    mut recorder: Box<dyn Recorder>,
    (letters, skips): (Vec<DeadLetter>, Vec<Skip>),
    results: Vec<Results>,
) -> Result<(Box<dyn Recorder>, Result<(), JobError>), JobError> {
    let work = move || {
        let give_up =
            |recorder: &mut Box<dyn Recorder>| if letters.is_empty() { Ok(()) } else { recorder.give_up(letters) };
        let skip = |recorder: &mut Box<dyn Recorder>| if skips.is_empty() { Ok(()) } else { recorder.skip(skips) };
        let given_up = |recorder: &mut Box<dyn Recorder>| give_up(recorder).and_then(|()| skip(recorder));
        let recorded = guarded(|| given_up(&mut recorder).and_then(|()| recorder.record(results))).flatten();
        (recorder, recorded)
    };
    let (recorder, recorded) = tasks::blocking(work).await.map_err(|error| not_recorded(error.into()))?;
    let recorded = if is_planted(Bug::AcknowledgeFirst) { Ok(()) } else { recorded };
    Ok((recorder, recorded.map_err(not_recorded)))
}

/// Makes the output visible.
pub(crate) async fn finish(recorder: Box<dyn Recorder>) -> Result<Vec<u8>, JobError> {
    let finished = tasks::blocking(move || guarded(|| recorder.finish()).flatten()).await;
    finished.map_err(BoxError::from).flatten().map_err(|cause| JobError::Finish { cause: cause.into() })
}

/// Takes back what was not recorded.
pub(crate) async fn stop(recorder: Box<dyn Recorder>) {
    // What could not be taken back is hidden, and goes when somebody begins with the job again.
    let _ = tasks::blocking(move || guarded(|| recorder.stop())).await;
}

fn not_recorded(cause: BoxError) -> JobError {
    JobError::Ledger { cause: cause.into() }
}

impl ractor::Actor for Keeper {
    type Msg = Next;
    type State = KeeperState;
    type Arguments = KeeperArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        KeeperArguments { job, recorder, ended }: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        myself.cast(Next)?;
        Ok(KeeperState { job, recorder: Some(recorder), ended: Some(ended) })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        _: Next,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match state.next().await {
            Ok(Some(())) => myself.cast(Next)?,
            Ok(None) => {
                state.end(Ok(())).await;
                myself.stop(None);
            }
            Err(error) => {
                state.job.watch().cancel();
                state.end(Err(error)).await;
                myself.stop(None);
            }
        }
        Ok(())
    }
}

/// A job of this process whose results are recorded. Dropping it cancels the job.
pub struct RecordedJob {
    watch: JobWatch,
    ended: Option<oneshot::Receiver<Result<Vec<u8>, JobError>>>,
    result: Option<Result<Vec<u8>, JobError>>,
}

impl RecordedJob {
    pub(crate) fn new(watch: JobWatch, ended: oneshot::Receiver<Result<Vec<u8>, JobError>>) -> Self {
        Self { watch, ended: Some(ended), result: None }
    }

    /// Waits for the end, and gives what the recorder says of the output.
    ///
    /// # Errors
    /// Why the job failed, or its output could not be recorded or made visible.
    pub fn wait(&mut self) -> Result<Vec<u8>, JobError> {
        if let Some(ended) = self.ended.take() {
            let gone = || JobError::Internal { actor: "the keeper".to_owned(), reason: "it is gone".to_owned() };
            let result = futures::executor::block_on(ended).unwrap_or_else(|_| Err(gone()));
            self.result = Some(result);
        }
        self.result.clone().unwrap_or(Err(JobError::Cancelled))
    }

    /// What the job did so far.
    pub fn summary(&self) -> JobSummary {
        self.watch.summary()
    }

    /// A handle to watch and cancel the job from another thread.
    pub fn watch(&self) -> JobWatch {
        self.watch.clone()
    }
}

impl Drop for RecordedJob {
    fn drop(&mut self) {
        if self.result.is_none() {
            self.watch.cancel();
        }
    }
}
