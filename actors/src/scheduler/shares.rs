//! Whose job is served next: fair shares of a node's cores among the jobs that run on it.
//!
//! The job that has had the least for its weight goes first. What a job has had is the CPU time of its turns divided by
//! its weight; turns that are out and not charged yet count with what its turns took lately. Two promises, each with a
//! test: jobs that are always ready get service in proportion to their weights within one turn each, and a job that had
//! nothing to do gets no credit for that time. This is start-time fair queueing (Goyal, Vin, Cheng, 1996) with the tags
//! of turns replaced by estimates, as the length of a turn is not known when it begins.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The largest weight: beyond this the smallest job next to it would practically starve.
const WEIGHT_MAX: u32 = 1000;

/// What a turn is taken to cost before any of its job has ended.
const TURN_START: Duration = Duration::from_millis(2);

/// The least that is charged for a turn: about what the engine itself spends on one. Without it a job whose turns measure
/// as nothing would always be first.
const CHARGE_MIN: Duration = Duration::from_micros(20);

/// How large a job's share of the cores is beside the jobs that run at the same time: 1 (the default) to 1000. A job
/// alone has all cores, whatever its weight.
///
/// ```
/// use mobula_actors::job::Weight;
/// assert_eq!(Weight::new(3)?.get(), 3);
/// assert_eq!(Weight::new(0).unwrap_err().to_string(), "a job's weight is 1 to 1000, not 0");
/// # Ok::<_, mobula_actors::job::WeightError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct Weight(NonZeroU32);

/// A weight that is out of range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a job's weight is 1 to {WEIGHT_MAX}, not {0}")]
pub struct WeightError(u32);

impl Weight {
    /// A weight of 1 to 1000.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn new(weight: u32) -> Result<Self, WeightError> {
        let in_range = NonZeroU32::new(weight).filter(|weight| weight.get() <= WEIGHT_MAX);
        in_range.map(Self).ok_or(WeightError(weight))
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
    type Error = WeightError;

    fn try_from(weight: u32) -> Result<Self, WeightError> {
        Self::new(weight)
    }
}

impl From<Weight> for u32 {
    fn from(weight: Weight) -> Self {
        weight.get()
    }
}

/// Names a job on its node.
pub(crate) type JobKey = u64;

/// CPU time divided by weight, in nanoseconds × [`SERVICE_SCALE`].
type Service = u128;

/// Keeps the rounding of the division below a nanosecond.
const SERVICE_SCALE: u128 = 1 << 16;

#[derive(Debug)]
struct Share {
    weight: Weight,
    service: Service,
    /// Turns given and not charged yet.
    out: u32,
    /// What a turn took lately.
    turn: Duration,
    /// Whether it waited for a turn or had one at the last choice.
    active: bool,
}

impl Share {
    fn weighted(&self, cpu: Duration) -> Service {
        cpu.as_nanos().saturating_mul(SERVICE_SCALE) / u128::from(self.weight.get())
    }

    /// What it has had and what its turns out are likely to take.
    fn expected(&self) -> Service {
        let out = self.weighted(self.turn).saturating_mul(u128::from(self.out));
        self.service.saturating_add(out)
    }
}

/// The shares of all jobs of a node.
#[derive(Debug, Default)]
pub(crate) struct Shares {
    jobs: BTreeMap<JobKey, Share>,
    /// The most that any job has had, also of those removed.
    most: Service,
}

impl Shares {
    /// Adds a job, which starts where the others are.
    pub(crate) fn add(&mut self, job: JobKey, weight: Weight) {
        self.jobs.insert(job, Share { weight, service: 0, out: 0, turn: TURN_START, active: false });
    }

    /// Forgets a job. What it has out may still be charged and counts for nobody.
    pub(crate) fn remove(&mut self, job: JobKey) {
        self.jobs.remove(&job);
    }

    /// Whose turn is next, of all jobs that are `ready` for one; a job that is not and has none out is idle. `None` if
    /// none of them was added.
    pub(crate) fn first(&mut self, ready: impl Fn(JobKey) -> bool) -> Option<JobKey> {
        self.welcome(&ready);
        let ready = self.jobs.iter().filter(|(job, _)| ready(**job));
        ready.min_by_key(|(job, share)| (share.expected(), **job)).map(|(job, _)| *job)
    }

    /// Whether one of the jobs that are `ready` is behind this one.
    pub(crate) fn any_behind(&mut self, job: JobKey, ready: impl Fn(JobKey) -> bool) -> bool {
        let Some(expected) = self.jobs.get(&job).map(Share::expected) else { return true };
        let first = self.first(|other| other != job && ready(other));
        first.and_then(|first| self.jobs.get(&first)).is_some_and(|share| share.expected() < expected)
    }

    /// The job, which is the first or the only one that is ready, gets a turn, to be followed by one [`Shares::charge`].
    pub(crate) fn begin(&mut self, job: JobKey) {
        if let Some(share) = self.jobs.get_mut(&job) {
            share.out = share.out.saturating_add(1);
        }
    }

