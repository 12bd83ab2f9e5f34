//! How connections end: the codes that a close carries, and the reasons that either side is told.

use std::fmt;

use quinn::{ConnectionError, TransportErrorCode, VarInt};

use crate::limits::REASON_BYTES_MAX;

/// Why a connection was refused before it was welcome. Each has a code on the wire, so both sides name the same reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// The sides are of different clusters.
    Cluster,
    /// The sides speak different versions of the protocol.
    Protocol,
    /// The sides are different builds.
    Build,
    /// The sides have different operators registered.
    Operators,
    /// The other side did not want this peer, for the reason it gave.
    Admission,
    /// A certificate is missing, has expired, or names no role.
    Certificate,
    /// The first message was none.
    Malformed,
    /// Hello or Welcome did not come in time.
    Deadline,
    /// The other side has as many connections as it may.
    Full,
}

const KINDS: [(RefusalKind, u32); 9] = [
    (RefusalKind::Cluster, 0x10),
    (RefusalKind::Protocol, 0x11),
    (RefusalKind::Build, 0x12),
    (RefusalKind::Operators, 0x13),
    (RefusalKind::Admission, 0x14),
    (RefusalKind::Certificate, 0x15),
    (RefusalKind::Malformed, 0x16),
    (RefusalKind::Deadline, 0x17),
    (RefusalKind::Full, 0x18),
];

/// A side closed on purpose.
pub(crate) const CODE_CLOSED: u32 = 0;
/// The peer broke the protocol.
pub(crate) const CODE_VIOLATION: u32 = 1;
/// A stream was given up: a call dropped, a sender or receiver gone.
pub(crate) const STREAM_DROPPED: VarInt = VarInt::from_u32(1);

// TLS alerts, as RFC 8446 numbers them.
const ALERT_BAD_CERTIFICATE: u8 = 42;
const ALERT_CERTIFICATE_EXPIRED: u8 = 45;
const ALERT_CERTIFICATE_UNKNOWN: u8 = 46;
const ALERT_UNKNOWN_AUTHORITY: u8 = 48;
const ALERT_DECRYPT_ERROR: u8 = 51;
const ALERT_UNRECOGNISED_NAME: u8 = 112;
const ALERT_CERTIFICATE_REQUIRED: u8 = 116;
pub(crate) const ALERT_NO_APPLICATION_PROTOCOL: u8 = 120;

/// A refusal by name, as both sides see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// What did not fit.
    pub kind: RefusalKind,
    /// The same in words, with both sides' values.
    pub reason: String,
}

impl Refusal {
    pub(crate) fn new(kind: RefusalKind, reason: impl Into<String>) -> Self {
        Self { kind, reason: cut(&reason.into()) }
    }

    /// A refusal as it comes from a peer; a code that is not known here is still a refusal.
    pub(crate) fn from_wire(code: u16, reason: &[u8]) -> Self {
        let known = KINDS.iter().find(|(_, known)| *known == u32::from(code));
        Self::new(known.map_or(RefusalKind::Admission, |(kind, _)| *kind), String::from_utf8_lossy(reason))
    }

    pub(crate) fn code(&self) -> u32 {
        KINDS.iter().find(|(kind, _)| *kind == self.kind).map_or(CODE_VIOLATION, |(_, code)| *code)
    }

