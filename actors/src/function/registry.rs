//! The registry of operators, sources and actors in this binary, filled at link time by `#[mobula::remote]`,
//! `#[mobula::operator]`, `#[mobula::source]` and `#[mobula::actor]`.
//!
//! A library whose items are never mentioned is not linked at all, and its operators are then missing here: mention
//! it (`use my_operators as _;`) in the program.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use futures::future::BoxFuture;
use linkme::distributed_slice;
use mobula_transport::codec;
use serde::{Serialize, de::DeserializeOwned};

use crate::actor::{AnyHosted, HostRequest};
use crate::operator::{BoxError, Operator, Source};
use crate::task::TaskEntry;
use crate::units::Bytes;

/// One registered operator.
pub struct OperatorEntry {
    /// Its name: module path and identifier.
    pub name: &'static str,
    /// Where it stands in the source, `file:line`, for the error of two operators of one name.
    pub place: &'static str,
    /// Builds it from encoded parameters.
    pub build: BuildOperator,
}

/// Builds an operator from its encoded parameters.
pub type BuildOperator = fn(&[u8]) -> Result<Box<dyn Operator>, BoxError>;

/// One registered source.
pub struct SourceEntry {
    /// Its name: module path and identifier.
    pub name: &'static str,
    /// Where it stands in the source code, `file:line`, for the error of two of one name.
    pub place: &'static str,
    /// Builds it from encoded parameters.
    pub build: BuildSource,
}

/// Builds a source from its encoded parameters.
pub type BuildSource = fn(&[u8]) -> Result<Arc<dyn Source>, BoxError>;

/// One registered kind of actor.
pub struct ActorEntry {
    /// Its name: module path and identifier.
    pub name: &'static str,
    /// Where it stands in the source code, `file:line`, for the error of two of one name.
    pub place: &'static str,
    /// Starts one.
    pub build: StartActor,
}

/// Starts an actor: its guardian and its first incarnation.
pub type StartActor = fn(HostRequest) -> BoxFuture<'static, Result<Arc<dyn AnyHosted>, BoxError>>;

/// All operators linked into this binary.
#[distributed_slice]
pub static OPERATORS: [OperatorEntry];

/// All sources linked into this binary.
#[distributed_slice]
pub static SOURCES: [SourceEntry];

/// All kinds of actors linked into this binary.
#[distributed_slice]
pub static ACTORS: [ActorEntry];

/// All functions linked into this binary that can be tasks.
#[distributed_slice]
pub static TASKS: [TaskEntry];

/// Parameters of one operator are a few numbers and names; models and tables travel as objects.
const PARAMS_BYTES_MAX: Bytes = Bytes::mib(16);

/// Encodes the parameters of an operator.
///
/// # Errors
/// If they are larger than 16 MiB or of a shape that the wire encoding cannot hold.
pub fn encode<T: Serialize>(params: &T) -> Result<Vec<u8>, BoxError> {
    Ok(codec::encode(params, PARAMS_BYTES_MAX.0 as usize)?)
}

/// Decodes what [`encode`] made.
///
/// # Errors
/// If the bytes are not such parameters.
pub fn decode<T: DeserializeOwned>(params: &[u8]) -> Result<T, BoxError> {
    Ok(codec::decode(params, PARAMS_BYTES_MAX.0 as usize)?)
}

/// Builds the operator registered under `name`.
///
/// # Errors
/// If there is none, naming those there are; if two entries of this binary have one name; if the
/// parameters do not decode.
pub fn build(name: &str, params: &[u8]) -> Result<Box<dyn Operator>, BoxError> {
    let build = find("operator", name, |entry| match entry {
        Registered::Operator(entry) => Some(entry.build),
        Registered::Source(_) | Registered::Actor(_) => None,
    })?;
    build(params).map_err(|e| format!("parameters of operator {name:?}: {e}").into())
}

/// Builds the source registered under `name`.
///
/// # Errors
/// As [`build`].
pub fn build_source(name: &str, params: &[u8]) -> Result<Arc<dyn Source>, BoxError> {
    let build = find("source", name, |entry| match entry {
        Registered::Source(entry) => Some(entry.build),
        Registered::Operator(_) | Registered::Actor(_) => None,
    })?;
    build(params).map_err(|e| format!("parameters of source {name:?}: {e}").into())
}

/// What starts actors of the kind registered under `name`.
///
/// # Errors
/// If there is none, naming those there are; if two entries of this binary have one name.
pub(crate) fn actor(name: &str) -> Result<StartActor, BoxError> {
    find("actor", name, |entry| match entry {
        Registered::Actor(entry) => Some(entry.build),
        Registered::Operator(_) | Registered::Source(_) => None,
    })
}

/// The function registered under `name`, as a task.
///
/// # Errors
/// If there is none, or two of this binary have the name.
pub(crate) fn task(name: &str) -> Result<&'static TaskEntry, BoxError> {
    static BY_NAME: OnceLock<Result<BTreeMap<&'static str, &'static TaskEntry>, String>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| index_tasks(&TASKS)).as_ref().map_err(String::clone)?;
    by_name.get(name).copied().ok_or_else(|| {
        let known: Vec<_> = by_name.keys().copied().collect();
        format!("no remote function {name:?} in this binary; it has: {}", known.join(", ")).into()
    })
}

