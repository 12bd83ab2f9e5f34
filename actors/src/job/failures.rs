//! What a job does about rows that user code fails on: how often they are tried, and how many may be given up.
//!
//! Rows that are given up become [dead letters](DeadLetter). They are counted where the job lives, before the block leaves
//! that says that they are finished: whoever keeps the job's ledger finds the letter when that block comes.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::JobError;
use super::causes::{cut, texts};
use super::topology::{Logic, OperatorPlan, Topology};
use crate::block::{Segment, Segments};
use crate::operator::{BoxError, Split};
use crate::units::Rows;

/// How a job deals with failures. The default is the node's attempts, and no row is given up.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct FailurePolicy {
    /// Attempts of a task, or of a row that fails alone. Default: what the node says, 4.
    pub attempts: Option<u32>,
    /// Wait before the second attempt, doubled for each one after it. Default: what the node says, 20 ms.
    pub backoff: Option<Duration>,
    /// Rows that may be given up. Default: none.
    pub budget: ErrorBudget,
}

/// The longest wait between two attempts that a policy may ask for: longer is a job that has stopped.
pub const BACKOFF_MAX: Duration = Duration::from_secs(3600);

/// How many rows a job may give up before it fails.
///
/// ```
/// use mobula_actors::job::ErrorBudget;
/// assert_eq!("10".parse(), Ok(ErrorBudget::Rows(10)));
/// assert_eq!("0.1%".parse(), Ok(ErrorBudget::Percent(0.1)));
/// assert!("101%".parse::<ErrorBudget>().is_err());
/// assert_eq!(ErrorBudget::Percent(0.5).to_string(), "0.5% of the rows");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub enum ErrorBudget {
    /// So many.
    Rows(u64),
    /// So many of a hundred rows that are read. Where nobody knows before how many rows there are, this is judged at the
    /// end.
    Percent(f64),
}

impl Default for ErrorBudget {
    /// None.
    fn default() -> Self {
        Self::Rows(0)
    }
}

impl ErrorBudget {
    /// Whether no row may be given up.
    pub fn is_zero(&self) -> bool {
        match *self {
            Self::Rows(rows) => rows == 0,
            // Not a number counts as none.
            Self::Percent(percent) => percent.is_nan() || percent <= 0.0,
        }
    }

    /// How many rows of so many.
    fn of(&self, all: u64) -> u64 {
        match *self {
            Self::Rows(rows) => rows,
            Self::Percent(percent) => (all as f64 * percent / 100.0) as u64,
        }
    }
}

impl From<u64> for ErrorBudget {
    fn from(rows: u64) -> Self {
        Self::Rows(rows)
    }
}

impl std::str::FromStr for ErrorBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("{text:?} is no error budget; write a number of rows such as 10, or a share such as 0.1%");
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Rows).map_err(|_| wrong()),
            Some(percent) => {
                let percent: f64 = percent.trim().parse().map_err(|_| wrong())?;
                if (0.0..=100.0).contains(&percent) { Ok(Self::Percent(percent)) } else { Err(wrong()) }
            }
        }
    }
}

impl fmt::Display for ErrorBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(1) => f.write_str("1 row"),
            Self::Rows(rows) => write!(f, "{rows} rows"),
            Self::Percent(percent) => write!(f, "{percent}% of the rows"),
        }
    }
}

/// A row that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadLetter {
    /// The operator that failed on it.
    pub operator: String,
    /// Where it comes from: one row where that is known exactly, else the ranges that it may be of. At most
    /// [`PLACES_MAX`] of them.
    pub places: Vec<Place>,
    /// How often it failed.
    pub attempts: u32,
    /// Why it failed last, with causes; cut if it is long.
    pub error: String,
}

/// Rows of a split.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The file, or what the source calls the split.
    pub input: String,
    /// The row of `input` that is the first of the split.
    pub first: Rows,
    /// The rows, from the first of the split.
    pub segment: Segment,
}

impl Place {
    /// The rows of `input`, and the one behind them; none if they are all that are left of it.
    pub fn rows(&self) -> (Rows, Option<Rows>) {
        let Segment { from, to, .. } = self.segment;
        let of_input = |row: Rows| Rows(row.0.saturating_add(self.first.0));
        (of_input(from), (to != Segment::END).then(|| of_input(to)))
    }
}

