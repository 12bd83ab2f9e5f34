//! Whose job is served next: fair shares of a cluster's cores among several jobs.
//!
//! The job that has had the least for its weight goes first. What a job has had is the CPU time of its tasks divided by
//! its weight; what was given to it and not charged yet counts with what its tasks took lately, so that many tasks can
//! be out at once. Two promises, each with a test: jobs that are always ready get service in proportion to their
//! weights within one task each, and a job that had nothing to do gets no credit for that time.
//! It knows no nodes and no resources: `placement` says where, this says for whom.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::ids::JobId;

/// Jobs at once. Each costs about a hundred bytes here and a few actors elsewhere.
pub const JOBS_MAX: usize = 1024;

/// The largest weight: beyond this the smallest job next to it would practically starve.
pub const WEIGHT_MAX: u32 = 1000;

/// What a task is taken to cost before any of its job has ended.
const TASK_START: Duration = Duration::from_millis(20);

/// The least that is charged for a task: about what the engine itself spends on one. Without it a job whose tasks measure
/// as nothing would always be first.
const CHARGE_MIN: Duration = Duration::from_micros(100);

/// How large a job's share is beside the others: 1 (the default) to [`WEIGHT_MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(NonZeroU32);

/// Why a job does not get a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// The weight is out of range.
    #[error("a job's weight is 1 to {WEIGHT_MAX}, not {0}")]
    Weight(u32),
    /// There are too many jobs.
    #[error("{JOBS_MAX} jobs run already, which is the most; try again when one has ended")]
    Jobs,
}

impl Weight {
    /// A weight of 1 to [`WEIGHT_MAX`].
    ///
    /// # Errors
    /// If it is out of range.
    pub fn new(weight: u32) -> Result<Self, ShareError> {
        let in_range = NonZeroU32::new(weight).filter(|weight| weight.get() <= WEIGHT_MAX);
        in_range.map(Self).ok_or(ShareError::Weight(weight))
    }

    /// The weight as a number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self(NonZeroU32::MIN)
    }
}

impl TryFrom<u32> for Weight {
    type Error = ShareError;

