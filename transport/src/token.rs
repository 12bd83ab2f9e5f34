//! Join tokens: what a new node shows once to get a certificate, and by which it knows that it asks the right cluster.
//!
//! A token is the hash of the authority's certificate and a secret. The book of tokens is a folder beside the authority,
//! one file a token, named by the hash of its secret: `<hash>.open` until it is redeemed, `<hash>.used` after. The rename
//! from one to the other is what makes it single-use, also between processes.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::{digest, rand};

use crate::files;
use crate::name::{ClusterId, Role, hex};

/// Random bytes of a secret: it cannot be guessed, so nothing has to count guesses.
const SECRET_BYTES: usize = 32;
/// Hex digits of a hash or of a secret.
const DIGITS: usize = 64;
/// What a token's text starts with; the digit is its version.
const PREFIX: &str = "mobula1";

/// Why a token was not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The text is no token.
    #[error("this is no token; one looks like mobula1.<64 hex digits>.<64 hex digits>")]
    Malformed,
    /// No such token was given out, or its record is gone.
    #[error("this token is unknown here; make one with `mobula token` on the head")]
    Unknown,
    /// It was valid until a time that is past.
    #[error("this token has expired; make a new one with `mobula token` on the head")]
    Expired,
    /// Someone joined with it before.
    #[error("this token has been used; each is for one join, make a new one with `mobula token` on the head")]
    Used,
    /// The book of tokens cannot be read or written.
    #[error("cannot keep the book of tokens at {path}")]
    Book {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A single-use invitation into a cluster. Its text is a secret; `Debug` does not show it.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// SHA-256 of the authority's certificate, as hex digits.
    pub(crate) authority: String,
    /// The secret, as hex digits.
    pub(crate) secret: String,
}

impl Token {
    /// The cluster that this token leads into.
    pub fn cluster(&self) -> ClusterId {
        let digits = self.authority.chars().take(crate::name::CLUSTER_ID_DIGITS).collect::<String>();
        ClusterId::new(digits).expect("hex digits were checked when the token was made")
    }

    /// The part that the head's book knows, to be redeemed.
    pub fn secret(&self) -> &str {
        &self.secret
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}.{}.{}", self.authority, self.secret)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({}, secret)", self.cluster())
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let mut parts = text.trim().split('.');
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(PREFIX), Some(authority), Some(secret), None) if are_digits(authority) && are_digits(secret) => {
                Ok(Self { authority: authority.to_owned(), secret: secret.to_owned() })
            }
            _ => Err(TokenError::Malformed),
        }
    }
}

/// The tokens that an authority gave out.
#[derive(Debug, Clone)]
pub(crate) struct TokenBook {
    dir: PathBuf,
}

impl TokenBook {
    pub(crate) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Makes a secret and records its hash, role and end.
    pub(crate) fn give_out(&self, role: Role, valid: Duration, now: SystemTime) -> Result<String, TokenError> {
        let mut secret = [0; SECRET_BYTES];
        rand::fill(&mut secret).expect("the system gives randomness");
        let secret = hex(&secret);
        let path = self.path(&secret, "open");
        let record = Record { role, ends_s: seconds(now.checked_add(valid).unwrap_or(now)) };
        let written = files::make_private_dir(&self.dir).and_then(|()| files::write_new(&path, &record.to_text()));
        written.map_err(|source| TokenError::Book { path, source })?;
        Ok(secret)
    }

    /// The role of a token that is open and has time left.
    pub(crate) fn peek(&self, secret: &str, now: SystemTime) -> Result<Role, TokenError> {
        if !are_digits(secret) {
            return Err(TokenError::Unknown);
        }
        let open = self.path(secret, "open");
        let record = match files::read(&open) {
            Ok(text) => Record::from_text(&text).ok_or(TokenError::Unknown)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(self.why_not_open(secret)),
            Err(source) => return Err(TokenError::Book { path: open, source }),
        };
        match seconds(now) < record.ends_s {
            true => Ok(record.role),
            false => Err(TokenError::Expired),
        }
    }

