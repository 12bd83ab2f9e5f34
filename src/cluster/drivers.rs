//! Where a machine keeps the identities of its drivers, one folder a cluster, and how it gets one.
//!
//! `MOBULA_IDENTITY` names the folder itself. Without it the folder is `drivers/<head's address>` in `MOBULA_HOME`, which
//! is `.mobula` in the user's home unless set.

use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use mobula_actors::cluster::{Authority, Identity, Limits, NodeId, Role, Token};

use super::{address, authority};
use crate::error::{Error, Result};

/// The name of the driver that the head's own machine is.
const LOCAL_NAME: &str = "local";

/// The identity that this machine has for the cluster whose head listens at `head`: see [`driver_folder`].
///
/// # Errors
/// If there is none, saying how to get one; if it cannot be read.
pub fn driver_identity(head: impl ToSocketAddrs) -> Result<Identity> {
    let head = address(head)?;
    let dir = driver_folder(head)?;
    match dir.is_dir() {
        true => identity(&dir),
        false => Err(Error::NoIdentity { head: head.to_string(), dir }),
    }
}

/// Reads an identity from its folder.
///
/// # Errors
/// If a file is missing or holds something else.
pub fn identity(dir: &Path) -> Result<Identity> {
    Identity::load(dir).map_err(|cause| Error::identity(format!("there is no identity in {}", dir.display()), cause))
}

/// The folder of a driver's identity for the cluster whose head listens at `head`: `MOBULA_IDENTITY` if that is set, else
/// one for each address under `MOBULA_HOME` (default `.mobula` in the home folder).
///
/// # Errors
/// If neither is set and there is no home folder.
pub fn driver_folder(head: SocketAddr) -> Result<PathBuf> {
    folder(head, |name| std::env::var_os(name).filter(|value| !value.is_empty()))
}

fn folder(head: SocketAddr, env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    if let Some(dir) = env("MOBULA_IDENTITY") {
        return Ok(dir.into());
    }
    Ok(home(env)?.join("drivers").join(head.to_string().replace(':', "_")))
}

fn home(env: impl Fn(&str) -> Option<OsString>) -> Result<PathBuf> {
    if let Some(home) = env("MOBULA_HOME") {
        return Ok(home.into());
    }
    let user = env("HOME").or_else(|| env("USERPROFILE"));
    let none =
        || Error::invalid("a driver's identity", "there is no home folder to look in; set MOBULA_HOME to a folder");
    user.map(|user| PathBuf::from(user).join(".mobula")).ok_or_else(none)
}

/// Gets this machine a driver's identity for a cluster, by a token of role driver, and keeps it in `dir`.
///
/// # Errors
/// If the head does not take the token, or the identity cannot be written.
pub fn login(head: impl ToSocketAddrs, token: &Token, name: &str, dir: &Path) -> Result<Identity> {
    let joined = join(address(head)?, token, name, Role::Driver)?;
    save(&joined, dir)?;
    Ok(joined)
}

/// Joins with a token that has to be of this role.
pub(super) fn join(head: SocketAddr, token: &Token, name: &str, role: Role) -> Result<Identity> {
    let what = || format!("cannot join the cluster at {head}");
    let name = NodeId::new(name).map_err(|cause| Error::identity(what(), cause))?;
    let joined = mobula_actors::cluster::join(role, head, token, name, &Limits::default());
    joined.map_err(|cause| Error::identity(what(), cause))
}

pub(super) fn save(identity: &Identity, dir: &Path) -> Result<()> {
    identity.save(dir).map_err(|cause| Error::identity(format!("cannot keep an identity in {}", dir.display()), cause))
}

/// An identity of a driver, made by who has the cluster's folder. It is kept nowhere: see [`keep_local`].
///
/// # Errors
/// If there is no cluster in `cluster_dir`.
pub fn local_driver(cluster_dir: &Path) -> Result<Identity> {
    issue(&authority::open(cluster_dir)?)
}

fn issue(authority: &Authority) -> Result<Identity> {
    let what = || "cannot make this machine a driver".to_owned();
    let name = NodeId::new(LOCAL_NAME).map_err(|cause| Error::identity(what(), cause))?;
    authority.issue(Role::Driver, name).map_err(|cause| Error::identity(what(), cause))
}