    /// The refusal that a lost connection stands for, if it is one.
    pub(crate) fn in_error(error: &ConnectionError) -> Option<Self> {
        match error {
            ConnectionError::ApplicationClosed(close) => {
                let code = close.error_code.into_inner();
                let (kind, _) = KINDS.iter().find(|(_, known)| u64::from(*known) == code)?;
                Some(Self::new(*kind, String::from_utf8_lossy(&close.reason)))
            }
            ConnectionError::TransportError(e) => alert_refusal(e.code, "the peer's certificate was refused here"),
            ConnectionError::ConnectionClosed(close) => {
                alert_refusal(close.error_code, "the peer refused this side's certificate")
            }
            _ => None,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

fn alert_refusal(code: TransportErrorCode, side: &str) -> Option<Refusal> {
    if code == TransportErrorCode::CONNECTION_REFUSED {
        return Some(Refusal::new(RefusalKind::Full, "the peer has as many connections as it may; try again later"));
    }
    let is = |alerts: &[u8]| alerts.iter().any(|alert| TransportErrorCode::crypto(*alert) == code);
    let authority = [ALERT_UNKNOWN_AUTHORITY, ALERT_DECRYPT_ERROR, ALERT_UNRECOGNISED_NAME, ALERT_BAD_CERTIFICATE];
    if is(&authority) {
        let reason = format!("{side}: it is not of this cluster's authority");
        return Some(Refusal::new(RefusalKind::Cluster, reason));
    }
    if is(&[ALERT_CERTIFICATE_EXPIRED]) {
        return Some(Refusal::new(RefusalKind::Certificate, format!("{side}: it is not valid at this time")));
    }
    if is(&[ALERT_CERTIFICATE_REQUIRED, ALERT_CERTIFICATE_UNKNOWN]) {
        return Some(Refusal::new(RefusalKind::Certificate, format!("{side}: it is missing or not of the right kind")));
    }
    let reason = format!("{side}: the peer does not speak this protocol");
    is(&[ALERT_NO_APPLICATION_PROTOCOL]).then(|| Refusal::new(RefusalKind::Protocol, reason))
}

/// Why a connection is no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClosedReason {
    /// Nothing was heard of the peer for the idle timeout: it is dead, stopped, or cut off.
    IdleTimeout,
    /// The peer closed it, with its reason.
    ByPeer(String),
    /// This side closed it, with its reason.
    ByUs(String),
    /// The peer does not know the connection any more: its process is another one with the same identity, or it closed
    /// while its path was full and could not say so.
    Forgotten,
    /// One side refused the other.
    Refused(Refusal),
    /// One side broke the protocol.
    Violation(String),
    /// The transport failed otherwise.
    Transport(String),
}

impl fmt::Display for ClosedReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClosedReason::IdleTimeout => f.write_str("the peer is silent: it died, was stopped, or is cut off"),
            ClosedReason::ByPeer(reason) => write!(f, "closed by the peer: {reason}"),
            ClosedReason::ByUs(reason) => write!(f, "closed here: {reason}"),
            ClosedReason::Forgotten => {
                f.write_str("the peer does not know the connection any more; it may have restarted")
            }
            ClosedReason::Refused(refusal) => write!(f, "refused: {refusal}"),
            ClosedReason::Violation(what) => write!(f, "the protocol was broken: {what}"),
            ClosedReason::Transport(what) => write!(f, "the transport failed: {what}"),
        }
    }
}

impl ClosedReason {
    /// What the transport says, in our words; `ours` is the reason that this side gave, if it closed.
    pub(crate) fn of(error: &ConnectionError, ours: Option<&ClosedReason>) -> Self {
        if let Some(refusal) = Refusal::in_error(error) {
            return ClosedReason::Refused(refusal);
        }
        match error {
            ConnectionError::TimedOut => ClosedReason::IdleTimeout,
            ConnectionError::Reset => ClosedReason::Forgotten,
            ConnectionError::LocallyClosed => {
                ours.cloned().unwrap_or_else(|| ClosedReason::ByUs("this endpoint is closed".to_owned()))
            }
            ConnectionError::ApplicationClosed(close) => {
                let reason = cut(&String::from_utf8_lossy(&close.reason));
                match close.error_code == VarInt::from_u32(CODE_VIOLATION) {
                    true => ClosedReason::Violation(reason),
                    false => ClosedReason::ByPeer(reason),
                }
            }
            other => ClosedReason::Transport(other.to_string()),
        }
    }
}

/// A reason short enough for one packet, whole characters only.
pub(crate) fn cut(reason: &str) -> String {
    let mut end = reason.len().min(REASON_BYTES_MAX);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_kind_of_refusal_survives_the_wire() {
        for (kind, code) in KINDS {
            let refusal = Refusal::new(kind, "why");
            assert_eq!(refusal.code(), code);
            let close = quinn::ApplicationClose { error_code: code.into(), reason: b"why".as_slice().into() };
            assert_eq!(Refusal::in_error(&ConnectionError::ApplicationClosed(close)), Some(refusal));
        }
    }

    proptest! {
        #[test]
        fn any_close_of_a_peer_is_a_bounded_reason(code in 0..(1u64 << 62), reason: Vec<u8>) {
            let error_code = VarInt::from_u64(code).unwrap();
            let error = ConnectionError::ApplicationClosed(quinn::ApplicationClose { error_code, reason: reason.into() });
            prop_assert!(ClosedReason::of(&error, None).to_string().len() < 2_000);
        }

        #[test]
        fn a_cut_reason_is_a_prefix(reason: String) {
            let short = cut(&reason);
            prop_assert!(short.len() <= REASON_BYTES_MAX && reason.starts_with(&short));
        }
    }
}
