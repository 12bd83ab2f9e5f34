//! The cluster's folder on the head: its authority, which lets others in, and the head's own identity beside it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use mobula_actors::cluster::{Authority, Identity, NodeId, Role, Token};

use crate::error::{Error, Result};

/// What the head of a cluster is called in it.
const HEAD_NAME: &str = "head";

/// Makes a cluster: its authority and the head's identity in `dir`, for its owner only. Returns the cluster's id.
///
/// # Errors
/// If there is a cluster in `dir` already, or it cannot be written.
pub fn init(dir: &Path) -> Result<String> {
    let what = || format!("cannot make a cluster in {}", dir.display());
    let authority = Authority::create(dir).map_err(|cause| Error::identity(what(), cause))?;
    let name = NodeId::new(HEAD_NAME).map_err(|cause| Error::identity(what(), cause))?;
    let head = authority.issue(Role::Head, name).map_err(|cause| Error::identity(what(), cause))?;
    head.save(dir).map_err(|cause| Error::identity(what(), cause))?;
    Ok(authority.cluster().to_string())
}

/// Makes a token by which one node or driver may join the cluster of `dir`, once and within `valid`.
///
/// # Errors
/// If there is no cluster in `dir`, or the token cannot be recorded there.
pub fn token(dir: &Path, role: Role, valid: Duration) -> Result<Token> {
    let authority = open(dir)?;
    let made = authority.token(role, valid, now());
    made.map_err(|cause| Error::identity(format!("cannot make a token in {}", dir.display()), cause))
}

#[allow(clippy::disallowed_methods, reason = "a token ends by the calendar, on whatever machine it is shown")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// The authority of the cluster of `dir`.
pub(super) fn open(dir: &Path) -> Result<Authority> {
    Authority::open(dir).map_err(|cause| Error::identity(no_cluster(dir), cause))
}

/// What the head is started with: who it is and the authority.
pub(super) fn head(dir: &Path) -> Result<(Identity, Arc<Authority>)> {
    let authority = open(dir)?;
    let identity = Identity::load(dir).map_err(|cause| Error::identity(no_cluster(dir), cause))?;
    Ok((identity, Arc::new(authority)))
}

fn no_cluster(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "there is no cluster in {dir}, and without one nothing listens; `mobula cluster init --dir {dir}` makes one"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_made_once_and_gives_tokens() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("c");
        let missing = token(&dir, Role::Node, Duration::from_secs(60)).unwrap_err().to_string();
        assert!(missing.contains("mobula cluster init --dir"), "{missing}");
        let id = init(&dir).unwrap();
        assert!(init(&dir).is_err());
        assert_eq!(token(&dir, Role::Driver, Duration::from_secs(60)).unwrap().cluster().to_string(), id);
        assert_eq!(head(&dir).unwrap().0.role(), Role::Head);
    }
}