/// Places of one dead letter: a row behind filters may come from any of the ranges that its block stands for.
pub const PLACES_MAX: usize = 16;
/// Bytes of one error's text in a dead letter: the message and its causes, not a dump.
const ERROR_BYTES_MAX: usize = 1000;
/// And in a summary.
const BRIEF_BYTES_MAX: usize = 300;
/// Rows that a job may give up, whatever its budget: each has a letter of some hundred bytes. A job that fails on more has
/// another problem than rows.
const GIVEN_UP_MAX: u64 = 1_000_000;
/// Dead letters in a summary, which is sent to drivers again and again.
pub const LETTERS_SHOWN: usize = 100;

impl DeadLetter {
    /// The row of the split, if it is known exactly.
    pub fn row(&self) -> Option<Rows> {
        match self.places.as_slice() {
            [Place { segment: Segment { from, to, .. }, .. }] if from.0.checked_add(1) == Some(to.0) => Some(*from),
            _ => None,
        }
    }
}

impl DeadLetter {
    /// As much of it as goes into a summary. Two places still say that the row is not known.
    fn brief(&self) -> Self {
        let places = self.places.iter().take(2).cloned().collect();
        Self { places, error: cut(self.error.clone(), BRIEF_BYTES_MAX), ..self.clone() }
    }
}

impl fmt::Display for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operator, places, attempts, error } = self;
        match (places.first(), self.row()) {
            (Some(place), Some(_)) => write!(f, "{}, row {}", place.input, place.rows().0)?,
            (Some(place), None) => match place.rows() {
                (from, Some(to)) => write!(f, "{}, one of rows {from}..{to}", place.input)?,
                (from, None) => write!(f, "{}, a row from {from} on", place.input)?,
            },
            (None, _) => f.write_str("a row")?,
        }
        write!(f, ": operator {operator:?}, {attempts} attempts: {error}")
    }
}

/// A part of the input that could not be read, and was given up under a lenient policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skip {
    /// The last row of the part, which is finished without being there.
    pub segment: Segment,
    /// Which part, and why.
    pub reason: String,
}

/// Rows that a job has given up, shared by its operators and whoever watches it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct GivenUp {
    inner: Arc<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    budget: ErrorBudget,
    /// How many may be, where that is known.
    most: Option<u64>,
    /// What rows of splits are named by, by operator; only of a job that may give rows up.
    places: Vec<Vec<(Arc<str>, Rows)>>,
    /// Whether somebody takes the letters.
    recorded: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// In earlier processes.
    before: u64,
    /// The run that counts: what earlier ones gave up and is not finished comes again.
    run: u32,
    seen: BTreeSet<Key>,
    first: Vec<DeadLetter>,
    /// What the recorder has not taken.
    queue: Vec<DeadLetter>,
    /// Neither of these.
    skips: Vec<Skip>,
    /// Operator, place and cause of the last.
    last: Option<(String, String, Arc<BoxError>)>,
}

/// Operator, the first segment, and the row in its task: tells that a row was given up in an earlier run too.
type Key = (u32, Option<Segment>, u64);

/// A row that is given up, as its operator knows it.
pub(crate) struct Fallen<'a> {
    pub(crate) operator: (u32, &'a str),
    pub(crate) run: u32,
    /// In its task.
    pub(crate) row: Rows,
    pub(crate) segments: &'a Segments,
    /// The row of the input, if it is known exactly.
    pub(crate) origin: Option<Segment>,
    pub(crate) attempts: u32,
    pub(crate) cause: &'a Arc<BoxError>,
}

impl GivenUp {
    /// For a job of which earlier processes gave up so many rows.
    pub(crate) fn of(topology: &Topology, before: u64) -> Self {
        let (budget, state) = (topology.failures.budget, Mutex::new(State { before, ..State::default() }));
        let recorded = topology.recorder.is_some();
        if budget.is_zero() {
            return Self { inner: Arc::new(Inner { state, recorded, ..Inner::default() }) };
        }
        let splits = |plan: &OperatorPlan| match &plan.logic {
            Logic::Read { splits, .. } => splits.clone(),
            _ => Vec::new(),
        };
        let splits: Vec<Vec<Split>> = topology.operators.iter().map(splits).collect();
        let rows: Option<Rows> = splits.iter().flatten().map(|split| split.rows).sum();
        let most = match budget {
            ErrorBudget::Rows(rows) => Some(rows),
            ErrorBudget::Percent(_) => rows.map(|rows| budget.of(rows.0)),
        };
        let place = |split: &Split| {
            let (name, first) = split.place();
            (name.into(), first)
        };
        let places = splits.iter().map(|splits| splits.iter().map(place).collect()).collect();
        Self { inner: Arc::new(Inner { budget, most, places, recorded, state }) }
    }

