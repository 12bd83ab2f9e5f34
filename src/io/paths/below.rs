//! The part of a glob from its first `**` on, matched name by name on the way down. Pure.
//!
//! Two directories that are the same one, reached by the same [`Reached`], hold the same matches: a walk that looks at
//! each pair once ends, whatever links there are, and misses nothing.

use std::collections::BTreeSet;
use std::path::{Component, Path};

use glob::{Pattern, PatternError};

/// The components of the pattern.
#[derive(Debug)]
pub(super) struct Below {
    steps: Vec<Step>,
    /// Files are no match.
    directories: bool,
}

#[derive(Debug)]
enum Step {
    /// `**`: any directories, or none.
    Any,
    One(Pattern),
}

/// How many components of the pattern a path may stand for: all the ways it can be read.
pub(super) type Reached = BTreeSet<usize>;

impl Below {
    /// `directories`: the pattern ends in a slash.
    pub(super) fn new(pattern: &Path, directories: bool) -> Result<Self, PatternError> {
        let step = |component: Component<'_>| match component.as_os_str().to_string_lossy() {
            name if name == "**" => Ok(Step::Any),
            name => Pattern::new(&name).map(Step::One),
        };
        let steps = pattern.components().map(step).collect::<Result<Vec<_>, _>>()?;
        let directories = directories || matches!(steps.last(), Some(Step::Any));
        Ok(Self { steps, directories })
    }

    /// Of the directory that all is below.
    pub(super) fn start(&self) -> Reached {
        self.closed([0].into())
    }

    /// Of an entry of a directory.
    pub(super) fn step(&self, from: &Reached, name: &str) -> Reached {
        let next = from.iter().filter_map(|&at| match self.steps.get(at)? {
            Step::Any => Some(at),
            Step::One(pattern) => pattern.matches(name).then_some(at + 1),
        });
        self.closed(next.collect())
    }

    pub(super) fn is_match(&self, reached: &Reached, is_dir: bool) -> bool {
        reached.contains(&self.steps.len()) && (is_dir || !self.directories)
    }

    /// `**` may stand for nothing.
    fn closed(&self, mut reached: Reached) -> Reached {
        for (at, step) in self.steps.iter().enumerate() {
            if matches!(step, Step::Any) && reached.contains(&at) {
                reached.insert(at + 1);
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, path: &str) -> bool {
        let below = Below::new(Path::new(pattern), false).unwrap();
        let reached = path.split('/').fold(below.start(), |reached, name| below.step(&reached, name));
        below.is_match(&reached, false)
    }

    #[test]
    fn a_pattern_that_ends_in_any_directories_has_no_files() {
        let below = Below::new(Path::new("**/x/**"), false).unwrap();
        let reached = ["a", "x"].iter().fold(below.start(), |reached, name| below.step(&reached, name));
        assert!(below.is_match(&reached, true) && !below.is_match(&reached, false));
        assert!(!below.is_match(&below.start(), true));
        let all = Below::new(Path::new("**"), false).unwrap();
        assert!(all.is_match(&all.start(), true));
    }

    proptest! {
        #[test]
        fn paths_match_as_the_whole_pattern_does(
            pattern in "(\\*\\*|a|\\*|\\*a|\\?b)(/(\\*\\*|a|\\*|\\*a|\\?b)){0,3}/(a|\\*|\\*a)",
            path in "[ab]{1,2}(/[ab]{1,2}){0,4}",
        ) {
            let options = glob::MatchOptions { require_literal_separator: true, ..glob::MatchOptions::new() };
            let whole = Pattern::new(&pattern).unwrap().matches_with(&path, options);
            prop_assert_eq!(matches(&pattern, &path), whole, "{} {}", pattern, path);
        }
    }
}