    /// Whether several jobs have turns or are `ready` for one.
    pub(crate) fn are_shared(&self, ready: impl Fn(JobKey) -> bool) -> bool {
        self.jobs.iter().filter(|(job, share)| share.out > 0 || ready(**job)).take(2).count() > 1
    }

    /// Lifts jobs that were idle to the one that is the furthest behind of those that were not.
    fn welcome(&mut self, ready: impl Fn(JobKey) -> bool) {
        let is_active = |job: JobKey, share: &Share| share.out > 0 || ready(job);
        let stayed = self.jobs.iter().filter(|(job, share)| share.active && is_active(**job, share));
        // Where all were idle, all start anew from the same place.
        let floor = stayed.map(|(_, share)| share.expected()).min().unwrap_or(self.most);
        for (job, share) in &mut self.jobs {
            let active = is_active(*job, share);
            if active && !share.active {
                share.service = share.service.max(floor);
            }
            share.active = active;
        }
    }

    /// A turn of the job has ended and took this much CPU time.
    pub(crate) fn charge(&mut self, job: JobKey, cpu: Duration) {
        let Some(share) = self.jobs.get_mut(&job) else { return };
        let cpu = cpu.max(CHARGE_MIN);
        share.out = share.out.saturating_sub(1);
        share.service = share.service.saturating_add(share.weighted(cpu));
        share.turn = share.turn.saturating_mul(3).saturating_add(cpu) / 4;
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
            shares.add(job, Weight::new(*weight).expect("in range"));
        }
        shares
    }

    fn next(shares: &mut Shares, ready: impl IntoIterator<Item = JobKey>) -> Option<JobKey> {
        let ready: Vec<JobKey> = ready.into_iter().collect();
        let job = shares.first(|job| ready.contains(&job))?;
        shares.begin(job);
        Some(job)
    }

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Gives one task after the other to whoever is next, and says what each job got.
    fn serve(shares: &mut Shares, ready: &[u64], tasks: &[(u64, u64)]) -> BTreeMap<u64, u64> {
        let mut got: BTreeMap<u64, u64> = ready.iter().map(|job| (*job, 0)).collect();
        for (short, long) in tasks {
            let job = next(shares, ready.iter().copied()).expect("someone is ready");
            let cost = if job.is_multiple_of(2) { *short } else { *long };
            shares.charge(job, ms(cost));
            *got.get_mut(&job).expect("one of those ready") += cost;
        }
        got
    }

    #[test]
    fn weights_are_limited() {
        assert_eq!(Weight::new(0).expect_err("none").to_string(), "a job's weight is 1 to 1000, not 0");
        assert!(Weight::new(1001).is_err());
    }

    #[test]
    fn who_was_not_added_is_never_chosen() {
        let mut shares = shares(&[1]);
        assert_eq!(next(&mut shares, [7]), None);
        assert_eq!(next(&mut shares, []), None);
        assert_eq!(next(&mut shares, [7, 0]), Some(0));
        shares.remove(0);
        shares.charge(0, ms(1));
        assert_eq!(next(&mut shares, [0]), None);
    }

    #[test]
    fn tasks_that_are_out_count_before_they_are_charged() {
        let mut shares = shares(&[1, 1, 2]);
        let mut got = [0; 3];
        for _ in 0..40 {
            got[next(&mut shares, 0..3).expect("ready") as usize] += 1;
        }
        assert_eq!(got, [10, 10, 20]);
    }

    #[test]
    fn a_job_whose_tasks_measure_as_nothing_leaves_the_others_their_turns() {
        let mut shares = shares(&[1, 1]);
        let mut turns_of_1 = 0;
        for _ in 0..1000 {
            let job = next(&mut shares, [0, 1]).expect("ready");
            turns_of_1 += job;
            shares.charge(job, if job == 0 { Duration::ZERO } else { ms(1) });
        }
        assert!(turns_of_1 > 15, "{turns_of_1}");
    }

    #[test]
    fn a_job_with_a_task_out_is_not_idle() {
        let mut shares = shares(&[1, 1]);
        assert_eq!(next(&mut shares, [0, 1]), Some(0));
        for _ in 0..10 {
            assert_eq!(next(&mut shares, [1]), Some(1));
            shares.charge(1, ms(100));
        }
        shares.charge(0, ms(1));
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
            let ready: Vec<JobKey> = (0..weights.len() as u64).collect();
            let mut out = std::collections::VecDeque::new();
            let mut got = vec![0; weights.len()];
            for cost in costs {
                out.push_back((next(&mut shares, ready.iter().copied()).expect("ready"), cost));
                if out.len() > 8 {
                    let (job, cost) = out.pop_front().expect("eight");
                    shares.charge(job, ms(cost));
                    got[job as usize] += cost;
                }
            }
            let service: Vec<f64> = got.iter().zip(&weights).map(|(got, weight)| *got as f64 / f64::from(*weight)).collect();
            let most = service.iter().copied().fold(0.0, f64::max);
            let least = service.iter().copied().fold(f64::MAX, f64::min);
            prop_assert!(most - least <= 10.0 * LONGEST as f64, "{service:?}");
        }
    }
}
