//! What a job that writes is to do, as it is kept beside its output: pure. The same command run again must find itself
//! here, and another one must be told what differs.

use mobula_actors::function::encode;
use mobula_actors::job::{Logic, Topology};
use mobula_actors::operator::{OperatorSpec, Recipe, SourceRecipe};
use mobula_actors::units::Bytes;
use serde::{Deserialize, Serialize};

use super::{Format, Publish, WriteMode, WriteOptions};
use crate::io::error::IoResult;
use crate::io::scan::InputFile;

/// The plan of a job that writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JobPlan {
    /// The name that the user gave the job.
    job: Option<String>,
    pub(super) format: Format,
    pub(super) mode: WriteMode,
    pub(super) publish: Publish,
    /// The options of the format.
    options: String,
    /// The columns, each `name type`.
    columns: Vec<String>,
    steps: Vec<Step>,
    /// In the order of the reads.
    files: Vec<InputFile>,
    sources: Vec<Cut>,
    /// What splits were cut to.
    pub(crate) block_bytes: Bytes,
    /// Whether each row of the input is read: a limit stops anywhere.
    pub(super) reads_all: bool,
    /// Jobs beside the same output whose dead letters it reads.
    pub(crate) replays: Vec<u64>,
    /// The command that began it, if one did. What it does is in the rest of the plan, so this is not compared.
    pub(super) command: Option<Command>,
}

/// A command as it was typed, for one that does the same to other rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[doc(hidden)]
pub struct Command {
    /// Its arguments, from the name of the command on. Paths of files that are read are absolute.
    pub args: Vec<String>,
}

/// A step, by what it does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Step {
    label: String,
    /// Of its name and parameters; `None` for code of this process, which cannot be compared.
    hash: Option<u64>,
    /// What its parameters name by hash: a model.
    objects: Vec<(String, String)>,
}

/// How a source was cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    splits: u32,
    hash: u64,
}

impl JobPlan {
    /// The plan of a topology that has no sink yet.
    pub(crate) fn of(
        topology: &Topology,
        files: Vec<InputFile>,
        columns: Vec<String>,
        (format, options): (Format, &WriteOptions),
        block_bytes: Bytes,
    ) -> Self {
        let operators = || topology.operators.iter().map(|plan| &plan.logic);
        Self {
            job: options.job.clone(),
            format,
            mode: options.mode,
            publish: options.publish,
            options: options.of_format(format),
            columns,
            steps: operators().flat_map(steps).collect(),
            files,
            sources: operators().filter_map(cut).collect(),
            block_bytes,
            reads_all: !operators().any(|logic| matches!(logic, Logic::Limit(_))),
            replays: Vec::new(),
            command: options.command.clone(),
        }
    }

    /// A plan that reads nothing, for tests of what is written.
    #[cfg(test)]
    pub(crate) fn nothing(format: Format, options: &WriteOptions) -> Self {
        Self::of(&Topology::default(), Vec::new(), Vec::new(), (format, options), Bytes(0))
    }

    /// Puts a step into it that cannot be compared.
    #[cfg(test)]
    pub(super) fn make_unknown(&mut self) {
        self.steps.push(Step { label: "local(..)".to_owned(), hash: None, objects: Vec::new() });
    }

    /// XXH3 of all of it.
    pub(super) fn hash(&self) -> u64 {
        hash(self)
    }

    /// Splits of each source.
    pub(super) fn splits(&self) -> Vec<u32> {
        self.sources.iter().map(|cut| cut.splits).collect()
    }

    /// The first thing that differs, in words; `None` if `now` does the same.
    pub(super) fn difference(&self, now: &Self) -> Option<String> {
        setting("the name of the job", &self.job, &now.job)
            .or_else(|| setting("the format", &self.format, &now.format))
            .or_else(|| setting("the mode", &Words(mode(self.mode)), &Words(mode(now.mode))))
            .or_else(|| setting("what becomes visible", &Words(publish(self.publish)), &Words(publish(now.publish))))
            .or_else(|| setting("the options of the format", &self.options, &now.options))
            .or_else(|| setting("the jobs whose dead letters it replays", &self.replays, &now.replays))
            .or_else(|| self.steps_differ(now))
            .or_else(|| setting("the columns of the output", &self.columns, &now.columns))
            .or_else(|| self.files_differ(now))
            .or_else(|| (self.sources != now.sources).then(|| "the input is cut into other splits".to_owned()))
    }

    /// Whether it is the same but for what is done with files that are there.
    pub(super) fn does_same(&self, now: &Self) -> bool {
        Self { mode: now.mode, ..self.clone() }.difference(now).is_none() && now.unknown().is_none()
    }

    /// Whether neither hinders the other: both add to what is there.
    pub(super) fn appends_beside(&self, other: &Self) -> bool {
        self.mode == WriteMode::Append && other.mode == WriteMode::Append
    }

    /// What differs of the rows that are written, in words.
    pub(super) fn output_differs(&self, now: &Self) -> Option<String> {
        setting("the format", &self.format, &now.format)
            .or_else(|| setting("the columns of the output", &self.columns, &now.columns))
    }

