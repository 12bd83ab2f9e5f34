//! A cluster's authority: it makes the certificates of the cluster's nodes and drivers, and the tokens to join with.
//!
//! Keys are Ed25519: small, fast, and with signatures of one length, so that a simulated handshake is repeated exactly.
//! It is a folder on the head: `ca.pem`, `ca.key`, `nodes/` (names given out) and `tokens/` (see [`crate::token`]). Whoever
//! reads `ca.key` is the cluster. There is no list of revoked certificates: to shut a node out for good, make a new
//! cluster; short of that, the head refuses it by name.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ED25519, PublicKeyData, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::files;
use crate::identity::{AUTHORITY_FILE, Identity, IdentityError, fingerprint, read_certificate};
use crate::name::{ClusterId, Name, NodeId, Role, hex};
use crate::token::{Token, TokenBook, TokenError};

/// The authority's private key, for its owner only.
const KEY_FILE: &str = "ca.key";
/// How long certificates are valid: longer than machines live. A lost key is answered with a new cluster, not by waiting.
const VALID: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);
/// Bytes of a certificate's number, all but the first random.
const SERIAL_BYTES: usize = 17;
/// How far the clocks of two machines may differ before a fresh certificate is refused.
const CLOCK_SKEW: Duration = Duration::from_secs(24 * 3_600);

/// The authority of one cluster, over its folder.
pub struct Authority {
    dir: PathBuf,
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
    cluster: ClusterId,
    tokens: TokenBook,
}

impl Authority {
    /// Makes the authority of a new cluster; the directory gets mode 0700 and its files 0600.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] if there is one, or a file that cannot be written.
    ///
    /// ```
    /// use mobula_transport::{Authority, NodeId, Role};
    /// # let dir = tempfile::tempdir()?;
    /// let authority = Authority::create(&dir.path().join("cluster"))?;
    /// let head = authority.issue(Role::Head, NodeId::new("head")?)?;
    /// assert_eq!(head.cluster(), authority.cluster());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn create(dir: &Path) -> Result<Self, IdentityError> {
        let file = |name: &'static str| move |source| IdentityError::File { path: dir.join(name), source };
        files::make_private_dir(dir).map_err(file(""))?;
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(IdentityError::Certificate)?;
        let certificate = authority_params(&random_digits()).self_signed(&key).map_err(IdentityError::Certificate)?;
        // The key comes first and is created, not replaced: of two who make a cluster here at a time, one fails.
        match files::write_new(&dir.join(KEY_FILE), key.serialize_pem().as_bytes()) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(IdentityError::Exists(dir.to_owned())),
            other => other.map_err(file(KEY_FILE))?,
        }
        files::replace(&dir.join(AUTHORITY_FILE), certificate.pem().as_bytes()).map_err(file(AUTHORITY_FILE))?;
        Self::new(dir, certificate.der().clone(), key)
    }

    /// Opens the authority that [`create`](Self::create) made here.
    ///
    /// # Errors
    /// If its files are missing or are no certificate and key.
    pub fn open(dir: &Path) -> Result<Self, IdentityError> {
        let certificate = read_certificate(&dir.join(AUTHORITY_FILE))?;
        let path = dir.join(KEY_FILE);
        let text = files::read(&path).map_err(|source| IdentityError::File { path: path.clone(), source })?;
        let key = KeyPair::from_pem(&text).map_err(|_| IdentityError::Content { path, what: "private key" })?;
        Self::new(dir, certificate, key)
    }

    fn new(dir: &Path, certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, IdentityError> {
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(IdentityError::Certificate)?;
        let cluster = ClusterId::of_authority(&certificate);
        let tokens = TokenBook::new(dir.join("tokens"));
        Ok(Self { dir: dir.to_owned(), certificate, issuer, cluster, tokens })
    }

    /// The cluster that it is the authority of.
    pub fn cluster(&self) -> &ClusterId {
        &self.cluster
    }

    /// Makes a fresh key and certificate, for who has this folder anyway: a name may be issued again.
    ///
    /// # Errors
    /// If the key cannot be made or the name cannot be recorded.
    pub fn issue(&self, role: Role, node: NodeId) -> Result<Identity, IdentityError> {
        match self.record(&node) {
            Ok(()) | Err(IdentityError::Taken { .. }) => {}
            Err(e) => return Err(e),
        }
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(IdentityError::Certificate)?;
        let certificate = self.sign(&key.subject_public_key_info(), role, &node)?;
        Identity::new(certificate.into(), self.certificate.clone(), PrivatePkcs8KeyDer::from(key.serialize_der()))
    }

    /// Signs a public key (DER of its SubjectPublicKeyInfo) for a role and a name; returns the certificate (DER).
    ///
    /// # Errors
    /// [`IdentityError::Key`] if it is no Ed25519 key.
    pub fn sign(&self, public_key: &[u8], role: Role, node: &NodeId) -> Result<Vec<u8>, IdentityError> {
        let key = SubjectPublicKeyInfo::from_der(public_key).map_err(|_| IdentityError::Key)?;
        if key.algorithm() != &PKCS_ED25519 {
            return Err(IdentityError::Key);
        }
        let name = Name { cluster: self.cluster.clone(), role, node: node.clone() };
        let params = leaf_params(&name).map_err(IdentityError::Certificate)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(IdentityError::Certificate)?;
        Ok(certificate.der().to_vec())
    }

    /// Makes a token for one join with this role, valid for a time from `now`.
    ///
    /// # Errors
    /// [`TokenError::Book`] if it cannot be recorded.
    pub fn token(&self, role: Role, valid: Duration, now: SystemTime) -> Result<Token, TokenError> {
        let secret = self.tokens.give_out(role, valid, now)?;
        Ok(Token { authority: fingerprint(&self.certificate), secret })
    }

    /// Takes a token's secret for good and says which role it is for.
    ///
    /// # Errors
    /// [`TokenError::Unknown`], [`Expired`](TokenError::Expired) or [`Used`](TokenError::Used).
    pub fn redeem(&self, secret: &str, now: SystemTime) -> Result<Role, TokenError> {
        self.tokens.redeem(secret, now)
    }

    /// Whether a token's secret could be redeemed now; it is not.
    pub(crate) fn peek(&self, secret: &str, now: SystemTime) -> Result<Role, TokenError> {
        self.tokens.peek(secret, now)
    }

    pub(crate) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Takes a name for a new node.
    ///
    /// # Errors
    /// [`IdentityError::Taken`] if it was given out before.
    pub(crate) fn record(&self, node: &NodeId) -> Result<(), IdentityError> {
        let dir = self.dir.join("nodes");
        let path = dir.join(node.as_str());
        match files::make_private_dir(&dir).and_then(|()| files::write_new(&path, b"")) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                Err(IdentityError::Taken { node: node.clone(), path })
            }
            other => other.map_err(|source| IdentityError::File { path, source }),
        }
    }

    /// Whether a name was given out before.
    pub(crate) fn is_taken(&self, node: &NodeId) -> bool {
        self.dir.join("nodes").join(node.as_str()).exists()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({})", self.cluster)
    }
}