/// Makes the head's own machine a driver of the cluster in `cluster_dir`, unless it is one: keeps an identity where
/// [`driver_identity`] looks for it. What is in a folder that the user named stays there.
///
/// # Errors
/// If there is no cluster in `cluster_dir`, no identity can be kept, or the folder that `MOBULA_IDENTITY` names holds
/// something else.
pub fn keep_local(cluster_dir: &Path, listening: SocketAddr) -> Result<()> {
    let authority = authority::open(cluster_dir)?;
    let named = std::env::var_os("MOBULA_IDENTITY").is_some_and(|value| !value.is_empty());
    keep(&authority, &driver_folder(reached_here(listening))?, named)
}

/// `named`: the user said which folder, so it may hold the only key for another cluster. Else it is that of an address,
/// and a cluster that listened there before is no more.
fn keep(authority: &Authority, dir: &Path, named: bool) -> Result<()> {
    match Identity::load(dir) {
        Ok(there) if there.cluster() == authority.cluster() => Ok(()),
        _ if named && fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) => {
            let what = format!("{} (MOBULA_IDENTITY) holds no identity of this cluster", dir.display());
            let next = "it stays as it is; name another folder, or unset MOBULA_IDENTITY, and start the head again";
            Err(Error::identity(what, next))
        }
        _ => save(&issue(authority)?, dir),
    }
}

/// The address by which a listener is reached on its own machine.
fn reached_here(listening: SocketAddr) -> SocketAddr {
    let ip = match listening.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, listening.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(set: &[(&str, &str)], head: &str) -> Option<String> {
        let env = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value));
        folder(head.parse().unwrap(), env).ok().map(|dir| dir.display().to_string())
    }

    #[cfg(unix)]
    #[test]
    fn an_identity_is_looked_for_where_the_user_says_then_by_the_heads_address() {
        let all = [("MOBULA_IDENTITY", "id"), ("MOBULA_HOME", "here"), ("HOME", "me")];
        assert_eq!(found(&all, "127.0.0.1:4433").as_deref(), Some("id"));
        assert_eq!(found(&all[1..], "127.0.0.1:4433").as_deref(), Some("here/drivers/127.0.0.1_4433"));
        assert_eq!(found(&all[2..], "[::1]:1").as_deref(), Some("me/.mobula/drivers/[__1]_1"));
        assert_eq!(found(&[], "127.0.0.1:4433"), None);
    }

    #[test]
    fn the_machine_of_a_head_that_listens_everywhere_reaches_it_on_loopback() {
        for (listening, reached) in [("0.0.0.0:7", "127.0.0.1:7"), ("[::]:7", "[::1]:7"), ("10.1.1.1:7", "10.1.1.1:7")]
        {
            assert_eq!(reached_here(listening.parse().unwrap()).to_string(), reached);
        }
    }

    #[test]
    fn an_identity_in_a_folder_that_the_user_named_is_not_lost_to_another_cluster() {
        let root = tempfile::tempdir().unwrap();
        let made = ["c", "d"].map(|name| {
            authority::init(&root.path().join(name)).unwrap();
            authority::open(&root.path().join(name)).unwrap()
        });
        let dir = root.path().join("named");
        keep(&made[0], &dir, true).unwrap();
        keep(&made[0], &dir, true).unwrap();
        let error = keep(&made[1], &dir, true).unwrap_err().to_string();
        assert!(error.contains("MOBULA_IDENTITY"), "{error}");
        assert_eq!(identity(&dir).unwrap().cluster(), made[0].cluster());
        keep(&made[1], &dir, false).unwrap();
        assert_eq!(identity(&dir).unwrap().cluster(), made[1].cluster());
    }

    #[test]
    fn who_has_the_clusters_folder_is_a_driver_by_that() {
        let root = tempfile::tempdir().unwrap();
        let cluster = root.path().join("c");
        authority::init(&cluster).unwrap();
        let local = local_driver(&cluster).unwrap();
        let dir = root.path().join("drivers");
        save(&local, &dir).unwrap();
        assert_eq!((identity(&dir).unwrap().cluster(), local.role()), (local.cluster(), Role::Driver));
        let none = identity(&root.path().join("other")).unwrap_err().to_string();
        assert!(none.contains("there is no identity in"), "{none}");
    }
}