    /// A run begins; what earlier ones gave up and nobody recorded comes again.
    pub(crate) fn begin(&self, run: u32) {
        let mut state = self.lock();
        state.run = run;
        state.queue.clear();
        state.skips.clear();
    }

    /// A row is given up.
    ///
    /// # Errors
    /// If that is one too many.
    pub(crate) fn add(&self, fallen: &Fallen<'_>) -> Result<(), JobError> {
        let letter = self.letter(fallen);
        let mut state = self.lock();
        if fallen.run != state.run {
            return Ok(());
        }
        let first = fallen.segments.iter().next().map(|(segment, _)| (segment, fallen.row.0));
        let (segment, row) = fallen.origin.map(|row| (row, 0)).or(first).unzip();
        if state.seen.insert((fallen.operator.0, segment, row.unwrap_or(fallen.row.0)))
            && state.first.len() < LETTERS_SHOWN
        {
            state.first.push(letter.brief());
        }
        if self.inner.recorded {
            state.queue.push(letter.clone());
        }
        state.last = Some((letter.operator.clone(), place(&letter), Arc::clone(fallen.cause)));
        let rows = state.before + state.seen.len() as u64;
        if rows > self.inner.most.unwrap_or(GIVEN_UP_MAX).min(GIVEN_UP_MAX) {
            Err(self.spent(rows, &state))
        } else {
            Ok(())
        }
    }

    /// Parts of the input are given up.
    pub(crate) fn skip(&self, run: u32, skips: impl Iterator<Item = Skip>) {
        let mut state = self.lock();
        if self.inner.recorded && run == state.run {
            state.skips.extend(skips);
        }
    }

    /// Judges the end of a job that read so many rows.
    ///
    /// # Errors
    /// If too many of them were given up.
    pub(crate) fn check(&self, read: Rows) -> Result<(), JobError> {
        let state = self.lock();
        let rows = state.seen.len() as u64;
        let within = self.inner.most.is_some() || rows <= self.inner.budget.of(read.0);
        if within { Ok(()) } else { Err(self.spent(rows, &state)) }
    }

    fn spent(&self, rows: u64, state: &State) -> JobError {
        let nobody_knows = || (String::new(), String::new(), Arc::new("nobody knows why".into()));
        let (operator, input, cause) = state.last.clone().unwrap_or_else(nobody_knows);
        JobError::ErrorBudget { rows, budget: self.inner.budget.to_string(), operator: operator.into(), input, cause }
    }

    fn letter(&self, fallen: &Fallen<'_>) -> DeadLetter {
        let place = |segment: Segment| {
            let splits = self.inner.places.get(segment.source as usize);
            let (input, first) =
                splits.and_then(|splits| splits.get(segment.split as usize)).cloned().unwrap_or_default();
            Place { input: input.to_string(), first, segment }
        };
        let places: Vec<Place> = match fallen.origin {
            Some(row) => vec![place(row)],
            None => fallen.segments.iter().take(PLACES_MAX).map(|(segment, _)| place(segment)).collect(),
        };
        DeadLetter {
            operator: fallen.operator.1.to_owned(),
            places,
            attempts: fallen.attempts,
            error: cut(texts(&***fallen.cause).join(": "), ERROR_BYTES_MAX),
        }
    }

    /// What nobody has recorded yet.
    pub(crate) fn take(&self) -> (Vec<DeadLetter>, Vec<Skip>) {
        let mut state = self.lock();
        (std::mem::take(&mut state.queue), std::mem::take(&mut state.skips))
    }

    /// How many rows.
    pub(crate) fn count(&self) -> u64 {
        let state = self.lock();
        state.before + state.seen.len() as u64
    }

