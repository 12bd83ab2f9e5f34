//! Names that stand in certificates: which cluster, which role, which node.
//!
//! Pure. A name is checked when it is made, also when it comes from the wire. See [`crate::identity`] for how one is
//! proven.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

/// Longest node id: it stands in each certificate, log line and metric.
pub const NODE_ID_BYTES_MAX: usize = 64;
/// A cluster id is this many hex digits: half a SHA-256, enough that no two clusters share one.
pub const CLUSTER_ID_DIGITS: usize = 32;
/// What the name in a certificate starts with.
const SCHEME: &str = "mobula://";

/// Why a text is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The node id is of another form.
    #[error("a node id is 1 to 64 of a-z, 0-9 and `-`, not {0:?}")]
    NodeId(String),
    /// The cluster id is of another form.
    #[error("a cluster id is 32 hex digits, not {0:?}")]
    ClusterId(String),
    /// There is no such role.
    #[error("a role is head, node or driver, not {0:?}")]
    Role(String),
    /// The name in a certificate is of another form.
    #[error("a certificate's name is mobula://cluster/role/node, not {0:?}")]
    Name(String),
}

/// The name of a node or driver within its cluster: 1 to 64 of `a-z`, `0-9` and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(String);

impl NodeId {
    /// Checks and takes a node id.
    ///
    /// # Errors
    /// If it is empty, too long, or has another character.
    ///
    /// ```
    /// use mobula_transport::NodeId;
    /// assert_eq!(NodeId::new("node-1")?.as_str(), "node-1");
    /// assert!(NodeId::new("Node 1").is_err());
    /// # Ok::<(), mobula_transport::NameError>(())
    /// ```
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        let fits = (1..=NODE_ID_BYTES_MAX).contains(&id.len());
        match fits && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-') {
            true => Ok(Self(id)),
            false => Err(NameError::NodeId(shortened(id))),
        }
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The name of a cluster: 32 hex digits of the SHA-256 of its authority's certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClusterId(String);

impl ClusterId {
    /// Checks and takes a cluster id.
    ///
    /// # Errors
    /// If it is not 32 lower-case hex digits.
    pub fn new(id: impl Into<String>) -> Result<Self, NameError> {
        let id = id.into();
        let is_hex = id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        match id.len() == CLUSTER_ID_DIGITS && is_hex {
            true => Ok(Self(id)),
            false => Err(NameError::ClusterId(shortened(id))),
        }
    }

    /// The id that follows from the authority's certificate (DER).
    pub(crate) fn of_authority(certificate: &[u8]) -> Self {
        let mut digits = hex(digest::digest(&digest::SHA256, certificate).as_ref());
        digits.truncate(CLUSTER_ID_DIGITS);
        Self(digits)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name that the TLS handshake asks for, the same for all nodes of a cluster.
    pub(crate) fn tls_name(&self) -> String {
        format!("{}.mobula", self.0)
    }
}

/// What the bearer of a certificate is to its cluster. It is read from the certificate, never from a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Role {
    /// The node that holds membership, scheduler and jobs.
    Head,
    /// A node that runs operators and holds blocks.
    Node,
    /// A process that submits jobs. It connects, and nobody connects to it.
    Driver,
}

impl Role {
    /// The role as text: `head`, `node` or `driver`.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Head => "head",
            Role::Node => "node",
            Role::Driver => "driver",
        }
    }
}

/// All that a certificate says of its bearer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) cluster: ClusterId,
    pub(crate) role: Role,
    pub(crate) node: NodeId,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}/{}/{}", self.cluster, self.role, self.node)
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let other = || NameError::Name(shortened(text.to_owned()));
        let mut parts = text.strip_prefix(SCHEME).ok_or_else(other)?.split('/');
        let mut part = || parts.next().ok_or_else(other);
        let (cluster, role, node) = (part()?, part()?, part()?);
        match parts.next() {
            None => Ok(Name { cluster: cluster.parse()?, role: role.parse()?, node: node.parse()? }),
            Some(_) => Err(other()),
        }
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text {
            "head" => Ok(Role::Head),
            "node" => Ok(Role::Node),
            "driver" => Ok(Role::Driver),
            other => Err(NameError::Role(shortened(other.to_owned()))),
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

macro_rules! checked_text {
    ($($id:ident)*) => {$(
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $id {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $id {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> String {
                id.0
            }
        }
    )*};
}

checked_text!(NodeId ClusterId);

/// Bytes as lower-case hex digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A foreign text for an error message, cut so that it cannot fill a log.
fn shortened(text: String) -> String {
    text.chars().take(NODE_ID_BYTES_MAX + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use proptest::prelude::*;

    #[test]
    fn a_node_id_from_the_wire_is_checked_too() {
        let bytes = codec::encode(&"../../etc", 64).expect("fits");
        assert!(codec::decode::<NodeId>(&bytes, 64).is_err());
        let bytes = codec::encode(&"node-7", 64).expect("fits");
        assert_eq!(codec::decode::<NodeId>(&bytes, 64).expect("a good one").as_str(), "node-7");
    }

    #[test]
    fn a_role_is_not_read_from_a_fourth_part() {
        let cluster = "0".repeat(32);
        assert!(format!("mobula://{cluster}/node/a/head").parse::<Name>().is_err());
        assert!(format!("mobula://{cluster}/chief/a").parse::<Name>().is_err());
    }

    proptest! {
        #[test]
        fn a_name_comes_back_from_its_text(cluster in "[0-9a-f]{32}", node in "[a-z0-9-]{1,64}", role in 0..3usize) {
            let role = [Role::Head, Role::Node, Role::Driver][role];
            let name = Name { cluster: cluster.parse().unwrap(), role, node: node.parse().unwrap() };
            prop_assert_eq!(name.to_string().parse::<Name>().unwrap(), name);
        }

        #[test]
        fn any_text_is_a_name_or_an_error_of_bounded_length(text: String) {
            if let Err(e) = text.parse::<Name>() {
                prop_assert!(e.to_string().len() < 1_000);
            }
            if let Ok(id) = NodeId::new(text) {
                prop_assert!(id.as_str().len() <= NODE_ID_BYTES_MAX);
            }
        }
    }
}
