//! Who a process is to its cluster: a key, a certificate with role and node id, and the authority that signed it.
//!
//! Role and node id stand in the certificate as the URI `mobula://<cluster>/<role>/<node>`. Both sides of each connection
//! verify the other's certificate against the cluster's authority and read the name from there. It does not make
//! certificates: see [`crate::authority`], and [`crate::join()`] for how a new node gets one.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::files;
use crate::name::{ClusterId, Name, NameError, NodeId, Role, hex};

/// The node's certificate.
const CERTIFICATE_FILE: &str = "node.pem";
/// The node's private key, for its owner only.
const KEY_FILE: &str = "node.key";
/// The certificate of the cluster's authority.
pub(crate) const AUTHORITY_FILE: &str = "ca.pem";

/// Why an identity cannot be made, read or written.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or written.
    #[error("cannot access {path}")]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file is there but holds no such thing.
    #[error("{path} holds no {what}")]
    Content {
        /// Which file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A cluster was made here before; its authority is not overwritten.
    #[error("{0} holds an authority already; use another directory, or the cluster that is there")]
    Exists(PathBuf),
    /// Another node of the cluster has this name.
    #[error("the name {node} is taken in this cluster; choose another, or remove {path} on the head")]
    Taken {
        /// The name.
        node: NodeId,
        /// The record of it.
        path: PathBuf,
    },
    /// The certificate carries no name of ours.
    #[error("the certificate carries no name of this cluster")]
    Name(#[source] Option<NameError>),
    /// The certificate's name is of another cluster than the authority beside it.
    #[error("the certificate is of cluster {certificate}, the authority beside it of {authority}")]
    OtherCluster {
        /// What the certificate says.
        certificate: ClusterId,
        /// What the authority is.
        authority: ClusterId,
    },
    /// The public key is of a kind that is not used here.
    #[error("the public key is no Ed25519 key")]
    Key,
    /// The certificate could not be made.
    #[error("cannot make the certificate")]
    Certificate(#[source] rcgen::Error),
}

/// A key with its certificate and the authority that signed it. Clones share them; `Debug` does not show the key.
#[derive(Clone)]
pub struct Identity {
    inner: Arc<Inner>,
}

struct Inner {
    name: Name,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    key: PrivatePkcs8KeyDer<'static>,
}

impl Identity {
    /// Reads `node.pem`, `node.key` and `ca.pem` of a directory.
    ///
    /// # Errors
    /// If one is missing, is no certificate or key, or names another cluster.
    pub fn load(dir: &Path) -> Result<Self, IdentityError> {
        let certificate = read_certificate(&dir.join(CERTIFICATE_FILE))?;
        let authority = read_certificate(&dir.join(AUTHORITY_FILE))?;
        let path = dir.join(KEY_FILE);
        let text = files::read(&path).map_err(|source| IdentityError::File { path: path.clone(), source })?;
        let key = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| IdentityError::Content { path, what: "private key" })?;
        Self::new(certificate, authority, key)
    }

    /// Writes the three files, the directory 0700 and the files 0600, in place of what is there.
    ///
    /// # Errors
    /// If the directory or a file cannot be written.
    pub fn save(&self, dir: &Path) -> Result<(), IdentityError> {
        files::make_private_dir(dir).map_err(|source| IdentityError::File { path: dir.to_owned(), source })?;
        let write = |name: &str, text: String| {
            let path = dir.join(name);
            files::replace(&path, text.as_bytes()).map_err(|source| IdentityError::File { path, source })
        };
        write(KEY_FILE, pem("PRIVATE KEY", self.inner.key.secret_pkcs8_der()))?;
        write(CERTIFICATE_FILE, pem("CERTIFICATE", &self.inner.certificate))?;
        match dir.join(AUTHORITY_FILE) {
            // The head keeps its identity beside the authority, whose certificate is there already.
            path if read_certificate(&path).is_ok_and(|there| there == self.inner.authority) => Ok(()),
            _ => write(AUTHORITY_FILE, pem("CERTIFICATE", &self.inner.authority)),
        }
    }

    /// The cluster that it belongs to.
    pub fn cluster(&self) -> &ClusterId {
        &self.inner.name.cluster
    }

    /// The name of this node or driver.
    pub fn node(&self) -> &NodeId {
        &self.inner.name.node
    }

    /// What it is to the cluster.
    pub fn role(&self) -> Role {
        self.inner.name.role
    }

    pub(crate) fn new(
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
        key: PrivatePkcs8KeyDer<'static>,
    ) -> Result<Self, IdentityError> {
        let name = name_in(&certificate)?;
        let cluster = ClusterId::of_authority(&authority);
        if name.cluster != cluster {
            return Err(IdentityError::OtherCluster { certificate: name.cluster, authority: cluster });
        }
        Ok(Self { inner: Arc::new(Inner { name, certificate, authority, key }) })
    }

    /// What this side shows in a handshake: its certificate, then the authority's, by whose hash a joining node knows it.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![self.inner.certificate.clone(), self.inner.authority.clone()]
    }

    pub(crate) fn authority(&self) -> &CertificateDer<'static> {
        &self.inner.authority
    }

    /// A secret of this identity for one use: the same for each process that has the identity, and of no use for another.
    pub(crate) fn derived(&self, purpose: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.inner.key.secret_pkcs8_der());
        let mut secret = [0; 32];
        secret.copy_from_slice(hmac::sign(&key, purpose).as_ref());
        secret
    }

    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::Pkcs8(self.inner.key.clone_key())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.inner.name)
    }
}