/// A function is an operator and a task under one name, so tasks have an index of their own.
fn index_tasks(tasks: &'static [TaskEntry]) -> Result<BTreeMap<&'static str, &'static TaskEntry>, String> {
    let mut by_name = BTreeMap::new();
    for entry in tasks {
        if let Some(other) = by_name.insert(entry.name, entry) {
            let (name, here, there) = (entry.name, other.place, entry.place);
            return Err(format!(
                "two remote functions are named {name:?}: at {here} and at {there}; rename one of them"
            ));
        }
    }
    Ok(by_name)
}

/// The names of all operators, sources and actors of this binary, sorted: what two nodes compare before they
/// work together.
pub fn names() -> Vec<String> {
    let names = OPERATORS.iter().map(|entry| entry.name).chain(SOURCES.iter().map(|entry| entry.name));
    let mut names: Vec<_> = names.chain(ACTORS.iter().map(|entry| entry.name)).map(str::to_owned).collect();
    names.extend(TASKS.iter().map(|entry| entry.name.to_owned()));
    names.sort_unstable();
    names.dedup();
    names
}

/// Whether an operator of this name is in this binary.
pub(crate) fn is_operator(name: &str) -> bool {
    OPERATORS.iter().any(|entry| entry.name == name)
}

/// An entry of any kind: they share their names, so that a name means one thing wherever it is printed.
#[derive(Clone, Copy)]
enum Registered {
    Operator(&'static OperatorEntry),
    Source(&'static SourceEntry),
    Actor(&'static ActorEntry),
}

impl Registered {
    fn name(self) -> &'static str {
        match self {
            Self::Operator(entry) => entry.name,
            Self::Source(entry) => entry.name,
            Self::Actor(entry) => entry.name,
        }
    }

    fn place(self) -> &'static str {
        match self {
            Self::Operator(entry) => entry.place,
            Self::Source(entry) => entry.place,
            Self::Actor(entry) => entry.place,
        }
    }
}

type ByName = BTreeMap<&'static str, Registered>;

/// What `pick` takes of the entry named `name`; the error lists the names of which it takes something.
fn find<T>(kind: &str, name: &str, pick: fn(Registered) -> Option<T>) -> Result<T, BoxError> {
    static BY_NAME: OnceLock<Result<ByName, String>> = OnceLock::new();
    let by_name = BY_NAME.get_or_init(|| index(&OPERATORS, &SOURCES, &ACTORS)).as_ref().map_err(String::clone)?;
    by_name.get(name).copied().and_then(pick).ok_or_else(|| {
        let known: Vec<_> = by_name.values().filter(|e| pick(**e).is_some()).map(|e| e.name()).collect();
        format!("no {kind} {name:?} in this binary; it has: {}", known.join(", ")).into()
    })
}

/// Two entries of one name would make a spec mean one thing here and another elsewhere, so they are an error.
fn index(
    operators: &'static [OperatorEntry],
    sources: &'static [SourceEntry],
    actors: &'static [ActorEntry],
) -> Result<ByName, String> {
    let mut by_name = ByName::new();
    let operators = operators.iter().map(Registered::Operator);
    let sources = sources.iter().map(Registered::Source);
    for entry in operators.chain(sources).chain(actors.iter().map(Registered::Actor)) {
        if let Some(other) = by_name.insert(entry.name(), entry) {
            let (name, here, there) = (entry.name(), other.place(), entry.place());
            return Err(format!(
                "two operators, sources or actors are named {name:?}: at {here} and at {there}; rename one of them"
            ));
        }
    }
    Ok(by_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn operator(place: &'static str) -> OperatorEntry {
        OperatorEntry { name: "score", place, build: |_| Err("never built".into()) }
    }

    const fn actor(place: &'static str) -> ActorEntry {
        ActorEntry { name: "score", place, build: |_| Box::pin(async { Err("never built".into()) }) }
    }

    const fn source(place: &'static str) -> SourceEntry {
        SourceEntry { name: "score", place, build: |_| Err("never built".into()) }
    }

    #[test]
    fn two_entries_of_one_name_are_an_error_that_names_both_places() {
        static OPERATORS: [OperatorEntry; 2] = [operator("a.rs:1"), operator("b.rs:2")];
        static SOURCES: [SourceEntry; 2] = [source("c.rs:3"), source("d.rs:4")];
        static ACTORS: [ActorEntry; 1] = [actor("e.rs:5")];
        let expect = |operators, sources, actors, places: &str| {
            let error = index(operators, sources, actors).err().expect("refused");
            let expected =
                format!("two operators, sources or actors are named \"score\": {places}; rename one of them");
            assert_eq!(error, expected);
        };
        expect(&OPERATORS, &[], &[], "at a.rs:1 and at b.rs:2");
        expect(&[], &SOURCES, &[], "at c.rs:3 and at d.rs:4");
        expect(&OPERATORS[..1], &SOURCES[..1], &[], "at a.rs:1 and at c.rs:3");
        expect(&OPERATORS[..1], &[], &ACTORS, "at a.rs:1 and at e.rs:5");
    }
}
