//! What a job keeps of how the rows of its dead letters were read: pure, but for its encoding.

use std::collections::BTreeMap;

use mobula_actors::block::Segment;
use mobula_actors::function::{decode, encode};
use mobula_actors::job::{DeadLetter, Logic, Topology};
use mobula_actors::operator::{SourceRecipe, Split};
use serde::{Deserialize, Serialize};

use super::picked::unwrapped;
use crate::io::error::{IoError, IoResult};

/// How the rows of a job's dead letters were read.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(super) sources: Vec<KeptSource>,
    /// The splits that letters name, each with its source, in the order of the plan.
    pub(super) splits: Vec<(u32, Split)>,
    pub(super) rows: Vec<KeptRows>,
}

/// A source of the job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptSource {
    pub(super) label: String,
    /// Name and parameters; `None` for rows that only the job's own process had.
    pub(super) recipe: Option<(String, Vec<u8>)>,
}

/// Rows of a split that letters name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeptRows {
    /// By its position among the splits that are kept.
    pub(super) split: u32,
    pub(super) from: u64,
    /// [`Segment::END`] for all there are.
    pub(super) to: u64,
    /// The operator that failed, where only one of the rows did and nobody knows which.
    pub(super) one_of: Option<String>,
}

/// The sources of a job that may give rows up, in the order of its plan.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<(KeptSource, Vec<Split>)>);

impl Sources {
    pub(crate) fn of(topology: &Topology) -> Self {
        let read = |logic: &Logic| match logic {
            Logic::Read { source, splits, .. } => {
                let recipe = match &source.recipe {
                    SourceRecipe::Named { name, params } => Some((name.clone(), params.to_vec())),
                    SourceRecipe::Local { .. } => None,
                };
                Some((KeptSource { label: source.label.clone(), recipe }, splits.clone()))
            }
            _ => None,
        };
        Self(topology.operators.iter().filter_map(|plan| read(&plan.logic)).collect())
    }

    /// How the rows of these letters were read.
    pub(crate) fn keep(&self, letters: &[DeadLetter]) -> Kept {
        let mut splits = BTreeMap::<(u32, u32), Split>::new();
        let places =
            || letters.iter().flat_map(|letter| letter.places.iter().map(move |place| (letter, place.segment)));
        for (_, Segment { source, split, .. }) in places() {
            let found = self.0.get(source as usize).and_then(|(_, splits)| splits.get(split as usize));
            splits.extend(found.map(|found| ((source, split), found.clone())));
        }
        let rows = places().filter_map(|(letter, Segment { source, split, from, to })| {
            let split = splits.keys().position(|key| *key == (source, split))? as u32;
            let one_of = letter.row().is_none().then(|| letter.operator.clone());
            Some(KeptRows { split, from: from.0, to: to.0, one_of })
        });
        let rows = rows.collect();
        let sources = self.0.iter().map(|(source, _)| source.clone()).collect();
        // Letters of a replay name the rows of the input itself, not those of what it replayed.
        unwrapped(Kept {
            sources,
            splits: splits.into_iter().map(|((source, _), split)| (source, split)).collect(),
            rows,
        })
    }
}

impl Kept {
    pub(crate) fn to_bytes(&self) -> IoResult<Vec<u8>> {
        encode(&(VERSION, self)).map_err(|e| IoError::Internal(e.to_string()))
    }

    /// What [`to_bytes`](Self::to_bytes) made, by this version.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (version, kept) = decode::<(u32, Self)>(bytes).ok()?;
        (version == VERSION).then_some(kept)
    }
}

/// Of the encoding.
const VERSION: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use mobula_actors::job::Place;
    use mobula_actors::units::{Bytes, Rows};

    fn letter(split: u32, from: u64, to: u64) -> DeadLetter {
        let segment = Segment { source: 0, split, from: Rows(from), to: Rows(to) };
        let places = vec![Place { input: format!("split {split}"), first: Rows(0), segment }];
        DeadLetter { operator: "score".into(), places, attempts: 4, error: "bad".into() }
    }

    #[test]
    fn only_splits_that_letters_name_are_kept() {
        let source = KeptSource { label: "read".into(), recipe: Some(("mine@1".into(), vec![1])) };
        let split = |n: u32| Split {
            label: format!("split {n}"),
            rows: None,
            bytes: Bytes(0),
            payload: vec![n as u8],
            file: None,
        };
        let sources = Sources(vec![(source, (0..9).map(split).collect())]);
        let kept = sources.keep(&[letter(7, 3, 4), letter(2, 0, u64::MAX), letter(7, 5, 6)]);
        assert_eq!(kept.splits, [(0, split(2)), (0, split(7))]);
        let rows: Vec<_> = kept.rows.iter().map(|rows| (rows.split, rows.from, rows.one_of.is_some())).collect();
        assert_eq!(rows, [(1, 3, false), (0, 0, true), (1, 5, false)]);
        assert_eq!(Kept::from_bytes(&kept.to_bytes().unwrap()), Some(kept));
    }
}