/// The name in a certificate. It says nothing of who signed it: that is the handshake's work.
pub(crate) fn name_in(certificate: &[u8]) -> Result<Name, IdentityError> {
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| IdentityError::Name(None))?;
    let names = parsed.subject_alternative_name().map_err(|_| IdentityError::Name(None))?;
    let names = names.ok_or(IdentityError::Name(None))?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (Some(uri), None) => uri.parse().map_err(|e| IdentityError::Name(Some(e))),
        _ => Err(IdentityError::Name(None)),
    }
}

/// SHA-256 of a certificate as hex digits: what a token pins.
pub(crate) fn fingerprint(certificate: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, certificate).as_ref())
}

pub(crate) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, IdentityError> {
    let text = files::read(path).map_err(|source| IdentityError::File { path: path.to_owned(), source })?;
    CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|_| IdentityError::Content { path: path.to_owned(), what: "certificate" })
}

pub(crate) fn pem(what: &str, der: &[u8]) -> String {
    pem::encode_config(&pem::Pem::new(what, der), pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Authority;
    use proptest::prelude::*;

    fn node(id: &str) -> NodeId {
        NodeId::new(id).unwrap()
    }

    #[test]
    fn an_identity_comes_back_from_its_files_which_only_the_owner_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(&dir.path().join("c")).unwrap();
        let identity = authority.issue(Role::Node, node("n1")).unwrap();
        let home = dir.path().join("n1");
        identity.save(&home).unwrap();
        let back = Identity::load(&home).unwrap();
        assert_eq!((back.cluster(), back.node(), back.role()), (authority.cluster(), &node("n1"), Role::Node));
        #[cfg(unix)]
        for (path, mode) in [(home.join(KEY_FILE), 0o600), (home, 0o700)] {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{path:?}");
        }
    }

    #[test]
    fn an_identity_beside_the_authority_of_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let ours = Authority::create(&dir.path().join("a")).unwrap();
        Authority::create(&dir.path().join("b")).unwrap();
        let home = dir.path().join("n");
        ours.issue(Role::Node, node("n")).unwrap().save(&home).unwrap();
        std::fs::copy(dir.path().join("b/ca.pem"), home.join("ca.pem")).unwrap();
        assert!(matches!(Identity::load(&home), Err(IdentityError::OtherCluster { .. })));
    }

    proptest! {
        #[test]
        fn any_bytes_are_no_certificate_and_do_no_harm(bytes: Vec<u8>) {
            prop_assert!(name_in(&bytes).is_err());
        }

        #[test]
        fn a_certificate_with_a_byte_changed_does_no_harm(at: prop::sample::Index, to: u8) {
            static CERTIFICATE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(|| {
                let dir = tempfile::tempdir().unwrap();
                let authority = Authority::create(dir.path()).unwrap();
                authority.issue(Role::Node, node("n")).unwrap().inner.certificate.to_vec()
            });
            let mut bytes = CERTIFICATE.clone();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = name_in(&bytes);
        }
    }
}