    fn steps_differ(&self, now: &Self) -> Option<String> {
        let pairs = self.steps.iter().zip(&now.steps).enumerate();
        let differs =
            |(at, (was, is)): (usize, (&Step, &Step))| was.differs(is).map(|how| format!("step {}, {how}", at + 1));
        pairs.into_iter().find_map(differs).or_else(|| {
            let (was, is) = (self.steps.len(), now.steps.len());
            (was != is).then(|| format!("it had {was} steps and has {is}"))
        })
    }

    fn files_differ(&self, now: &Self) -> Option<String> {
        let pairs = self.files.iter().zip(&now.files);
        let changed = pairs.into_iter().find_map(|(was, is)| was.differs(is));
        changed.or_else(|| {
            let (was, is) = (self.files.len(), now.files.len());
            let extra =
                |longer: &Self, from: usize| longer.files.get(from).map(|file| file.path.clone()).unwrap_or_default();
            match was.cmp(&is) {
                std::cmp::Ordering::Less => Some(format!("the input file {} is new", extra(now, was))),
                std::cmp::Ordering::Greater => Some(format!("the input file {} is gone", extra(self, is))),
                std::cmp::Ordering::Equal => None,
            }
        })
    }

    /// The first step that cannot be compared with that of an earlier run, unless the user named the job.
    pub(super) fn unknown(&self) -> Option<&str> {
        let unknown = self.steps.iter().find(|step| step.hash.is_none());
        unknown.filter(|_| self.job.is_none()).map(|step| step.label.as_str())
    }
}

/// Words that are not quoted.
struct Words(&'static str);

impl std::fmt::Debug for Words {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

fn mode(mode: WriteMode) -> &'static str {
    match mode {
        WriteMode::Error => "to refuse a folder that is not empty",
        WriteMode::Append => "append",
        WriteMode::Overwrite => "overwrite",
    }
}

fn publish(publish: Publish) -> &'static str {
    match publish {
        Publish::AtEnd => "all at the end",
        Publish::AsWritten => "each file as it is written",
    }
}

/// How a setting differs, in words.
fn setting(what: &str, was: &impl std::fmt::Debug, is: &impl std::fmt::Debug) -> Option<String> {
    let (was, is) = (format!("{was:?}"), format!("{is:?}"));
    (was != is).then(|| format!("{what} was {was} and is {is}"))
}

impl Step {
    fn differs(&self, now: &Self) -> Option<String> {
        let (was, is) = (&self.label, &now.label);
        if was != is {
            return Some(format!("{was:?} before, is {is:?} now"));
        }
        // How its path is spelled does not count.
        let changed = self.objects.iter().zip(&now.objects).find(|((_, had), (_, has))| had != has);
        if let Some(((object, had), (_, has))) = changed {
            return Some(format!("{is:?}: {object} changed (it was {had} and is {has})"));
        }
        let is_same = self.hash == now.hash && self.objects.len() == now.objects.len();
        (!is_same).then(|| format!("{is:?}, has other parameters"))
    }
}

/// The steps of an operator, flat: which of them share an operator depends on the machine.
fn steps(logic: &Logic) -> Vec<Step> {
    let plain = |label: String| Step { hash: Some(hash(&label)), label, objects: Vec::new() };
    match logic {
        Logic::Read { source, chain, .. } => {
            let hash = match &source.recipe {
                SourceRecipe::Named { name, params } => Some(hash(&(name, params.as_ref()))),
                SourceRecipe::Local { .. } => None,
            };
            // Paths are spelled in many ways: which files are read is said by the splits, and which they are by `files`.
            let label = match &source.recipe {
                SourceRecipe::Named { .. } => source.label.split(' ').next().unwrap_or_default().to_owned(),
                SourceRecipe::Local { .. } => source.label.clone(),
            };
            let read = Step { label, hash, objects: Vec::new() };
            std::iter::once(read).chain(chain.iter().map(step)).collect()
        }
        Logic::Map { chain, .. } => chain.iter().map(step).collect(),
        Logic::Limit(rows) => vec![plain(format!("limit {rows}"))],
        Logic::Union => vec![plain("union".to_owned())],
    }
}

fn step(spec: &OperatorSpec) -> Step {
    let batch = spec.batch.rows().map_or(0, |rows| rows.get() as u64);
    let hash = match &spec.recipe {
        Recipe::Named { name, params } => Some(hash(&(name, params.as_ref(), batch))),
        Recipe::Local { .. } | Recipe::Actor(_) => None,
    };
    let object = |object: &mobula_actors::operator::Object| {
        let name = object.name();
        (object.label().to_owned(), format!("{} of {} bytes", short(&format!("{:?}", name.id)), name.bytes))
    };
    Step { label: spec.label.clone(), hash, objects: spec.objects.iter().map(object).collect() }
}

/// The first digits of a hash: enough to tell two apart.
fn short(text: &str) -> String {
    text.chars().filter(char::is_ascii_hexdigit).take(12).collect()
}

fn cut(logic: &Logic) -> Option<Cut> {
    let Logic::Read { splits, .. } = logic else { return None };
    Some(Cut { splits: splits.len() as u32, hash: splits.iter().fold(0, |all, split| hash(&(all, &split.payload))) })
}