    fn try_from(weight: u32) -> Result<Self, ShareError> {
        Self::new(weight)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

/// CPU time divided by weight, in nanoseconds × [`SERVICE_SCALE`].
type Service = u128;

/// Keeps the rounding of the division below a nanosecond.
const SERVICE_SCALE: u128 = 1 << 16;

#[derive(Debug)]
struct Share {
    weight: Weight,
    service: Service,
    /// Tasks given and not charged yet.
    out: u32,
    /// What a task took lately.
    task: Duration,
    /// Whether it had a task to run or out at the last choice.
    active: bool,
}

impl Share {
    fn weighted(&self, cpu: Duration) -> Service {
        cpu.as_nanos().saturating_mul(SERVICE_SCALE) / u128::from(self.weight.get())
    }

    /// What it has had and what its tasks out are likely to take.
    fn expected(&self) -> Service {
        let out = self.weighted(self.task).saturating_mul(u128::from(self.out));
        self.service.saturating_add(out)
    }
}

/// The shares of all jobs.
///
/// ```
/// use mobula_actors::cluster::{ids::JobId, share::{Shares, Weight}};
/// use std::time::Duration;
/// let mut shares = Shares::default();
/// shares.add(JobId(1), Weight::default())?;
/// shares.add(JobId(2), Weight::new(3)?)?;
/// let mut turns = [0, 0];
/// for _ in 0..400 {
///     let job = shares.next([JobId(1), JobId(2)]).expect("both are ready");
///     turns[if job == JobId(1) { 0 } else { 1 }] += 1;
///     shares.charge(job, Duration::from_millis(5));
/// }
/// assert_eq!(turns, [100, 300]);
/// # Ok::<_, mobula_actors::cluster::share::ShareError>(())
/// ```
#[derive(Debug, Default)]
pub struct Shares {
    jobs: BTreeMap<JobId, Share>,
    /// The most that any job has had, also of those removed.
    most: Service,
}

impl Shares {
    /// Adds a job. It starts where the others are. For a job that is there, the weight is changed from now on.
    ///
    /// # Errors
    /// If there are [`JOBS_MAX`] jobs already.
    pub fn add(&mut self, job: JobId, weight: Weight) -> Result<(), ShareError> {
        if let Some(share) = self.jobs.get_mut(&job) {
            share.weight = weight;
            return Ok(());
        }
        if self.jobs.len() >= JOBS_MAX {
            return Err(ShareError::Jobs);
        }
        self.jobs.insert(job, Share { weight, service: 0, out: 0, task: TASK_START, active: false });
        Ok(())
    }

    /// Forgets a job. What it has out may still be charged and counts for nobody.
    pub fn remove(&mut self, job: JobId) {
        self.jobs.remove(&job);
    }

    /// Whose task goes next, of all jobs that have one to run; a job that is not among them and has none out is idle.
    /// `None` if none of them was added. Each choice is to be followed by one [`Shares::charge`], however the task ends.
    pub fn next(&mut self, candidates: impl IntoIterator<Item = JobId>) -> Option<JobId> {
        let candidates: BTreeSet<JobId> = candidates.into_iter().collect();
        self.welcome(&candidates);
        let ready = self.jobs.iter_mut().filter(|(job, _)| candidates.contains(job));
        let (job, share) = ready.min_by_key(|(job, share)| (share.expected(), **job))?;
        share.out = share.out.saturating_add(1);
        Some(*job)
    }

    /// Lifts jobs that were idle to the one that is the furthest behind of those that were not.
    fn welcome(&mut self, candidates: &BTreeSet<JobId>) {
        let is_active = |job: &JobId, share: &Share| candidates.contains(job) || share.out > 0;
        let stayed = self.jobs.iter().filter(|(job, share)| share.active && is_active(job, share));
        // Where all were idle, all start anew from the same place.
        let floor = stayed.map(|(_, share)| share.expected()).min().unwrap_or(self.most);
        for (job, share) in &mut self.jobs {
            let active = is_active(job, share);
            if active && !share.active {
                share.service = share.service.max(floor);
            }
            share.active = active;
        }
    }

    /// A task of the job has ended and took this much CPU time; zero for one that was lost.
    pub fn charge(&mut self, job: JobId, cpu: Duration) {
        let Some(share) = self.jobs.get_mut(&job) else { return };
        let cpu = cpu.max(CHARGE_MIN);
        share.out = share.out.saturating_sub(1);
        share.service = share.service.saturating_add(share.weighted(cpu));
        share.task = share.task.saturating_mul(3).saturating_add(cpu) / 4;
        self.most = self.most.max(share.service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shares(weights: &[u32]) -> Shares {
        let mut shares = Shares::default();
        for (job, weight) in (0..).zip(weights) {
            shares.add(JobId(job), Weight::new(*weight).expect("in range")).expect("few");
        }
        shares
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Gives one task after the other to whoever is next, and says what each job got.
    fn serve(shares: &mut Shares, ready: &[u64], tasks: &[(u64, u64)]) -> BTreeMap<u64, u64> {
        let mut got: BTreeMap<u64, u64> = ready.iter().map(|job| (*job, 0)).collect();
        for (short, long) in tasks {
            let job = shares.next(ready.iter().map(|job| JobId(*job))).expect("someone is ready");
            let cost = if job.0.is_multiple_of(2) { *short } else { *long };
            shares.charge(job, ms(cost));
            *got.get_mut(&job.0).expect("one of those ready") += cost;
        }
        got
    }

    #[test]
    fn weights_and_the_number_of_jobs_are_limited() {
        assert_eq!(Weight::new(0).expect_err("none").to_string(), "a job's weight is 1 to 1000, not 0");
        assert!(Weight::new(1001).is_err());
        let mut shares = Shares::default();
        for job in 0..JOBS_MAX as u64 {
            shares.add(JobId(job), Weight::default()).expect("there is room");
        }
        assert_eq!(shares.add(JobId(9999), Weight::default()), Err(ShareError::Jobs));
        shares.remove(JobId(0));
        assert_eq!(shares.add(JobId(9999), Weight::default()), Ok(()));
    }

    #[test]
    fn who_was_not_added_is_never_chosen() {
        let mut shares = shares(&[1]);
        assert_eq!(shares.next([JobId(7)]), None);
        assert_eq!(shares.next([]), None);
        assert_eq!(shares.next([JobId(7), JobId(0)]), Some(JobId(0)));
        shares.remove(JobId(0));
        shares.charge(JobId(0), ms(1));
        assert_eq!(shares.next([JobId(0)]), None);
    }

    #[test]
    fn tasks_that_are_out_count_before_they_are_charged() {
        let mut shares = shares(&[1, 1, 2]);
        let mut got = [0; 3];
        for _ in 0..40 {
            got[shares.next((0..3).map(JobId)).expect("ready").0 as usize] += 1;
        }
        assert_eq!(got, [10, 10, 20]);
    }

    #[test]
    fn a_job_whose_tasks_measure_as_nothing_leaves_the_others_their_turns() {
        let mut shares = shares(&[1, 1]);
        let mut turns_of_1 = 0;
        for _ in 0..1000 {
            let job = shares.next([JobId(0), JobId(1)]).expect("ready");
            turns_of_1 += job.0;
            shares.charge(job, if job.0 == 0 { Duration::ZERO } else { ms(1) });
        }
        assert!(turns_of_1 > 80, "{turns_of_1}");
    }

    #[test]
    fn a_job_with_a_task_out_is_not_idle() {
        let mut shares = shares(&[1, 1]);
        assert_eq!(shares.next([JobId(0), JobId(1)]), Some(JobId(0)));
        for _ in 0..10 {
            assert_eq!(shares.next([JobId(1)]), Some(JobId(1)));
            shares.charge(JobId(1), ms(100));
        }
        shares.charge(JobId(0), ms(1));
        let got = serve(&mut shares, &[0, 1], &[(100, 100); 9]);
        assert_eq!(got[&0], 900, "it waited for its own task only, and catches up");
    }

    const LONGEST: u64 = 50;

    fn tasks() -> impl Strategy<Value = Vec<(u64, u64)>> {
        prop::collection::vec((1..=LONGEST, 1..=LONGEST), 200..600)
    }

    proptest! {
        #[test]
        fn service_follows_the_weights_within_one_task(weights in prop::collection::vec(1..10u32, 2..6), tasks in tasks()) {
            let mut shares = shares(&weights);
            let ready: Vec<u64> = (0..weights.len() as u64).collect();
            let got = serve(&mut shares, &ready, &tasks);
            let service = |job: u64| got[&job] as f64 / f64::from(weights[job as usize]);
            for (&a, &b) in ready.iter().flat_map(|a| ready.iter().map(move |b| (a, b))) {
                let task = LONGEST as f64 / f64::from(weights[a as usize]);
                prop_assert!(service(a) <= service(b) + task + 1e-6, "{got:?} {weights:?}");
            }
        }

        #[test]
        fn an_idle_job_gets_no_credit(before in tasks(), after in tasks(), idle_from in 0..3usize) {
            let mut shares = shares(&[1, 2, 1]);
            serve(&mut shares, &[0, 1, 2], &before[..idle_from * 20]);
            serve(&mut shares, &[0, 1], &before);
            let got = serve(&mut shares, &[0, 1, 2], &after);
            for (job, other, weight) in [(2, 0, 1.0), (2, 1, 2.0), (0, 2, 1.0)] {
                let (mine, its) = (got[&job] as f64, got[&other] as f64 / weight);
                prop_assert!(mine <= its + 2.0 * LONGEST as f64, "{got:?}");
            }
        }

        #[test]
        fn with_many_tasks_out_nobody_starves(weights in prop::collection::vec(1..5u32, 2..5), costs in prop::collection::vec(1..=LONGEST, 500)) {
            let mut shares = shares(&weights);
            let ready: Vec<JobId> = (0..weights.len() as u64).map(JobId).collect();
            let mut out = std::collections::VecDeque::new();
            let mut got = vec![0; weights.len()];
            for cost in costs {
                out.push_back((shares.next(ready.iter().copied()).expect("ready"), cost));
                if out.len() > 8 {
                    let (job, cost) = out.pop_front().expect("eight");
                    shares.charge(job, ms(cost));
                    got[job.0 as usize] += cost;
                }
            }
            let service: Vec<f64> = got.iter().zip(&weights).map(|(got, weight)| *got as f64 / f64::from(*weight)).collect();
            let most = service.iter().copied().fold(0.0, f64::max);
            let least = service.iter().copied().fold(f64::MAX, f64::min);
            prop_assert!(most - least <= 10.0 * LONGEST as f64, "{service:?}");
        }
    }
}
