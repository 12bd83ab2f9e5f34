//! Where an output lies in a store, and how its objects are named: pure.

use std::fmt;
use std::path::Path;

use mobula_actors::operator::TaskContext;
use serde::{Deserialize, Serialize};

use crate::io::error::{IoError, IoResult};
use crate::io::output::Format;
use crate::io::output::folder::HIDDEN;
use crate::io::paths::is_hidden_name;

/// A bucket and a prefix in it, written `s3://bucket/prefix`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) bucket: String,
    /// Without `/` at its ends; may be empty.
    pub(crate) prefix: String,
}

/// What the place of an output on a store begins with.
pub(crate) const SCHEME: &str = "s3://";

impl Place {
    /// The place that a path names; `None` if it names a folder.
    ///
    /// # Errors
    /// If it names a place that no store has.
    pub(crate) fn parse(path: &Path) -> IoResult<Option<Self>> {
        let Some(rest) = path.to_str().and_then(|path| path.strip_prefix(SCHEME)) else { return Ok(None) };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = prefix.trim_end_matches('/');
        let odd = |name: &str| name.is_empty() || name == "." || name == ".." || is_hidden_name(name);
        let reason = match bucket {
            "" => "it names no bucket",
            _ if prefix.is_empty() => "it names no prefix in the bucket",
            _ if prefix.split('/').any(odd) => {
                "a name in its prefix is empty or begins with `.` or `_`, which readers skip"
            }
            _ if prefix.contains(|c: char| c.is_control()) => "its prefix holds characters that cannot be printed",
            _ => return Ok(Some(Self { bucket: bucket.to_owned(), prefix: prefix.to_owned() })),
        };
        Err(IoError::StorePlace { path: path.to_owned(), reason })
    }

    /// The key of what has this name in the place.
    pub(crate) fn key(&self, name: &str) -> String {
        format!("{}/{name}", self.prefix)
    }

    /// Of something that one of its jobs keeps.
    pub(super) fn job_key(&self, job: u64, name: &str) -> String {
        format!("{}/{HIDDEN}/{job}/{name}", self.prefix)
    }

    /// Of what all jobs share.
    pub(super) fn hidden_key(&self, name: &str) -> String {
        format!("{}/{HIDDEN}/{name}", self.prefix)
    }

    /// The key as people write it.
    pub(crate) fn uri(&self, key: &str) -> String {
        format!("{SCHEME}{}/{key}", self.bucket)
    }

    /// The name of a key in this place; `None` if it lies elsewhere or deeper.
    pub(super) fn name_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        let name = key.strip_prefix(&self.prefix)?.strip_prefix('/')?;
        (!name.contains('/')).then_some(name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}", self.bucket, self.prefix)
    }
}

/// What the names of a job's parts begin with.
pub(super) fn parts_of(job: u64) -> String {
    format!("part-{job:05}-")
}

/// The name of an attempt, which is that of the part if it becomes one: an upload gets its key when it begins. `task` has
/// the number of the run in its upper bits, so within a job names sort by run, and within a run by task. `unique` tells two
/// attempts of a task apart.
pub(crate) fn part_name(job: u64, task: u64, unique: u64, format: Format) -> String {
    format!("{}{task:016x}-{unique:016x}.{}", parts_of(job), format.extension())
}

/// The job whose part has this name.
pub(super) fn job_of(name: &str) -> Option<u64> {
    let (job, _) = name.strip_prefix("part-")?.split_once('-')?;
    job.parse().ok()
}

/// The run that a part of this name was written in.
pub(super) fn run_of(name: &str) -> Option<u32> {
    let task = name.strip_prefix("part-")?.split('-').nth(1)?;
    u32::try_from(u64::from_str_radix(task, 16).ok()? >> TaskContext::RUN_SHIFT).ok()
}

/// The name of an object of the ledger.
pub(super) fn ledger_name(number: u64) -> String {
    format!("ledger/{number:08}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn refused(path: &str, expected: &str) {
        let error = Place::parse(Path::new(path)).unwrap_err().to_string();
        assert!(error.contains(path) && error.contains(expected), "{error}");
    }

    #[test]
    fn a_place_is_a_bucket_and_a_prefix() {
        assert_eq!(Place::parse(Path::new("out/s3")).unwrap(), None);
        let place = Place::parse(Path::new("s3://b/a/c/")).unwrap().unwrap();
        assert_eq!((place.to_string().as_str(), place.key("x").as_str()), ("s3://b/a/c", "a/c/x"));
        assert_eq!(place.job_key(3, &ledger_name(7)), "a/c/_mobula/3/ledger/00000007");
        assert_eq!((place.name_of("a/c/x"), place.name_of("a/c/d/x"), place.name_of("a/cx")), (Some("x"), None, None));
        refused("s3://", "no bucket");
        refused("s3://b", "no prefix");
        refused("s3://b/a//c", "empty");
        refused("s3://b/_a/c", "readers skip");
    }

    proptest! {
        /// Names sort by job, run and task, as far as the numbers have room.
        #[test]
        fn names_sort_as_their_numbers_do(
            one in (0u64..100_000, any::<u64>(), any::<u64>()),
            other in (0u64..100_000, any::<u64>(), any::<u64>()),
        ) {
            let name = |(job, task, unique): (u64, u64, u64)| part_name(job, task, unique, Format::Parquet);
            prop_assert_eq!(one.cmp(&other), name(one).cmp(&name(other)));
            prop_assert_eq!(job_of(&name(one)), Some(one.0));
            prop_assert_eq!(run_of(&name(one)), Some((one.1 >> TaskContext::RUN_SHIFT) as u32));
            prop_assert!(name(one).starts_with(&parts_of(one.0)));
        }
    }
}