/// The parameters of an authority of this name. Names differ, so that a foreign certificate is told from a broken one.
fn authority_params(digits: &str) -> CertificateParams {
    let mut params = valid_params();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("mobula cluster {digits}"));
    params
}

fn leaf_params(name: &Name) -> Result<CertificateParams, rcgen::Error> {
    let mut params = valid_params();
    params.subject_alt_names = vec![
        SanType::URI(name.to_string().try_into()?),
        // One name for all nodes of a cluster: the handshake asks for it, who it is stands in the URI.
        SanType::DnsName(name.cluster.tls_name().try_into()?),
    ];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A driver connects only; so a driver's key cannot pass for a node that others connect to.
    params.extended_key_usages = match name.role {
        Role::Driver => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Role::Head | Role::Node => vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth],
    };
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.node.as_str());
    Ok(params)
}

fn valid_params() -> CertificateParams {
    let now = now();
    // Neither negative nor shortened, so that certificates are equally long and a simulated run is repeated exactly.
    let mut serial = [1; SERIAL_BYTES];
    let (_, random) = serial.split_at_mut(1);
    aws_lc_rs::rand::fill(random).expect("the system gives randomness");
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = (now - CLOCK_SKEW).into();
    params.not_after = (now + VALID).into();
    params
}

#[allow(
    clippy::disallowed_methods,
    reason = "certificates are verified against the machine's clock, so made by it too"
)]
pub(crate) fn now() -> SystemTime {
    SystemTime::now()
}

fn random_digits() -> String {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).expect("the system gives randomness");
    hex(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_not_overwritten_and_opens_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::create(dir.path()).unwrap();
        assert!(matches!(Authority::create(dir.path()), Err(IdentityError::Exists(_))));
        let opened = Authority::open(dir.path()).unwrap();
        assert_eq!(opened.cluster(), made.cluster());
        opened.issue(Role::Node, NodeId::new("n").unwrap()).unwrap();
    }

    #[test]
    fn a_token_of_one_process_is_redeemed_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let made = Authority::create(dir.path()).unwrap();
        let token = made.token(Role::Driver, Duration::from_secs(60), now()).unwrap();
        assert_eq!(&token.cluster(), made.cluster());
        assert_eq!(Authority::open(dir.path()).unwrap().redeem(token.secret(), now()).unwrap(), Role::Driver);
        assert!(matches!(made.redeem(token.secret(), now()), Err(TokenError::Used)));
    }

    #[test]
    fn a_public_key_of_another_kind_is_not_signed() {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::create(dir.path()).unwrap();
        let node = NodeId::new("n").unwrap();
        assert!(matches!(authority.sign(b"no key", Role::Node, &node), Err(IdentityError::Key)));
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signed = authority.sign(&key.subject_public_key_info(), Role::Node, &node);
        assert!(matches!(signed, Err(IdentityError::Key)));
    }
}