    /// How many rows, and the first of them that this process gave up.
    pub(crate) fn picture(&self) -> (u64, Vec<DeadLetter>) {
        let state = self.lock();
        (state.before + state.seen.len() as u64, state.first.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where it comes from, for errors.
fn place(letter: &DeadLetter) -> String {
    match (letter.places.first(), letter.row()) {
        (Some(place), Some(_)) => format!("{}, row {}", place.input, place.rows().0),
        (Some(place), None) => place.input.clone(),
        (None, _) => "a row".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{OperatorPlan, Resources, Workers};
    use crate::operator::{FileRows, SourceSpec};
    use crate::units::Bytes;

    fn topology(budget: ErrorBudget, rows: Option<u64>) -> Topology {
        let split = |label: &str| Split {
            label: label.into(),
            rows: rows.map(Rows),
            bytes: Bytes(9),
            payload: Vec::new(),
            file: None,
        };
        let second = FileRows { name: "a.parquet".into(), first: Rows(100) };
        let splits =
            vec![split("a.parquet, row group 0"), Split { file: Some(second), ..split("a.parquet, row group 1") }];
        let logic = Logic::Read { source: SourceSpec::named("files@1", Vec::new()), splits, chain: Vec::new() };
        let read = OperatorPlan {
            name: "read".into(),
            inputs: Vec::new(),
            logic,
            workers: Workers { min: 1, max: 1 },
            resources: Resources::default(),
            ordered: true,
        };
        let failures = FailurePolicy { budget, ..FailurePolicy::default() };
        Topology { operators: vec![read], failures, ..Topology::default() }
    }

    fn give_up(given_up: &GivenUp, run: u32, row: u64) -> Result<(), JobError> {
        let segments = Segments::one(Segment { source: 0, split: 1, from: Rows(row), to: Rows(row + 1) });
        let (operator, cause) = ((0, "read"), Arc::new(BoxError::from("bad row")));
        given_up.add(&Fallen {
            operator,
            run,
            row: Rows(row),
            segments: &segments,
            origin: None,
            attempts: 5,
            cause: &cause,
        })
    }

    #[test]
    fn the_row_that_is_one_too_many_is_named() {
        let given_up = GivenUp::of(&topology(ErrorBudget::Rows(2), None), 1);
        give_up(&given_up, 0, 7).unwrap();
        let error = give_up(&given_up, 0, 9).unwrap_err().to_string();
        let expected = "3 rows were given up and the error budget is 2 rows; the last was a.parquet, row 109, \
                        at operator \"read\": bad row";
        assert_eq!(error, expected);
        let (rows, letters) = given_up.picture();
        let first = "a.parquet, row 107: operator \"read\", 5 attempts: bad row";
        assert_eq!((rows, letters.first().map(ToString::to_string)), (3, Some(first.to_owned())));
        assert!(given_up.take().0.is_empty(), "nobody records it");
    }

    #[test]
    fn a_row_that_a_later_run_gives_up_again_counts_once_and_late_news_of_earlier_runs_none() {
        let given_up = GivenUp::of(&topology(ErrorBudget::Rows(1), None), 0);
        give_up(&given_up, 0, 7).unwrap();
        given_up.begin(1);
        give_up(&given_up, 0, 8).unwrap();
        give_up(&given_up, 1, 7).unwrap();
        assert_eq!(given_up.picture().0, 1);
        assert!(give_up(&given_up, 1, 8).is_err());
    }

    #[test]
    fn a_share_is_judged_at_once_where_the_rows_are_known_else_at_the_end() {
        let known = GivenUp::of(&topology(ErrorBudget::Percent(1.0), Some(100)), 0);
        (1..3).for_each(|row| give_up(&known, 0, row).unwrap());
        assert!(give_up(&known, 0, 3).is_err());
        let unknown = GivenUp::of(&topology(ErrorBudget::Percent(1.0), None), 0);
        (0..3).for_each(|row| give_up(&unknown, 0, row).unwrap());
        assert!(unknown.check(Rows(299)).is_err());
        assert!(unknown.check(Rows(300)).is_ok());
        assert!(ErrorBudget::Percent(f64::NAN).is_zero() && ErrorBudget::default().is_zero());
    }

    #[test]
    fn long_errors_are_cut_and_places_are_few() {
        let given_up = GivenUp::of(&topology(ErrorBudget::Rows(9), None), 0);
        let mut segments = Segments::default();
        for from in (0..100).step_by(2) {
            segments.append(&Segments::one(Segment { source: 0, split: 0, from: Rows(from), to: Rows(from + 1) }));
        }
        let (operator, cause) = ((3, "score"), Arc::new(BoxError::from("x".repeat(5000))));
        let fallen =
            Fallen { operator, run: 0, row: Rows(0), segments: &segments, origin: None, attempts: 1, cause: &cause };
        let letter = given_up.letter(&fallen);
        assert_eq!((letter.places.len(), letter.row()), (PLACES_MAX, None));
        assert!(letter.error.len() < 1100);
    }
}