    /// Takes a token out of the book for good: of all who try at a time, in whatever process, one succeeds.
    pub(crate) fn redeem(&self, secret: &str, now: SystemTime) -> Result<Role, TokenError> {
        let role = self.peek(secret, now)?;
        let (open, used) = (self.path(secret, "open"), self.path(secret, "used"));
        match fs::rename(&open, &used) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(TokenError::Used),
            Err(source) => return Err(TokenError::Book { path: open, source }),
        }
        files::sync_dir_of(&used).map_err(|source| TokenError::Book { path: used, source })?;
        Ok(role)
    }

    fn why_not_open(&self, secret: &str) -> TokenError {
        match self.path(secret, "used").exists() {
            true => TokenError::Used,
            false => TokenError::Unknown,
        }
    }

    fn path(&self, secret: &str, state: &str) -> PathBuf {
        let hash = digest::digest(&digest::SHA256, secret.as_bytes());
        self.dir.join(format!("{}.{state}", hex(hash.as_ref())))
    }
}

/// One line of the book: a role and the second after 1970 at which the token ends.
#[derive(Debug, PartialEq)]
struct Record {
    role: Role,
    ends_s: u64,
}

impl Record {
    fn to_text(&self) -> Vec<u8> {
        format!("{} {}\n", self.role, self.ends_s).into_bytes()
    }

    fn from_text(text: &str) -> Option<Self> {
        let (role, ends_s) = text.strip_suffix('\n')?.split_once(' ')?;
        Some(Self { role: role.parse().ok()?, ends_s: ends_s.parse().ok()? })
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn are_digits(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3_600);

    fn book() -> (tempfile::TempDir, TokenBook) {
        let dir = tempfile::tempdir().unwrap();
        let book = TokenBook::new(dir.path().join("tokens"));
        (dir, book)
    }

    #[test]
    fn a_token_is_redeemed_once_and_then_used() {
        let (_dir, book) = book();
        let secret = book.give_out(Role::Node, HOUR, UNIX_EPOCH).unwrap();
        assert_eq!(book.redeem(&secret, UNIX_EPOCH).unwrap(), Role::Node);
        assert!(matches!(book.redeem(&secret, UNIX_EPOCH), Err(TokenError::Used)));
    }

    #[test]
    fn a_token_ends_at_its_time_and_a_made_up_one_is_unknown() {
        let (_dir, book) = book();
        let secret = book.give_out(Role::Driver, HOUR, UNIX_EPOCH).unwrap();
        assert!(matches!(book.redeem(&secret, UNIX_EPOCH + HOUR), Err(TokenError::Expired)));
        assert!(matches!(book.redeem(&"0".repeat(64), UNIX_EPOCH), Err(TokenError::Unknown)));
        assert!(matches!(book.redeem("../../ca.key", UNIX_EPOCH), Err(TokenError::Unknown)));
    }

    #[test]
    fn of_many_who_redeem_at_a_time_one_succeeds() {
        let (_dir, book) = book();
        let secret = book.give_out(Role::Node, HOUR, UNIX_EPOCH).unwrap();
        let redeemed = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..8).map(|_| scope.spawn(|| book.redeem(&secret, UNIX_EPOCH).is_ok())).collect();
            tries.into_iter().map(|each| each.join().unwrap()).filter(|ok| *ok).count()
        });
        assert_eq!(redeemed, 1);
    }

    #[test]
    fn the_secret_is_neither_in_the_debug_text_nor_in_the_book() {
        let (dir, book) = book();
        let secret = book.give_out(Role::Node, HOUR, UNIX_EPOCH).unwrap();
        let token = Token { authority: "a".repeat(64), secret: secret.clone() };
        assert!(!format!("{token:?}").contains(&secret));
        for entry in fs::read_dir(dir.path().join("tokens")).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.to_string_lossy().contains(&secret));
            assert!(!fs::read_to_string(path).unwrap().contains(&secret));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_token_or_malformed(text: String) {
            prop_assert!(text.parse::<Token>().is_err());
        }

        #[test]
        fn a_token_comes_back_from_its_text(authority in "[0-9a-f]{64}", secret in "[0-9a-f]{64}") {
            let token = Token { authority, secret };
            prop_assert_eq!(token.to_string().parse::<Token>().unwrap(), token);
        }

        #[test]
        fn any_record_is_read_or_refused(text: String, ends_s: u64) {
            let _ = Record::from_text(&text);
            let record = Record { role: Role::Head, ends_s };
            prop_assert_eq!(Record::from_text(std::str::from_utf8(&record.to_text()).unwrap()), Some(record));
        }
    }
}
