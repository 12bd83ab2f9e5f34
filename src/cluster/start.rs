//! Starting a head or a node from its folder.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::path::Path;

use mobula_actors::cluster::{HeadConfig, HeadServer, Identity, Limits, Member, MemberConfig, Role, Sockets, Token};
use mobula_actors::node::NodeConfig;

use super::drivers::{join, save};
use super::lock::{FolderLock, lock};
use super::{address, authority};
use crate::error::{Error, Result};

/// What a node brings, and what it is called.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Its name in the cluster: `a-z`, `0-9` and `-`. Default: that of its folder. It is chosen when the node joins for
    /// the first time.
    pub name: Option<String>,
    /// Where it listens for other nodes. Default: a free port of the address from which the head is reached.
    pub listen: Option<SocketAddr>,
    /// Its resources, labels and limits. Default: what fits the machine.
    pub node: NodeConfig,
    /// Whether a head only leads and computes nothing itself. Default: it computes. Nodes always do.
    pub leads_only: bool,
}

/// A node that has joined.
#[derive(Clone)]
pub struct StartedNode {
    /// The running node.
    pub member: Member,
    /// Who it is.
    pub identity: Identity,
    /// Where it listens for other nodes.
    pub address: SocketAddr,
    /// No other process may be this node meanwhile.
    _folder: FolderLock,
}

/// Starts the head of the cluster in `dir`, which [`init`](super::init) made.
///
/// # Errors
/// If there is no cluster in `dir`, another process uses it, the address cannot be listened on, or the system refuses a thread.
pub fn start_head(dir: &Path, listen: impl ToSocketAddrs, options: NodeOptions) -> Result<HeadServer> {
    let (identity, authority) = authority::head(dir)?;
    let folder = lock(dir, "head")?;
    let config = HeadConfig {
        identity,
        authority,
        listen: address(listen)?,
        node: options.node,
        computes: !options.leads_only,
        limits: Limits::default(),
        sockets: Sockets::default(),
    };
    let head = HeadServer::start(config)?;
    head.keep(folder);
    Ok(head)
}

/// Starts a node whose identity is in `dir`; the first time it joins with a token. It comes back when the head has
/// welcomed it, and from then on joins again by itself whenever it loses the head.
///
/// # Errors
/// If there is no identity in `dir` and no token, another process uses `dir`, the head does not take the token or cannot be reached, or the system
/// refuses a thread.
pub fn start_node(
    dir: &Path,
    head: impl ToSocketAddrs,
    token: Option<&Token>,
    options: NodeOptions,
) -> Result<StartedNode> {
    let head = address(head)?;
    let identity = node_identity(dir, head, token, options.name.as_deref())?;
    let folder = lock(dir, "node")?;
    let address = match options.listen {
        Some(listen) => listen,
        None => free_address(head)?,
    };
    let config = MemberConfig {
        identity: identity.clone(),
        head,
        listen: address,
        node: options.node,
        limits: Limits::default(),
        sockets: Sockets::default(),
    };
    Ok(StartedNode { member: Member::start(config)?, identity, address, _folder: folder })
}

/// The identity in `dir`, or the one that the token gives.
fn node_identity(dir: &Path, head: SocketAddr, token: Option<&Token>, name: Option<&str>) -> Result<Identity> {
    let what = || format!("{} cannot be used to join the cluster at {head}", dir.display());
    let loaded = Identity::load(dir);
    if let Err(cause) = &loaded
        && is_missing(cause)
    {
        let none = || {
            format!(
                "there is no identity in {}; `mobula token` on the head makes a token, --token T joins with it",
                dir.display()
            )
        };
        let token = token.ok_or_else(|| Error::invalid("join", none()))?;
        let name = name.map_or_else(|| name_of(dir), |name| Ok(name.to_owned()))?;
        let identity = join(head, token, &name, Role::Node)?;
        save(&identity, dir)?;
        return Ok(identity);
    }
    // One that is there is not joined over: it may be a mistyped folder, or a disk that fails.
    let there = loaded.map_err(|cause| Error::identity(what(), cause))?;
    if there.role() != Role::Node {
        return Err(Error::identity(
            what(),
            format!("it holds the identity of a {}; give each process its own", there.role()),
        ));
    }
    if token.is_some_and(|token| token.cluster() != *there.cluster()) {
        return Err(Error::identity(
            what(),
            "it holds an identity of another cluster than the token's; use another folder",
        ));
    }
    if name.is_some_and(|name| name != there.node().as_str()) {
        return Err(Error::identity(
            what(),
            format!("its node is called {}; use another folder for another name", there.node()),
        ));
    }
    Ok(there)
}

/// Whether a file of the identity is not there at all.
fn is_missing(cause: &(dyn std::error::Error + 'static)) -> bool {
    let system = cause.source().and_then(|cause| cause.downcast_ref::<io::Error>());
    system.is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound)
}

/// What a node is called if nobody says: as its folder.
fn name_of(dir: &Path) -> Result<String> {
    let full = std::path::absolute(dir).unwrap_or_else(|_| dir.to_owned());
    let last = full.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let fits = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() { c } else { '-' };
    let name: String = last.chars().map(fits).collect();
    match name.trim_matches('-') {
        "" => Err(Error::invalid("join", format!("{} makes no name for a node; --name gives one", dir.display()))),
        name => Ok(name.to_owned()),
    }
}

/// A free port of the address from which `other` is reached; no packet is sent for that. The node tells others its
/// address when it joins and keeps it when it joins again, so the port is chosen here and not when it listens.
fn free_address(other: SocketAddr) -> Result<SocketAddr> {
    let any = if other.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let found = UdpSocket::bind(SocketAddr::new(any, 0)).and_then(|socket| {
        socket.connect(other)?;
        socket.local_addr()
    });
    found.map_err(|cause| Error::identity(format!("no way to {other} from this machine"), cause))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_called_after_its_folder() {
        let name = |dir: &str| name_of(Path::new(dir)).ok();
        assert_eq!(name("N1").as_deref(), Some("n1"));
        assert_eq!(name("var/Node 7/").as_deref(), Some("node-7"));
        assert_eq!(name("/"), None);
    }

    #[test]
    fn a_node_listens_where_the_head_is_reached_from() {
        let address = free_address("127.0.0.1:4433".parse().unwrap()).unwrap();
        assert!(address.ip().is_loopback() && address.port() > 0, "{address}");
    }

    #[test]
    fn a_folder_without_identity_and_a_folder_of_another_role_say_what_to_do() {
        let root = tempfile::tempdir().unwrap();
        let head = "127.0.0.1:1".parse().unwrap();
        let error = |dir: &Path| node_identity(dir, head, None, None).unwrap_err().to_string();
        assert!(error(&root.path().join("n")).contains("--token T joins"));
        let cluster = root.path().join("c");
        super::super::init(&cluster).unwrap();
        assert!(error(&cluster).contains("cannot be used to join"));
        std::fs::write(cluster.join("node.key"), "damaged").unwrap();
        assert!(error(&cluster).contains("cannot be used to join"));
    }
}