fn hash(value: &impl Serialize) -> u64 {
    // What cannot be encoded is as good as empty: its name and label are compared all the same.
    xxhash_rust::xxh3::xxh3_64(&encode(value).unwrap_or_default())
}

/// The plan as it is kept, with the XXH3 of the bytes behind them.
pub(super) fn to_bytes(plan: &JobPlan) -> IoResult<Vec<u8>> {
    let mut bytes = encode(&(VERSION, plan)).map_err(|e| crate::io::IoError::Internal(e.to_string()))?;
    bytes.extend(xxhash_rust::xxh3::xxh3_64(&bytes).to_le_bytes());
    Ok(bytes)
}

/// What [`to_bytes`] made, by this version, if it is whole.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<JobPlan> {
    let (bytes, sum) = bytes.split_last_chunk::<8>()?;
    if xxhash_rust::xxh3::xxh3_64(bytes) != u64::from_le_bytes(*sum) {
        return None;
    }
    let (version, plan) = mobula_actors::function::decode::<(u32, JobPlan)>(bytes).ok()?;
    (version == VERSION).then_some(plan)
}

/// Of the encoding of plans.
const VERSION: u32 = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use mobula_actors::job::{OperatorPlan, Resources, Workers};
    use mobula_actors::operator::{Object, SourceSpec, Split};
    use mobula_actors::units::Rows;

    fn plan(chain: Vec<OperatorSpec>, files: &[(&str, u64)]) -> JobPlan {
        let split = |(path, size): &(&str, u64)| Split {
            label: (*path).to_owned(),
            rows: Some(Rows(*size)),
            bytes: Bytes(*size),
            payload: size.to_le_bytes().to_vec(),
            file: None,
        };
        let splits = files.iter().map(split).collect();
        let logic = Logic::Read { source: SourceSpec::named("files@1", vec![1]).labelled("read x"), splits, chain };
        let workers = Workers { min: 1, max: 1 };
        let read = OperatorPlan {
            name: "read".into(),
            inputs: Vec::new(),
            logic,
            workers,
            resources: Resources::default(),
            ordered: true,
        };
        let topology = Topology { operators: vec![read], ..Topology::default() };
        let files =
            files.iter().map(|(path, size)| InputFile { path: (*path).to_owned(), size: *size, modified_ns: 7 });
        JobPlan::of(
            &topology,
            files.collect(),
            vec!["a Int64".into()],
            (Format::Parquet, &WriteOptions::default()),
            Bytes(9),
        )
    }

    #[test]
    fn a_plan_that_is_damaged_anywhere_is_none() {
        let bytes = to_bytes(&plan(Vec::new(), &[("a.parquet", 5)])).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 4;
            assert_eq!(from_bytes(&damaged), None, "byte {at}");
        }
        assert_eq!(from_bytes(&bytes[..bytes.len() - 1]), None);
    }

    fn named(label: &str, params: u8, model: &[u8]) -> OperatorSpec {
        OperatorSpec::named("mine@1", vec![params])
            .labelled(label)
            .with_object(Object::new("digits.onnx", model.to_vec()))
    }

    fn check(was: &JobPlan, is: &JobPlan, expected: &str) {
        let difference = was.difference(is).unwrap_or_default();
        assert!(difference.contains(expected) || expected.is_empty() && difference.is_empty(), "{difference}");
        assert_eq!(from_bytes(&to_bytes(was).unwrap()).as_ref(), Some(was));
    }

    #[test]
    fn what_differs_is_named() {
        let files = [("a", 1), ("b", 2)];
        let was = plan(vec![named("score", 1, b"model")], &files);
        check(&was, &was.clone(), "");
        check(
            &was,
            &plan(vec![named("score > 2", 1, b"model")], &files),
            "step 2, \"score\" before, is \"score > 2\" now",
        );
        check(&was, &plan(vec![named("score", 2, b"model")], &files), "step 2, \"score\", has other parameters");
        check(&was, &plan(vec![named("score", 1, b"other")], &files), "digits.onnx changed (it was ");
        check(&was, &plan(vec![], &files), "it had 2 steps and has 1");
        check(
            &was,
            &plan(vec![named("score", 1, b"model")], &[("a", 1), ("b", 3)]),
            "the input file b changed: it had 2 bytes and has 3",
        );
        check(&was, &plan(vec![named("score", 1, b"model")], &[("a", 1)]), "the input file b is gone");
        check(
            &was,
            &plan(vec![named("score", 1, b"model")], &[("a", 1), ("b", 2), ("c", 1)]),
            "the input file c is new",
        );
    }

    #[test]
    fn code_of_this_process_cannot_be_compared_unless_the_job_has_a_name() {
        let local = OperatorSpec::local("local(..)", || Err("not built".into()));
        let mut plan = plan(vec![local], &[("a", 1)]);
        assert_eq!(plan.unknown(), Some("local(..)"));
        plan.job = Some("nightly".into());
        assert_eq!(plan.unknown(), None);
    }
}
