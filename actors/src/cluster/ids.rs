//! Names and numbers of what is in a cluster: nodes, their lives, jobs.
//!
//! A node's name is chosen by people and is in its certificate; it ends up in logs, folders and commands, so it is short
//! and plain. It is checked wherever it comes in, also when it is decoded.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use crate::block::Incarnation;

/// Characters of a node's name: what fits into a DNS label with one to spare, so that a host's name can be one.
pub const NODE_NAME_MAX: usize = 64;

/// Name of a node: 1 to [`NODE_NAME_MAX`] characters of `a`-`z`, `0`-`9` and `-`. Cheap to clone.
///
/// ```
/// use mobula_actors::cluster::ids::NodeName;
/// let node: NodeName = "gpu-1".parse()?;
/// assert_eq!(node.to_string(), "gpu-1");
/// assert!(NodeName::new("GPU 1").is_err());
/// # Ok::<_, mobula_actors::cluster::ids::NodeNameError>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// Why a text is no node's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// It has no or too many characters. Such a text is not repeated: it may be of any length.
    #[error("a node's name has 1 to {NODE_NAME_MAX} characters; this one has {bytes} bytes")]
    Length {
        /// Its length in bytes.
        bytes: usize,
    },
    /// It has a character that is not allowed.
    #[error("a node's name is made of a-z, 0-9 and '-'; {name:?} has {found:?}")]
    Character {
        /// The text.
        name: String,
        /// The first character that is not allowed.
        found: char,
    },
}

impl NodeName {
    /// Checks a text and makes it a name.
    ///
    /// # Errors
    /// Naming what is wrong with it.
    pub fn new(name: &str) -> Result<Self, NodeNameError> {
        if name.is_empty() || name.len() > NODE_NAME_MAX {
            return Err(NodeNameError::Length { bytes: name.len() });
        }
        let allowed = |c: &char| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-';
        match name.chars().find(|c| !allowed(c)) {
            Some(found) => Err(NodeNameError::Character { name: name.to_owned(), found }),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeName({})", self.0)
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(name: &str) -> Result<Self, NodeNameError> {
        Self::new(name)
    }
}

impl TryFrom<String> for NodeName {
    type Error = NodeNameError;

    fn try_from(name: String) -> Result<Self, NodeNameError> {
        Self::new(&name)
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Number of a job in its cluster. Prints as `job-7`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId(pub u64);

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job-{}", self.0)
    }
}

/// A text that is not of the form `job-7`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a job's name is job- and its number, as in job-7")]
pub struct JobIdError;

impl FromStr for JobId {
    type Err = JobIdError;

    fn from_str(text: &str) -> Result<Self, JobIdError> {
        let digits = text.strip_prefix("job-").filter(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
        digits.and_then(|number| number.parse().ok()).map(Self).ok_or(JobIdError)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mobula_transport::codec;
    use proptest::prelude::*;

    #[test]
    fn a_name_is_refused_with_what_is_wrong_with_it() {
        let refused = |name: &str| NodeName::new(name).expect_err("no name").to_string();
        assert_eq!(refused(""), "a node's name has 1 to 64 characters; this one has 0 bytes");
        assert_eq!(refused(&"a".repeat(65)), "a node's name has 1 to 64 characters; this one has 65 bytes");
        assert_eq!(refused("a.b"), "a node's name is made of a-z, 0-9 and '-'; \"a.b\" has '.'");
        assert!(NodeName::new(&"a".repeat(64)).is_ok());
    }

    #[test]
    fn a_job_prints_as_it_is_asked_for() {
        assert_eq!(JobId(7).to_string(), "job-7");
        assert_eq!("job-7".parse(), Ok(JobId(7)));
        for text in ["7", "job-", "job-+7", "job--7", "job-7x", "job-99999999999999999999999"] {
            assert_eq!(text.parse::<JobId>(), Err(JobIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn exactly_the_allowed_texts_are_names_also_when_decoded(text in "[a-c0-2-]{0,70}|[ -~é]{0,6}") {
            let allowed = (1..=64).contains(&text.len())
                && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
            prop_assert_eq!(NodeName::new(&text).is_ok(), allowed);
            let encoded = codec::encode(&text, 1024).expect("a text");
            let decoded = codec::decode::<NodeName>(&encoded, 1024);
            prop_assert_eq!(decoded.map(String::from).ok(), allowed.then_some(text));
        }
    }
}
