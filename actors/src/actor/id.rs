//! The address of an actor in its cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An actor's address in its cluster: the number of its node's life, and its own. Neither comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ActorId {
    pub(crate) node: u64,
    pub(crate) number: u64,
}

impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.node, self.number)
    }
}

/// The text is no actor's number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an actor's number is its node's and its own, as in 3/17")]
pub struct ActorIdError;

impl FromStr for ActorId {
    type Err = ActorIdError;

    fn from_str(text: &str) -> Result<Self, ActorIdError> {
        let (node, number) = text.split_once('/').ok_or(ActorIdError)?;
        let parse = |text: &str| text.parse().map_err(|_| ActorIdError);
        Ok(Self { node: parse(node)?, number: parse(number)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actors_number_is_read_as_it_is_printed() {
        let id = ActorId { node: 3, number: u64::MAX };
        assert_eq!(id.to_string().parse(), Ok(id));
        for odd in ["", "3", "3/", "/3", "3/-1", "3/4/5"] {
            assert_eq!(odd.parse::<ActorId>(), Err(ActorIdError));
        }
    }
}
